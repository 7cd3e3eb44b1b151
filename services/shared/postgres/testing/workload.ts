/** For tests: a load that makes records of most kinds: subtransactions, multixacts, two-phase, DDL, big values, vacuum, switches. */
import { execFile } from 'node:child_process';
import path from 'node:path';
import { PG_BIN, type TempCluster } from './temp-cluster.js';

/** What the workload needs: settings for the cluster. */
export const WORKLOAD_CONFIG: readonly string[] = [
  'max_prepared_transactions = 10',
  'wal_keep_size = 2GB',
  'max_wal_size = 4GB',
  'autovacuum_naptime = 1s',
];

const SCHEMA = `
  create table plain(id int primary key, value text, tag int) with (fillfactor = 70);
  insert into plain select i, md5(i::text), i % 10 from generate_series(1, 3000) i;
  create table big(id int, body text); alter table big alter body set storage external;
  create sequence numbers; create unlogged table scratch(id int); create index on plain using gin (string_to_array(value, '1'));
  create index on plain using brin (id); create index on plain using hash (tag); create index on plain using gist (point(id, tag));
  create index on plain using spgist (value);
`;

const SUBTRANSACTIONS = `
  begin; insert into plain values (-1, 'a', 1); savepoint s1; insert into plain values (-2, 'b', 2); savepoint s2;
  insert into plain values (-3, 'c', 3); rollback to s2; insert into plain values (-4, 'd', 4); commit;
  do $$ begin for i in 1..100 loop begin insert into plain values (-100 - i, 'sub', i); exception when others then null; end; end loop; end $$;
`;

const TWO_PHASE = (name: string): string => `
  begin; insert into plain select 100000 + i, 'prepared', 0 from generate_series(1, 5) i; savepoint a; update plain set tag = tag + 1 where id < 20;
  prepare transaction '${name}';
`;

const CHANGES = `
  insert into big select i, repeat(md5(i::text), 5000) from generate_series(1, 5) i;
  update plain set value = value || 'x' where id % 7 = 0; delete from plain where id % 11 = 0; select nextval('numbers');
  vacuum plain; create table gone as select * from plain; drop table gone; truncate big; cluster plain using plain_pkey;
  begin; create table never(id int); insert into never values (1); rollback;
  select pg_logical_emit_message(true, 'p', repeat('x', 50000)); insert into scratch values (1);
`;

/** Two sessions lock the same rows, so that a multixact must be made. */
async function multixact(cluster: TempCluster, row: number): Promise<void> {
  const lock = `begin; select 1 from plain where id = ${row} for share; select pg_sleep(0.3); commit;`;
  await Promise.all([cluster.psql(lock), cluster.psql(lock)]);
}

/** Takes about three seconds, more by `pgbenchSeconds`. Leaves the transaction "left" prepared. */
export async function runWorkload(cluster: TempCluster, pgbenchSeconds: number): Promise<void> {
  await cluster.psql(SCHEMA);
  await cluster.psql(SUBTRANSACTIONS);
  await cluster.psql(TWO_PHASE('done'));
  await Promise.all([multixact(cluster, 101), multixact(cluster, 102)]);
  await cluster.psql(`commit prepared 'done'; delete from plain where id > 100000;`);
  await cluster.psql(CHANGES);
  if (pgbenchSeconds > 0) {
    await pgbench(cluster, ['-i', '-s', '1', '-q']);
    await pgbench(cluster, ['-n', '-c', '4', '-T', String(pgbenchSeconds)]);
  }
  await cluster.psql(`create database other; select pg_switch_wal();`);
  await cluster.psql(TWO_PHASE('left'));
  await cluster.psql(`checkpoint; insert into plain select -200000 - i, 'late', 0 from generate_series(1, 50) i;`);
}

export function pgbench(cluster: TempCluster, args: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    execFile(
      path.join(PG_BIN, 'pgbench'),
      [...args, ...cluster.connectArgs(), 'postgres'],
      (error, _stdout, stderr) => {
        if (error) reject(new Error(`pgbench failed: ${stderr}`));
        else resolve();
      },
    );
  });
}
