-- Large values: every storage kind, both compressions, changes and removal.
create function noise(n int, seed int) returns text language sql immutable as $$ select string_agg(md5((i * 31 + seed)::text), '') from generate_series(1, n) i $$;
create table plain_storage (id int, v text);
alter table plain_storage alter v set storage plain;
insert into plain_storage values (1, noise(10, 1));
insert into plain_storage values (2, noise(1000, 1));
create table tt (id int primary key, ext text, exn text, mn text);
alter table tt alter ext set storage extended, alter exn set storage external, alter mn set storage main;
insert into tt select i, noise(i * 3, i), noise(i * 3, -i), repeat('main', i * 40) from generate_series(1, 150) i;
insert into tt values (1000, repeat('a', 1000000), repeat('b', 300000), repeat('c', 200000));
select sum(length(ext)), sum(length(exn)), sum(length(mn)), md5(string_agg(ext || exn || mn, '' order by id)) from tt;
select pg_column_size(ext), pg_column_size(exn), pg_column_size(mn) from tt where id in (1, 150, 1000) order by id;
select substr(exn, 150000, 10), substr(ext, 999990) from tt where id = 1000;
update tt set ext = ext || 'x' where id % 2 = 0;
update tt set mn = mn || 'y' where id % 3 = 0;
update tt set id = -id where id % 5 = 0;
delete from tt where id between 50 and 70;
vacuum tt;
insert into tt select i, noise(200, i), null, '' from generate_series(2000, 2050) i;
select sum(length(ext)), sum(length(exn)), sum(length(mn)), md5(string_agg(ext || coalesce(exn, '') || mn, '' order by id)) from tt;
select pg_relation_size('tt'), pg_table_size('tt') > pg_relation_size('tt');
vacuum full tt;
select sum(length(ext)), md5(string_agg(ext, '' order by id)) from tt;
-- compression methods
create table lz (id int, a text compression pglz, b text compression lz4, j jsonb compression lz4);
insert into lz select i, repeat('abc' || i, 2000), repeat('abc' || i, 2000), (select jsonb_agg(x) from generate_series(1, i * 20) x) from generate_series(1, 60) i;
select pg_column_compression(a), pg_column_compression(b), pg_column_compression(j), count(*) from lz group by 1, 2, 3 order by 1, 2, 3;
select sum(length(a)), sum(length(b)), sum(jsonb_array_length(j)), md5(string_agg(a || b || j, '' order by id)) from lz;
alter table lz alter a set compression lz4;
update lz set a = a || 'new' where id % 2 = 0;
select pg_column_compression(a), count(*) from lz group by 1 order by 1;
set default_toast_compression = lz4;
create table lz2 as select id, a || '' as a from lz;
select pg_column_compression(a), count(*) from lz2 group by 1 order by 1;
insert into lz2 select id, a from lz;
select sum(length(a)) from lz2;
-- composite, array and jsonb that hold large values
create table c (id int, arr text[], j jsonb);
insert into c select i, array[noise(300, i), noise(400, i)], jsonb_build_object('big', noise(500, i), 'n', i) from generate_series(1, 40) i;
update c set arr[2] = 'small', j = j || '{"n": 0}' where id % 2 = 0;
select sum(length(arr[1])), sum(length(arr[2])), sum(length(j ->> 'big')), sum((j ->> 'n')::int) from c;
-- long lived references: old version seen by a cursor while the new one is written
begin;
declare old cursor for select id, length(exn), md5(exn) from tt where id between 1 and 6 order by id;
fetch 1 from old;
update tt set exn = 'gone';
delete from tt where id = 3;
fetch all from old;
rollback;
select md5(exn) from tt where id = 3;
-- toast tables with index on a toasted expression, and reindex of the toast table
create index on tt (md5(ext));
reindex table tt;
select reltoastrelid::regclass::text like 'pg_toast.%' from pg_class where relname = 'tt';
do $$ begin execute 'reindex table ' || (select reltoastrelid::regclass from pg_class where relname = 'tt' and relnamespace = 'toast'::regnamespace);
  execute 'vacuum ' || 'tt'; exception when active_sql_transaction then raise notice 'no vacuum in a function'; end $$;
select count(*) from tt where md5(ext) = md5(noise(200, 2010));
-- large objects
select lo_create(424242), lo_from_bytea(424243, decode(repeat('ab', 5000), 'hex'));
begin;
select lo_open(424242, 131072 | 262144) as fd \gset
select lowrite(:fd, decode(repeat('0102030405060708', 3000), 'hex'));
select lo_lseek64(:fd, 100000, 0), lowrite(:fd, '\xffff');
select lo_tell64(:fd), lo_lseek(:fd, 8, 0), loread(:fd, 8);
select lo_truncate(:fd, 50000);
select lo_close(:fd);
commit;
select lo_get(424242, 49990, 100), length(lo_get(424242)), md5(lo_get(424243));
select lo_put(424243, 4990, '\xdeadbeef');
select substr(lo_get(424243), 4985);
\lo_export 424243 :dir/lo
\lo_unlink 424242
select count(*), sum(length(data)) from pg_largeobject where loid in (424242, 424243);
select lo_get(424242);
begin; select lo_unlink(424243); rollback;
select length(lo_get(424243));
