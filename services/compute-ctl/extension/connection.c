/*
 * Owns the libpq connections of this process to the page servers, one a shard.
 *
 * Only libpq's asynchronous functions are used: its blocking ones sleep without looking at the latch, so neither cancel
 * nor shutdown would work. A connection belongs to the process that made it. Nothing here depends on being left in an
 * orderly way: libpq keeps whole messages, so when an interrupt throws out of a wait the stream stays in step.
 */
#include "connection.h"

#include <unistd.h>

#include "libpq-fe.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/startup.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "settings.h"
#include "shard-map.h"
#include "shared-state.h"

#define CONNECT_TIMEOUT_MS 10000
#define WAIT_STEP_MS 1000
#define PAUSE_MAX_MS 1000

#define EVENT_SOCKET 0
#define EVENT_LATCH 1

/* To one shard. Made when it is first used, and kept. */
typedef struct Link
{
	PGconn	   *conn;
	uint32		number;			/* 0 = none that can be used */
	uint32		address_version;
	WaitEventSet *wait_set;
	bool		fd_reserved;
	int			failures;
	char		last_failure[256];
	int			shard;
	char		tenant[64];		/* as the page server knows it */
} Link;

static Link *links[SHARDS_MAX];
static pid_t links_pid;
static uint32 numbers_given;

bool
errors_allowed(void)
{
	return CritSectionCount == 0 && !AmStartupProcess();
}

static void
close_connection(Link *link)
{
	if (link->wait_set != NULL)
	{
		FreeWaitEventSet(link->wait_set);
		link->wait_set = NULL;
	}
	if (link->conn != NULL)
	{
		PQfinish(link->conn);
		link->conn = NULL;
	}
	if (link->fd_reserved)
	{
		ReleaseExternalFD();
		link->fd_reserved = false;
	}
	link->number = 0;
}

/* libpq's messages have several lines and end in a newline; the log wants one line. */
static void
note_failure(Link *link, const char *text)
{
	char	   *out = link->last_failure;

	link->failures++;
	for (; *text != '\0' && out < link->last_failure + sizeof(link->last_failure) - 1; text++)
	{
		bool		blank = *text == '\n' || *text == '\t' || *text == ' ';

		if (!blank)
			*out++ = *text;
		else if (out > link->last_failure && out[-1] != ' ')
			*out++ = ' ';
	}
	if (out > link->last_failure && out[-1] == ' ')
		out--;
	*out = '\0';
}

static void
drop(Link *link, const char *reason)
{
	note_failure(link, reason);
	if (link->number != 0)
	{
		stat_count(STAT_DISCONNECTS);
		ereport(LOG,
				(errmsg("neon: closed the connection to the page server: %s", link->last_failure), errhidestmt(true)));
	}
	close_connection(link);
}

void
connection_drop(int shard, const char *reason)
{
	drop(links[shard], reason);
}

static void
close_at_exit(int code, Datum arg)
{
	for (int shard = 0; shard < SHARDS_MAX && links_pid == MyProcPid; shard++)
	{
		if (links[shard] != NULL)
			close_connection(links[shard]);
	}
}

/* Lets the process react to what happened while it slept. May throw, where throwing is safe. */
static void
serve_interrupts(void)
{
	if (AmStartupProcess())
		HandleStartupProcInterrupts();
	else if (CritSectionCount == 0)
		CHECK_FOR_INTERRUPTS();
}

/* Interrupts that cannot be served now would leave the latch set, and us spinning. */
static bool
latch_is_of_use(void)
{
	return InterruptHoldoffCount == 0 && CritSectionCount == 0;
}

/*
 * Sleeps until the socket is ready, the latch is set, or some time has passed. `latch_taken` is set when the latch was
 * reset: the wake-up may have been meant for a wait further up, so the caller sets the latch again when it is done.
 */
static void
wait_for_socket(Link *link, uint32 events, long timeout_ms, bool *latch_taken)
{
	WaitEvent	event = {0};

	if (link->wait_set == NULL)
	{
		link->wait_set = CreateWaitEventSet(TopMemoryContext, 3);
		AddWaitEventToSet(link->wait_set, events, PQsocket(link->conn), NULL, NULL);
		AddWaitEventToSet(link->wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
		if (IsUnderPostmaster)
			AddWaitEventToSet(link->wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	}
	ModifyWaitEvent(link->wait_set, EVENT_SOCKET, events, NULL);
	ModifyWaitEvent(link->wait_set, EVENT_LATCH, WL_LATCH_SET, latch_is_of_use() ? MyLatch : NULL);
	WaitEventSetWait(link->wait_set, timeout_ms, &event, 1, PG_WAIT_EXTENSION);
	if (event.events & WL_LATCH_SET)
	{
		ResetLatch(MyLatch);
		*latch_taken = true;
	}
	serve_interrupts();
}

static void
give_back_latch(bool latch_taken)
{
	if (latch_taken)
		SetLatch(MyLatch);
}

static void
pause_ms(long ms)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
	bool		latch_taken = false;

	for (;;)
	{
		long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end);
		int			events = WL_TIMEOUT | WL_EXIT_ON_PM_DEATH | (latch_is_of_use() ? WL_LATCH_SET : 0);

		if (left <= 0)
			break;
		if (WaitLatch(MyLatch, events, left, PG_WAIT_EXTENSION) & WL_LATCH_SET)
		{
			ResetLatch(MyLatch);
			latch_taken = true;
		}
		serve_interrupts();
	}
	give_back_latch(latch_taken);
}

