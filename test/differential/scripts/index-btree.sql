-- Btree indexes: every variety, built and grown, with little memory.
create table t (id int, k int, s text, d date, n numeric);
insert into t select i, (i * 7919) % 10007, md5(i::text), '2000-01-01'::date + i % 1000, i % 100 + 0.5 from generate_series(1, 12000) i;
create index t_id on t (id);
create index t_k_desc on t (k desc nulls first);
create index t_s on t (s collate "C" text_pattern_ops);
create index t_dup on t (n);
create index t_nodup on t (n) with (deduplicate_items = off);
create index t_expr on t ((k % 100), upper(s));
create index t_part on t (id) where k < 100;
create unique index t_incl on t (id) include (k, d);
create index t_fill on t (d, id) with (fillfactor = 50);
analyze t;
set enable_seqscan = off; set enable_bitmapscan = off;
explain (costs off) select id from t where id between 100 and 110 order by id;
select count(*), sum(id) from t where id between 1000 and 1999;
select k, id from t order by k desc nulls first limit 5;
select k, id from t order by k nulls last limit 5;
select id from t where s like 'abc%' order by id;
select count(*) from t where n = 7.5;
explain (costs off) select id from t where k % 100 = 5 and upper(s) > 'F';
select count(*), sum(id) from t where k % 100 = 5 and upper(s) > 'F';
select count(*) from t where id > 500 and k < 100;
vacuum t;
explain (costs off) select id, k, d from t where id = 77;
select id, k, d from t where id = 77;
select id from t where id in (1, 5, 100, 11999, 99999) order by id desc;
set enable_bitmapscan = on; set enable_indexscan = off; set enable_indexonlyscan = off;
explain (costs off) select count(*) from t where id < 2000 and n = 7.5;
select count(*) from t where (id < 2000 and n = 7.5) or k = 5;
reset enable_indexscan; reset enable_indexonlyscan;
-- unique: nulls, nulls not distinct, deferrable, exclusion by hand
create table u (a int, b int, constraint ab unique (a, b) deferrable, constraint a_once unique nulls not distinct (a));
insert into u values (1, 1), (2, null), (3, null);
insert into u values (null, 1);
insert into u values (null, 2);
insert into u values (1, 5);
begin;
set constraints ab deferred;
update u set a = a + 1 where a = 1;
rollback;
alter table u drop constraint a_once;
begin;
set constraints ab deferred;
insert into u values (1, 1);
update u set b = 2 where ctid = (select max(ctid) from u where a = 1);
commit;
select * from u order by a, b;
-- growth at random places, deletes, bottom-up deletion, page recycling
create table g (id int primary key, v int, pad text);
create index g_v on g (v);
insert into g select (i * 7919) % 10007, i, repeat('p', 20) from generate_series(0, 9999) i;
update g set v = v + 1;
update g set v = v + 1 where id % 2 = 0;
do $$ begin for i in 1..20 loop update g set v = v + 1 where id between 100 and 140; end loop; end $$;
delete from g where id between 2000 and 8000;
vacuum g;
insert into g select i, -i, 'again' from generate_series(20000, 24000) i;
vacuum g;
select count(*), sum(id), sum(v) from g;
select bt_index_parent_check('g_pkey', true, true), bt_index_parent_check('g_v', true, true);
select bt_index_parent_check(c.oid::regclass, true, true) from pg_class c where relkind = 'i' and relnamespace = 'index_btree'::regnamespace order by relname;
-- long keys, so that pages hold few
create table long (s text);
create index on long (s);
insert into long select repeat(md5(i::text), 60) from generate_series(1, 600) i;
insert into long values (repeat('x', 100000));
select count(distinct s), count(*) from long;
insert into long select string_agg(md5((i * j)::text), '') from generate_series(1, 100) i, generate_series(1, 100) j group by i;
-- mixed-type keys
create table types (b bool, c "char", i2 int2, i8 int8, f4 float4, f8 float8, u uuid, by bytea, ts timestamptz, iv interval, ip inet, m macaddr, bi bit(5), na name, o oid, mo money, ti time);
insert into types select i % 2 = 0, chr(65 + i % 26)::"char", i, i * 1e10, i / 7.0, i / 3.0, md5(i::text)::uuid, decode(md5(i::text), 'hex'),
  '2020-01-01'::timestamptz + i * interval '1 hour', i * interval '1 minute', ('10.0.' || i / 256 || '.' || i % 256)::inet,
  ('08:00:2b:01:02:' || lpad(to_hex(i % 256), 2, '0'))::macaddr, (i % 32)::bit(5), 'n' || i, i, i::money, '00:00'::time + i * interval '1 second'
  from generate_series(1, 500) i;
select format('create index on types (%I)', attname) from pg_attribute where attrelid = 'types'::regclass and attnum > 0 order by attnum \gexec
set enable_seqscan = off; set enable_bitmapscan = off;
select count(*) from types where u > '80000000-0000-0000-0000-000000000000';
select i2 from types order by by limit 3;
select i2 from types order by ip desc limit 3;
select i2 from types where f4 between 1 and 2 order by f4;
select i2 from types where iv = interval '2 hours';
select i2 from types order by bi, i2 limit 3;
-- parallel build, concurrently, reindex
set max_parallel_maintenance_workers = 2; set min_parallel_table_scan_size = 0; set maintenance_work_mem = '64MB';
create index t_par on t (k, id);
alter table t set (parallel_workers = 2);
create index t_par2 on t (s, id);
select bt_index_check('t_par', true), bt_index_check('t_par2', true);
create index concurrently t_cic on t (d, k);
create unique index concurrently t_cic_fail on t (n);
select indexrelid::regclass, indisvalid from pg_index where indrelid = 't'::regclass order by 1::regclass::text collate "C";
drop index t_cic_fail;
drop index concurrently t_cic;
reindex index t_id;
reindex (verbose off) table t;
reindex table concurrently t;
reindex index concurrently t_par2;
select bt_index_parent_check(indexrelid, true, true) from pg_index where indrelid = 't'::regclass;
cluster t using t_k_desc;
select id, k from t where ctid < '(0,6)' order by ctid;
alter table t set without cluster;
cluster t;
alter index t_id rename to t_id2;
alter index t_id2 set (fillfactor = 60);
alter table t add constraint t_pk primary key using index t_incl;
select count(*) from t a join t b using (id) where a.k < b.k + 10;
