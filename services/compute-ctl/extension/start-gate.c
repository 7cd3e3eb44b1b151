/*
 * Owns the waiting of a server that is started before anybody knows what for.
 *
 * Linking the server and setting up its shared memory takes longer than all that storage does for the start of a compute, and
 * needs no data. So compute_ctl starts it in an empty directory, with a configuration that is maybe a guess, a pg_control that
 * fits the server but leads nowhere, and NEON_START_GATE_FD, the number of its end of a pair of sockets. It waits there for
 *
 *   'c'   postgresql.conf is another: it is read again. If it changes what memory or processes were laid out by, the server
 *         ends, and another must be started; else it answers 'k' and waits on.
 *   'd'   the data directory is complete: it goes on.
 *
 * The end of the stream without that, as when compute_ctl dies, ends the server.
 *
 * Of the data directory the server has used PG_VERSION and pg_control by then, and of that only sizes and versions count,
 * which must not change; the copy in shared memory, with which recovery begins, is replaced.
 */
#include "start-gate.h"

#include <unistd.h>

#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "postmaster/postmaster.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
#include "utils/pidfile.h"
#include "utils/timestamp.h"

#define GATE_VARIABLE "NEON_START_GATE_FD"
#define NEW_CONFIGURATION 'c'
#define KEPT 'k'
#define DATA_IS_THERE 'd'
/* The name under which access/transam/xlog.c has it. */
#define CONTROL_FILE "Control File"

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
take_configuration(int gate)
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

static void
await_data(int gate)
{
	for (;;)
	{
		char		byte = 0;
		ssize_t		length = read(gate, &byte, 1);

		if (length < 0 && errno == EINTR)
			continue;
		if (length == 1 && byte == DATA_IS_THERE)
			return;
		if (length != 1 || byte != NEW_CONFIGURATION)
			ereport(FATAL,
					(errcode(ERRCODE_ADMIN_SHUTDOWN),
					 errmsg("neon: the start was given up before the data directory was there")));
		take_configuration(gate);
	}
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

static void
take_control_file(void)
{
	bool		crc_ok;
	bool		found;
	ControlFileData *arrived = get_controlfile(DataDir, &crc_ok);
	ControlFileData *used = ShmemInitStruct(CONTROL_FILE, sizeof(ControlFileData), &found);

	if (!found)
		ereport(FATAL, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("neon: this server keeps its control file elsewhere")));
	if (!crc_ok)
		ereport(FATAL, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("neon: the checksum of pg_control is wrong")));
	if (!sizes_agree(arrived, used))
		ereport(FATAL,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("neon: the data directory is not of the kind that this server was started for")));
	*used = *arrived;
	pfree(arrived);
}

void
start_gate_pass(void)
{
	const char *gate = getenv(GATE_VARIABLE);

	if (gate == NULL)
		return;
	await_data(atoi(gate));
	close(atoi(gate));
	/* Once: a server that sets up its memory again after a crash has nobody to wait for. */
	unsetenv(GATE_VARIABLE);
	take_control_file();
	/* What pg_postmaster_start_time() says. */
	PgStartTime = GetCurrentTimestamp();
}
