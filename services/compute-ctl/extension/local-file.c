/*
 * Owns all access to md's files of relations that also live on the page server.
 *
 * Presence is told by content: a block that is all zeros, or beyond the end of the file, is absent. That needs no second
 * record of what is present, which could disagree with the file. A page whose true content is all zeros is then asked of
 * the page server each time, and the answer is zeros: such a page was never logged.
 *
 * One lock of an array, chosen by relation fork, orders what happens to a file:
 *   shared     reading and overwriting blocks before the end of the file
 *   exclusive  everything that lengthens or shortens the file, and keeping a fetched page
 * Lengthening must be exclusive because md, when it needs a further segment, pads the one before by writing a zero block
 * at its end without looking: two processes at once could wipe out a page. Keeping must be exclusive because the reader
 * may not hold the buffer (pg_prewarm reads around the buffer pool): it must neither overwrite a page written meanwhile nor
 * be seen half done. The same lock, exclusive, is held by the worker that frees pages (cache-worker.c).
 */
#include "local-file.h"

#include <unistd.h>

#include "common/hashfn.h"
#include "common/relpath.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "cache-table.h"
#include "relation-state.h"
#include "replica.h"
#include "settings.h"
#include "shared-state.h"
#include "smgr-table.h"

#define FILE_LOCKS 128
#define LOCK_TRANCHE "neon_local_file"
#define KEEP_RETRY_US (60 * INT64CONST(1000000))

static LWLockPadded *file_locks;

/* Opening segments allocates memory; in a critical section only contexts marked for it may be used. */
static MemoryContext truncate_context;

void
local_file_request_memory(void)
{
	RequestNamedLWLockTranche(LOCK_TRANCHE, FILE_LOCKS);
}

void
local_file_attach(void)
{
	file_locks = GetNamedLWLockTranche(LOCK_TRANCHE);
	if (truncate_context == NULL)
	{
		truncate_context = AllocSetContextCreate(TopMemoryContext, "neon truncate", ALLOCSET_SMALL_SIZES);
		MemoryContextAllowInCriticalSection(truncate_context, true);
	}
}

LWLock *
local_file_lock(RelFileNode node, ForkNumber fork)
{
	uint32		hash = hash_combine(hash_bytes((const unsigned char *) &node, sizeof(node)), (uint32) fork);

	return &file_locks[hash % FILE_LOCKS].lock;
}

/* With the file's lock held, before the write. Other forks are not accounted for: they are never freed. */
static void
note_written(SMgrRelation reln, ForkNumber fork, BlockNumber block)
{
	if (fork == MAIN_FORKNUM)
		cache_note_written(reln->smgr_rnode.node, block);
}

bool
page_is_zero(const char *page)
{
	const uint64 *words = (const uint64 *) page;

	for (size_t i = 0; i < BLCKSZ / sizeof(uint64); i++)
	{
		if (words[i] != 0)
			return false;
	}
	return true;
}

bool
local_file_exists(SMgrRelation reln, ForkNumber fork)
{
	/* md's own test closes and opens the file; an open one is there, as far as this process may know. */
	return reln->md_num_open_segs[fork] > 0 || md.exists(reln, fork);
}

bool
local_file_is_unlogged(RelFileNode node)
{
	char	   *path = relpathperm(node, INIT_FORKNUM);
	bool		found = access(path, F_OK) == 0;

	pfree(path);
	return found;
}

BlockNumber
local_file_blocks(SMgrRelation reln, ForkNumber fork)
{
	return local_file_exists(reln, fork) ? md.nblocks(reln, fork) : 0;
}

static void
ensure_file(SMgrRelation reln, ForkNumber fork)
{
	if (!local_file_exists(reln, fork))
		md.create(reln, fork, true);
}

bool
local_file_read(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *page)
{
	LWLock	   *lock = local_file_lock(reln->smgr_rnode.node, fork);
	bool		within;

	LWLockAcquire(lock, LW_SHARED);
	within = block < local_file_blocks(reln, fork);
	if (within)
		md.read(reln, fork, block, page);
	LWLockRelease(lock);
	if (!within || page_is_zero(page))
		return false;
	if (fork == MAIN_FORKNUM)
		cache_note_used(reln->smgr_rnode.node, block);
	return true;
}

void
local_file_write(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *page, bool skip_fsync)
{
	LWLock	   *lock = local_file_lock(reln->smgr_rnode.node, fork);

	LWLockAcquire(lock, LW_SHARED);
	if (block < local_file_blocks(reln, fork))
	{
		note_written(reln, fork, block);
		md.write(reln, fork, block, page, skip_fsync);
		LWLockRelease(lock);
		return;
	}
	LWLockRelease(lock);
	local_file_extend(reln, fork, block, page, skip_fsync);
}

