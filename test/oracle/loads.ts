/** What the oracle has the server do: small, but made to reach each kind of record. `scale` 1 takes seconds. */
import type { TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import pg from 'pg';

/** What a load needs of a server: a cluster of the oracle's, or a compute. */
export type LoadServer = Pick<TempCluster, 'psql' | 'run' | 'connectArgs'> & {
  connection(database?: string): pg.ClientConfig;
};

export interface Load {
  readonly name: string;
  run(cluster: LoadServer, scale: number): Promise<void>;
}

export const LOADS: readonly Load[] = [
  { name: 'pgbench', run: pgbench },
  { name: 'heap', run: (cluster, scale) => sql(cluster, heapSql(scale)) },
  { name: 'btree', run: (cluster, scale) => sql(cluster, btreeSql(scale)) },
  { name: 'hash', run: (cluster, scale) => sql(cluster, hashSql(scale)) },
  { name: 'brin', run: (cluster, scale) => sql(cluster, brinSql(scale)) },
  { name: 'generic', run: (cluster, scale) => sql(cluster, genericSql(scale)) },
  { name: 'gin', run: (cluster, scale) => sql(cluster, ginSql(scale)) },
  { name: 'gist', run: (cluster, scale) => sql(cluster, gistSql(scale)) },
  { name: 'spgist', run: (cluster, scale) => sql(cluster, spgistSql(scale)) },
  { name: 'ddl', run: (cluster, scale) => sql(cluster, ddlSql(scale)) },
  { name: 'row locks', run: rowLocks },
  { name: 'speculation', run: speculation },
  { name: 'transactions', run: transactions },
];

async function sql(cluster: LoadServer, text: string): Promise<void> {
  await cluster.psql(text);
}

async function pgbench(cluster: LoadServer, scale: number): Promise<void> {
  await cluster.run('pgbench', [...cluster.connectArgs(), '-i', '-q', '-s', '1', 'postgres']);
  const run = ['-n', '-c', '4', '-j', '2', '-t', String(150 * scale)];
  await cluster.run('pgbench', [...cluster.connectArgs(), ...run, 'postgres']);
  await cluster.psql('vacuum analyze pgbench_accounts; vacuum freeze pgbench_branches;');
}

/** Rows of all shapes; HOT chains; pruning; vacuum with truncation; freezing; TOAST; COPY FREEZE; speculative insertion. */
function heapSql(scale: number): string {
  const rows = 800 * scale;
  return `
    create table h (id int, a int, b text, c text) with (fillfactor = 70);
    create index on h (id);
    insert into h select g, g % 7, repeat('x', g % 90), case when g % 5 = 0 then null else md5(g::text) end
      from generate_series(1, ${rows}) g;
    update h set a = a + 1 where id % 3 = 0;
    update h set b = b || 'tail' where id % 4 = 1;
    update h set c = 'head' || c where id % 11 = 0;
    update h set id = id + 100000 where id % 13 = 0;
    do $$ begin for i in 1..25 loop update h set a = a + 1 where id <= 6; end loop; end $$;
    select count(*) from h where a >= 0;
    delete from h where id % 17 = 0;
    vacuum h;
    update h set a = 0 where id % 19 = 0;
    delete from h where id % 23 = 0;
    vacuum freeze h;
    select * from h where id = 5 for update;
    select * from h where id = 7 for key share;
    update h set a = 1 where id % 29 = 0;
    delete from h where id % 31 = 0;
    delete from h where ctid > '(${Math.floor(rows / 120)},0)'::tid;
    vacuum (freeze, truncate on) h;
    insert into h select g, 0, 'after truncation', null from generate_series(1, ${rows / 2}) g;

    create table wide (id int primary key, big text, small text);
    alter table wide alter big set storage external;
    insert into wide select g, repeat(md5(g::text), 300), 's' from generate_series(1, ${20 * scale}) g;
    update wide set small = 't' where id % 2 = 0;
    update wide set big = big || 'more' where id % 3 = 0;
    delete from wide where id % 5 = 0;
    vacuum wide;

    create table wide_nulls (${Array.from({ length: 40 }, (_, i) => `c${i} int`).join(', ')});
    insert into wide_nulls (c0, c39) select g, g from generate_series(1, 50) g;
    update wide_nulls set c20 = 5 where c0 % 2 = 0;
    update wide_nulls set c39 = null where c0 % 3 = 0;

    create table upserts (k int primary key, n int);
    insert into upserts select g % 50, 1 from generate_series(1, 49) g;
    do $$ begin for i in 1..60 loop
      insert into upserts values (i, 1) on conflict (k) do update set n = upserts.n + 1;
      insert into upserts values (i, 1) on conflict do nothing;
    end loop; end $$;

    begin;
    create table frozen (id int, t text);
    copy frozen (id) from program 'seq 1 ${rows}' with (freeze);
    commit;
    update frozen set t = 'z' where id % 40 = 0;
    vacuum frozen;
    delete from frozen where id % 41 = 0;
    begin;
    create table stays_frozen (id int);
    copy stays_frozen from program 'seq 1 ${rows}' with (freeze);
    commit;
    select * from stays_frozen where id = 3 for update;

    create table parts (id int, t text) partition by range (id);
    create table parts_a partition of parts for values from (0) to (100);
    create table parts_b partition of parts for values from (100) to (1000);
    insert into parts select g, 'p' from generate_series(1, 150) g;
    update parts set id = id + 90 where id % 3 = 0 and id < 60;
  `;
}

/** Page splits at the right and in the middle, posting lists and their splits, deletes in lists, page deletion, deep trees. */
function btreeSql(scale: number): string {
  const rows = 3000 * scale;
  return `
    create table b (id int, dup int, txt text, wide text);
    create index b_dup on b (dup);
    create index b_nodedup on b (dup) with (deduplicate_items = off);
    create index b_txt on b (txt);
    create index b_wide on b (wide text_pattern_ops, id);
    create unique index b_id on b (id) include (dup);
    insert into b select g, g % 11, md5((g * 7919 % 10007)::text), repeat(md5(g::text), 1 + g % 9)
      from generate_series(1, ${rows}) g;
    insert into b select g, 5, md5(g::text), 'same prefix of a wide key ' || repeat('y', 400) || g
      from generate_series(${rows} + 1, ${rows} + ${rows / 4}) g;
    delete from b where dup = 3 and id % 2 = 0;
    delete from b where id between ${rows / 4} and ${rows / 2};
    vacuum b;
    insert into b select g, g % 11, md5((g * 31)::text), repeat('w', 50) from generate_series(${rows / 4}, ${rows / 3}) g;
    delete from b where dup in (1, 2, 5, 6);
    vacuum b;
    vacuum b;
    insert into b select g, 5, 'z', 'q' from generate_series(1000000, ${1000000 + rows / 4}) g;
    set enable_seqscan = off; set enable_bitmapscan = off;
    do $$ begin for i in 1..30 loop
      update b set txt = txt || i where id between 1000000 and 1000020;
      perform count(*) from b where dup = 5;
    end loop; end $$;
    delete from b where id >= 0;
    vacuum b;
    vacuum b;
    insert into b select g, g % 3, md5(g::text), 'again' from generate_series(1, ${rows / 2}) g;
    reindex table b;
    create table deep (k text);
    create index deep_k on deep (k);
    insert into deep select lpad((g * 7919 % 100003)::text, 900, 'k') from generate_series(1, ${400 * scale}) g;
    delete from deep where k < lpad('50000', 900, 'k');
    vacuum deep;
    vacuum deep;
    insert into deep select lpad((g * 31 % 100003)::text, 900, 'k') from generate_series(1, ${200 * scale}) g;
    delete from deep;
    vacuum deep;
    vacuum deep;
    insert into deep select lpad(g::text, 900, 'k') from generate_series(1, 30) g;
  `;
}

/** Bucket splits, overflow pages, their squeezing, dead tuples removed by insertions. */
function hashSql(scale: number): string {
  const rows = 2000 * scale;
  return `
    create table hs (id int, k int);
    create index hs_empty on hs using hash (k);
    insert into hs select g, g from generate_series(1, ${rows}) g;
    create index hs_built on hs using hash (id);
    insert into hs select g, 7 from generate_series(1, ${rows}) g;
    insert into hs select g, g % 20 from generate_series(1, ${rows / 2}) g;
    delete from hs where k = 7 and id % 5 <> 0;
    delete from hs where id between 100 and 900;
    vacuum hs;
    insert into hs select g, g * 3 from generate_series(1, ${rows}) g;
    delete from hs where k > 100;
    vacuum hs;
    insert into hs select g, 11 from generate_series(1, ${rows / 2}) g;
    set enable_seqscan = off; set enable_bitmapscan = off;
    delete from hs where k = 11 and id < ${rows / 4};
    select count(*) from hs where k = 11;
    insert into hs select g, 11 from generate_series(1, ${rows / 4}) g;
    select count(*) from hs where k = 11;
    insert into hs select g, 11 from generate_series(1, ${rows / 4}) g;
    delete from hs; vacuum hs;
    insert into hs select g, g from generate_series(1, 500) g;
  `;
}

/** Summaries, their growth in place and to other pages, extension of the range map, desummarization. */
function brinSql(scale: number): string {
  const rows = 500 * scale;
  return `
    create table br (id int, t text) with (fillfactor = 20);
    create index br_id on br using brin (id) with (pages_per_range = 1, autosummarize = off);
    create index br_t on br using brin (t) with (pages_per_range = 2);
    create index br_multi on br using brin (id int4_minmax_multi_ops) with (pages_per_range = 1);
    create index br_bloom on br using brin (id int4_bloom_ops) with (pages_per_range = 1);
    insert into br select g, repeat(chr(97 + g % 26), g % 600) from generate_series(1, ${rows}) g;
    select brin_summarize_new_values('br_id'), brin_summarize_new_values('br_t'),
      brin_summarize_new_values('br_multi'), brin_summarize_new_values('br_bloom');
    insert into br select -g * 7, repeat('zz', g % 800) from generate_series(1, ${rows}) g;
    vacuum br;
    update br set t = repeat('y', 2200) where id % 5 = 0;
    update br set id = id * 11 where id % 7 = 0;
    select brin_desummarize_range('br_id', 3), brin_desummarize_range('br_t', 10), brin_desummarize_range('br_id', 20);
    select brin_summarize_range('br_id', 3);
    delete from br where id % 3 = 0;
    vacuum br;
    insert into br select g, repeat('b', 900) from generate_series(1, ${rows}) g;
    vacuum br;
  `;
}

/** The bloom extension writes generic records. */
function genericSql(scale: number): string {
  return `
    create extension bloom;
    create table bl (a int, b int);
    create index bl_ab on bl using bloom (a, b);
    insert into bl select g, g % 50 from generate_series(1, ${1500 * scale}) g;
    delete from bl where a % 3 = 0;
    vacuum bl;
    insert into bl select g, g % 50 from generate_series(1, ${500 * scale}) g;
    delete from bl; vacuum bl;
    insert into bl select g, g % 50 from generate_series(1, 50) g;
  `;
}

/** Pending lists, posting trees with several levels, recompression, page deletion. */
function ginSql(scale: number): string {
  const rows = 3000 * scale;
  return `
    create table gi (id int, a int[]);
    create index gi_slow on gi using gin (a) with (fastupdate = off);
    create index gi_fast on gi using gin (a) with (fastupdate = on, gin_pending_list_limit = 64);
    insert into gi select g, array[1, g % 3 + 10, g % 500 + 1000] from generate_series(1, ${rows}) g;
    insert into gi select g, array_agg(x) from generate_series(1, ${10 * scale}) g, generate_series(g, g + 400) x group by g;
    vacuum gi;
    delete from gi where id % 4 = 0;
    vacuum gi;
    insert into gi select g, array[1, g % 50] from generate_series(1, ${rows}) g;
    select gin_clean_pending_list('gi_fast');
    insert into gi select g, array[1, 2] from generate_series(1, 200) g;
    create index gi_built on gi using gin (a);
    delete from gi where id between ${rows / 4} and ${rows};
    vacuum gi;
    insert into gi select g, array[1, 7] from generate_series(1, ${rows / 2}) g;
    delete from gi;
    vacuum gi;
    vacuum gi;
    insert into gi select g, array[1, g] from generate_series(1, 300) g;
    create table gi_wide (t text[]);
    create index gi_wide_t on gi_wide using gin (t) with (fastupdate = off);
    insert into gi_wide select array[repeat(md5(g::text), 60), md5(g::text)] from generate_series(1, ${150 * scale}) g;
    create table gi_deep (id int);
    copy gi_deep from program 'seq 1 50000';
    create index gi_deep_i on gi_deep using gin ((array[least(id, 1)])) with (fastupdate = off);
    insert into gi_deep select generate_series(60001, 66500);
    delete from gi_deep where id between 5000 and 40000;
    vacuum gi_deep;
    vacuum gi_deep;
    insert into gi_deep select generate_series(1, ${1500 * scale});
    delete from gi_deep where id % 3 = 0;
    vacuum gi_deep;
  `;
}

/** Leaf and inner splits, page deletion, dead tuples removed by insertions, replacement of one tuple. */
function gistSql(scale: number): string {
  const rows = 2000 * scale;
  return `
    create table ge (id int, p point, r int4range, t tsvector);
    create index ge_p on ge using gist (p);
    create index ge_r on ge using gist (r);
    create index ge_t on ge using gist (t);
    create index ge_deep on ge using gist (t tsvector_ops(siglen = 1900));
    create index ge_box on ge using gist (box(p, point(p[0] + 1, p[1] + 1))) with (buffering = on);
    insert into ge select g, point(g * 7919 % 10007, g * 31 % 997), int4range(g, g + g % 50), to_tsvector('simple', 'w' || g % 40 || ' x' || g)
      from generate_series(1, ${rows}) g;
    delete from ge where id % 3 = 0;
    vacuum ge;
    insert into ge select g, point(g, g), int4range(g, g + 1), to_tsvector('simple', 'again') from generate_series(1, ${rows / 2}) g;
    set enable_seqscan = off; set enable_bitmapscan = off;
    delete from ge where p <@ box '(0,0),(4000,1000)';
    select count(*) from ge where p <@ box '(0,0),(4000,1000)';
    insert into ge select g, point(g % 4000, g % 1000), null, null from generate_series(1, ${rows / 2}) g;
    delete from ge; vacuum ge; vacuum ge;
    insert into ge select g, point(g, -g), int4range(g, g + 1), null from generate_series(1, 500) g;
  `;
}

/** Tries, quadtrees and range trees: chains, moves, node additions, prefix splits, vacuum with redirections. */
function spgistSql(scale: number): string {
  const rows = 2500 * scale;
  return `
    create table sp (id int, t text, p point, r int4range);
    create index sp_t on sp using spgist (t);
    create index sp_p on sp using spgist (p);
    create index sp_kd on sp using spgist (p kd_point_ops);
    create index sp_r on sp using spgist (r);
    insert into sp select g, case when g % 50 = 0 then null else md5((g % 1000)::text) || repeat('t', g % 60) end,
      point(g * 7919 % 10007, g * 31 % 997), int4range(g % 300, g % 300 + g % 40) from generate_series(1, ${rows}) g;
    insert into sp select g, 'common prefix of many ' || repeat('c', g % 200) || g, null, null from generate_series(1, ${rows / 2}) g;
    insert into sp select g, chr(65 + g % 60) || 'x', point(1, 1), int4range(1, 2) from generate_series(1, ${rows / 4}) g;
    delete from sp where id % 3 = 0;
    vacuum sp;
    insert into sp select g, 'common pre' || chr(97 + g % 26) || g, point(g, g), int4range(g, g + 1) from generate_series(1, ${rows / 2}) g;
    delete from sp where id % 3 = 1;
    vacuum sp;
    vacuum sp;
    insert into sp select g, 'again' || g, point(-g, g), null from generate_series(1, 500) g;
    delete from sp; vacuum sp; vacuum sp;
    insert into sp select g, 'z', point(0, 0), int4range(5, 6) from generate_series(1, 50) g;
    delete from sp where id % 2 = 0; vacuum sp;
    create table sp_few (t text);
    create index on sp_few using spgist (t);
    insert into sp_few select 'few' || g from generate_series(1, 20) g;
    delete from sp_few where t in ('few3', 'few4'); vacuum sp_few;
    insert into sp_few values (null), (null);
  `;
}

function ddlSql(scale: number): string {
  return `
    create table d (id serial primary key, t text);
    insert into d (t) select md5(g::text) from generate_series(1, ${300 * scale}) g;
    alter table d add column n int default 7;
    alter table d alter column n type bigint;
    create index on d (t);
    cluster d using d_pkey;
    vacuum full d;
    truncate d restart identity;
    insert into d (t) select 'x' from generate_series(1, 50);
    begin; create table gone (i int); insert into gone select generate_series(1, 200); rollback;
    begin; truncate d; insert into d (t) values ('y'); rollback;
    create sequence s cache 1;
    select nextval('s') from generate_series(1, 100);
    select setval('s', 5000); alter sequence s increment by 3 maxvalue 100000;
    select nextval('s') from generate_series(1, 40);
    create table dropped (i int primary key); insert into dropped select generate_series(1, 300); drop table dropped;
    create materialized view mv as select * from d; refresh materialized view mv;
    create unlogged table u (i int primary key); insert into u select generate_series(1, 100);
    alter table u set logged;
    create database copied;
    create table catalog_churn (i int);
    do $$ begin for i in 1..${15 * scale} loop
      execute format('create table churn_%s (a int primary key, b text)', i);
      execute format('comment on table churn_%s is %L', i, repeat('c', 200));
      if i % 2 = 0 then execute format('drop table churn_%s', i); end if;
    end loop; end $$;
    vacuum; analyze;
    vacuum full pg_class;
    reindex table pg_class;
  `;
}

/** Multixacts of several strengths, locks on updated rows, lock upgrades, updates of locked rows. */
async function rowLocks(cluster: LoadServer, scale: number): Promise<void> {
  await cluster.psql(`
    create table l (id int primary key, v int);
    insert into l select g, 0 from generate_series(1, 100) g;
    create table child (id int primary key, parent int references l);
    vacuum freeze l;`);
  const clients = await connect(cluster, 4);
  const [a, b, c, d] = clients as [pg.Client, pg.Client, pg.Client, pg.Client];
  try {
    for (let round = 0; round < 12 * scale; round++) {
      const id = 1 + (round % 90);
      for (const client of clients) await client.query('begin');
      await a.query(`select * from l where id between ${id} and ${id + 3} for key share`);
      await b.query(`select * from l where id between ${id} and ${id + 3} for share`);
      await c.query(`select * from l where id = ${id} for key share`);
      await d.query(`insert into child values (${round}, ${id + 1})`);
      await b.query(round % 2 ? 'commit' : 'rollback');
      await c.query(`update l set v = v + 1 where id in (${id}, ${id + 1})`);
      await a.query(`select * from l where id = ${id} for key share`);
      // The row's new version is locked as well, by a record of its own.
      await d.query(`select * from l where id = ${id} for key share`);
      await d.query('savepoint s1');
      await d.query(`select * from l where id = ${id + 2} for no key update`);
      await d.query(round % 3 ? 'release s1' : 'rollback to s1');
      await c.query(round % 5 ? 'commit' : 'rollback');
      await a.query(`select * from l where id = ${id} for key share`);
      await a.query('commit');
      await d.query('commit');
    }
    await a.query('delete from l where id % 7 = 0 and not exists (select 1 from child where parent = l.id)');
    await a.query('vacuum l');
    await a.query('vacuum freeze l');
  } finally {
    await Promise.all(clients.map((client) => client.end()));
  }
}

function connect(cluster: LoadServer, count: number): Promise<pg.Client[]> {
  return Promise.all(
    Array.from({ length: count }, async () => {
      const client = new pg.Client(cluster.connection());
      await client.connect();
      return client;
    }),
  );
}

/** Sessions that insert the same key at once: the losers undo their speculative rows. The index makes them slow enough to meet. */
async function speculation(cluster: LoadServer, scale: number): Promise<void> {
  await cluster.psql(`
    create table races (k int);
    create function slowly(k int) returns int language plpgsql immutable as
      $$ begin perform pg_sleep(0.01); return k; end $$;
    create unique index on races (slowly(k));`);
  const clients = await connect(cluster, 3);
  try {
    for (let round = 0; round < 6 * scale; round++) {
      await Promise.all(
        clients.map((client) => client.query(`insert into races values (${round}) on conflict do nothing`)),
      );
    }
  } finally {
    await Promise.all(clients.map((client) => client.end()));
  }
}

/** Subtransactions (few, many, nested), rollbacks, two-phase commit. */
async function transactions(cluster: LoadServer, scale: number): Promise<void> {
  await cluster.psql(`
    create table t (id int, v text);
    do $$ begin for i in 1..${40 * scale} loop
      begin insert into t values (i, 'sub'); if i % 4 = 0 then raise exception 'undo'; end if;
      exception when others then null; end;
    end loop; end $$;
    begin; savepoint a; insert into t values (1, 'a'); savepoint b; insert into t values (2, 'b'); rollback to a;
    insert into t values (3, 'c'); release a; commit;
    begin; insert into t values (5, 'prepared'); savepoint x; update t set v = 'p' where id = 3; prepare transaction 'one';
    begin; insert into t values (6, 'prepared'); savepoint x; delete from t where id = 2; prepare transaction 'two';
    begin; create table in_2pc (i int primary key); insert into in_2pc select generate_series(1, 100); prepare transaction 'three';
    commit prepared 'one'; rollback prepared 'two'; commit prepared 'three';
    begin; insert into t values (7, 'stays prepared'); prepare transaction 'four';
    begin; insert into t values (8, 'rolled back'); rollback;
  `);
}
