import { strict as assert } from 'node:assert';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parseTenantId } from './ids.js';
import { bareTenantId, parseShardId, shardId, shardOfBlock, shardOfId } from './shard.js';

const TENANT = parseTenantId('a1'.repeat(16));

/** Lines "count stripe relation block shard": the extension is held to the same file. */
function shardVectors(): number[][] {
  const text = readFileSync(path.join(import.meta.dirname, 'testdata/shard-vectors.txt'), 'utf8');
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return lines.map((line) => line.split(' ').map(Number));
}

describe('shard of a block', () => {
  it('is what it always was', () => {
    for (const [count = 0, stripeBlocks = 0, rel = 0, block = 0, shard] of shardVectors()) {
      assert.equal(
        shardOfBlock({ count, stripeBlocks }, rel, block),
        shard,
        `${count} ${stripeBlocks} ${rel} ${block}`,
      );
    }
  });

  it('keeps stripes together and spreads them evenly', () => {
    const shards = { count: 4, stripeBlocks: 16 };
    const counts = [0, 0, 0, 0];
    for (let block = 0; block < 64_000; block++) {
      const shard = shardOfBlock(shards, 16384, block);
      assert.equal(shard, shardOfBlock(shards, 16384, block - (block % 16)));
      counts[shard]!++;
    }
    for (const count of counts) assert.ok(Math.abs(count - 16_000) < 1600, counts.join());
  });
});

describe('shard id', () => {
  it('names a tenant or one shard of it', () => {
    assert.equal(shardId(TENANT, 2, 17), `${TENANT}-0211`);
    assert.equal(parseShardId(`${TENANT.toUpperCase()}-0211 `), `${TENANT}-0211`);
    assert.deepEqual(shardOfId(parseShardId(`${TENANT}-0211`)), { number: 2, count: 17 });
    assert.equal(bareTenantId(parseShardId(`${TENANT}-0211`)), TENANT);
    assert.equal(parseShardId(`${TENANT}-0000`), TENANT);
    assert.deepEqual(shardOfId(TENANT), { number: 0, count: 0 });
  });

  it('is nothing else', () => {
    for (const text of [
      '',
      TENANT.slice(1),
      `${TENANT}-`,
      `${TENANT}-02`,
      `${TENANT}-0202`,
      `${TENANT}-0g10`,
      `x${TENANT}`,
    ]) {
      assert.throws(() => parseShardId(text), { kind: 'invalid' });
    }
  });
});
