\echo Use "CREATE EXTENSION neon" to load this file. \quit

-- Counters since the server's start; what each means is said in shared-state.h.
CREATE FUNCTION get_stats(OUT name text, OUT value bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'neon_get_stats'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

CREATE VIEW stats AS SELECT name, value FROM neon.get_stats();

CREATE FUNCTION reset_stats()
RETURNS void
AS 'MODULE_PATHNAME', 'neon_reset_stats'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

REVOKE ALL ON FUNCTION reset_stats() FROM PUBLIC;

-- start_lsn: where this compute began. forgotten_lsn: how new the page server's answers must be for relations that are
-- not in the size cache. current_lsn: the end of the WAL written so far.
CREATE FUNCTION positions(OUT start_lsn pg_lsn, OUT forgotten_lsn pg_lsn, OUT current_lsn pg_lsn)
AS 'MODULE_PATHNAME', 'neon_positions'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

-- Bytes of all databases' relations, without the shared catalogs. Waits until the page server has all WAL written so far.
CREATE FUNCTION pg_cluster_size()
RETURNS bigint
LANGUAGE SQL STRICT VOLATILE
AS 'SELECT coalesce(sum(pg_catalog.pg_database_size(oid)), 0)::bigint FROM pg_catalog.pg_database';

-- How far the page server has come with this compute's WAL; null = it has not said. Writers wait when a position is further
-- behind than neon.max_replication_write_lag, neon.max_replication_flush_lag, neon.max_replication_apply_lag allow.
CREATE FUNCTION backpressure_lsns(OUT received_lsn pg_lsn, OUT disk_consistent_lsn pg_lsn, OUT remote_consistent_lsn pg_lsn)
AS 'MODULE_PATHNAME', 'neon_backpressure_lsns'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

-- Microseconds that writers waited for the page server, all together, since the server's start.
CREATE FUNCTION backpressure_throttling_time()
RETURNS bigint
AS 'MODULE_PATHNAME', 'neon_backpressure_throttling_time'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

GRANT USAGE ON SCHEMA neon TO pg_monitor;
GRANT SELECT ON stats TO pg_monitor;
