/** For tests: a load that makes WAL of every kind that ingest treats by itself, on a cluster with QUIET_CONFIG. Takes some seconds. */
import type { TempCluster } from '#shared/postgres/testing/temp-cluster.js';

/** A cluster, or anything else that runs SQL. */
export type LoadTarget = Pick<TempCluster, 'psql'>;

const SCHEMA = `
  create table plain(id int primary key, value text, tag int) with (fillfactor = 80);
  insert into plain select i, md5(i::text), i % 10 from generate_series(1, 20000) i;
  create table lockme(id int primary key); insert into lockme select generate_series(1, 3000);
  create table toasted(id int, body text); alter table toasted alter body set storage external;
  create unlogged table scratch(id int primary key, body text); insert into scratch select i, 'x' from generate_series(1, 500) i;
  create index on plain using gin (string_to_array(value, '1'));
  create index on plain using brin (id);
  create index on plain using hash (tag);
  create sequence numbers;
`;

/** Sets map bits, clears them in every way, cuts heap and maps short, and grows them again. */
const MAPS = `
  vacuum (freeze) plain; insert into plain values (-1, 'new', 1); update plain set tag = tag + 1 where id % 500 = 0;
  delete from plain where id % 777 = 0; select count(*) from (select 1 from plain where id = 1234 for update) s;
  vacuum plain; update plain set value = repeat('long', 100) where id between 100 and 160;
  create table shrinks(id int, body text); insert into shrinks select i, repeat('y', 700) from generate_series(1, 9000) i;
  create index on shrinks(id); vacuum shrinks; delete from shrinks where id > 130; vacuum shrinks;
  insert into shrinks select i, repeat('z', 700) from generate_series(1, 3000) i; vacuum shrinks;
  create table frozen(id int, body text); begin; truncate frozen; copy frozen from program 'seq -f "%g	row" 1 3000' with (freeze); commit;
  delete from frozen where id % 3 = 0;
`;

const FILES = `
  create table gone as select * from plain; drop table gone;
  insert into toasted select i, repeat(md5(i::text), 3000) from generate_series(1, 5) i; truncate toasted;
  insert into toasted select i, repeat(md5(i::text), 3000) from generate_series(6, 8) i;
  begin; create table never(id int); insert into never select generate_series(1, 1000); rollback;
  begin; create table emptied(id int); insert into emptied select generate_series(1, 3000); savepoint a; truncate emptied; rollback to a; commit;
  cluster plain using plain_pkey; alter table scratch set logged; create unlogged table scratch2(id int primary key);
  create materialized view summary as select tag, count(*) from plain group by tag; refresh materialized view summary;
  create temp table local as select 1; select nextval('numbers') from generate_series(1, 50);
  vacuum full pg_class; vacuum full pg_type; vacuum full pg_database; reindex table pg_attribute; analyze;
`;

const DATABASES = `
  create database walled strategy wal_log; create database copied template walled strategy file_copy; create database dropped;
  drop database dropped; alter database walled rename to renamed;
`;

const SUBTRANSACTIONS = `
  begin; insert into plain values (-10, 'a', 1); savepoint s1; insert into plain values (-11, 'b', 2); savepoint s2;
  insert into plain values (-12, 'c', 3); rollback to s2; insert into plain values (-13, 'd', 4); commit;
  create table many(id int);
  do $$ begin for i in 1..34000 loop begin insert into many values (i); exception when others then null; end; end loop; end $$;
`;

const prepare = (name: string, from: number): string => `
  begin; insert into plain select ${from} + i, 'prepared', 0 from generate_series(1, 5) i; savepoint a;
  update plain set tag = tag + 1 where id between ${from / 100} and ${from / 100 + 5}; create table made_by_${name}(id int);
  prepare transaction '${name}';
`;

/** While one session shares all rows, each lock of the other, in a subtransaction of its own, makes a new multixact. */
export async function lockFromTwoSessions(cluster: LoadTarget, count: number): Promise<void> {
  const holder = cluster.psql(
    'begin; select count(*) from (select 1 from lockme for key share) s; select pg_sleep(2.5); commit',
  );
  await cluster.psql('select pg_sleep(0.4)');
  await cluster.psql(`do $$ begin for i in 1..${count} loop begin
    perform 1 from lockme where id = i for key share; exception when others then null; end; end loop; end $$`);
  await holder;
  await cluster.psql('update lockme set id = -id where id < 5; delete from lockme where id = 7');
}

/** Leaves one transaction prepared. */
export async function runIngestLoad(cluster: LoadTarget): Promise<void> {
  await cluster.psql(SCHEMA);
  await cluster.psql(MAPS);
  await cluster.psql(FILES);
  await cluster.psql(DATABASES.split(';').join(';\n'));
  await cluster.psql('create table in_copy as select generate_series(1, 500) i', 'copied');
  await cluster.psql('vacuum full pg_class; create table in_renamed(id int primary key)', 'renamed');
  await cluster.psql(SUBTRANSACTIONS);
  await lockFromTwoSessions(cluster, 2500);
  for (const [name, from] of [
    ['left', 1_000_000],
    ['committed', 2_000_000],
    ['aborted', 3_000_000],
  ] as const) {
    await cluster.psql(prepare(name, from));
  }
  await cluster.psql(`commit prepared 'committed'; rollback prepared 'aborted'`);
  await cluster.psql(
    'checkpoint; update plain set value = md5(value) where id % 5 = 0 and id < 9000; select pg_switch_wal()',
  );
  await cluster.psql(`vacuum (freeze) lockme; insert into plain select -1000 - i, 'late', 0 from generate_series(1, 200) i;
    begin; create table open_at_crash as select generate_series(1, 100) i; insert into plain values (-5000, 'lost', 0);`);
}
