-- Functions with state, cursors, dynamic SQL, error handling; COPY in all directions.
create table t (id int primary key, v text, n numeric);
create function fill(n int) returns void language plpgsql as $$ begin insert into t select i, 'v' || i, i / 3.0 from generate_series(1, n) i on conflict do nothing; end $$;
select fill(3000);
create function walk(step int) returns table (at int, s numeric) language plpgsql as $$
declare c cursor (k int) for select * from t where id % k = 0 order by id for update; r t%rowtype; total numeric := 0;
begin
  for r in c (step) loop
    total := total + r.n;
    update t set v = v || '*' where current of c;
    if r.id % (step * 10) = 0 then at := r.id; s := total; return next; end if;
  end loop;
end $$;
select * from walk(97);
select count(*) from t where v like '%*';
create function dyn(tab regclass, col name) returns bigint language plpgsql as $$ declare r bigint; begin execute format('select sum(%I) from %s where id > $1', col, tab) into strict r using 2990; return r; end $$;
select dyn('t', 'id');
select dyn('t', 'nosuch');
create function refs() returns setof refcursor language plpgsql as $$ declare a refcursor := 'one'; b refcursor := 'two'; begin open a for select id from t order by id; open b scroll for select v from t order by id desc; return next a; return next b; end $$;
begin; select refs(); fetch 2 from one; fetch 2 from two; move forward 100 in two; fetch prior from two; close one; fetch one; rollback;
create function errs(what text) returns text language plpgsql as $$
declare st text; ms text; dt text; ctx text;
begin
  case what when 'zero' then perform 1 / 0; when 'dup' then insert into t values (1); when 'null' then insert into t values (null); when 'fk' then raise foreign_key_violation using message = 'made up';
    when 'assert' then assert false, 'asserted'; when 'norows' then select id into strict st from t where id = -1; when 'many' then select id into strict st from t; else return 'fine'; end case;
  return 'no error';
exception when others then
  get stacked diagnostics st = returned_sqlstate, ms = message_text, dt = pg_exception_detail;
  return concat_ws(' / ', st, ms, dt);
end $$;
select w, errs(w) from unnest(array['zero', 'dup', 'null', 'fk', 'norows', 'many', 'other']) w;
select errs('assert');
do $$ declare a int[] := '{1,2,3}'; x int; m jsonb := '{}'; begin foreach x in array a loop m := m || jsonb_build_object(x::text, x * x); end loop; raise notice '% % %', m, a[2:], array_upper(a, 1); <<outer>> loop for i in reverse 5..1 by 2 loop continue when i = 3; raise info 'i %', i; exit outer when i = 1; end loop; end loop; end $$;
create function fib(n int) returns int language plpgsql immutable as $$ begin return case when n < 2 then n else fib(n - 1) + fib(n - 2) end; end $$;
select fib(15);
create function depth(n int) returns int language plpgsql as $$ begin return depth(n + 1); end $$;
set max_stack_depth = '200kB'; do $$ begin perform depth(1); exception when statement_too_complex then raise notice 'too deep'; end $$; reset max_stack_depth;
create procedure p_inout(inout x int default 5) language plpgsql as $$ begin x := x + 1; commit; end $$;
call p_inout(); call p_inout(41);
create function trg() returns trigger language plpgsql as $$ begin if tg_op = 'DELETE' then insert into trail values (old.id, tg_argv[0]); return old; end if; return new; end $$;
create table trail (id int, why text);
create trigger tr before delete on t for each row execute function trg('deleted');
delete from t where id between 100 and 110;
select count(*), min(why) from trail;
-- COPY
copy (select id, v, round(n, 2) from t order by id limit 5) to stdout;
copy (select id, v, null as x, 'quo"ted, and' || chr(10) || 'split' as y from t order by id limit 3) to stdout with (format csv, header, force_quote (v));
create table c (a int, b text, d date default '2020-01-01');
copy c (a, b) from stdin;
1	one
2	t\twith tab
3	\N
\.
copy c from stdin with (format csv, header, null 'NULL', delimiter ';');
a;b;d
4;"quo""ted";2021-02-03
5;NULL;2021-02-04
\.
copy c from stdin;
6	x	not a date
\.
copy c (a) from stdin;
7	8
\.
copy c from stdin where a > 8;
8	x	2020-01-01
9	y	2020-01-01
\.
select * from c order by a;
select :'dir' || '/t.bin' as bin, :'dir' || '/t.csv' as csv \gset
copy t to :'bin' with (format binary);
copy t to :'csv' with (format csv);
create table t2 (like t including all);
copy t2 from :'bin' with (format binary);
select count(*), sum(id), sum(n) from t2;
copy t2 from :'csv' with (format csv);
begin; create table t3 (like t); copy t3 from :'csv' with (format csv, freeze); select count(*), sum(n) from t3; commit;
copy t3 from :'csv' with (format csv, freeze);
select count(*), sum(n) from t3;
select all_visible > 0, all_frozen > 0 from pg_visibility_map_summary('t3');
copy t2 from '/nonexistent/file';
copy t to program 'cat > /dev/null';
copy t3 (id) from program 'seq 10001 10200';
select count(*) from t3 where v is null;
\copy (select count(*) from t3) to stdout
create view cv as select id from t where id < 3;
copy cv to stdout;
copy (select * from cv) to stdout with (format text, delimiter '|');
-- temporary functions, session state
set application_name = 'differ'; show application_name;
set local work_mem = '1MB'; begin; set local work_mem = '2MB'; show work_mem; rollback; show work_mem;
select set_config('my.var', 'x', false), current_setting('my.var'), current_setting('no.var', true);
prepare ins (int) as insert into c (a) values ($1) returning a; execute ins (100); execute ins (101); deallocate all;
listen ch; notify ch, 'payload'; unlisten *;
declare outside cursor for select 1;
begin; declare bin binary cursor for select 1; close all; commit;
do language plpgsql $$ begin perform pg_sleep(0.01); raise warning 'done'; end $$;
discard all;
select current_setting('my.var', true);
