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

/* Checks that the data directory and the settings agree, and puts the parts in place. Called in the postmaster. */
extern void replica_install(void);

extern void replica_request_memory(void);
extern void replica_attach(void);

/* For a page. `not_modified_since`: what is known of its relation. */
extern void replica_page_position(RelFileNode node, ForkNumber fork, BlockNumber block, XLogRecPtr not_modified_since,
								  ReadPosition *position);

/* For lengths, which include what is being replayed no sooner than its end. */
extern void replica_length_position(XLogRecPtr not_modified_since, ReadPosition *position);

/* The last position at which redo of this page may have been skipped, at least. */
extern XLogRecPtr replica_last_skipped(RelFileNode node, ForkNumber fork, BlockNumber block);

/* Waits until answers may be used. Serves interrupts. */
extern void replica_await(XLogRecPtr usable_after);

/* A position not before the record that is being replayed. */
extern XLogRecPtr replica_redo_position(void);

#endif
