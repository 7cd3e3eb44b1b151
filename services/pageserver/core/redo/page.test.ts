import assert from 'node:assert/strict';
import fc from 'fast-check';
import { LP_DEAD, LP_NORMAL, PAGE_HEADER_BYTES, PD_LOWER, PD_UPPER } from '#shared/postgres/page-layout.js';
import { load16, memory, PAGE, PAGE_BYTES, RECORD } from './arena.js';
import {
  ADD_AT_UNUSED,
  checkPageHeader,
  deleteIndexItem,
  deleteIndexItems,
  initPage,
  insertItem,
  itemAddress,
  itemLength,
  lineCount,
  lineState,
  lineWord,
  makeLine,
  overwriteIndexItem,
  repairFragmentation,
  reserveItem,
  setLine,
  truncateLines,
} from './page.js';

/** The plain twin: a page as a list of items; null is an unused line. */
type Items = (Uint8Array | null)[];

function stage(item: Uint8Array): number {
  memory.set(item, RECORD);
  return RECORD;
}

function content(): Items {
  return Array.from({ length: lineCount(PAGE) }, (_, i) => {
    if (lineState(lineWord(PAGE, i + 1)) !== LP_NORMAL) return null;
    const at = itemAddress(PAGE, i + 1, 1);
    return memory.slice(at, at + itemLength(PAGE, i + 1));
  });
}

function usedBytes(items: Items): number {
  return items.reduce((sum, item) => sum + (item === null ? 0 : (item.length + 7) & ~7), 0);
}

/** Items are packed: the free space is all that is not header, line pointers, items or special area. */
function checkAgainst(items: Items, special: number): void {
  checkPageHeader(PAGE);
  assert.deepEqual(content(), items);
  assert.equal(load16(PAGE + PD_LOWER), PAGE_HEADER_BYTES + 4 * items.length);
  assert.equal(load16(PAGE + PD_UPPER), PAGE_BYTES - special - usedBytes(items));
}

const item = fc.uint8Array({ minLength: 8, maxLength: 300 });
const operation = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('insert' as const), item, at: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('delete' as const), at: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('delete many' as const), keep: fc.array(fc.boolean()) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('overwrite' as const), item, at: fc.nat() }) },
);

function applyIndexOperation(items: Items, op: typeof operation extends fc.Arbitrary<infer T> ? T : never): void {
  if (op.kind === 'insert') {
    const at = op.at % (items.length + 1);
    if (items.length === 60 || usedBytes(items) + op.item.length > 7000) return;
    insertItem(PAGE, stage(op.item), op.item.length, at + 1);
    items.splice(at, 0, op.item);
  } else if (op.kind === 'delete many') {
    const gone = items.flatMap((_, i) => (op.keep[i] === false ? [i + 1] : []));
    memory.set(new Uint8Array(Uint16Array.from(gone).buffer), RECORD);
    deleteIndexItems(PAGE, RECORD, gone.length);
    for (const line of gone.reverse()) items.splice(line - 1, 1);
  } else if (items.length > 0) {
    const at = op.at % items.length;
    if (op.kind === 'delete') {
      deleteIndexItem(PAGE, at + 1);
      items.splice(at, 1);
    } else if (usedBytes(items) + op.item.length < 7000) {
      overwriteIndexItem(PAGE, at + 1, stage(op.item), op.item.length);
      items[at] = op.item;
    }
  }
}

describe('page', () => {
  it('keeps index items as a list does', () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
        const items: Items = [];
        initPage(PAGE, 16);
        for (const op of operations) {
          applyIndexOperation(items, op);
          checkAgainst(items, 16);
        }
      }),
    );
  });

  it('prunes heap items: survivors stay at their lines, unused lines at the end go away', () => {
    const rows = fc.array(fc.record({ item, fate: fc.constantFrom('stay', 'dead', 'unused') }), {
      minLength: 1,
      maxLength: 20,
    });
    fc.assert(
      fc.property(rows, (specs) => {
        initPage(PAGE, 0);
        specs.forEach((row, i) => {
          const at = reserveItem(PAGE, row.item.length, i + 1, ADD_AT_UNUSED);
          memory.set(row.item, at);
        });
        specs.forEach(({ fate }, i) => {
          if (fate !== 'stay') setLine(PAGE, i + 1, fate === 'dead' ? makeLine(0, LP_DEAD, 0) : 0);
        });
        repairFragmentation(PAGE);
        const expected = specs.map((row) => (row.fate === 'stay' ? row.item : null));
        while (expected.length > 0 && specs[expected.length - 1]!.fate === 'unused') expected.pop();
        checkAgainst(expected, 0);
      }),
    );
  });

  it('keeps the first line when vacuum leaves nothing', () => {
    initPage(PAGE, 0);
    for (let line = 1; line <= 3; line++) reserveItem(PAGE, 24, line, ADD_AT_UNUSED);
    for (let line = 1; line <= 3; line++) setLine(PAGE, line, 0);
    truncateLines(PAGE);
    assert.equal(lineCount(PAGE), 1);
  });

  it('refuses lines that are used, missing or do not fit', () => {
    initPage(PAGE, 0);
    reserveItem(PAGE, 100, 1, ADD_AT_UNUSED);
    const corrupt = { name: 'StorageError', kind: 'corrupt' };
    assert.throws(() => reserveItem(PAGE, 100, 1, ADD_AT_UNUSED), corrupt);
    assert.throws(() => reserveItem(PAGE, 100, 3, ADD_AT_UNUSED), corrupt);
    assert.throws(() => reserveItem(PAGE, 8100, 2, ADD_AT_UNUSED), corrupt);
    assert.throws(() => deleteIndexItem(PAGE, 2), corrupt);
    assert.throws(() => itemAddress(PAGE, 0, 1), corrupt);
  });
});
