/*
 * Owns the file `neon.first-pages` in the data directory, which compute_ctl brings while the server starts: what the page server
 * would answer to the questions that each start of a compute asks. A first session needs some 170 pages of catalogs, each of
 * them after the one before, which takes longer than all that the server does itself.
 *
 *   0    u32  magic
 *   4    u32  format, 1
 *   8    u64  the WAL position that all below is as of
 *   16   u32  number of lengths
 *   20   u32  number of pages
 *   24   u32  CRC-32C of everything from 32 on
 *   32   places, 20 bytes each, ascending: u32 tablespace, database, relation, fork, then
 *        - for each length its blocks,
 *        - for each page its block number, these ascending as well
 *   the next multiple of 8192: the pages, in the same order
 *
 * All numbers are little-endian (this machine's). The file is a cache of answers: one is used exactly when an answer of the
 * page server as of that position would be, that is if nothing happened to the relation after it and the block is absent from
 * the local file. So it is never written, and need not be told of changes. It is there whole or not at all; each process
 * looks for it when it needs a page and does not have it yet. A file that is damaged is ignored.
 */
#include "first-pages.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "port/pg_crc32c.h"
#include "utils/timestamp.h"

#include "settings.h"
#include "shared-state.h"

#define FILE_NAME "neon.first-pages"
#define MAGIC 0x4e465031
#define FORMAT 1
#define COUNT_MAX 65536
/* After the server got its data; compute_ctl does not try for longer. */
#define COMES_WITHIN_US INT64CONST(6000000)

typedef struct Place
{
	uint32		spc;
	uint32		db;
	uint32		rel;
	uint32		fork;
	uint32		number;			/* length or block */
} Place;

typedef struct FirstPages
{
	uint32		magic;
	uint32		format;
	uint64		as_of;
	uint32		length_count;
	uint32		page_count;
	uint32		crc;
	uint32		unused;
	Place		places[FLEXIBLE_ARRAY_MEMBER];
} FirstPages;

StaticAssertDecl(offsetof(FirstPages, places) == 32, "compute_ctl writes here");
StaticAssertDecl(sizeof(Place) == 20, "compute_ctl writes here");

enum
{
	VERDICT_NONE,
	VERDICT_GOOD,
	VERDICT_DAMAGED
};

/* NULL: not there yet, or never. */
static const FirstPages *first;
static const char *pages;
static bool is_given_up;

static size_t
pages_offset(const FirstPages *file)
{
	size_t		places = offsetof(FirstPages, places) + ((size_t) file->length_count + file->page_count) * sizeof(Place);

	return TYPEALIGN(BLCKSZ, places);
}

static bool
is_whole(const FirstPages *file, size_t size)
{
	pg_crc32c	crc;

	if (size < sizeof(FirstPages) || file->magic != MAGIC || file->format != FORMAT ||
		file->length_count > COUNT_MAX || file->page_count > COUNT_MAX ||
		size != pages_offset(file) + (size_t) file->page_count * BLCKSZ)
		return false;
	INIT_CRC32C(crc);
	COMP_CRC32C(crc, file->places, size - offsetof(FirstPages, places));
	FIN_CRC32C(crc);
	return EQ_CRC32C(crc, file->crc);
}

/* The first process that maps the file checks it for all. */
static bool
is_good(const FirstPages *file, size_t size)
{
	uint32		verdict = pg_atomic_read_u32(&neon_shared->first_pages);

	if (verdict == VERDICT_NONE)
	{
		verdict = is_whole(file, size) ? VERDICT_GOOD : VERDICT_DAMAGED;
		if (verdict == VERDICT_DAMAGED)
			ereport(LOG, (errmsg("neon: ignoring file \"%s\", which is damaged", FILE_NAME), errhidestmt(true)));
		pg_atomic_write_u32(&neon_shared->first_pages, verdict);
	}
	return verdict == VERDICT_GOOD;
}

static void
map_file(int file)
{
	struct stat st;
	void	   *mapped = MAP_FAILED;

	if (fstat(file, &st) == 0 && st.st_size >= sizeof(FirstPages))
		mapped = mmap(NULL, st.st_size, PROT_READ, MAP_SHARED, file, 0);
	if (mapped == MAP_FAILED)
		return;
	if (!is_good(mapped, st.st_size))
	{
		munmap(mapped, st.st_size);
		return;
	}
	first = mapped;
	pages = (const char *) mapped + pages_offset(first);
}

/* Whether there is something to look into. */
static bool
is_there(void)
{
	int			file;

	if (first != NULL || is_given_up)
		return first != NULL;
	if (neon_compute_mode != MODE_PRIMARY || neon_shared == NULL)
		is_given_up = true;
	else if ((file = open(FILE_NAME, O_RDONLY | PG_BINARY)) >= 0)
	{
		map_file(file);
		close(file);
		is_given_up = first == NULL;
	}
	else
		is_given_up = GetCurrentTimestamp() > neon_shared->data_since + COMES_WITHIN_US;
	return first != NULL;
}

static int
compare_relation(const Place *place, RelFileNode node, ForkNumber fork)
{
	if (place->spc != node.spcNode)
		return place->spc < node.spcNode ? -1 : 1;
	if (place->db != node.dbNode)
		return place->db < node.dbNode ? -1 : 1;
	if (place->rel != node.relNode)
		return place->rel < node.relNode ? -1 : 1;
	if (place->fork != (uint32) fork)
		return place->fork < (uint32) fork ? -1 : 1;
	return 0;
}

/* The first of `count` places that is not before the wanted one; `count` if there is none. */
static uint32
lower_bound(const Place *places, uint32 count, RelFileNode node, ForkNumber fork, uint32 number)
{
	uint32		low = 0;

	while (count > 0)
	{
		uint32		half = count / 2;
		const Place *middle = &places[low + half];
		int			order = compare_relation(middle, node, fork);

		if (order < 0 || (order == 0 && middle->number < number))
		{
			low += half + 1;
			count -= half + 1;
		}
		else
			count = half;
	}
	return low;
}

bool
first_pages_blocks(RelFileNode node, ForkNumber fork, XLogRecPtr not_modified_since, BlockNumber *blocks)
{
	uint32		at;

	if (!is_there() || not_modified_since > first->as_of)
		return false;
	at = lower_bound(first->places, first->length_count, node, fork, 0);
	if (at == first->length_count || compare_relation(&first->places[at], node, fork) != 0)
		return false;
	*blocks = first->places[at].number;
	return true;
}

const char *
first_pages_find(RelFileNode node, ForkNumber fork, BlockNumber block, XLogRecPtr not_modified_since)
{
	const Place *places;
	uint32		at;

	if (!is_there() || not_modified_since > first->as_of)
		return NULL;
	places = first->places + first->length_count;
	at = lower_bound(places, first->page_count, node, fork, block);
	if (at == first->page_count || compare_relation(&places[at], node, fork) != 0 || places[at].number != block)
		return NULL;
	return pages + (size_t) at * BLCKSZ;
}