/* NULL without memory, or when there is no such shard any more. */
static PGconn *
start_connection(Link *link)
{
	char		address[CONNSTRING_BYTES_MAX];
	char		name[NAMEDATALEN] = "neon-";
	/* What stands before dbname is a default that the connection string overrides; what stands after it prevails. */
	const char *keys[] = {"user", "gssencmode", "dbname", "application_name", NULL};
	const char *values[] = {"cloud_admin", "disable", address, name, NULL};

	link->address_version = shard_address(link->shard, address, link->tenant);
	if (link->address_version == 0)
		return NULL;
	strlcat(name, GetBackendTypeDesc(MyBackendType), sizeof(name));
	for (char *c = name; *c != '\0'; c++)
	{
		if (*c == ' ')
			*c = '-';
	}
	return PQconnectStartParams(keys, values, 1);
}

/* Whether more than `limit_ms` have passed since `start`. */
static bool
expired(TimestampTz start, int limit_ms)
{
	return TimestampDifferenceExceeds(start, GetCurrentTimestamp(), limit_ms);
}

/* Waits on a socket that libpq may replace during the handshake, so without the persistent set. */
static void
wait_during_handshake(Link *link, uint32 events, bool *latch_taken)
{
	int			wake = events | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH | (latch_is_of_use() ? WL_LATCH_SET : 0);

	if (WaitLatchOrSocket(MyLatch, wake, PQsocket(link->conn), WAIT_STEP_MS, PG_WAIT_EXTENSION) & WL_LATCH_SET)
	{
		ResetLatch(MyLatch);
		*latch_taken = true;
	}
	serve_interrupts();
}

/* NULL on success, otherwise what went wrong. */
static const char *
finish_handshake(Link *link, TimestampTz start, bool *latch_taken)
{
	PostgresPollingStatusType state = PGRES_POLLING_WRITING;

	while (state != PGRES_POLLING_OK)
	{
		if (PQstatus(link->conn) == CONNECTION_BAD)
			return PQerrorMessage(link->conn);
		wait_during_handshake(link, state == PGRES_POLLING_READING ? WL_SOCKET_READABLE : WL_SOCKET_WRITEABLE, latch_taken);
		if (expired(start, CONNECT_TIMEOUT_MS))
			return "connecting took too long";
		state = PQconnectPoll(link->conn);
		if (state == PGRES_POLLING_FAILED)
			return PQerrorMessage(link->conn);
	}
	return NULL;
}

/* Asks for the page stream; NULL on success, otherwise what went wrong. */
static const char *
start_stream(Link *link, TimestampTz start, bool *latch_taken)
{
	char		command[160];
	PGresult   *result;
	bool		started;

	snprintf(command, sizeof(command), "pagestream_v3 %s %s", link->tenant, neon_timeline_id);
	if (PQsetnonblocking(link->conn, 1) != 0 || !PQsendQuery(link->conn, command))
		return PQerrorMessage(link->conn);
	while (PQflush(link->conn) > 0)
	{
		wait_during_handshake(link, WL_SOCKET_WRITEABLE, latch_taken);
		if (expired(start, CONNECT_TIMEOUT_MS))
			return "sending took too long";
	}
	while (PQisBusy(link->conn))
	{
		wait_during_handshake(link, WL_SOCKET_READABLE, latch_taken);
		if (expired(start, CONNECT_TIMEOUT_MS))
			return "the page server did not start the stream in time";
		if (!PQconsumeInput(link->conn))
			return PQerrorMessage(link->conn);
	}
	result = PQgetResult(link->conn);
	started = PQresultStatus(result) == PGRES_COPY_BOTH;
	PQclear(result);
	if (!started)
		return PQerrorMessage(link->conn)[0] != '\0' ? PQerrorMessage(link->conn) : "the page server did not start the stream";
	return NULL;
}

static bool
try_connect(Link *link)
{
	TimestampTz start = GetCurrentTimestamp();
	bool		latch_taken = false;
	const char *problem;

	close_connection(link);
	ReserveExternalFD();
	link->fd_reserved = true;
	link->conn = start_connection(link);
	if (link->conn == NULL)
		problem = link->address_version == 0 ? "there is no such shard any more" : "out of memory";
	else if (PQstatus(link->conn) == CONNECTION_BAD)
		problem = PQerrorMessage(link->conn);
	else
		problem = finish_handshake(link, start, &latch_taken);
	if (problem == NULL)
		problem = start_stream(link, start, &latch_taken);
	give_back_latch(latch_taken);
	if (problem != NULL)
	{
		note_failure(link, problem);
		close_connection(link);
		return false;
	}
	link->number = ++numbers_given;
	stat_count(STAT_CONNECTS);
	return true;
}

