/**
 * The compute spec: what a control plane, or a file, says this compute shall be. Tenant, timeline, page server and safekeepers may stand
 * at the top or among `cluster.settings` as `neon.*`. All mistakes are reported at once, each with the path to it.
 *
 * Accepts both shapes in use: the spec itself, and `{ "spec": …, "compute_ctl_config": … }`.
 */
import { z } from 'zod';
import { errorText, StorageError } from '#shared/core/errors.js';
import { parseTtid } from '#shared/core/ids.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { formatAddr } from '#shared/core/addr.js';
import { shardId } from '#shared/core/shard.js';
import { parseComputeMode, type ComputeMode } from './compute-mode.js';
import { parseConnstr, splitConnstrings } from './connstr.js';
import { readSafekeepers, safekeeperAddr, specSchema } from './spec-schema.js';
import type { extensionSchema, RawSpec } from './spec-schema.js';

const PAGESERVER_GRPC_PORT = 51051;
/** More are counted, not listed. */
const PROBLEMS_SHOWN_MAX = 50;

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
export interface SpecExtension {
  readonly name: string;
  readonly database: string;
  /** Null: the newest that is installed. */
  readonly version: string | null;
  readonly schema: string | null;
}
export type DeltaOperation =
  | { readonly action: 'delete_db' | 'delete_role'; readonly name: string }
  | { readonly action: 'rename_db' | 'rename_role'; readonly name: string; readonly newName: string };

export interface ComputeSpec {
  readonly mode: ComputeMode;
  readonly ttid: TenantTimelineId;
  /** The timeline as its page server knows it: of shard 0, when the tenant has shards. */
  readonly pageserverTtid: TenantTimelineId;
  /** Blocks of a stripe; null = the extension's default. */
  readonly stripeBlocks: number | null;
  /** The size of the file cache is not changed while the server runs. */
  readonly isCacheFixed: boolean;
  /** For the extension: libpq connection string of the page server; with shards a list of them, by number. */
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
  /** To be there in their databases. */
  readonly extensions: readonly SpecExtension[];
  readonly skipCatalogUpdates: boolean;
  /** Of the operation that wrote this spec; for logs. */
  readonly operationUuid: string | null;
}

const OWN_SETTINGS = ['neon.tenant_id', 'neon.timeline_id', 'neon.pageserver_connstring', 'neon.safekeepers'] as const;

/**
 * `text`: JSON. `pageserverGrpc`: address that wins over what can be derived from the connection string. Throws StorageError `invalid`
 * naming everything that is wrong.
 */
export function parseSpec(text: string, pageserverGrpc: string | null): ComputeSpec {
  const raw = readSpec(text);
  const mode = parseComputeMode(raw.mode ?? 'Primary');
  const settings = readSettings(raw);
  const own = (name: (typeof OWN_SETTINGS)[number]): string => settings.get(name) ?? '';
  const [pageserver] = pageserversByShard(raw);
  const connstring = raw.pageserver_connstring ?? shardConnstrings(raw) ?? own('neon.pageserver_connstring');
  const ttid = parseTtid({
    tenantId: (raw.tenant_id ?? own('neon.tenant_id')).toLowerCase(),
    timelineId: (raw.timeline_id ?? own('neon.timeline_id')).toLowerCase(),
  });
  const shardCount = splitConnstrings(connstring).length;
  const safekeepers = safekeepersOf(raw.safekeeper_connstrings, own('neon.safekeepers'));
  const roles = raw.cluster?.roles ?? [];
  const databases = raw.cluster?.databases ?? [];
  return Object.freeze({
    mode,
    ttid,
    pageserverTtid: shardCount < 2 ? ttid : { ...ttid, tenantId: shardId(ttid.tenantId, 0, shardCount) },
    isCacheFixed: raw.disable_lfc_resizing === true,
    stripeBlocks: raw.pageserver_connection_info?.stripe_size ?? raw.shard_stripe_size ?? null,
    pageserverConnstring: connstring,
    pageserverGrpcAddr: pageserverGrpc ?? grpcAddr(pageserver?.grpc_url ?? null, connstring),
    safekeepers: safekeepers.addrs,
    safekeepersGeneration: raw.safekeepers_generation ?? safekeepers.generation,
    settings: new Map([...settings].filter(([name]) => !(OWN_SETTINGS as readonly string[]).includes(name))),
    postgresqlConf: raw.cluster?.postgresql_conf ?? '',
    names: { project: raw.project_id ?? null, branch: raw.branch_id ?? null, endpoint: raw.endpoint_id ?? null },
    roles: roles.map((role) => ({
      name: role.name,
      password: storedSecret(role.encrypted_password ?? null),
      options: readOptions(role.options),
    })),
    databases: databases.map(({ name, owner, options }) => ({ name, owner, options: readOptions(options) })),
    deltaOperations: (raw.delta_operations ?? []).map(readDelta),
    extensions: (raw.extensions ?? []).map(readExtension),
    skipCatalogUpdates: raw.skip_pg_catalog_updates ?? false,
    operationUuid: raw.operation_uuid ?? null,
  });
}

