/**
 * `index_part.json`: what a timeline consists of in the object store, and the only source of truth at a restart. One JSON object
 *   { "version": 1, "crc32": <of the text of "index">, "index": { … } }
 * with LSNs as text, time points as "LSN unix-ms". Every version in WAL up to `diskConsistentLsn` is in the layers (or in the ancestor); WAL is streamed again from
 * there.
 */
import { crc32 } from 'node:zlib';
import { StorageError } from '#shared/core/errors.js';
import { formatLsn, parseLsn } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { TenantId, TenantTimelineId } from '#shared/core/ids.js';
import { parseTimelineId } from '#shared/core/ids.js';
import { parseShardId } from '#shared/core/shard.js';
import { parseLayerFileName } from './layer-name.js';
import type { AncestorPoint } from './store.js';
import type { TimePoint } from './time-points.js';

const INDEX_VERSION = 1;

export interface LayerMetadata {
  readonly sizeBytes: number;
  /** CRC-32 of the whole file. */
  readonly crc: number;
  /** The shard under whose name the object lies, when it is not the index' own: of before a split. It is never deleted from here. */
  readonly heldBy?: TenantId;
}

export interface IndexPart {
  readonly ttid: TenantTimelineId;
  readonly pgMajor: number;
  readonly systemId: bigint;
  readonly segSize: number;
  readonly initdbLsn: Lsn;
  readonly ancestor: AncestorPoint | null;
  readonly diskConsistentLsn: Lsn;
  /** Start of the record that ends at diskConsistentLsn; 0 = not known (a branch in the middle of history). */
  readonly prevRecordLsn: Lsn;
  /** Reads below are refused: history is gone, or never was here. */
  readonly minReadableLsn: Lsn;
  /** Unix time in ms at which deletion began; null while alive. */
  readonly deletedAtMs: number | null;
  /** An import is under way: nobody may use the timeline, and whoever loads the tenant removes it. Absent = no. */
  readonly isImporting?: boolean;
  /** What its ancestor was before it became independent of it. Absent = it always was, or is none. */
  readonly detachedFrom?: AncestorPoint;
  /** When commits were, oldest first; those of an ancestor are in its own index. */
  readonly timePoints: readonly TimePoint[];
  /** By file name. */
  readonly layers: ReadonlyMap<string, LayerMetadata>;
}

export function encodeIndexPart(index: IndexPart): Uint8Array {
  const body = {
    tenant_id: index.ttid.tenantId,
    timeline_id: index.ttid.timelineId,
    pg_version: index.pgMajor,
    system_id: index.systemId.toString(),
    wal_seg_size: index.segSize,
    initdb_lsn: formatLsn(index.initdbLsn),
    ancestor_timeline: index.ancestor?.timelineId ?? null,
    ancestor_lsn: index.ancestor === null ? null : formatLsn(index.ancestor.lsn),
    disk_consistent_lsn: formatLsn(index.diskConsistentLsn),
    prev_record_lsn: formatLsn(index.prevRecordLsn),
    min_readable_lsn: formatLsn(index.minReadableLsn),
    deleted_at_ms: index.deletedAtMs,
    ...(index.isImporting === true ? { importing: true } : {}),
    ...(index.detachedFrom === undefined
      ? {}
      : { detached_from: index.detachedFrom.timelineId, detached_at_lsn: formatLsn(index.detachedFrom.lsn) }),
    time_points: index.timePoints.map((point) => `${formatLsn(point.lsn)} ${point.timeMs}`),
    layer_metadata: Object.fromEntries(
      [...index.layers].map(([name, layer]) => [
        name,
        { file_size: layer.sizeBytes, crc32: layer.crc, held_by: layer.heldBy },
      ]),
    ),
  };
  const document = { version: INDEX_VERSION, crc32: crc32(JSON.stringify(body)), index: body };
  return Buffer.from(`${JSON.stringify(document, null, 1)}\n`);
}

/** Fields of an object of unknown shape, each checked when it is asked for. */
class Fields {
  private readonly values: Record<string, unknown>;

  constructor(value: unknown, what: string) {
    if (typeof value !== 'object' || value === null) throw new StorageError('corrupt', `${what} is not an object`);
    this.values = value as Record<string, unknown>;
  }

