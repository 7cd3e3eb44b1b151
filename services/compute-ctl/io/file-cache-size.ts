/** Sets neon.file_cache_size_limit of a running server, as an administrator would. */
import pg from 'pg';
import { StorageError } from '#shared/core/errors.js';

const CONNECT_TIMEOUT_MS = 4_000;
const QUERY_TIMEOUT_MS = 4_000;
const MIB = 1 << 20;

export interface FileCacheServer {
  readonly socketDir: string;
  readonly port: number;
  readonly user: string;
}

/** The size asked for, clamped to neon.max_file_cache_size. Returns what was set, in MiB. */
export async function setFileCacheMib(server: FileCacheServer, mib: number): Promise<number> {
  const client = new pg.Client({
    host: server.socketDir,
    port: server.port,
    user: server.user,
    database: 'postgres',
    application_name: 'vm-monitor',
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    query_timeout: QUERY_TIMEOUT_MS,
  });
  client.on('error', () => undefined);
  try {
    await client.connect();
    const { rows } = await client.query<{ bytes: string }>(
      "select pg_size_bytes(current_setting('neon.max_file_cache_size'))::text as bytes",
    );
    const mostMib = Math.floor(Number(rows[0]?.bytes ?? 0) / MIB);
    const size = mostMib > 0 ? Math.min(mib, mostMib) : mib;
    await client.query(`alter system set neon.file_cache_size_limit = ${Math.floor(size)}`);
    await client.query('select pg_reload_conf()');
    return size;
  } catch (cause) {
    throw new StorageError('unavailable', 'could not set the size of the file cache', { cause });
  } finally {
    await client.end().catch(() => undefined);
  }
}