interface Problem {
  readonly path: readonly PropertyKey[];
  readonly message: string;
}

function readSpec(text: string): RawSpec {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new StorageError('invalid', 'the spec is not JSON', { cause });
  }
  const wrapped = z.object({ spec: z.record(z.string(), z.unknown()) }).safeParse(json);
  const given = wrapped.success ? wrapped.data.spec : json;
  const parsed = specSchema.safeParse(given);
  const problems: Problem[] = [...(parsed.error?.issues ?? []), ...crossChecks(given)];
  if (parsed.success && problems.length === 0) return parsed.data;
  const shown = problems
    .slice(0, PROBLEMS_SHOWN_MAX)
    .map(({ path, message }) => (path.length === 0 ? message : `${path.map(String).join('.')}: ${message}`));
  if (problems.length > shown.length) shown.push(`and ${problems.length - shown.length} more`);
  throw new StorageError('invalid', `the spec is wrong: ${shown.join('; ')}`);
}

/** A part of some JSON, or undefined; so that these checks also run on a spec that is wrong elsewhere. */
function part(json: unknown, ...path: readonly (string | number)[]): unknown {
  let at = json;
  for (const key of path) at = typeof at === 'object' && at !== null ? (at as Record<string, unknown>)[key] : undefined;
  return at ?? undefined;
}

/** Empty for what is no text. */
function textOf(json: unknown): string {
  return typeof json === 'string' ? json : '';
}

function list(json: unknown): readonly unknown[] {
  return Array.isArray(json) ? json : [];
}

/** What no field shows by itself: something is missing everywhere, or there twice. */
function crossChecks(json: unknown): Problem[] {
  if (typeof json !== 'object' || json === null) return [];
  const problems: Problem[] = [];
  const settings = list(part(json, 'cluster', 'settings'));
  const named = (setting: unknown, name: string): boolean => textOf(part(setting, 'name')).toLowerCase() === name;
  const own = (name: string): string => {
    return textOf(
      part(
        settings.findLast((setting) => named(setting, name)),
        'value',
      ),
    );
  };
  const present = (value: unknown): boolean => value !== undefined && value !== '';
  const hasInfo = part(json, 'pageserver_connection_info', 'shards') !== undefined;
  for (const [field, setting, elsewhere] of [
    ['tenant_id', 'neon.tenant_id', false],
    ['timeline_id', 'neon.timeline_id', false],
    ['pageserver_connstring', 'neon.pageserver_connstring', hasInfo],
  ] as const) {
    if (present(part(json, field))) continue;
    const value = own(setting);
    if (!present(value) && !elsewhere)
      problems.push({ path: [field], message: `is missing, and so is the setting ${setting}` });
    else if (present(value)) problems.push(...ownSettingProblems(setting, value));
  }
  problems.push(...safekeeperProblems(part(json, 'safekeeper_connstrings'), own('neon.safekeepers')));
  for (const kind of ['roles', 'databases'] as const) {
    const names = list(part(json, 'cluster', kind)).map((entry) => part(entry, 'name'));
    names.forEach((name, at) => {
      if (typeof name === 'string' && names.indexOf(name) !== at) {
        problems.push({ path: ['cluster', kind, at, 'name'], message: `"${name}" is there twice` });
      }
    });
  }
  return problems;
}