  value(name: string): unknown {
    return this.values[name];
  }

  text(name: string): string {
    const value = this.values[name];
    if (typeof value !== 'string') throw new StorageError('corrupt', `${name} is not a text`);
    return value;
  }

  count(name: string): number {
    const value = this.values[name];
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
      throw new StorageError('corrupt', `${name} is not a whole number`);
    }
    return value;
  }

  lsn(name: string): Lsn {
    return parseLsn(this.text(name));
  }
}

function parseLayers(value: unknown): Map<string, LayerMetadata> {
  const layers = new Map<string, LayerMetadata>();
  for (const [name, fields] of Object.entries(value as Record<string, unknown>)) {
    parseLayerFileName(name);
    const layer = new Fields(fields, name);
    const heldBy = layer.value('held_by') === undefined ? {} : { heldBy: parseShardId(layer.text('held_by')) };
    layers.set(name, { sizeBytes: layer.count('file_size'), crc: layer.count('crc32'), ...heldBy });
  }
  return layers;
}

/** Absent in indexes of earlier versions. */
function parseTimePoints(value: unknown): TimePoint[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw new StorageError('corrupt', 'time_points is not a list');
  const points: TimePoint[] = [];
  for (const text of value as unknown[]) {
    const match = typeof text === 'string' ? /^(\S+) (\d{1,15})$/.exec(text) : null;
    if (match === null) throw new StorageError('corrupt', 'a time point is not an LSN and a time');
    const point = { lsn: parseLsn(match[1]!), timeMs: Number(match[2]) };
    const last = points.at(-1);
    if (last !== undefined && (last.lsn >= point.lsn || last.timeMs >= point.timeMs)) {
      throw new StorageError('corrupt', 'time points are not in order');
    }
    points.push(point);
  }
  return points;
}

function parseBody(value: unknown): IndexPart {
  const body = new Fields(value, 'index');
  const ancestor = body.value('ancestor_timeline');
  const systemId = body.text('system_id');
  if (!/^\d{1,20}$/.test(systemId)) throw new StorageError('corrupt', 'system_id is not a number');
  new Fields(body.value('layer_metadata'), 'layer_metadata');
  return {
    ttid: { tenantId: parseShardId(body.text('tenant_id')), timelineId: parseTimelineId(body.text('timeline_id')) },
    pgMajor: body.count('pg_version'),
    systemId: BigInt(systemId),
    segSize: body.count('wal_seg_size'),
    initdbLsn: body.lsn('initdb_lsn'),
    ancestor:
      ancestor === null
        ? null
        : { timelineId: parseTimelineId(body.text('ancestor_timeline')), lsn: body.lsn('ancestor_lsn') },
    diskConsistentLsn: body.lsn('disk_consistent_lsn'),
    prevRecordLsn: body.lsn('prev_record_lsn'),
    minReadableLsn: body.lsn('min_readable_lsn'),
    deletedAtMs: body.value('deleted_at_ms') === null ? null : body.count('deleted_at_ms'),
    ...(body.value('importing') === true ? { isImporting: true } : {}),
    ...(body.value('detached_from') === undefined
      ? {}
      : {
          detachedFrom: { timelineId: parseTimelineId(body.text('detached_from')), lsn: body.lsn('detached_at_lsn') },
        }),
    timePoints: parseTimePoints(body.value('time_points')),
    layers: parseLayers(body.value('layer_metadata')),
  };
}

/** Throws StorageError `corrupt` naming `key` for anything but an intact index of this version. */
export function decodeIndexPart(bytes: Uint8Array, key: string): IndexPart {
  try {
    const document = new Fields(JSON.parse(Buffer.from(bytes).toString('utf8')), 'document');
    if (document.count('version') !== INDEX_VERSION) {
      throw new StorageError('corrupt', `version ${document.count('version')} is not known here`);
    }
    const body = document.value('index');
    if (crc32(JSON.stringify(body) ?? '') !== document.count('crc32')) throw new StorageError('corrupt', 'CRC differs');
    return parseBody(body);
  } catch (cause) {
    throw new StorageError('corrupt', `index ${key} cannot be used`, { cause });
  }
}
