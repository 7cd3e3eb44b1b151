/** Redo of generic records, which extensions write: block data is a list of { u16 offset, u16 length, bytes } to put on the page. */
import { PD_LOWER, PD_UPPER } from '#shared/postgres/page-layout.js';
import { clear, load16, move, PAGE, PAGE_BYTES, peek16 } from './arena.js';
import { corruptPage, setPageLsn } from './page.js';
import type { SlimRecord } from './slim-record.js';

export function redoGeneric(record: SlimRecord): void {
  const end = record.dataAt + record.dataBytes;
  for (let at = record.dataAt; at < end;) {
    record.needData(at + 4 - record.dataAt);
    const offset = peek16(at);
    const bytes = peek16(at + 2);
    record.needData(at + 4 + bytes - record.dataAt);
    if (offset + bytes > PAGE_BYTES) throw corruptPage(`a change of ${bytes} bytes at ${offset} lies outside the page`);
    move(PAGE + offset, at + 4, bytes);
    at += 4 + bytes;
  }
  // What lay in free space is not in the record: it becomes zeros.
  const lower = load16(PAGE + PD_LOWER);
  const upper = load16(PAGE + PD_UPPER);
  if (lower > upper || upper > PAGE_BYTES)
    throw corruptPage(`page header is not possible: lower ${lower}, upper ${upper}`);
  clear(PAGE + lower, upper - lower);
  setPageLsn(PAGE, record.endLsn);
}
