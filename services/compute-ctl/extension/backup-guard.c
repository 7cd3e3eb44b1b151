/*
 * Owns the refusal of file-level backups through SQL: the relation files here are mostly holes, so a copy of them would
 * restore to an empty or corrupt database. The replication command BASE_BACKUP passes no hook of the server and cannot be
 * refused here; see README.md.
 */
#include "builtin-functions.h"

static Datum
refuse_backup(PG_FUNCTION_ARGS)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("this server's data files cannot be backed up by copying them"),
			 errdetail("Its relations are stored by the page server, and the local files hold only a part of them."),
			 errhint("Make a branch or a snapshot of the timeline, or use pg_dump.")));
	PG_RETURN_NULL();
}

void
backup_guard_install(void)
{
	builtin_function_replace("pg_backup_start", refuse_backup);
}
