/**
 * What a page may differ in from its image in WAL: things that the server changes without logging them. As the server's own check
 * does, but narrower for heaps: of the infomask only hint bits and the combo-command-id bit are let go.
 */
import {
  LP_NORMAL,
  LP_UNUSED,
  PAGE_BYTES,
  PAGE_HEADER_BYTES,
  PD_ALL_VISIBLE,
  PD_FLAGS,
  PD_HAS_FREE_LINES,
  PD_LOWER,
  PD_PAGE_FULL,
  PD_PRUNE_XID,
  PD_SPECIAL,
  PD_UPPER,
} from '#shared/postgres/page-layout.js';
import {
  RM_BRIN,
  RM_BTREE,
  RM_GENERIC,
  RM_GIN,
  RM_GIST,
  RM_HASH,
  RM_HEAP,
  RM_HEAP2,
  RM_SEQ,
  RM_SPGIST,
} from '#shared/postgres/rmgr.js';
import { FORK_VM } from './page-files.js';

const HINT_BITS = 0x0f00;
const COMBOCID = 0x0020;
const SPECULATIVE_LINE = 0xfffe;
const HASH_PAGE_TYPES = 0x000f;
const HASH_TUPLE_PAGES = 0x0003;
const HASH_HAS_DEAD_TUPLES = 0x0080;
const GIN_DELETED = 0x0004;
const GIST_LEAF = 0x0001;
const GIST_FOLLOW_RIGHT = 0x0008;
const GIST_HAS_GARBAGE = 0x0010;
const BRIN_REVMAP = 0xf092;
const BTP_LEAF = 0x0001;
const BTP_HAS_GARBAGE = 0x0040;

/** Changes the page. `block` is its number. */
export function maskPage(page: Uint8Array, rmid: number, fork: number, block: number): void {
  const view = new DataView(page.buffer, page.byteOffset, PAGE_BYTES);
  // LSN and checksum: the image was taken before the record had an LSN.
  page.fill(0, 0, 10);
  if (fork === FORK_VM) return;
  switch (rmid) {
    case RM_HEAP:
    case RM_HEAP2:
      maskHeader(view);
      maskHole(page, view);
      maskHeap(page, view, block);
      break;
    case RM_BTREE:
      maskHeader(view);
      maskHole(page, view);
      maskBtree(view);
      break;
    case RM_HASH:
      maskHeader(view);
      maskHole(page, view);
      maskHash(page, view);
      break;
    case RM_GIN:
      maskHeader(view);
      if (view.getUint16(PAGE_BYTES - 2, true) & GIN_DELETED) maskContent(page);
      else maskHole(page, view);
      break;
    case RM_GIST:
      maskHeader(view);
      maskHole(page, view);
      maskGist(page, view);
      break;
    case RM_BRIN:
      maskHeader(view);
      maskBrin(page, view);
      break;
    case RM_SPGIST:
      maskHeader(view);
      maskHole(page, view);
      break;
    case RM_SEQ:
    case RM_GENERIC:
      maskHole(page, view);
      break;
    default:
      break;
  }
}

function maskHeader(view: DataView): void {
  const hints = PD_PAGE_FULL | PD_HAS_FREE_LINES | PD_ALL_VISIBLE;
  view.setUint16(PD_FLAGS, view.getUint16(PD_FLAGS, true) & ~hints, true);
  view.setUint32(PD_PRUNE_XID, 0, true);
}

function maskHole(page: Uint8Array, view: DataView): void {
  const lower = view.getUint16(PD_LOWER, true);
  const upper = view.getUint16(PD_UPPER, true);
  if (lower >= PAGE_HEADER_BYTES && lower <= upper && upper <= PAGE_BYTES) page.fill(0, lower, upper);
}

function lines(view: DataView): number {
  const lower = view.getUint16(PD_LOWER, true);
  return lower <= PAGE_HEADER_BYTES || lower > PAGE_BYTES ? 0 : (lower - PAGE_HEADER_BYTES) / 4;
}

function maskHeap(page: Uint8Array, view: DataView, block: number): void {
  for (let line = 1; line <= lines(view); line++) {
    const word = view.getUint32(PAGE_HEADER_BYTES + 4 * (line - 1), true);
    const [offset, state, length] = [word & 0x7fff, (word >>> 15) & 3, word >>> 17];
    if (offset + length > PAGE_BYTES || length === 0) continue;
    if (state === LP_NORMAL) {
      view.setUint16(offset + 20, view.getUint16(offset + 20, true) & ~(HINT_BITS | COMBOCID), true);
      view.setUint32(offset + 8, 0, true);
      if (view.getUint16(offset + 16, true) === SPECULATIVE_LINE) {
        view.setUint16(offset + 12, block >>> 16, true);
        view.setUint16(offset + 14, block & 0xffff, true);
        view.setUint16(offset + 16, line, true);
      }
    }
    page.fill(0, offset + length, offset + ((length + 7) & ~7));
  }
}

function maskLineStates(view: DataView): void {
  for (let at = PAGE_HEADER_BYTES; at < view.getUint16(PD_LOWER, true); at += 4) {
    const word = view.getUint32(at, true);
    if (((word >>> 15) & 3) !== LP_UNUSED) view.setUint32(at, word & ~(3 << 15), true);
  }
}

/** All but the header, of which lower and upper go as well. */
function maskContent(page: Uint8Array): void {
  page.fill(0, PAGE_HEADER_BYTES, PAGE_BYTES);
  page.fill(0, PD_LOWER, PD_SPECIAL);
}

function maskHash(page: Uint8Array, view: DataView): void {
  const special = PAGE_BYTES - 16;
  const flags = view.getUint16(special + 12, true);
  if ((flags & HASH_PAGE_TYPES) === 0) page.fill(0, PAGE_HEADER_BYTES, special);
  else if (flags & HASH_TUPLE_PAGES) maskLineStates(view);
  view.setUint16(special + 12, flags & ~HASH_HAS_DEAD_TUPLES, true);
}

/** The sequence number is an LSN; the follow-right flag of a child changes after its image was taken. */
function maskGist(page: Uint8Array, view: DataView): void {
  const special = PAGE_BYTES - 16;
  const flags = view.getUint16(special + 12, true);
  page.fill(0, special, special + 8);
  if (flags & GIST_LEAF) maskLineStates(view);
  view.setUint16(special + 12, flags & ~(GIST_FOLLOW_RIGHT | GIST_HAS_GARBAGE), true);
}

/** A range map uses the whole page; an evacuation of a page is not logged. */
function maskBrin(page: Uint8Array, view: DataView): void {
  if (view.getUint16(PAGE_BYTES - 2, true) !== BRIN_REVMAP) maskHole(page, view);
  view.setUint16(PAGE_BYTES - 4, view.getUint16(PAGE_BYTES - 4, true) & ~1, true);
}

/** On leaves, scans mark line pointers dead without logging it. */
function maskBtree(view: DataView): void {
  const special = view.getUint16(PD_SPECIAL, true);
  if (special + 16 > PAGE_BYTES) return;
  const flags = view.getUint16(special + 12, true);
  if (flags & BTP_LEAF) maskLineStates(view);
  view.setUint16(special + 12, flags & ~BTP_HAS_GARBAGE, true);
  view.setUint16(special + 14, 0, true);
}
