import { strict as assert } from 'node:assert';
import { MEMORY_MIN_BYTES, planMemory } from './memory-plan.js';

const MIB = 1 << 20;
/** Below this an in-memory layer makes files that are not worth their names. */
const LAYER_WORTHWHILE_BYTES = 4 * MIB;

describe('memory plan', () => {
  for (const memoryMax of [MEMORY_MIN_BYTES, 256 * MIB, 1024 * MIB, 8192 * MIB]) {
    it(`leaves room in ${memoryMax / MIB} MiB for the program and for what is not collected yet`, () => {
      const { limits } = planMemory(memoryMax);
      const { memoryBytesHard = NaN, pageCacheBytes = NaN, blockCacheBytes = NaN } = limits;
      assert.ok(memoryBytesHard + pageCacheBytes + blockCacheBytes < memoryMax - 208 * MIB);
      assert.ok(limits.memoryLayerBytesMax! <= limits.memoryBytesMax!);
      assert.ok(limits.memoryBytesMax! < memoryBytesHard);
      assert.ok(limits.memoryLayerBytesMax! >= LAYER_WORTHWHILE_BYTES);
    });
  }
});
