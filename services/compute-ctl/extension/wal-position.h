/* WAL positions as the page server counts them, and when they may be asked for. */
#ifndef NEON_WAL_POSITION_H
#define NEON_WAL_POSITION_H

#include "postgres.h"
#include "access/xlogdefs.h"

/* request_lsn that means: as new as the page server has. */
#define LATEST_LSN UINT64_MAX

/*
 * The end of the last record before `lsn`. The server reports an insert position that skips the header of a fresh page,
 * bytes which no record covers; the page server stops at the page's start and would wait for them in vain.
 */
extern XLogRecPtr record_end_position(XLogRecPtr lsn);

/* A position not before any record this server has written (or, in recovery, replayed) so far. */
extern XLogRecPtr current_position(void);

/* Makes sure that WAL up to `lsn` is flushed: what lies in WAL buffers can never reach the page server. */
extern void flush_position(XLogRecPtr lsn);

#endif
