/** Puts the table of routes, and its OpenAPI document, on the HTTP server. */
import type { FastifyInstance } from 'fastify';
import type { Compute } from '../compute.js';
import { openApi } from './openapi.js';
import { handlerOf, ROUTES } from './routes.js';

export function addRoutes(server: FastifyInstance, compute: Compute): void {
  for (const entry of ROUTES) {
    server.route({ method: entry.method, url: entry.path, handler: handlerOf(entry, compute) });
  }
  server.get('/openapi.json', () => openApi(ROUTES));
}
