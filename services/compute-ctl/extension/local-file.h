/*
 * The local files of a relation: md's own segment files, holding at their native offsets the pages that this compute has
 * written, or fetched and kept. Everything else is a hole.
 */
#ifndef NEON_LOCAL_FILE_H
#define NEON_LOCAL_FILE_H

#include "postgres.h"
#include "access/xlogdefs.h"
#include "storage/lwlock.h"
#include "storage/smgr.h"

extern void local_file_request_memory(void);
extern void local_file_attach(void);

/* Whether there is a file; opens it. */
extern bool local_file_exists(SMgrRelation reln, ForkNumber fork);

/* Whether the relation has an initialisation fork, which marks it as unlogged. Does not open it. */
extern bool local_file_is_unlogged(RelFileNode node);

/* Length in blocks, holes included; 0 without a file. */
extern BlockNumber local_file_blocks(SMgrRelation reln, ForkNumber fork);

/* Reads a block that is present. False: it is absent (never written, or written as all zeros); `page` is undefined. */
extern bool local_file_read(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *page);

/* Writes a block, making file and segments as needed. */
extern void local_file_write(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *page, bool skip_fsync);
extern void local_file_extend(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *page, bool skip_fsync);

/*
 * Keeps a page that came from the page server, unless the block is present by now, the limit is reached or the disk
 * refuses. Never raises an error. True if it was written.
 */
extern bool local_file_keep(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *page, XLogRecPtr as_of);

/* Cuts the file to at most `blocks`. Safe in a critical section. */
extern void local_file_truncate(SMgrRelation reln, ForkNumber fork, BlockNumber blocks);

/* The lock that orders what happens to a fork's file; local-file.c says how. */
extern LWLock *local_file_lock(RelFileNode node, ForkNumber fork);

extern bool page_is_zero(const char *page);

#endif
