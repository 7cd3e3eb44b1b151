/*
 * The extension's entry point: puts the parts in place, once, in the postmaster.
 *
 * With the page server's parameters unset the server stays a plain one and nothing of it is touched.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "fmgr.h"
#include "miscadmin.h"

#include "aux-files.h"
#include "backpressure.h"
#include "builtin-functions.h"
#include "cache-worker.h"
#include "feedback-file.h"
#include "replica.h"
#include "settings.h"
#include "shared-state.h"
#include "smgr-table.h"
#include "storage-manager.h"
#include "utility-hook.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

/* Relations created or rewritten in a transaction would skip WAL, which is all the page server ever learns. */
static void
check_wal_level(void)
{
	if (wal_level < WAL_LEVEL_REPLICA)
		ereport(FATAL,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("neon: wal_level must be \"replica\" or higher, since storage lives on WAL alone")));
}

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("neon must be loaded at server start"),
				 errhint("Add neon to shared_preload_libraries and restart the server.")));
	settings_define();
	if (!settings_active())
	{
		ereport(LOG, (errmsg("neon: no page server is configured, this is a plain server")));
		return;
	}
	check_wal_level();
	smgr_table_install(&neon_storage_manager);
	size_functions_install();
	backup_guard_install();
	replica_install();
	utility_hook_install();
	feedback_file_map();
	backpressure_install();
	shared_state_install();
	cache_worker_install();
	/* What a primary keeps in files of its own, a replica gets from there. */
	if (neon_compute_mode == MODE_PRIMARY)
		aux_files_install();
}
