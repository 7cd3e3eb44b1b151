/*
 * A background worker that puts files which WAL does not describe into WAL: the state of logical replication slots, and the snapshots and
 * mappings that they need. Each goes out whole, as a logical message of no database with prefix "neon-file:<path>", when it is new or has
 * changed; an empty message says that it is gone. The page server keeps them for the next compute.
 *
 * Order: a slot's state is read first and written last, so that what it refers to is always there before it. Slots change at most once a
 * second while they stream; what was confirmed since the last look only means that a bit more is decoded again after a crash.
 *
 * Memory: path and hash of the content of each file, lost with the worker. A new worker writes everything once more; a file that went
 * away while no worker ran stays in storage.
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "replication/message.h"
#include "replication/slot.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "aux-files.h"

#define PREFIX "neon-file:"
#define PATH_BYTES_MAX 256
#define POLL_MS 500
/* Larger files are left out with a warning: the compute of the next start would lack them. */
#define FILE_BYTES_MAX (16 * 1024 * 1024)
#define FILE_COUNT_MAX 20000

/* ReplicationSlotOnDisk: 16 bytes before the slot's persistent data. */
#define SLOT_DATA_AT 16

typedef struct KnownFile
{
	char		path[PATH_BYTES_MAX];
	uint64		hash;
	off_t		size;
	bool		seen;
	bool		warned;
} KnownFile;

PGDLLEXPORT void neon_aux_files_main(Datum argument);

static HTAB *known_files;
static bool anything_logged;
static bool warned_of_count;
static XLogRecPtr last_message_lsn;

static void
log_file(const char *path, const char *content, size_t length)
{
	char		prefix[sizeof(PREFIX) + PATH_BYTES_MAX];

	snprintf(prefix, sizeof(prefix), PREFIX "%s", path);
	last_message_lsn = LogLogicalMessage(prefix, content, length, false);
	anything_logged = true;
}

/* The whole file in palloc'd memory; NULL when it is not there, cannot be read, or is too large. */
static char *
read_whole(const char *path, size_t *length, bool *too_large)
{
	struct stat status;
	char	   *content;
	ssize_t		got;
	int			fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);

	*too_large = false;
	if (fd < 0)
		return NULL;
	if (fstat(fd, &status) != 0 || status.st_size > FILE_BYTES_MAX)
	{
		*too_large = status.st_size > FILE_BYTES_MAX;
		CloseTransientFile(fd);
		return NULL;
	}
	content = palloc(status.st_size + 1);
	got = read(fd, content, status.st_size);
	CloseTransientFile(fd);
	if (got != status.st_size)
	{
		pfree(content);
		return NULL;
	}
	*length = status.st_size;
	return content;
}

/* Logs the file if it is new or another than before. */
static void
keep_content(const char *path, const char *content, size_t length)
{
	bool		found;
	uint64		hash = hash_bytes_extended((const unsigned char *) content, length, 0);
	KnownFile  *file = hash_search(known_files, path, HASH_ENTER, &found);

	if (!found)
		file->warned = false;
	file->seen = true;
	if (found && file->hash == hash && file->size == length)
		return;
	file->hash = hash;
	file->size = length;
	log_file(path, content, length);
}

/* Says once that a file is too large; size -1 stands for "not in storage". */
static void
refuse_file(const char *path)
{
	bool		found;
	KnownFile  *file = hash_search(known_files, path, HASH_ENTER, &found);

	if (!found || !file->warned)
		ereport(WARNING, (errmsg("neon: \"%s\" is too large to be kept for the next compute", path)));
	if (found && file->size >= 0)
		log_file(path, "", 0);
	file->warned = file->seen = true;
	file->size = -1;
}

/* Told from what it was by its size: such files are written whole, once, or appended to. */
static void
keep_file(const char *path)
{
	struct stat status;
	size_t		length;
	bool		too_large;
	char	   *content;
	KnownFile  *file = hash_search(known_files, path, HASH_FIND, NULL);

	if (file != NULL && stat(path, &status) == 0 && status.st_size == file->size)
	{
		file->seen = true;
		return;
	}
	content = read_whole(path, &length, &too_large);
	if (content == NULL)
	{
		if (too_large)
			refuse_file(path);
		return;
	}
	if (file == NULL && hash_get_num_entries(known_files) >= FILE_COUNT_MAX)
	{
		if (!warned_of_count)
			ereport(WARNING, (errmsg("neon: more than %d files of logical replication slots are not kept", FILE_COUNT_MAX)));
		warned_of_count = true;
	}
	else if (length > 0)
		keep_content(path, content, length);
	pfree(content);
}

