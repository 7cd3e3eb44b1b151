/*
 * Owns the order in which a compute's processes start: what its first query does not need comes after it.
 *
 * A server that gets ready forks all its processes at the same moment as the first session, which then shares the processor
 * with them; each of them costs some 10 ms where pages are mapped slowly, and those that connect to a database 20. So the
 * launchers of autovacuum and of logical replication, and our own worker, begin a second later, and pages fetched within this
 * second are not kept in local files, which are many and have to be created. Whoever shuts the server down within this second is
 * not held up.
 *
 * A background worker is held back as one that crashed a while ago, whose time to be started again has not come: that is all
 * the postmaster knows of such a thing. There is none for the launcher of autovacuum: it is started, and waits before it reads
 * anything.
 */
#include "late-start.h"

#include <poll.h>
#include <signal.h>

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "postmaster/autovacuum.h"
#include "postmaster/bgworker_internals.h"
#include "utils/timestamp.h"

#define LATE_MS 1000

/* 0: nothing is held back. */
static TimestampTz late_at = 0;

static const char *const late_workers[] = {"ApplyLauncherMain", "neon_cache_worker_main"};

static bool
is_late(const BackgroundWorker *worker)
{
	for (int i = 0; i < lengthof(late_workers); i++)
	{
		if (strcmp(worker->bgw_function_name, late_workers[i]) == 0)
			return worker->bgw_restart_time != BGW_NEVER_RESTART;
	}
	return false;
}

TimestampTz
late_start_begin(void)
{
	slist_iter	iter;

	late_at = TimestampTzPlusMilliseconds(PgStartTime, LATE_MS);
	slist_foreach(iter, &BackgroundWorkerList)
	{
		RegisteredBgWorker *worker = slist_container(RegisteredBgWorker, rw_lnode, iter.cur);

		if (is_late(&worker->rw_worker))
			worker->rw_crashed_at = TimestampTzPlusMilliseconds(late_at, -worker->rw_worker.bgw_restart_time * 1000);
	}
	return late_at;
}

void
late_start_await(void)
{
	long		wait_ms;
	struct timespec timeout;

	if (late_at == 0 || !IsAutoVacuumLauncherProcess())
		return;
	wait_ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), late_at);
	late_at = 0;
	timeout.tv_sec = wait_ms / 1000;
	timeout.tv_nsec = wait_ms % 1000 * 1000000;
	/* One that comes is taken even if it was blocked, and acted on by the launcher as usual. */
	ppoll(NULL, 0, &timeout, &UnBlockSig);
}
