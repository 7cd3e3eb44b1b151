/** Redo of the sequence resource manager: the record carries the whole one-row page. */
import { PAGE, PAGE_BYTES, store32 } from './arena.js';
import { initPage, insertItem, setPageLsn } from './page.js';
import type { SlimRecord } from './slim-record.js';

/** Tablespace, database, relation; the row follows. */
const RELATION_BYTES = 12;
const SPECIAL_BYTES = 8;
const SEQUENCE_MAGIC = 0x1717;

export function redoSequence(record: SlimRecord): void {
  record.needMain(RELATION_BYTES);
  initPage(PAGE, SPECIAL_BYTES);
  store32(PAGE + PAGE_BYTES - SPECIAL_BYTES, SEQUENCE_MAGIC);
  insertItem(PAGE, record.mainAt + RELATION_BYTES, record.mainBytes - RELATION_BYTES, 1);
  setPageLsn(PAGE, record.endLsn);
}
