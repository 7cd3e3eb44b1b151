/* How a server is started before its data directory is there. See start-gate.c. */
#ifndef NEON_START_GATE_H
#define NEON_START_GATE_H

#include "postgres.h"

/*
 * In the postmaster, when shared memory is there: returns when the configuration is final. False: the data directory is there.
 * True: the startup process will wait for it, and call the function when it is there. Ends the process when the start was
 * given up.
 */
extern bool start_gate_pass(void (*when_data_is_there) (void));

#endif
