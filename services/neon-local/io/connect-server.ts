/**
 * The connect port: one Postgres port for all branches. A client says which branch it means (core/connect-target.ts); a compute is
 * started when none runs, and from then on bytes go through unchanged in both directions. TLS ends here.
 *
 *   opening → routed → waiting for the compute → spliced → closed
 *
 * Bounds: connections in all, connections that wait for computes, time for the opening, time for a start.
 */
import { connect, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import type { SecureContext } from 'node:tls';
import { errorKind, errorText, StorageError } from '#shared/core/errors.js';
import { errorResponse } from '#shared/postgres/wire/backend-messages.js';
import type { Logger } from '#shared/runtime/log.js';
import { BackendWatch } from '../core/backend-watch.js';
import type { Catalog } from '../core/catalog-schema.js';
import { routeStartup, startupPacket } from '../core/connect-target.js';
import type { Routed, Target } from '../core/connect-target.js';
import { readOpening } from './connect-startup.js';
import type { Opening } from './connect-startup.js';

/** Of all clients. Each costs two sockets and their buffers. */
const CONNECTIONS_MAX = 5_000;
/** Clients that wait for a start; more than that is a storm that would only time out. */
const WAITING_MAX = 1_000;
/** A client that says nothing, as Postgres' authentication_timeout. */
const OPENING_LIMIT_MS = 30_000;
/** Longer than any healthy start; drivers give up about then. */
const START_LIMIT_MS = 60_000;
/** A compute may die between its start and our connection to it. */
const ATTEMPTS_MAX = 3;

export interface RunningCompute {
  readonly name: string;
  readonly pgPort: number;
}

export interface ConnectOptions {
  readonly host: string;
  readonly port: number;
  readonly secureContext: SecureContext;
  readonly log: Logger;
  readonly catalog: () => Catalog;
  /** Resolves when the compute of the target takes connections. Called for each connection: starts must be shared. */
  readonly ensureRunning: (target: Target) => Promise<RunningCompute>;
  /** Bytes went to or from a compute, or a client wants it. */
  readonly onActivity: (computeName: string) => void;
}

const SQL_STATE: Readonly<Record<string, string>> = {
  'not-found': '3D000',
  invalid: '08P01',
  exhausted: '53300',
  unavailable: '57P03',
  precondition: '55000',
};

/** Why a connection is refused, as Postgres would say it. */
function refusal(error: unknown): Buffer {
  return errorResponse('FATAL', SQL_STATE[errorKind(error)] ?? 'XX000', errorText(error));
}

function withLimit<T>(promise: Promise<T>, limitMs: number, late: () => StorageError): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(late()), limitMs);
  });
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}

function openBackend(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, noDelay: true });
    const fail = (cause: Error) =>
      reject(new StorageError('unavailable', 'the compute does not take connections', { cause }));
    socket.once('error', fail);
    socket.once('connect', () => {
      socket.off('error', fail);
      resolve(socket);
    });
  });
}

export class ConnectServer {
  private readonly options: ConnectOptions;
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();
  /** Where a cancel request goes: port of the compute by pid and key. */
  private readonly cancelPorts = new Map<string, number>();
  private waitingCount = 0;

  private constructor(options: ConnectOptions) {
    this.options = options;
    this.server = createServer({ noDelay: true, keepAlive: true, pauseOnConnect: false }, (socket) => {
      void this.take(socket);
    });
    // Beyond that, connections are closed without a word: saying why would cost what the limit saves.
    this.server.maxConnections = CONNECTIONS_MAX;
  }

