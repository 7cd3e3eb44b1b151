/*
 * Owns what is different in a server that does not write: as of when it reads, and which redo it leaves out.
 *
 * A standby replays each record to the pages that it holds, in shared buffers or in local files. Redo of pages it does not hold
 * is left out: the page server does the same redo, and a page is asked for as of the position of replay when it is needed. So
 * following a primary costs no page traffic.
 *
 * How redo is left out, in an unmodified server: every resource manager's redo function is called through RmgrTable, and so first
 * comes redo_held_pages(), which looks at the record's blocks. Those that are not held, and that the record does not make anew, are
 * said to be of the initialisation fork while redo runs, and the startup process is told that this fork has no blocks (the cached length
 * in its SMgrRelation): redo takes them for pages of a relation that was truncated later, which every redo function passes
 * over. Redo functions look at a block's relation and number, not at its fork. No buffer is touched, so no other process can see anything
 * half done. What the server notes of such a page is forgotten after the record: it would grow, and hold up restartpoints for ever, and
 * with them the removal of WAL.
 *
 * Of a heap's or a b-tree's blocks, any may be left out. Of another index', all or none, and the absent ones are fetched if it is none:
 * readers of a GIN index go from page to page with the first one locked (see below).
 *
 * Reading, against replay:
 *
 *      done            redo_end
 *   ────┼─ the record ────┼────
 *       │  being replayed │
 *
 * Every page is right as of `done`. A reader has put the page's buffer into the buffer table before it comes here, so if the record
 * touches the page, then either the startup process finds that buffer, and waits until the page is in it before it goes on to
 * redo; or it looked before, found nothing, and the page is among those noted as left out. A noted page is asked for as of
 * redo_end and is handed out when the whole record has been replayed, since readers may count on seeing no part of it before. The lock
 * orders the startup process' look and note against the reader's.
 *
 * A page that is kept locally by somebody who does not hold its buffer (pg_prewarm) may have been left out meanwhile: last_skipped, a
 * table of positions by hash of the page, tells. It is raised before the local file is looked at, and read under the file's lock.
 *
 * A reader waits for the record's end while the startup process may wait for a lock of a page of it. Readers do not read heap or index
 * pages under the lock of a visibility map's page, of a heap page, or of a b-tree page, so there is no circle. For queries
 * that conflict with the record the startup process waits before anything is noted (conflict-horizon.c).
 *
 * Written-out pages that are freed (cache-worker.c) are asked for as of a position behind which they were not written: `done`, but
 * for pages of the record being replayed, which stay. A reader would have to wait for that record's end, while the startup process may
 * wait for its pin.
 *
 * Locks are taken in the order: this one, a local file's, those of the tables.
 */
#include "replica.h"

#include <unistd.h>

#include "access/rmgr.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogreader.h"
#include "access/xlogrecovery.h"
#include "access/xlogutils.h"
#include "commands/dbcommands_xlog.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/buf_internals.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "storage/smgr.h"
#include "utils/guc.h"

#include "builtin-functions.h"
#include "conflict-horizon.h"
#include "local-file.h"
#include "relation-state.h"
#include "running-transactions.h"
#include "settings.h"
#include "shared-state.h"
#include "wal-position.h"

#define LOCK_TRANCHE "neon_replica"
#define SKIPPED_SLOTS 65536
#define BLOCKS_MAX (XLR_MAX_BLOCK_ID + 1)
#define NAP_MS 1

extern PGDLLIMPORT bool ignore_invalid_pages;

typedef struct ReplicaState
{
	/* Under the lock. */
	XLogRecPtr	done;
	XLogRecPtr	redo_end;
	int			touched_count;	/* blocks of main forks in the record being replayed */
	BufferTag	touched[BLOCKS_MAX];
	int			noted_count;	/* those of them that are left out */
	BufferTag	noted[BLOCKS_MAX];

	pg_atomic_uint64 last_skipped[SKIPPED_SLOTS];
} ReplicaState;

static ReplicaState *replica;
static LWLock *replica_lock;

/* Of the startup process: the blocks that are left out of the record being replayed. */
static DecodedBkpBlock *left_out[BLOCKS_MAX];
static int	left_out_count = 0;
static void (*original_redo[RM_MAX_ID + 1]) (XLogReaderState *record);

