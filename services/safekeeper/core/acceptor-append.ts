/** The Append message: WAL of the leader, contiguous with what it sent before. */
import { StorageError } from '#shared/core/errors.js';
import { formatLsn, INVALID_LSN, lsn, lsnMax, type Lsn } from '#shared/core/lsn.js';
import type { AcceptorEffect, AcceptorState, AppendInput, RecordDecoder } from './acceptor-types.js';
import { appendReply, persist } from './effects.js';
import { checkGeneration } from './membership.js';
import { advanceCommit, isControlFileStale, raise } from './positions.js';

/** 16 pages. */
export const APPEND_BYTES_MAX = 128 * 1024;

export function append(state: AcceptorState, input: AppendInput): AcceptorEffect[] {
  const { control } = state;
  checkGeneration(control, input.generation);
  if (control.term > input.term) return [appendReply(state, input.connection, input.term)];
  if (control.term < input.term || control.history.at(-1)?.term !== input.term) {
    throw new StorageError('precondition', `append of term ${input.term} before its leader was announced here`);
  }
  checkContiguous(state, input.beginLsn);
  const effects: AcceptorEffect[] = input.bytes.length > 0 ? [write(state, input)] : [];
  state.proposers.set(input.connection, { term: input.term, awaitsFlush: true });
  if (input.commitLsn !== INVALID_LSN) {
    state.leaderCommitLsn = lsnMax(state.leaderCommitLsn, input.commitLsn);
    advanceCommit(state, input.commitLsn);
  }
  raise(state, 'peerHorizonLsn', input.truncateLsn);
  if (isControlFileStale(state)) effects.push(persist(state));
  return effects;
}

/**
 * Against bytes written, not against record boundaries. An overlap is usual after a proposer reconnected while its old connection
 * still delivers; it must be refused, not merged: only Elected may move the position. An append without bytes is checked as well: when a
 * late Elected of the old connection has cut what the new one brought, a leader with nothing to write would else never learn of it.
 */
function checkContiguous(state: AcceptorState, beginLsn: Lsn): void {
  if (beginLsn === state.writeLsn) return;
  throw new StorageError(
    'precondition',
    `append begins at ${formatLsn(beginLsn)}, but the log ends at ${formatLsn(state.writeLsn)}`,
  );
}

function write(state: AcceptorState, input: AppendInput): AcceptorEffect {
  const { bytes, beginLsn } = input;
  if (bytes.length > APPEND_BYTES_MAX) {
    throw new StorageError('invalid', `append of ${bytes.length} bytes; at most ${APPEND_BYTES_MAX} are allowed`);
  }
  const { decoder } = state;
  if (decoder === null) {
    throw new StorageError(
      'precondition',
      'nothing can be appended before the next leader announcement has cut the log',
    );
  }
  const recordEnd = follow(state, decoder, bytes);
  state.writeLsn = lsn(beginLsn + bytes.length);
  state.writeRecordLsn = recordEnd;
  return { kind: 'write-wal', at: beginLsn, bytes };
}

/** WAL that does not decode is refused before it touches the disk. */
function follow(state: AcceptorState, decoder: RecordDecoder, bytes: Uint8Array) {
  try {
    decoder.feed(bytes);
    while (decoder.next());
  } catch (error) {
    // The decoder has swallowed bytes that the log has not.
    state.decoder = null;
    throw error;
  }
  return decoder.recordEndLsn;
}
