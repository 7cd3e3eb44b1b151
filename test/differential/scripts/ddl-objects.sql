-- Types, domains, views, rules, triggers, policies, functions and the rest of what can be created.
create type mood as enum ('sad', 'ok', 'happy');
alter type mood add value 'ecstatic' after 'happy';
alter type mood add value 'meh' before 'ok';
alter type mood rename value 'sad' to 'blue';
create table people (name text primary key, m mood);
insert into people values ('a', 'ok'), ('b', 'blue'), ('c', 'ecstatic'), ('d', 'meh');
select * from people order by m;
insert into people values ('e', 'sad');
select enum_range(null::mood), enum_first(null::mood), 'ok'::mood < 'happy'::mood;
create type point3 as (x int, y int, z int);
create table space (id int, p point3, ps point3[]);
insert into space values (1, (1, 2, 3), array[(1, 1, 1)::point3, (2, 2, 2)::point3]);
update space set p.x = 10, ps[2].y = 20;
alter type point3 add attribute t int cascade;
select * from space;
select (p).x, ps[2] from space;
create domain positive as int check (value > 0) default 1;
create domain code as text collate "C" check (value ~ '^[A-Z]{3}$') not null;
create table coded (n positive, c code);
insert into coded values (default, 'ABC'), (5, 'XYZ');
insert into coded values (0, 'ABC');
insert into coded values (1, 'abc');
insert into coded values (1, null);
alter domain positive add constraint small check (value < 5);
alter domain positive add constraint small check (value < 6);
create type period as range (subtype = float8, subtype_diff = float8mi, multirange_type_name = periods);
select '[1.5, 2.5)'::period * '[2, 9]'::period, periods(period(1, 2), period(4, 5)) + periods(period(2, 4));
-- views
create view happy as select * from people where m >= 'happy' with check option;
insert into happy values ('f', 'happy');
insert into happy values ('g', 'ok');
create or replace view happy as select *, length(name) as l from people where m >= 'happy' with local check option;
select * from happy order by name;
create view names as select name, count(*) over () from people;
insert into names values ('x');
create recursive view counting (n) as values (1) union all select n + 1 from counting where n < 5;
select * from counting order by n;
alter table people drop column m;
select pg_get_viewdef('happy');
-- materialized views
create materialized view totals as select m, count(*) as n from people group by m with no data;
select * from totals;
refresh materialized view totals;
select * from totals order by m;
create unique index on totals (m);
insert into people values ('h', 'ok');
refresh materialized view concurrently totals;
select * from totals order by m;
-- rules
create table shadow (name text, at int default 1);
create rule keep as on delete to people do also insert into shadow values (old.name);
create rule never as on update to people do instead nothing;
delete from people where name = 'h';
update people set name = 'zzz';
select * from shadow;
select name from people order by 1;
drop rule never on people;
-- triggers
create function stamp() returns trigger language plpgsql as $$
begin
  if tg_op = 'INSERT' then new.n := coalesce(new.n, 0) + 1; return new; end if;
  if tg_op = 'UPDATE' then new.n := old.n + 10; return new; end if;
  return old;
end $$;
create function shout() returns trigger language plpgsql as $$
declare seen int;
begin
  if tg_level = 'STATEMENT' and tg_op <> 'DELETE' then select count(*) into seen from new_rows; end if;
  raise notice '% % % % seen %', tg_name, tg_when, tg_level, tg_op, seen;
  return null;
end $$;
create table audited (id int primary key, n int);
create trigger a_stamp before insert or update on audited for each row execute function stamp();
create trigger b_ins after insert on audited referencing new table as new_rows for each statement execute function shout();
create trigger b_upd after update on audited referencing new table as new_rows for each statement execute function shout();
create constraint trigger late after insert on audited deferrable initially deferred for each row when (new.id > 2) execute function shout();
insert into audited values (1, null), (2, 5), (3, 0);
begin;
insert into audited values (4, 4);
update audited set n = 0 where id < 3;
commit;
alter table audited disable trigger a_stamp;
insert into audited values (5, 5);
select * from audited order by id;
create view audited_view as select * from audited;
create function via_view() returns trigger language plpgsql as $$ begin insert into audited values (new.id + 100, new.n); return new; end $$;
create trigger iv instead of insert on audited_view for each row execute function via_view();
insert into audited_view values (7, 7);
-- event triggers
create function on_ddl() returns event_trigger language plpgsql as $$
declare o record;
begin
  for o in select command_tag, object_type, object_identity from pg_event_trigger_ddl_commands() loop
    raise notice 'ddl % % %', o.command_tag, o.object_type, o.object_identity;
  end loop;
