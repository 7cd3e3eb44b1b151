/*
 * Owns the configuration parameters `neon.*`.
 *
 * Names, levels and defaults follow the deployments that this extension must serve unchanged, so some parameters are
 * accepted only so that their specs load: each of those says in its description who reads it, or that nothing does.
 */
#include "settings.h"

#include <limits.h>

#include "shared-state.h"
#include "utils/guc.h"

char	   *neon_tenant_id;
char	   *neon_timeline_id;
char	   *neon_pageserver_connstring;
int			neon_max_reconnect_attempts = 60;
int			neon_stripe_size = 2048;
int			neon_readahead_buffer_size = 128;
int			neon_flush_output_after = 8;
int			neon_file_cache_size_limit_mb = 1024;
int			neon_max_file_cache_size_mb = 0;
int			neon_relsize_hash_size = 65536;
int			neon_response_log_timeout_ms = 10000;
int			neon_response_disconnect_timeout_ms = 150000;
bool		neon_file_cache_free_written = true;
bool		neon_regress_test_mode = false;
int			neon_max_replication_write_lag_mb = 500;
int			neon_max_replication_flush_lag_mb = 10240;
int			neon_max_replication_apply_lag_mb = -1;

/* Values that only other programs read. */
static char *unread_strings[16];
static int	unread_ints[40];
static bool unread_bools[12];

int			neon_compute_mode = MODE_PRIMARY;
static int	running_xacts_policy = 0;
static int	debug_compare_local = 0;

static const struct config_enum_entry compute_modes[] = {
	{"primary", MODE_PRIMARY, false}, {"replica", MODE_REPLICA, false}, {"static", MODE_STATIC, false}, {NULL, 0, false}
};
static const struct config_enum_entry running_xacts_policies[] = {
	{"ignore", 0, false}, {"skip", 1, false}, {"wait", 2, false}, {NULL, 0, false}
};
static const struct config_enum_entry compare_local_modes[] = {
	{"none", 0, false}, {"prefetch", 1, false}, {"lfc", 2, false}, {"all", 3, false}, {NULL, 0, false}
};

static bool
check_connstring(char **value, void **extra, GucSource source)
{
	if (*value != NULL && strlen(*value) >= CONNSTRING_BYTES_MAX)
	{
		GUC_check_errdetail("The connection string must be shorter than %d bytes.", CONNSTRING_BYTES_MAX);
		return false;
	}
	return true;
}

/* A new address must reach backends in the middle of a query, that wait for the old one: hand it over in shared memory. */
static void
assign_connstring(const char *value, void *extra)
{
	shared_connstring_set(value);
}

static void
assign_stripe_size(int value, void *extra)
{
	shared_stripe_set(value);
}

static bool
check_hex_id(char **value, void **extra, GucSource source)
{
	const char *text = *value;

	if (text == NULL || text[0] == '\0')
		return true;
	if (strlen(text) != 32 || strspn(text, "0123456789abcdefABCDEF") != 32)
	{
		GUC_check_errdetail("It must be 32 hexadecimal digits.");
		return false;
	}
	return true;
}

static void
define_int(const char *name, const char *description, int *variable, int initial, int minimum, int maximum,
		   GucContext context, int flags)
{
	DefineCustomIntVariable(name, description, NULL, variable, initial, minimum, maximum, context, flags, NULL, NULL, NULL);
}

static void
define_string(const char *name, const char *description, char **variable, const char *initial, GucContext context,
			  GucStringCheckHook check, GucStringAssignHook assign)
{
	DefineCustomStringVariable(name, description, NULL, variable, initial, context, 0, check, assign, NULL);
}

static void
define_bool(const char *name, const char *description, bool *variable, bool initial, GucContext context)
{
	DefineCustomBoolVariable(name, description, NULL, variable, initial, context, 0, NULL, NULL, NULL);
}

