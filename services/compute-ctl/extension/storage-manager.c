/*
 * Owns the storage manager functions that take md's place in the server's table.
 *
 * Temporary relations, and initialisation forks (which are part of the data directory a compute is given), are md's
 * alone. Of all others the local file holds what this compute wrote or kept; the rest is asked of the page server, as of
 * a position not before the compute's start and the relation's last truncation: a block that is absent here has not been
 * changed here since. Writes never leave the compute, as WAL carries the change.
 *
 * What the callers demand: truncate runs in a critical section and must not fail; unlink runs after commit and must not do
 * more than warn; close may run inside any wait and does no requests; nothing may be kept in an SMgrRelation across a
 * wait, since an interrupt may close its files.
 */
#include "storage-manager.h"

#include "access/xlog.h"
#include "access/xlogutils.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"

#include "backpressure.h"
#include "connection.h"
#include "late-start.h"
#include "local-file.h"
#include "page-requests.h"
#include "readahead.h"
#include "relation-state.h"
#include "replica.h"
#include "shared-state.h"
#include "wal-position.h"
#include "working-set.h"

static bool
is_md_only(SMgrRelation reln, ForkNumber fork)
{
	return SmgrIsTemp(reln) || fork == INIT_FORKNUM;
}

static void
ask_blocks(SMgrRelation reln, ForkNumber fork, XLogRecPtr not_modified_since, PageAnswer *answer)
{
	PageRequest request = {
		.tag = REQUEST_BLOCKS,
		.node = reln->smgr_rnode.node,
		.fork = fork,
		.not_modified_since = not_modified_since,
	};

	stat_count(STAT_SIZE_REQUESTS);
	page_server_ask(&request, answer);
}

/*
 * The question for a fork's length is mostly followed by one for a page: ask for both in one round trip. Only for a fork
 * without a local file, so that the page is surely absent.
 */
static void
ask_page_along(SMgrRelation reln, ForkNumber fork, BlockNumber block, XLogRecPtr not_modified_since)
{
	if (block != InvalidBlockNumber && !local_file_exists(reln, fork))
		(void) page_fetch_ahead(reln->smgr_rnode.node, fork, block, not_modified_since);
}

/* What is known of a fork, finding it out if need be. next_block: the one that is probably read next, or InvalidBlockNumber. */
static void
get_fork_info(SMgrRelation reln, ForkNumber fork, BlockNumber next_block, ForkInfo *info)
{
	RelFileNode node = reln->smgr_rnode.node;
	XLogRecPtr	asked_at;
	PageAnswer	answer;
	ForkState	state;
	BlockNumber blocks;

	if (relation_state_lookup(node, fork, info))
	{
		stat_count(STAT_SIZE_HITS);
		return;
	}
	do
	{
		asked_at = info->not_modified_since;
		blocks = 0;
		if (local_file_is_unlogged(node))
			state = local_file_exists(reln, fork) ? FORK_LOCAL : FORK_ABSENT;
		else
		{
			ask_page_along(reln, fork, next_block, asked_at);
			ask_blocks(reln, fork, asked_at, &answer);
			/* A map that the page server has never heard of has no blocks there, too: only a main fork may exist and be empty. */
			if (answer.kind == ANSWER_VALUE && (fork == MAIN_FORKNUM || answer.blocks > 0))
			{
				state = FORK_REMOTE;
				blocks = answer.blocks;
			}
			else
				state = local_file_exists(reln, fork) ? FORK_LOCAL : FORK_ABSENT;
		}
	} while (!relation_state_learn(reln, fork, state, blocks, asked_at, info));
}

static void
get_existing_fork_info(SMgrRelation reln, ForkNumber fork, BlockNumber next_block, ForkInfo *info)
{
	get_fork_info(reln, fork, next_block, info);
	if (info->state == FORK_ABSENT)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FILE),
				 errmsg("could not open file \"%s\": there is no such relation here or on the page server",
						relpath(reln->smgr_rnode, fork))));
}

static void
neon_close(SMgrRelation reln, ForkNumber fork)
{
	md.close(reln, fork);
}

