/* Queries of a standby that are in the way of a record. See conflict-horizon.c. */
#ifndef NEON_CONFLICT_HORIZON_H
#define NEON_CONFLICT_HORIZON_H

#include "postgres.h"
#include "access/xlogreader.h"

/* As redo of the record would do at its beginning: waits for queries that may see what it removes, or cancels them. */
extern void conflict_resolve(XLogReaderState *record);

#endif
