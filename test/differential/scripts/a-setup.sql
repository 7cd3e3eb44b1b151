-- Extensions that other scripts use, once for all of them.
create extension btree_gin schema public;
create extension btree_gist schema public;
create extension pg_trgm schema public;
create extension bloom schema public;
create extension pageinspect schema public;
create extension pgstattuple schema public;
create extension pg_visibility schema public;
create extension pg_freespacemap schema public;
create extension pg_prewarm schema public;
create extension amcheck schema public;
create extension dblink schema public;
select name, setting from pg_settings
 where name in ('block_size', 'data_checksums', 'integer_datetimes', 'lc_collate', 'lc_ctype', 'max_identifier_length',
                'server_encoding', 'server_version', 'shared_buffers', 'standard_conforming_strings', 'wal_block_size', 'wal_level', 'wal_segment_size')
 order by 1;
select datname, pg_encoding_to_char(encoding), datcollate, datctype, datistemplate, datallowconn, datconnlimit from pg_database order by 1;
select rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication from pg_roles order by 1;
select spcname from pg_tablespace order by 1;
