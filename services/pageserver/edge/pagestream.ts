/**
 * The compute's read path: requests of one connection, answered strictly in order.
 *
 * A page that can be had without waiting is answered on the spot (no promise, no queue). The first request that must wait opens the
 * queue; later ones run at the same time and their answers wait in it for their turn. Page requests that came together are read
 * together (page-batches.ts). The queue is bounded: when it is full the session takes no more from the socket. A request that fails gets an error response and the stream goes on; only when the timeline
 * stops is the connection closed, so that the client comes again.
 */
import { AssertionFailure } from '#shared/core/assert.js';
import { errorKind, errorText, StorageError } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { CopyHandler, WireSession } from '#shared/postgres/wire/server-session.js';
import { FORK_FSM, FORK_VM } from '../core/keyspace.js';
import { PageBatches } from './page-batches.js';
import { type PageReader, relationNotFound } from './page-reader.js';
import type { PagestreamVersion } from './pagestream-codec.js';
import * as codec from './pagestream-codec.js';
import type { PagestreamStats } from './pagestream-stats.js';
import { checkReadLsn, effectiveLsn } from './read-lsn.js';

export interface PagestreamOptions {
  readonly version: PagestreamVersion;
  /** How long a request may wait for its not_modified_since. */
  readonly waitLsnTimeoutMs: number;
  /** Requests of one connection that may be under way at once. */
  readonly inFlightMax: number;
}

interface Slot {
  /** What to write; null while the answer is being made. */
  response: readonly Uint8Array[] | null;
}

export class Pagestream implements CopyHandler {
  readonly #session: WireSession;
  readonly #reader: PageReader;
  readonly #options: PagestreamOptions;
  readonly #stats: PagestreamStats;
  readonly #request: codec.PagestreamRequest;
  readonly #abort = new AbortController();
  /** Answers that may not be sent yet, in the order of their requests. */
  readonly #queue: Slot[] = [];
  readonly #batches: PageBatches;
  #ending = false;
  #sendScheduled = false;

  constructor(session: WireSession, reader: PageReader, options: PagestreamOptions, stats: PagestreamStats) {
    this.#session = session;
    this.#reader = reader;
    this.#options = options;
    this.#stats = stats;
    this.#request = new codec.PagestreamRequest(options.version);
    this.#batches = new PageBatches(reader, this.#abort.signal, stats);
  }

  data(buffer: Buffer, start: number, end: number): boolean {
    const request = this.#request;
    request.parse(buffer, start, end);
    const page = this.#tryPage(request);
    if (page !== undefined && this.#queue.length === 0) {
      this.#session.write(codec.encodePageHeader(request));
      this.#session.write(page);
      return true;
    }
    const slot: Slot = { response: page === undefined ? null : [codec.encodePageHeader(request), page] };
    this.#queue.push(slot);
    if (page === undefined) this.#answerLater(request.clone(), slot);
    return this.#queue.length < this.#options.inFlightMax;
  }

  done(): void {
    this.#ending = true;
    this.#sendReady();
  }

  closed(): void {
    this.#abort.abort(new StorageError('cancelled', 'the client went away'));
  }

