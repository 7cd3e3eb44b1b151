/**
 * postgresql.conf and pg_hba.conf of a compute. Later lines win: first what the spec brings as text, then our defaults, then the spec's
 * settings, and last what a compute of this kind must have whatever the spec says.
 *
 * Why some values are what they are:
 * - fsync = off: the data directory is thrown away with the compute; a commit is durable when a quorum of safekeepers has its WAL.
 * - full_page_writes = off: full pages guard against torn pages after a crash, and no compute ever recovers from its own disk. The page
 *   server has a base image of each page, so WAL carries changes only.
 * - restart_after_crash = off: recovery after a backend's crash would replay from local files, which are only a cache.
 * - effective_io_concurrency: bitmap scans and VACUUM announce that many pages ahead; each saves a round trip to the page server.
 * - max_slot_wal_keep_size = -1: while there is no quorum Postgres must keep everything that is not committed.
 */
import { StorageError } from '#shared/core/errors.js';
import { primaryConninfo } from './compute-mode.js';
import { withDeadPeerOptions } from './connstr.js';
import type { ComputeSpec } from './spec.js';

export interface ConfContext {
  /** Private directory for the unix socket. */
  readonly socketDir: string;
  readonly port: number;
}

/** Settings of a patched server that the extension has under a name of its own. */
const RENAMED: Readonly<Record<string, string>> = {
  max_replication_write_lag: 'neon.max_replication_write_lag',
  max_replication_flush_lag: 'neon.max_replication_flush_lag',
  max_replication_apply_lag: 'neon.max_replication_apply_lag',
};

/** Settings of a patched server that a stock one does not know and would refuse to start with. */
const FORK_SETTINGS = new Set(['seqscan_prefetch_buffers', 'enable_seqscan_prefetch', 'seccomp_mode']);

const DEFAULTS: readonly (readonly [string, string])[] = [
  ['listen_addresses', '127.0.0.1'],
  ['fsync', 'off'],
  ['full_page_writes', 'off'],
  ['wal_level', 'replica'],
  ['wal_keep_size', '256MB'],
  ['hot_standby', 'on'],
  ['max_wal_senders', '10'],
  ['max_replication_slots', '10'],
  ['max_connections', '100'],
  ['effective_io_concurrency', '64'],
  ['maintenance_io_concurrency', '64'],
  ['log_min_messages', 'warning'],
  ['lc_messages', 'C.UTF-8'],
  ['lc_monetary', 'C.UTF-8'],
  ['lc_numeric', 'C.UTF-8'],
  ['lc_time', 'C.UTF-8'],
];
const LEAST: Readonly<Record<string, number>> = { max_wal_senders: 3, max_replication_slots: 2 };

/** In single quotes, as the file's scanner wants it. Throws StorageError `invalid` for what the file cannot hold. */
export function quoteConfValue(value: string): string {
  if (value.includes('\0') || !value.isWellFormed()) {
    throw new StorageError('invalid', 'a setting has a value that Postgres cannot hold');
  }
  return `'${value.replace(/\\/g, '\\\\').replace(/'/g, "''").replace(/\n/g, '\\n')}'`;
}

export interface RenderedConf {
  readonly text: string;
  /** Settings of the spec that were left out because a stock server does not know them. */
  readonly skipped: readonly string[];
}

export function renderPostgresConf(spec: ComputeSpec, context: ConfContext): RenderedConf {
  const skipped: string[] = [];
  const lines: string[] = ['# Written by compute_ctl at each start; changes are lost.', spec.postgresqlConf];
  const put = (name: string, value: string): void => void lines.push(`${name} = ${quoteConfValue(value)}`);
  for (const [name, value] of DEFAULTS) put(name, value);
  for (const [name, value] of spec.settings) {
    if (FORK_SETTINGS.has(name)) skipped.push(name);
    else put(RENAMED[name] ?? name, value);
  }
  for (const [name, value] of mustHave(spec, context)) put(name, value);
  return { text: `${lines.join('\n')}\n`, skipped };
}

function mustHave(spec: ComputeSpec, context: ConfContext): [string, string][] {
  const generation = spec.safekeepersGeneration === 0 ? '' : `g#${spec.safekeepersGeneration}:`;
  const must: [string, string][] = [
    ['port', String(context.port)],
    ['unix_socket_directories', context.socketDir],
    ['unix_socket_permissions', '0700'],
    ['shared_preload_libraries', preloadLibraries(spec.settings.get('shared_preload_libraries') ?? '')],
    ['synchronous_standby_names', 'walproposer'],
    ['restart_after_crash', 'off'],
    ['max_slot_wal_keep_size', '-1'],
    ['archive_mode', 'off'],
    ['neon.tenant_id', spec.ttid.tenantId],
    ['neon.timeline_id', spec.ttid.timelineId],
    ...stripe(spec),
    ['neon.pageserver_connstring', withDeadPeerOptions(spec.pageserverConnstring)],
    ['neon.safekeepers', generation + spec.safekeepers.join(',')],
  ];
  if (spec.settings.get('wal_level') === 'minimal') must.push(['wal_level', 'replica']);
  for (const [name, least] of Object.entries(LEAST)) {
    const given = spec.settings.get(name);
    if (given !== undefined && Number(given) < least) must.push([name, String(least)]);
  }
  must.push(...standbySettings(spec));
  const { project, branch, endpoint } = spec.names;
  if (project !== null) must.push(['neon.project_id', project]);
  if (branch !== null) must.push(['neon.branch_id', branch]);
  if (endpoint !== null) must.push(['neon.endpoint_id', endpoint]);
  return must;
}

function stripe({ stripeBlocks }: ComputeSpec): [string, string][] {
  return stripeBlocks === null ? [] : [['neon.stripe_size', String(stripeBlocks)]];
}

/** Of a server that does not write. Pages that replay needs are not asked for ahead, since most of them it does not need. */
function standbySettings(spec: ComputeSpec): [string, string][] {
  if (spec.mode.kind === 'primary') return [];
  const { safekeepers, ttid, names } = spec;
  const name = names.endpoint ?? 'replica';
  return [
    ['neon.compute_mode', spec.mode.kind],
    ['hot_standby', 'on'],
    ['recovery_prefetch', 'off'],
    ['restore_command', ''],
    ['primary_slot_name', ''],
    ['primary_conninfo', spec.mode.kind === 'replica' ? primaryConninfo({ safekeepers, ...ttid, name }) : ''],
  ];
}

/** The extension goes first: it takes over the storage manager before others could use it. */
function preloadLibraries(given: string): string {
  const names = given
    .split(',')
    .map((name) => name.trim().replace(/^"|"$/g, ''))
    .filter((name) => name !== '' && name !== 'neon');
  for (const name of names) {
    if (/["\n]/.test(name)) throw new StorageError('invalid', `"${name}" cannot be a preloaded library`);
  }
  return ['neon', ...names].join(',');
}

/** Trust on this machine (the socket is private, and the deployment decides who reaches loopback); a password from elsewhere. */
export function renderPgHba(): string {
  return [
    '# Written by compute_ctl at each start; changes are lost.',
    'local all         all              trust',
    'local replication all              trust',
    'host  all         all 127.0.0.1/32 trust',
    'host  all         all ::1/128      trust',
    'host  all         all 0.0.0.0/0    md5',
    'host  all         all ::/0         md5',
    '',
  ].join('\n');
}
