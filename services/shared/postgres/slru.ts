/**
 * Where transaction facts lie in the SLRU files: pg_xact, pg_multixact/offsets, pg_multixact/members, pg_commit_ts.
 *
 *   a file ("segment", named by 4 or more hex digits) has 32 pages of 8192 bytes
 *   pg_xact: 2 bits a transaction, lowest first: 0 in progress, 1 committed, 2 aborted, 3 subcommitted
 *   offsets: u32 a multixact, the offset of its first member
 *   members: groups of 20 bytes, four flag bytes then four u32 xids; 409 groups a page, 12 bytes unused
 *   pg_commit_ts: 10 bytes a transaction, i64 time and u16 origin; 819 a page
 */

export const SLRU_PAGES_PER_SEGMENT = 32;
export const SLRU_PAGE_BYTES = 8192;
export const SLRU_SEGMENT_BYTES = SLRU_PAGES_PER_SEGMENT * SLRU_PAGE_BYTES;

export const CLOG_XACTS_PER_PAGE = 32768;
export const XACT_IN_PROGRESS = 0;
export const XACT_COMMITTED = 1;
export const XACT_ABORTED = 2;
export const XACT_SUB_COMMITTED = 3;

export const MULTIXACT_OFFSETS_PER_PAGE = 2048;
export const MULTIXACT_MEMBERS_PER_GROUP = 4;
export const MULTIXACT_GROUP_BYTES = 20;
export const MULTIXACT_MEMBERS_PER_PAGE = 409 * MULTIXACT_MEMBERS_PER_GROUP;

export const COMMIT_TS_ENTRY_BYTES = 10;
export const COMMIT_TS_XACTS_PER_PAGE = 819;

export const FIRST_NORMAL_XID = 3;

export function slruSegment(page: number): number {
  return Math.floor(page / SLRU_PAGES_PER_SEGMENT);
}

export function slruPageInSegment(page: number): number {
  return page % SLRU_PAGES_PER_SEGMENT;
}

/** 4 hex digits, more when the number needs them. */
export function slruSegmentName(segment: number): string {
  return segment.toString(16).toUpperCase().padStart(4, '0');
}

export function clogPage(xid: number): number {
  return xid >>> 15;
}

/** Byte in the page. */
export function clogByte(xid: number): number {
  return (xid & (CLOG_XACTS_PER_PAGE - 1)) >>> 2;
}

/** Bits to shift the two-bit status by. */
export function clogShift(xid: number): number {
  return (xid & 3) << 1;
}

export function getXactStatus(page: Uint8Array, xid: number): number {
  return (page[clogByte(xid)]! >>> clogShift(xid)) & 3;
}

export function setXactStatus(page: Uint8Array, xid: number, status: number): void {
  const shift = clogShift(xid);
  const at = clogByte(xid);
  page[at] = (page[at]! & ~(3 << shift)) | (status << shift);
}

export function multiOffsetPage(multi: number): number {
  return multi >>> 11;
}

/** Byte in the page of the u32. */
export function multiOffsetByte(multi: number): number {
  return (multi & (MULTIXACT_OFFSETS_PER_PAGE - 1)) * 4;
}

export function multiMemberPage(offset: number): number {
  return Math.floor(offset / MULTIXACT_MEMBERS_PER_PAGE);
}

function memberGroupByte(offset: number): number {
  const group = Math.floor(offset / MULTIXACT_MEMBERS_PER_GROUP);
  return (group % (MULTIXACT_MEMBERS_PER_PAGE / MULTIXACT_MEMBERS_PER_GROUP)) * MULTIXACT_GROUP_BYTES;
}

/** Byte in the page of the member's status byte. */
export function multiMemberFlagByte(offset: number): number {
  return memberGroupByte(offset) + (offset % MULTIXACT_MEMBERS_PER_GROUP);
}

/** Byte in the page of the member's xid. */
export function multiMemberXidByte(offset: number): number {
  return memberGroupByte(offset) + MULTIXACT_MEMBERS_PER_GROUP + (offset % MULTIXACT_MEMBERS_PER_GROUP) * 4;
}

export function commitTsPage(xid: number): number {
  return Math.floor(xid / COMMIT_TS_XACTS_PER_PAGE);
}

/** Byte in the page of the ten-byte entry. */
export function commitTsByte(xid: number): number {
  return (xid % COMMIT_TS_XACTS_PER_PAGE) * COMMIT_TS_ENTRY_BYTES;
}

/** Whether `a` is later than `b` in the circle of 2^32 xids; special xids (below 3) are earlier than all others. */
export function xidFollows(a: number, b: number): boolean {
  if (a < FIRST_NORMAL_XID || b < FIRST_NORMAL_XID) return a > b;
  return ((a - b) | 0) > 0;
}

/** The same for multixacts and their offsets, which have no special values. */
export function multiFollows(a: number, b: number): boolean {
  return ((a - b) | 0) > 0;
}
