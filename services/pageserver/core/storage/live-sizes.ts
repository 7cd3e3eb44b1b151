/**
 * Which pages are part of a relation or SLRU segment at one LSN, as their sizes say. What is not need not be copied into image layers: a
 * dropped or truncated block never shows again what it was (keyspace.ts, ingest). Plain numbers, to be sent to a worker thread, in which
 * keys are numbered otherwise.
 */
import type { Key } from '../key.js';
import { keyBlock, keyPrefixId } from '../key.js';
import {
  decodeCount,
  isPageKey,
  parseRelationSizeKey,
  parseSlruSizeKey,
  relationBlocks,
  slruBlocks,
  type SlruKind,
} from '../keyspace.js';
import type { ShardIdentity } from '#shared/core/shard.js';
import { UNSHARDED } from '#shared/core/shard.js';
import { shardFilter } from '../shard-keys.js';
import type { ScanEntry } from './store.js';

export interface LiveSizes {
  /** [spc, db, rel, fork, blocks] of every fork. */
  readonly relations: readonly (readonly [number, number, number, number, number])[];
  /** [kind, segment number, pages]. */
  readonly segments: readonly (readonly [SlruKind, number, number])[];
  /** Of a tenant with shards: what others hold does not count. */
  readonly shard?: ShardIdentity;
}

/** From scans of RELATION_SIZE_RANGE and SLRU_SIZE_RANGE. Throws StorageError `corrupt`. */
export function liveSizesOf(relations: readonly ScanEntry[], segments: readonly ScanEntry[]): LiveSizes {
  return {
    relations: relations.map(({ key, value }) => {
      const { spc, db, rel, fork } = parseRelationSizeKey(key);
      return [spc, db, rel, fork, decodeCount(value)];
    }),
    segments: segments.map(({ key, value }) => {
      const { kind, segno } = parseSlruSizeKey(key);
      return [kind, segno, decodeCount(value)];
    }),
  };
}

/** Says of any key whether its value counts; metadata always does. Null sizes: everything does. */
export function liveKeys(sizes: LiveSizes | null): (key: Key) => boolean {
  if (sizes === null) return () => true;
  const counts = new Map<number, number>();
  for (const [spc, db, rel, fork, blocks] of sizes.relations) counts.set(relationBlocks(spc, db, rel, fork), blocks);
  for (const [kind, segno, pages] of sizes.segments) counts.set(slruBlocks(kind, segno), pages);
  const isOurs = shardFilter(sizes.shard ?? UNSHARDED) ?? (() => true);
  return (key) => (!isPageKey(key) || keyBlock(key) < (counts.get(keyPrefixId(key)) ?? 0)) && isOurs(key);
}
