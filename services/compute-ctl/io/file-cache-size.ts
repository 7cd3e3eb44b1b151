/** Sets neon.file_cache_size_limit of a running server, as an administrator would. */
import type pg from 'pg';
import { StorageError } from '#shared/core/errors.js';
import { connectTo } from './catalog.js';
import type { ServerAddress } from './catalog.js';

const QUERY_TIMEOUT_MS = 4_000;
const MIB = 1 << 20;

/** The size asked for, clamped to neon.max_file_cache_size. Returns what was set, in MiB. */
export async function setFileCacheMib(server: ServerAddress, mib: number): Promise<number> {
  let client: pg.Client | null = null;
  try {
    // One of our own connections, which are no use of the compute.
    const own = (client = await connectTo(server, 'postgres', 'vm-monitor'));
    const query = <Row extends pg.QueryResultRow>(text: string) =>
      own.query<Row>({ text, query_timeout: QUERY_TIMEOUT_MS } as pg.QueryConfig);
    const { rows } = await query<{ bytes: string }>(
      "select pg_size_bytes(current_setting('neon.max_file_cache_size'))::text as bytes",
    );
    const mostMib = Math.floor(Number(rows[0]?.bytes ?? 0) / MIB);
    const size = mostMib > 0 ? Math.min(mib, mostMib) : mib;
    await query(`alter system set neon.file_cache_size_limit = ${Math.floor(size)}`);
    await query('select pg_reload_conf()');
    return size;
  } catch (cause) {
    throw new StorageError('unavailable', 'could not set the size of the file cache', { cause });
  } finally {
    await client?.end().catch(() => undefined);
  }
}
