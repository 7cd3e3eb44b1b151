-- The same indexes, as storage rebuilt them from WAL.
select bt_index_parent_check(c.oid::regclass, true, true) from pg_class c join pg_index i on i.indexrelid = c.oid join pg_am a on a.oid = c.relam
 where a.amname = 'btree' and relnamespace = 'index_btree'::regnamespace and indisvalid order by relname;
set enable_seqscan = off; set enable_bitmapscan = off;
select count(*), sum(id) from t where id between 1000 and 1999;
select k, id from t order by k desc nulls first limit 5;
select id from t where s like 'abc%' order by id;
select count(*) from t where n = 7.5;
select count(*), sum(id) from t where k % 100 = 5 and upper(s) > 'F';
select id, k, d from t where id = 77;
select count(*), sum(id), sum(v) from g;
select id, v from g where v between 100 and 110 order by v, id;
select i2 from types order by by limit 3;
select i2 from types order by ip desc limit 3;
select count(distinct s), count(*) from long;
insert into g select i, -i, 'after' from generate_series(30000, 33000) i;
update g set v = v + 7 where id % 3 = 0;
delete from g where id between 100 and 900;
vacuum g;
select count(*), sum(id), sum(v) from g;
select bt_index_parent_check('g_pkey', true, true), bt_index_parent_check('g_v', true, true);
insert into u values (1, 5);
insert into t select i, i, 's' || i, '2020-02-02', i from generate_series(20000, 21000) i;
select count(*) from t where s like 's20%';