void
replica_request_memory(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(ReplicaState)));
	RequestNamedLWLockTranche(LOCK_TRANCHE, 1);
}

void
replica_attach(void)
{
	bool		found;

	replica_lock = &GetNamedLWLockTranche(LOCK_TRANCHE)[0].lock;
	replica = ShmemInitStruct("neon replica", sizeof(ReplicaState), &found);
	if (found)
		return;
	replica->touched_count = 0;
	replica->noted_count = 0;
	/* New shared memory is zeros, and so are the positions; a primary never touches them. */
}

void
replica_begin(void)
{
	replica->done = replica->redo_end = neon_shared->start_lsn;
}

static pg_atomic_uint64 *
skipped_slot(const BufferTag *tag)
{
	return &replica->last_skipped[hash_bytes((const unsigned char *) tag, sizeof(*tag)) % SKIPPED_SLOTS];
}

XLogRecPtr
replica_last_skipped(RelFileNode node, ForkNumber fork, BlockNumber block)
{
	BufferTag	tag;

	INIT_BUFFERTAG(tag, node, fork, block);
	return pg_atomic_read_u64(skipped_slot(&tag));
}

static bool
is_noted(const BufferTag *tag)
{
	for (int i = 0; i < replica->noted_count; i++)
	{
		if (BUFFERTAGS_EQUAL(replica->noted[i], *tag))
			return true;
	}
	return false;
}

/* Up to where everything has been replayed. With the lock held, so that no further record is begun. */
static XLogRecPtr
replayed_position(void)
{
	if (replica->redo_end > replica->done && GetXLogReplayRecPtr(NULL) >= replica->redo_end)
		return replica->redo_end;
	return replica->done;
}

/* An event behind the position of reading is being replayed. */
static void
move_to(XLogRecPtr event_lsn, ReadPosition *position)
{
	if (event_lsn <= position->request_lsn || AmStartupProcess())
		return;
	position->request_lsn = event_lsn;
	position->usable_after = event_lsn;
}

void
replica_page_position(RelFileNode node, ForkNumber fork, BlockNumber block, XLogRecPtr not_modified_since,
					  ReadPosition *position)
{
	BufferTag	tag;

	INIT_BUFFERTAG(tag, node, fork, block);
	position->usable_after = InvalidXLogRecPtr;
	LWLockAcquire(replica_lock, LW_SHARED);
	/* The startup process reads a page for the sake of redo that is still to be done to it. */
	position->request_lsn = AmStartupProcess() ? replica->done : replayed_position();
	if (!AmStartupProcess() && position->request_lsn < replica->redo_end && is_noted(&tag))
		position->request_lsn = position->usable_after = replica->redo_end;
	LWLockRelease(replica_lock);
	move_to(not_modified_since, position);
	/* Another page of the same hash may have been left out later. */
	position->not_modified_since = Min(Max(not_modified_since, pg_atomic_read_u64(skipped_slot(&tag))),
									   position->request_lsn);
}

void
replica_length_position(XLogRecPtr not_modified_since, ReadPosition *position)
{
	position->usable_after = InvalidXLogRecPtr;
	LWLockAcquire(replica_lock, LW_SHARED);
	position->request_lsn = AmStartupProcess() ? replica->done : replayed_position();
	LWLockRelease(replica_lock);
	move_to(not_modified_since, position);
	/* Relations grow without an event that is known here. */
	position->not_modified_since = position->request_lsn;
}

void
replica_hold_replay(void)
{
	LWLockAcquire(replica_lock, LW_SHARED);
}

void
replica_release_replay(void)
{
	LWLockRelease(replica_lock);
}

bool
replica_settled_position(RelFileNode node, BlockNumber from, BlockNumber to, XLogRecPtr *position)
{
	*position = replayed_position();
	if (*position == replica->redo_end)
		return true;
	for (int i = 0; i < replica->touched_count; i++)
	{
		const BufferTag *tag = &replica->touched[i];

		if (RelFileNodeEquals(tag->rnode, node) && tag->blockNum >= from && tag->blockNum < to)
			return false;
	}
	return true;
}

bool
replica_leaves_out_blocks(void)
{
	return left_out_count > 0;
}

