/* What a compute's first query does not need starts after it. See late-start.c. */
#ifndef NEON_LATE_START_H
#define NEON_LATE_START_H

#include "postgres.h"

/* In the postmaster, before it starts its first processes. */
extern void late_start_workers(void);

/* Before a process reads its first page; the launcher of autovacuum waits there. */
extern void late_start_await(void);

#endif
