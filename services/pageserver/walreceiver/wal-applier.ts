/**
 * Puts a stream of WAL bytes into a timeline: bytes -> records -> versions -> advance. One applier serves one connection, beginning at
 * the timeline's lastRecordLsn.
 *
 * Invariants: readers are let in (advance) only behind whole records whose versions are all in. WAL is never skipped: a gap, a record
 * that does not continue the last one, or one that cannot be ingested ends the applier; what came before it stays.
 */
import { setImmediate as yieldToOthers } from 'node:timers/promises';
import { AssertionFailure } from '#shared/core/assert.js';
import { StorageError, wrapError } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import { formatLsn, INVALID_LSN } from '#shared/core/lsn.js';
import type { WalRecord } from '#shared/postgres/wal-record.js';
import { noteShortLived } from '#shared/runtime/buffer-pressure.js';
import { WalStreamDecoder } from '#shared/postgres/wal-stream-decoder.js';
import type { TimelineStore } from '../core/storage/store.js';

/** The event loop belongs to WAL for some milliseconds at most; then page reads have their turn. */
const SLICE_BYTES = 128 * 1024;

/** Buffers that come and go for each byte of WAL, in bytes: socket, message, its decoding, page images. */
const BUFFERS_A_BYTE = 4;

/** What the applier needs of WalIngest. */
export interface RecordSink {
  /** A promise only for records that must read old data. */
  ingest(record: WalRecord): void | Promise<void>;
}

/** Counted by the appliers of all timelines. */
export interface IngestStats {
  records: number;
  bytes: number;
}

/** What page headers of WAL say; system identifier 0 = any. */
export interface WalIdentity {
  readonly systemId: bigint;
  readonly segSize: number;
}

/** A record could not be ingested: trying again needs a fresh sink, whose memory of the head is not half-changed. */
export class IngestFailure extends StorageError {
  constructor(lsn: Lsn, cause: unknown) {
    const wrapped = wrapError(`could not ingest the WAL record at ${formatLsn(lsn)}`, cause);
    super(wrapped.kind, wrapped.message, { cause });
    this.name = 'IngestFailure';
  }
}

/** A broken invariant is no failure to be tried again. */
function ingestError(lsn: Lsn, error: unknown): unknown {
  return error instanceof AssertionFailure ? error : new IngestFailure(lsn, error);
}

export class WalApplier {
  readonly #store: TimelineStore;
  readonly #sink: RecordSink;
  readonly #stats: IngestStats;
  readonly #decoder: WalStreamDecoder;
  #isFirst = true;

  /** `identity`: of the server that wrote the WAL; default: that of the timeline. */
  constructor(store: TimelineStore, sink: RecordSink, stats: IngestStats, identity: WalIdentity = store) {
    this.#store = store;
    this.#sink = sink;
    this.#stats = stats;
    this.#decoder = new WalStreamDecoder({
      startLsn: store.lastRecordLsn,
      segSize: identity.segSize,
      ...(identity.systemId === 0n ? {} : { systemId: identity.systemId }),
    });
  }

  /** The next byte wanted. */
  get inputLsn(): Lsn {
    return this.#decoder.inputLsn;
  }

  /** Takes bytes that begin at `startLsn`, which must be inputLsn. Resolves when they are in and there is room for more. */
  async apply(startLsn: Lsn, bytes: Uint8Array): Promise<void> {
    if (startLsn !== this.inputLsn) {
      throw new StorageError('corrupt', `got WAL from ${formatLsn(startLsn)}, expected ${formatLsn(this.inputLsn)}`);
    }
    for (let at = 0; at < bytes.length; at += SLICE_BYTES) {
      if (at > 0) await yieldToOthers();
      const slice = bytes.subarray(at, at + SLICE_BYTES);
      this.#decoder.feed(slice);
      noteShortLived(BUFFERS_A_BYTE * slice.length);
      this.#stats.bytes += slice.length;
      await this.#ingestDecoded();
      await this.#store.waitForRoom();
    }
  }

  async #ingestDecoded(): Promise<void> {
    const { record } = this.#decoder;
    let endLsn = INVALID_LSN;
    let startLsn = INVALID_LSN;
    try {
      while (this.#decoder.next()) {
        if (this.#isFirst) this.#checkContinues(record);
        const pending = this.#ingest(record);
        if (pending !== undefined) await pending;
        endLsn = record.endLsn;
        startLsn = record.startLsn;
        this.#stats.records++;
      }
    } finally {
      if (endLsn !== INVALID_LSN) this.#store.advance(endLsn, startLsn);
    }
  }

  #ingest(record: WalRecord): void | Promise<void> {
    const { startLsn } = record;
    try {
      const pending = this.#sink.ingest(record);
      return pending?.catch((error: unknown) => {
        throw ingestError(startLsn, error);
      });
    } catch (error) {
      throw ingestError(startLsn, error);
    }
  }

  /** The first record must name the last one that was ingested, else this is the WAL of another history. */
  #checkContinues(record: WalRecord): void {
    this.#isFirst = false;
    const wanted = this.#store.prevRecordLsn;
    if (wanted === INVALID_LSN || record.prevLsn === wanted) return;
    throw new StorageError(
      'corrupt',
      `the record at ${formatLsn(record.startLsn)} follows one at ${formatLsn(record.prevLsn)}, but the last one here was at ${formatLsn(wanted)}`,
    );
  }
}