end $$;
create function on_drop() returns event_trigger language plpgsql as $$
declare o record;
begin
  for o in select object_type, object_identity from pg_event_trigger_dropped_objects() where original loop
    raise notice 'dropped % %', o.object_type, o.object_identity;
  end loop;
end $$;
create function on_rewrite() returns event_trigger language plpgsql as $$ begin raise notice 'rewrite % %', pg_event_trigger_table_rewrite_oid()::regclass, pg_event_trigger_table_rewrite_reason(); end $$;
begin;
create event trigger et_ddl on ddl_command_end execute function on_ddl();
create event trigger et_drop on sql_drop execute function on_drop();
create event trigger et_rewrite on table_rewrite execute function on_rewrite();
create table watched (a int primary key, b text);
alter table watched alter column a type bigint;
create index on watched (b);
drop table watched;
rollback;
-- row level security
create role diff_reader;
create table secret (owner text, what text);
insert into secret values ('diff_reader', 'mine'), ('other', 'theirs');
alter table secret enable row level security;
create policy own on secret for select using (owner = current_user);
create policy ins on secret for insert with check (owner = current_user);
grant usage on schema ddl_objects to diff_reader;
grant select, insert, update on secret to diff_reader;
set role diff_reader;
select * from secret;
insert into secret values ('diff_reader', 'new');
insert into secret values ('other', 'new');
update secret set what = 'changed';
delete from secret;
reset role;
alter table secret force row level security;
select * from secret order by 1, 2;
-- privileges
alter default privileges in schema ddl_objects grant select on tables to diff_reader;
create table granted (a int, b int);
revoke select on granted from diff_reader;
grant select (a) on granted to diff_reader with grant option;
\dp granted
set role diff_reader;
select a from granted;
select b from granted;
reset role;
drop role diff_reader;
drop owned by diff_reader;
drop role diff_reader;
-- functions
create function add_em(int, int default 5) returns int language sql immutable parallel safe return $1 + $2;
create function many(n int, out i int, out sq int) returns setof record language sql begin atomic select g, g * g from generate_series(1, n) g; end;
create function poly(a anyelement, variadic rest anyarray) returns text language plpgsql as $$ begin return a::text || array_length(rest, 1); end $$;
select add_em(1), add_em(1, 1);
select * from many(3);
select poly('a'::text, 'b', 'c'), poly(1, 2);
create aggregate product(int) (sfunc = int4mul, stype = int, initcond = 1);
select product(i) from generate_series(1, 6) i;
create operator === (leftarg = int, rightarg = int, function = int4eq, commutator = ===);
select 1 === 1, 1 === 2;
create cast (text as mood) with inout as implicit;
create collation nordic (provider = icu, locale = 'sv-SE');
select * from (values ('z'), ('ö'), ('a'), ('o')) v (x) order by x collate nordic;
create collation posixish from "C";
create text search configuration plainish (copy = simple);
create text search dictionary shorts (template = simple, stopwords = english);
alter text search configuration plainish alter mapping for asciiword with shorts;
select to_tsvector('plainish', 'The quick brown fox and the dog');
create statistics people_stats (ndistinct, dependencies) on owner, what from secret;
create access method heap2 type table handler heap_tableam_handler;
create table on_heap2 (a int) using heap2;
insert into on_heap2 select generate_series(1, 1000);
select sum(a) from on_heap2;
create publication pub for table people where (name > 'a');
select pubname, puballtables from pg_publication;
create foreign data wrapper dummy;
create server nowhere foreign data wrapper dummy;
create foreign table ft (a int) server nowhere;
select * from ft;
create sequence counter increment 5 minvalue 10 maxvalue 25 cycle;
select nextval('counter') from generate_series(1, 6);
create language notalanguage;
do $$ begin raise exception 'told you' using hint = 'a hint', detail = 'a detail', errcode = 'ZX001'; end $$;
drop schema ddl_objects;
\dT+ mood
\df add_em
