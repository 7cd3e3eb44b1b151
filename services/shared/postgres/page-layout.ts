/**
 * The 8192-byte page of tables and indexes (layout version 4, PostgreSQL 14–18, little endian).
 *
 *   0  u32 LSN high half   4 u32 LSN low half   8 u16 checksum   10 u16 flags (PD_*)
 *   12 u16 lower: end of the line pointers      14 u16 upper: start of the items
 *   16 u16 special: start of the access method's part   18 u16 page size | layout version (0x2004)   20 u32 prune xid
 *   24 line pointers, u32 each: item offset (bits 0–14), LP_* (15–16), item length (17–31)
 *
 * Functions take the page as a DataView or bytes and change it in place; offset numbers of items count from 1.
 */
import { type Lsn } from '../core/lsn.js';

export const PAGE_BYTES = 8192;
export const PAGE_HEADER_BYTES = 24;
export const LINE_POINTER_BYTES = 4;
export const PAGE_LAYOUT_VERSION = 4;

export const PD_LSN = 0;
export const PD_CHECKSUM = 8;
export const PD_FLAGS = 10;
export const PD_LOWER = 12;
export const PD_UPPER = 14;
export const PD_SPECIAL = 16;
export const PD_PAGESIZE_VERSION = 18;
export const PD_PRUNE_XID = 20;

export const PD_HAS_FREE_LINES = 0x0001;
export const PD_PAGE_FULL = 0x0002;
export const PD_ALL_VISIBLE = 0x0004;
export const PD_VALID_FLAG_BITS = 0x0007;

export const LP_UNUSED = 0;
export const LP_NORMAL = 1;
export const LP_REDIRECT = 2;
export const LP_DEAD = 3;

const HALF = 0x1_0000_0000;

export function readPageLsn(view: DataView): Lsn {
  return (view.getUint32(PD_LSN, true) * HALF + view.getUint32(PD_LSN + 4, true)) as Lsn;
}

export function writePageLsn(view: DataView, lsn: Lsn): void {
  view.setUint32(PD_LSN, Math.floor(lsn / HALF), true);
  view.setUint32(PD_LSN + 4, lsn >>> 0, true);
}

/** A page that was never initialised: upper is 0 (a page of zeros). */
export function isNewPage(view: DataView): boolean {
  return view.getUint16(PD_UPPER, true) === 0;
}

/** Zeros the page and writes an empty header with `specialBytes` (a multiple of 8) reserved at the end. */
export function initPage(page: Uint8Array, view: DataView, specialBytes: number): void {
  page.fill(0);
  view.setUint16(PD_LOWER, PAGE_HEADER_BYTES, true);
  view.setUint16(PD_UPPER, PAGE_BYTES - specialBytes, true);
  view.setUint16(PD_SPECIAL, PAGE_BYTES - specialBytes, true);
  view.setUint16(PD_PAGESIZE_VERSION, PAGE_BYTES | PAGE_LAYOUT_VERSION, true);
}

/** Whether the header's offsets are in order and within the page; redo must check before it trusts them. */
export function pageHeaderValid(view: DataView): boolean {
  const lower = view.getUint16(PD_LOWER, true);
  const upper = view.getUint16(PD_UPPER, true);
  const special = view.getUint16(PD_SPECIAL, true);
  return (
    lower >= PAGE_HEADER_BYTES &&
    lower <= upper &&
    upper <= special &&
    special <= PAGE_BYTES &&
    special % 8 === 0 &&
    (view.getUint16(PD_FLAGS, true) & ~PD_VALID_FLAG_BITS) === 0
  );
}

/** Number of line pointers; the highest offset number. */
export function itemCount(view: DataView): number {
  const lower = view.getUint16(PD_LOWER, true);
  return lower <= PAGE_HEADER_BYTES ? 0 : (lower - PAGE_HEADER_BYTES) >>> 2;
}

export function linePointerAt(offsetNumber: number): number {
  return PAGE_HEADER_BYTES + (offsetNumber - 1) * LINE_POINTER_BYTES;
}

export function makeLinePointer(offset: number, flags: number, length: number): number {
  return (offset | (flags << 15) | (length << 17)) >>> 0;
}

export function linePointerOffset(linePointer: number): number {
  return linePointer & 0x7fff;
}

export function linePointerFlags(linePointer: number): number {
  return (linePointer >>> 15) & 3;
}

export function linePointerLength(linePointer: number): number {
  return linePointer >>> 17;
}
