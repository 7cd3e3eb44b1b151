/*
 * Owns the background worker that frees local pages, and with it the horizon of virtual transactions.
 *
 * A page rebuilt from WAL lacks what only running transactions care about: command ids, b-tree cycle ids, speculative
 * tokens, pages of an index build that will be logged at its end. So a page written out in epoch E is freed when
 *   1. all virtual transactions that ran at a sample taken after E have ended, and
 *   2. the page server is asked for it as of L or later, L being the WAL insert position read after they ended.
 * An xid horizon would not do: CREATE INDEX CONCURRENTLY and VACUUM have no xid. Prepared transactions hold nothing up, as
 * their command ids mean nothing any more.
 *
 *   epoch        1         2                 3
 *          -----+---------+-----------------+-----> time
 *               sample    |                 sample
 *                         those of the sample have ended, L[2] := insert position:
 *                         what was written out in epoch 1 may be freed, and must be asked for as of L[2] or later
 *
 * One sample is under way at a time. The position is handed to the readers by raising the relation's not_modified_since,
 * before the hole is punched and under the same exclusive lock of the file: who sees the hole sees the position.
 *
 * A server that does not write has no such transactions: what it has written out came from WAL, and so it may all be freed at any time, but
 * for what is being replayed.
 *
 * Never freed: forks other than the main one (free space maps are not logged; visibility maps are cleared without a
 * position), sequences (they hand out values that WAL has only in steps of 32), unlogged relations.
 */
#include "cache-worker.h"

#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "access/xlog.h"
#include "commands/sequence.h"
#include "common/relpath.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/pg_bitutils.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/bufpage.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/sinvaladt.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "cache-table.h"
#include "local-file.h"
#include "relation-state.h"
#include "replica.h"
#include "settings.h"
#include "shared-state.h"
#include "wal-position.h"

#define HISTORY 4096
#define BUSY_NAP_MS 10
#define BLOCKED_NAP_MS 100
#define IDLE_NAP_MS 10000
#define FAILURE_NAP_MS 60000
#define BATCH_CHUNKS 64
/* commands/sequence.c keeps it to itself. */
#define SEQUENCE_MAGIC 0x1717

typedef enum FreeResult
{
	FREED,
	NOT_FREED,					/* written to meanwhile, being replayed, or pinned now */
	FREE_FAILED					/* the file system refuses */
} FreeResult;

PGDLLEXPORT void neon_cache_worker_main(Datum argument);

/* The sample under way: virtual transactions that had not ended when last looked at. */
static VirtualTransactionId *awaited;
static int	awaited_count;
static bool sampling;
static uint64 sample_epoch;

/* Epochs below this one are safe; 0: none. */
static uint64 safe_epoch;

/* L of the epochs from first_epoch up to safe_epoch, the last HISTORY of them. */
static XLogRecPtr positions[HISTORY];
static uint64 first_epoch;

static bool
has_ended(VirtualTransactionId transaction)
{
	/* A prepared transaction keeps its id in a process that is not a backend's, and is not found here. */
	PGPROC	   *process = BackendIdGetProc(transaction.backendId);

	return process == NULL || *(volatile LocalTransactionId *) &process->lxid != transaction.localTransactionId;
}

static void
start_sample(void)
{
	sample_epoch = cache_epoch_advance();
	pg_memory_barrier();
	awaited = GetCurrentVirtualXIDs(InvalidTransactionId, false, true, 0, &awaited_count);
	sampling = true;
}

static void
finish_sample(void)
{
	pg_memory_barrier();
	positions[sample_epoch % HISTORY] = current_position();
	if (first_epoch == 0)
		first_epoch = sample_epoch;
	safe_epoch = sample_epoch;
	sampling = false;
	pfree(awaited);
	awaited = NULL;
}

static void
follow_sample(void)
{
	int			left = 0;

	if (!sampling)
		return;
	for (int i = 0; i < awaited_count; i++)
	{
		if (!has_ended(awaited[i]))
			awaited[left++] = awaited[i];
	}
	awaited_count = left;
	if (left == 0)
		finish_sample();
}

/* From where on the page server knows all that was written out in `epoch`, which is a safe one. */
static XLogRecPtr
position_for(uint64 epoch)
{
	uint64		wanted = Max(epoch + 1, first_epoch);

	return positions[(safe_epoch - wanted < HISTORY ? wanted : safe_epoch) % HISTORY];
}

static bool
is_sequence_page(const char *page)
{
	PageHeader	header = (PageHeader) page;

	return header->pd_special <= BLCKSZ - sizeof(uint32) && header->pd_special >= SizeOfPageHeaderData &&
		*(const uint32 *) (page + MAXALIGN_DOWN(header->pd_special)) == SEQUENCE_MAGIC;
}

/* Whether the chunk belongs to a relation that the page server cannot give back as it is. */
static bool
must_stay(int file, const CacheChunk *chunk, off_t offset)
{
	PGAlignedBlock page;

	if (local_file_is_unlogged(chunk->node))
		return true;
	if (chunk->number != 0)
		return false;
	if (pread(file, page.data, BLCKSZ, offset) != BLCKSZ)
		return false;
	return is_sequence_page(page.data);
}

