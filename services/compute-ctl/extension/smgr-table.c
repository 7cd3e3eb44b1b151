/*
 * Owns the replacement of the server's storage manager table.
 *
 * smgrsw[] is a private constant of the server, in its read-only-after-relocation (RELRO) data. All the functions it
 * points to are exported, so it can be found by its contents: the exact sequence of pointers occurs once in the
 * executable's writable segments. Anything but exactly one occurrence means this is not the server we know.
 * The work is done once, in the postmaster, before any child is forked.
 */
#include "smgr-table.h"

#include <dlfcn.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/md.h"
#include "utils/guc.h"

SmgrTable	md;

/* The executable's data that the loader made read-only after relocation. */
static uintptr_t relro_start;
static uintptr_t relro_end;

typedef struct TableScan
{
	const SmgrTable *wanted;
	void	   *found;
	int			found_count;
	bool		code_readable;
	int			unknown_count;
	int			known_count;
	char		unknown[1024];
} TableScan;

static void
scan_data(TableScan *scan, uintptr_t start, uintptr_t end)
{
	const void *first = (const void *) scan->wanted->init;

	start = TYPEALIGN(sizeof(void *), start);
	for (uintptr_t at = start; at + sizeof(SmgrTable) <= end; at += sizeof(void *))
	{
		if (*(void *const *) at == first && memcmp((void *) at, scan->wanted, sizeof(SmgrTable)) == 0)
		{
			scan->found = (void *) at;
			scan->found_count++;
		}
	}
}

static int
scan_executable(struct dl_phdr_info *info, size_t size, void *arg)
{
	TableScan  *scan = arg;

	/* The main program is the first object listed, and the one without a name. */
	for (int i = 0; i < info->dlpi_phnum; i++)
	{
		const		ElfW(Phdr) *header = &info->dlpi_phdr[i];
		uintptr_t	start = info->dlpi_addr + header->p_vaddr;
		uintptr_t	end = start + header->p_memsz;

		if (header->p_type == PT_GNU_RELRO)
		{
			relro_start = start;
			relro_end = end;
		}
		if (header->p_type != PT_LOAD || !(header->p_flags & PF_R))
			continue;
		if (header->p_flags & PF_W)
			scan_data(scan, start, end);
		if (header->p_flags & PF_X)
		{
			int			count = smgr_audit_code((const unsigned char *) start, (const unsigned char *) end, scan->wanted,
												scan->unknown, sizeof(scan->unknown), &scan->known_count);

			if (count < 0)
				scan->code_readable = false;
			else
				scan->unknown_count += count;
		}
	}
	return 1;
}

/* Minor releases share an ABI except for this table; the one difference so far shows in an exported function. */
static void
check_server_version(void)
{
	int			running = atoi(GetConfigOption("server_version_num", false, false));
	bool		running_has_old_blocks = dlsym(RTLD_DEFAULT, "smgrtruncate2") != NULL;
#ifdef NEON_TRUNCATE_HAS_OLD_BLOCKS
	bool		built_with_old_blocks = true;
#else
	bool		built_with_old_blocks = false;
#endif

	if (running / 10000 != PG_VERSION_NUM / 10000 || running_has_old_blocks != built_with_old_blocks)
		ereport(FATAL,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("neon: built for PostgreSQL %d, this server is %d and its storage manager table differs",
						PG_VERSION_NUM, running),
				 errhint("Build the extension against this server's headers (postgresql-server-dev-15).")));
}

void
patch_read_only_data(void *address, const void *bytes, size_t length)
{
	uintptr_t	page = sysconf(_SC_PAGESIZE);
	uintptr_t	start = (uintptr_t) address & ~(page - 1);
	uintptr_t	end = ((uintptr_t) address + length + page - 1) & ~(page - 1);

	if ((uintptr_t) address < relro_start || (uintptr_t) address + length > relro_end)
	{
		/* A server linked without RELRO: plain data, whose page must stay writable for its neighbours. */
		memcpy(address, bytes, length);
		return;
	}
	if (mprotect((void *) start, end - start, PROT_READ | PROT_WRITE) != 0)
		ereport(FATAL, (errmsg("neon: could not make the server's constants writable: %m")));
	memcpy(address, bytes, length);
	if (mprotect((void *) start, end - start, PROT_READ) != 0)
		ereport(FATAL, (errmsg("neon: could not protect the server's constants again: %m")));
}

void
smgr_table_install(const SmgrTable *replacement)
{
	TableScan	scan = {0};
	SmgrTable	wanted = {
		.init = mdinit,
		.open = mdopen,
		.close = mdclose,
		.create = mdcreate,
		.exists = mdexists,
		.unlink = mdunlink,
		.extend = mdextend,
		.prefetch = mdprefetch,
		.read = mdread,
		.write = mdwrite,
		.writeback = mdwriteback,
		.nblocks = mdnblocks,
		.truncate = mdtruncate,
		.immedsync = mdimmedsync,
	};
	const char *hint = "Use a PostgreSQL 15 server package this extension was tested with, or start without it.";

	check_server_version();
	scan.wanted = &wanted;
	scan.code_readable = true;
	dl_iterate_phdr(scan_executable, &scan);

	if (scan.found_count != 1)
		ereport(FATAL,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("neon: found the server's storage manager table %d times, need exactly one", scan.found_count),
				 errhint("%s", hint)));
	if (!scan.code_readable)
		ereport(FATAL,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("neon: cannot check this processor's code for calls that avoid the storage manager table")));
	if (scan.unknown_count > 0)
		ereport(FATAL,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("neon: this server calls the disk storage manager behind its table:%s", scan.unknown),
				 errhint("%s", hint)));

	memcpy(&md, scan.found, sizeof(md));
	patch_read_only_data(scan.found, replacement, sizeof(*replacement));
	ereport(LOG,
			(errmsg("neon: replaced the storage manager table (%d known direct calls beside it)", scan.known_count)));
}