/*
 * A number that an older relation bears must not be given out again. The server looks for a local file to find that out,
 * which a relation that was not used since the start does not have.
 */
static void
check_number_is_free(SMgrRelation reln, ForkNumber fork)
{
	PageAnswer	answer;

	ask_blocks(reln, fork, neon_shared->start_lsn, &answer);
	if (answer.kind == ANSWER_VALUE)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_FILE),
				 errmsg("could not create file \"%s\": the relation exists on the page server",
						relpath(reln->smgr_rnode, fork)),
				 errhint("Repeat the statement: it will use another file number.")));
}

static void
neon_create(SMgrRelation reln, ForkNumber fork, bool is_redo)
{
	if (is_redo && fork == INIT_FORKNUM && replica_leaves_out_blocks())
		return;
	if (is_md_only(reln, fork))
	{
		md.create(reln, fork, is_redo);
		return;
	}
	if (is_redo)
	{
		md.create(reln, fork, is_redo);
		relation_state_found_in_redo(reln->smgr_rnode.node, fork);
		return;
	}
	if (fork == MAIN_FORKNUM)
		check_number_is_free(reln, fork);
	md.create(reln, fork, is_redo);
	/* A map's creation makes no page of the relation newer: none need be asked for as of now because of it. */
	relation_state_created(reln->smgr_rnode.node, fork, fork == MAIN_FORKNUM ? current_position() : InvalidXLogRecPtr);
}

static bool
neon_exists(SMgrRelation reln, ForkNumber fork)
{
	ForkInfo	info;

	if (is_md_only(reln, fork))
		return md.exists(reln, fork);
	if (!OidIsValid(reln->smgr_rnode.node.relNode))
		return false;
	get_fork_info(reln, fork, InvalidBlockNumber, &info);
	return info.state != FORK_ABSENT;
}

static void
neon_unlink(RelFileNodeBackend rnode, ForkNumber fork, bool is_redo)
{
	if (!RelFileNodeBackendIsTemp(rnode))
		relation_state_unlinked(rnode.node, fork, current_position());
	md.unlink(rnode, fork, is_redo);
}

static void
neon_extend(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *page, bool skip_fsync)
{
	if (is_md_only(reln, fork))
	{
		md.extend(reln, fork, block, page, skip_fsync);
		return;
	}
	stat_count(STAT_EXTENDS);
	backpressure_gate();
	local_file_extend(reln, fork, block, page, skip_fsync);
	relation_state_extended(reln->smgr_rnode.node, fork, block + 1);
}

static bool
neon_prefetch(SMgrRelation reln, ForkNumber fork, BlockNumber block)
{
	ForkInfo	info;

	if (is_md_only(reln, fork))
		return md.prefetch(reln, fork, block);
	get_existing_fork_info(reln, fork, block, &info);
	if (block >= info.blocks)
		return false;
	if (info.state == FORK_REMOTE)
		readahead_announced(reln, fork, block, &info);
	else if (block < local_file_blocks(reln, fork))
		return md.prefetch(reln, fork, block);
	return true;
}

static void
fail_beyond_end(SMgrRelation reln, ForkNumber fork, BlockNumber block, const ForkInfo *info, char *page)
{
	if (!zero_damaged_pages && !InRecovery)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("could not read block %u in file \"%s\": the relation has only %u blocks",
						block, relpath(reln->smgr_rnode, fork), info->blocks)));
	memset(page, 0, BLCKSZ);
}

static void
read_remote(SMgrRelation reln, ForkNumber fork, BlockNumber block, const ForkInfo *info, char *page)
{
	char		message[512];
	XLogRecPtr	as_of;

	stat_count(STAT_READS_REMOTE);
	if (page_fetch(reln->smgr_rnode.node, fork, block, info->not_modified_since, page, message, &as_of) != ANSWER_VALUE)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("could not read block %u in file \"%s\" from the page server: %s",
						block, relpath(reln->smgr_rnode, fork), message)));
	local_file_keep(reln, fork, block, page, as_of);
}

