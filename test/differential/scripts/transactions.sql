-- Transactions: savepoints, subtransactions, two phases, procedures, isolation, read only, failures.
create table t (id int primary key, v text);
begin;
insert into t values (1, 'a');
savepoint s1;
insert into t values (2, 'b');
savepoint s2;
insert into t values (1, 'duplicate');
rollback to s2;
insert into t values (3, 'c');
release s1;
rollback to s2;
rollback;
begin; insert into t values (1, 'a'); savepoint a; update t set v = 'b'; savepoint b; delete from t; rollback to b; select * from t; rollback to a; select * from t; commit;
select * from t;
-- deep nesting: more subtransactions than the shared cache holds
create function nest(depth int) returns int language plpgsql as $$
begin
  insert into t values (1000 + depth, 'depth');
  if depth = 0 then return 0; end if;
  begin
    return 1 + nest(depth - 1);
  exception when division_by_zero then return -1;
  end;
end $$;
select nest(150);
select count(*) from t;
create function half(n int) returns int language plpgsql as $$
declare kept int := 0;
begin
  for i in 1..n loop
    begin
      insert into t values ((select max(id) + 1 from t), 'half');
      if i % 2 = 0 then raise exception 'undo'; end if;
      kept := kept + 1;
    exception when raise_exception then null;
    end;
  end loop;
  return kept;
end $$;
select half(700);
select count(*), min(id), max(id) from t where v = 'half';
begin; select half(0); savepoint x; delete from t where v = 'half'; select count(*) from t; rollback to x; commit;
select count(*) from t where v = 'half';
-- two phases
begin; insert into t values (50000, 'prepared'); update t set v = 'touched' where id = 1; create table made_by_prepared as select generate_series(1, 500) i; prepare transaction 'p1';
begin; insert into t values (50001, 'prepared'); savepoint s; insert into t values (50002, 'sub'); drop function half(int); prepare transaction 'p2';
select gid, database from pg_prepared_xacts order by gid;
select count(*) from t where v = 'prepared';
set lock_timeout = '100ms';
select half(2);
update t set v = 'blocked' where id = 1;
reset lock_timeout;
commit prepared 'p1';
rollback prepared 'p2';
select v, count(*) from t where id = 1 or id >= 50000 group by v order by v;
select count(*) from made_by_prepared;
commit prepared 'p1';
prepare transaction 'outside';
begin; create temp table tt (a int); prepare transaction 'temp';
-- transaction control in procedures
create procedure batches(n int) language plpgsql as $$
begin
  for i in 1..n loop
    insert into t values (70000 + i, 'batch');
    if i % 10 = 0 then commit; elsif i % 15 = 0 then rollback; end if;
  end loop;
end $$;
call batches(95);
select count(*), max(id) from t where v = 'batch';
begin; call batches(20); rollback;
delete from t where v = 'batch';
begin; call batches(20); rollback;
do $$ begin for i in 1..5 loop insert into t values (80100 + i, 'do'); commit; end loop; end $$;
do $$ declare r record; begin for r in select generate_series(1, 5) i loop insert into t values (80000 + r.i, 'do'); if r.i % 2 = 0 then rollback; else commit; end if; end loop; end $$;
select id from t where v = 'do' order by id;
create procedure give(inout a int, out b text) language sql as $$ select a * 2, 'out' $$;
call give(21, null);
-- isolation levels and modes
begin isolation level repeatable read; select count(*) from t; savepoint s; insert into t values (-1, 'rr'); select count(*) from t; commit;
begin read only; insert into t values (-2, 'ro'); rollback;
begin isolation level serializable deferrable read only; select count(*) from t where id < 0; commit;
begin; set transaction isolation level serializable; select 1; set transaction isolation level read committed; rollback;
set default_transaction_read_only = on; insert into t values (-3, 'ro'); reset default_transaction_read_only;
begin; commit and chain; show transaction_isolation; rollback and no chain;
abort; commit;
begin; select 1/0; select 1; commit;
-- row versions: many updates of one row in one transaction, hot chains, and what is left
create table hot (id int primary key, n int) with (fillfactor = 50);
insert into hot values (1, 0), (2, 0);
do $$ begin for i in 1..500 loop update hot set n = n + 1 where id = 1; end loop; end $$;
begin; update hot set n = n + 1; savepoint a; update hot set n = n + 1; rollback to a; update hot set n = n + 10; commit;
select * from hot order by id;
vacuum hot;
select lp, lp_flags from heap_page_items(get_raw_page('hot', 0)) where lp_flags <> 0 order by lp limit 3;
-- speculative insertion
create table ups (id int primary key, n int default 1, u text unique);
insert into ups (id, u) select i % 50, i % 50 from generate_series(1, 50) i on conflict (id) do update set n = ups.n + 1;
insert into ups (id, u) select i % 60, 'x' || i from generate_series(1, 60) i on conflict do nothing;
insert into ups (id, u) values (1, '5') on conflict (u) do update set n = 100 returning *;
insert into ups values (200, 1, 'a'), (200, 2, 'b') on conflict (id) do update set n = excluded.n;
select count(*), sum(n) from ups;
-- commands that see or do not see their own effects
begin;
insert into t select id + 100000, v from t where id < 100;
with moved as (delete from t where v = 'half' returning *) insert into t select id + 200000, v from moved;
with a as (update t set v = 'first' where id = 1 returning id), b as (update t set v = 'second' where id in (select id from a) returning id) select * from b;
select v, count(*) from t group by v order by v;
rollback;
-- current xid, snapshots
begin; select pg_current_xact_id_if_assigned() is null; insert into t values (-9, 'x'); select pg_current_xact_id_if_assigned() is not null, pg_xact_status(pg_current_xact_id()); commit;
select pg_export_snapshot() is not null;
select txid_status(txid_current() - 1) is not null;
-- left for after the restart
begin; insert into t values (60000, 'over the restart, commit'); savepoint a; insert into t values (60001, 'in a subtransaction'); release a; select lo_create(777001); prepare transaction 'kept1';
begin; insert into t values (60002, 'over the restart, abort'); create table never_seen (a int); prepare transaction 'kept2';
begin; select * from t where id = 1 for update; prepare transaction 'kept3';
select gid from pg_prepared_xacts order by gid;
