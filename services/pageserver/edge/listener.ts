/** The libpq port: sockets in, wire sessions on top, one command each. Owns the set of open connections. */
import net from 'node:net';
import { errorText, StorageError } from '#shared/core/errors.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { WireSession } from '#shared/postgres/wire/server-session.js';
import { formatAddr, parseAddr } from '#shared/core/addr.js';
import type { Logger } from '#shared/runtime/log.js';
import { VERSION } from '#shared/runtime/version.js';
import { parseCommand } from './command.js';
import type { PageReader } from './page-reader.js';
import type { PagestreamOptions } from './pagestream.js';
import { Pagestream } from './pagestream.js';
import type { PagestreamStats } from './pagestream-stats.js';

/** A pagestream request has 42 bytes; queries carry two ids. */
const MESSAGE_BYTES_MAX = 8192;
/** As Postgres' authentication_timeout. */
const STARTUP_TIMEOUT_MS = 60_000;
/** For the last words to reach a client that does not read. */
const CLOSE_TIMEOUT_MS = 5_000;
/** About two computes of 1000 connections and room; each idle one costs some 10 kB. */
const CONNECTIONS_MAX = 10_000;
/** The write buffer holds one burst of answers: 32 pages for one system call. */
const SOCKET_OPTIONS = { noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000, highWaterMark: 256 * 1024 };
const PARAMETERS = {
  server_version: `15.0 (neon-ts page server ${VERSION})`,
  server_encoding: 'UTF8',
  client_encoding: 'UTF8',
  standard_conforming_strings: 'on',
  integer_datetimes: 'on',
  DateStyle: 'ISO, MDY',
};

export interface ListenerOptions {
  /** host:port; port 0 = a free one. */
  readonly addr: string;
  readonly log: Logger;
  readonly stats: PagestreamStats;
  /** StorageError `not-found` when there is no such timeline. */
  readonly findTimeline: (ttid: TenantTimelineId) => PageReader;
  readonly pagestream: Omit<PagestreamOptions, 'version'>;
}

export interface Listener {
  readonly port: number;
  readonly addr: string;
  /** Refuses new connections and closes the open ones, saying why. */
  close(): Promise<void>;
}

export async function startListener(options: ListenerOptions): Promise<Listener> {
  const { host, port } = parseAddr(options.addr);
  const sessions = new Map<net.Socket, WireSession>();
  const server = net.createServer(SOCKET_OPTIONS, (socket) => accept(socket, sessions, options));
  server.maxConnections = CONNECTIONS_MAX;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => {
      reject(new StorageError('precondition', `could not listen on ${options.addr}`, { cause }));
    });
    server.listen(port, host, resolve);
  });
  const address = server.address();
  const bound = typeof address === 'object' && address !== null ? address.port : port;
  return {
    port: bound,
    addr: formatAddr(host, bound),
    close: () => close(server, sessions),
  };
}

function accept(socket: net.Socket, sessions: Map<net.Socket, WireSession>, options: ListenerOptions): void {
  const { log, stats } = options;
  const session = new WireSession(socket, {
    messageBytesMax: MESSAGE_BYTES_MAX,
    parameters: PARAMETERS,
    query: (text, at) => runQuery(text, at, options),
  });
  const startupTimer = setTimeout(() => {
    if (!session.isAuthenticated) socket.destroy();
  }, STARTUP_TIMEOUT_MS);
  stats.connections++;
  sessions.set(socket, session);
  socket.on('data', (chunk) => session.feed(chunk));
  socket.on('drain', () => session.drained());
  // A session that ended itself leaves a socket that may be paused and a client that may never close.
  socket.on('finish', () => {
    socket.resume();
    socket.setTimeout(CLOSE_TIMEOUT_MS, () => socket.destroy());
  });
  socket.on('error', (error) => log.debug({ reason: errorText(error) }, 'client connection failed'));
  socket.on('close', () => {
    clearTimeout(startupTimer);
    sessions.delete(socket);
    stats.connections--;
    session.closed();
  });
}

function runQuery(text: string, session: WireSession, options: ListenerOptions): void {
  const command = parseCommand(text);
  switch (command.kind) {
    case 'set':
      session.complete('SET');
      break;
    case 'show':
      session.complete('SHOW', [command.name], [['']]);
      break;
    case 'pagestream': {
      const reader = options.findTimeline(command.ttid);
      const stream = { ...options.pagestream, version: command.version };
      session.startCopyBoth(new Pagestream(session, reader, stream, options.stats));
      break;
    }
  }
}

function close(server: net.Server, sessions: Map<net.Socket, WireSession>): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      for (const socket of sessions.keys()) socket.destroy();
    }, CLOSE_TIMEOUT_MS);
    server.close(() => {
      clearTimeout(timer);
      resolve();
    });
    for (const session of sessions.values())
      session.abort(new StorageError('cancelled', 'the page server is shutting down'));
  });
}
