/*
 * What each process did, and how long it waited: the counters of shared-state.h by process, and histograms of times.
 *
 * A process writes only its own slot, so counting takes no lock and shares no cache line. What ended processes did is added up
 * in one further slot by whoever takes their place.
 */
#ifndef NEON_PERF_COUNTERS_H
#define NEON_PERF_COUNTERS_H

#include "postgres.h"
#include "port/atomics.h"
#include "portability/instr_time.h"

typedef enum PerfTimer
{
	TIMER_GET_PAGE,				/* a backend needed a page that is not here, until it had it */
	TIMER_LOCAL_READ,			/* reads of the local files that gave a page */
	TIMER_LOCAL_WRITE,			/* writes of the local files */
	TIMER_COUNT
} PerfTimer;

/* Bounds of the buckets in microseconds; one more bucket has no bound. */
#define TIMER_BOUNDS 20
#define TIMER_BUCKETS (TIMER_BOUNDS + 1)

typedef struct PerfHistogram
{
	pg_atomic_uint64 sum_us;
	pg_atomic_uint64 buckets[TIMER_BUCKETS];
} PerfHistogram;

/* What there is at this moment, not a count. */
typedef enum PerfGauge
{
	GAUGE_OPEN_REQUESTS,		/* on their way to the page server and back */
	GAUGE_BUFFERED_ANSWERS,		/* asked for ahead, here, and not used yet */
	GAUGE_COUNT
} PerfGauge;

extern void perf_counters_request_memory(void);
extern void perf_counters_attach(void);

extern void perf_count(int counter, uint64 amount);
extern void perf_gauge_set(PerfGauge gauge, uint64 value);
extern void perf_time(PerfTimer timer, instr_time start);

#endif
