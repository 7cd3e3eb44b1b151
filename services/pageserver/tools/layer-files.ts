/** Layer files for people: what a timeline consists of, what is in a file, whether it is whole. No page server is needed. */
import { createReadStream } from 'node:fs';
import { open, readdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import { errorText, StorageError } from '#shared/core/errors.js';
import { formatTtid, idFromBytes, parseTtid } from '#shared/core/ids.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { formatLsn } from '#shared/core/lsn.js';
import type { ObjectStore } from '#shared/io/object-store.js';
import { formatKey } from '../core/key.js';
import { formatRel, parsePageKey, SLRU_DIRECTORIES } from '../core/keyspace.js';
import type { IndexPart } from '../core/storage/index-part.js';
import type { LayerOwner } from '../core/storage/layer-format.js';
import { LAYER_HEADER_BYTES } from '../core/storage/layer-format.js';
import { isL0, parseLayerFileName } from '../core/storage/layer-name.js';
import type { ValueKind } from '../core/storage/store.js';
import { LayerCursor } from '../io/layer-cursor.js';
import { loadIndex } from '../io/tenant-storage.js';

const KINDS: Readonly<Record<ValueKind, string>> = { 1: 'image', 2: 'record', 3: 'init', 4: 'tombstone' };
const ANY_GENERATION = 0xffff_ffff;
/** Where the header has tenant and timeline: core/storage/layer-format.ts draws it. */
const TENANT_OFFSET = 16;
const PG_MAJOR_OFFSET = 11;

export interface LayerRow {
  readonly name: string;
  readonly level: 'L0' | 'L1' | 'image';
  readonly keyStart: string;
  readonly keyEnd: string;
  readonly lsnStart: string;
  readonly lsnEnd: string;
  readonly generation: number;
  readonly sizeBytes: number;
}

export interface LayerMapReport {
  readonly ttid: TenantTimelineId;
  readonly indexGeneration: number;
  readonly ancestor: string | null;
  readonly diskConsistentLsn: string;
  readonly minReadableLsn: string;
  readonly layers: readonly LayerRow[];
}

function row(name: string, sizeBytes: number): LayerRow {
  const { span, generation } = parseLayerFileName(name);
  const level = span.kind === 'image' ? 'image' : isL0(span) ? 'L0' : 'L1';
  const keys = { keyStart: formatKey(span.keyStart), keyEnd: formatKey(span.keyEnd) };
  const lsns = { lsnStart: formatLsn(span.lsnStart), lsnEnd: formatLsn(span.lsnEnd) };
  return { name, level, ...keys, ...lsns, generation, sizeBytes };
}

/** As the newest index has it; by LSN, then by key. Throws StorageError `not-found`. */
export async function layerMap(store: ObjectStore, ttid: TenantTimelineId): Promise<LayerMapReport> {
  const found = await loadIndex(store, ttid, ANY_GENERATION);
  if (found === null) throw new StorageError('not-found', `timeline ${formatTtid(ttid)} is not in ${store.url}`);
  const { index, generation } = found;
  return {
    ttid,
    indexGeneration: generation,
    ancestor: ancestorText(index),
    diskConsistentLsn: formatLsn(index.diskConsistentLsn),
    minReadableLsn: formatLsn(index.minReadableLsn),
    layers: [...index.layers]
      .map(([name, { sizeBytes }]) => ({ name, sizeBytes, span: parseLayerFileName(name).span }))
      .sort((a, b) => a.span.lsnStart - b.span.lsnStart || (a.name < b.name ? -1 : 1))
      .map(({ name, sizeBytes }) => row(name, sizeBytes)),
  };
}

function ancestorText({ ancestor }: IndexPart): string | null {
  return ancestor === null ? null : `${ancestor.timelineId} at ${formatLsn(ancestor.lsn)}`;
}

/** Of a page: the relation or SLRU segment and block. Of anything else: the key. */
export function describeKey(key: Parameters<typeof formatKey>[0]): string {
  const page = parsePageKey(key);
  if (page === null) return formatKey(key);
  if (page.kind === 'relation') return `${formatRel(page.rel)} block ${page.block}`;
  const { kind, segno } = page.slru;
  return `${SLRU_DIRECTORIES[kind]}/${segno.toString(16).toUpperCase().padStart(4, '0')} block ${page.block}`;
}

/** Whose layer it is, as its header says. */
async function ownerOf(path: string): Promise<{ owner: LayerOwner; sizeBytes: number }> {
  const handle = await open(path, 'r');
  try {
    const { size } = await handle.stat();
    const header = Buffer.alloc(LAYER_HEADER_BYTES);
    const { bytesRead } = await handle.read(header, 0, header.length, 0);
    if (bytesRead < header.length) throw new StorageError('corrupt', `${path} is shorter than a header`);
    return { owner: readOwner(header), sizeBytes: size };
  } finally {
    await handle.close();
  }
}

function readOwner(header: Buffer): LayerOwner {
  const tenantId = idFromBytes(header.subarray(TENANT_OFFSET, TENANT_OFFSET + 16));
  const timelineId = idFromBytes(header.subarray(TENANT_OFFSET + 16, TENANT_OFFSET + 32));
  return { ttid: parseTtid({ tenantId, timelineId }), pgMajor: header.readUInt8(PG_MAJOR_OFFSET) };
}

export interface Entry {
  readonly key: string;
  readonly what: string;
  readonly lsn: string;
  readonly kind: string;
  readonly valueBytes: number;
}

/** Every version in the file in order; each block is checked before it is used. Throws StorageError `corrupt`. */
export async function* layerEntries(path: string): AsyncGenerator<Entry> {
  const { owner, sizeBytes } = await ownerOf(path);
  const cursor = new LayerCursor({ dir: dirname(path), name: basename(path), sizeBytes, owner });
  try {
    while (cursor.next()) {
      yield {
        key: formatKey(cursor.key),
        what: describeKey(cursor.key),
        lsn: formatLsn(cursor.lsn),
        kind: KINDS[cursor.kind],
        valueBytes: cursor.value.length,
      };
    }
  } finally {
    cursor.close();
  }
}

export interface Verdict {
  readonly path: string;
  readonly sizeBytes: number;
  readonly crc: number;
  readonly entries: number;
  /** Empty = whole. */
  readonly problem: string;
}

/** Reads all of a file: format, checksums of every part, order of versions. */
export async function verifyLayer(path: string): Promise<Verdict> {
  let entries = 0;
  let crc = 0;
  let sizeBytes = 0;
  try {
    sizeBytes = (await stat(path)).size;
    for await (const chunk of createReadStream(path)) crc = crc32(chunk as Buffer, crc);
    for await (const _ of layerEntries(path)) entries++;
    return { path, sizeBytes, crc, entries, problem: '' };
  } catch (error) {
    return { path, sizeBytes, crc, entries, problem: errorText(error) };
  }
}

/** The path itself, or the layers below a directory. */
export async function findLayerFiles(path: string): Promise<string[]> {
  if (!(await stat(path)).isDirectory()) return [path];
  const names = await readdir(path, { recursive: true });
  return names
    .filter((name) => /__[0-9A-F]{16}(-[0-9A-F]{16})?-[0-9a-f]{8}$/.test(name))
    .map((name) => join(path, name))
    .sort();
}
