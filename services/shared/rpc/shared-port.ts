/**
 * Lets one port serve gRPC and another protocol: each connection is accepted here and handed on by its first byte. A gRPC client
 * begins with the HTTP/2 preface ("PRI * HTTP/2.0"); a Postgres client with the length of its first packet, which is below 2^24, so that
 * its first byte is zero. Handing on costs nothing later: the socket itself changes hands, no bytes are copied between two.
 */
import net from 'node:net';
import type { Server } from '@grpc/grpc-js';
import { ServerCredentials } from '@grpc/grpc-js';
import { parseAddr } from '../core/addr.js';
import { StorageError } from '../core/errors.js';

/** As Postgres' authentication_timeout: for a peer that connects and says nothing. */
const FIRST_BYTE_TIMEOUT_MS = 60_000;
const POSTGRES_FIRST_BYTE = 0;

/** Takes over a socket of which nothing has been read yet, as far as it can see. */
export type SocketHandler = (socket: net.Socket) => void;

export interface SharedPort {
  readonly port: number;
  /** No connections are taken any more; those handed on are their takers' business. */
  close(): void;
}

export async function listenShared(options: {
  /** host:port; port 0 = a free one. */
  readonly addr: string;
  readonly grpc: Server;
  /** Connections that do not speak HTTP/2. */
  readonly other: SocketHandler;
}): Promise<SharedPort> {
  const { host, port } = parseAddr(options.addr);
  const injector = options.grpc.createConnectionInjector(ServerCredentials.createInsecure());
  const waiting = new Set<net.Socket>();
  const server = net.createServer({ noDelay: true, keepAlive: true }, (socket) => {
    waiting.add(socket);
    const drop = (): void => void socket.destroy();
    socket.setTimeout(FIRST_BYTE_TIMEOUT_MS, drop);
    socket.once('error', drop);
    socket.once('close', () => waiting.delete(socket));
    socket.once('readable', () => {
      waiting.delete(socket);
      const first = socket.read() as Buffer | null;
      if (first === null) return drop();
      socket.unshift(first);
      socket.setTimeout(0);
      socket.off('error', drop);
      if (first[0] === POSTGRES_FIRST_BYTE) options.other(socket);
      else injector.injectConnection(socket);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) =>
      reject(new StorageError('precondition', `could not listen on ${options.addr}`, { cause })),
    );
    server.listen(port, host, resolve);
  });
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : port,
    close: () => {
      server.close();
      for (const socket of waiting) socket.destroy();
    },
  };
}
