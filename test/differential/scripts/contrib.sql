-- The common operations of the contributed extensions.
create extension hstore; create extension ltree; create extension citext; create extension cube; create extension earthdistance; create extension intarray;
create extension pgcrypto; create extension "uuid-ossp"; create extension tablefunc; create extension unaccent; create extension fuzzystrmatch; create extension isn; create extension seg;
create extension lo; create extension pgrowlocks; create extension pg_buffercache; create extension tsm_system_rows; create extension dict_int; create extension intagg; create extension moddatetime; create extension xml2; create extension old_snapshot; create extension pg_surgery; create extension autoinc; create extension tcn; create extension pg_walinspect; create extension adminpack;
-- hstore
create table hs (id int, h hstore);
insert into hs select i, hstore(array['a', 'k' || i % 10], array[i::text, 'v' || i % 7]) from generate_series(1, 2000) i;
create index hs_gin on hs using gin (h);
create index hs_gist on hs using gist (h gist_hstore_ops (siglen = 32));
set enable_seqscan = off;
select count(*), sum(id) from hs where h @> 'k3=>v5';
select count(*) from hs where h ? 'k7'; 
select h -> 'a', h || 'new=>1'::hstore, akeys(h), delete(h, 'a') from hs where id = 5;
update hs set h = h || 'upd=>1' where id % 9 = 0;
select count(*) from hs where h ? 'upd';
drop index hs_gin;
select count(*), sum(id) from hs where h @> 'k3=>v5';
-- ltree
create table lt (id int, p ltree);
insert into lt select i, ('top.n' || i % 5 || '.m' || i % 37 || '.x' || i)::ltree from generate_series(1, 2000) i;
create index lt_gist on lt using gist (p); create index lt_b on lt (p);
select count(*), sum(id) from lt where p <@ 'top.n3.m7';
select count(*) from lt where p ~ 'top.*{1}.m1*.x2';
select count(*) from lt where p @ 'n3 & m5';
select subpath(p, 1, 2), nlevel(p), lca(p, 'top.n1.zz') from lt where id = 6;
-- citext
create table ci (t citext primary key); insert into ci values ('Abc'), ('DEF'); insert into ci values ('ABC');
select * from ci where t = 'def'; select t from ci where t like 'a%'; select citext_smaller('A', 'b'), 'a'::citext = 'A'::citext;
-- cube, earthdistance, seg
create table cb (id int, c cube); insert into cb select i, cube(array[i % 100, i / 100, i % 7], array[i % 100 + 1, i / 100 + 1, i % 7 + 1]) from generate_series(1, 2000) i;
create index on cb using gist (c);
select count(*), sum(id) from cb where c && cube(array[10, 10, 1], array[12, 12, 3]);
select id from cb order by c <-> cube(array[50, 10, 3]), id limit 3;
select round(earth_distance(ll_to_earth(52.5, 13.4), ll_to_earth(48.1, 11.6))), cube_union('(1,2)', '(3,4)'), cube_dim('(1,2,3)');
create table places (id int, lat float8, lon float8); insert into places select i, i % 90, i % 180 from generate_series(1, 1000) i;
create index on places using gist (ll_to_earth(lat, lon));
select count(*) from places where earth_box(ll_to_earth(10, 10), 500000) @> ll_to_earth(lat, lon);
create table sg (id int, s seg); insert into sg select i, (i || '..' || i + i % 9)::seg from generate_series(1, 1500) i; create index on sg using gist (s);
select count(*) from sg where s && '100..120'; select '5(+-)1'::seg, '1..3'::seg @> '2';
-- intarray, intagg
create table ia (id int, a int[]); insert into ia select i, array[i % 20, i % 33, i] from generate_series(1, 2000) i;
create index ia_gist on ia using gist (a gist__int_ops); 
select count(*), sum(id) from ia where a && '{5,7}'; select count(*) from ia where a @@ '3&(4|5)';
drop index ia_gist; create index ia_big on ia using gist (a gist__intbig_ops); select count(*), sum(id) from ia where a @> '{5}';
drop index ia_big; create index ia_gin on ia using gin (a gin__int_ops); select count(*), sum(id) from ia where a @> '{5}';
select sort('{3,1,2}'::int[]), uniq(sort('{1,2,1}'::int[])), '{1,2}'::int[] | 3, idx('{5,6}', 6), int_array_aggregate(id) from ia where id < 4;
-- btree_gin, btree_gist
create table bg (id int, n numeric, t timestamp, s text, u uuid); insert into bg select i, i / 3.0, '2020-01-01'::timestamp + i * interval '1 min', 's' || i % 100, md5(i::text)::uuid from generate_series(1, 1500) i;
create index on bg using gin (n, t, s); create index bg_gist on bg using gist (n, t, s, u);
select count(*) from bg where n < 10 and s = 's5'; select count(*) from bg where t between '2020-01-01 10:00' and '2020-01-01 11:00'; select id from bg order by n <-> 100 limit 2;
-- pg_trgm
create table tg (id int, s text); insert into tg select i, md5(i::text) || ' hello' || i % 50 from generate_series(1, 1500) i; create index on tg using gist (s gist_trgm_ops (siglen = 64)); 
select count(*) from tg where s ilike '%HELLO7%'; select id from tg where s % 'hello12' order by s <-> 'hello12', id limit 3; select similarity('word', 'two words'), word_similarity('word', 'two words'), show_trgm('ab');
-- pgcrypto, uuid-ossp, fuzzystrmatch, unaccent, tablefunc, isn, xml2
select encode(digest('x', 'sha256'), 'hex'), encode(hmac('a', 'k', 'md5'), 'hex'), crypt('pw', '$1$salt$') , pgp_sym_decrypt(pgp_sym_encrypt('secret', 'pw'), 'pw'), encode(encrypt('data', 'key', 'aes'), 'hex'), length(gen_random_bytes(10)), length(gen_salt('bf'));
select uuid_generate_v5(uuid_ns_dns(), 'example.org'), uuid_generate_v3(uuid_ns_url(), 'x'), uuid_nil();
select levenshtein('kitten', 'sitting'), soundex('Robert'), metaphone('Thompson', 10), dmetaphone('gumbo'), difference('Anne', 'Ann'); select unaccent('Hôtel Ærø');
select * from crosstab('select id % 3, s, count(*) from bg where id < 500 and s in (''s1'', ''s2'') group by 1, 2 order by 1, 2') as ct (r int, a bigint, b bigint);
create table emp_t (a text, b text); insert into emp_t values ('1', null), ('2', '1'), ('3', '2'), ('4', '1'); select * from connectby('emp_t', 'a', 'b', '1', 0) as t (a text, b text, l int) order by l, a;
select count(*) = 10, stddev(n) is not null from normal_rand(10, 5, 1) n;
select isbn('978-0-393-04002-9'), is_valid('978-0-393-04002-0'::text::isbn); select ean13('0220356483481'); select xpath_string('<a><b>t</b></a>', '/a/b'), xml_valid('<a/>');
-- triggers from spi
create table md (id int, at timestamp); create trigger md_t before update on md for each row execute function moddatetime (at); insert into md values (1, '2000-01-01'); update md set id = 2; select at > '2020-01-01' from md; drop table md;
create sequence ai_s; create table ai (id int, v text); create trigger ai_t before insert on ai for each row execute function autoinc (id, ai_s); insert into ai (v) values ('a'), ('b'); select * from ai order by id;
create table tc (id int primary key, v text); create trigger tc_t after insert or update on tc for each row execute function triggered_change_notification (); insert into tc values (1, 'a');
create table lom (id int, l lo); create trigger lom_t before update or delete on lom for each row execute function lo_manage (l); insert into lom values (1, lo_create(515151)); delete from lom; select count(*) from pg_largeobject_metadata where oid = 515151;
-- inspection
create table ins (id int primary key, s text); insert into ins select i, repeat('s', i % 50) from generate_series(1, 1000) i; create index ins_hash on ins using hash (s); create index ins_gin on ins using gin (s gin_trgm_ops); create index ins_gist on ins using gist (s gist_trgm_ops); create index ins_brin on ins using brin (id);
vacuum ins;
select lower, upper, special, pagesize, version from page_header(get_raw_page('ins', 0)); select lp, lp_off, lp_flags, lp_len, t_infomask2, t_ctid from heap_page_items(get_raw_page('ins', 0)) order by lp limit 3;
select version, root, level, fastroot from bt_metap('ins_pkey'); select type, live_items, dead_items, btpo_level from bt_page_stats('ins_pkey', 1); select itemoffset, ctid, itemlen from bt_page_items('ins_pkey', 1) limit 3;
select version, n_total_pages > 0 from gin_metapage_info(get_raw_page('ins_gin', 0)); select flags from gist_page_opaque_info(get_raw_page('ins_gist', 0)); select * from brin_page_type(get_raw_page('ins_brin', 0)); select hash_page_type(get_raw_page('ins_hash', 0)), hash_page_type(get_raw_page('ins_hash', 1));
select table_len, tuple_count, dead_tuple_count from pgstattuple('ins'); select version, tree_level, index_size, leaf_pages from pgstatindex('ins_pkey'); select table_len, approx_tuple_count from pgstattuple_approx('ins'); select version, pending_pages from pgstatginindex('ins_gin'); select version, bucket_pages, live_items from pgstathashindex('ins_hash');
select blkno, all_visible, all_frozen, pd_all_visible from pg_visibility('ins') order by 1 limit 2; select count(*), sum(avail) > 0 from pg_freespace('ins'); select pg_relpages('ins');
select pg_prewarm('ins', 'prefetch'), pg_prewarm('ins', 'read'), pg_prewarm('ins', 'buffer'), pg_prewarm('ins_pkey'); select pg_prewarm('ins', 'buffer', 'vm'), pg_prewarm('ins', 'read', 'fsm'), pg_prewarm('ins', 'buffer', 'main', 2, 3);
select count(*) > 0 from pg_buffercache where relfilenode = pg_relation_filenode('ins'); select count(*) from ins tablesample system_rows (100);
begin; select count(*) from (select * from ins where id < 4 for update) x; select locked_row, modes from pgrowlocks('ins') order by 1::text; commit;
select heap_force_freeze('ins', array['(0,1)'::tid]); select heap_force_kill('ins', array['(0,2)'::tid]); select count(*) from ins; set enable_seqscan = on; select count(*) from ins; vacuum (disable_page_skipping) ins; select count(*) from verify_heapam('ins'); reindex table ins;
select count(*) > 0 from pg_get_wal_records_info_till_end_of_wal(pg_current_wal_lsn() - 2000) ;
select pg_truncate_visibility_map('ins'); vacuum ins; select * from pg_visibility_map_summary('ins');
-- foreign data: a loop back to this server, and files
create extension postgres_fdw; create extension file_fdw;
create server me foreign data wrapper postgres_fdw options (dbname 'diff');
select format('alter server me options (add host %L, add port %L)', :'HOST', :'PORT') as make_known \gset
\set ECHO none
:make_known;
\set ECHO all
create user mapping for current_user server me options (user 'cloud_admin');
create foreign table f_ins (id int, s text) server me options (schema_name 'contrib', table_name 'ins');
select count(*), sum(id) from f_ins; insert into f_ins values (5000, 'remote'); update f_ins set s = 'changed' where id = 5000; select * from f_ins where id = 5000; delete from f_ins where id = 5000;
explain (verbose, costs off) select count(*) from f_ins where id > 5; select count(*) from f_ins a join ins b using (id);
create schema imported; import foreign schema contrib limit to (ins, hs) from server me into imported; alter server me options (add use_remote_estimate 'true'); select count(*) from imported.ins;
drop schema imported cascade;
select :'dir' || '/file.csv' as f \gset
copy (select i, 'line ' || i from generate_series(1, 5) i) to :'f' with (format csv);
create server files foreign data wrapper file_fdw; create foreign table ff (a int, b text) server files options (format 'csv', filename '/dev/null');
\set ECHO none
alter foreign table ff options (set filename :'f');
\set ECHO all
select * from ff order by a;
alter foreign table ff options (set filename '/dev/null');
alter server me options (drop host, drop port);
select dblink_connect('c', format('dbname=diff user=cloud_admin host=%s port=%s', :'HOST', :'PORT')); select dblink_exec('c', 'begin'); select * from dblink('c', 'select 1, 2') as d (a int, b int); select dblink_exec('c', 'commit'), dblink_disconnect('c');
create extension sslinfo; select ssl_is_used(); create extension pg_stat_statements; select count(*) from pg_stat_statements;
drop extension pg_stat_statements; drop extension cube; drop extension cube cascade;
