set enable_seqscan = off; set enable_bitmapscan = off;
select count(*), sum(id) from docs where v @@ to_tsquery('simple', 'w5 & x5'); select count(*), sum(id) from docs where v @@ to_tsquery('simple', 'all & !x7'); select count(*), sum(id) from docs where v @@ to_tsquery('simple', 'changed & all');
select id from docs where v @@ to_tsquery('simple', 'x3') order by at <=> '2021-01-03', id limit 5; select count(*), sum(id) from arrays where a && '{5}'; select count(*), sum(id) from queries where to_tsvector('simple', 'w5 x5 and more') @@ q;
insert into docs select i, '2021-01-01'::timestamp + i * interval '1 minute', to_tsvector('simple', 'all later') from generate_series(40001, 42000) i; delete from docs where id % 3 = 0; vacuum docs;
select count(*), sum(id) from docs where v @@ to_tsquery('simple', 'all & later'); select count(*), sum(id) from docs where v @@ to_tsquery('simple', 'all');
