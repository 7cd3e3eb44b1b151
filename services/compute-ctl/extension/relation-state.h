/*
 * What this compute knows about its relations: which forks exist, how long they are, whether the page server has anything
 * to say about them, and since when its answers must date.
 */
#ifndef NEON_RELATION_STATE_H
#define NEON_RELATION_STATE_H

#include "postgres.h"
#include "access/xlogdefs.h"
#include "storage/block.h"
#include "storage/relfilenode.h"
#include "storage/smgr.h"

typedef enum ForkState
{
	FORK_UNKNOWN,
	FORK_ABSENT,				/* there is no such fork */
	FORK_REMOTE,				/* absent blocks are asked of the page server */
	FORK_LOCAL					/* created by this compute, or unlogged: absent blocks are zero */
} ForkState;

typedef struct ForkInfo
{
	ForkState	state;
	BlockNumber blocks;			/* length, if the fork exists */

	/* The page server's answer about this fork must not be older than this. */
	XLogRecPtr	not_modified_since;
} ForkInfo;

extern void relation_state_request_memory(void);
extern void relation_state_attach(void);

/* What is known now. not_modified_since is always valid; false if the state is FORK_UNKNOWN. */
extern bool relation_state_lookup(RelFileNode node, ForkNumber fork, ForkInfo *info);

/*
 * Records an answer of the page server, given at or after `asked_at`: the fork's state and, for FORK_REMOTE, its length
 * there. The local file's length is taken into account. False: the relation was truncated or dropped since `asked_at`,
 * ask again. True: *info is what is known now, which may be another process's finding.
 */
extern bool relation_state_learn(SMgrRelation reln, ForkNumber fork, ForkState state, BlockNumber remote_blocks,
								 XLogRecPtr asked_at, ForkInfo *info);

/* The events this compute causes. None raises an error or allocates memory. `lsn`: a position not before the event's record. */
extern void relation_state_created(RelFileNode node, ForkNumber fork, XLogRecPtr lsn);
extern void relation_state_found_in_redo(RelFileNode node, ForkNumber fork);
extern void relation_state_extended(RelFileNode node, ForkNumber fork, BlockNumber blocks);
extern void relation_state_truncated(RelFileNode node, ForkNumber fork, BlockNumber blocks, XLogRecPtr lsn);
extern void relation_state_unlinked(RelFileNode node, ForkNumber fork, XLogRecPtr lsn);
extern void relation_state_database_dropped(Oid database, XLogRecPtr lsn);

/*
 * Pages of this fork that were written here are about to leave the local file: from now on absent blocks are asked of the
 * page server, as of `lsn` or later. The fork's creation must be known there by then.
 */
extern void relation_state_freed(RelFileNode node, ForkNumber fork, XLogRecPtr lsn);

#endif
