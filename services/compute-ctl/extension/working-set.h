/* How many different pages were needed lately, whether they were in the local files or not. */
#ifndef NEON_WORKING_SET_H
#define NEON_WORKING_SET_H

#include "postgres.h"
#include "storage/block.h"
#include "storage/relfilenode.h"

extern void working_set_request_memory(void);
extern void working_set_attach(void);

/* A page was not in the server's buffers. */
extern void working_set_note(RelFileNode node, ForkNumber fork, BlockNumber block);

#endif
