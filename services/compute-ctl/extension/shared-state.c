/* Owns the extension's shared memory segment and the order in which its parts are set up. */
#include "shared-state.h"

#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

#include "cache-table.h"
#include "late-start.h"
#include "local-file.h"
#include "relation-state.h"
#include "replica.h"
#include "start-gate.h"
#include "wal-position.h"
#include "working-set.h"

SharedState *neon_shared;

static shmem_request_hook_type previous_request_hook;
static shmem_startup_hook_type previous_startup_hook;

/* The redo position this server starts from is where storage handed the data directory out. */
static void
read_start(void)
{
	bool		crc_ok;
	ControlFileData *control = get_controlfile(DataDir, &crc_ok);

	if (!crc_ok)
		ereport(FATAL, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("neon: the checksum of pg_control is wrong")));
	if (control->system_identifier == 0)
		ereport(FATAL, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("neon: the data directory is not complete")));
	neon_shared->start_lsn = record_end_position(control->checkPointCopy.redo);
	neon_shared->oldest_active_xid = control->checkPointCopy.oldestActiveXid;
	neon_shared->started_clean = control->state == DB_SHUTDOWNED;
	pfree(control);
}

static void
initialise(void)
{
	memset(neon_shared, 0, sizeof(*neon_shared));
	pg_atomic_init_u64(&neon_shared->forgotten_lsn, InvalidXLogRecPtr);
	pg_atomic_init_u64(&neon_shared->keep_after_us, 0);
	pg_atomic_init_u32(&neon_shared->connstring_version, 2);
	strlcpy(neon_shared->connstring, neon_pageserver_connstring, CONNSTRING_BYTES_MAX);
	neon_shared->stripe_blocks = neon_stripe_size;
	shared_lag_limits_set();
	for (int i = 0; i < STAT_COUNT; i++)
		pg_atomic_init_u64(&neon_shared->stats[i], 0);
}

/* The data directory is complete, and nothing of this server has looked at it. */
static void
begin(void)
{
	replica_check_data_directory();
	read_start();
	pg_atomic_write_u64(&neon_shared->forgotten_lsn, neon_shared->start_lsn);
	cache_table_begin();
	replica_begin();
}

static void
request_shared_memory(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(MAXALIGN(sizeof(SharedState)));
	relation_state_request_memory();
	local_file_request_memory();
	cache_table_request_memory();
	replica_request_memory();
	perf_counters_request_memory();
	working_set_request_memory();
}

static void
start_shared_memory(void)
{
	bool		found;
	bool		data_will_come = start_gate_pass(begin);

	if (previous_startup_hook)
		previous_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	neon_shared = ShmemInitStruct("neon state", sizeof(SharedState), &found);
	if (!found)
		initialise();
	relation_state_attach();
	local_file_attach();
	cache_table_attach();
	replica_attach();
	perf_counters_attach();
	working_set_attach();
	LWLockRelease(AddinShmemInitLock);
	if (data_will_come)
		pg_atomic_write_u64(&neon_shared->keep_after_us, (uint64) late_start_begin());
	else
		begin();
}

void
shared_state_install(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_shared_memory;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = start_shared_memory;
}

void
shared_lag_limits_set(void)
{
	if (neon_shared == NULL || IsUnderPostmaster)
		return;
	neon_shared->write_lag_mb = neon_max_replication_write_lag_mb;
	neon_shared->flush_lag_mb = neon_max_replication_flush_lag_mb;
	neon_shared->apply_lag_mb = neon_max_replication_apply_lag_mb;
}

void
shared_connstring_set(const char *value)
{
	/* Every process sees the reload; one writer is enough, and the postmaster outlives them all. */
	if (neon_shared == NULL || IsUnderPostmaster || value == NULL)
		return;
	if (strcmp(neon_shared->connstring, value) == 0)
		return;
	pg_atomic_fetch_add_u32(&neon_shared->connstring_version, 1);
	pg_write_barrier();
	strlcpy(neon_shared->connstring, value, CONNSTRING_BYTES_MAX);
	pg_write_barrier();
	pg_atomic_fetch_add_u32(&neon_shared->connstring_version, 1);
}

void
shared_stripe_set(uint32 blocks)
{
	if (neon_shared == NULL || IsUnderPostmaster || neon_shared->stripe_blocks == blocks)
		return;
	pg_atomic_fetch_add_u32(&neon_shared->connstring_version, 1);
	pg_write_barrier();
	neon_shared->stripe_blocks = blocks;
	pg_write_barrier();
	pg_atomic_fetch_add_u32(&neon_shared->connstring_version, 1);
}

uint32
shared_connstring_version(void)
{
	return pg_atomic_read_u32(&neon_shared->connstring_version);
}

uint32
shared_connstring_get(char out[CONNSTRING_BYTES_MAX], uint32 *stripe_blocks)
{
	/* A copy torn by a concurrent change is noticed by the version and made again; the change takes nanoseconds. */
	for (;;)
	{
		uint32		before = shared_connstring_version();

		pg_read_barrier();
		memcpy(out, neon_shared->connstring, CONNSTRING_BYTES_MAX);
		*stripe_blocks = neon_shared->stripe_blocks;
		pg_read_barrier();
		if (before % 2 == 0 && before == shared_connstring_version())
		{
			out[CONNSTRING_BYTES_MAX - 1] = '\0';
			return before;
		}
		pg_usleep(10);
	}
}
