/* Owns the counters by process, and the SQL functions that show them. The names are those that dashboards expect. */
#include "perf-counters.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/float.h"

#include "cache-table.h"
#include "shared-state.h"

typedef struct PerfSlot
{
	/* Whose it is, 0: nobody's yet. The first slot belongs to all that have ended, and to processes that have no slot. */
	pg_atomic_uint32 pid;
	pg_atomic_uint64 counters[STAT_COUNT];
	pg_atomic_uint64 gauges[GAUGE_COUNT];
	PerfHistogram timers[TIMER_COUNT];
} PerfSlot;

/* Steps of about 2: what is asked is whether a wait was a memory copy, a round trip, or a stall. */
static const uint64 bounds_us[TIMER_BOUNDS] = {
	5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000, 1000000, 2000000, 5000000, 10000000
};

static PerfSlot *slots;
static PerfSlot *mine;

static int
slot_count(void)
{
	return 1 + MaxBackends + NUM_AUXILIARY_PROCS;
}

void
perf_counters_request_memory(void)
{
	RequestAddinShmemSpace(mul_size(slot_count(), sizeof(PerfSlot)));
}

void
perf_counters_attach(void)
{
	bool		found;

	slots = ShmemInitStruct("neon counters by process", mul_size(slot_count(), sizeof(PerfSlot)), &found);
	/* All zeros is what every atomic here starts from. */
	if (!found)
		memset(slots, 0, mul_size(slot_count(), sizeof(PerfSlot)));
}

static void
move_counter(pg_atomic_uint64 *from, pg_atomic_uint64 *to)
{
	pg_atomic_fetch_add_u64(to, pg_atomic_read_u64(from));
	pg_atomic_write_u64(from, 0);
}

/* What an ended process left in the slot goes to the slot of all ended ones. */
static void
inherit(PerfSlot *slot)
{
	for (int i = 0; i < STAT_COUNT; i++)
		move_counter(&slot->counters[i], &slots[0].counters[i]);
	for (int i = 0; i < GAUGE_COUNT; i++)
		pg_atomic_write_u64(&slot->gauges[i], 0);
	for (int timer = 0; timer < TIMER_COUNT; timer++)
	{
		move_counter(&slot->timers[timer].sum_us, &slots[0].timers[timer].sum_us);
		for (int i = 0; i < TIMER_BUCKETS; i++)
			move_counter(&slot->timers[timer].buckets[i], &slots[0].timers[timer].buckets[i]);
	}
}

static PerfSlot *
my_slot(void)
{
	if (mine != NULL)
		return mine;
	/* The postmaster must not remember a slot: its children would take it for theirs. */
	if (MyProc == NULL || MyProc->pgprocno >= slot_count() - 1)
		return &slots[0];
	mine = &slots[1 + MyProc->pgprocno];
	inherit(mine);
	pg_atomic_write_u32(&mine->pid, (uint32) MyProcPid);
	return mine;
}

static void
add(pg_atomic_uint64 *counter, uint64 amount)
{
	if (mine == NULL)
		pg_atomic_fetch_add_u64(counter, amount);
	else
		pg_atomic_write_u64(counter, pg_atomic_read_u64(counter) + amount);
}

void
perf_count(int counter, uint64 amount)
{
	PerfSlot   *slot = my_slot();

	add(&slot->counters[counter], amount);
}

void
perf_gauge_set(PerfGauge gauge, uint64 value)
{
	PerfSlot   *slot = my_slot();

	if (slot == mine)
		pg_atomic_write_u64(&slot->gauges[gauge], value);
}

void
perf_time(PerfTimer timer, instr_time start)
{
	PerfHistogram *histogram = &my_slot()->timers[timer];
	instr_time	end;
	uint64		us;
	int			bucket = 0;

	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, start);
	us = INSTR_TIME_GET_MICROSEC(end);
	while (bucket < TIMER_BOUNDS && us > bounds_us[bucket])
		bucket++;
	add(&histogram->sum_us, us);
	add(&histogram->buckets[bucket], 1);
}