static void
define_used(void)
{
	define_string("neon.tenant_id", "Tenant whose storage this server runs on.", &neon_tenant_id, "", PGC_POSTMASTER,
				  check_hex_id, NULL);
	define_string("neon.timeline_id", "Timeline this server runs on.", &neon_timeline_id, "", PGC_POSTMASTER,
				  check_hex_id, NULL);
	/* Before the address: when both change, the address that is handed over last comes with its stripe. */
	DefineCustomIntVariable("neon.stripe_size", "Neighbouring blocks of a relation that lie on one shard.", NULL,
							&neon_stripe_size, 2048, 1, INT_MAX, PGC_SIGHUP, GUC_UNIT_BLOCKS, NULL, assign_stripe_size, NULL);
	define_string("neon.pageserver_connstring", "libpq connection string or URL of the page server; a comma-separated list for shards.",
				  &neon_pageserver_connstring, "", PGC_SIGHUP, check_connstring, assign_connstring);
	define_int("neon.max_reconnect_attempts", "Failed attempts to reach the page server before a statement fails.",
			   &neon_max_reconnect_attempts, 60, 0, INT_MAX, PGC_USERSET, 0);
	define_int("neon.readahead_buffer_size", "Pages a backend may have requested ahead of their use.",
			   &neon_readahead_buffer_size, 128, 16, 1024, PGC_USERSET, 0);
	define_int("neon.flush_output_after", "Prefetch requests collected before they are sent.",
			   &neon_flush_output_after, 8, 1, 1024, PGC_USERSET, 0);
	define_int("neon.file_cache_size_limit", "Local disk space for pages, beyond those that running transactions may need.",
			   &neon_file_cache_size_limit_mb, 1024, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_MB);
	define_int("neon.max_file_cache_size", "Upper bound of neon.file_cache_size_limit; 0 sets none.",
			   &neon_max_file_cache_size_mb, 0, 0, INT_MAX, PGC_POSTMASTER, GUC_UNIT_MB);
	define_bool("neon.file_cache_free_written", "Free local pages that this compute wrote, once storage can give them back.",
				&neon_file_cache_free_written, true, PGC_SIGHUP);
	define_int("neon.relsize_hash_size", "Relations whose sizes are remembered in shared memory.",
			   &neon_relsize_hash_size, 65536, 64, 16 * 1024 * 1024, PGC_POSTMASTER, 0);
	define_int("neon.pageserver_response_log_timeout", "Log when the page server has not answered for this long.",
			   &neon_response_log_timeout_ms, 10000, 100, INT_MAX, PGC_SUSET, GUC_UNIT_MS);
	define_int("neon.pageserver_response_disconnect_timeout",
			   "Connect anew when the page server has not answered for this long.",
			   &neon_response_disconnect_timeout_ms, 150000, 1000, INT_MAX, PGC_SUSET, GUC_UNIT_MS);
	define_bool("neon.regress_test_mode", "Allow CREATE TABLESPACE, for PostgreSQL's own regression tests.",
				&neon_regress_test_mode, false, PGC_SUSET);
}

/*
 * A statement sees a new value of a parameter only when it is over, which would be too late for one that waits at a limit: hand it over
 * in shared memory. The hooks run before their variable is assigned.
 */
static void
assign_write_lag(int value, void *extra)
{
	neon_max_replication_write_lag_mb = value;
	shared_lag_limits_set();
}

static void
assign_flush_lag(int value, void *extra)
{
	neon_max_replication_flush_lag_mb = value;
	shared_lag_limits_set();
}

static void
assign_apply_lag(int value, void *extra)
{
	neon_max_replication_apply_lag_mb = value;
	shared_lag_limits_set();
}

static void
define_lag(const char *name, const char *description, int *variable, int initial, GucIntAssignHook assign)
{
	DefineCustomIntVariable(name, description, "0 or less sets no limit.", variable, initial, -1, INT_MAX, PGC_SIGHUP,
							GUC_UNIT_MB, NULL, assign, NULL);
}

/* How far the page server may be behind before writers wait. */
static void
define_backpressure(void)
{
	define_lag("neon.max_replication_write_lag", "WAL that the page server may not have received before writers wait.",
			   &neon_max_replication_write_lag_mb, 500, assign_write_lag);
	define_lag("neon.max_replication_flush_lag", "WAL that the page server may not have on disk before writers wait.",
			   &neon_max_replication_flush_lag_mb, 10240, assign_flush_lag);
	define_lag("neon.max_replication_apply_lag",
			   "WAL that the page server's object store may not have before writers wait.",
			   &neon_max_replication_apply_lag_mb, -1, assign_apply_lag);
}

/* Read by the compute's supervisor from its spec, not by the server; kept visible to SHOW. */
static void
define_for_supervisor(void)
{
	static const struct
	{
		const char *name;
		GucContext	context;
	}			strings[] = {
		{"neon.safekeepers", PGC_SIGHUP}, {"neon.safekeeper_conninfo_options", PGC_POSTMASTER},
		{"neon.project_id", PGC_POSTMASTER}, {"neon.branch_id", PGC_POSTMASTER}, {"neon.endpoint_id", PGC_POSTMASTER},
		{"neon.console_url", PGC_POSTMASTER}, {"neon.privileged_role_name", PGC_POSTMASTER},
		{"neon.unstable_extensions", PGC_SUSET}, {"neon.file_cache_path", PGC_POSTMASTER},
	};

	StaticAssertStmt(lengthof(strings) <= lengthof(unread_strings), "room for each string");
	for (size_t i = 0; i < lengthof(strings); i++)
		define_string(strings[i].name, "For the compute's supervisor; the server does not read it.", &unread_strings[i],
					  strcmp(strings[i].name, "neon.privileged_role_name") == 0 ? "neon_superuser" : "",
					  strings[i].context, NULL, NULL);
}

