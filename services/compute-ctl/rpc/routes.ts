/**
 * The HTTP routes of a compute as a table: what each takes and answers, for the server and for the OpenAPI document alike. Names and
 * shapes are those that control planes and probes of Neon's compute_ctl expect.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { StorageError } from '#shared/core/errors.js';
import { formatLsn, INVALID_LSN } from '#shared/core/lsn.js';
import type { Compute } from '../compute.js';
import { PHASES } from '../core/state-machine.js';
import { checkWritability, grantOnSchema, installedExtensions, installExtension } from '../io/inspection.js';
import { listDatabasesAndRoles, topStatements } from '../io/inspection.js';
import { dumpSchema } from '../io/schema-dump.js';

export interface Answer {
  readonly status: number;
  readonly body: unknown;
  readonly type?: string;
}

export interface Route {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly summary: string;
  readonly query?: z.ZodObject;
  readonly body?: z.ZodType;
  /** Of the answer that is not an error: a schema of its JSON, or the media type of its text. */
  readonly answer: z.ZodType | string;
  /** Statuses besides 200, and what they mean. */
  readonly statuses: Readonly<Record<number, string>>;
  act(compute: Compute, input: { query: unknown; body: unknown }): Promise<Answer | object>;
}

/** Keeps the types of what a route takes together with its schemas. */
function route<Q extends z.ZodObject, B extends z.ZodType>(
  spec: Omit<Route, 'act' | 'query' | 'body' | 'statuses'> & {
    query?: Q;
    body?: B;
    statuses?: Route['statuses'];
    act(compute: Compute, input: { query: z.infer<Q>; body: z.infer<B> }): Promise<Answer | object> | object;
  },
): Route {
  const { act, statuses, ...rest } = spec;
  return {
    ...rest,
    statuses: statuses ?? {},
    act: async (compute, input) => act(compute, input as { query: z.infer<Q>; body: z.infer<B> }),
  };
}

const NOT_RUNNING = { 412: 'The compute is not in a state that allows this' };
const name = z.string().min(1).max(63);
const lsn = z.string().nullable().describe('Position in WAL, such as 16/B374D848; null: none was written');

const statusSchema = z.object({
  start_time: z.string(),
  tenant: z.string().nullable(),
  timeline: z.string().nullable(),
  status: z.enum(PHASES),
  last_active: z.string().nullable().describe('When somebody last used the database; null: nobody yet'),
  error: z.string().nullable(),
  pending_restart: z.array(z.string()).describe('Settings that were changed and need a new start'),
});
export type StatusJson = z.infer<typeof statusSchema>;

export function statusJson(compute: Compute): StatusJson {
  const status = compute.status();
  return {
    start_time: new Date(status.startTimeMs).toISOString(),
    tenant: status.ttid?.tenantId ?? null,
    timeline: status.ttid?.timelineId ?? null,
    status: status.phase,
    last_active: status.lastActiveMs === null ? null : new Date(status.lastActiveMs).toISOString(),
    error: status.error === '' ? null : status.error,
    pending_restart: [...status.pendingRestart],
  };
}

const metricsSchema = z.object({
  wait_for_spec_ms: z.int(),
  sync_safekeepers_ms: z.int(),
  basebackup_ms: z.int(),
  basebackup_bytes: z.int(),
  start_postgres_ms: z.int(),
  config_ms: z.int(),
  total_startup_ms: z.int(),
});

function metricsJson(compute: Compute): z.infer<typeof metricsSchema> {
  const { timings } = compute.status();
  return {
    wait_for_spec_ms: Math.round(timings.waitForSpecMs),
    sync_safekeepers_ms: Math.round(timings.syncSafekeepersMs),
    basebackup_ms: Math.round(timings.basebackupMs),
    basebackup_bytes: timings.basebackupBytes,
    start_postgres_ms: Math.round(timings.startPostgresMs),
    config_ms: Math.round(timings.configMs),
    total_startup_ms: Math.round(timings.totalMs),
  };
}

const lifeRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/status',
    summary: 'What the compute is doing',
    answer: statusSchema,
    act: (compute) => statusJson(compute),
  }),
  route({
    method: 'GET',
    path: '/metrics.json',
    summary: 'How long the steps of the start took',
    answer: metricsSchema,
    act: (compute) => metricsJson(compute),
  }),
  route({
    method: 'GET',
    path: '/last_activity',
    summary: 'When the compute was last used, for a decision to suspend it',
    answer: z.object({ last_active: z.string().nullable(), idle_ms: z.number().nullable() }),
    act: (compute) => {
      const { lastActiveMs } = compute.status();
      const last_active = lastActiveMs === null ? null : new Date(lastActiveMs).toISOString();
      return { last_active, idle_ms: lastActiveMs === null ? null : Math.max(0, Date.now() - lastActiveMs) };
    },
  }),
  route({
    method: 'POST',
    path: '/configure',
    summary: 'Makes the compute what a spec says; answers when it is, or when that failed',
    body: z.object({
      spec: z.record(z.string(), z.unknown()),
      compute_ctl_config: z.record(z.string(), z.unknown()).nullish(),
    }),
    answer: statusSchema,
    statuses: { 400: 'The spec is wrong; nothing has changed', ...NOT_RUNNING, 500: 'The spec could not be applied' },
    act: async (compute, { body }) => {
      const { done } = compute.configure(JSON.stringify(body.spec));
      try {
        await done;
      } catch (error) {
        throw new StorageError('internal', 'the compute could not be configured', { cause: error });
      }
      return statusJson(compute);
    },
  }),
  route({
    method: 'POST',
    path: '/refresh_configuration',
    summary: 'Pulls the spec anew from where the compute has it, and applies it in the background',
    answer: statusSchema,
    statuses: NOT_RUNNING,
    act: (compute) => {
      compute.refresh();
      return statusJson(compute);
    },
  }),
  route({
    method: 'POST',
    path: '/terminate',
    summary: 'Stops Postgres with all its WAL committed, and ends the process',
    query: z.object({ mode: z.enum(['fast', 'immediate']).default('fast') }),
    answer: z.object({ lsn }),
    statuses: { 201: 'It had ended already', ...NOT_RUNNING },
    act: async (compute, { query }) => {
      const had = compute.status().phase === 'terminated';
      const flushLsn = await compute.terminate(query.mode);
      return { status: had ? 201 : 200, body: { lsn: flushLsn === INVALID_LSN ? null : formatLsn(flushLsn) } };
    },
  }),
];

const catalogRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/dbs_and_roles',
    summary: 'Databases and roles as they are',
    answer: z.object({
      roles: z.array(
        z.object({ name, options: z.array(z.object({ name: z.string(), value: z.string().nullable() })) }),
      ),
      databases: z.array(z.object({ name, owner: name, restrict_conn: z.boolean(), invalid: z.boolean() })),
    }),
    statuses: NOT_RUNNING,
    act: (compute) => listDatabasesAndRoles(compute.server()),
  }),
  route({
    method: 'GET',
    path: '/database_schema',
    summary: 'The definition of a database as SQL, as pg_dump --schema-only makes it',
    query: z.object({ database: z.string().min(1) }),
    answer: 'text/plain',
    statuses: { 404: 'There is no such database', ...NOT_RUNNING },
    act: async (compute, { query }) => {
      const pieces: Buffer[] = [];
      for await (const piece of dumpSchema(compute.server(), compute.binDir(), query.database)) pieces.push(piece);
      return { status: 200, body: Buffer.concat(pieces).toString('utf8'), type: 'text/plain; charset=utf-8' };
    },
  }),
  route({
    method: 'GET',
    path: '/insights',
    summary: 'The statements that take the most time, from pg_stat_statements',
    answer: z.object({ pg_stat_statements: z.array(z.record(z.string(), z.unknown())) }),
    statuses: NOT_RUNNING,
    act: async (compute) => ({ pg_stat_statements: await topStatements(compute.server()) }),
  }),
  route({
    method: 'GET',
    path: '/installed_extensions',
    summary: 'Extensions, and in how many databases they are',
    answer: z.object({
      extensions: z.array(
        z.object({ extname: name, version: z.string(), n_databases: z.int(), owned_by_superuser: z.boolean() }),
      ),
    }),
    statuses: NOT_RUNNING,
    act: async (compute) => ({ extensions: await installedExtensions(compute.server()) }),
  }),
  route({
    method: 'POST',
    path: '/extensions',
    summary: 'Installs or updates an extension in a database',
    body: z.object({ extension: name, database: name, version: z.string().nullish() }),
    answer: z.object({ extension: name, version: z.string() }),
    statuses: { 404: 'There is no such database, or no such extension on this server', ...NOT_RUNNING },
    act: async (compute, { body: { extension, database, version } }) => ({
      extension,
      version: await installExtension(compute.server(), { extension, database, version: version ?? null }),
    }),
  }),
  route({
    method: 'POST',
    path: '/grants',
    summary: 'Grants privileges on a schema to a role',
    body: z.object({
      database: name,
      schema: name,
      privileges: z.array(z.enum(['USAGE', 'CREATE', 'ALL'])).min(1),
      role: name,
    }),
    answer: z.object({ database: name, schema: name, privileges: z.array(z.string()), role: name }),
    statuses: { 404: 'There is no such database, schema or role', ...NOT_RUNNING },
    act: async (compute, { body }) => {
      await grantOnSchema(compute.server(), body);
      return body;
    },
  }),
  route({
    method: 'POST',
    path: '/check_writability',
    summary: 'Commits a row, so that a quorum of safekeepers has it; a full disk counts as well',
    answer: z.object({ writable: z.literal(true) }),
    statuses: NOT_RUNNING,
    act: async (compute) => {
      await checkWritability(compute.server());
      return { writable: true };
    },
  }),
];

export const ROUTES: readonly Route[] = [...lifeRoutes, ...catalogRoutes];

function parse(schema: z.ZodType | undefined, value: unknown, what: string): unknown {
  if (schema === undefined) return undefined;
  const parsed = schema.safeParse(value ?? {});
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((issue) => `${[what, ...issue.path].join('.')}: ${issue.message}`);
  throw new StorageError('invalid', problems.join('; '));
}

/** What fastify runs for a route. */
export function handlerOf(entry: Route, compute: Compute) {
  return async (request: FastifyRequest, reply: FastifyReply): Promise<unknown> => {
    const query = parse(entry.query, request.query, 'query');
    const body = parse(entry.body, request.body, 'body');
    const result = await entry.act(compute, { query, body });
    if (!isAnswer(result)) return result;
    if (result.type !== undefined) void reply.type(result.type);
    return reply.status(result.status).send(result.body);
  };
}

function isAnswer(result: Answer | object): result is Answer {
  return 'status' in result && typeof result.status === 'number' && 'body' in result;
}
