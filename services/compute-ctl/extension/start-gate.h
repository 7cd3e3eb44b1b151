/* How a server is started before its data directory is there. See start-gate.c. */
#ifndef NEON_START_GATE_H
#define NEON_START_GATE_H

#include "postgres.h"

/*
 * In the postmaster, when shared memory is there and before anything of the data directory is read: returns when that is
 * complete; at once if the server was not told to wait. Does not return when it was given up.
 */
extern void start_gate_pass(void);

#endif
