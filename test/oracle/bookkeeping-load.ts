/** What writes records without pages: of commit status, commit times, replication origins, logical messages and tablespaces. */
import type { Load } from './loads.js';

/** Transactions on a page of commit status: the next page is begun on the way through so many. */
const XACTS_PER_CLOG_PAGE = 32_768;

export const BOOKKEEPING: Load = {
  name: 'bookkeeping',
  run: async (cluster, scale) => {
    await cluster.psql(`
      set synchronous_commit = off;
      do $$ begin for i in 1..${XACTS_PER_CLOG_PAGE} loop perform pg_current_xact_id(); commit; end loop; end $$;`);
    await cluster.psql(`
      select pg_logical_emit_message(i % 2 = 0, 'oracle', repeat('m', i)) from generate_series(1, ${50 * scale}) i;
      select pg_replication_origin_create('o' || i) from generate_series(1, 3) i;
      select pg_replication_origin_advance('o' || i, '0/1234'::pg_lsn + i) from generate_series(1, 3) i;
      select pg_replication_origin_drop('o2');`);
    // In the server's own directory: anything else would be shared by the copies of this cluster.
    for (const statement of ['create tablespace place location $$$$', 'drop tablespace place'])
      await cluster.psql(`set allow_in_place_tablespaces = on; ${statement}`);
  },
};
