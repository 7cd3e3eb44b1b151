/** The OpenAPI document of the HTTP routes, made from their table. */
import { z } from 'zod';
import { VERSION } from '#shared/runtime/version.js';
import type { Route } from './routes.js';

/** Served by every service; they stand in no table. */
const COMMON = [
  { path: '/metrics', summary: 'Metrics for Prometheus', type: 'text/plain' },
  { path: '/healthz', summary: '200 while the process lives', type: 'application/json' },
  { path: '/readyz', summary: '200 when queries are answered, else 503', type: 'application/json' },
];

const error = z.object({ error: z.string(), msg: z.string() });

/** zod's own marks say nothing to readers of OpenAPI. */
function schemaOf(schema: z.ZodType, io: 'input' | 'output'): Record<string, unknown> {
  const { $schema: _, '~standard': _standard, ...rest } = z.toJSONSchema(schema, { io }) as Record<string, unknown>;
  return rest;
}

function parametersOf(query: z.ZodObject | undefined): object[] {
  if (query === undefined) return [];
  const { properties = {}, required = [] } = schemaOf(query, 'input') as {
    properties?: Record<string, object>;
    required?: string[];
  };
  return Object.entries(properties).map(([name, schema]) => ({
    name,
    in: 'query',
    required: required.includes(name),
    schema,
  }));
}

function operationOf(route: Route): object {
  const { answer } = route;
  const content =
    typeof answer === 'string'
      ? { [answer]: { schema: { type: 'string' } } }
      : { 'application/json': { schema: schemaOf(answer, 'output') } };
  const failure = { 'application/json': { schema: schemaOf(error, 'output') } };
  const responses: Record<string, object> = { 200: { description: 'Done', content } };
  for (const [status, description] of Object.entries(route.statuses)) {
    responses[status] = { description, content: Number(status) < 300 ? content : failure };
  }
  if (route.query !== undefined || route.body !== undefined) {
    responses[400] ??= { description: 'The request is wrong', content: failure };
  }
  return {
    summary: route.summary,
    operationId: `${route.method.toLowerCase()}${route.path.replace(/[/_.]+(\w)/g, (_, letter: string) => letter.toUpperCase())}`,
    parameters: parametersOf(route.query),
    ...(route.body === undefined
      ? {}
      : {
          requestBody: { required: true, content: { 'application/json': { schema: schemaOf(route.body, 'input') } } },
        }),
    responses,
  };
}

export function openApi(routes: readonly Route[]): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const route of routes) (paths[route.path] ??= {})[route.method.toLowerCase()] = operationOf(route);
  for (const { path, summary, type } of COMMON) {
    const responses = { 200: { description: 'Done', content: { [type]: { schema: {} } } } };
    paths[path] = { get: { summary, parameters: [], responses } };
  }
  return {
    openapi: '3.1.0',
    info: { title: 'compute_ctl', version: VERSION, description: 'One compute: its life, its databases and roles.' },
    paths,
  };
}