  static async start(options: ConnectOptions): Promise<ConnectServer> {
    const connectServer = new ConnectServer(options);
    await new Promise<void>((resolve, reject) => {
      connectServer.server.once('error', (cause) => {
        reject(new StorageError('precondition', `could not listen on port ${options.port}`, { cause }));
      });
      connectServer.server.listen({ host: options.host, port: options.port, exclusive: true }, resolve);
    });
    return connectServer;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  get connectionCount(): number {
    return this.sockets.size;
  }

  private async take(raw: Socket): Promise<void> {
    this.sockets.add(raw);
    raw.on('close', () => this.sockets.delete(raw));
    // A client that vanishes is no failure of ours.
    raw.on('error', () => undefined);
    let socket = raw;
    try {
      const late = () => new StorageError('unavailable', 'the client did not say what it wants');
      const opening = await withLimit(readOpening(raw, this.options.secureContext), OPENING_LIMIT_MS, late);
      if (opening.kind === 'gone') return void raw.destroy();
      socket = opening.socket;
      socket.on('error', () => undefined);
      if (opening.kind === 'cancel') return await this.cancel(opening.socket, opening.packet, opening.key);
      await this.serve(opening);
    } catch (error) {
      this.options.log.info({ reason: errorText(error) }, 'refused a connection');
      if (!socket.destroyed) socket.end(refusal(error));
      // A client that does not read the reason must not hold the socket.
      socket.setTimeout(OPENING_LIMIT_MS, () => socket.destroy());
    }
  }

  private async cancel(socket: Socket, packet: Buffer, key: string): Promise<void> {
    const port = this.cancelPorts.get(key);
    if (port !== undefined) {
      const backend = await openBackend(port).catch(() => null);
      if (backend !== null) {
        backend.on('error', () => undefined);
        await new Promise<void>((resolve) => {
          // Postgres closes when the signal is sent: only then may the client believe so.
          backend.once('close', () => resolve());
          backend.resume();
          backend.end(packet);
        });
      }
    }
    socket.end();
  }

  private async serve(opening: Opening & { kind: 'startup' }): Promise<void> {
    const { socket } = opening;
    const routed = routeStartup(this.options.catalog(), opening.parameters, opening.serverName);
    const backend = await this.waitForCompute(socket, routed);
    if (backend === null) return;
    this.splice(socket, backend.socket, backend.compute);
    backend.socket.write(startupPacket(routed.parameters, opening.minorVersion));
  }

  /** Null when the client left meanwhile. */
  private async waitForCompute(
    socket: Socket,
    { target }: Routed,
  ): Promise<{ socket: Socket; compute: RunningCompute } | null> {
    if (this.waitingCount >= WAITING_MAX) {
      throw new StorageError('exhausted', `${WAITING_MAX} connections wait for computes already; try again later`);
    }
    this.waitingCount += 1;
    try {
      for (let attempt = 1; ; attempt++) {
        const late = () =>
          new StorageError('unavailable', `the compute did not start within ${START_LIMIT_MS / 1000} s`);
        const compute = await withLimit(this.options.ensureRunning(target), START_LIMIT_MS, late);
        if (socket.destroyed) return null;
        this.options.onActivity(compute.name);
        try {
          return { socket: await openBackend(compute.pgPort), compute };
        } catch (error) {
          if (attempt >= ATTEMPTS_MAX) throw error;
        }
      }
    } finally {
      this.waitingCount -= 1;
    }
  }

  private splice(client: Socket, backend: Socket, compute: RunningCompute): void {
    const { onActivity } = this.options;
    const watch = new BackendWatch();
    this.sockets.add(backend);
    backend.on('error', () => undefined);
    const active = () => onActivity(compute.name);
    const look = (chunk: Buffer) => {
      watch.feed(chunk);
      if (!watch.isDone) return;
      backend.off('data', look);
      if (watch.cancelKey !== null) this.cancelPorts.set(watch.cancelKey, compute.pgPort);
    };
    backend.on('data', look);
    backend.on('data', active);
    client.on('data', active);
    client.pipe(backend);
    backend.pipe(client);
    backend.on('close', () => {
      this.sockets.delete(backend);
      if (watch.cancelKey !== null) this.cancelPorts.delete(watch.cancelKey);
      client.end();
    });
    client.on('close', () => backend.destroy());
  }

  /** Takes no more connections and cuts those that are open. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    for (const socket of this.sockets) socket.destroy();
    await closed;
  }
}
