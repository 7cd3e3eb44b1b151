/* Owns the SQL functions of schema neon that show what the extension does. See neon--1.0.sql. */
#include "postgres.h"

#include "access/xlog.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"

#include "cache-table.h"
#include "feedback-file.h"
#include "shared-state.h"
#include "wal-position.h"

/* In the order of StatCounter. */
static const char *const names[STAT_COUNT] = {
	[STAT_READS] = "reads",
	[STAT_READS_LOCAL] = "reads_local",
	[STAT_READS_ZERO] = "reads_zero",
	[STAT_READS_REMOTE] = "reads_remote",
	[STAT_PREFETCH_REQUESTS] = "prefetch_requests",
	[STAT_PREFETCH_HITS] = "prefetch_hits",
	[STAT_PREFETCH_WASTED] = "prefetch_wasted",
	[STAT_WAIT_US] = "page_wait_us",
	[STAT_PAGES_KEPT] = "pages_kept",
	[STAT_KEEP_FAILURES] = "keep_failures",
	[STAT_PAGES_FREED] = "pages_freed",
	[STAT_CHUNKS_FORGOTTEN] = "chunks_forgotten",
	[STAT_REDO_DONE] = "redo_done",
	[STAT_REDO_LEFT_OUT] = "redo_left_out",
	[STAT_WRITES] = "writes",
	[STAT_EXTENDS] = "extends",
	[STAT_SIZE_HITS] = "size_hits",
	[STAT_SIZE_REQUESTS] = "size_requests",
	[STAT_CONNECTS] = "connects",
	[STAT_DISCONNECTS] = "disconnects",
	[STAT_REQUESTS_SENT] = "requests_sent",
	[STAT_SEND_FLUSHES] = "send_flushes",
};

void
require_active(void)
{
	if (neon_shared == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this server does not run on a page server"),
				 errhint("neon.tenant_id, neon.timeline_id and neon.pageserver_connstring are not set.")));
}

static void
put_row(ReturnSetInfo *result, const char *name, uint64 value)
{
	Datum		values[2] = {CStringGetTextDatum(name), Int64GetDatum((int64) value)};
	bool		nulls[2] = {false, false};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

PG_FUNCTION_INFO_V1(neon_get_stats);

Datum
neon_get_stats(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	require_active();
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < STAT_COUNT; i++)
		put_row(result, names[i], pg_atomic_read_u64(&neon_shared->stats[i]));
	put_row(result, "cached_bytes", cache_bytes());
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(neon_reset_stats);

Datum
neon_reset_stats(PG_FUNCTION_ARGS)
{
	require_active();
	for (int i = 0; i < STAT_COUNT; i++)
		pg_atomic_write_u64(&neon_shared->stats[i], 0);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(neon_positions);

Datum
neon_positions(PG_FUNCTION_ARGS)
{
	TupleDesc	descriptor;
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	require_active();
	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "neon.positions() must return a row");
	values[0] = LSNGetDatum(neon_shared->start_lsn);
	values[1] = LSNGetDatum(pg_atomic_read_u64(&neon_shared->forgotten_lsn));
	values[2] = LSNGetDatum(current_position());
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), values, nulls)));
}

PG_FUNCTION_INFO_V1(neon_backpressure_lsns);

Datum
neon_backpressure_lsns(PG_FUNCTION_ARGS)
{
	TupleDesc	descriptor;
	StorageFeedback feedback;
	Datum		values[3];
	bool		nulls[3];

	require_active();
	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "neon.backpressure_lsns() must return a row");
	feedback_get(&feedback);
	values[0] = LSNGetDatum(feedback.received_lsn);
	values[1] = LSNGetDatum(feedback.disk_consistent_lsn);
	values[2] = LSNGetDatum(feedback.remote_consistent_lsn);
	for (int i = 0; i < 3; i++)
		nulls[i] = DatumGetLSN(values[i]) == InvalidXLogRecPtr;
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), values, nulls)));
}

PG_FUNCTION_INFO_V1(neon_backpressure_throttling_time);

Datum
neon_backpressure_throttling_time(PG_FUNCTION_ARGS)
{
	require_active();
	PG_RETURN_INT64((int64) feedback_throttled_us());
}
