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

-- The local page files as dashboards know them: hits and misses of pages, chunks and pages that take disk space, the limit in chunks.
CREATE FUNCTION neon_get_lfc_stats(OUT lfc_key text, OUT lfc_value bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'neon_get_lfc_stats'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

CREATE VIEW neon_lfc_stats AS SELECT lfc_key, lfc_value FROM neon.neon_get_lfc_stats();

CREATE VIEW neon_stat_file_cache AS
SELECT hits.lfc_value AS file_cache_hits, misses.lfc_value AS file_cache_misses, used.lfc_value AS file_cache_used, writes.lfc_value AS file_cache_writes,
       CASE WHEN hits.lfc_value + misses.lfc_value = 0 THEN 0
            ELSE round(hits.lfc_value * 100.0 / (hits.lfc_value + misses.lfc_value), 2) END AS file_cache_hit_ratio
  FROM neon.neon_lfc_stats hits, neon.neon_lfc_stats misses, neon.neon_lfc_stats used, neon.neon_lfc_stats writes
 WHERE hits.lfc_key = 'file_cache_hits' AND misses.lfc_key = 'file_cache_misses'
   AND used.lfc_key = 'file_cache_used' AND writes.lfc_key = 'file_cache_writes';

-- Counters and histograms in the shape of Prometheus, of all processes since the server's start, and of each that runs.
CREATE FUNCTION get_perf_counters(OUT metric text, OUT bucket_le float8, OUT value float8)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'neon_get_perf_counters'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

CREATE VIEW neon_perf_counters AS SELECT metric, bucket_le, value FROM neon.get_perf_counters();

CREATE FUNCTION get_backend_perf_counters(OUT procno int, OUT pid int, OUT metric text, OUT bucket_le float8, OUT value float8)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'neon_get_backend_perf_counters'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

CREATE VIEW neon_backend_perf_counters AS SELECT procno, pid, metric, bucket_le, value FROM neon.get_backend_perf_counters();

-- About how many different pages were needed that the buffers did not have: in the last so many seconds, or since the last reset.
CREATE FUNCTION approximate_working_set_size_seconds(duration int DEFAULT NULL)
RETURNS int
AS 'MODULE_PATHNAME', 'neon_working_set_size_seconds'
LANGUAGE C VOLATILE PARALLEL SAFE;

CREATE FUNCTION approximate_working_set_size(reset bool)
RETURNS int
AS 'MODULE_PATHNAME', 'neon_working_set_size'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;

GRANT USAGE ON SCHEMA neon TO pg_monitor;
GRANT SELECT ON neon_lfc_stats, neon_stat_file_cache, neon_perf_counters, neon_backend_perf_counters TO pg_monitor;
GRANT SELECT ON stats TO pg_monitor;
