/** Work that is under way when a server is killed, and of which nothing may be left. */
import pg from 'pg';
import { DATABASE } from './psql.js';
import { urlOf } from './servers.js';
import type { Side } from './servers.js';

/** One session each; none commits. Together they write far more than the buffers hold, so that pages reach storage before the end. */
const SESSIONS: readonly (readonly string[])[] = [
  [
    'begin',
    'create table never (id int primary key, a int[], p point, pad text)',
    "insert into never select i, array[i % 10], point(i, i), repeat('n', 200) from generate_series(1, 6000) i",
    'create index on never using gin (a)',
    'create index on never using gist (p)',
    'create index on never using hash (id)',
    'update never set a = a || 1',
    'create sequence never_s',
    "create type never_t as enum ('x')",
    'truncate unfinished_emptied',
  ],
  [
    'begin',
    'update unfinished_changed set n = n + 1',
    'savepoint a',
    'delete from unfinished_changed where id % 2 = 0',
    'insert into unfinished_changed select i + 100000, 0, md5(i::text) from generate_series(1, 2000) i',
    'rollback to a',
    'select id from unfinished_changed where id < 100 for update',
    'notify never',
  ],
  ['begin', 'alter table unfinished_rewritten alter n type text'],
  ['begin', 'drop table unfinished_dropped', 'alter sequence unfinished_s restart 1'],
];
const PREPARE = `
  create sequence unfinished_s; select setval('unfinished_s', 1000);
  create table unfinished_kept as select i as id from generate_series(1, 1000) i;
  create table unfinished_emptied as select i as id from generate_series(1, 1000) i;
  create table unfinished_changed as select i as id, 0 as n, md5(i::text) as pad from generate_series(1, 4000) i;
  alter table unfinished_changed add primary key (id);
  create table unfinished_rewritten as select i as id, i as n from generate_series(1, 3000) i;
  create table unfinished_dropped as select i as id from generate_series(1, 3000) i;`;

/** Returns what takes the broken sessions away when the server is gone. */
export async function leaveUnfinished(side: Side): Promise<() => Promise<void>> {
  const clients = await Promise.all([null, ...SESSIONS].map(() => open(side)));
  const [control, ...others] = clients;
  await control?.query(PREPARE);
  for (const [index, client] of others.entries()) {
    for (const statement of SESSIONS[index] ?? []) await client.query(statement);
  }
  // A commit of somebody else takes what was written so far to where it is durable.
  await control?.query('insert into unfinished_kept values (-1)');
  return async () => {
    await Promise.all(clients.map((client) => client.end().catch(() => undefined)));
  };
}

async function open(side: Side): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: urlOf(side, DATABASE) });
  client.on('error', () => undefined);
  await client.connect();
  return client;
}