static void
neon_read(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *page)
{
	ForkInfo	info;
	bool		present;

	if (is_md_only(reln, fork))
	{
		md.read(reln, fork, block, page);
		return;
	}
	stat_count(STAT_READS);
	working_set_note(reln->smgr_rnode.node, fork, block);
	get_existing_fork_info(reln, fork, block, &info);
	if (block >= info.blocks)
	{
		fail_beyond_end(reln, fork, block, &info, page);
		return;
	}
	present = local_file_read(reln, fork, block, page);
	/* If the worker has freed the page, what was known before says too old a position, or that there is no page elsewhere. */
	if (!present)
		get_existing_fork_info(reln, fork, block, &info);
	if (info.state == FORK_REMOTE)
		readahead_note(reln, fork, block, &info, !present);
	if (present)
		stat_count(STAT_READS_LOCAL);
	else if (info.state == FORK_REMOTE)
		read_remote(reln, fork, block, &info, page);
	else
	{
		stat_count(STAT_READS_ZERO);
		memset(page, 0, BLCKSZ);
	}
}

static void
neon_write(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *page, bool skip_fsync)
{
	if (is_md_only(reln, fork))
	{
		md.write(reln, fork, block, page, skip_fsync);
		return;
	}
	stat_count(STAT_WRITES);
	local_file_write(reln, fork, block, page, skip_fsync);
}

static void
neon_writeback(SMgrRelation reln, ForkNumber fork, BlockNumber block, BlockNumber blocks)
{
	md.writeback(reln, fork, block, blocks);
}

static BlockNumber
neon_nblocks(SMgrRelation reln, ForkNumber fork)
{
	ForkInfo	info;

	if (is_md_only(reln, fork))
		return md.nblocks(reln, fork);
	/* A scan begins with its first block. */
	get_existing_fork_info(reln, fork, fork == MAIN_FORKNUM ? 0 : InvalidBlockNumber, &info);
	return info.blocks;
}

static void
truncate_fork(SMgrRelation reln, ForkNumber fork, BlockNumber blocks)
{
	/* The truncation's WAL record has been written, so this position is not before it. */
	relation_state_truncated(reln->smgr_rnode.node, fork, blocks, current_position());
	local_file_truncate(reln, fork, blocks);
}

#ifdef NEON_TRUNCATE_HAS_OLD_BLOCKS
static void
neon_truncate(SMgrRelation reln, ForkNumber fork, BlockNumber old_blocks, BlockNumber blocks)
{
	if (is_md_only(reln, fork))
		md.truncate(reln, fork, old_blocks, blocks);
	else
		truncate_fork(reln, fork, blocks);
}
#else
static void
neon_truncate(SMgrRelation reln, ForkNumber fork, BlockNumber blocks)
{
	if (is_md_only(reln, fork))
		md.truncate(reln, fork, blocks);
	else
		truncate_fork(reln, fork, blocks);
}
#endif

/* Not reached through the table, see smgr-audit.c; correct all the same. */
static void
neon_immedsync(SMgrRelation reln, ForkNumber fork)
{
	if (is_md_only(reln, fork) || local_file_exists(reln, fork))
		md.immedsync(reln, fork);
}

static void
neon_open(SMgrRelation reln)
{
	late_start_await();
	md.open(reln);
}

static void
neon_init(void)
{
	md.init();
}

int64
storage_database_bytes(Oid database)
{
	PageRequest request = {
		.tag = REQUEST_DATABASE_BYTES,
		.node.dbNode = database,
		.not_modified_since = current_position(),
	};
	PageAnswer	answer;

	page_server_ask(&request, &answer);
	return answer.kind == ANSWER_VALUE ? answer.database_bytes : 0;
}

const SmgrTable neon_storage_manager = {
	.init = neon_init,
	.shutdown = NULL,
	.open = neon_open,
	.close = neon_close,
	.create = neon_create,
	.exists = neon_exists,
	.unlink = neon_unlink,
	.extend = neon_extend,
	.prefetch = neon_prefetch,
	.read = neon_read,
	.write = neon_write,
	.writeback = neon_writeback,
	.nblocks = neon_nblocks,
	.truncate = neon_truncate,
	.immedsync = neon_immedsync,
};
