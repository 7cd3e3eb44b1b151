/**
 * A redo for store tests: the page is a digest of its base and of every record with its LSN, in order. Any record missing, doubled, out of
 * place, or applied to another base gives another page.
 */
import { createHash } from 'node:crypto';
import type { ReconstructPage } from '../storage-env.js';

const PAGE_BYTES = 8192;

export function foldPage(base: Uint8Array | null, endLsn: number, value: Uint8Array): Uint8Array {
  const hash = createHash('sha256');
  hash.update(base === null ? 'nothing' : base.subarray(0, 64));
  hash.update(`@${endLsn}:`);
  hash.update(value);
  const page = new Uint8Array(PAGE_BYTES);
  page.set(hash.digest(), 0);
  return page;
}

export const foldRedo: ReconstructPage = (base, records) => {
  let page = base;
  for (const { endLsn, value } of records) page = foldPage(page, endLsn, value);
  return page ?? new Uint8Array(PAGE_BYTES);
};
