/* Shared memory of the extension that is not a cache: positions, the page server's address, counters. */
#ifndef NEON_SHARED_STATE_H
#define NEON_SHARED_STATE_H

#include "postgres.h"
#include "access/xlogdefs.h"
#include "port/atomics.h"
#include "storage/lwlock.h"

#include "perf-counters.h"
#include "settings.h"

/* What neon.stats() shows; names are in stats.c, in this order. */
typedef enum StatCounter
{
	STAT_READS,					/* smgr reads of pages that may lie on the page server */
	STAT_READS_LOCAL,			/* answered by the local file */
	STAT_READS_ZERO,			/* zero by knowledge: the fork was created here and the block never written */
	STAT_READS_REMOTE,			/* answered by the page server */
	STAT_PREFETCH_REQUESTS,
	STAT_PREFETCH_HITS,			/* remote reads whose page had been asked for ahead of time */
	STAT_PREFETCH_WASTED,		/* prefetched pages that were never used, or had become too old */
	STAT_WAIT_US,				/* time in which backends waited for pages */
	STAT_PAGES_KEPT,			/* fetched pages written to the local files */
	STAT_KEEP_FAILURES,
	STAT_PAGES_FREED,			/* pages whose local copy was given up to stay within the limit */
	STAT_CHUNKS_FORGOTTEN,		/* chunks that stay on disk because the table of chunks was full */
	STAT_REDO_DONE,				/* records with blocks that a replica replayed */
	STAT_REDO_LEFT_OUT,			/* such records, or parts of them, passed over since their pages were not here */
	STAT_WRITES,
	STAT_EXTENDS,
	STAT_SIZE_HITS,				/* relation sizes known */
	STAT_SIZE_REQUESTS,			/* relation sizes asked of the page server */
	STAT_CONNECTS,
	STAT_DISCONNECTS,
	STAT_REQUESTS_SENT,
	STAT_SEND_FLUSHES,			/* times that requests were handed to the network */
	STAT_COUNT
} StatCounter;

typedef struct SharedState
{
	/* Where this compute began: a page it never changed is the same at every position from here on. */
	XLogRecPtr	start_lsn;
	/* No transaction below it was running there, if it is a normal one. For replicas. */
	TransactionId oldest_active_xid;
	/* Whether the server before, on these files, was shut down cleanly. */
	bool		started_clean;
	/* Upper bound of the positions at which relations no longer in the size cache were truncated or dropped. */
	pg_atomic_uint64 forgotten_lsn;
	/* No page is kept before this time (microseconds, PostgreSQL epoch): at the start, and after the local disk refused one. */
	pg_atomic_uint64 keep_after_us;

	/* The address of the page server, or of those of all shards, and the stripe; odd version = being changed. Written by the postmaster only. */
	pg_atomic_uint32 connstring_version;
	char		connstring[CONNSTRING_BYTES_MAX];
	uint32		stripe_blocks;

	/* neon.max_replication_*_lag in MB, for writers that wait in the middle of a statement. Written by the postmaster only. */
	volatile int write_lag_mb;
	volatile int flush_lag_mb;
	volatile int apply_lag_mb;

	pg_atomic_uint64 stats[STAT_COUNT];
} SharedState;

/* NULL until shared memory exists, and always in a plain server. */
extern SharedState *neon_shared;

/* An error in a plain server. */
extern void require_active(void);

/* Installs the hooks that reserve and initialise all shared memory of the extension. */
extern void shared_state_install(void);

/* Copies the address, returns its version (never 0): a later, different version means that the address changed. */
extern uint32 shared_connstring_get(char out[CONNSTRING_BYTES_MAX], uint32 *stripe_blocks);
extern uint32 shared_connstring_version(void);

/* To be called in every process; only the postmaster's calls have an effect. */
extern void shared_connstring_set(const char *value);
extern void shared_stripe_set(uint32 blocks);
extern void shared_lag_limits_set(void);

static inline void
stat_add(StatCounter counter, uint64 amount)
{
	pg_atomic_fetch_add_u64(&neon_shared->stats[counter], amount);
	perf_count(counter, amount);
}

static inline void
stat_count(StatCounter counter)
{
	stat_add(counter, 1);
}

#endif
