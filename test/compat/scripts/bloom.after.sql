set enable_seqscan = off;
select count(*), sum(id) from t where a = 5 and b = 105; select count(*), sum(id) from t where a = 7 and c = 'c7'; select count(*), sum(id) from t where b = 100 and d = 100;
select count(*) from u where a = 3 and b = 3; insert into u values (3, 3); select count(*) from u where a = 3 and b = 3;
update t set b = 7777 where id < 1000; select count(*), sum(id) from t where b = 7777; vacuum t; select count(*), sum(id) from t where b = 7777 and c = 'c9';
