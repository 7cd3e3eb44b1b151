/* Pages and lengths that compute_ctl brought because computes of this timeline read them first. See first-pages.c. */
#ifndef NEON_FIRST_PAGES_H
#define NEON_FIRST_PAGES_H

#include "postgres.h"
#include "access/xlogdefs.h"
#include "common/relpath.h"
#include "storage/block.h"
#include "storage/relfilenode.h"

/* Length of a fork that did not change after `not_modified_since`. False: not known here. */
extern bool first_pages_blocks(RelFileNode node, ForkNumber fork, XLogRecPtr not_modified_since, BlockNumber *blocks);

/* An absent block of a relation that did not change after `not_modified_since`; NULL: not known here. 8192 bytes. */
extern const char *first_pages_find(RelFileNode node, ForkNumber fork, BlockNumber block, XLogRecPtr not_modified_since);

#endif
