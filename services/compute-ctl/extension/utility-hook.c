/*
 * Owns what happens to utility statements that would work on files rather than on pages.
 *
 *   CREATE DATABASE ... STRATEGY file_copy   is run with wal_log, which copies pages; a notice says so
 *   ALTER DATABASE ... SET TABLESPACE        refused: it moves files
 *   CREATE TABLESPACE                        refused: a directory of this machine is gone with the compute
 *   DROP DATABASE                            what was known of its relations is forgotten
 *
 * And what happens after statements that copy the pages of sequences: CREATE DATABASE and ALTER ... SET LOGGED. nextval()
 * logs values ahead of time and notes in the page how many of them are left. The copy keeps that note, while WAL has only
 * the value that was reached: nextval() on the copy writes no WAL, and after a start from WAL hands the same values out
 * again. A plain server is safe unless it crashes before the next checkpoint, since nextval() logs first on a page that is
 * older than the last checkpoint. A compute starts from WAL every time: so these statements end with a checkpoint.
 */
#include "utility-hook.h"

#include "postgres.h"
#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/tablespace.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "postmaster/bgwriter.h"
#include "tcop/utility.h"

#include "relation-state.h"
#include "settings.h"
#include "wal-position.h"

static ProcessUtility_hook_type previous_hook;

static DefElem *
find_option(List *options, const char *name)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, name) == 0)
			return option;
	}
	return NULL;
}

/* Returns the statement to run instead, which is the same one if nothing needs to change. */
static PlannedStmt *
rewrite_create_database(PlannedStmt *planned, bool read_only_tree)
{
	DefElem    *strategy = find_option(castNode(CreatedbStmt, planned->utilityStmt)->options, "strategy");

	if (strategy == NULL || strategy->arg == NULL || pg_strcasecmp(defGetString(strategy), "file_copy") != 0)
		return planned;
	if (read_only_tree)
	{
		planned = copyObject(planned);
		strategy = find_option(castNode(CreatedbStmt, planned->utilityStmt)->options, "strategy");
	}
	strategy->arg = (Node *) makeString(pstrdup("wal_log"));
	ereport(NOTICE, (errmsg("using strategy wal_log: there are no files that file_copy could copy")));
	return planned;
}

static void
refuse_alter_database(AlterDatabaseStmt *statement)
{
	if (find_option(statement->options, "tablespace") != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("ALTER DATABASE SET TABLESPACE is not possible with remote storage"),
				 errhint("All relations are stored by the page server; tablespaces do not place them.")));
}

static void
refuse_create_tablespace(void)
{
	if (!neon_regress_test_mode && !allow_in_place_tablespaces)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("CREATE TABLESPACE is not possible with remote storage"),
				 errdetail("A directory of this machine is lost together with the compute."),
				 errhint("All relations are stored by the page server; tablespaces do not place them.")));
}

static bool
copies_sequences(Node *statement)
{
	ListCell   *cell;

	if (IsA(statement, CreatedbStmt))
		return true;
	if (!IsA(statement, AlterTableStmt))
		return false;
	foreach(cell, ((AlterTableStmt *) statement)->cmds)
	{
		if (lfirst_node(AlterTableCmd, cell)->subtype == AT_SetLogged)
			return true;
	}
	return false;
}

static void
neon_utility(PlannedStmt *planned, const char *query, bool read_only_tree, ProcessUtilityContext context,
			 ParamListInfo params, QueryEnvironment *environment, DestReceiver *destination, QueryCompletion *completion)
{
	Oid			dropped_database = InvalidOid;

	switch (nodeTag(planned->utilityStmt))
	{
		case T_CreatedbStmt:
			planned = rewrite_create_database(planned, read_only_tree);
			break;
		case T_AlterDatabaseStmt:
			refuse_alter_database(castNode(AlterDatabaseStmt, planned->utilityStmt));
			break;
		case T_CreateTableSpaceStmt:
			refuse_create_tablespace();
			break;
		case T_DropdbStmt:
			dropped_database = get_database_oid(castNode(DropdbStmt, planned->utilityStmt)->dbname, true);
			break;
		default:
			break;
	}
	(previous_hook ? previous_hook : standard_ProcessUtility) (planned, query, read_only_tree, context, params,
															   environment, destination, completion);
	if (OidIsValid(dropped_database))
		relation_state_database_dropped(dropped_database, current_position());
	/* Nobody else can use the copies before this transaction commits. */
	if (copies_sequences(planned->utilityStmt))
		RequestCheckpoint(CHECKPOINT_IMMEDIATE | CHECKPOINT_FORCE | CHECKPOINT_WAIT);
}

void
utility_hook_install(void)
{
	previous_hook = ProcessUtility_hook;
	ProcessUtility_hook = neon_utility;
}