/* The link to a shard, made if need be. Links inherited from a parent are forgotten. */
static Link *
link_of(int shard)
{
	if (links_pid != MyProcPid)
	{
		/* The parent's sockets are not ours to speak on, nor to close in an orderly way. */
		memset(links, 0, sizeof(links));
		links_pid = MyProcPid;
		on_proc_exit(close_at_exit, 0);
	}
	if (links[shard] == NULL)
	{
		links[shard] = MemoryContextAllocZero(TopMemoryContext, sizeof(Link));
		links[shard]->shard = shard;
	}
	return links[shard];
}

uint32
connection_number(int shard)
{
	return link_of(shard)->number;
}

uint32
connection_ensure(int shard)
{
	Link	   *link = link_of(shard);

	if (link->number != 0 && link->address_version != shared_connstring_version())
		close_connection(link);
	while (link->number == 0)
	{
		if (shard >= shard_count())
			return 0;
		if (link->failures > neon_max_reconnect_attempts && errors_allowed())
		{
			int			count = link->failures;

			link->failures = 0;
			ereport(ERROR,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("could not reach the page server after %d attempts", count),
					 errdetail("The last attempt failed with: %s", link->last_failure)));
		}
		if (link->failures > 0)
			pause_ms(Min(PAUSE_MAX_MS, 1L << Min(link->failures - 1, 10)));
		if (!try_connect(link) && (link->failures == 5 || link->failures % 60 == 0))
			ereport(LOG, (errmsg("neon: cannot reach the page server of shard %d, %d attempts so far: %s", shard,
								 link->failures, link->last_failure),
						  errhidestmt(true)));
	}
	return link->number;
}

void
connection_note_success(int shard)
{
	link_of(shard)->failures = 0;
}

bool
connection_send(int shard, const void *bytes, int length)
{
	Link	   *link = link_of(shard);

	/* In non-blocking mode libpq takes the message into its buffer, growing it; it fails only for good. */
	if (PQputCopyData(link->conn, bytes, length) == 1)
		return true;
	drop(link, PQerrorMessage(link->conn));
	return false;
}

bool
connection_flush(int shard)
{
	Link	   *link = link_of(shard);
	bool		latch_taken = false;
	int			rc;

	while ((rc = PQflush(link->conn)) > 0)
	{
		/* The page server may be unable to read because nobody takes its answers: take them. */
		wait_for_socket(link, WL_SOCKET_READABLE | WL_SOCKET_WRITEABLE, WAIT_STEP_MS, &latch_taken);
		if (!PQconsumeInput(link->conn))
		{
			rc = -1;
			break;
		}
	}
	give_back_latch(latch_taken);
	if (rc == 0)
		return true;
	drop(link, PQerrorMessage(link->conn));
	return false;
}

static int
stream_ended(Link *link)
{
	PGresult   *result = PQgetResult(link->conn);
	char		reason[256];

	strlcpy(reason, PQresultErrorMessage(result), sizeof(reason));
	PQclear(result);
	drop(link, reason[0] != '\0' ? reason : "the page server ended the stream");
	return -1;
}

/* Why waiting on is of no use; NULL if it is. */
static const char *
reason_to_give_up(Link *link, TimestampTz start, bool *logged)
{
	if (link->address_version != shared_connstring_version())
		return "its address has changed";
	if (!*logged && expired(start, neon_response_log_timeout_ms))
	{
		*logged = true;
		ereport(LOG, (errmsg("neon: the page server has not answered for %d ms", neon_response_log_timeout_ms),
					  errhidestmt(true)));
	}
	return expired(start, neon_response_disconnect_timeout_ms) ? "it has not answered for too long" : NULL;
}

int
connection_receive(int shard, char **message, bool wait)
{
	Link	   *link = link_of(shard);
	TimestampTz start = 0;
	bool		latch_taken = false;
	bool		logged = false;
	const char *reason;
	int			length;

	while ((length = PQgetCopyData(link->conn, message, 1)) == 0)
	{
		if (wait)
		{
			if (start == 0)
				start = GetCurrentTimestamp();
			wait_for_socket(link, WL_SOCKET_READABLE, WAIT_STEP_MS, &latch_taken);
		}
		if (!PQconsumeInput(link->conn))
		{
			drop(link, PQerrorMessage(link->conn));
			length = -1;
			break;
		}
		if (!wait)
		{
			length = PQgetCopyData(link->conn, message, 1);
			break;
		}
		reason = reason_to_give_up(link, start, &logged);
		if (reason != NULL)
		{
			drop(link, reason);
			length = -1;
			break;
		}
	}
	give_back_latch(latch_taken);
	if (length < 0 && link->number != 0)
		return stream_ended(link);
	return length;
}

void
connection_free_message(char *message)
{
	PQfreemem(message);
}
