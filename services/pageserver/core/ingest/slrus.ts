/**
 * The SLRU segments (pg_xact, pg_multixact, pg_commit_ts) of a timeline at the head of its WAL. Owns SLRU pages and segment sizes; sizes that a
 * record changed are put once, when the record ends (`flush`).
 *
 * Invariant, as for relations: every page below a segment's size has a version put since the segment got that long.
 */
import { StorageError } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import { slruPageInSegment, slruSegment } from '#shared/postgres/slru.js';
import { type Key, makeKey } from '../key.js';
import {
  decodeCount,
  encodeCount,
  parseSlruSizeKey,
  slruBlocks,
  SLRU_KINDS,
  type SlruKind,
  slruSizeKey,
} from '../keyspace.js';
import {
  type ScanEntry,
  type TimelineStore,
  VALUE_IMAGE,
  VALUE_INIT,
  VALUE_RECORD,
  VALUE_TOMBSTONE,
} from '../storage/store.js';

const ZERO_PAGE = new Uint8Array(0);
const TOMBSTONE = new Uint8Array(0);

interface Segment {
  readonly kind: SlruKind;
  readonly segno: number;
  readonly blocks: number;
  readonly sizeKey: Key;
  /** 0 = does not exist. */
  pages: number;
}

export class SlruTable {
  /** By kind, then segment number; those that were truncated away stay, with no pages. */
  private readonly segments: ReadonlyArray<Map<number, Segment>> = SLRU_KINDS.map(() => new Map());
  private readonly changed = new Set<Segment>();
  private readonly store: TimelineStore;

  constructor(store: TimelineStore) {
    this.store = store;
  }

  /** Takes the size keys found by a scan. */
  load(entries: readonly ScanEntry[]): void {
    for (const { key, value } of entries) {
      const { kind, segno } = parseSlruSizeKey(key);
      this.obtain(kind, segno).pages = decodeCount(value);
    }
  }

  /** `pageNumber` counts over all segments. */
  hasPage(kind: SlruKind, pageNumber: number): boolean {
    const segment = this.segments[kind]!.get(slruSegment(pageNumber));
    return segment !== undefined && slruPageInSegment(pageNumber) < segment.pages;
  }

  /** A new page of zeros, also in place of one that is there. */
  zeroPage(kind: SlruKind, pageNumber: number, lsn: Lsn): void {
    const segment = this.include(kind, pageNumber, lsn);
    this.store.put(makeKey(segment.blocks, slruPageInSegment(pageNumber)), lsn, VALUE_IMAGE, ZERO_PAGE);
  }

  /** Adds a change (a neon record). A page that does not exist begins as zeros, as in Postgres' own redo. */
  changePage(kind: SlruKind, pageNumber: number, lsn: Lsn, value: Uint8Array): void {
    const existed = this.hasPage(kind, pageNumber);
    const segment = this.include(kind, pageNumber, lsn);
    const key = makeKey(segment.blocks, slruPageInSegment(pageNumber));
    this.store.put(key, lsn, existed ? VALUE_RECORD : VALUE_INIT, value);
  }

  /** Numbers of the segments that exist, in no order. */
  existing(kind: SlruKind): number[] {
    return [...this.segments[kind]!.values()].filter((segment) => segment.pages > 0).map((segment) => segment.segno);
  }

  drop(kind: SlruKind, segno: number): void {
    const segment = this.segments[kind]!.get(segno);
    if (segment === undefined || segment.pages === 0) return;
    segment.pages = 0;
    this.changed.add(segment);
  }

  /** Puts what the record at `lsn` changed. */
  flush(lsn: Lsn): void {
    if (this.changed.size === 0) return;
    for (const segment of this.changed) {
      if (segment.pages > 0) this.store.put(segment.sizeKey, lsn, VALUE_IMAGE, encodeCount(segment.pages));
      else this.store.put(segment.sizeKey, lsn, VALUE_TOMBSTONE, TOMBSTONE);
    }
    this.changed.clear();
  }

  private include(kind: SlruKind, pageNumber: number, lsn: Lsn): Segment {
    const segment = this.obtain(kind, slruSegment(pageNumber));
    const page = slruPageInSegment(pageNumber);
    if (page < segment.pages) return segment;
    for (let gap = segment.pages; gap < page; gap++) {
      this.store.put(makeKey(segment.blocks, gap), lsn, VALUE_IMAGE, ZERO_PAGE);
    }
    segment.pages = page + 1;
    this.changed.add(segment);
    return segment;
  }

  private obtain(kind: SlruKind, segno: number): Segment {
    const known = this.segments[kind]!.get(segno);
    if (known !== undefined) return known;
    if (!Number.isInteger(segno) || segno < 0) throw new StorageError('corrupt', `there is no SLRU segment ${segno}`);
    const segment = { kind, segno, blocks: slruBlocks(kind, segno), sizeKey: slruSizeKey(kind, segno), pages: 0 };
    this.segments[kind]!.set(segno, segment);
    return segment;
  }
}
