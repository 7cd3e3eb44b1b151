-- Every extension there is can be made and dropped again, and says the same of itself. Debian's PostGIS packages bring versions of their own.
\set QUIET on
select name, default_version, comment is null as has_no_comment from pg_available_extensions where name <> 'neon' and name !~ '-3$' order by 1;
create schema every;
select format('create extension %I schema every cascade', name) from pg_available_extensions
 where name !~ '-3$' and name not in ('neon', 'plpgsql', 'adminpack', 'postgis', 'postgis_raster', 'postgis_sfcgal', 'postgis_tiger_geocoder', 'postgis_topology')
 order by name \gexec
select count(*) > 40 as many from pg_extension;
select extname, extversion from pg_extension order by 1;
select count(*) as members, md5(string_agg(d, ' ' order by d)) from (select pg_describe_object(classid, objid, objsubid) as d from pg_depend where deptype = 'e') x;
set client_min_messages = warning;
drop schema every cascade;
select extname from pg_extension order by 1;
-- Those that more than one script uses.
create extension amcheck schema public; create extension pageinspect schema public; create extension pg_visibility schema public; create extension pgstattuple schema public;
