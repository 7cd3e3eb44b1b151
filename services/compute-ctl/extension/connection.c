/*
 * Owns the libpq connection of this process to the page server.
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
#include "shared-state.h"

#define CONNECT_TIMEOUT_MS 10000
#define WAIT_STEP_MS 1000
#define PAUSE_MAX_MS 1000

#define EVENT_SOCKET 0
#define EVENT_LATCH 1

static PGconn *conn;
static pid_t conn_pid;
static uint32 conn_number;
static uint32 numbers_given;
static uint32 address_version;
static WaitEventSet *wait_set;
static bool fd_reserved;
static int	failures;
static char last_failure[256];

bool
errors_allowed(void)
{
	return CritSectionCount == 0 && !AmStartupProcess();
}

static void
close_connection(void)
{
	if (wait_set != NULL)
	{
		FreeWaitEventSet(wait_set);
		wait_set = NULL;
	}
	if (conn != NULL)
	{
		PQfinish(conn);
		conn = NULL;
	}
	if (fd_reserved)
	{
		ReleaseExternalFD();
		fd_reserved = false;
	}
	conn_number = 0;
}

/* libpq's messages have several lines and end in a newline; the log wants one line. */
static void
note_failure(const char *text)
{
	char	   *out = last_failure;

	failures++;
	for (; *text != '\0' && out < last_failure + sizeof(last_failure) - 1; text++)
	{
		bool		blank = *text == '\n' || *text == '\t' || *text == ' ';

		if (!blank)
			*out++ = *text;
		else if (out > last_failure && out[-1] != ' ')
			*out++ = ' ';
	}
	if (out > last_failure && out[-1] == ' ')
		out--;
	*out = '\0';
}

void
connection_drop(const char *reason)
{
	note_failure(reason);
	if (conn_number != 0)
	{
		stat_count(STAT_DISCONNECTS);
		ereport(LOG,
				(errmsg("neon: closed the connection to the page server: %s", last_failure), errhidestmt(true)));
	}
	close_connection();
}

