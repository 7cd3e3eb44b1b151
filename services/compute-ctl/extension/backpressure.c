/*
 * Owns backpressure: processes that write WAL wait while the page server is further behind than the limits allow.
 *
 * A stock server has no hook in its interrupt processing, so there are gates where WAL is made in bulk and waiting harms
 * nobody else:
 *   - before a statement that changes rows, and before each row that such a statement takes from its input
 *   - before a relation is lengthened (COPY, CREATE TABLE AS, CREATE INDEX, rewrites)
 *   - before the commit of a transaction that has written
 * Statements that only read pass no gate.
 *
 * No gate holds anything that the page server needs, since all it needs is WAL that is committed already. And none holds
 * what a reader needs: a process that has a lightweight lock, such as a buffer's, or is in a critical section, is let
 * through (both hold interrupts off). A waiting writer may keep other writers waiting, by its row locks or by the right to
 * lengthen a relation; that is the purpose.
 *
 * The limits are passed by what a process writes between two gates: a row, a page, or the rest of a statement that is none of
 * the above (VACUUM, DELETE of large objects).
 */
#include "backpressure.h"

#include "postgres.h"
#include "access/parallel.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "postmaster/autovacuum.h"
#include "replication/walsender.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/ps_status.h"

#include "feedback-file.h"
#include "settings.h"
#include "shared-state.h"

#define NAP_MS 10
#define BYTES_PER_MB (1024 * 1024)

/* The input of a statement that changes rows, with the function that gives its next row. */
typedef struct GatedInput
{
	PlanState  *input;
	ExecProcNodeMtd next_row;
	struct GatedInput *outer;
	MemoryContextCallback forget;
} GatedInput;

static GatedInput *gated_inputs;
static ExecutorStart_hook_type previous_start;
static ExecutorRun_hook_type previous_run;

static uint64
excess_over(XLogRecPtr written, XLogRecPtr reached, int limit_mb)
{
	uint64		limit = (uint64) limit_mb * BYTES_PER_MB;

	/* Zero: the page server has not said anything yet. */
	if (limit_mb <= 0 || reached == InvalidXLogRecPtr || written <= reached || written - reached <= limit)
		return 0;
	return written - reached - limit;
}

/* By how many bytes the page server is further behind than it may be. */
static uint64
excess(void)
{
	StorageFeedback feedback;
	XLogRecPtr	written;
	uint64		most;

	feedback_get(&feedback);
	if (feedback.received_lsn == InvalidXLogRecPtr)
		return 0;
	/* Not what is flushed, which may be far behind in the middle of a transaction. */
	written = GetXLogWriteRecPtr();
	most = excess_over(written, feedback.received_lsn, neon_shared->write_lag_mb);
	most = Max(most, excess_over(written, feedback.disk_consistent_lsn, neon_shared->flush_lag_mb));
	return Max(most, excess_over(written, feedback.remote_consistent_lsn, neon_shared->apply_lag_mb));
}

static bool
may_wait_here(void)
{
	if (InterruptHoldoffCount > 0 || QueryCancelHoldoffCount > 0 || CritSectionCount > 0)
		return false;
	if (MyProc == NULL || MyBackendType == B_STARTUP || am_walsender || IsAutoVacuumWorkerProcess())
		return false;
	return !RecoveryInProgress();
}

static void
nap(uint64 lag)
{
	char		title[64];

	snprintf(title, sizeof(title), "backpressure throttling: %llu MB too far ahead",
			 (unsigned long long) (lag / BYTES_PER_MB));
	set_ps_display(title);
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, NAP_MS, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

static void
wait_for_storage(uint64 first_lag)
{
	volatile uint64 lag = first_lag;
	instr_time	start;
	instr_time	end;
	int			title_length;
	const char *title = get_ps_display(&title_length);
	char	   *title_before = pnstrdup(title, title_length);

	INSTR_TIME_SET_CURRENT(start);
	feedback_throttle_begins();
	PG_TRY();
	{
		do
			nap(lag);
		while ((lag = excess()) > 0);
	}
	PG_FINALLY();
	{
		INSTR_TIME_SET_CURRENT(end);
		INSTR_TIME_SUBTRACT(end, start);
		feedback_throttle_ends(INSTR_TIME_GET_MICROSEC(end));
		set_ps_display(title_before);
	}
	PG_END_TRY();
	pfree(title_before);
	/* A wake-up that was meant for somebody further out was perhaps swallowed. */
	SetLatch(MyLatch);
}

void
backpressure_gate(void)
{
	uint64		lag = excess();

	if (lag > 0 && may_wait_here())
		wait_for_storage(lag);
}

static void
forget_input(void *argument)
{
	for (GatedInput **at = &gated_inputs; *at != NULL; at = &(*at)->outer)
	{
		if (*at == argument)
		{
			*at = (*at)->outer;
			return;
		}
	}
}

static TupleTableSlot *
next_row_gated(PlanState *input)
{
	backpressure_gate();
	for (GatedInput *each = gated_inputs; each != NULL; each = each->outer)
	{
		if (each->input == input)
			return each->next_row(input);
	}
	elog(ERROR, "neon: a gated plan node is not known");
}

static void
gate_input_of(PlanState *node, EState *estate)
{
	GatedInput *gated;
	PlanState  *input = outerPlanState(node);

	if (!IsA(node, ModifyTableState) || input == NULL)
		return;
	gated = MemoryContextAllocZero(estate->es_query_cxt, sizeof(GatedInput));
	gated->input = input;
	gated->next_row = input->ExecProcNodeReal;
	gated->outer = gated_inputs;
	gated->forget.func = forget_input;
	gated->forget.arg = gated;
	gated_inputs = gated;
	MemoryContextRegisterResetCallback(estate->es_query_cxt, &gated->forget);
	ExecSetExecProcNode(input, next_row_gated);
}

static bool
changes_rows(QueryDesc *query)
{
	return query->operation != CMD_SELECT || query->plannedstmt->hasModifyingCTE || query->plannedstmt->rowMarks != NIL;
}

static void
gated_executor_start(QueryDesc *query, int flags)
{
	ListCell   *cell;

	(previous_start ? previous_start : standard_ExecutorStart) (query, flags);
	if (!changes_rows(query) || (flags & EXEC_FLAG_EXPLAIN_ONLY) != 0)
		return;
	gate_input_of(query->planstate, query->estate);
	foreach(cell, query->estate->es_subplanstates)
		gate_input_of(lfirst(cell), query->estate);
}

static void
gated_executor_run(QueryDesc *query, ScanDirection direction, uint64 count, bool execute_once)
{
	if (changes_rows(query))
		backpressure_gate();
	(previous_run ? previous_run : standard_ExecutorRun) (query, direction, count, execute_once);
}

static void
gate_commit(XactEvent event, void *argument)
{
	if ((event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE) &&
		TransactionIdIsValid(GetTopTransactionIdIfAny()))
		backpressure_gate();
}

void
backpressure_install(void)
{
	previous_start = ExecutorStart_hook;
	ExecutorStart_hook = gated_executor_start;
	previous_run = ExecutorRun_hook;
	ExecutorRun_hook = gated_executor_run;
	RegisterXactCallback(gate_commit, NULL);
}
