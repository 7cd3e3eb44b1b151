/* Notices that a relation is read in order and asks for the next pages ahead of their use. */
#ifndef NEON_READAHEAD_H
#define NEON_READAHEAD_H

#include "postgres.h"
#include "storage/smgr.h"

#include "relation-state.h"

/* To be called for each block read, before it is fetched if `absent` (not in the local file). */
extern void readahead_note(SMgrRelation reln, ForkNumber fork, BlockNumber block, const ForkInfo *info, bool absent);

/* PostgreSQL announces that it will read this block. */
extern void readahead_announced(SMgrRelation reln, ForkNumber fork, BlockNumber block, const ForkInfo *info);

#endif
