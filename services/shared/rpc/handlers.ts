/**
 * Turns async functions into grpc-js handlers: errors become statuses, the caller's trace goes on, a span is made per call, and the
 * function learns by an AbortSignal when the caller went away or its deadline passed.
 */
import { context, propagation, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import type { Span } from '@opentelemetry/api';
import type * as grpc from '@grpc/grpc-js';
import { errorKind, errorText, StorageError } from '../core/errors.js';
import type { Logger } from '../runtime/log.js';
import { silentLogger } from '../runtime/log.js';
import { toGrpcStatus } from './error-map.js';

export interface CallContext {
  /** Aborted when the caller cancelled, vanished, or its deadline passed. */
  readonly signal: AbortSignal;
  readonly metadata: grpc.Metadata;
  /** Address of the caller, for logs. */
  readonly peer: string;
}

let log: Logger = silentLogger;
/** Where failed calls are logged; set by the server once. */
export function setRpcLogger(logger: Logger): void {
  log = logger;
}

type AnyCall = Pick<grpc.ServerUnaryCall<unknown, unknown>, 'metadata' | 'getPath' | 'getPeer' | 'cancelled'> & {
  on(event: 'cancelled', listener: () => void): unknown;
};

function contextOf(call: AnyCall): CallContext {
  const controller = new AbortController();
  const abort = () => controller.abort(new StorageError('cancelled', 'the caller went away'));
  if (call.cancelled) abort();
  else call.on('cancelled', abort);
  return { signal: controller.signal, metadata: call.metadata, peer: call.getPeer() };
}

const getter = {
  get: (carrier: grpc.Metadata, key: string) => carrier.get(key).map(String),
  keys: (carrier: grpc.Metadata) => Object.keys(carrier.getMap()),
};

const CAUSES_MAX = 8;

/**
 * What reading a stream of requests throws when the caller vanished in the middle of it: nothing is wrong on this side. As the cause of
 * another error it may also come from a stream of our own; then it counts only when the caller is gone.
 */
function isCutShort(error: unknown, isCallerGone: boolean): boolean {
  let at = error;
  for (let depth = 0; at instanceof Error && depth < CAUSES_MAX; depth++) {
    if ('code' in at && at.code === 'ERR_STREAM_PREMATURE_CLOSE') return depth === 0 || isCallerGone;
    at = at.cause;
  }
  return false;
}

/** Runs `act` under a server span that continues the caller's trace. */
async function traced<T>(call: AnyCall, act: () => Promise<T>): Promise<T> {
  const parent = propagation.extract(context.active(), call.metadata, getter);
  const path = call.getPath();
  return trace.getTracer('rpc').startActiveSpan(path, { kind: SpanKind.SERVER }, parent, async (span: Span) => {
    try {
      return await act();
    } catch (thrown) {
      const error = isCutShort(thrown, call.cancelled)
        ? new StorageError('cancelled', 'the caller went away', { cause: thrown })
        : thrown;
      span.setStatus({ code: SpanStatusCode.ERROR, message: errorText(error) });
      if (errorKind(error) === 'internal') log.error({ err: error, path }, 'rpc failed');
      else log.debug({ kind: errorKind(error), reason: errorText(error), path }, 'rpc refused');
      throw error;
    } finally {
      span.end();
    }
  });
}

export function unary<Req, Res>(
  act: (request: Req, call: CallContext) => Promise<Res>,
): grpc.handleUnaryCall<Req, Res> {
  return (call, callback) => {
    traced(call, () => act(call.request, contextOf(call))).then(
      (response) => callback(null, response),
      (error: unknown) => callback(toGrpcStatus(error)),
    );
  };
}

/** Resolves when the stream can take more, or when it is over. */
export function writable(stream: {
  once(event: 'drain' | 'close' | 'error' | 'cancelled', listener: () => void): unknown;
  off(event: 'drain' | 'close' | 'error' | 'cancelled', listener: () => void): unknown;
}): Promise<void> {
  const events = ['drain', 'close', 'error', 'cancelled'] as const;
  return new Promise((resolve) => {
    const done = () => {
      for (const event of events) stream.off(event, done);
      resolve();
    };
    for (const event of events) stream.once(event, done);
  });
}

/** Writes to a server stream with backpressure: awaits while the caller is slow. Throws `cancelled` once the caller is gone. */
export class ResponseWriter<Res> {
  private readonly call: grpc.ServerWritableStream<unknown, Res> | grpc.ServerDuplexStream<unknown, Res>;

  constructor(call: grpc.ServerWritableStream<unknown, Res> | grpc.ServerDuplexStream<unknown, Res>) {
    this.call = call;
  }

  async write(message: Res): Promise<void> {
    if (this.call.cancelled || this.call.destroyed) throw new StorageError('cancelled', 'the caller went away');
    if (!this.call.write(message)) await writable(this.call);
  }

  /** Writes without waiting; false = the caller is slow, await `drained` before more. */
  tryWrite(message: Res): boolean {
    if (this.call.cancelled || this.call.destroyed) return false;
    return this.call.write(message);
  }

  drained(): Promise<void> {
    return this.call.writableNeedDrain ? writable(this.call) : Promise.resolve();
  }
}

type EndableCall<Res> = AnyCall & {
  end(): void;
  emit(event: 'error', error: unknown): boolean;
  on(event: 'error', listener: (error: Error) => void): unknown;
} & Pick<grpc.ServerWritableStream<unknown, Res>, 'destroyed'>;

function finish<Res>(call: EndableCall<Res>, running: Promise<void>): void {
  running.then(
    () => call.end(),
    (error: unknown) => {
      if (!call.cancelled) call.emit('error', toGrpcStatus(error));
    },
  );
}

export function serverStream<Req, Res>(
  act: (request: Req, writer: ResponseWriter<Res>, call: CallContext) => Promise<void>,
): grpc.handleServerStreamingCall<Req, Res> {
  return (call) => {
    const running = traced(call, () => act(call.request, new ResponseWriter(call), contextOf(call)));
    finish(call as unknown as EndableCall<Res>, running);
  };
}

export function clientStream<Req, Res>(
  act: (requests: AsyncIterable<Req>, call: CallContext) => Promise<Res>,
): grpc.handleClientStreamingCall<Req, Res> {
  return (call, callback) => {
    traced(call, () => act(call as AsyncIterable<Req>, contextOf(call))).then(
      (response) => callback(null, response),
      (error: unknown) => callback(toGrpcStatus(error)),
    );
  };
}

export function bidi<Req, Res>(
  act: (requests: AsyncIterable<Req>, writer: ResponseWriter<Res>, call: CallContext) => Promise<void>,
): grpc.handleBidiStreamingCall<Req, Res> {
  return (call) => {
    const running = traced(call, () => act(call as AsyncIterable<Req>, new ResponseWriter(call), contextOf(call)));
    finish(call as unknown as EndableCall<Res>, running);
  };
}
