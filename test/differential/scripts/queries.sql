-- Queries of every shape over tables larger than the buffers, and their plans.
create table emp (id int primary key, dept int, boss int, salary numeric, hired date, tags text[]);
insert into emp select i, i % 12, nullif(i / 8, 0), 1000 + (i * 7919) % 5000, '2010-01-01'::date + (i * 31) % 3650, array['t' || i % 5, 'u' || i % 7] from generate_series(1, 6000) i;
create table dept (id int primary key, name text);
insert into dept select i, 'dept ' || i from generate_series(0, 14) i;
create index emp_dept on emp (dept);
create index emp_boss on emp (boss);
analyze emp; analyze dept;
select dept, count(*), sum(salary), round(avg(salary), 2), min(hired), max(hired) from emp group by dept order by dept;
select d.name, e.n from dept d left join lateral (select count(*) as n from emp where dept = d.id having count(*) > 0) e on true order by d.id;
select dept, grouping(dept), extract(year from hired) as y, count(*) from emp where dept < 3 group by rollup (dept, extract(year from hired)) order by 1 nulls last, 3 nulls last limit 20;
select count(*) from (select dept, hired from emp group by grouping sets ((dept), (hired), (dept, hired), ())) x;
select count(*) from (select dept, salary, hired from emp group by cube (dept, salary, hired)) x;
select id, dept, salary, rank() over w, dense_rank() over w, lag(id) over w, sum(salary) over (partition by dept order by salary, id rows between 2 preceding and current row),
  ntile(4) over w, first_value(id) over w, percent_rank() over w from emp where id % 600 = 0 window w as (partition by dept order by salary, id) order by dept, salary, id;
select max(s) from (select sum(salary) over (order by hired range between '30 days' preceding and current row exclude ties) as s from emp) x;
with recursive chain as (select id, boss, 1 as depth from emp where id = 5999 union all select e.id, e.boss, depth + 1 from emp e join chain c on e.id = c.boss) select * from chain;
with recursive down as (select id, 0 as lvl from emp where boss is null union all select e.id, lvl + 1 from down d join emp e on e.boss = d.id) select lvl, count(*) from down group by lvl order by lvl;
with recursive walk (id, boss) as (select id, boss from emp where id = 100 union all select e.id, e.boss from emp e join walk w on e.id = w.boss) search depth first by id set o cycle id set loop using p select id, o, loop from walk order by o;
select count(*) from emp a join emp b on a.boss = b.id and a.salary > b.salary;
select count(*) from emp a full join emp b on a.id = b.id + 3000;
select count(*) from emp where id in (select boss from emp where salary > 3000);
select count(*) from emp e where not exists (select from emp x where x.boss = e.id);
select count(*) from emp where salary > all (select avg(salary) from emp group by dept);
select id from emp where (dept, salary) = (select dept, max(salary) from emp where dept = 5 group by dept) order by id;
(select id from emp order by id limit 3) union (select id from emp order by id limit 5) except select 2 intersect select 2 order by 1;
select distinct on (dept) dept, id, salary from emp order by dept, salary desc, id;
select dept, string_agg(id::text, ',' order by id) filter (where id < 50), array_agg(distinct dept), percentile_cont(0.5) within group (order by salary), mode() within group (order by hired) from emp group by dept order by dept limit 4;
select t, count(*) from emp, unnest(tags) with ordinality as u (t, o) group by t order by t;
select * from rows from (generate_series(1, 3), unnest(array['a', 'b'])) as r (i, t);
select id from emp order by salary desc, id offset 100 fetch first 3 rows with ties;
select count(*) from emp tablesample system (100);
select count(*) from emp tablesample bernoulli (100) repeatable (1);
-- merge
create table target (id int primary key, n int, note text);
insert into target select i, 0, 'old' from generate_series(1, 2000) i;
merge into target t using (select id, dept from emp where id between 1000 and 3000) s on t.id = s.id
  when matched and s.dept = 0 then delete
  when matched then update set n = s.dept, note = 'merged'
  when not matched and s.dept > 5 then insert values (s.id, s.dept, 'new')
  when not matched then do nothing;
select note, count(*), sum(n) from target group by note order by note;
-- data changing queries
with d as (delete from target where id <= 100 returning *), i as (insert into target select id + 100000, n, 'moved' from d returning id) select count(*), min(id) from i;
update target t set n = d.c from (select dept, count(*) as c from emp group by dept) d where d.dept = t.n;
delete from target using dept where dept.id = target.id and dept.name like '%1%';
select note, count(*), sum(n) from target group by note order by note;
update target set (n, note) = (select id, name from dept where dept.id = target.n % 15) where id between 500 and 505 returning *;
-- plans
set max_parallel_workers_per_gather = 0;
explain (costs off) select * from emp where id = 5;
explain (costs off) select d.name, count(*) from emp e join dept d on d.id = e.dept group by d.name;
explain (costs off) select * from emp where dept = 3 or boss = 5;
explain (costs off) select * from emp order by id desc limit 5;
explain (costs off) select distinct dept from emp;
explain (analyze, costs off, timing off, summary off) select count(*) from emp where dept = 3 and id < 1000;
explain (analyze, costs off, timing off, summary off) select * from emp e join dept d on d.id = e.dept where e.id between 100 and 104;
explain (verbose, costs off) update emp set salary = salary + 1 where id = 9;
prepare q (int, text) as select count(*) from emp where dept = $1 and tags @> array[$2];
execute q (3, 't2'); execute q (4, 'u3');
set plan_cache_mode = force_generic_plan; explain (costs off) execute q (3, 't2'); execute q (5, 't0'); deallocate q;
-- parallel plans
set max_parallel_workers_per_gather = 2; set min_parallel_table_scan_size = 0; set min_parallel_index_scan_size = 0; set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set parallel_leader_participation = off;
explain (costs off) select count(*), sum(salary) from emp;
select count(*), sum(salary) from emp;
select count(*), sum(a.salary) from emp a join emp b on a.id = b.boss;
set enable_hashjoin = off;
select count(*), sum(a.salary) from emp a join emp b on a.id = b.boss;
set enable_seqscan = off;
select count(*) from emp where dept between 3 and 5;
set enable_bitmapscan = off;
select count(*), min(salary) from emp where id between 1000 and 4000;
create table made_parallel as select dept, count(*) as n, sum(salary) as s from emp group by dept;
select * from made_parallel order by dept;
reset all;
-- statistics objects
create table corr (a int, b int, c int);
insert into corr select i % 100, i % 50, i % 10 from generate_series(1, 5000) i;
create statistics corr_s (ndistinct, dependencies, mcv) on a, b, c from corr;
create statistics corr_e on (a + b) from corr;
analyze corr;
select statistics_name, attnames, n_distinct, dependencies from pg_stats_ext where schemaname = 'queries' order by 1;
alter statistics corr_s set statistics 50;
drop statistics corr_e;
