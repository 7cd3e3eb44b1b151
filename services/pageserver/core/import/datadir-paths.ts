/** What a path in a data directory of PostgreSQL 15 holds, and what an import does with it. Pure. */
import {
  type DatabaseTag,
  DEFAULT_TABLESPACE,
  FORK_FSM,
  FORK_INIT,
  FORK_MAIN,
  FORK_VM,
  GLOBAL_TABLESPACE,
  type RelTag,
  SLRU_DIRECTORIES,
  SLRU_KINDS,
  type SlruKind,
} from '../keyspace.js';

export type DataDirPath =
  | { readonly kind: 'control' }
  /** PG_VERSION of the cluster (null) or of a database. */
  | { readonly kind: 'version'; readonly database: DatabaseTag | null }
  /** The directory itself. */
  | { readonly kind: 'database'; readonly database: DatabaseTag }
  | { readonly kind: 'relation-map'; readonly database: DatabaseTag }
  /** Segment number of the file: 1 GiB each. */
  | { readonly kind: 'relation'; readonly rel: RelTag; readonly segment: number }
  | { readonly kind: 'slru'; readonly slru: SlruKind; readonly segno: number }
  | { readonly kind: 'two-phase'; readonly xid: number }
  /** A WAL segment file. */
  | { readonly kind: 'wal'; readonly name: string }
  /** Means nothing to another server, or is rebuilt. */
  | { readonly kind: 'ignored' }
  | { readonly kind: 'refused'; readonly reason: string };

/** Rebuilt at start, or not part of the data. */
const IGNORED_DIRECTORIES = new Set([
  'pg_dynshmem',
  'pg_logical',
  'pg_notify',
  'pg_replslot',
  'pg_serial',
  'pg_snapshots',
  'pg_stat',
  'pg_stat_tmp',
  'pg_subtrans',
  'pg_wal',
]);
const IGNORED_FILES = new Set(['postmaster.pid', 'postmaster.opts', 'current_logfiles', 'backup_manifest']);
const IGNORED_NAMES = /^(pg_internal\.init(\.\d+)?|pgsql_tmp.*|t\d+_\d+(_(fsm|vm|init))?(\.\d+)?)$/;
const PLAIN_DIRECTORIES = new Set([
  'global',
  'base',
  'pg_xact',
  'pg_multixact',
  'pg_commit_ts',
  'pg_twophase',
  'pg_tblspc',
]);
/** Their presence says that the directory is not as a clean stop leaves it; a backup's own label is read before paths are judged. */
const NOT_STOPPED = new Set(['backup_label', 'tablespace_map', 'recovery.signal', 'standby.signal']);

const RELATION = /^([1-9]\d{0,9})(?:_(fsm|vm|init))?(?:\.([1-9]\d{0,5}))?$/;
const FORKS = new Map([
  ['', FORK_MAIN],
  ['fsm', FORK_FSM],
  ['vm', FORK_VM],
  ['init', FORK_INIT],
]);
const OID_MAX = 0xffff_ffff;
const GLOBAL: DatabaseTag = { spc: GLOBAL_TABLESPACE, db: 0 };
const IGNORED: DataDirPath = { kind: 'ignored' };

/** `path` as it stands in an archive: a leading "./" and a trailing "/" do not matter. */
export function parseDataDirPath(path: string): DataDirPath {
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  if (path.startsWith('/') || parts.includes('..')) return refused('leads out of the data directory');
  const [top, second, third] = parts;
  if (top === undefined) return IGNORED;
  if (top === 'pg_wal' && parts.length === 2 && /^[0-9A-F]{24}$/.test(second ?? ''))
    return { kind: 'wal', name: second! };
  if (IGNORED_DIRECTORIES.has(top)) return IGNORED;
  if (top === 'pg_tblspc' && second !== undefined) return refused('tablespaces cannot be imported');
  if (parts.length === 1) return topLevel(top);
  if (top === 'global' && second !== undefined && parts.length === 2) {
    if (second === 'pg_control') return { kind: 'control' };
    return inDatabase(GLOBAL, second);
  }
  if (top === 'base' && second !== undefined) return inBase(second, third, parts.length);
  if (top === 'pg_twophase' && parts.length === 2 && second !== undefined && /^[0-9A-F]{8}$/.test(second)) {
    return { kind: 'two-phase', xid: parseInt(second, 16) };
  }
  return slruPath(parts) ?? refused('is not part of a PostgreSQL 15 data directory');
}

function topLevel(name: string): DataDirPath {
  if (name === 'PG_VERSION') return { kind: 'version', database: null };
  if (NOT_STOPPED.has(name)) return refused('the cluster is not cleanly stopped');
  if (PLAIN_DIRECTORIES.has(name) || IGNORED_FILES.has(name)) return IGNORED;
  if (/\.(conf|old|done|log)$/.test(name)) return IGNORED;
  return refused('is not part of a PostgreSQL 15 data directory');
}

function inBase(second: string, third: string | undefined, depth: number): DataDirPath {
  if (IGNORED_NAMES.test(second)) return IGNORED;
  const db = parseOid(second);
  if (db === null || depth > 3) return refused('is not a database directory');
  const database = { spc: DEFAULT_TABLESPACE, db };
  return third === undefined ? { kind: 'database', database } : inDatabase(database, third);
}

function inDatabase(database: DatabaseTag, name: string): DataDirPath {
  if (name === 'PG_VERSION') return { kind: 'version', database };
  if (name === 'pg_filenode.map') return { kind: 'relation-map', database };
  if (IGNORED_NAMES.test(name)) return IGNORED;
  const match = RELATION.exec(name);
  const rel = parseOid(match?.[1] ?? '');
  const fork = FORKS.get(match?.[2] ?? '');
  if (match === null || rel === null || fork === undefined) return refused('is not a relation file');
  return { kind: 'relation', rel: { ...database, rel, fork }, segment: Number(match[3] ?? 0) };
}

function slruPath(parts: readonly string[]): DataDirPath | null {
  for (const slru of SLRU_KINDS) {
    const directory = SLRU_DIRECTORIES[slru]!.split('/');
    if (directory.some((part, i) => part !== parts[i])) continue;
    const [name, ...rest] = parts.slice(directory.length);
    if (name === undefined) return IGNORED;
    if (rest.length > 0 || !/^[0-9A-F]{4,6}$/.test(name)) return null;
    return { kind: 'slru', slru, segno: parseInt(name, 16) };
  }
  return null;
}

function parseOid(text: string): number | null {
  const value = /^[1-9]\d{0,9}$/.test(text) ? Number(text) : NaN;
  return value <= OID_MAX ? value : null;
}

function refused(reason: string): DataDirPath {
  return { kind: 'refused', reason };
}