void
replica_await(XLogRecPtr usable_after)
{
	while (usable_after != InvalidXLogRecPtr && RecoveryInProgress() && GetXLogReplayRecPtr(NULL) < usable_after)
	{
		CHECK_FOR_INTERRUPTS();
		(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, NAP_MS, PG_WAIT_EXTENSION);
	}
}

static bool
in_shared_buffers(const BufferTag *tag)
{
	uint32		hash = BufTableHashCode((BufferTag *) tag);
	LWLock	   *lock = BufMappingPartitionLock(hash);
	bool		found;

	LWLockAcquire(lock, LW_SHARED);
	found = BufTableLookup((BufferTag *) tag, hash) >= 0;
	LWLockRelease(lock);
	return found;
}

/* An absent page is about to be left out: from now on nobody keeps an older version of it. */
static void
raise_skipped(const BufferTag *tag, XLogRecPtr lsn)
{
	pg_atomic_uint64 *slot = skipped_slot(tag);

	/* There is one writer. */
	if (pg_atomic_read_u64(slot) < lsn)
		pg_atomic_write_u64(slot, lsn);
	pg_memory_barrier();
}

static bool
is_held(const BufferTag *tag, XLogRecPtr redo_end)
{
	PGAlignedBlock page;

	if (in_shared_buffers(tag))
		return true;
	raise_skipped(tag, redo_end);
	return local_file_read(smgropen(tag->rnode, InvalidBackendId), tag->forkNum, tag->blockNum, page.data);
}

static bool
is_made_anew(const DecodedBkpBlock *block)
{
	return (block->flags & BKPBLOCK_WILL_INIT) != 0 || (block->has_image && block->apply_image);
}

/* Whether the page server can give the block, once it is needed. */
static bool
is_remote(const DecodedBkpBlock *block)
{
	ForkInfo	info;

	if (block->forknum != MAIN_FORKNUM || is_made_anew(block) || local_file_is_unlogged(block->rnode))
		return false;
	if (!relation_state_lookup(block->rnode, MAIN_FORKNUM, &info))
		return true;
	return info.state == FORK_REMOTE && block->blkno < info.blocks;
}

/* Whether redo of a relation's blocks may be left out of the record for some of them only. */
static bool
may_leave_out_some(XLogReaderState *record)
{
	return XLogRecGetRmid(record) == RM_HEAP_ID || XLogRecGetRmid(record) == RM_BTREE_ID;
}

/* With the lock held. Notes those blocks of the relation of which redo is to be left out. */
static void
note_absent(XLogReaderState *record, RelFileNode node)
{
	int			noted = replica->noted_count;

	for (int id = 0; id <= XLogRecMaxBlockId(record); id++)
	{
		DecodedBkpBlock *block = XLogRecGetBlock(record, id);
		BufferTag  *tag = &replica->noted[noted];

		if (!block->in_use || !RelFileNodeEquals(block->rnode, node) || block->forknum != MAIN_FORKNUM)
			continue;
		INIT_BUFFERTAG(*tag, block->rnode, block->forknum, block->blkno);
		if (is_remote(block) && !is_held(tag, replica->redo_end))
			left_out[noted++] = block;
		else if (!may_leave_out_some(record))
			return;
	}
	replica->noted_count = noted;
}

static bool
is_listed(const RelFileNode *nodes, int count, RelFileNode node)
{
	for (int i = 0; i < count; i++)
	{
		if (RelFileNodeEquals(nodes[i], node))
			return true;
	}
	return false;
}

/* Begins a record: which blocks it has, and which of them are left out, is noted. */
static void
begin_record(XLogReaderState *record)
{
	RelFileNode seen[BLOCKS_MAX];
	int			seen_count = 0;

	LWLockAcquire(replica_lock, LW_EXCLUSIVE);
	replica->done = Max(replica->done, record_end_position(record->ReadRecPtr));
	replica->redo_end = record_end_position(record->EndRecPtr);
	replica->touched_count = replica->noted_count = 0;
	for (int id = 0; id <= XLogRecMaxBlockId(record); id++)
	{
		DecodedBkpBlock *block = XLogRecGetBlock(record, id);

		if (!block->in_use || block->forknum != MAIN_FORKNUM)
			continue;
		INIT_BUFFERTAG(replica->touched[replica->touched_count], block->rnode, MAIN_FORKNUM, block->blkno);
		replica->touched_count++;
		if (is_listed(seen, seen_count, block->rnode))
			continue;
		seen[seen_count++] = block->rnode;
		note_absent(record, block->rnode);
	}
	left_out_count = replica->noted_count;
	LWLockRelease(replica_lock);
}

