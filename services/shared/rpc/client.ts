/** Clients: one set of channel options, unary calls as promises with deadlines, errors as StorageError, the trace carried along. */
import { context, propagation } from '@opentelemetry/api';
import { credentials, Metadata } from '@grpc/grpc-js';
import type {
  CallOptions,
  ChannelCredentials,
  ChannelOptions,
  Client,
  ClientUnaryCall,
  ServiceError,
} from '@grpc/grpc-js';
import { StorageError } from '../core/errors.js';
import { FLOW_WINDOW_BYTES } from './flow-window.js';
import { fromGrpcError } from './error-map.js';
import { KEEPALIVE_OPTIONS, MESSAGE_BYTES_MAX } from './server.js';

export const DEADLINE_MS = 10_000;
/** For a peer on the same continent to answer the first bytes, though it may be busy. */
export const CONNECT_TIMEOUT_MS = 5_000;

export const CLIENT_OPTIONS: ChannelOptions = {
  'grpc-node.flow_control_window': FLOW_WINDOW_BYTES,
  'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
  'grpc.max_send_message_length': MESSAGE_BYTES_MAX,
  'grpc.enable_retries': 0,
  'grpc.enable_channelz': 0,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 2_000,
  ...KEEPALIVE_OPTIONS,
  // Own channels, so that closing one client never touches another.
  'grpc.use_local_subchannel_pool': 1,
};

type ClientConstructor<C extends Client> = new (
  address: string,
  credentials: ChannelCredentials,
  options?: Partial<ChannelOptions>,
) => C;

/**
 * The gRPC library waits without end for a peer that takes the connection and says nothing (a process that is held, a network that
 * swallows what is sent), even when the client was closed meanwhile. So the socket is watched where it is handed over: one on which
 * nothing came in time is destroyed, which is a failed connection like any other.
 */
function impatientCredentials(): ChannelCredentials {
  const plain = credentials.createInsecure();
  const createConnector = plain._createSecureConnector.bind(plain);
  plain._createSecureConnector = (...args) => {
    const connector = createConnector(...args);
    const connect = connector.connect.bind(connector);
    connector.connect = (socket) => {
      const timer = setTimeout(() => {
        if (socket.bytesRead === 0) socket.destroy(new Error(`no answer after ${CONNECT_TIMEOUT_MS} ms`));
      }, CONNECT_TIMEOUT_MS);
      timer.unref();
      socket.once('close', () => clearTimeout(timer));
      return connect(socket);
    };
    return connector;
  };
  return plain;
}

/** `addr` is host:port. Connects lazily; close it when done. */
export function createClient<C extends Client>(Constructor: ClientConstructor<C>, addr: string): C {
  return new Constructor(addr, impatientCredentials(), CLIENT_OPTIONS);
}

/** Metadata that continues the active trace; for opening streams. */
export function traceMetadata(): Metadata {
  const metadata = new Metadata();
  propagation.inject(context.active(), metadata, { set: (carrier, key, value) => carrier.set(key, value) });
  return metadata;
}

export interface UnaryOptions {
  /** Default DEADLINE_MS. */
  readonly deadlineMs?: number;
  readonly signal?: AbortSignal | undefined;
}

type UnaryMethod<Req, Res> = (
  request: Req,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, response: Res) => void,
) => ClientUnaryCall;

/**
 * Calls a unary method: `callUnary(client, client.getStatus, {})`. Rejects with a StorageError; a passed deadline or an unreachable
 * server is `unavailable`, an aborted signal `cancelled`.
 */
export function callUnary<Req, Res>(
  client: Client,
  method: UnaryMethod<Req, Res>,
  request: Req,
  options: UnaryOptions = {},
): Promise<Res> {
  const { signal } = options;
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(new StorageError('cancelled', 'cancelled before the call', { cause: signal.reason }));
      return;
    }
    const deadline = new Date(Date.now() + (options.deadlineMs ?? DEADLINE_MS));
    const call = method.call(client, request, traceMetadata(), { deadline }, (error, response) => {
      signal?.removeEventListener('abort', abort);
      if (error) reject(fromGrpcError(error));
      else resolve(response);
    });
    const abort = () => call.cancel();
    signal?.addEventListener('abort', abort, { once: true });
  });
}