function ownSettingProblems(name: string, value: string): Problem[] {
  const path = ['cluster', 'settings', name];
  if (name !== 'neon.pageserver_connstring') {
    return /^[0-9a-fA-F]{32}$/.test(value) ? [] : [{ path, message: 'must be 32 hexadecimal digits' }];
  }
  try {
    splitConnstrings(value).forEach(parseConnstr);
    return [];
  } catch (error) {
    return [{ path, message: errorText(error) }];
  }
}

function safekeeperProblems(connstrings: unknown, setting: string): Problem[] {
  const path = connstrings === undefined ? ['cluster', 'settings', 'neon.safekeepers'] : ['safekeeper_connstrings'];
  try {
    const given = list(connstrings).filter((entry) => typeof entry === 'string');
    const { addrs } = safekeepersOf(connstrings === undefined ? null : given, setting);
    if (addrs.length === 0) {
      return [
        { path: ['safekeeper_connstrings'], message: 'names no safekeepers, nor does the setting neon.safekeepers' },
      ];
    }
    if (new Set(addrs).size !== addrs.length)
      return [{ path, message: `a safekeeper is named twice: ${addrs.join(', ')}` }];
  } catch (error) {
    // Mistakes in the entries of the field are told one by one already.
    if (connstrings === undefined) return [{ path, message: errorText(error) }];
  }
  return [];
}

function safekeepersOf(connstrings: readonly string[] | null | undefined, setting: string) {
  if (connstrings === null || connstrings === undefined) return readSafekeepers(setting);
  return { addrs: connstrings.map(safekeeperAddr), generation: 0 };
}

/** The first page server of each shard. Shards are named by number and count, two hex digits each, so names sort by number. */
function pageserversByShard(raw: RawSpec) {
  const shards = Object.entries(raw.pageserver_connection_info?.shards ?? {});
  return shards.sort(([a], [b]) => (a < b ? -1 : 1)).flatMap(([, { pageservers }]) => pageservers[0] ?? []);
}

/** Null when the shards' page servers are not all named by URL. Throws StorageError `invalid` when some shards are missing. */
function shardConnstrings(raw: RawSpec): string | null {
  const urls = pageserversByShard(raw).flatMap(({ libpq_url: url }) => url ?? []);
  const count = raw.pageserver_connection_info?.shard_count ?? 0;
  if (urls.length === 0) return null;
  if (count > 1 && urls.length !== count) {
    throw new StorageError('invalid', `pageserver_connection_info has ${urls.length} of ${count} shards`);
  }
  return count > 1 ? urls.join(',') : (urls[0] ?? null);
}

function readSettings(raw: RawSpec): Map<string, string> {
  return new Map((raw.cluster?.settings ?? []).map(({ name, value }) => [name.toLowerCase(), value ?? '']));
}

function grpcAddr(url: string | null, connstring: string): string {
  if (url !== null) return url.replace(/^(grpc|http):\/\//, '').replace(/\/$/, '');
  // A list of hosts is for libpq, which tries one after the other; its gRPC server is asked at the first.
  const [first = ''] = splitConnstrings(connstring);
  const [host = ''] = parseConnstr(first).host.split(',');
  return formatAddr(host, PAGESERVER_GRPC_PORT);
}

function readOptions(options: NonNullable<NonNullable<RawSpec['cluster']>['roles']>[number]['options']): SpecOption[] {
  return (options ?? []).map((option) => ({ name: option.name, value: option.value ?? null }));
}

/** As pg_authid stores it: MD5 in small letters behind "md5". */
function storedSecret(given: string | null): string | null {
  if (given === null || given.startsWith('SCRAM')) return given;
  return `md5${given.replace(/^md5(?=.{32}$)/, '').toLowerCase()}`;
}

function readDelta(delta: NonNullable<RawSpec['delta_operations']>[number]): DeltaOperation {
  const { action, name } = delta;
  if (action === 'delete_db' || action === 'delete_role') return { action, name };
  return { action, name, newName: delta.new_name ?? '' };
}

function readExtension({ name, database, version, schema }: z.infer<typeof extensionSchema>): SpecExtension {
  return { name, database, version: version ?? null, schema: schema ?? null };
}
