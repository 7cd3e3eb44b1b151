/**
 * Which shard of a tenant holds what: the one function that ingest, reads and (in C, shard-map.c) the compute's extension agree on.
 *
 * A tenant of `count` shards has the blocks of its relations spread over them by stripes of `stripeBlocks` blocks:
 *   combine(murmur32(relation number), murmur32(block / stripeBlocks)) mod count
 * murmur32 and combine are Postgres' murmurhash32 and hash_combine. Forks of a relation go together block by block; tablespace and
 * database do not count, so a database that is copied file by file stays where its source is. Everything that is no block of a main fork,
 * free space map or visibility map belongs to shard 0.
 *
 * Written: a tenant id alone is a tenant that is not sharded; `<tenant id>-<number><count>`, both two hex digits, is one shard.
 */
import { StorageError } from './errors.js';
import type { TenantId, TenantTimelineId } from './ids.js';
import { parseTenantId, parseTimelineId } from './ids.js';

export interface ShardIdentity {
  readonly number: number;
  /** 0: the tenant is not sharded, this is all of it. */
  readonly count: number;
  readonly stripeBlocks: number;
}

/** 16 MiB: large enough for sequential reads to come from one server, small enough to spread a table of some hundred MiB. */
export const DEFAULT_STRIPE_BLOCKS = 2048;
/** Two hex digits. */
export const SHARD_COUNT_MAX = 255;
export const UNSHARDED: ShardIdentity = { number: 0, count: 0, stripeBlocks: DEFAULT_STRIPE_BLOCKS };

const SHARD_ID = /^([0-9a-f]{32})(?:-([0-9a-f]{2})([0-9a-f]{2}))?$/;
const BARE_ID_LENGTH = 32;

function murmur32(value: number): number {
  let hash = value;
  hash ^= hash >>> 16;
  hash = Math.imul(hash, 0x85ebca6b);
  hash ^= hash >>> 13;
  hash = Math.imul(hash, 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** The shard that holds a block of a main fork, free space map or visibility map. */
export function shardOfBlock(
  shards: Pick<ShardIdentity, 'count' | 'stripeBlocks'>,
  rel: number,
  block: number,
): number {
  if (shards.count < 2) return 0;
  const a = murmur32(rel);
  const b = (murmur32(Math.floor(block / shards.stripeBlocks)) + 0x9e3779b9 + (a << 6) + (a >>> 2)) >>> 0;
  return ((a ^ b) >>> 0) % shards.count;
}

export function isSharded(shard: ShardIdentity): boolean {
  return shard.count > 1;
}

/** Throws StorageError `invalid`. */
export function checkShards(count: number, stripeBlocks: number): void {
  if (!Number.isInteger(count) || count < 0 || count > SHARD_COUNT_MAX) {
    throw new StorageError('invalid', `a tenant has 0 to ${SHARD_COUNT_MAX} shards, not ${count}`);
  }
  if (!Number.isInteger(stripeBlocks) || stripeBlocks < 1 || stripeBlocks > 0xffff_ffff) {
    throw new StorageError('invalid', `a stripe cannot have ${stripeBlocks} blocks`);
  }
}

/** The id under which the page servers know one shard. A TenantId there names a tenant that is not sharded, or a shard. */
export function shardId(tenantId: TenantId, number: number, count: number): TenantId {
  if (count === 0) return bareTenantId(tenantId);
  const hex = (value: number) => value.toString(16).padStart(2, '0');
  return `${bareTenantId(tenantId)}-${hex(number)}${hex(count)}` as TenantId;
}

/** With or without shard. Throws StorageError `invalid`. */
export function parseShardId(text: string): TenantId {
  const match = SHARD_ID.exec(text.trim().toLowerCase());
  if (match?.[2] === undefined || match[3] === undefined) return parseTenantId(text);
  const number = parseInt(match[2], 16);
  const count = parseInt(match[3], 16);
  if (number === 0 && count === 0) return parseTenantId(match[1]!);
  if (number >= count) throw new StorageError('invalid', `"${text}": there is no shard ${number} of ${count}`);
  return match[0] as TenantId;
}

export function parseShardTtid(ttid: { tenantId: string; timelineId: string } | undefined): TenantTimelineId {
  if (ttid === undefined) throw new StorageError('invalid', 'the request names no timeline (ttid is required)');
  return { tenantId: parseShardId(ttid.tenantId), timelineId: parseTimelineId(ttid.timelineId) };
}

/** Number and count that an id names; 0 of 0 for a tenant that is not sharded. */
export function shardOfId(tenantId: TenantId): { number: number; count: number } {
  const match = SHARD_ID.exec(tenantId);
  return { number: parseInt(match?.[2] ?? '0', 16), count: parseInt(match?.[3] ?? '0', 16) };
}

/** The tenant that a shard belongs to: what safekeepers, broker and computes know. */
export function bareTenantId(tenantId: TenantId): TenantId {
  return tenantId.slice(0, BARE_ID_LENGTH) as TenantId;
}

export function bareTtid({ tenantId, timelineId }: TenantTimelineId): TenantTimelineId {
  return { tenantId: bareTenantId(tenantId), timelineId };
}
