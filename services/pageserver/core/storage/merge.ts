/** Merging sorted streams of versions: by key, LSN, and for equal ones by the order of the streams (older first). */
import type { Lsn } from '#shared/core/lsn.js';
import type { Key } from '../key.js';
import { compareKeys } from '../key.js';
import type { ValueKind } from './store.js';

export interface VersionCursor {
  /** Fields of the version it stands on; valid after `next()` returned true. */
  readonly key: Key;
  readonly lsn: Lsn;
  readonly kind: ValueKind;
  readonly value: Uint8Array;
  /** Goes to the next version; false at the end. */
  next(): boolean;
}

/** Visits the versions of the cursors (each sorted, none started) in merged order, until `visit` returns false. */
export function mergeVersions<C extends VersionCursor>(cursors: readonly C[], visit: (version: C) => unknown): void {
  // A binary heap of cursor numbers; heap[0] stands on the smallest version.
  const heap: number[] = [];
  const before = (a: number, b: number): boolean => {
    const left = cursors[a]!;
    const right = cursors[b]!;
    const order = left.key === right.key ? left.lsn - right.lsn : compareKeys(left.key, right.key);
    return order !== 0 ? order < 0 : a < b;
  };
  const sink = (from: number): void => {
    const cursor = heap[from]!;
    let at = from;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      if (!before(heap[child]!, cursor)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = cursor;
  };
  cursors.forEach((cursor, i) => {
    if (cursor.next()) heap.push(i);
  });
  for (let i = (heap.length >>> 1) - 1; i >= 0; i--) sink(i);
  while (heap.length > 0) {
    const cursor = cursors[heap[0]!]!;
    if (visit(cursor) === false) return;
    if (!cursor.next()) {
      const last = heap.pop()!;
      if (heap.length === 0) return;
      heap[0] = last;
    }
    sink(0);
  }
}
