-- postgres_fdw, dblink, file_fdw: a loop back to this server, transactions in both, and files.
create extension postgres_fdw; create extension dblink; create extension file_fdw;
create table local (id int primary key, v text, n int); insert into local select i, 'v' || i, i % 10 from generate_series(1, 8000) i; analyze local;
\set ECHO none
select format('create server loop foreign data wrapper postgres_fdw options (host %L, port %L, dbname %L)', :'HOST', :'PORT', :'DBNAME') \gexec
select format('dbname=%s user=%s host=%s port=%s', :'DBNAME', :'USER', :'HOST', :'PORT') as address \gset
\set ECHO all
create user mapping for current_user server loop options (user 'cloud_admin'); alter server loop options (add fetch_size '500', add batch_size '100', add async_capable 'true', add extensions 'pageinspect');
create foreign table far (id int, v text, n int) server loop options (schema_name 'contrib_foreign', table_name 'local');
select count(*), sum(id) from far; select n, count(*) from far where id < 100 group by n order by n; explain (costs off, verbose) select n, count(*) from far group by n; select count(*) from far a join far b using (id) where a.n = 3; select * from far where id in (5, 6) order by id;
insert into far select i, 'far' || i, i % 10 from generate_series(10001, 12000) i; update far set v = v || '!' where n = 5; delete from far where id % 100 = 0; select count(*), count(*) filter (where v like '%!') from local;
begin; update far set n = 100 where id = 1; savepoint a; update far set n = 200 where id = 1; rollback to a; select n from far where id = 1; commit; select n from local where id = 1; begin; delete from far where id < 1000; select count(*) from far; rollback; select count(*) from local;
insert into far values (1, 'twice', 0); analyze far; create table parts (id int, v text, n int) partition by range (id); create table parts_1 partition of parts for values from (20000) to (30000); insert into parts select i, 'p', 1 from generate_series(20000, 20500) i;
import foreign schema contrib_foreign limit to (parts_1) from server loop into public options (import_default 'true'); select count(*) from public.parts_1; drop foreign table public.parts_1;
truncate far; select count(*) from local; insert into far select i, 'again', 1 from generate_series(1, 50) i; select count(*) from local; select postgres_fdw_disconnect_all();
select dblink_connect('c', :'address'); select dblink_exec('c', 'begin'); select dblink_exec('c', $$insert into contrib_foreign.local values (777, 'by dblink', 7)$$); select count(*) from local where id = 777; select * from dblink('c', 'select id, v from contrib_foreign.local where id = 777') as x (id int, v text); select dblink_exec('c', 'commit'); select count(*) from local where id = 777;
select dblink_open('c', 'cur', 'select id from contrib_foreign.local order by id'); select * from dblink_fetch('c', 'cur', 3) as x (id int); select dblink_close('c', 'cur'); select dblink_send_query('c', 'select count(*) from contrib_foreign.local'); select * from dblink_get_result('c') as x (n bigint); select * from dblink_get_result('c') as x (n bigint); select dblink_is_busy('c'), dblink_error_message('c'); select dblink_exec('c', 'nonsense', false); select dblink_get_connections(), dblink_disconnect('c'); select dblink_build_sql_insert('local', '1', 1, '{1}', '{5}');
select :'dir' || '/rows.csv' as file \gset
copy (select i, 'line ' || i, i % 3 from generate_series(1, 2000) i) to :'file' with (format csv, header);
create server files foreign data wrapper file_fdw; create foreign table lines (id int, v text, n int) server files options (format 'csv', header 'true', filename '/dev/null');
\set ECHO none
select format('alter foreign table lines options (set filename %L)', :'file') \gexec
\set ECHO all
select n, count(*), sum(id) from lines group by n order by n; create table kept as select * from lines; select count(*) from kept join lines using (id); create foreign table program (a text) server files options (program 'echo from a program'); select * from program;
alter foreign table lines options (set filename '/dev/null'); drop foreign table program; alter server loop options (drop host, drop port);
