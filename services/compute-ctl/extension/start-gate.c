/*
 * Owns the waiting of a server that is started before anybody knows what for.
 *
 * Linking the server, setting up its shared memory and starting its first processes takes longer than all that storage does
 * for the start of a compute, and needs no data. So compute_ctl starts it in an empty directory, with a configuration that is
 * maybe a guess, a pg_control that fits the server but leads nowhere, and NEON_START_GATE_FD, the number of its end of a pair
 * of sockets. There are two gates. The postmaster waits, when it has shared memory and neither sockets nor children, for
 *
 *   'g'   its configuration was no guess: it goes on.
 *   'c'   postgresql.conf is another: it is read again. If it changes what memory or processes were laid out by, the server
 *         ends, and another must be started; else it answers 'k' and goes on.
 *
 * The startup process waits, before it looks at the data directory, for
 *
 *   'd'   the data directory is complete: recovery begins.
 *
 * Nothing calls us in the startup process before recovery but its first message, which says when the system was shut down.
 * That message is of the pg_control that leads nowhere, and never seen. A server that keeps such messages to itself has the
 * postmaster wait at both gates.
 *
 * The end of the stream without that, as when compute_ctl dies, ends the server.
 *
 * Of the data directory the server has used PG_VERSION, pg_control and the configuration by then, and of pg_control only sizes
 * and versions count, which must not change; the copy in shared memory, with which recovery begins, is replaced.
 */
#include "start-gate.h"

#include <fcntl.h>
#include <unistd.h>

#include "access/xlog_internal.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "postmaster/postmaster.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
#include "utils/pidfile.h"
#include "utils/timestamp.h"

#define GATE_VARIABLE "NEON_START_GATE_FD"
#define CONFIGURATION_IS_FINAL 'g'
#define NEW_CONFIGURATION 'c'
#define KEPT 'k'
#define DATA_IS_THERE 'd'
/* The name under which access/transam/xlog.c has it. */
#define CONTROL_FILE "Control File"

/* -1: there is nothing to wait for. The postmaster keeps its own, since it does not learn when the startup process has passed. */
static int	gate = -1;
static void (*on_data) (void);
static emit_log_hook_type previous_log_hook;

/* Parameters fixed at the start of which nothing was derived yet: sockets are made later, names are only names. */
static const char *const free_to_change[] = {
	"listen_addresses",
	"neon.branch_id",
	"neon.endpoint_id",
	"neon.project_id",
	"neon.safekeepers",
	"neon.tenant_id",
	"neon.timeline_id",
	"port",
	"unix_socket_directories",
};

static bool
is_free_to_change(const char *name)
{
	for (int i = 0; i < lengthof(free_to_change); i++)
	{
		if (strcmp(name, free_to_change[i]) == 0)
			return true;
	}
	return false;
}

/* The other parameters that are fixed at the start, as text: name=value, one a line. */
static char *
fixed_parameters(void)
{
	StringInfoData text;
	struct config_generic **parameters = get_guc_variables();

	initStringInfo(&text);
	for (int i = 0; i < GetNumConfigOptions(); i++)
	{
		const char *name = parameters[i]->name;

		if (parameters[i]->context == PGC_POSTMASTER && !is_free_to_change(name))
			appendStringInfo(&text, "%s=%s\n", name, GetConfigOption(name, true, false));
	}
	return text.data;
}

static void
take_configuration(void)
{
	char		port[16];
	char		answer = KEPT;
	char	   *before = fixed_parameters();
	char	   *after;

	ProcessConfigFile(PGC_POSTMASTER);
	after = fixed_parameters();
	if (strcmp(before, after) != 0)
		ereport(FATAL,
				(errcode(ERRCODE_CANT_CHANGE_RUNTIME_PARAM),
				 errmsg("neon: this configuration needs a server that is started with it")));
	pfree(before);
	pfree(after);
	/* It had been written with another one. */
	snprintf(port, sizeof(port), "%d", PostPortNumber);
	AddToDataDirLockFile(LOCK_FILE_LINE_PORT, port);
	if (write(gate, &answer, 1) != 1)
		ereport(FATAL, (errcode_for_socket_access(), errmsg("neon: could not answer at the start: %m")));
}

