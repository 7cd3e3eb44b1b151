/* What compute_ctl and the server tell each other in a mapped file. See feedback-file.c. */
#ifndef NEON_FEEDBACK_FILE_H
#define NEON_FEEDBACK_FILE_H

#include "postgres.h"
#include "access/xlogdefs.h"

/* How far the page server has come with this timeline's WAL. */
typedef struct StorageFeedback
{
	XLogRecPtr	received_lsn;
	XLogRecPtr	disk_consistent_lsn;
	XLogRecPtr	remote_consistent_lsn;
} StorageFeedback;

/* Makes and maps the file. Called in the postmaster, before any process is forked. */
extern void feedback_file_map(void);

/* What compute_ctl wrote last; all zeros when it never did. */
extern void feedback_get(StorageFeedback *out);

/* Counters that compute_ctl reads. */
extern void feedback_throttle_begins(void);
extern void feedback_throttle_ends(uint64 us);
extern uint64 feedback_throttled_us(void);

#endif
