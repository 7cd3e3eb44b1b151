/**
 * Compares what the indexes of a store name with what objects there are, with the page servers running or not:
 *   missing   named by the newest index of a timeline, and not there
 *   damaged   there with another size or (deep) CRC than the index says, or not to be understood
 *   orphan    a layer or an index that nothing names any more, or the objects of a tenant without a manifest
 *   unknown   a name that is none of ours
 *
 * Objects are listed before the indexes are read, so that a layer that comes in between is never called missing without a second look, nor
 * one that goes an orphan for good. An orphan is deleted only if it is older than `minAgeMs` and of a generation below the newest claim
 * whose holder has published an index of the timeline: only he reads the timeline, and he knows what his index names. The claim is looked
 * at again right before. Everything else is left to a later run.
 */
import { crc32 } from 'node:zlib';
import { errorKind, errorText } from '#shared/core/errors.js';
import { formatTtid } from '#shared/core/ids.js';
import type { TenantId, TenantTimelineId, TimelineId } from '#shared/core/ids.js';
import type { ObjectInfo, ObjectStore } from '#shared/io/object-store.js';
import { decodeIndexPart } from '../core/storage/index-part.js';
import type { IndexPart } from '../core/storage/index-part.js';
import { parseLayerFileName } from '../core/storage/layer-name.js';
import { generationOfIndexKey, indexKeyPrefix, tenantPrefix, timelinePrefix } from '../io/object-keys.js';
import { listTenantIds } from '../io/tenant-storage.js';
import { newestClaim } from '../tenant/generations.js';
import { readManifest } from '../tenant/manifest.js';

export interface ScrubOptions {
  readonly tenantId: TenantId | null;
  /** Read every layer and compare its CRC. */
  readonly isDeep: boolean;
  readonly deleteOrphans: boolean;
  /** Younger objects are never deleted: they may be on their way into an index. */
  readonly minAgeMs: number;
  readonly nowMs: number;
}

export interface Finding {
  readonly kind: 'missing' | 'damaged' | 'orphan' | 'unknown';
  readonly key: string;
  readonly sizeBytes: number;
  readonly detail: string;
  readonly deleted: boolean;
}

export interface ScrubReport {
  readonly tenantCount: number;
  readonly timelineCount: number;
  readonly layerCount: number;
  readonly layerBytes: number;
  readonly findings: readonly Finding[];
}

interface TimelineObjects {
  readonly ttid: TenantTimelineId;
  readonly layers: ObjectInfo[];
  readonly indexes: ObjectInfo[];
}

/** Names below a tenant that are no timeline's. */
const TENANT_OBJECTS = /^(manifest\.json|config\.json|generations\/[0-9a-f]{8})$/;
const TIMELINE_OBJECT = /^timelines\/([0-9a-f]{32})\/([^/]+)$/;

function layerGeneration(name: string): number | null {
  try {
    return parseLayerFileName(name).generation;
  } catch {
    return null;
  }
}

class Scrub {
  timelineCount = 0;
  layerCount = 0;
  layerBytes = 0;
  readonly findings: Finding[] = [];
  private readonly store: ObjectStore;
  private readonly options: ScrubOptions;

  constructor(store: ObjectStore, options: ScrubOptions) {
    this.store = store;
    this.options = options;
  }

  private note(
    kind: Finding['kind'],
    object: { key: string; sizeBytes: number },
    detail: string,
    deleted = false,
  ): void {
    this.findings.push({ kind, key: object.key, sizeBytes: object.sizeBytes, detail, deleted });
  }

  private isOld(object: ObjectInfo): boolean {
    return object.modifiedMs < this.options.nowMs - this.options.minAgeMs;
  }

  async tenant(tenantId: TenantId): Promise<void> {
    const objects = await this.store.listObjects(tenantPrefix(tenantId));
    const manifest = await readManifest(this.store, tenantId).catch((error: unknown) => error);
    if (manifest === null) return this.headless(tenantId, objects);
    if (manifest instanceof Error) {
      if (errorKind(manifest) !== 'corrupt') throw manifest;
      this.note('damaged', { key: `${tenantPrefix(tenantId)}manifest.json`, sizeBytes: 0 }, errorText(manifest));
      return;
    }
    // What a tenant that was split has left, its shards may read.
    const isSplit = manifest instanceof Object && 'splitInto' in manifest && manifest.splitInto !== undefined;
    for (const timeline of this.sort(tenantId, objects).values()) await this.timeline(timeline, isSplit);
  }

  /** Objects of a tenant that does not exist: of a deletion that nobody finished, or of foreign hand. */
  private async headless(tenantId: TenantId, objects: readonly ObjectInfo[]): Promise<void> {
    const timelines = [...this.sort(tenantId, objects).values()];
    const ours = timelines.flatMap(({ layers, indexes }) => [...layers, ...indexes]);
    const isFinal = this.options.deleteOrphans && objects.every((object) => this.isOld(object));
    const mayGo = isFinal && (await readManifest(this.store, tenantId)) === null;
    for (const object of ours) this.note('orphan', object, 'its tenant has no manifest', mayGo);
    if (mayGo && ours.length > 0) await this.store.delete(ours.map(({ key }) => key));
  }

