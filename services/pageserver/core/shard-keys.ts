/**
 * What one shard of a tenant keeps (shared/core/shard.ts says which shard holds a block).
 *
 * Every shard keeps its own relation blocks, and what it needs to know by itself: sizes of relations, databases, pg_xact (from which come
 * the times of commits, by which history is kept), and the state that a timeline begins with. Shard 0 also keeps all the rest: init
 * forks, the other SLRUs, prepared transactions, auxiliary files, origins, the checkpoint state. Base backups come from shard 0.
 */
import type { ShardIdentity } from '#shared/core/shard.js';
import { isSharded, shardOfBlock } from '#shared/core/shard.js';
import { type Key, keyBlock, keyFields, keyPrefixId, makeKey } from './key.js';
import {
  FIELD_CHECKPOINT,
  FIELD_DATABASE,
  FIELD_RELATION_BLOCK,
  FIELD_RELATION_SIZE,
  FIELD_SLRU_BLOCK,
  FIELD_SLRU_SIZE,
  FORK_INIT,
  type RelTag,
  SLRU_CLOG,
} from './keyspace.js';

/** The shard that answers for a block. */
export function shardOfPage(shard: ShardIdentity, rel: RelTag, block: number): number {
  return rel.fork >= FORK_INIT ? 0 : shardOfBlock(shard, rel.rel, block);
}

/** Of all keys with the same first fields: kept by every shard, by shard 0 only, or by the stripe of the block. */
type Spread = { readonly kind: 'all' | 'first' } | { readonly kind: 'stripes'; readonly rel: number };

function spreadOf(prefixId: number): Spread {
  const { field1, field2, field4, field5 } = keyFields(makeKey(prefixId, 0));
  switch (field1) {
    case FIELD_RELATION_BLOCK:
      return field5 >= FORK_INIT ? { kind: 'first' } : { kind: 'stripes', rel: field4 };
    case FIELD_RELATION_SIZE:
    case FIELD_DATABASE:
    case FIELD_CHECKPOINT:
      return { kind: 'all' };
    case FIELD_SLRU_BLOCK:
    case FIELD_SLRU_SIZE:
      return { kind: field2 === SLRU_CLOG ? 'all' : 'first' };
    default:
      return { kind: 'first' };
  }
}

/** Says of any key whether the shard keeps it; null when it keeps all. */
export function shardFilter(shard: ShardIdentity): ((key: Key) => boolean) | null {
  if (!isSharded(shard)) return null;
  // One entry a relation fork, as the interned prefixes themselves.
  const spreads = new Map<number, Spread>();
  return (key) => {
    const prefixId = keyPrefixId(key);
    let spread = spreads.get(prefixId);
    if (spread === undefined) {
      spread = spreadOf(prefixId);
      spreads.set(prefixId, spread);
    }
    if (spread.kind === 'stripes') return shardOfBlock(shard, spread.rel, keyBlock(key)) === shard.number;
    return spread.kind === 'all' || shard.number === 0;
  };
}
