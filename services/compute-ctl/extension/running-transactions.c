/*
 * Owns a standby's first snapshot. Recovery that begins at an online checkpoint must know which transactions run there before it may
 * let anybody read: those that do not are taken for aborted if they are not committed, for ever, by hint bits. Stock Postgres waits for
 * the primary to log what runs, which takes up to 15 seconds, and for ever when the primary is not there.
 *
 * pg_xact of the base backup has the same knowledge: all transactions from the oldest that may run (in the checkpoint) to the next one that
 * are neither committed nor aborted. They are entered as running. Those that died with an earlier primary, or have not begun, are
 * among them; both are as invisible as running ones, and leave with the next record of running transactions.
 *
 * The place is a resource manager's start-up function: recovery calls those of all managers between the first record's being
 * read and its being replayed. The manager itself has no records.
 */
#include "running-transactions.h"

#include "postgres.h"
#include "access/clog.h"
#include "access/transam.h"
#include "access/twophase.h"
#include "access/xlog_internal.h"
#include "access/xlogutils.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/standbydefs.h"

#include "shared-state.h"

/* The one that the project this extension is compatible with has registered. */
#define MANAGER_ID 134
/* Procarray.c's own bound of what a standby can track, of which half is left for what comes. */
#define TRACKED_MAX (((PGPROC_MAX_CACHED_SUBXIDS + 1) * (MaxBackends + max_prepared_xacts)) / 2)

/* Returns the number of unfinished ones, or -1 if they are more than can be tracked. */
static int
collect_unfinished(TransactionId oldest, TransactionId next, TransactionId *out)
{
	int			count = 0;

	for (TransactionId xid = oldest; TransactionIdPrecedes(xid, next);)
	{
		XLogRecPtr	lsn;
		XidStatus	status = TransactionIdGetStatus(xid, &lsn);

		if (status != TRANSACTION_STATUS_COMMITTED && status != TRANSACTION_STATUS_ABORTED)
		{
			if (count == TRACKED_MAX)
				return -1;
			out[count++] = xid;
		}
		TransactionIdAdvance(xid);
	}
	return count;
}

static void
enter_running(void)
{
	TransactionId next = XidFromFullTransactionId(ShmemVariableCache->nextXid);
	TransactionId oldest = neon_shared->oldest_active_xid;
	TransactionId latest_completed = next;
	TransactionId *unfinished;
	RunningTransactionsData running = {0};
	int			count;

	/* Not a hot standby, or one that knows what runs, since nothing does. */
	if (standbyState != STANDBY_INITIALIZED || !TransactionIdIsNormal(oldest))
		return;
	unfinished = palloc(sizeof(TransactionId) * TRACKED_MAX);
	count = collect_unfinished(oldest, next, unfinished);
	if (count < 0)
	{
		ereport(LOG,
				(errmsg("neon: more than %d transactions are unfinished, waiting for the primary to say which ones run",
						TRACKED_MAX)));
		pfree(unfinished);
		return;
	}
	TransactionIdRetreat(latest_completed);
	running.xcnt = count;
	running.nextXid = next;
	running.oldestRunningXid = oldest;
	running.latestCompletedXid = latest_completed;
	running.xids = unfinished;
	ProcArrayApplyRecoveryInfo(&running);
	StandbyRecoverPreparedTransactions();
	pfree(unfinished);
	ereport(LOG, (errmsg("neon: %d of the transactions from %u to %u may be running", count, oldest, next)));
}

static void
no_redo(XLogReaderState *record)
{
	elog(PANIC, "neon: WAL has a record of resource manager %d, which writes none", MANAGER_ID);
}

static void
no_description(StringInfo out, XLogReaderState *record)
{
}

static const char *
no_name(uint8 info)
{
	return NULL;
}

void
running_transactions_install(void)
{
	static RmgrData manager = {
		.rm_name = "neon",
		.rm_redo = no_redo,
		.rm_desc = no_description,
		.rm_identify = no_name,
		.rm_startup = enter_running,
	};

	RegisterCustomRmgr(MANAGER_ID, &manager);
}
