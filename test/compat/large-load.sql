-- A database of :scale times about 10 MB, with :rows = 6000 * :scale: the usual column types, long and short rows, every index type,
-- rows that were changed.
create extension if not exists pg_trgm;
create table orders (id bigint primary key, customer int not null, at timestamptz not null, total numeric(12, 2), state text, note text);
insert into orders select i, i % 5003, '2020-01-01'::timestamptz + i * interval '37 s', (i % 100000) / 7.0, (array['new', 'paid', 'sent'])[1 + i % 3],
       md5(i::text) || ' ' || md5((i * 7)::text) || repeat(' note', i % 20) from generate_series(1, :rows * 3) i;
create index orders_customer on orders (customer, at desc) include (total);
create index orders_at on orders using brin (at) with (pages_per_range = 16);
create index orders_state on orders using hash (id);
create unique index orders_paid on orders (lower(md5(id::text))) where state = 'paid';
create table documents (id int primary key, body jsonb not null, words tsvector, tags text[]);
insert into documents select i, jsonb_build_object('id', i, 'name', md5(i::text), 'list', array[i % 7, i % 11, i % 13], 'deep', jsonb_build_object('k' || i % 50, i)),
       to_tsvector('simple', 'w' || i % 997 || ' x' || i % 101 || ' ' || md5((i % 5000)::text)), array['t' || i % 40, 'u' || i % 9] from generate_series(1, :rows) i;
create index documents_body on documents using gin (body jsonb_path_ops);
create index documents_words on documents using gin (words);
create index documents_tags on documents using gin (tags) with (fastupdate = off);
create table places (id int primary key, at point, area box, span int4range, name text);
insert into places select i, point(i * 37 % 10007, i * 91 % 10009), box(point(i % 1000, i % 777), point(i % 1000 + i % 9, i % 777 + i % 7)), int4range(i, i + i % 50),
       'place ' || md5((i % 3000)::text) from generate_series(1, :rows) i;
create index places_at on places using gist (at);
create index places_quad on places using spgist (at);
create index places_span on places using gist (span);
create index places_name on places using gin (name gin_trgm_ops);
-- Long values: out of line, compressed and not.
create table files (id int primary key, data bytea, text text);
alter table files alter data set storage external;
insert into files select i, decode(string_agg(md5((i * 1000 + j)::text), ''), 'hex'), repeat(md5(i::text), 200)
  from generate_series(1, :scale * 60) i, generate_series(1, 256) j group by i order by i;
create table history (like orders) partition by range (id);
select format('create table history_%s partition of history for values from (%s) to (%s)', n, n * (:rows / 4), (n + 1) * (:rows / 4)) from generate_series(0, 12) n \gexec
insert into history select * from orders where id % 3 = 0;
alter table history add primary key (id);
alter table history add foreign key (id) references orders;
update orders set state = 'late', total = total + 1 where id % 10 = 0;
delete from history where id % 30 = 0;
create view late as select customer, count(*), sum(total) from orders where state = 'late' group by 1;
create materialized view per_day as select at::date as day, count(*), sum(total) from orders group by 1 with data;
create sequence numbers; select setval('numbers', 4711);
select lo_from_bytea(900000 + i, decode(repeat(md5(i::text), 2000), 'hex')) is not null as made from generate_series(1, :scale / 4 + 1) i;
vacuum (analyze);
