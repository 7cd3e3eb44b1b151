-- Copies of databases, read from storage.
\c dd_log
select count(*), sum(id), max(v) from t; select count(*) from u;
set enable_seqscan = off; select count(*) from t where a @> array[3]; select v from t where id = 1234;
\c dd_again
select count(*), sum(id), max(v) from t; select count(*) from u;
set enable_seqscan = off; select count(*) from t where a @> array[3]; select v from t where id = 1234;
create extension pg_visibility;
select * from pg_check_visible('t');
\c dd_renamed
select count(*), min(v) from t where id < 0; show work_mem;
\c diff
drop database dd_again;
create database dd_after template dd_log;
\c dd_after
select count(*), sum(id), max(v) from t;
\c diff
drop database dd_after;
select datname from pg_database order by 1;
