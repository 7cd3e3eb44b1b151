/* Servers that do not write: hot standbys that follow a primary, and servers at a fixed position. See replica.c. */
#ifndef NEON_REPLICA_H
#define NEON_REPLICA_H

#include "postgres.h"
#include "access/xlogdefs.h"
#include "storage/block.h"
#include "storage/relfilenode.h"

/* As of when a page or a length is asked for. */
typedef struct ReadPosition
{
	XLogRecPtr	request_lsn;
	XLogRecPtr	not_modified_since;

	/* The answer must not be used before replay has come this far; 0: at once. */
	XLogRecPtr	usable_after;
} ReadPosition;

/* Puts the parts in place. Called in the postmaster. */
extern void replica_install(void);

/* FATAL if the data directory, which is complete, and the settings disagree. */
extern void replica_check_data_directory(void);

extern void replica_request_memory(void);
extern void replica_attach(void);

/* The data directory is there. */
extern void replica_begin(void);

/* For a page. `not_modified_since`: what is known of its relation. */
extern void replica_page_position(RelFileNode node, ForkNumber fork, BlockNumber block, XLogRecPtr not_modified_since,
								  ReadPosition *position);

/* For lengths, which include what is being replayed no sooner than its end. */
extern void replica_length_position(XLogRecPtr not_modified_since, ReadPosition *position);

/* The last position at which redo of this page may have been skipped, at least. */
extern XLogRecPtr replica_last_skipped(RelFileNode node, ForkNumber fork, BlockNumber block);

/* Waits until answers may be used. Serves interrupts. */
extern void replica_await(XLogRecPtr usable_after);

/* While held, no further record is begun. To be taken before a local file's lock. */
extern void replica_hold_replay(void);
extern void replica_release_replay(void);

/*
 * With replay held: a position behind which none of these blocks of the main fork was changed; it has been replayed. False: the
 * record that is being replayed may have changed them.
 */
extern bool replica_settled_position(RelFileNode node, BlockNumber from, BlockNumber to, XLogRecPtr *position);

/* In the startup process: redo is under way that leaves out blocks, which it finds in initialisation forks that do not exist. */
extern bool replica_leaves_out_blocks(void);

#endif
