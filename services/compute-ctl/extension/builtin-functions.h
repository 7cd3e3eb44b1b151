/* Built-in SQL functions that look at relation files themselves, replaced or refused. */
#ifndef NEON_BUILTIN_FUNCTIONS_H
#define NEON_BUILTIN_FUNCTIONS_H

#include "postgres.h"
#include "fmgr.h"

/* Makes the built-in function of that C name do something else. FATAL unless the server has exactly one such function. */
extern void builtin_function_replace(const char *name, PGFunction function);

/* size-functions.c: pg_relation_size() and its kin count blocks by the storage manager. */
extern void size_functions_install(void);

/* backup-guard.c: a copy of this server's files is no backup. */
extern void backup_guard_install(void);

#endif
