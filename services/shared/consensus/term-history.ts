/**
 * Term histories: which leader wrote which part of a timeline's WAL.
 *
 * WAL bytes carry no term. Each acceptor keeps a list of (term, lsn) entries instead: WAL from `lsn` up to the next entry's was
 * written by the leader of `term`. Terms rise strictly, positions never fall. Adopting a leader's history counts as holding an
 * empty record of its term, so comparisons with flush positions are non-strict (`lsn <= flush`).
 *
 * Pure arithmetic, used by acceptor (safekeeper) and proposer (compute_ctl), which must agree on it to the byte.
 */
import { StorageError } from '../core/errors.js';
import { formatLsn, lsnFromWire, lsnMin, lsnToWire, type Lsn } from '../core/lsn.js';

/** A branded number would gain nothing: terms are compared and raised by one, never mixed with positions by accident. */
export type Term = number;

export interface TermLsn {
  readonly term: Term;
  readonly lsn: Lsn;
}

export type TermHistory = readonly TermLsn[];

/** Each compute start adds an entry of 16 bytes; more than this is a broken peer, not a long life. */
export const TERM_HISTORY_ENTRIES_MAX = 100_000;

/** From a uint64 of a message. Throws `invalid` above 2^53. */
export function termFromWire(value: bigint): Term {
  if (value < 0n || value > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new StorageError('invalid', `term ${value} is out of range`);
  }
  return Number(value);
}

/** Throws `invalid` unless terms rise strictly and positions never fall. */
export function checkTermHistory(history: TermHistory): void {
  if (history.length > TERM_HISTORY_ENTRIES_MAX) {
    throw new StorageError('invalid', `a term history of ${history.length} entries is too long`);
  }
  let previous: TermLsn | undefined;
  for (const entry of history) {
    if (!Number.isSafeInteger(entry.term) || entry.term < 0 || !Number.isSafeInteger(entry.lsn) || entry.lsn < 0) {
      throw new StorageError('invalid', `term history entry (${entry.term}, ${entry.lsn}) is out of range`);
    }
    if (previous !== undefined && (entry.term <= previous.term || entry.lsn < previous.lsn)) {
      throw new StorageError('invalid', `term history is not in order: ${formatTermHistory(history)}`);
    }
    previous = entry;
  }
}

/** From a message; checked. */
export function termHistoryFromWire(entries: readonly { term: bigint; lsn: bigint }[]): TermHistory {
  if (entries.length > TERM_HISTORY_ENTRIES_MAX) {
    throw new StorageError('invalid', `a term history of ${entries.length} entries is too long`);
  }
  const history = entries.map((entry) => ({ term: termFromWire(entry.term), lsn: lsnFromWire(entry.lsn) }));
  checkTermHistory(history);
  return history;
}

export function termHistoryToWire(history: TermHistory): { term: bigint; lsn: bigint }[] {
  return history.map((entry) => ({ term: BigInt(entry.term), lsn: lsnToWire(entry.lsn) }));
}

/** Entries with lsn <= `upTo`: the part that a log ending at `upTo` really holds. */
export function cutTermHistory(history: TermHistory, upTo: Lsn): TermHistory {
  let count = history.length;
  while (count > 0 && (history[count - 1] as TermLsn).lsn > upTo) count -= 1;
  return count === history.length ? history : history.slice(0, count);
}

/** Term of the last entry with lsn <= `flushLsn`; 0 when there is none. */
export function lastLogTerm(history: TermHistory, flushLsn: Lsn): Term {
  for (let index = history.length - 1; index >= 0; index -= 1) {
    const entry = history[index] as TermLsn;
    if (entry.lsn <= flushLsn) return entry.term;
  }
  return 0;
}

/** Compares logs as elections do: by last log term, then by flush position. Above 0: `a` is more advanced. */
export function compareLogs(a: { lastLogTerm: Term; flushLsn: Lsn }, b: { lastLogTerm: Term; flushLsn: Lsn }): number {
  return a.lastLogTerm !== b.lastLogTerm ? a.lastLogTerm - b.lastLogTerm : a.flushLsn - b.flushLsn;
}

/**
 * Where the stream of a proposer to an acceptor must begin: up to there both logs are the same, and the acceptor drops what it
 * has beyond. Null when the histories share no term: then the stream begins at the proposer's first entry.
 *
 * Throws `corrupt` when both know a term but place its start differently: one term had two leaders, which elections exclude.
 */
export function commonPoint(proposer: TermHistory, acceptor: TermHistory, acceptorFlushLsn: Lsn): TermLsn | null {
  const own = cutTermHistory(acceptor, acceptorFlushLsn);
  let common = -1;
  for (let index = 0; index < Math.min(proposer.length, own.length); index += 1) {
    const theirs = proposer[index] as TermLsn;
    const ours = own[index] as TermLsn;
    if (theirs.term !== ours.term) break;
    if (theirs.lsn !== ours.lsn) {
      throw new StorageError(
        'corrupt',
        `term ${theirs.term} begins at ${formatLsn(theirs.lsn)} for the proposer and at ${formatLsn(ours.lsn)} for the acceptor`,
      );
    }
    common = index;
  }
  if (common < 0) return null;
  const term = (proposer[common] as TermLsn).term;
  const proposerEnd = proposer[common + 1]?.lsn;
  const acceptorEnd = own[common + 1]?.lsn ?? acceptorFlushLsn;
  return { term, lsn: proposerEnd === undefined ? acceptorEnd : lsnMin(proposerEnd, acceptorEnd) };
}

/** `commonPoint`, or the proposer's first entry when nothing is shared. `proposer` must not be empty. */
export function streamingStart(proposer: TermHistory, acceptor: TermHistory, acceptorFlushLsn: Lsn): Lsn {
  const first = proposer[0];
  if (first === undefined) throw new StorageError('invalid', 'a proposer with an empty term history cannot stream');
  return commonPoint(proposer, acceptor, acceptorFlushLsn)?.lsn ?? first.lsn;
}

/** "1@0/14EE150 2@0/1500000", for logs and traces. */
export function formatTermHistory(history: TermHistory): string {
  return history.map((entry) => `${entry.term}@${formatLsn(entry.lsn)}`).join(' ');
}
