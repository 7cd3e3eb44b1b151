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
import { fromGrpcError } from './error-map.js';
import { MESSAGE_BYTES_MAX } from './server.js';

export const DEADLINE_MS = 10_000;

/** The window is what lets a stream of WAL or pages run at full speed; the default is 64 KiB. */
export const CLIENT_OPTIONS: ChannelOptions = {
  'grpc-node.flow_control_window': 4 << 20,
  'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
  'grpc.max_send_message_length': MESSAGE_BYTES_MAX,
  'grpc.enable_retries': 0,
  'grpc.enable_channelz': 0,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 2_000,
  'grpc.keepalive_time_ms': 20_000,
  'grpc.keepalive_timeout_ms': 10_000,
  // Own channels, so that closing one client never touches another.
  'grpc.use_local_subchannel_pool': 1,
};

type ClientConstructor<C extends Client> = new (
  address: string,
  credentials: ChannelCredentials,
  options?: Partial<ChannelOptions>,
) => C;

/** `addr` is host:port. Connects lazily; close it when done. */
export function createClient<C extends Client>(Constructor: ClientConstructor<C>, addr: string): C {
  return new Constructor(addr, credentials.createInsecure(), CLIENT_OPTIONS);
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