void
local_file_extend(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *page, bool skip_fsync)
{
	LWLock	   *lock = local_file_lock(reln->smgr_rnode.node, fork);

	LWLockAcquire(lock, LW_EXCLUSIVE);
	ensure_file(reln, fork);
	note_written(reln, fork, block);
	md.extend(reln, fork, block, page, skip_fsync);
	LWLockRelease(lock);
}

static bool
may_keep(const char *page)
{
	if (cache_bytes() >= cache_limit_bytes())
		return false;
	if (CritSectionCount > 0 || page_is_zero(page))
		return false;
	return pg_atomic_read_u64(&neon_shared->keep_after_us) == 0 ||
		pg_atomic_read_u64(&neon_shared->keep_after_us) < (uint64) GetCurrentTimestamp();
}

/* Under the lock. A replica may have left out redo of the page since it was fetched. */
static bool
is_outdated(RelFileNode node, ForkNumber fork, BlockNumber block, XLogRecPtr as_of)
{
	return neon_compute_mode != MODE_PRIMARY && replica_last_skipped(node, fork, block) > as_of;
}

/* Under the exclusive lock. The page of a block that someone wrote meanwhile is newer than ours. */
static bool
write_if_absent(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *page)
{
	PGAlignedBlock present;
	bool		within;

	ensure_file(reln, fork);
	within = block < md.nblocks(reln, fork);
	if (within)
	{
		md.read(reln, fork, block, present.data);
		if (!page_is_zero(present.data))
			return false;
	}
	if (fork == MAIN_FORKNUM)
		cache_note_kept(reln->smgr_rnode.node, block);
	if (!within)
	{
		md.extend(reln, fork, block, page, true);
		return true;
	}
	md.write(reln, fork, block, page, true);
	return true;
}

/* The cache disk is full or broken: that must not fail a query that has its page. Try again in a while. */
static void
note_keep_failure(void)
{
	ErrorData  *error = CopyErrorData();

	FlushErrorState();
	stat_count(STAT_KEEP_FAILURES);
	pg_atomic_write_u64(&neon_shared->keep_after_us, (uint64) GetCurrentTimestamp() + KEEP_RETRY_US);
	ereport(LOG, (errmsg("neon: could not keep a fetched page locally, will not try for a minute: %s", error->message)));
	FreeErrorData(error);
}

bool
local_file_keep(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *page, XLogRecPtr as_of)
{
	LWLock	   *lock;
	MemoryContext context = CurrentMemoryContext;
	uint32		interrupt_holdoff = InterruptHoldoffCount;
	uint32		cancel_holdoff = QueryCancelHoldoffCount;
	volatile bool written = false;

	if (!may_keep(page))
		return false;
	lock = local_file_lock(reln->smgr_rnode.node, fork);
	LWLockAcquire(lock, LW_EXCLUSIVE);
	PG_TRY();
	{
		written = !is_outdated(reln->smgr_rnode.node, fork, block, as_of) && write_if_absent(reln, fork, block, page);
	}
	PG_CATCH();
	{
		/* An error resets the hold-off counts, but our caller goes on, and so does the lock we hold. */
		InterruptHoldoffCount = interrupt_holdoff + 1;
		QueryCancelHoldoffCount = cancel_holdoff;
		MemoryContextSwitchTo(context);
		note_keep_failure();
	}
	PG_END_TRY();
	LWLockRelease(lock);

	if (written)
		stat_count(STAT_PAGES_KEPT);
	return written;
}

void
local_file_truncate(SMgrRelation reln, ForkNumber fork, BlockNumber blocks)
{
	LWLock	   *lock = local_file_lock(reln->smgr_rnode.node, fork);
	MemoryContext previous = MemoryContextSwitchTo(truncate_context);
	BlockNumber old_blocks;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	old_blocks = local_file_blocks(reln, fork);
	if (old_blocks > blocks)
	{
#ifdef NEON_TRUNCATE_HAS_OLD_BLOCKS
		md.truncate(reln, fork, old_blocks, blocks);
#else
		md.truncate(reln, fork, blocks);
#endif
		if (fork == MAIN_FORKNUM)
			cache_note_removed(reln->smgr_rnode.node, blocks, old_blocks);
	}
	LWLockRelease(lock);
	MemoryContextSwitchTo(previous);
	MemoryContextReset(truncate_context);
}
