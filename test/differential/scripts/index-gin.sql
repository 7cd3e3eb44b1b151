-- GIN: arrays, jsonb, full text, trigrams, scalars; fast update on and off; vacuum of the tree and the pending list.
create table a (id int, tags int[], words text, doc jsonb, body tsvector);
insert into a select i, array[i % 10, i % 77, i % 1001, i], md5(i::text) || ' w' || i % 50,
  jsonb_build_object('id', i, 'kind', 'k' || i % 7, 'list', jsonb_build_array(i % 3, i % 5), 'deep', jsonb_build_object('x', i % 11)),
  to_tsvector('simple', 'w' || i % 50 || ' x' || i % 13 || ' all') from generate_series(1, 3000) i;
create index a_tags on a using gin (tags);
create index a_words on a using gin (words gin_trgm_ops);
create index a_doc on a using gin (doc);
create index a_path on a using gin (doc jsonb_path_ops) with (fastupdate = off);
create index a_body on a using gin (body);
create index a_multi on a using gin (id, tags);
set enable_seqscan = off;
explain (costs off) select count(*) from a where tags @> array[5, 5];
select count(*), sum(id) from a where tags @> array[5, 5];
select count(*), sum(id) from a where tags && array[1000, 76];
select count(*), sum(id) from a where tags <@ array[1, 2, 3, 4, 5, 6, 7, 8, 9];
select count(*), sum(id) from a where tags = array[1, 1, 1, 1];
select count(*), sum(id) from a where words like '%abc%';
select count(*), sum(id) from a where words ~ 'f[0-9]f.*w7$';
select count(*), sum(id) from a where words % 'w12 w12';
select count(*), sum(id) from a where doc @> '{"kind": "k3"}';
select count(*), sum(id) from a where doc @> '{"list": [2, 4]}';
select count(*), sum(id) from a where doc ? 'id';
select count(*), sum(id) from a where doc @@ '$.deep.x > 9';
select count(*), sum(id) from a where doc @? '$.list[*] ? (@ == 4)';
select count(*), sum(id) from a where body @@ to_tsquery('simple', 'w7 & x3');
select count(*), sum(id) from a where body @@ to_tsquery('simple', 'w7 | !x3');
select count(*), sum(id) from a where body @@ to_tsquery('simple', 'w:*');
select count(*), sum(id) from a where id = 55;
select count(*), sum(id) from a where id between 10 and 20 and tags @> array[3];
-- growth through the pending list and without it
insert into a select i, array[i % 10, i % 77, i % 1001, i], md5(i::text) || ' w' || i % 50,
  jsonb_build_object('id', i, 'kind', 'k' || i % 7), to_tsvector('simple', 'w' || i % 50 || ' new') from generate_series(3001, 6000) i;
select gin_clean_pending_list('a_tags') >= 0, gin_clean_pending_list('a_body') >= 0;
select count(*), sum(id) from a where tags @> array[5];
select count(*), sum(id) from a where body @@ 'new'::tsquery;
update a set tags = tags || 42 where id % 3 = 0;
alter index a_doc set (fastupdate = off);
alter index a_tags set (gin_pending_list_limit = 64);
insert into a select i, array[42, i % 5], 'z' || i, jsonb_build_object('kind', 'k1', 'n', i), 'z'::tsvector from generate_series(6001, 8000) i;
delete from a where id % 4 = 1 or id between 3000 and 5000;
vacuum a;
select count(*), sum(id) from a where tags @> array[42];
select count(*), sum(id) from a where doc @> '{"kind": "k1"}';
select count(*), sum(id) from a where body @@ 'all'::tsquery;
select count(*), sum(id) from a where words like '%z7%';
-- posting trees: many rows for one key, removed again in the middle
create table p (id int, k int[]);
create index p_k on p using gin (k) with (fastupdate = off);
insert into p select i, array[1, i % 2 + 10] from generate_series(1, 20000) i;
select count(*), sum(id) from p where k @> array[1];
delete from p where id between 4000 and 16000;
vacuum p;
select count(*), sum(id) from p where k @> array[1];
insert into p select i, array[1] from generate_series(30000, 36000) i;
select count(*), sum(id) from p where k @> array[1];
select count(*), sum(id) from p where k @> array[11];
-- build over the same, compare
create index p_k2 on p using gin (k);
drop index p_k;
select count(*), sum(id) from p where k @> array[1];
reindex index concurrently p_k2;
reindex table a;
select count(*), sum(id) from a where tags @> array[42];
create index concurrently a_cic on a using gin (tags, words gin_trgm_ops);
select count(*), sum(id) from a where tags @> array[42] and words like '%z7%';
-- empty entries, nulls, whole-index scans
create table e (id int, x int[]);
insert into e values (1, null), (2, '{}'), (3, array[null]::int[]), (4, array[1, null]), (5, '{1}');
create index on e using gin (x);
select id from e where x @> '{}' order by id;
select id from e where x <@ '{1}' order by id;
select id from e where x @> array[1] order by id;
select id from e where x is null;
insert into e select i, array[i] from generate_series(10, 200) i;
select count(*) from e where x @> '{}';