/* The startup process, and it alone, believes the length that is cached in the SMgrRelation. */
static void
set_cached_length(RelFileNode node, BlockNumber blocks)
{
	smgropen(node, InvalidBackendId)->smgr_cached_nblocks[INIT_FORKNUM] = blocks;
}

/* Redo of the record, with the blocks that are left out taken for missing ones. */
static void
redo_without_left_out(XLogReaderState *record)
{
	int			level_before = log_min_messages;
	bool		ignore_before = ignore_invalid_pages;

	for (int i = 0; i < left_out_count; i++)
	{
		left_out[i]->forknum = INIT_FORKNUM;
		set_cached_length(left_out[i]->rnode, 0);
	}
	/* A block beyond a relation's end would be a reason to stop, and two warnings. */
	ignore_invalid_pages = true;
	log_min_messages = ERROR;
	original_redo[XLogRecGetRmid(record)] (record);
	ignore_invalid_pages = ignore_before;
	log_min_messages = level_before;
	for (int i = 0; i < left_out_count; i++)
	{
		left_out[i]->forknum = MAIN_FORKNUM;
		set_cached_length(left_out[i]->rnode, InvalidBlockNumber);
		/* The server forgets that it found them missing. */
		XLogDropRelation(left_out[i]->rnode, INIT_FORKNUM);
	}
	left_out_count = 0;
}

static void
after_record(XLogReaderState *record)
{
	if (XLogRecGetRmid(record) == RM_DBASE_ID && (XLogRecGetInfo(record) & ~XLR_INFO_MASK) == XLOG_DBASE_DROP)
		relation_state_database_dropped(((xl_dbase_drop_rec *) XLogRecGetData(record))->db_id, replica->redo_end);
}

static void
redo_held_pages(XLogReaderState *record)
{
	conflict_resolve(record);
	begin_record(record);
	if (left_out_count > 0)
	{
		stat_count(STAT_REDO_LEFT_OUT);
		redo_without_left_out(record);
	}
	else
	{
		if (XLogRecMaxBlockId(record) >= 0)
			stat_count(STAT_REDO_DONE);
		original_redo[XLogRecGetRmid(record)] (record);
	}
	after_record(record);
}

static void
wrap_redo(void)
{
	for (int id = 0; id <= RM_MAX_BUILTIN_ID; id++)
	{
		original_redo[id] = RmgrTable[id].rm_redo;
		RmgrTable[id].rm_redo = redo_held_pages;
	}
}

static Datum
refuse_promotion(PG_FUNCTION_ARGS)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("this server cannot be promoted by SQL"),
			 errdetail("It would write to a history that others write to, or that is of the past."),
			 errhint("Ask compute_ctl to promote it.")));
	PG_RETURN_NULL();
}

void
replica_check_data_directory(void)
{
	bool		standby = access(STANDBY_SIGNAL_FILE, F_OK) == 0;

	if (access(RECOVERY_SIGNAL_FILE, F_OK) == 0)
		ereport(FATAL,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("neon: archive recovery is not supported"),
				 errhint("Remove recovery.signal.")));
	if (standby != (neon_compute_mode != MODE_PRIMARY))
		ereport(FATAL,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 standby ? errmsg("neon: there is a standby.signal, but neon.compute_mode is \"primary\"")
				 : errmsg("neon: neon.compute_mode is not \"primary\", but there is no standby.signal"),
				 errhint("A server that does not write has both: neon.compute_mode is \"replica\" or \"static\".")));
}

void
replica_install(void)
{
	if (neon_compute_mode == MODE_PRIMARY)
		return;
	builtin_function_replace("pg_promote", refuse_promotion);
	if (neon_compute_mode == MODE_STATIC)
		return;
	wrap_redo();
	running_transactions_install();
}
