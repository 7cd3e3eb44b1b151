/**
 * REST on http://localhost:3000. There is no authentication: it listens on loopback only, and takes no request that a page in a browser
 * could make behind its user's back (another Host header, or a body that is not JSON).
 */
import fastify from 'fastify';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { parseAddr } from '#shared/core/addr.js';
import { errorKind, errorText, StorageError } from '#shared/core/errors.js';
import { httpStatus } from '#shared/runtime/http.js';
import type { Logger } from '#shared/runtime/log.js';
import { VERSION } from '#shared/runtime/version.js';
import type { z } from 'zod';
import type { ControlHandlers } from '../rpc/handlers.js';
import { toJson } from './json.js';
import { openApiDocument } from './openapi.js';
import { ROUTES } from './routes.js';
import type { Route } from './route.js';

const BODY_BYTES_MAX = 1 << 20;
/** Names of branches may have "/", and are long when every character is escaped. */
const PARAM_LENGTH_MAX = 300;
const LOCAL_HOST = /^(localhost|127\.0\.0\.1|\[::1\])(:\d+)?$/i;

export interface RestServer {
  readonly port: number;
  close(): Promise<void>;
}

export interface RestOptions {
  /** host:port; port 0 = a free one. */
  readonly addr: string;
  readonly log: Logger;
  readonly handlers: ControlHandlers;
}

function checked(schema: z.ZodType, value: unknown, where: string): unknown {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((issue) => `${[where, ...issue.path].join('.')}: ${issue.message}`);
  throw new StorageError('invalid', `${problems.join('; ')} (see /openapi.json)`);
}

async function answer(route: Route, handlers: ControlHandlers, request: FastifyRequest, reply: FastifyReply) {
  const input = {
    params: checked(route.params, request.params, 'path'),
    query: checked(route.query, request.query, 'query'),
    body: route.body === null ? {} : checked(route.body, request.body ?? {}, 'body'),
  };
  return reply.send(toJson(await route.run(handlers, input)));
}

function refuseStrangers(server: FastifyInstance): void {
  server.removeContentTypeParser('text/plain');
  server.addHook('onRequest', (request, _reply, done) => {
    if (LOCAL_HOST.test(request.headers.host ?? '')) done();
    else done(Object.assign(new Error('only requests to localhost are answered'), { statusCode: 403 }));
  });
}

export async function startRest(options: RestOptions): Promise<RestServer> {
  const { host, port } = parseAddr(options.addr);
  const server = fastify({
    bodyLimit: BODY_BYTES_MAX,
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: PARAM_LENGTH_MAX },
    forceCloseConnections: true,
  });
  refuseStrangers(server);
  server.setErrorHandler((error, request, reply) => {
    const status = httpStatus(error);
    if (status >= 500 && errorKind(error) === 'internal') {
      options.log.error({ err: error, method: request.method, url: request.url }, 'request failed');
    }
    const kind = error instanceof StorageError || status >= 500 ? errorKind(error) : 'invalid';
    void reply.status(status).send({ error: errorText(error), kind });
  });
  server.setNotFoundHandler((request, reply) => {
    const text = `${request.method} ${request.url.split('?')[0]} does not exist; GET /openapi.json lists what does`;
    void reply.status(404).send({ error: text, kind: 'not-found' });
  });
  const document = openApiDocument(ROUTES, VERSION);
  server.get('/openapi.json', () => document);
  server.get('/healthz', () => ({ status: 'ok' }));
  for (const route of ROUTES) {
    const url = route.path.replace(/\{(\w+)\}/g, ':$1');
    server.route({
      method: route.method,
      url,
      handler: (request, reply) => answer(route, options.handlers, request, reply),
    });
  }
  await server.listen({ host, port });
  const address = server.server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : port,
    close: () => server.close(),
  };
}
