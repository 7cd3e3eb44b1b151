/*
 * The server's table of storage manager functions, as PostgreSQL 15 lays it out, and how to replace it.
 *
 * PostgreSQL keeps the type private to smgr.c and nothing versions it, so it is spelled out here from the public
 * prototypes in storage/md.h and checked against the running server before it is used (smgr-table.c).
 */
#ifndef NEON_SMGR_TABLE_H
#define NEON_SMGR_TABLE_H

#include "postgres.h"
#include "storage/smgr.h"

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 160000
#error "this extension knows the storage manager table of PostgreSQL 15 only"
#endif

typedef struct SmgrTable
{
	void		(*init) (void);
	void		(*shutdown) (void);
	void		(*open) (SMgrRelation reln);
	void		(*close) (SMgrRelation reln, ForkNumber fork);
	void		(*create) (SMgrRelation reln, ForkNumber fork, bool isRedo);
	bool		(*exists) (SMgrRelation reln, ForkNumber fork);
	void		(*unlink) (RelFileNodeBackend rnode, ForkNumber fork, bool isRedo);
	void		(*extend) (SMgrRelation reln, ForkNumber fork, BlockNumber block, char *buffer, bool skipFsync);
	bool		(*prefetch) (SMgrRelation reln, ForkNumber fork, BlockNumber block);
	void		(*read) (SMgrRelation reln, ForkNumber fork, BlockNumber block, char *buffer);
	void		(*write) (SMgrRelation reln, ForkNumber fork, BlockNumber block, char *buffer, bool skipFsync);
	void		(*writeback) (SMgrRelation reln, ForkNumber fork, BlockNumber block, BlockNumber nblocks);
	BlockNumber (*nblocks) (SMgrRelation reln, ForkNumber fork);
#ifdef NEON_TRUNCATE_HAS_OLD_BLOCKS
	void		(*truncate) (SMgrRelation reln, ForkNumber fork, BlockNumber old_blocks, BlockNumber nblocks);
#else
	void		(*truncate) (SMgrRelation reln, ForkNumber fork, BlockNumber nblocks);
#endif
	void		(*immedsync) (SMgrRelation reln, ForkNumber fork);
} SmgrTable;

#define SMGR_TABLE_FIELDS (sizeof(SmgrTable) / sizeof(void *))

/* The server's own functions, as they stood in its table. Valid after smgr_table_install(). */
extern SmgrTable md;

/* Finds the table, checks the server, replaces the table's contents. FATAL, saying why, when it cannot be done safely. */
extern void smgr_table_install(const SmgrTable *replacement);

/*
 * Overwrites `length` bytes of the executable's constants, restoring their protection. FATAL on failure. To be called after
 * smgr_table_install(), which finds out what is protected.
 */
extern void patch_read_only_data(void *address, const void *bytes, size_t length);

/* ---- smgr-audit.c ---- */

/*
 * Scans machine code [start, end) for direct calls and jumps to the functions in `targets` that come from outside md.c
 * and are not in the list of known ones. Appends "caller->callee" words to `unknown` (a buffer of `size` bytes, always
 * terminated) and returns how many there are; *known_count is raised by the calls that are expected.
 * -1: this processor's code cannot be read.
 */
extern int	smgr_audit_code(const unsigned char *start, const unsigned char *end, const SmgrTable *targets,
							char *unknown, size_t size, int *known_count);

#endif
