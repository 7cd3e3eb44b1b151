/*
 * Owns the order in which a compute's processes start: what its first query does not need comes after it.
 *
 * A server that gets ready forks all its processes at the same moment as the first session, which then shares the processor
 * with them; each of them costs some 10 ms where pages are mapped slowly, and those that connect to a database 20. So the
 * launchers of autovacuum and of logical replication, and our own worker, begin a second later. Whoever shuts the server down
 * within this second is not held up.
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

static bool late = false;

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

void
late_start_workers(void)
{
	slist_iter	iter;

	late = true;
	slist_foreach(iter, &BackgroundWorkerList)
	{
		RegisteredBgWorker *worker = slist_container(RegisteredBgWorker, rw_lnode, iter.cur);
		int			restart_ms = worker->rw_worker.bgw_restart_time * 1000;

		if (is_late(&worker->rw_worker))
			worker->rw_crashed_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LATE_MS - restart_ms);
	}
}

void
late_start_await(void)
{
	long		left_ms;
	struct timespec timeout;

	if (!late || !IsAutoVacuumLauncherProcess())
		return;
	late = false;
	left_ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), TimestampTzPlusMilliseconds(PgStartTime, LATE_MS));
	timeout.tv_sec = left_ms / 1000;
	timeout.tv_nsec = left_ms % 1000 * 1000000;
	/* One that comes is taken even if it was blocked, and acted on by the launcher as usual. */
	ppoll(NULL, 0, &timeout, &UnBlockSig);
}