/* ---- showing ---- */

/* One row: what it is called, the bound of its bucket in seconds or null, its value. `process`: null columns are left out. */
typedef struct RowSink
{
	ReturnSetInfo *result;
	const PerfSlot *slot;		/* NULL: of all processes together */
	int			process_number;
} RowSink;

static void
put_metric(const RowSink *sink, const char *name, const char *suffix, const double *bound, double value)
{
	char	   *full = psprintf("%s%s", name, suffix);
	Datum		values[5];
	bool		nulls[5] = {false};
	int			at = 0;

	if (sink->slot != NULL)
	{
		values[at++] = Int32GetDatum(sink->process_number);
		values[at++] = Int32GetDatum((int32) pg_atomic_read_u32(&unconstify(PerfSlot *, sink->slot)->pid));
	}
	values[at++] = CStringGetTextDatum(full);
	nulls[at] = bound == NULL;
	values[at++] = bound == NULL ? (Datum) 0 : Float8GetDatum(*bound);
	values[at++] = Float8GetDatum(value);
	tuplestore_putvalues(sink->result->setResult, sink->result->setDesc, values, nulls);
}

static void
put_histogram(const RowSink *sink, const char *name, PerfHistogram *histogram)
{
	double		count = 0;
	double		infinity = get_float8_infinity();

	for (int i = 0; i < TIMER_BUCKETS; i++)
		count += pg_atomic_read_u64(&histogram->buckets[i]);
	put_metric(sink, name, "_count", NULL, count);
	put_metric(sink, name, "_sum", NULL, pg_atomic_read_u64(&histogram->sum_us) / 1e6);
	count = 0;
	for (int i = 0; i < TIMER_BUCKETS; i++)
	{
		double		bound = i < TIMER_BOUNDS ? bounds_us[i] / 1e6 : infinity;

		count += pg_atomic_read_u64(&histogram->buckets[i]);
		put_metric(sink, name, "_bucket", &bound, count);
	}
}

static double
counter_of(PerfSlot *slot, StatCounter counter)
{
	return (double) pg_atomic_read_u64(&slot->counters[counter]);
}

static void
put_slot(const RowSink *sink, PerfSlot *slot)
{
	double		asked = counter_of(slot, STAT_READS_REMOTE) - counter_of(slot, STAT_PREFETCH_HITS);

	put_histogram(sink, "getpage_wait_seconds", &slot->timers[TIMER_GET_PAGE]);
	put_metric(sink, "getpage_prefetch_requests_total", "", NULL, counter_of(slot, STAT_PREFETCH_REQUESTS));
	put_metric(sink, "getpage_sync_requests_total", "", NULL, asked);
	put_metric(sink, "getpage_prefetch_misses_total", "", NULL, asked);
	put_metric(sink, "getpage_prefetch_discards_total", "", NULL, counter_of(slot, STAT_PREFETCH_WASTED));
	put_metric(sink, "pageserver_requests_sent_total", "", NULL, counter_of(slot, STAT_REQUESTS_SENT));
	put_metric(sink, "pageserver_send_flushes_total", "", NULL, counter_of(slot, STAT_SEND_FLUSHES));
	put_metric(sink, "pageserver_disconnects_total", "", NULL, counter_of(slot, STAT_DISCONNECTS));
	put_metric(sink, "pageserver_open_requests", "", NULL, (double) pg_atomic_read_u64(&slot->gauges[GAUGE_OPEN_REQUESTS]));
	put_metric(sink, "getpage_prefetches_buffered", "", NULL,
			   (double) pg_atomic_read_u64(&slot->gauges[GAUGE_BUFFERED_ANSWERS]));
	put_metric(sink, "file_cache_hits_total", "", NULL, counter_of(slot, STAT_READS_LOCAL));
	put_histogram(sink, "file_cache_read_wait_seconds", &slot->timers[TIMER_LOCAL_READ]);
	put_histogram(sink, "file_cache_write_wait_seconds", &slot->timers[TIMER_LOCAL_WRITE]);
}