  private sort(tenantId: TenantId, objects: readonly ObjectInfo[]): Map<string, TimelineObjects> {
    const timelines = new Map<string, TimelineObjects>();
    for (const object of objects) {
      const name = object.key.slice(tenantPrefix(tenantId).length);
      const match = TIMELINE_OBJECT.exec(name);
      if (match === null) {
        if (!TENANT_OBJECTS.test(name)) this.note('unknown', object, 'not a name of ours');
        continue;
      }
      const timelineId = match[1] as TimelineId;
      const known = timelines.get(timelineId) ?? { ttid: { tenantId, timelineId }, layers: [], indexes: [] };
      timelines.set(timelineId, known);
      if (/^index_part\.json-[0-9a-f]{8}$/.test(match[2]!)) known.indexes.push(object);
      else if (layerGeneration(match[2]!) !== null) known.layers.push(object);
      else this.note('unknown', object, 'neither a layer nor an index');
    }
    return timelines;
  }

  private async readIndex(key: string): Promise<IndexPart | null> {
    try {
      return decodeIndexPart(await this.store.get(key), key);
    } catch (error) {
      if (errorKind(error) === 'not-found') return null;
      if (errorKind(error) !== 'corrupt') throw error;
      this.note('damaged', { key, sizeBytes: 0 }, errorText(error));
      return null;
    }
  }

  private async timeline({ ttid, layers }: TimelineObjects, isSplit: boolean): Promise<void> {
    this.timelineCount++;
    // Anew, after the layers were listed.
    const keys = await this.store.list(indexKeyPrefix(ttid));
    const indexes = new Map<number, IndexPart>();
    let isDoubtful = false;
    for (const key of keys) {
      const index = await this.readIndex(key);
      if (index === null) isDoubtful = true;
      else indexes.set(generationOfIndexKey(key), index);
    }
    const newest = Math.max(...indexes.keys());
    const index = indexes.get(newest);
    if (index !== undefined) await this.named(index, layers);
    // Without knowing all indexes nothing is called an orphan.
    if (isDoubtful || isSplit) return;
    await this.orphans({ ttid, layers, keys }, indexes, index === undefined ? null : newest);
  }

  /** Everything that the newest index names. */
  private async named(index: IndexPart, layers: readonly ObjectInfo[]): Promise<void> {
    const there = new Map(layers.map((layer) => [layer.key, layer]));
    for (const [name, { sizeBytes, crc, heldBy }] of index.layers) {
      // Of a shard: where the tenant left it that was split.
      const key = timelinePrefix({ ...index.ttid, tenantId: heldBy ?? index.ttid.tenantId }) + name;
      const found = there.get(key) ?? (await this.store.head(key));
      this.layerCount++;
      this.layerBytes += sizeBytes;
      if (found === null) await this.missing(key, sizeBytes, index);
      else if (found.sizeBytes !== sizeBytes) {
        this.note('damaged', { key, sizeBytes }, `it has ${found.sizeBytes} bytes, the index says ${sizeBytes}`);
      } else if (this.options.isDeep) await this.checkCrc(key, { sizeBytes, crc }, index);
    }
  }

  /** It may have been compacted away since the index was read. */
  private async missing(key: string, sizeBytes: number, index: IndexPart): Promise<void> {
    if (await this.isStillNamed(key, index)) this.note('missing', { key, sizeBytes }, 'the index names it');
  }

  private async isStillNamed(key: string, { ttid }: IndexPart): Promise<boolean> {
    const newest = (await this.store.list(indexKeyPrefix(ttid))).at(-1);
    const index = newest === undefined ? null : await this.readIndex(newest);
    return index?.layers.has(key.slice(key.lastIndexOf('/') + 1)) ?? false;
  }

  private async checkCrc(key: string, layer: { sizeBytes: number; crc: number }, index: IndexPart): Promise<void> {
    const bytes = await this.store.get(key).catch((error: unknown) => {
      if (errorKind(error) === 'not-found') return null;
      throw error;
    });
    if (bytes === null) return this.missing(key, layer.sizeBytes, index);
    if (crc32(bytes) !== layer.crc)
      this.note('damaged', { key, sizeBytes: layer.sizeBytes }, 'its CRC is not that of the index');
  }

  private async orphans(
    objects: { ttid: TenantTimelineId; layers: readonly ObjectInfo[]; keys: readonly string[] },
    indexes: ReadonlyMap<number, IndexPart>,
    newest: number | null,
  ): Promise<void> {
    const { ttid, layers } = objects;
    const prefix = timelinePrefix(ttid);
    const isNamed = (name: string) => [...indexes.values()].some((index) => index.layers.has(name));
    const orphans = layers.filter(({ key }) => !isNamed(key.slice(prefix.length)));
    const claim = await newestClaim(this.store, ttid.tenantId);
    const isHeldByNewest = newest === null || claim === null || claim.generation === newest;
    const limit = claim?.generation ?? newest ?? 0;
    const mayGo = (object: ObjectInfo): boolean =>
      this.options.deleteOrphans &&
      isHeldByNewest &&
      this.isOld(object) &&
      layerGeneration(object.key.slice(prefix.length))! < limit;
    const going = orphans.filter(mayGo);
    const isUnchanged = (await newestClaim(this.store, ttid.tenantId))?.generation === claim?.generation;
    if (going.length > 0 && isUnchanged) await this.store.delete(going.map(({ key }) => key));
    const detail = newest === null ? `timeline ${formatTtid(ttid)} has no index` : 'no index names it';
    for (const orphan of orphans) this.note('orphan', orphan, detail, isUnchanged && going.includes(orphan));
  }
}

export async function scrub(store: ObjectStore, options: ScrubOptions): Promise<ScrubReport> {
  const tenants = options.tenantId === null ? await listTenantIds(store) : [options.tenantId];
  const run = new Scrub(store, options);
  for (const tenantId of tenants) await run.tenant(tenantId);
  const { timelineCount, layerCount, layerBytes, findings } = run;
  return { tenantCount: tenants.length, timelineCount, layerCount, layerBytes, findings };
}
