/*
 * Owns the SQL functions that tell sizes. The server's own look at the length of the files, which here says nothing.
 *
 * Semantics are those of the documentation: a relation's size by fork; a table's with its forks and its TOAST table; the
 * indexes of a table; both together; a database. NULL for an object that does not exist.
 */
#include "builtin-functions.h"

#include "access/relation.h"
#include "catalog/index.h"
#include "catalog/pg_authid_d.h"
#include "catalog/pg_class.h"
#include "commands/dbcommands.h"
#include "common/relpath.h"
#include "miscadmin.h"
#include "storage/smgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#include "storage-manager.h"

static int64
fork_bytes(Relation relation, ForkNumber fork)
{
	if (!RELKIND_HAS_STORAGE(relation->rd_rel->relkind) || !smgrexists(RelationGetSmgr(relation), fork))
		return 0;
	return (int64) smgrnblocks(RelationGetSmgr(relation), fork) * BLCKSZ;
}

static int64
all_forks_bytes(Relation relation)
{
	int64		bytes = 0;

	for (ForkNumber fork = 0; fork <= MAX_FORKNUM; fork++)
		bytes += fork_bytes(relation, fork);
	return bytes;
}

static int64
indexes_bytes(Relation relation)
{
	int64		bytes = 0;
	List	   *indexes;
	ListCell   *cell;

	if (!relation->rd_rel->relhasindex)
		return 0;
	indexes = RelationGetIndexList(relation);
	foreach(cell, indexes)
	{
		Relation	index = relation_open(lfirst_oid(cell), AccessShareLock);

		bytes += all_forks_bytes(index);
		relation_close(index, AccessShareLock);
	}
	list_free(indexes);
	return bytes;
}

static int64
table_bytes(Relation relation)
{
	int64		bytes = all_forks_bytes(relation);

	if (OidIsValid(relation->rd_rel->reltoastrelid))
	{
		Relation	toast = relation_open(relation->rd_rel->reltoastrelid, AccessShareLock);

		bytes += all_forks_bytes(toast) + indexes_bytes(toast);
		relation_close(toast, AccessShareLock);
	}
	return bytes;
}

typedef int64 (*RelationMeasure) (Relation relation);

static Datum
measure_relation(FunctionCallInfo fcinfo, RelationMeasure measure)
{
	Relation	relation = try_relation_open(PG_GETARG_OID(0), AccessShareLock);
	int64		bytes;

	if (relation == NULL)
		PG_RETURN_NULL();
	bytes = measure(relation);
	relation_close(relation, AccessShareLock);
	PG_RETURN_INT64(bytes);
}

static int64
total_bytes(Relation relation)
{
	return table_bytes(relation) + indexes_bytes(relation);
}

static Datum
neon_relation_size(PG_FUNCTION_ARGS)
{
	ForkNumber	fork = forkname_to_number(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	Relation	relation = try_relation_open(PG_GETARG_OID(0), AccessShareLock);
	int64		bytes;

	if (relation == NULL)
		PG_RETURN_NULL();
	bytes = fork_bytes(relation, fork);
	relation_close(relation, AccessShareLock);
	PG_RETURN_INT64(bytes);
}

static Datum
neon_table_size(PG_FUNCTION_ARGS)
{
	return measure_relation(fcinfo, table_bytes);
}

static Datum
neon_indexes_size(PG_FUNCTION_ARGS)
{
	return measure_relation(fcinfo, indexes_bytes);
}

static Datum
neon_total_relation_size(PG_FUNCTION_ARGS)
{
	return measure_relation(fcinfo, total_bytes);
}

/* Whoever may connect to a database, or reads statistics, may know its size. */
static int64
database_bytes(Oid database)
{
	AclResult	allowed = pg_database_aclcheck(database, GetUserId(), ACL_CONNECT);

	if (allowed != ACLCHECK_OK && !has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS))
		aclcheck_error(allowed, OBJECT_DATABASE, get_database_name(database));
	return storage_database_bytes(database);
}

static Datum
neon_database_size_oid(PG_FUNCTION_ARGS)
{
	int64		bytes = database_bytes(PG_GETARG_OID(0));

	if (bytes == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(bytes);
}

static Datum
neon_database_size_name(PG_FUNCTION_ARGS)
{
	int64		bytes = database_bytes(get_database_oid(NameStr(*PG_GETARG_NAME(0)), false));

	if (bytes == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(bytes);
}

void
size_functions_install(void)
{
	builtin_function_replace("pg_relation_size", neon_relation_size);
	builtin_function_replace("pg_table_size", neon_table_size);
	builtin_function_replace("pg_indexes_size", neon_indexes_size);
	builtin_function_replace("pg_total_relation_size", neon_total_relation_size);
	builtin_function_replace("pg_database_size_oid", neon_database_size_oid);
	builtin_function_replace("pg_database_size_name", neon_database_size_name);
}
