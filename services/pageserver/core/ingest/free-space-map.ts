/**
 * Where the free space map keeps a heap block: a tree of pages, three levels deep, stored depth first, so that physical block 0 is the
 * root, 1 the first inner page, 2 the first leaf page. A leaf page has a slot for each of 4069 heap blocks.
 *
 * A page holds a binary tree in the 8164 bytes behind its header and 4-byte pointer: 4095 inner nodes, the rest are slots.
 */
const PAGE_BYTES = 8192;
const NODES_PER_PAGE = PAGE_BYTES - 24 - 4;
const INNER_NODES_PER_PAGE = PAGE_BYTES / 2 - 1;
export const FSM_SLOTS_PER_PAGE = NODES_PER_PAGE - INNER_NODES_PER_PAGE;
const TREE_LEVELS = 3;

/** Physical block of leaf page `leaf`: all leaves before it and every inner page on the way count. */
function leafBlock(leaf: number): number {
  let pages = 0;
  let onLevel = leaf;
  for (let level = 0; level < TREE_LEVELS; level++) {
    pages += onLevel + 1;
    onLevel = Math.floor(onLevel / FSM_SLOTS_PER_PAGE);
  }
  return pages - 1;
}

export interface RemainingFsm {
  /** Blocks that the map of a heap of this length may have at most. */
  readonly sizeBlocks: number;
  /** The last of them also has slots for heap blocks that are gone. */
  readonly cutsPage: boolean;
}

/** What stays of the map when the heap is cut to `heapBlocks`. */
export function remainingFsm(heapBlocks: number): RemainingFsm {
  const leaf = Math.floor(heapBlocks / FSM_SLOTS_PER_PAGE);
  const cutsPage = heapBlocks % FSM_SLOTS_PER_PAGE !== 0;
  return { sizeBlocks: leafBlock(leaf) + (cutsPage ? 1 : 0), cutsPage };
}
