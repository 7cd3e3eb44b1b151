-- Hypothetical indexes: nothing is stored, the planner's hooks only.
create extension hypopg;
create table t (id int, v text); insert into t select i, 'v' || i % 1000 from generate_series(1, 20000) i; vacuum analyze t;
explain (costs off) select * from t where id = 5;
select count(*) from hypopg_create_index('create index on t (id)');
select regexp_replace(line, '<\d+>', '<N>') as line from (select 1) x, lateral (select 'see below' as line) y;
do $$ declare line text; begin for line in execute 'explain (costs off) select * from t where id = 5' loop raise notice '%', regexp_replace(line, '<\d+>', '<N>'); end loop; end $$;
select count(*) from hypopg_create_index('create index on t using brin (id)'); select count(*) from hypopg_create_index('create index on t using hash (v)'); select table_name, am_name from hypopg_list_indexes order by 1, 2;
select am_name, pg_size_pretty(hypopg_relation_size(indexrelid)) from hypopg_list_indexes order by 1;
create index t_real on t (v); select hypopg_hide_index('t_real'::regclass); explain (costs off) select * from t where v = 'v5'; select hypopg_unhide_index('t_real'::regclass); select hypopg_reset();
explain (costs off) select * from t where v = 'v5'; explain (costs off) select * from t where id = 5; select count(*) from t where v = 'v5';
select hypopg_create_index('create index on nothing (id)'); select count(*) from hypopg();
