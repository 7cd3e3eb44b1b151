-- Databases: copies of templates by both strategies, renamed, dropped; contents of the copies.
create database dd_log strategy wal_log;
\c dd_log
create table t (id int primary key, v text, a int[]);
insert into t select i, md5(i::text), array[i % 10] from generate_series(1, 3000) i;
create index on t using gin (a);
create unlogged table u as select generate_series(1, 100) i;
create sequence s; select nextval('s'), nextval('s');
create function f() returns int language sql as 'select 42';
vacuum analyze t;
\c diff
create database dd_copy template dd_log strategy file_copy;
create database dd_copy2 template dd_log strategy wal_log;
\c dd_copy
select count(*), sum(id), max(v) from t; select count(*) from u; select nextval('s'), f();
set enable_seqscan = off; select count(*) from t where a @> array[3]; select v from t where id = 1234;
insert into t values (-1, 'only here', null); drop table u;
\c dd_copy2
select count(*), sum(id), max(v) from t; select count(*) from u; select nextval('s'), f();
set enable_seqscan = off; select count(*) from t where a @> array[3]; select v from t where id = 1234;
delete from t where id % 2 = 0; vacuum t;
\c dd_log
select count(*), sum(id) from t;
\c diff
create database dd_bad strategy nonsense;
create database dd_bad template nosuch;
create database dd_log;
create database dd_enc encoding 'latin1' template template0 locale 'C';
\c dd_enc
show server_encoding; create table x (a text); insert into x values ('é'); select * from x;
\c diff
alter database dd_copy rename to dd_renamed;
alter database dd_renamed set work_mem = '512kB';
alter database dd_renamed connection limit 5;
alter database dd_renamed is_template true;
drop database dd_renamed;
create database dd_from_template template dd_renamed;
alter database dd_renamed is_template false;
drop database dd_from_template;
begin; create database dd_tx; rollback;
begin; drop database dd_copy2; rollback;
drop database dd_copy2;
drop database dd_copy2;
drop database if exists dd_copy2;
drop database diff;
create database dd_again template dd_log strategy file_copy;
drop database dd_again with (force);
create database dd_again template dd_log;
\c dd_again
select count(*), sum(id) from t;
\c dd_renamed
show work_mem; select count(*), min(v) from t where id < 0;
\c template1
create table in_template (a int); insert into in_template values (7);
\c diff
create database dd_new;
\c dd_new
select * from in_template;
\c template1
drop table in_template;
\c diff
drop database dd_new;
drop database dd_enc;
alter database dd_log set tablespace pg_global;
alter database dd_log set tablespace pg_default;
alter database dd_log owner to nosuch;
reindex database diff;
reindex system diff;
select datname, datconnlimit, datistemplate, pg_encoding_to_char(encoding) from pg_database where datname like 'dd%' order by 1;
select datname, pg_database_size(datname) > 7000000 from pg_database where datname like 'dd%' order by 1;
