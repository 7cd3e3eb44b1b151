import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import { FSM_SLOTS_PER_PAGE, remainingFsm } from './free-space-map.js';

/** Blocks of the map that have anything to do with the first `heapBlocks` heap blocks, by walking the tree depth first. */
function lastBlockByWalk(leafWanted: number): number {
  let block = 0;
  for (let inner = 0, leaf = 0; ; inner++) {
    block++;
    const leaves = Math.min(FSM_SLOTS_PER_PAGE, leafWanted - inner * FSM_SLOTS_PER_PAGE + 1);
    leaf += leaves;
    block += leaves;
    if (leaf > leafWanted) return block;
  }
}

describe('free space map', () => {
  it('has slots as in Postgres', () => assert.equal(FSM_SLOTS_PER_PAGE, 4069));

  it('keeps nothing but the way to the first leaf of an empty heap', () => {
    assert.deepEqual(remainingFsm(0), { sizeBlocks: 2, cutsPage: false });
    assert.deepEqual(remainingFsm(1), { sizeBlocks: 3, cutsPage: true });
    assert.deepEqual(remainingFsm(4069), { sizeBlocks: 3, cutsPage: false });
  });

  it('finds the last page that stays as a walk over the tree does', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 3 * 4069 }), fc.integer({ min: 1, max: 4068 }), (leaf, slot) => {
        const { sizeBlocks, cutsPage } = remainingFsm(leaf * 4069 + slot);
        assert.ok(cutsPage);
        assert.equal(sizeBlocks, lastBlockByWalk(leaf) + 1);
      }),
      {
        examples: [
          [4068, 1],
          [4069, 1],
          [8138, 5],
        ],
      },
    );
  });
});
