/* Owns the translation between the server's WAL positions and the page server's. */
#include "wal-position.h"

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogrecovery.h"

XLogRecPtr
record_end_position(XLogRecPtr lsn)
{
	if (XLogSegmentOffset(lsn, wal_segment_size) == SizeOfXLogLongPHD)
		return lsn - SizeOfXLogLongPHD;
	if (lsn % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		return lsn - SizeOfXLogShortPHD;
	return lsn;
}

XLogRecPtr
current_position(void)
{
	XLogRecPtr	lsn = RecoveryInProgress() ? GetCurrentReplayRecPtr(NULL) : GetXLogInsertRecPtr();

	return record_end_position(lsn);
}

void
flush_position(XLogRecPtr lsn)
{
	if (!RecoveryInProgress() && lsn > GetFlushRecPtr(NULL))
		XLogFlush(lsn);
}
