import { strict as assert } from 'node:assert';
import { lsn } from '#shared/core/lsn.js';
import { internPrefix, makeKey } from '../core/key.js';
import { MemoryLayer } from '../core/storage/memory-layer.js';
import { VALUE_IMAGE } from '../core/storage/store.js';
import type { MemoryUser } from './memory-budget.js';
import { MemoryBudget } from './memory-budget.js';

const MIB = 1 << 20;
const KEY = makeKey(internPrefix(0, 1663, 5, 20000, 0), 1);

class Writer implements MemoryUser {
  memoryLayers: MemoryLayer[] = [new MemoryLayer(lsn(1))];
  freezeCount = 0;

  grow(bytes: number): void {
    const open = this.memoryLayers[0]!;
    for (let done = 0; done < bytes; done += MIB) open.put(KEY, lsn(10), VALUE_IMAGE, new Uint8Array(MIB - 100));
  }

  requestFreeze(): void {
    this.freezeCount++;
    this.memoryLayers = [new MemoryLayer(lsn(11)), ...this.memoryLayers];
  }
}

function budgetOf(...users: Writer[]): MemoryBudget {
  const budget = new MemoryBudget({ memoryBytesMax: 10 * MIB, memoryBytesHard: 20 * MIB });
  for (const user of users) budget.add(user);
  return budget;
}

async function isPending(promise: Promise<void>): Promise<boolean> {
  let isDone = false;
  void promise.then(() => (isDone = true));
  await new Promise((resolve) => setTimeout(resolve, 20));
  return !isDone;
}

describe('memory budget', () => {
  it('has the largest open layer flushed when all together are too large', () => {
    const [small, large] = [new Writer(), new Writer()];
    const budget = budgetOf(small, large);
    small.grow(5 * MIB);
    budget.enforce();
    assert.equal(small.freezeCount + large.freezeCount, 0);
    large.grow(7 * MIB);
    budget.enforce();
    assert.deepEqual([small.freezeCount, large.freezeCount], [0, 1]);
  });

  it('holds ingest of all timelines back while frozen layers of some fill the memory', async () => {
    const [first, second] = [new Writer(), new Writer()];
    const budget = budgetOf(first, second);
    first.grow(19 * MIB);
    first.requestFreeze();
    await budget.waitForRoom();
    second.grow(3 * MIB);
    const waiting = budget.waitForRoom();
    assert.ok(await isPending(waiting));
    first.memoryLayers = first.memoryLayers.slice(0, 1);
    budget.freed();
    await waiting;
    assert.equal(budget.heldBackCount, 1);
  });

  it('does not wait for what nobody flushes, nor for long', async () => {
    const user = new Writer();
    const budget = budgetOf(user);
    user.grow(25 * MIB);
    await budget.waitForRoom();
    assert.equal(budget.heldBackCount, 0);
    user.requestFreeze();
    const startedMs = performance.now();
    await budget.waitForRoom();
    assert.ok(performance.now() - startedMs >= 900);
  });
});
