-- Index type bloom: generic WAL records.
create extension bloom;
create table t (id int, a int, b int, c text, d int);
create index t_bloom on t using bloom (a, b, c) with (length = 96, col1 = 2, col2 = 2, col3 = 4);
insert into t select i, i % 100, i % 313, 'c' || i % 57, i from generate_series(1, 20000) i;
create index t_late on t using bloom (b, d) with (length = 80);
set enable_seqscan = off;
select count(*), sum(id) from t where a = 5 and b = 105;
select count(*), sum(id) from t where a = 7 and c = 'c7'; select count(*), sum(id) from t where b = 100 and d = 100;
explain (costs off) select count(*) from t where b = 100 and d = 100;
update t set a = a + 1000 where id % 10 = 0; delete from t where id % 7 = 0;
select count(*), sum(id) from t where a = 1010;
vacuum t;
insert into t select i, i % 100, i % 313, 'c' || i % 57, i from generate_series(20001, 26000) i;
begin; insert into t select i, 5, 105, 'never', i from generate_series(1, 3000) i; savepoint s; delete from t where a = 5; select count(*) from t where a = 5; rollback to s; select count(*) from t where a = 5 and c = 'never'; rollback;
select count(*), sum(id) from t where a = 5 and b = 105;
vacuum t; reindex index t_late; select count(*), sum(id) from t where b = 100 and d = 100;
select version, opaque from (select 'x' as version, count(*) as opaque from t where a = 99) x;
create unlogged table u (a int, b int); create index on u using bloom (a, b); insert into u select i % 50, i % 70 from generate_series(1, 5000) i; select count(*) from u where a = 3 and b = 3; vacuum u;
