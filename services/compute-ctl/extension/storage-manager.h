/* The storage manager that takes md's place. */
#ifndef NEON_STORAGE_MANAGER_H
#define NEON_STORAGE_MANAGER_H

#include "smgr-table.h"

extern const SmgrTable neon_storage_manager;

/* Length of a database's relations in the default tablespace, asked of the page server as of now. */
extern int64 storage_database_bytes(Oid database);

#endif
