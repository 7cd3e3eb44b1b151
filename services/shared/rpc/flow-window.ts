/**
 * How much a gRPC server takes before it has to say that more may come. HTTP/2 begins with 64 KiB a connection and a stream, which is half
 * of one append of WAL: each would wait for the receiver twice. The library has an option for that on clients only.
 *
 * This reaches into the library's own fields; flow-window.test.ts says when they have changed.
 */
import type { Server } from '@grpc/grpc-js';
import type { Http2Server, ServerHttp2Session } from 'node:http2';

/** On both sides. Enough for a stream of WAL or pages at full speed. */
export const FLOW_WINDOW_BYTES = 4 << 20;

interface ServerParts {
  commonServerOptions?: { settings?: Record<string, unknown> };
  createHttp2Server?: (credentials: unknown) => Http2Server;
}

/** Before the server listens. A library that has no such fields keeps its small windows. */
export function widenWindow(server: Server): void {
  const parts = server as unknown as ServerParts;
  const { commonServerOptions: options, createHttp2Server: create } = parts;
  if (options === undefined || create === undefined) return;
  options.settings = { ...options.settings, initialWindowSize: FLOW_WINDOW_BYTES };
  parts.createHttp2Server = (credentials) => {
    const http2 = create.call(server, credentials);
    http2.on('session', (session: ServerHttp2Session) => session.setLocalWindowSize(FLOW_WINDOW_BYTES));
    return http2;
  };
}
