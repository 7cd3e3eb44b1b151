-- Commit timestamps are those of the transactions, also over a restart.
create table marked (id int, at timestamptz);
do $$ begin for i in 1..1000 loop insert into marked (id) values (i); if i % 10 = 0 then commit; end if; end loop; end $$;
begin; insert into marked (id) values (2001); savepoint a; insert into marked (id) values (2002); release a; commit;
begin; insert into marked (id) values (2003); prepare transaction 'stamped'; commit prepared 'stamped';
create table stamps as select id, pg_xact_commit_timestamp(xmin) as at from marked;
select count(*), count(at), count(distinct at) > 50 from stamps;
select (select at from stamps where id = 2001) = (select at from stamps where id = 2002);
select timestamp = pg_xact_commit_timestamp(xid), roident from pg_last_committed_xact();
select pg_xact_commit_timestamp('3'::xid), pg_xact_commit_timestamp('2'::xid);
select pg_xact_commit_timestamp('0'::xid);
alter table stamps rename to stamps_kept;