/* Accepted so that existing specs load. No part of this system acts on them. */
static void
define_without_effect(void)
{
	static const char *const description = "Accepted for compatibility; without effect.";
	static const struct
	{
		const char *name;
		int			initial;
		int			minimum;
		GucContext	context;
		int			flags;
	}			ints[] = {
		{"neon.max_cluster_size", -1, -1, PGC_SIGHUP, GUC_UNIT_MB},
		{"neon.protocol_version", 3, 2, PGC_SU_BACKEND, 0},
		{"neon.readahead_getpage_pull_timeout", 50, 0, PGC_USERSET, GUC_UNIT_MS},
		{"neon.file_cache_chunk_size", 128, 1, PGC_POSTMASTER, GUC_UNIT_BLOCKS},
		{"neon.file_cache_prewarm_limit", INT_MAX, 0, PGC_SIGHUP, 0},
		{"neon.file_cache_prewarm_batch", 64, 1, PGC_SIGHUP, 0},
		{"neon.last_written_lsn_cache_size", 131072, 0, PGC_POSTMASTER, 0},
		{"neon.safekeeper_reconnect_timeout", 1000, 0, PGC_SIGHUP, GUC_UNIT_MS},
		{"neon.safekeeper_connect_timeout", 10000, 0, PGC_SIGHUP, GUC_UNIT_MS},
		{"neon.safekeeper_proto_version", 3, 2, PGC_POSTMASTER, 0},
		{"neon.logical_replication_max_snap_files", 10000, -1, PGC_SIGHUP, 0},
		{"neon.logical_replication_max_logicalsnapdir_size", 8000, -1, PGC_SIGHUP, GUC_UNIT_KB},
		{"neon.pgstat_file_size_limit", 0, 0, PGC_SIGHUP, GUC_UNIT_KB},
		{"neon.extension_server_port", 0, 0, PGC_POSTMASTER, 0},
		{"neon.extension_server_request_timeout", 60, 0, PGC_SUSET, GUC_UNIT_S},
		{"neon.extension_server_connect_timeout", 60, 0, PGC_SUSET, GUC_UNIT_S},
	};
	static const struct
	{
		const char *name;
		bool		initial;
		GucContext	context;
	}			bools[] = {
		{"neon.store_prefetch_result_in_lfc", false, PGC_SUSET}, {"neon.prewarm_update_ws_estimation", true, PGC_SUSET},
		{"neon.disable_logical_replication_subscribers", false, PGC_SIGHUP},
		{"neon.disable_wal_prevlink_checks", false, PGC_SIGHUP}, {"neon.monitor_query_exec_time", false, PGC_USERSET},
		{"neon.allow_replica_misconfig", true, PGC_POSTMASTER}, {"neon.event_triggers", true, PGC_USERSET},
		{"neon.forward_ddl", true, PGC_SUSET}, {"neon.allow_unstable_extensions", false, PGC_USERSET},
		{"neon.lakebase_mode", false, PGC_POSTMASTER},
	};

	StaticAssertStmt(lengthof(ints) <= lengthof(unread_ints), "room for each int");
	StaticAssertStmt(lengthof(bools) <= lengthof(unread_bools), "room for each bool");
	for (size_t i = 0; i < lengthof(ints); i++)
		define_int(ints[i].name, description, &unread_ints[i], ints[i].initial, ints[i].minimum, INT_MAX,
				   ints[i].context, ints[i].flags);
	for (size_t i = 0; i < lengthof(bools); i++)
		define_bool(bools[i].name, description, &unread_bools[i], bools[i].initial, bools[i].context);
	DefineCustomEnumVariable("neon.running_xacts_overflow_policy", description, NULL, &running_xacts_policy, 0,
							 running_xacts_policies, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("neon.debug_compare_local", description, NULL, &debug_compare_local, 0,
							 compare_local_modes, PGC_POSTMASTER, 0, NULL, NULL, NULL);
}

void
settings_define(void)
{
	define_used();
	define_backpressure();
	DefineCustomEnumVariable("neon.compute_mode", "Whether this server writes, follows one that does, or stays at one position.", NULL,
							 &neon_compute_mode, MODE_PRIMARY, compute_modes, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	define_for_supervisor();
	define_without_effect();
	MarkGUCPrefixReserved("neon");
}

bool
settings_active(void)
{
	const char *names[] = {"neon.tenant_id", "neon.timeline_id", "neon.pageserver_connstring"};
	const char *values[] = {neon_tenant_id, neon_timeline_id, neon_pageserver_connstring};
	int			given = 0;

	for (int i = 0; i < lengthof(values); i++)
		given += values[i] != NULL && values[i][0] != '\0';
	if (given == 0)
		return false;
	for (int i = 0; i < lengthof(values); i++)
	{
		if (values[i] == NULL || values[i][0] == '\0')
			ereport(FATAL,
					(errcode(ERRCODE_CONFIG_FILE_ERROR),
					 errmsg("%s is not set, but other parameters of the page server are", names[i]),
					 errhint("Set neon.tenant_id, neon.timeline_id and neon.pageserver_connstring, or none of them.")));
	}
	return true;
}
