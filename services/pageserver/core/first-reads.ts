/**
 * What a compute asks right after its start: which blocks, and the lengths of which forks. The next compute of the timeline, or of a branch of
 * it, mostly asks the same (catalogs, and the tables of the first queries), and gets it before it asks.
 *
 * Noting goes on for a few seconds after each start. What was sent along is not asked any more and stays on the list; so the list is made
 * anew after some starts, or it would only grow. It is lost when the page server ends.
 */
import type { Key } from './key.js';
import { parsePageKey, parseRelationSizeKey, relationBlockKey, relationSizeKey, type RelTag } from './keyspace.js';

const WINDOW_MS = 3_000;
export const FIRST_PAGES_MAX = 512;
export const FIRST_LENGTHS_MAX = 512;
/** Starts until the list is made anew. */
const STARTS_OF_A_LIST = 64;

export interface FirstReadList {
  readonly lengths: readonly RelTag[];
  readonly pages: readonly (RelTag & { readonly block: number })[];
}

export class FirstReads {
  /** Keys, which are numbers: 16 KiB at the most. */
  readonly #pages = new Set<Key>();
  readonly #lengths = new Set<Key>();
  #endMs = 0;
  #starts = 0;

  /** Whether `note…` is to be called; asked before each read. */
  get isNoting(): boolean {
    return this.#endMs !== 0;
  }

  get isEmpty(): boolean {
    return this.#pages.size === 0 && this.#lengths.size === 0;
  }

  /** A compute starts. From time to time the list is empty then, and made anew. */
  begin(nowMs: number): void {
    if (this.#starts++ % STARTS_OF_A_LIST === 0) {
      this.#pages.clear();
      this.#lengths.clear();
    }
    this.#endMs = nowMs + WINDOW_MS;
  }

  /** What is known of an ancestor, whose pages a branch has too. */
  adopt(ancestor: FirstReads): void {
    for (const key of ancestor.#pages) this.#pages.add(key);
    for (const key of ancestor.#lengths) this.#lengths.add(key);
  }

  notePage(rel: RelTag, block: number, nowMs: number): void {
    if (this.#isOver(nowMs) || this.#pages.size >= FIRST_PAGES_MAX) return;
    this.#pages.add(relationBlockKey(rel, block));
  }

  noteLength(rel: RelTag, nowMs: number): void {
    if (this.#isOver(nowMs) || this.#lengths.size >= FIRST_LENGTHS_MAX) return;
    this.#lengths.add(relationSizeKey(rel));
  }

  list(): FirstReadList {
    const pages = [...this.#pages].flatMap((key) => {
      const page = parsePageKey(key);
      return page?.kind === 'relation' ? [{ ...page.rel, block: page.block }] : [];
    });
    return { lengths: [...this.#lengths].map(parseRelationSizeKey), pages };
  }

  #isOver(nowMs: number): boolean {
    if (nowMs < this.#endMs) return false;
    this.#endMs = 0;
    return true;
  }
}
