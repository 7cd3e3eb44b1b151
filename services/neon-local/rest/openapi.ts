/** The OpenAPI document, made from the table of routes. Pure. */
import { z } from 'zod';
import type { Route } from './route.js';
import * as schemas from './schemas.js';

type Json = Record<string, unknown>;

function jsonSchema(schema: z.ZodType, io: 'input' | 'output'): Json {
  const { $schema: _dialect, ...rest } = z.toJSONSchema(schema, {
    io,
    unrepresentable: 'any',
    reused: 'inline',
  }) as Json;
  return rest;
}

/** zod puts named schemas below $defs of each document; OpenAPI has one place for all. */
function hoisted(schema: Json, components: Json): Json {
  const { $defs, ...rest } = schema;
  for (const [name, definition] of Object.entries((($defs as Json) ?? {}) as Record<string, Json>)) {
    components[name] = renamed(definition);
  }
  return renamed(rest) as Json;
}

function renamed(value: unknown): unknown {
  if (typeof value === 'string') return value.replace(/^#\/\$defs\//, '#/components/schemas/');
  if (Array.isArray(value)) return value.map(renamed);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => key !== 'id')
      .map(([key, item]) => [key, renamed(item)]),
  );
}

function named(schema: z.ZodType, components: Json): Json {
  const id = schema.meta()?.id;
  const body = hoisted(jsonSchema(schema, 'output'), components);
  if (id === undefined) return body;
  components[id] = body;
  return { $ref: `#/components/schemas/${id}` };
}

function responseSchema(schema: z.ZodType, components: Json): Json {
  if (schema instanceof z.ZodArray) return { type: 'array', items: named(schema.element as z.ZodType, components) };
  return named(schema, components);
}

function parameters(schema: z.ZodType, where: 'path' | 'query'): Json[] {
  const { properties = {}, required = [] } = jsonSchema(schema, 'input') as {
    properties?: Record<string, Json>;
    required?: string[];
  };
  return Object.entries(properties).map(([name, property]) => ({
    name,
    in: where,
    required: where === 'path' || required.includes(name),
    schema: property,
  }));
}

function operation(route: Route, components: Json): Json {
  const error = {
    description: 'Refused or failed',
    content: { 'application/json': { schema: named(schemas.error, components) } },
  };
  const name = route.path.replace(/[{}]/g, '').replace(/\W+(\w)/g, (_, letter: string) => letter.toUpperCase());
  return {
    operationId: `${route.method.toLowerCase()}${name}`,
    tags: [route.tag],
    summary: route.summary,
    parameters: [...parameters(route.params, 'path'), ...parameters(route.query, 'query')],
    ...(route.body === null
      ? {}
      : {
          requestBody: { required: true, content: { 'application/json': { schema: jsonSchema(route.body, 'input') } } },
        }),
    responses: {
      '200': {
        description: 'Done',
        content: { 'application/json': { schema: responseSchema(route.response, components) } },
      },
      default: error,
    },
  };
}

export function openApiDocument(routes: readonly Route[], version: string): Json {
  const components: Json = {};
  const paths: Record<string, Json> = {};
  for (const route of routes) {
    const operations = (paths[route.path] ??= {});
    operations[route.method.toLowerCase()] = operation(route, components);
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'neon-local',
      version,
      description: 'Serverless Postgres on this machine: storages, Postgres computes, branches, snapshots.',
    },
    paths,
    components: { schemas: components },
  };
}
