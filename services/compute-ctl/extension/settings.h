/* The extension's configuration parameters, as C variables. settings.c says what each means. */
#ifndef NEON_SETTINGS_H
#define NEON_SETTINGS_H

#include "postgres.h"

/* A list with one entry a shard. */
#define CONNSTRING_BYTES_MAX 16384

extern char *neon_tenant_id;
extern char *neon_timeline_id;
extern char *neon_pageserver_connstring;
extern int	neon_max_reconnect_attempts;
extern int	neon_stripe_size;
extern int	neon_readahead_buffer_size;
extern int	neon_flush_output_after;
extern int	neon_file_cache_size_limit_mb;
extern int	neon_max_file_cache_size_mb;
extern int	neon_relsize_hash_size;
extern int	neon_response_log_timeout_ms;
extern int	neon_response_disconnect_timeout_ms;
extern bool neon_file_cache_free_written;
extern bool neon_regress_test_mode;
extern int	neon_max_replication_write_lag_mb;
extern int	neon_max_replication_flush_lag_mb;
extern int	neon_max_replication_apply_lag_mb;

typedef enum ComputeMode
{
	MODE_PRIMARY,
	MODE_REPLICA,				/* follows the WAL of a primary */
	MODE_STATIC					/* stays at one position */
} ComputeMode;

/* A ComputeMode. */
extern int	neon_compute_mode;

/* Declares all parameters and reserves the prefix. Called once, first thing, in the postmaster. */
extern void settings_define(void);

/*
 * Whether this server runs on a page server: true when tenant, timeline and connection string are given, false when none
 * is (a plain server). FATAL, naming what is missing or malformed, for anything in between.
 */
extern bool settings_active(void);

#endif