static void
close_at_exit(int code, Datum arg)
{
	if (conn != NULL && conn_pid == MyProcPid)
		close_connection();
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
wait_for_socket(uint32 events, long timeout_ms, bool *latch_taken)
{
	WaitEvent	event = {0};

	if (wait_set == NULL)
	{
		wait_set = CreateWaitEventSet(TopMemoryContext, 3);
		AddWaitEventToSet(wait_set, events, PQsocket(conn), NULL, NULL);
		AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
		if (IsUnderPostmaster)
			AddWaitEventToSet(wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	}
	ModifyWaitEvent(wait_set, EVENT_SOCKET, events, NULL);
	ModifyWaitEvent(wait_set, EVENT_LATCH, WL_LATCH_SET, latch_is_of_use() ? MyLatch : NULL);
	WaitEventSetWait(wait_set, timeout_ms, &event, 1, PG_WAIT_EXTENSION);
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

static PGconn *
start_connection(void)
{
	char		address[CONNSTRING_BYTES_MAX];
	char		name[NAMEDATALEN] = "neon-";
	/* What stands before dbname is a default that the connection string overrides; what stands after it prevails. */
	const char *keys[] = {"user", "gssencmode", "dbname", "application_name", NULL};
	const char *values[] = {"cloud_admin", "disable", address, name, NULL};

	address_version = shared_connstring_get(address);
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
wait_during_handshake(uint32 events, bool *latch_taken)
{
	int			wake = events | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH | (latch_is_of_use() ? WL_LATCH_SET : 0);

	if (WaitLatchOrSocket(MyLatch, wake, PQsocket(conn), WAIT_STEP_MS, PG_WAIT_EXTENSION) & WL_LATCH_SET)
	{
		ResetLatch(MyLatch);
		*latch_taken = true;
	}
	serve_interrupts();
}

/* NULL on success, otherwise what went wrong. */
static const char *
finish_handshake(TimestampTz start, bool *latch_taken)
{
	PostgresPollingStatusType state = PGRES_POLLING_WRITING;

	while (state != PGRES_POLLING_OK)
	{
		if (PQstatus(conn) == CONNECTION_BAD)
			return PQerrorMessage(conn);
		wait_during_handshake(state == PGRES_POLLING_READING ? WL_SOCKET_READABLE : WL_SOCKET_WRITEABLE, latch_taken);
		if (expired(start, CONNECT_TIMEOUT_MS))
			return "connecting took too long";
		state = PQconnectPoll(conn);
		if (state == PGRES_POLLING_FAILED)
			return PQerrorMessage(conn);
	}
	return NULL;
}

/* Asks for the page stream; NULL on success, otherwise what went wrong. */
static const char *
start_stream(TimestampTz start, bool *latch_taken)
{
	char		command[128];
	PGresult   *result;
	bool		started;

	snprintf(command, sizeof(command), "pagestream_v3 %s %s", neon_tenant_id, neon_timeline_id);
	if (PQsetnonblocking(conn, 1) != 0 || !PQsendQuery(conn, command))
		return PQerrorMessage(conn);
	while (PQflush(conn) > 0)
	{
		wait_during_handshake(WL_SOCKET_WRITEABLE, latch_taken);
		if (expired(start, CONNECT_TIMEOUT_MS))
			return "sending took too long";
	}
	while (PQisBusy(conn))
	{
		wait_during_handshake(WL_SOCKET_READABLE, latch_taken);
		if (expired(start, CONNECT_TIMEOUT_MS))
			return "the page server did not start the stream in time";
		if (!PQconsumeInput(conn))
			return PQerrorMessage(conn);
	}
	result = PQgetResult(conn);
	started = PQresultStatus(result) == PGRES_COPY_BOTH;
	PQclear(result);
	if (!started)
		return PQerrorMessage(conn)[0] != '\0' ? PQerrorMessage(conn) : "the page server did not start the stream";
	return NULL;
}

static bool
try_connect(void)
{
	TimestampTz start = GetCurrentTimestamp();
	bool		latch_taken = false;
	const char *problem;

	close_connection();
	ReserveExternalFD();
	fd_reserved = true;
	conn_pid = MyProcPid;
	conn = start_connection();
	if (conn == NULL)
		problem = "out of memory";
	else if (PQstatus(conn) == CONNECTION_BAD)
		problem = PQerrorMessage(conn);
	else
		problem = finish_handshake(start, &latch_taken);
	if (problem == NULL)
		problem = start_stream(start, &latch_taken);
	give_back_latch(latch_taken);
	if (problem != NULL)
	{
		note_failure(problem);
		close_connection();
		return false;
	}
	conn_number = ++numbers_given;
	stat_count(STAT_CONNECTS);
	return true;
}

uint32
connection_number(void)
{
	if (conn_pid != MyProcPid)
	{
		/* Inherited from a parent that used it: its socket is not ours to speak on, nor to close in an orderly way. */
		conn = NULL;
		wait_set = NULL;
		fd_reserved = false;
		conn_number = 0;
		conn_pid = MyProcPid;
		on_proc_exit(close_at_exit, 0);
	}
	return conn_number;
}

uint32
connection_ensure(void)
{
	if (connection_number() != 0 && address_version != shared_connstring_version())
		close_connection();
	while (conn_number == 0)
	{
		if (failures > neon_max_reconnect_attempts && errors_allowed())
		{
			int			count = failures;

			failures = 0;
			ereport(ERROR,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("could not reach the page server after %d attempts", count),
					 errdetail("The last attempt failed with: %s", last_failure)));
		}
		if (failures > 0)
			pause_ms(Min(PAUSE_MAX_MS, 1L << Min(failures - 1, 10)));
		if (!try_connect() && (failures == 5 || failures % 60 == 0))
			ereport(LOG, (errmsg("neon: cannot reach the page server, %d attempts so far: %s", failures, last_failure),
						  errhidestmt(true)));
	}
	return conn_number;
}

void
connection_note_success(void)
{
	failures = 0;
}

bool
connection_send(const void *bytes, int length)
{
	/* In non-blocking mode libpq takes the message into its buffer, growing it; it fails only for good. */
	if (PQputCopyData(conn, bytes, length) == 1)
		return true;
	connection_drop(PQerrorMessage(conn));
	return false;
}

bool
connection_flush(void)
{
	bool		latch_taken = false;
	int			rc;

	while ((rc = PQflush(conn)) > 0)
	{
		/* The page server may be unable to read because nobody takes its answers: take them. */
		wait_for_socket(WL_SOCKET_READABLE | WL_SOCKET_WRITEABLE, WAIT_STEP_MS, &latch_taken);
		if (!PQconsumeInput(conn))
		{
			rc = -1;
			break;
		}
	}
	give_back_latch(latch_taken);
	if (rc == 0)
		return true;
	connection_drop(PQerrorMessage(conn));
	return false;
}

static int
stream_ended(void)
{
	PGresult   *result = PQgetResult(conn);
	char		reason[256];

	strlcpy(reason, PQresultErrorMessage(result), sizeof(reason));
	PQclear(result);
	connection_drop(reason[0] != '\0' ? reason : "the page server ended the stream");
	return -1;
}

/* Why waiting on is of no use; NULL if it is. */
static const char *
reason_to_give_up(TimestampTz start, bool *logged)
{
	if (address_version != shared_connstring_version())
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
connection_receive(char **message, bool wait)
{
	TimestampTz start = 0;
	bool		latch_taken = false;
	bool		logged = false;
	const char *reason;
	int			length;

	while ((length = PQgetCopyData(conn, message, 1)) == 0)
	{
		if (wait)
		{
			if (start == 0)
				start = GetCurrentTimestamp();
			wait_for_socket(WL_SOCKET_READABLE, WAIT_STEP_MS, &latch_taken);
		}
		if (!PQconsumeInput(conn))
		{
			connection_drop(PQerrorMessage(conn));
			length = -1;
			break;
		}
		if (!wait)
		{
			length = PQgetCopyData(conn, message, 1);
			break;
		}
		reason = reason_to_give_up(start, &logged);
		if (reason != NULL)
		{
			connection_drop(reason);
			length = -1;
			break;
		}
	}
	give_back_latch(latch_taken);
	if (length < 0 && conn_number != 0)
		return stream_ended();
	return length;
}

void
connection_free_message(char *message)
{
	PQfreemem(message);
}
