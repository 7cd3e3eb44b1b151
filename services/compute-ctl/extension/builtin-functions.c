/*
 * Owns the replacement of built-in SQL functions.
 *
 * The server calls its built-in functions through an exported constant array, in the same read-only data as the storage
 * manager table. Their catalog entries, and so permissions, argument types and documentation, stay what they are.
 */
#include "builtin-functions.h"

#include "utils/fmgrtab.h"

#include "smgr-table.h"

void
builtin_function_replace(const char *name, PGFunction function)
{
	const FmgrBuiltin *found = NULL;
	int			count = 0;

	for (int i = 0; i < fmgr_nbuiltins; i++)
	{
		if (strcmp(fmgr_builtins[i].funcName, name) == 0)
		{
			found = &fmgr_builtins[i];
			count++;
		}
	}
	if (count != 1)
		ereport(FATAL,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("neon: this server has %d built-in functions named %s, need exactly one", count, name)));
	patch_read_only_data((void *) &found->func, &function, sizeof(function));
}