  /** The hot path: undefined when the answer needs IO or time. */
  #tryPage(request: codec.PagestreamRequest): Uint8Array | undefined {
    if (request.tag !== codec.REQUEST_GETPAGE) return undefined;
    const reader = this.#reader;
    const last = reader.lastRecordLsn;
    if (request.notModifiedSince > last) return undefined;
    try {
      checkReadLsn(request.requestLsn, request.notModifiedSince, reader.minReadableLsn);
      const page = reader.tryPage(request, request.block, effectiveLsn(request.requestLsn, last));
      if (page !== undefined) this.#stats.pagesAtOnce++;
      return page;
    } catch (error) {
      if (error instanceof AssertionFailure) throw error;
      // The slow path meets the same error and reports it.
      return undefined;
    }
  }

  #answerLater(request: codec.PagestreamRequest, slot: Slot): void {
    const startMs = performance.now();
    this.#stats.inFlight++;
    void this.#answer(request)
      .catch((error: unknown) => this.#answerError(request, error))
      .then((response) => {
        slot.response = response;
        this.#stats.record(request.tag, performance.now() - startMs);
      })
      .finally(() => {
        this.#stats.inFlight--;
        this.#scheduleSend();
      });
  }

  /** Answers of one batch become ready together: they leave in one write. */
  #scheduleSend(): void {
    if (this.#sendScheduled) return;
    this.#sendScheduled = true;
    queueMicrotask(() => {
      this.#sendScheduled = false;
      this.#sendReady();
    });
  }

  #answerError(request: codec.PagestreamRequest, error: unknown): readonly Uint8Array[] {
    if (error instanceof AssertionFailure) throw error;
    this.#stats.errors++;
    const kind = errorKind(error);
    if (kind === 'cancelled' || kind === 'fenced') this.#session.abort(error);
    else if (kind === 'internal' || kind === 'corrupt') this.#stats.reportFailure(error);
    return [codec.encodeError(request, errorText(error))];
  }

  async #answer(request: codec.PagestreamRequest): Promise<readonly Uint8Array[]> {
    const at = await this.#waitForLsn(request);
    if (request.tag !== codec.REQUEST_GETPAGE) return [await this.#answerSmall(request, at)];
    return [codec.encodePageHeader(request), await this.#batches.read(request, at)];
  }

  async #answerSmall(request: codec.PagestreamRequest, at: Lsn): Promise<Buffer> {
    const reader = this.#reader;
    switch (request.tag) {
      case codec.REQUEST_EXISTS:
        return codec.encodeExists(request, (await reader.relSize(request, at)) !== null);
      case codec.REQUEST_NBLOCKS:
        return codec.encodeNblocks(request, await this.#blockCount(request, at));
      case codec.REQUEST_DBSIZE:
        return codec.encodeDbSize(request, await reader.dbSize(request.db, at));
      default:
        return codec.encodeSlruSegment(request, await this.#slruSegment(request, at));
    }
  }

  async #waitForLsn(request: codec.PagestreamRequest): Promise<Lsn> {
    const reader = this.#reader;
    checkReadLsn(request.requestLsn, request.notModifiedSince, reader.minReadableLsn);
    if (request.notModifiedSince > reader.lastRecordLsn) {
      this.#stats.waits++;
      await reader.waitLsn(request.notModifiedSince, this.#options.waitLsnTimeoutMs, this.#abort.signal);
    }
    return effectiveLsn(request.requestLsn, reader.lastRecordLsn);
  }

  async #blockCount(request: codec.PagestreamRequest, at: Lsn): Promise<number> {
    const blockCount = await this.#reader.relSize(request, at);
    if (blockCount !== null) return blockCount;
    if (request.fork === FORK_FSM || request.fork === FORK_VM) return 0;
    throw relationNotFound(request);
  }

  async #slruSegment(request: codec.PagestreamRequest, at: Lsn): Promise<Uint8Array> {
    const segment = await this.#reader.slruSegment(request.slruKind, request.segmentNumber, at);
    if (segment !== null) return segment;
    throw new StorageError('not-found', `SLRU segment not found: kind ${request.slruKind}, ${request.segmentNumber}`);
  }

  /** Sends what is at the head of the queue and lets the session go on. */
  #sendReady(): void {
    const queue = this.#queue;
    let count = 0;
    while (Array.isArray(queue[count]?.response)) count++;
    if (count > 0) {
      const wasFull = queue.length >= this.#options.inFlightMax;
      this.#session.writeAll(queue.splice(0, count).flatMap((slot) => slot.response ?? []));
      if (wasFull) this.#session.resumeCopy();
    }
    if (this.#ending && queue.length === 0 && !this.#session.isClosed) this.#session.endCopy('COPY 0');
  }
}
