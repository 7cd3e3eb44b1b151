/*
 * Owns what is known of records that remove rows which queries of a standby may still see. Their redo begins with a wait for such
 * queries. That wait must be over before the record's blocks are looked at: a query that needs one of those left out would wait for
 * the record's end, and so for itself. The second wait, in redo, then finds nobody: snapshots made since do not see those rows.
 *
 * The list is that of the server's redo functions which call ResolveRecoveryConflictWithSnapshot().
 */
#include "conflict-horizon.h"

#include "access/gistxlog.h"
#include "access/hash_xlog.h"
#include "access/heapam_xlog.h"
#include "access/nbtxlog.h"
#include "access/rmgr.h"
#include "access/spgxlog.h"
#include "access/transam.h"
#include "access/xlogutils.h"
#include "storage/standby.h"

static TransactionId
heap2_horizon(uint8 info, const char *data)
{
	TransactionId cutoff;

	switch (info & XLOG_HEAP_OPMASK)
	{
		case XLOG_HEAP2_PRUNE:
			return ((const xl_heap_prune *) data)->latestRemovedXid;
		case XLOG_HEAP2_VISIBLE:
			return ((const xl_heap_visible *) data)->cutoff_xid;
		case XLOG_HEAP2_FREEZE_PAGE:
			cutoff = ((const xl_heap_freeze_page *) data)->cutoff_xid;
			TransactionIdRetreat(cutoff);
			return cutoff;
		default:
			return InvalidTransactionId;
	}
}

static TransactionId
horizon_of(XLogReaderState *record)
{
	uint8		info = XLogRecGetInfo(record) & ~XLR_INFO_MASK;
	const char *data = XLogRecGetData(record);

	switch (XLogRecGetRmid(record))
	{
		case RM_HEAP2_ID:
			return heap2_horizon(info, data);
		case RM_BTREE_ID:
			return info == XLOG_BTREE_DELETE ? ((const xl_btree_delete *) data)->latestRemovedXid : InvalidTransactionId;
		case RM_HASH_ID:
			return info == XLOG_HASH_VACUUM_ONE_PAGE ?
				((const xl_hash_vacuum_one_page *) data)->latestRemovedXid : InvalidTransactionId;
		case RM_GIST_ID:
			return info == XLOG_GIST_DELETE ? ((const gistxlogDelete *) data)->latestRemovedXid : InvalidTransactionId;
		case RM_SPGIST_ID:
			return info == XLOG_SPGIST_VACUUM_REDIRECT ?
				((const spgxlogVacuumRedirect *) data)->newestRedirectXid : InvalidTransactionId;
		default:
			return InvalidTransactionId;
	}
}

void
conflict_resolve(XLogReaderState *record)
{
	RelFileNode node;
	TransactionId horizon;

	if (!InHotStandby || XLogRecMaxBlockId(record) < 0)
		return;
	horizon = horizon_of(record);
	if (!TransactionIdIsValid(horizon))
		return;
	XLogRecGetBlockTag(record, 0, &node, NULL, NULL);
	ResolveRecoveryConflictWithSnapshot(horizon, node);
}
