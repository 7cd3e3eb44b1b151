/** neon.safekeeper.v1.WalService: streams WAL to page servers and to those who recover. */
import { StorageError } from '#shared/core/errors.js';
import { parseTtid } from '#shared/core/ids.js';
import { formatLsn, lsn, lsnMin, lsnToWire, MAX_LSN, type Lsn } from '#shared/core/lsn.js';
import { termFromWire } from '#shared/consensus/term-history.js';
import { bidi, type CallContext, type ResponseWriter } from '#shared/rpc/handlers.js';
import type {
  StreamWalRequest,
  StreamWalResponse,
  StreamWalStart,
  WalServiceServer,
} from '#gen/neon/safekeeper/v1/safekeeper.js';
import type { Timeline } from '../io/timeline.js';
import type { TimelineReader } from '../io/timeline-reader.js';
import type { Timelines } from '../io/timelines.js';
import { feedbackFromWire, positionFromWire } from './conversion.js';

export const STREAM_BYTES_MAX = 1 << 20;
const KEEPALIVE_INTERVAL_MS = 1_000;
const NO_BYTES = Buffer.alloc(0);

export interface WalDeps {
  readonly timelines: Timelines;
  readonly stopping: AbortSignal;
  /** Called with the bytes of each message sent. */
  readonly onSent: (bytes: number) => void;
}

export function walService(deps: WalDeps): WalServiceServer {
  return {
    streamWal: bidi((requests: AsyncIterable<StreamWalRequest>, writer: ResponseWriter<StreamWalResponse>, call) =>
      streamWal(deps, requests, writer, call),
    ),
  };
}

async function streamWal(
  deps: WalDeps,
  requests: AsyncIterable<StreamWalRequest>,
  writer: ResponseWriter<StreamWalResponse>,
  call: CallContext,
): Promise<void> {
  const iterator = requests[Symbol.asyncIterator]();
  const first = await iterator.next();
  if (first.done === true) return;
  if (first.value.message?.$case !== 'start') {
    throw new StorageError('precondition', 'the first message of a WAL reader is its start');
  }
  const range = rangeOf(first.value.message.value);
  const timeline = deps.timelines.get(parseTtid(first.value.message.value.ttid));
  await timeline.ensureResident();
  checkStart(timeline, range);
  const reader = timeline.openReader();
  const stop = new AbortController();
  const signal = AbortSignal.any([call.signal, deps.stopping, stop.signal]);
  const log = timeline.log.child({ client: range.clientName, reader: reader.id });
  log.info({ startLsn: formatLsn(range.start) }, 'started streaming WAL');
  // The reader may end its side and go on listening.
  const feedback = takeFeedback(timeline, reader.id, iterator);
  try {
    await Promise.race([send({ deps, timeline, reader, range, writer, signal }), rejectionOf(feedback)]);
  } finally {
    stop.abort();
    await reader.close();
    log.info('stopped streaming WAL');
  }
}

interface Range {
  readonly start: Lsn;
  readonly end: Lsn;
  /** Null: committed WAL only. */
  readonly term: number | null;
  readonly clientName: string;
}

function rangeOf(start: StreamWalStart): Range {
  const range: Range = {
    start: positionFromWire(start.startLsn),
    end: start.endLsn === undefined ? MAX_LSN : positionFromWire(start.endLsn),
    term: start.term === undefined ? null : termFromWire(start.term),
    clientName: start.clientName.slice(0, 100),
  };
  if (range.end < range.start) throw new StorageError('invalid', 'end_lsn is before start_lsn');
  return range;
}

function checkStart(timeline: Timeline, range: Range): void {
  const { readableFrom } = timeline;
  if (range.start < readableFrom) {
    throw new StorageError(
      'not-found',
      `WAL at ${formatLsn(range.start)} is not here; it begins at ${formatLsn(readableFrom)}`,
    );
  }
}

/** Sends until the end of the range, or until the signal. */
async function send(options: {
  deps: WalDeps;
  timeline: Timeline;
  reader: TimelineReader;
  range: Range;
  writer: ResponseWriter<StreamWalResponse>;
  signal: AbortSignal;
}): Promise<void> {
  const { deps, timeline, reader, range, writer, signal } = options;
  let position = range.start;
  let lastSentMs = performance.now();
  while (!signal.aborted && position < range.end) {
    reader.check();
    const available = availableTo(timeline, range.term);
    const to = lsnMin(lsnMin(available, range.end), lsn(position + STREAM_BYTES_MAX));
    if (position < to) {
      const bytes = await reader.read(position, to);
      await writer.write({ startLsn: lsnToWire(position), availableLsn: lsnToWire(available), walData: bytes });
      deps.onSent(bytes.length);
      position = lsn(position + bytes.length);
      lastSentMs = performance.now();
      continue;
    }
    const idleMs = performance.now() - lastSentMs;
    if (idleMs >= KEEPALIVE_INTERVAL_MS) {
      await writer.write({ startLsn: lsnToWire(position), availableLsn: lsnToWire(available), walData: NO_BYTES });
      lastSentMs = performance.now();
      continue;
    }
    await timeline.changes.wait(KEEPALIVE_INTERVAL_MS - idleMs, signal);
  }
}

function availableTo(timeline: Timeline, term: number | null): Lsn {
  const { view } = timeline;
  if (term === null) return view.commitLsn;
  if (view.control.term !== term) {
    throw new StorageError('precondition', `the safekeeper is in term ${view.control.term}, the reader wants ${term}`);
  }
  return view.flushLsn;
}

async function takeFeedback(
  timeline: Timeline,
  readerId: number,
  requests: AsyncIterator<StreamWalRequest>,
): Promise<void> {
  for (;;) {
    const next = await requests.next();
    if (next.done === true) return;
    const { message } = next.value;
    if (message?.$case !== 'feedback')
      throw new StorageError('invalid', 'after its start a reader sends feedback only');
    timeline.putFeedback(readerId, feedbackFromWire(message.value));
  }
}

/** Rejects as the promise does; never resolves. */
function rejectionOf(promise: Promise<void>): Promise<never> {
  return new Promise((_, reject) => {
    promise.catch(reject);
  });
}