static void
keep_directory(const char *directory)
{
	struct dirent *entry;
	DIR		   *dir = AllocateDir(directory);

	if (dir == NULL)
		return;
	while ((entry = ReadDirExtended(dir, directory, LOG)) != NULL)
	{
		char		path[PATH_BYTES_MAX];
		size_t		length = strlen(entry->d_name);

		if (entry->d_name[0] == '.' || (length > 4 && strcmp(entry->d_name + length - 4, ".tmp") == 0))
			continue;
		if (snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name) < sizeof(path))
			keep_file(path);
	}
	FreeDir(dir);
}

typedef struct SlotState
{
	char		path[PATH_BYTES_MAX];
	char	   *content;
	size_t		length;
} SlotState;

/* Persistent logical slots, as their files have them now. */
static List *
read_slots(void)
{
	List	   *slots = NIL;
	struct dirent *entry;
	DIR		   *dir = AllocateDir("pg_replslot");

	if (dir == NULL)
		return NIL;
	while ((entry = ReadDirExtended(dir, "pg_replslot", LOG)) != NULL)
	{
		ReplicationSlotPersistentData data;
		SlotState  *slot = palloc(sizeof(SlotState));
		size_t		length = strlen(entry->d_name);
		bool		too_large;

		if (entry->d_name[0] == '.' || (length > 4 && strcmp(entry->d_name + length - 4, ".tmp") == 0))
			continue;
		if (snprintf(slot->path, sizeof(slot->path), "pg_replslot/%s/state", entry->d_name) >= sizeof(slot->path))
			continue;
		slot->content = read_whole(slot->path, &slot->length, &too_large);
		if (slot->content == NULL || slot->length < SLOT_DATA_AT + sizeof(data))
			continue;
		memcpy(&data, slot->content + SLOT_DATA_AT, sizeof(data));
		if (data.database != InvalidOid && data.persistency == RS_PERSISTENT)
			slots = lappend(slots, slot);
	}
	FreeDir(dir);
	return slots;
}

/* Slots first: when one is gone for storage, so may be what it needed. */
static void
forget_missing(bool slots)
{
	HASH_SEQ_STATUS scan;
	KnownFile  *file;

	hash_seq_init(&scan, known_files);
	while ((file = hash_seq_search(&scan)) != NULL)
	{
		bool		is_slot = strncmp(file->path, "pg_replslot/", 12) == 0;

		if (file->seen || is_slot != slots)
			continue;
		if (file->size >= 0)
			log_file(file->path, "", 0);
		hash_search(known_files, file->path, HASH_REMOVE, NULL);
	}
}

static void
keep_all(void)
{
	HASH_SEQ_STATUS scan;
	KnownFile  *file;
	ListCell   *cell;
	List	   *slots = read_slots();

	anything_logged = false;
	if (slots == NIL && hash_get_num_entries(known_files) == 0)
		return;
	hash_seq_init(&scan, known_files);
	while ((file = hash_seq_search(&scan)) != NULL)
		file->seen = false;
	if (slots != NIL)
	{
		keep_directory("pg_logical/snapshots");
		keep_directory("pg_logical/mappings");
	}
	foreach(cell, slots)
	{
		SlotState  *slot = lfirst(cell);

		keep_content(slot->path, slot->content, slot->length);
	}
	forget_missing(true);
	forget_missing(false);
	if (anything_logged)
		XLogFlush(last_message_lsn);
}

void
neon_aux_files_main(Datum argument)
{
	HASHCTL		control = {.keysize = PATH_BYTES_MAX, .entrysize = sizeof(KnownFile)};
	MemoryContext round;

	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	known_files = hash_create("neon auxiliary files", 256, &control, HASH_ELEM | HASH_STRINGS);
	round = AllocSetContextCreate(TopMemoryContext, "neon auxiliary files", ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		/* A last look after the order to stop: backends are gone or going, and the shutdown checkpoint comes later. */
		bool		last = ShutdownRequestPending;

		MemoryContextSwitchTo(round);
		keep_all();
		MemoryContextSwitchTo(TopMemoryContext);
		MemoryContextReset(round);
		if (last)
			proc_exit(0);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, POLL_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

void
aux_files_install(void)
{
	BackgroundWorker worker = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = 1,
	};

	/* Without logical decoding there is nothing to keep. */
	if (wal_level < WAL_LEVEL_LOGICAL)
		return;
	snprintf(worker.bgw_name, BGW_MAXLEN, "neon auxiliary files");
	snprintf(worker.bgw_type, BGW_MAXLEN, "neon auxiliary files");
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "neon");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "neon_aux_files_main");
	RegisterBackgroundWorker(&worker);
}