static void
accumulate(PerfSlot *total, PerfSlot *slot)
{
	for (int i = 0; i < STAT_COUNT; i++)
		total->counters[i].value += pg_atomic_read_u64(&slot->counters[i]);
	for (int i = 0; i < GAUGE_COUNT; i++)
		total->gauges[i].value += pg_atomic_read_u64(&slot->gauges[i]);
	for (int timer = 0; timer < TIMER_COUNT; timer++)
	{
		total->timers[timer].sum_us.value += pg_atomic_read_u64(&slot->timers[timer].sum_us);
		for (int i = 0; i < TIMER_BUCKETS; i++)
			total->timers[timer].buckets[i].value += pg_atomic_read_u64(&slot->timers[timer].buckets[i]);
	}
}

PG_FUNCTION_INFO_V1(neon_get_perf_counters);

Datum
neon_get_perf_counters(PG_FUNCTION_ARGS)
{
	RowSink		sink = {.result = (ReturnSetInfo *) fcinfo->resultinfo};
	PerfSlot	total = {0};

	require_active();
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < slot_count(); i++)
		accumulate(&total, &slots[i]);
	put_slot(&sink, &total);
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(neon_get_backend_perf_counters);

Datum
neon_get_backend_perf_counters(PG_FUNCTION_ARGS)
{
	RowSink		sink = {.result = (ReturnSetInfo *) fcinfo->resultinfo};

	require_active();
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 1; i < slot_count(); i++)
	{
		uint32		pid = pg_atomic_read_u32(&slots[i].pid);

		/* A slot keeps the numbers of a process that has ended until the next one takes it. */
		if (pid == 0 || ProcGlobal->allProcs[i - 1].pid != (int) pid)
			continue;
		sink.slot = &slots[i];
		sink.process_number = i - 1;
		put_slot(&sink, &slots[i]);
	}
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(neon_get_lfc_stats);

Datum
neon_get_lfc_stats(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	uint64		pages;
	uint64		chunks;
	uint64		pinned;
	uint64		misses;

	require_active();
	InitMaterializedSRF(fcinfo, 0);
	cache_usage(&chunks, &pages, &pinned);
	misses = pg_atomic_read_u64(&neon_shared->stats[STAT_READS_REMOTE]);
	{
		const struct
		{
			const char *key;
			uint64		value;
		}			rows[] = {
			{"file_cache_chunk_size_pages", CHUNK_BLOCKS},
			{"file_cache_misses", misses},
			{"file_cache_hits", pg_atomic_read_u64(&neon_shared->stats[STAT_READS_LOCAL])},
			{"file_cache_used", chunks},
			{"file_cache_writes",
			pg_atomic_read_u64(&neon_shared->stats[STAT_WRITES]) + pg_atomic_read_u64(&neon_shared->stats[STAT_EXTENDS]) +
			pg_atomic_read_u64(&neon_shared->stats[STAT_PAGES_KEPT])},
			{"file_cache_size", chunks},
			{"file_cache_used_pages", pages},
			{"file_cache_evicted_pages", pg_atomic_read_u64(&neon_shared->stats[STAT_PAGES_FREED])},
			{"file_cache_limit", cache_limit_bytes() / ((uint64) CHUNK_BLOCKS * BLCKSZ)},
			{"file_cache_chunks_pinned", pinned},
		};

		for (size_t i = 0; i < lengthof(rows); i++)
		{
			Datum		values[2] = {CStringGetTextDatum(rows[i].key), Int64GetDatum((int64) rows[i].value)};
			bool		nulls[2] = {false, false};

			tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
		}
	}
	return (Datum) 0;
}
