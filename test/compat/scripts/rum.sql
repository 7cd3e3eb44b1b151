-- Index type rum: generic WAL records, posting trees of its own.
create extension rum;
create table docs (id int primary key, at timestamp, v tsvector);
insert into docs select i, '2021-01-01'::timestamp + i * interval '1 minute', to_tsvector('simple', 'all w' || i % 700 || ' x' || i % 31 || ' y' || (i * i) % 1009 || ' z' || i) from generate_series(1, 12000) i;
create index docs_rum on docs using rum (v rum_tsvector_ops);
create index docs_at on docs using rum (v rum_tsvector_addon_ops, at) with (attach = 'at', to = 'v');
create index docs_hash on docs using rum (v rum_tsvector_hash_ops);
set enable_seqscan = off; set enable_bitmapscan = off;
select count(*), sum(id) from docs where v @@ to_tsquery('simple', 'w5 & x5');
select count(*), sum(id) from docs where v @@ to_tsquery('simple', 'all & !x7');
select count(*), sum(id) from docs where v @@ to_tsquery('simple', 'w1:*');
select count(*), sum(id) from docs where v @@ to_tsquery('simple', 'w5 <-> x5');
select id, round((v <=> to_tsquery('simple', 'w5 | x5'))::numeric, 4) from docs where v @@ to_tsquery('simple', 'w5 | x5') order by v <=> to_tsquery('simple', 'w5 | x5'), id limit 10;
explain (costs off) select id from docs where v @@ to_tsquery('simple', 'x3') order by at <=> '2021-01-03' limit 5;
select id, at, at <=> '2021-01-03' as distance from docs where v @@ to_tsquery('simple', 'x3') order by at <=> '2021-01-03', id limit 5;
select id from docs where v @@ to_tsquery('simple', 'x3') order by at <=| '2021-01-03', id limit 5; select id from docs where v @@ to_tsquery('simple', 'x3') order by at |=> '2021-01-03', id limit 5;
-- Changes: many entries of one word make posting trees that split, deletions empty their pages.
update docs set v = v || to_tsvector('simple', 'changed') where id % 5 = 0;
select count(*), sum(id) from docs where v @@ to_tsquery('simple', 'changed & all');
delete from docs where id between 3000 and 6000; vacuum docs;
select count(*), sum(id) from docs where v @@ to_tsquery('simple', 'all'); select count(*), sum(id) from docs where v @@ to_tsquery('simple', 'x5 & w5');
insert into docs select i, '2021-01-01'::timestamp + i * interval '1 minute', to_tsvector('simple', 'all again w' || i % 700) from generate_series(20001, 24000) i;
begin; delete from docs where id % 2 = 0; insert into docs select i, now(), to_tsvector('simple', 'all never') from generate_series(30001, 32000) i; select count(*) from docs where v @@ to_tsquery('simple', 'never'); rollback;
select count(*) from docs where v @@ to_tsquery('simple', 'never'); select count(*), sum(id) from docs where v @@ to_tsquery('simple', 'again');
vacuum docs; reindex index docs_at; reindex index concurrently docs_hash;
select count(*), sum(id) from docs where v @@ to_tsquery('simple', 'all & !x7');
-- Other operator classes
create table arrays (id int, a int[], at timestamp); insert into arrays select i, array[i % 20, i % 33, i % 7], '2021-01-01'::timestamp + i * interval '1 hour' from generate_series(1, 6000) i;
create index arrays_rum on arrays using rum (a rum_anyarray_ops); create index arrays_at on arrays using rum (a rum_anyarray_addon_ops, at) with (attach = 'at', to = 'a');
select count(*), sum(id) from arrays where a && '{5}'; select count(*), sum(id) from arrays where a @> '{5,6}'; select count(*) from arrays where a <@ '{1,2,3,4,5,6}'; select id, a from arrays where a && '{1,2}' order by a <=> '{1,2}', id limit 5;
create index arrays_times on arrays using rum (at rum_timestamp_ops); select count(*), sum(id) from arrays where at between '2021-02-01' and '2021-03-01'; select id from arrays order by at <=> '2021-02-01 00:30', id limit 3;
create table queries (id int, q tsquery); insert into queries select i, to_tsquery('simple', 'w' || i % 70 || ' & x' || i % 11) from generate_series(1, 3000) i; create index on queries using rum (q rum_tsquery_ops); select count(*), sum(id) from queries where to_tsvector('simple', 'w5 x5 and more') @@ q;
