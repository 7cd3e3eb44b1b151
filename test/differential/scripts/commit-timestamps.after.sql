select count(*), count(*) filter (where pg_xact_commit_timestamp(m.xmin) = k.at) from marked m join stamps_kept k using (id);
drop table stamps_kept;
insert into marked (id) values (3000);
select pg_xact_commit_timestamp(xmin) > now() - interval '1 minute' from marked where id = 3000;
