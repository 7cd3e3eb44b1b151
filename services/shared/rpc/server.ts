/** One way to build a gRPC server: services, health, reflection, limits, orderly shutdown. */
import { Server, ServerCredentials } from '@grpc/grpc-js';
import type { ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js';
import { StorageError } from '../core/errors.js';
import { formatAddr, parseAddr } from '../core/addr.js';
import type { Logger } from '../runtime/log.js';
import { widenWindow } from './flow-window.js';
import { setRpcLogger } from './handlers.js';
import { Health } from './health.js';
import { addReflection } from './reflection.js';
import { listenShared, type SocketHandler } from './shared-port.js';

/** WAL and page batches stay far below; the default of 4 MiB would be close. */
export const MESSAGE_BYTES_MAX = 64 << 20;

/**
 * A peer that vanished without closing is noticed within 15 s by both sides: whoever waits for it must find another way well before a
 * user's patience ends. Shorter, and a process that is busy for some seconds would be given up.
 */
export const KEEPALIVE_OPTIONS = { 'grpc.keepalive_time_ms': 5_000, 'grpc.keepalive_timeout_ms': 10_000 } as const;

export interface GrpcServerOptions {
  /** host:port; port 0 = a free one. */
  readonly addr: string;
  readonly log: Logger;
  readonly services: ReadonlyArray<readonly [ServiceDefinition, UntypedServiceImplementation]>;
  /** Takes connections on the same port that do not speak HTTP/2. Absent: there is no such protocol. */
  readonly other?: SocketHandler;
}

export interface GrpcServer {
  readonly port: number;
  readonly addr: string;
  /** Health goes to NOT_SERVING, open calls may end within graceMs, then they are cut. */
  shutdown(graceMs: number): Promise<void>;
}

/** "/neon.broker.v1.BrokerService/GetStatus" → "neon.broker.v1.BrokerService". */
function serviceName(definition: ServiceDefinition): string {
  const path = Object.values(definition)[0]?.path ?? '';
  return path.split('/')[1] ?? '';
}

export async function startGrpcServer(options: GrpcServerOptions): Promise<GrpcServer> {
  setRpcLogger(options.log);
  const server = new Server({
    'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
    'grpc.max_send_message_length': MESSAGE_BYTES_MAX,
    'grpc.enable_channelz': 0,
    ...KEEPALIVE_OPTIONS,
    // A second server must fail on a taken port instead of sharing it silently.
    'grpc.so_reuseport': 0,
  });
  widenWindow(server);
  const names = options.services.map(([definition]) => serviceName(definition));
  for (const [definition, implementation] of options.services) server.addService(definition, implementation);
  const health = new Health(['', ...names]);
  health.addTo(server);
  addReflection(server, [...names, 'grpc.health.v1.Health']);
  const { host } = parseAddr(options.addr);
  const shared =
    options.other === undefined ? null : await listenShared({ addr: options.addr, grpc: server, other: options.other });
  const port = shared?.port ?? (await bind(server, options.addr));
  return {
    port,
    addr: formatAddr(host, port),
    shutdown: (graceMs) => {
      shared?.close();
      return shutdown(server, health, graceMs);
    },
  };
}

function bind(server: Server, addr: string): Promise<number> {
  return new Promise<number>((resolve, reject) => {
    server.bindAsync(addr, ServerCredentials.createInsecure(), (error, at) => {
      if (error) reject(new StorageError('precondition', `could not listen on ${addr}`, { cause: error }));
      else resolve(at);
    });
  });
}

async function shutdown(server: Server, health: Health, graceMs: number): Promise<void> {
  health.stopServing();
  const graceful = new Promise<void>((resolve) => {
    server.tryShutdown(() => resolve());
  });
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, graceMs);
  });
  await Promise.race([graceful, limit]);
  clearTimeout(timer);
  server.forceShutdown();
}
