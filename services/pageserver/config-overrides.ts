/**
 * The older way to configure a page server: `-c key=value`, where the value is written as in TOML. Existing deployment scripts use it, so
 * it is translated into flags before they are parsed. Keys that only matter to a page server with a Postgres inside are passed over.
 *
 * Those scripts know neither the gRPC port nor, some of them, an object store. The former opens beside the libpq port; the latter is a
 * directory below the working directory, which is then no cache any more: losing it loses the data.
 */
import { resolve } from 'node:path';
import { parse, TomlError } from 'smol-toml';
import { StorageError } from '#shared/core/errors.js';

/** Key of the older form → flag. */
const FLAGS: Readonly<Record<string, string>> = {
  id: '--id',
  broker_endpoint: '--broker-endpoint',
  listen_pg_addr: '--listen-pg',
  listen_grpc_addr: '--listen-grpc',
  listen_http_addr: '--listen-http',
  remote_storage: '--remote-storage',
  availability_zone: '--availability-zone',
  checkpoint_distance: '--checkpoint-distance',
};
const PASSED_OVER = new Set([
  'pg_distrib_dir',
  'pg_auth_type',
  'http_auth_type',
  'control_plane_api',
  'control_plane_emergency_mode',
  'virtual_file_io_mode',
  'metric_collection_endpoint',
]);

const GRPC_PORT = 51051;

/** Throws StorageError `invalid` for what is no `key=value` or names an unknown key. */
export function expandOverrides(
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>> = {},
): string[] {
  const flags: string[] = [];
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at] ?? '';
    if (word === '-c') flags.push(...toFlags(argv[++at] ?? ''));
    else flags.push(word);
  }
  return argv.includes('-c') ? [...flags, ...missing(flags, env)] : flags;
}

function missing(flags: readonly string[], env: Readonly<Record<string, string | undefined>>): string[] {
  const value = (...names: string[]): string | undefined => flags[flags.findIndex((flag) => names.includes(flag)) + 1];
  const isGiven = (flag: string, name: string): boolean => flags.includes(flag) || env[name] !== undefined;
  const added: string[] = [];
  const listenPg = flags.includes('--listen-pg') ? value('--listen-pg') : undefined;
  if (listenPg !== undefined && !isGiven('--listen-grpc', 'NEON_PAGESERVER_LISTEN_GRPC')) {
    added.push('--listen-grpc', `${listenPg.slice(0, listenPg.lastIndexOf(':'))}:${GRPC_PORT}`);
  }
  if (!isGiven('--remote-storage', 'NEON_PAGESERVER_REMOTE_STORAGE')) {
    const workdir = flags.some((flag) => flag === '-D' || flag === '--workdir') ? value('-D', '--workdir') : undefined;
    if (workdir !== undefined) added.push('--remote-storage', `file://${resolve(workdir, 'remote_storage')}`);
  }
  return added;
}

function toFlags(override: string): string[] {
  return Object.entries(parseOverride(override)).flatMap(([key, value]) => {
    if (PASSED_OVER.has(key)) return [];
    const flag = FLAGS[key];
    if (flag === undefined) {
      throw new StorageError('invalid', `-c ${key}: unknown key; known are ${Object.keys(FLAGS).join(', ')}`);
    }
    if (typeof value === 'string' || typeof value === 'number') return [flag, String(value)];
    if (key === 'remote_storage') return [flag, remoteStorageUrl(value as Record<string, unknown>)];
    throw new StorageError('invalid', `-c ${key}: a text or a number is wanted`);
  });
}

function parseOverride(override: string): Record<string, unknown> {
  const complaint = `-c ${override}: not of the form key=value as in TOML`;
  try {
    const table = parse(override);
    if (Object.keys(table).length === 0) throw new StorageError('invalid', complaint);
    return table;
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    throw new StorageError('invalid', complaint, { cause });
  }
}

/** `{local_path}` or `{bucket_name, bucket_region, prefix_in_bucket, endpoint}` as the URL that --remote-storage takes. */
function remoteStorageUrl(table: Record<string, unknown>): string {
  const text = (key: string): string => (typeof table[key] === 'string' ? table[key] : '');
  if (text('local_path') !== '') return `file://${text('local_path')}`;
  if (text('bucket_name') === '') {
    throw new StorageError('invalid', '-c remote_storage: a table with local_path, or with bucket_name is wanted');
  }
  const query = new URLSearchParams();
  if (text('endpoint') !== '') query.set('endpoint', text('endpoint'));
  if (text('endpoint') !== '') query.set('path_style', 'true');
  if (text('bucket_region') !== '') query.set('region', text('bucket_region'));
  const prefix = text('prefix_in_bucket').replace(/^\/+|\/+$/g, '');
  const tail = query.size > 0 ? `?${query.toString()}` : '';
  return `s3://${text('bucket_name')}${prefix === '' ? '' : `/${prefix}`}${tail}`;
}
