/* What a compute's first query does not need starts after it. See late-start.c. */
#ifndef NEON_LATE_START_H
#define NEON_LATE_START_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* In the postmaster, before it starts its first processes. Returns when the time of the first queries ends. */
extern TimestampTz late_start_begin(void);

/* Before a process reads its first page; the launcher of autovacuum waits there. */
extern void late_start_await(void);

#endif
