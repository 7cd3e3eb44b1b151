/**
 * The compute spec: what a control plane, or a file, says this compute shall be. Lenient about fields it does not know; strict about
 * those it uses. Tenant, timeline, page server and safekeepers may stand at the top or among `cluster.settings` as `neon.*`.
 *
 * Accepts both shapes in use: the spec itself, and `{ "spec": …, "compute_ctl_config": … }`.
 */
import { z } from 'zod';
import { StorageError } from '#shared/core/errors.js';
import { parseTtid } from '#shared/core/ids.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { formatAddr, parseAddr } from '#shared/core/addr.js';
import { parseComputeMode, type ComputeMode } from './compute-mode.js';
import { parseConnstr } from './connstr.js';

const PAGESERVER_GRPC_PORT = 51051;

const optionSchema = z.object({ name: z.string(), value: z.string().nullish(), vartype: z.string().nullish() });
const roleSchema = z.object({
  name: z.string().min(1),
  encrypted_password: z.string().nullish(),
  options: z.array(optionSchema).nullish(),
});
const databaseSchema = z.object({
  name: z.string().min(1),
  owner: z.string().min(1),
  options: z.array(optionSchema).nullish(),
});
const deltaSchema = z.object({
  action: z.enum(['delete_db', 'rename_db', 'delete_role', 'rename_role']),
  name: z.string().min(1),
  new_name: z.string().min(1).nullish(),
});
const shardSchema = z.object({
  pageservers: z.array(z.object({ libpq_url: z.string().nullish(), grpc_url: z.string().nullish() })),
});
const specSchema = z.object({
  cluster: z
    .object({
      cluster_id: z.string().nullish(),
      name: z.string().nullish(),
      roles: z.array(roleSchema).default([]),
      databases: z.array(databaseSchema).default([]),
      postgresql_conf: z.string().nullish(),
      settings: z.array(optionSchema).nullish(),
    })
    .default({ roles: [], databases: [] }),
  delta_operations: z.array(deltaSchema).nullish(),
  skip_pg_catalog_updates: z.boolean().default(false),
  tenant_id: z.string().nullish(),
  timeline_id: z.string().nullish(),
  project_id: z.string().nullish(),
  branch_id: z.string().nullish(),
  endpoint_id: z.string().nullish(),
  pageserver_connstring: z.string().nullish(),
  pageserver_connection_info: z.object({ shards: z.record(z.string(), shardSchema) }).nullish(),
  safekeeper_connstrings: z.array(z.string()).nullish(),
  safekeepers_generation: z.number().int().min(0).nullish(),
  mode: z.union([z.string(), z.record(z.string(), z.unknown())]).default('Primary'),
});

export interface SpecOption {
  readonly name: string;
  /** Null: the name alone says it, as LOGIN does. */
  readonly value: string | null;
}
export interface SpecRole {
  readonly name: string;
  /** As pg_authid stores it: "md5…" or "SCRAM-SHA-256$…"; null = no password. */
  readonly password: string | null;
  readonly options: readonly SpecOption[];
}
export interface SpecDatabase {
  readonly name: string;
  readonly owner: string;
  readonly options: readonly SpecOption[];
}
export type DeltaOperation =
  | { readonly action: 'delete_db' | 'delete_role'; readonly name: string }
  | { readonly action: 'rename_db' | 'rename_role'; readonly name: string; readonly newName: string };

export interface ComputeSpec {
  readonly mode: ComputeMode;
  readonly ttid: TenantTimelineId;
  /** For the extension: libpq connection string of the page server. */
  readonly pageserverConnstring: string;
  /** host:port of the page server's gRPC server. */
  readonly pageserverGrpcAddr: string;
  /** host:port of each safekeeper's gRPC server. */
  readonly safekeepers: readonly string[];
  readonly safekeepersGeneration: number;
  /** Without those named `neon.*` that have a field of their own here. */
  readonly settings: ReadonlyMap<string, string>;
  readonly postgresqlConf: string;
  readonly names: { readonly project: string | null; readonly branch: string | null; readonly endpoint: string | null };
  readonly roles: readonly SpecRole[];
  readonly databases: readonly SpecDatabase[];
  readonly deltaOperations: readonly DeltaOperation[];
  readonly skipCatalogUpdates: boolean;
}

type RawSpec = z.infer<typeof specSchema>;
const OWN_SETTINGS = ['neon.tenant_id', 'neon.timeline_id', 'neon.pageserver_connstring', 'neon.safekeepers'] as const;

/**
 * `text`: JSON. `pageserverGrpc`: address that wins over what can be derived from the connection string. Throws StorageError `invalid`
 * naming everything that is wrong.
 */