static char
await_byte(void)
{
	char		byte = 0;
	ssize_t		length;

	do
		length = read(gate, &byte, 1);
	while (length < 0 && errno == EINTR);
	if (length != 1)
		ereport(FATAL,
				(errcode(ERRCODE_ADMIN_SHUTDOWN),
				 errmsg("neon: the start was given up before the data directory was there")));
	return byte;
}

static void
refuse_byte(char byte)
{
	ereport(FATAL, (errcode(ERRCODE_PROTOCOL_VIOLATION), errmsg("neon: got a \"%c\" at the start", byte)));
}

static void
leave_gate(void)
{
	close(gate);
	gate = -1;
}

/* What the server derived its settings from when it read the file before. */
static bool
sizes_agree(const ControlFileData *a, const ControlFileData *b)
{
	return a->pg_control_version == b->pg_control_version &&
		a->catalog_version_no == b->catalog_version_no &&
		a->maxAlign == b->maxAlign &&
		a->floatFormat == b->floatFormat &&
		a->blcksz == b->blcksz &&
		a->relseg_size == b->relseg_size &&
		a->xlog_blcksz == b->xlog_blcksz &&
		a->xlog_seg_size == b->xlog_seg_size &&
		a->nameDataLen == b->nameDataLen &&
		a->indexMaxKeys == b->indexMaxKeys &&
		a->toast_max_chunk_size == b->toast_max_chunk_size &&
		a->loblksize == b->loblksize &&
		a->float8ByVal == b->float8ByVal &&
		a->data_checksum_version == b->data_checksum_version;
}

/* In the postmaster, or in a process that has its PGPROC: looking it up takes a lock. */
static ControlFileData *
control_file_in_memory(void)
{
	bool		found;
	ControlFileData *used = ShmemInitStruct(CONTROL_FILE, sizeof(ControlFileData), &found);

	if (!found)
		ereport(FATAL, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("neon: this server keeps its control file elsewhere")));
	return used;
}

/* So that the startup process finds nothing wrong with it before it says its first word. */
static void
have_control_file_pass(void)
{
	ControlFileData *used = control_file_in_memory();

	used->state = DB_SHUTDOWNED;
	used->checkPoint = SizeOfXLogLongPHD;
}

static void
take_control_file(void)
{
	bool		crc_ok;
	ControlFileData *arrived = get_controlfile(DataDir, &crc_ok);
	ControlFileData *used = control_file_in_memory();

	if (!crc_ok)
		ereport(FATAL, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("neon: the checksum of pg_control is wrong")));
	if (!sizes_agree(arrived, used))
		ereport(FATAL,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("neon: the data directory is not of the kind that this server was started for")));
	*used = *arrived;
	pfree(arrived);
}

static void
await_data(void)
{
	char		byte = await_byte();

	if (byte != DATA_IS_THERE)
		refuse_byte(byte);
	leave_gate();
	take_control_file();
}

static void
at_message(ErrorData *message)
{
	/* What goes wrong while it waits is a message, too. */
	static bool waits = false;

	if (gate >= 0 && !waits && AmStartupProcess() && MyProc != NULL)
	{
		waits = true;
		message->output_to_server = false;
		await_data();
		on_data();
	}
	else if (previous_log_hook)
		previous_log_hook(message);
}

/* See errstart() of utils/error/elog.c. */
static bool
startup_process_talks(void)
{
	return log_min_messages <= ERROR || log_min_messages == LOG;
}

bool
start_gate_pass(void (*when_data_is_there) (void))
{
	const char *number = getenv(GATE_VARIABLE);
	char		byte;

	/* Memory is set up again after a crash, and nobody is there to wait for. */
	if (gate >= 0)
		leave_gate();
	if (number == NULL)
		return false;
	gate = atoi(number);
	unsetenv(GATE_VARIABLE);
	if (fcntl(gate, F_SETFD, FD_CLOEXEC) != 0)
		ereport(FATAL, (errcode_for_socket_access(), errmsg("neon: there is no gate %d: %m", gate)));
	byte = await_byte();
	if (byte == NEW_CONFIGURATION)
		take_configuration();
	else if (byte != CONFIGURATION_IS_FINAL)
		refuse_byte(byte);
	/* What pg_postmaster_start_time() says. */
	PgStartTime = GetCurrentTimestamp();
	if (!startup_process_talks())
	{
		await_data();
		return false;
	}
	on_data = when_data_is_there;
	have_control_file_pass();
	previous_log_hook = emit_log_hook;
	emit_log_hook = at_message;
	return true;
}
