-- Partitioned tables of all three kinds, their indexes, keys and moves.
create table r (id int, day date not null, v text) partition by range (day);
create table r_2020 partition of r for values from ('2020-01-01') to ('2021-01-01');
create table r_2021 partition of r for values from ('2021-01-01') to ('2022-01-01') partition by list (v);
create table r_2021_a partition of r_2021 for values in ('a', 'b');
create table r_2021_rest partition of r_2021 default;
create table r_rest partition of r default;
insert into r select i, '2019-12-01'::date + i * 10, chr(97 + i % 4) from generate_series(0, 120) i;
select tableoid::regclass, count(*), sum(id) from r group by 1 order by tableoid::regclass::text;
create index r_day on r (day);
alter table r add primary key (id, day);
alter table r add primary key (id, day, v);
update r set day = day + 365 where id % 10 = 0;
select tableoid::regclass, count(*), sum(id) from r group by 1 order by tableoid::regclass::text;
update r set v = 'z' where id = 50;
alter table r detach partition r_2020;
select count(*) from r;
select count(*) from r_2020;
alter table r attach partition r_2020 for values from ('2020-02-01') to ('2021-01-01');
alter table r attach partition r_2020 for values from ('2020-01-01') to ('2021-01-01');
alter table r detach partition r_2020 concurrently;
alter table r detach partition r_rest;
alter table r detach partition r_2020 concurrently;
alter table r attach partition r_2020 for values from ('2020-01-01') to ('2021-01-01');
insert into r values (1000, '2030-01-01', 'nowhere');
explain (costs off) select * from r where day between '2020-03-01' and '2020-04-01';
explain (costs off) select * from r where day >= '2021-01-01' and v = 'a';
\d+ r
create table h (id int primary key, v int) partition by hash (id);
select format('create table h_%s partition of h for values with (modulus 8, remainder %s)', i, i) from generate_series(0, 7) i \gexec
insert into h select i, i % 7 from generate_series(1, 3000) i;
select tableoid::regclass, count(*) from h group by 1 order by tableoid::regclass::text;
create index on h using brin (v);
create unique index on h (v);
delete from h where id % 3 = 0;
truncate h_3;
vacuum analyze h;
select count(*), sum(id) from h;
insert into h values (1, 5) on conflict (id) do update set v = excluded.v + 100 returning *;
set enable_partitionwise_join = on; set enable_partitionwise_aggregate = on;
select count(*), sum(a.v + b.v) from h a join h b using (id);
select v, count(*) from h group by v order by v;
-- triggers on partitions
create function log_row() returns trigger language plpgsql as $$ begin raise notice '% % %', tg_op, tg_table_name, new; return new; end $$;
create trigger log_r before insert or update on r for each row execute function log_row();
insert into r values (2000, '2020-05-05', 'q');
update r set day = '2021-05-05' where id = 2000;
-- foreign keys to and from partitions
create table refs (id int, day date, v text, foreign key (id, day, v) references r on update cascade);
insert into refs values (2000, '2021-05-05', 'q');
update r set v = 'b' where id = 2000;
select * from refs;
delete from r where id = 2000;
insert into refs values (1, '1999-01-01', 'x');
drop table r;
drop table r_2020;
alter table r detach partition r_2021;
drop table refs;
select relname, relkind from pg_class where relnamespace = 'ddl_partitions'::regnamespace and relkind in ('r', 'p') order by 1;