export function parseSpec(text: string, pageserverGrpc: string | null): ComputeSpec {
  const raw = readSpec(text);
  const mode = parseComputeMode(raw.mode);
  const settings = readSettings(raw);
  const own = (name: (typeof OWN_SETTINGS)[number]): string | null => settings.get(name) ?? null;
  const ttid = parseTtid({
    tenantId: required(raw.tenant_id ?? own('neon.tenant_id'), 'tenant_id or neon.tenant_id'),
    timelineId: required(raw.timeline_id ?? own('neon.timeline_id'), 'timeline_id or neon.timeline_id'),
  });
  const shard =
    raw.pageserver_connection_info?.shards['0000'] ?? Object.values(raw.pageserver_connection_info?.shards ?? {})[0];
  const pageserver = shard?.pageservers[0];
  const connstring = required(
    raw.pageserver_connstring ?? pageserver?.libpq_url ?? own('neon.pageserver_connstring'),
    'pageserver_connstring or neon.pageserver_connstring',
  );
  const safekeepers = readSafekeepers(raw.safekeeper_connstrings?.join(',') ?? own('neon.safekeepers') ?? '');
  if (safekeepers.addrs.length === 0 && mode.kind !== 'static')
    throw new StorageError('invalid', 'the spec names no safekeepers (safekeeper_connstrings or neon.safekeepers)');
  const result = {
    ttid,
    mode,
    pageserverConnstring: connstring,
    pageserverGrpcAddr: pageserverGrpc ?? grpcAddr(pageserver?.grpc_url ?? null, connstring),
    safekeepers: safekeepers.addrs,
    safekeepersGeneration: raw.safekeepers_generation ?? safekeepers.generation,
    settings: new Map([...settings].filter(([name]) => !(OWN_SETTINGS as readonly string[]).includes(name))),
    postgresqlConf: raw.cluster.postgresql_conf ?? '',
    names: { project: raw.project_id ?? null, branch: raw.branch_id ?? null, endpoint: raw.endpoint_id ?? null },
    roles: raw.cluster.roles.map(readRole),
    databases: raw.cluster.databases.map((database) => ({ ...database, options: readOptions(database.options) })),
    deltaOperations: (raw.delta_operations ?? []).map(readDelta),
    skipCatalogUpdates: raw.skip_pg_catalog_updates,
  };
  return Object.freeze(result);
}

function readSpec(text: string): RawSpec {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new StorageError('invalid', 'the spec is not JSON', { cause });
  }
  const wrapped = z.object({ spec: z.record(z.string(), z.unknown()) }).safeParse(json);
  const parsed = specSchema.safeParse(wrapped.success ? wrapped.data.spec : json);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
  throw new StorageError('invalid', `the spec is wrong: ${problems.join('; ')}`);
}

function required(value: string | null | undefined, what: string): string {
  if (value === null || value === undefined || value === '')
    throw new StorageError('invalid', `the spec lacks ${what}`);
  return value;
}

function readSettings(raw: RawSpec): Map<string, string> {
  const settings = new Map<string, string>();
  for (const { name, value } of raw.cluster.settings ?? []) {
    if (!/^[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)?$/.test(name)) {
      throw new StorageError('invalid', `the spec has a setting with the impossible name "${name}"`);
    }
    settings.set(name.toLowerCase(), value ?? '');
  }
  return settings;
}

/** "g#7:host:port,host:port" or without the generation. */
function readSafekeepers(text: string): { addrs: string[]; generation: number } {
  const match = /^g#(\d+):(.*)$/s.exec(text);
  const addrs = (match?.[2] ?? text)
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
  for (const addr of addrs) parseAddr(addr);
  if (new Set(addrs).size !== addrs.length)
    throw new StorageError('invalid', `a safekeeper is named twice: ${addrs.join(', ')}`);
  return { addrs, generation: Number(match?.[1] ?? 0) };
}

function grpcAddr(url: string | null, connstring: string): string {
  if (url !== null) {
    const addr = url.replace(/^(grpc|http):\/\//, '').replace(/\/$/, '');
    parseAddr(addr);
    return addr;
  }
  return formatAddr(parseConnstr(connstring).host, PAGESERVER_GRPC_PORT);
}

function readOptions(options: z.infer<typeof roleSchema>['options']): SpecOption[] {
  return (options ?? []).map((option) => ({ name: option.name, value: option.value ?? null }));
}

function readRole(role: z.infer<typeof roleSchema>): SpecRole {
  const given = role.encrypted_password ?? null;
  let password = given;
  if (given !== null && /^[0-9a-fA-F]{32}$/.test(given)) password = `md5${given.toLowerCase()}`;
  else if (given !== null && !/^(md5[0-9a-f]{32}|SCRAM-SHA-256\$.+)$/.test(given)) {
    throw new StorageError(
      'invalid',
      `the encrypted_password of role "${role.name}" is neither an MD5 nor a SCRAM-SHA-256 secret`,
    );
  }
  return { name: role.name, password, options: readOptions(role.options) };
}

function readDelta(delta: z.infer<typeof deltaSchema>): DeltaOperation {
  const { action, name } = delta;
  if (action === 'delete_db' || action === 'delete_role') return { action, name };
  return { action, name, newName: required(delta.new_name, `new_name of ${action} "${name}"`) };
}
