set enable_seqscan = off;
select count(*), sum(id) from hs where h @> 'k3=>v5'; select count(*) from hs where h ? 'upd';
select count(*), sum(id) from lt where p <@ 'top.n3.m7'; select count(*) from lt where p @ 'n3 & m5';
select count(*) from sg where s && '100..120'; select count(*), sum(id) from ia where a @> '{5}';
select count(*) from bg where n < 10 and s = 's5'; select id from bg order by n <-> 100 limit 2;
select count(*) from tg where s ilike '%HELLO7%'; select count(*) from ins where s like '%ssssssssss%';
insert into hs select i, hstore('after', i::text) from generate_series(3001, 3500) i; insert into lt select i, ('after.x' || i)::ltree from generate_series(3001, 3500) i;
select count(*) from hs where h ? 'after'; select count(*) from lt where p <@ 'after';
select count(*) from verify_heapam('ins'); select * from pg_check_visible('ins'); select * from pg_check_frozen('ins');
