/** The small HTTP server of every service: /metrics, /healthz (process lives), /readyz (can serve), and the service's own routes. */
import fastify from 'fastify';
import type { FastifyInstance } from 'fastify';
import { errorKind, errorText } from '../core/errors.js';
import type { ErrorKind } from '../core/errors.js';
import { formatAddr, parseAddr } from '../core/addr.js';
import type { Logger } from './log.js';
import type { Metrics } from './metrics.js';

const BODY_BYTES_MAX = 1 << 20;

const STATUS: Record<ErrorKind, number> = {
  invalid: 400,
  'not-found': 404,
  'already-exists': 409,
  precondition: 412,
  unavailable: 503,
  fenced: 409,
  corrupt: 500,
  exhausted: 429,
  cancelled: 499,
  unimplemented: 501,
  internal: 500,
};

export function httpStatus(error: unknown): number {
  const status = (error as { statusCode?: unknown } | null)?.statusCode;
  return typeof status === 'number' ? status : STATUS[errorKind(error)];
}

export interface HttpOptions {
  /** host:port; port 0 = a free one. */
  readonly addr: string;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly ready?: () => boolean;
  readonly routes?: (server: FastifyInstance) => void;
}

export interface HttpServer {
  readonly port: number;
  readonly addr: string;
  close(): Promise<void>;
}

export async function startHttp(options: HttpOptions): Promise<HttpServer> {
  const { host, port } = parseAddr(options.addr);
  const server = fastify({
    bodyLimit: BODY_BYTES_MAX,
    routerOptions: { ignoreTrailingSlash: true },
    forceCloseConnections: true,
  });
  server.setErrorHandler((error, request, reply) => {
    const status = httpStatus(error);
    if (status >= 500)
      options.log.error({ err: error, method: request.method, url: request.url }, 'http request failed');
    void reply.status(status).send({ error: errorText(error), msg: errorText(error) });
  });
  server.get('/healthz', () => ({ status: 'ok' }));
  server.get('/readyz', (_request, reply) => {
    const ready = options.ready?.() ?? true;
    return reply.status(ready ? 200 : 503).send({ ready });
  });
  server.get('/metrics', (request, reply) => {
    reply.hijack();
    options.metrics.handler(request.raw, reply.raw);
  });
  options.routes?.(server);
  await server.listen({ host, port });
  const address = server.server.address();
  const bound = typeof address === 'object' && address !== null ? address.port : port;
  return { port: bound, addr: formatAddr(host, bound), close: () => server.close() };
}