/* With the file's exclusive lock held. */
static FreeResult
punch(int file, const CacheChunk *victim, off_t offset, uint64 below)
{
	CacheChunk	now;
	BlockNumber first = victim->number * CHUNK_BLOCKS;
	XLogRecPtr	position;

	if (!cache_lookup(victim->node, victim->number, &now) || now.epoch >= below)
		return NOT_FREED;
	if (must_stay(file, &now, offset))
	{
		cache_pin(now.node, now.number);
		return NOT_FREED;
	}
	if (now.epoch > 0)
	{
		if (neon_compute_mode == MODE_PRIMARY)
			position = position_for(now.epoch);
		else if (!replica_settled_position(now.node, first, first + CHUNK_BLOCKS, &position))
			return NOT_FREED;
		relation_state_freed(now.node, MAIN_FORKNUM, position);
	}
	if (fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, (off_t) CHUNK_BLOCKS * BLCKSZ) != 0)
		return FREE_FAILED;
	cache_note_removed(now.node, first, first + CHUNK_BLOCKS);
	stat_add(STAT_PAGES_FREED, pg_popcount64(now.present));
	return FREED;
}

static int
open_segment(const CacheChunk *chunk, off_t *offset)
{
	BlockNumber first = chunk->number * CHUNK_BLOCKS;
	char	   *base = relpathperm(chunk->node, MAIN_FORKNUM);
	char	   *path = first < RELSEG_SIZE ? base : psprintf("%s.%u", base, first / RELSEG_SIZE);

	*offset = (off_t) (first % RELSEG_SIZE) * BLCKSZ;
	return BasicOpenFile(path, O_RDWR | PG_BINARY);
}

static FreeResult
free_chunk(const CacheChunk *victim, uint64 below)
{
	LWLock	   *lock = local_file_lock(victim->node, MAIN_FORKNUM);
	off_t		offset;
	int			file;
	FreeResult	result;

	if (neon_compute_mode != MODE_PRIMARY)
		replica_hold_replay();
	/* Opened under the lock: a file that was dropped and made anew meanwhile bears a younger epoch, which is looked up. */
	LWLockAcquire(lock, LW_EXCLUSIVE);
	file = open_segment(victim, &offset);
	if (file >= 0)
	{
		result = punch(file, victim, offset, below);
		close(file);
	}
	else if (errno == ENOENT)
	{
		/* Dropped, without our having known how long it was. */
		BlockNumber first = victim->number * CHUNK_BLOCKS;

		cache_note_removed(victim->node, first, first + CHUNK_BLOCKS);
		result = NOT_FREED;
	}
	else
		result = FREE_FAILED;
	LWLockRelease(lock);
	if (neon_compute_mode != MODE_PRIMARY)
		replica_release_replay();
	return result;
}

/* Frees up to a batch of chunks. How long to sleep until there may be more to do is returned. */
static long
free_some(void)
{
	CacheChunk	victim;
	/* Chunks of epoch 0 only, as long as what was written must stay. */
	uint64		below = neon_file_cache_free_written ? Max(neon_compute_mode == MODE_PRIMARY ? safe_epoch : UINT64_MAX, 1) : 1;

	for (int i = 0; i < BATCH_CHUNKS; i++)
	{
		if (cache_bytes() <= cache_target_bytes())
			return IDLE_NAP_MS;
		if (!cache_find_victim(below, &victim))
			return i > 0 ? BUSY_NAP_MS : BLOCKED_NAP_MS;
		if (free_chunk(&victim, below) == FREE_FAILED)
		{
			ereport(LOG,
					(errcode_for_file_access(),
					 errmsg("neon: could not free local pages, will not try for a minute: %m")));
			return FAILURE_NAP_MS;
		}
	}
	return 0;
}

static void
nap(long ms)
{
	if (ms == 0)
		return;
	if (ms == IDLE_NAP_MS)
		cache_set_sleeper(MyLatch);
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
}

static void
work(MemoryContext scratch)
{
	MemoryContext previous;
	long		nap_ms;

	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
	if (neon_compute_mode == MODE_PRIMARY && !sampling && neon_file_cache_free_written && cache_bytes() > cache_target_bytes())
		start_sample();
	follow_sample();
	previous = MemoryContextSwitchTo(scratch);
	nap_ms = free_some();
	MemoryContextSwitchTo(previous);
	MemoryContextReset(scratch);
	nap(nap_ms);
}

void
neon_cache_worker_main(Datum argument)
{
	MemoryContext scratch;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	MemoryContextSwitchTo(TopMemoryContext);
	scratch = AllocSetContextCreate(TopMemoryContext, "neon cache worker", ALLOCSET_SMALL_SIZES);
	while (!ShutdownRequestPending)
		work(scratch);
	proc_exit(0);
}

void
cache_worker_install(void)
{
	BackgroundWorker worker = {
		.bgw_name = "neon cache",
		.bgw_type = "neon cache",
		.bgw_flags = BGWORKER_SHMEM_ACCESS,
		.bgw_start_time = neon_compute_mode == MODE_PRIMARY ? BgWorkerStart_RecoveryFinished : BgWorkerStart_ConsistentState,
		.bgw_restart_time = 1,
		.bgw_library_name = "neon",
		.bgw_function_name = "neon_cache_worker_main",
	};

	RegisterBackgroundWorker(&worker);
}
