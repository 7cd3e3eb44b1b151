/*
 * Owns the shared table of chunks, and the count of the bytes they take.
 *
 * Set-associative and of fixed size, like the table of relation states: the least recently made entry of a full set makes
 * room. What is forgotten that way stays on disk untracked. `untracked_epoch` is an upper bound of the epochs of all that
 * is untracked; a new entry begins with it, since untracked blocks may lie in its chunk.
 */
#include "cache-table.h"

#include "catalog/pg_control.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "port/pg_bitutils.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "settings.h"
#include "shared-state.h"

#define WAYS 8
#define SETS 8192
#define SET_LOCKS 128
#define LOCK_TRANCHE "neon_cache_table"
#define CHUNK_BYTES ((uint64) CHUNK_BLOCKS * BLCKSZ)

typedef struct CacheShared
{
	pg_atomic_uint64 bytes;
	pg_atomic_uint64 epoch;
	pg_atomic_uint64 untracked_epoch;
	pg_atomic_uint32 sleeping;	/* 1: the worker wants to be woken */
	Latch	   *sleeper;
	uint32		hand;			/* of the clock; the worker's */
	CacheChunk	chunks[SETS][WAYS];
} CacheShared;

static CacheShared *cache;
static LWLockPadded *set_locks;

void
cache_table_request_memory(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(CacheShared)));
	RequestNamedLWLockTranche(LOCK_TRANCHE, SET_LOCKS);
}

void
cache_table_attach(void)
{
	bool		found;

	set_locks = GetNamedLWLockTranche(LOCK_TRANCHE);
	cache = ShmemInitStruct("neon cache table", sizeof(CacheShared), &found);
	if (found)
		return;
	/* New shared memory is zeros; writing them again would touch all of it at each start. */
	pg_atomic_init_u64(&cache->bytes, 0);
	pg_atomic_init_u64(&cache->epoch, 1);
	pg_atomic_init_u64(&cache->untracked_epoch, 1);
	pg_atomic_init_u32(&cache->sleeping, 0);
}

void
cache_table_begin(void)
{
	/* Files left by a server that crashed hold pages newer than the position that recovery starts from. */
	if (neon_shared->started_clean)
		pg_atomic_write_u64(&cache->untracked_epoch, 0);
}

uint64
cache_bytes(void)
{
	return pg_atomic_read_u64(&cache->bytes);
}

uint64
cache_limit_bytes(void)
{
	uint64		limit_mb = neon_file_cache_size_limit_mb;

	if (neon_max_file_cache_size_mb > 0)
		limit_mb = Min(limit_mb, (uint64) neon_max_file_cache_size_mb);
	return limit_mb * 1024 * 1024;
}

uint64
cache_target_bytes(void)
{
	uint64		limit = cache_limit_bytes();
	uint64		room = limit / 16 + CHUNK_BYTES;

	return limit > room ? limit - room : 0;
}

static uint32
set_of(RelFileNode node, uint32 number)
{
	return hash_combine(hash_bytes((const unsigned char *) &node, sizeof(node)), hash_bytes_uint32(number)) % SETS;
}

static LWLock *
lock_of(uint32 set)
{
	return &set_locks[set % SET_LOCKS].lock;
}

void
cache_usage(uint64 *chunks, uint64 *pages, uint64 *pinned)
{
	*chunks = *pages = *pinned = 0;
	for (uint32 set = 0; set < SETS; set++)
	{
		LWLockAcquire(lock_of(set), LW_SHARED);
		for (CacheChunk *chunk = cache->chunks[set]; chunk < cache->chunks[set] + WAYS; chunk++)
		{
			if (!OidIsValid(chunk->node.relNode))
				continue;
			*chunks += 1;
			*pages += pg_popcount64(chunk->present);
			*pinned += chunk->pinned;
		}
		LWLockRelease(lock_of(set));
	}
}

/* With the set's lock held. */
static CacheChunk *
find_chunk(uint32 set, RelFileNode node, uint32 number)
{
	for (CacheChunk *chunk = cache->chunks[set]; chunk < cache->chunks[set] + WAYS; chunk++)
	{
		if (chunk->number == number && RelFileNodeEquals(chunk->node, node))
			return chunk;
	}
	return NULL;
}

static void
subtract_blocks(uint64 bits)
{
	pg_atomic_fetch_sub_u64(&cache->bytes, (uint64) pg_popcount64(bits) * BLCKSZ);
}

/* With the set's exclusive lock held: the chunk stays on disk, but nobody knows. */
static void
forget_chunk(CacheChunk *chunk)
{
	uint64		seen = pg_atomic_read_u64(&cache->untracked_epoch);

	while (seen < chunk->epoch && !pg_atomic_compare_exchange_u64(&cache->untracked_epoch, &seen, chunk->epoch))
		;
	subtract_blocks(chunk->present);
	stat_count(STAT_CHUNKS_FORGOTTEN);
}

/* With the set's exclusive lock held. */
static CacheChunk *
make_chunk(uint32 set, RelFileNode node, uint32 number)
{
	CacheChunk *first = cache->chunks[set];
	CacheChunk *last = first + WAYS - 1;
	CacheChunk *chunk = first;

	while (chunk < last && OidIsValid(chunk->node.relNode))
		chunk++;
	if (OidIsValid(chunk->node.relNode))
	{
		/* The set is full. Entries stand in the order in which they were made, apart from gaps. */
		forget_chunk(first);
		memmove(first, first + 1, sizeof(CacheChunk) * (WAYS - 1));
	}
	*chunk = (CacheChunk) {
		.node = node,
		.number = number,
		.epoch = pg_atomic_read_u64(&cache->untracked_epoch),
	};
	return chunk;
}

static void
wake_sleeper(void)
{
	if (pg_atomic_read_u32(&cache->sleeping) != 0 && cache_bytes() > cache_target_bytes() &&
		pg_atomic_exchange_u32(&cache->sleeping, 0) != 0)
		SetLatch(cache->sleeper);
}

static void
note(RelFileNode node, BlockNumber block, bool written)
{
	uint32		number = block / CHUNK_BLOCKS;
	uint64		bit = UINT64CONST(1) << (block % CHUNK_BLOCKS);
	uint32		set = set_of(node, number);
	CacheChunk *chunk;

	LWLockAcquire(lock_of(set), LW_EXCLUSIVE);
	chunk = find_chunk(set, node, number);
	if (chunk == NULL)
		chunk = make_chunk(set, node, number);
	if ((chunk->present & bit) == 0 && !chunk->pinned)
	{
		pg_atomic_fetch_add_u64(&cache->bytes, BLCKSZ);
		chunk->present |= bit;
	}
	chunk->used = 1;
	if (written)
		chunk->epoch = pg_atomic_read_u64(&cache->epoch);
	LWLockRelease(lock_of(set));
	wake_sleeper();
}

void
cache_note_written(RelFileNode node, BlockNumber block)
{
	note(node, block, true);
}

void
cache_note_kept(RelFileNode node, BlockNumber block)
{
	note(node, block, false);
}

void
cache_note_used(RelFileNode node, BlockNumber block)
{
	uint32		number = block / CHUNK_BLOCKS;
	uint32		set = set_of(node, number);
	CacheChunk *chunk;

	LWLockAcquire(lock_of(set), LW_SHARED);
	chunk = find_chunk(set, node, number);
	/* A lost mark would only cost a page its second chance, so sharers may set it. */
	if (chunk != NULL && !chunk->used)
		chunk->used = 1;
	LWLockRelease(lock_of(set));
}

/* The bits of the blocks [from, to) that lie in this chunk. */
static uint64
bits_of_range(uint32 number, BlockNumber from, BlockNumber to)
{
	uint64		start = (uint64) number * CHUNK_BLOCKS;
	uint64		low = Max(start, (uint64) from) - start;
	uint64		high = Min(start + CHUNK_BLOCKS, (uint64) to) - start;
	uint64		below_high = high == CHUNK_BLOCKS ? UINT64_MAX : (UINT64CONST(1) << high) - 1;

	return below_high & ~((UINT64CONST(1) << low) - 1);
}

void
cache_note_removed(RelFileNode node, BlockNumber from, BlockNumber to)
{
	if (from >= to)
		return;
	for (uint32 number = from / CHUNK_BLOCKS; number <= (to - 1) / CHUNK_BLOCKS; number++)
	{
		uint32		set = set_of(node, number);
		CacheChunk *chunk;

		LWLockAcquire(lock_of(set), LW_EXCLUSIVE);
		chunk = find_chunk(set, node, number);
		if (chunk != NULL)
		{
			uint64		removed = chunk->present & bits_of_range(number, from, to);

			subtract_blocks(removed);
			chunk->present &= ~removed;
			if (chunk->present == 0)
				chunk->node.relNode = InvalidOid;
		}
		LWLockRelease(lock_of(set));
	}
}

void
cache_note_database_removed(Oid database)
{
	for (uint32 set = 0; set < SETS; set++)
	{
		LWLockAcquire(lock_of(set), LW_EXCLUSIVE);
		for (CacheChunk *chunk = cache->chunks[set]; chunk < cache->chunks[set] + WAYS; chunk++)
		{
			if (!OidIsValid(chunk->node.relNode) || chunk->node.dbNode != database)
				continue;
			subtract_blocks(chunk->present);
			chunk->node.relNode = InvalidOid;
		}
		LWLockRelease(lock_of(set));
	}
}

uint64
cache_epoch(void)
{
	return pg_atomic_read_u64(&cache->epoch);
}

uint64
cache_epoch_advance(void)
{
	return pg_atomic_add_fetch_u64(&cache->epoch, 1);
}

void
cache_set_sleeper(Latch *latch)
{
	cache->sleeper = latch;
	pg_memory_barrier();
	pg_atomic_write_u32(&cache->sleeping, 1);
	pg_memory_barrier();
}

/* The hand of the clock looks at one chunk, and takes its mark of use away. */
static bool
look_at(CacheChunk *chunk, uint64 safe_epoch, CacheChunk *victim)
{
	if (!OidIsValid(chunk->node.relNode) || chunk->pinned || chunk->epoch >= safe_epoch)
		return false;
	if (chunk->used)
	{
		chunk->used = 0;
		return false;
	}
	*victim = *chunk;
	return true;
}

bool
cache_find_victim(uint64 safe_epoch, CacheChunk *victim)
{
	/* One more round than sets: the first may take all marks away. */
	for (uint32 step = 0; step < 2 * SETS; step++)
	{
		uint32		set = cache->hand % SETS;
		bool		found = false;

		LWLockAcquire(lock_of(set), LW_EXCLUSIVE);
		for (int way = 0; way < WAYS && !found; way++)
			found = look_at(&cache->chunks[set][way], safe_epoch, victim);
		LWLockRelease(lock_of(set));
		if (found)
			return true;
		cache->hand++;
	}
	return false;
}

bool
cache_lookup(RelFileNode node, uint32 number, CacheChunk *chunk)
{
	uint32		set = set_of(node, number);
	CacheChunk *found;

	LWLockAcquire(lock_of(set), LW_SHARED);
	found = find_chunk(set, node, number);
	if (found != NULL)
		*chunk = *found;
	LWLockRelease(lock_of(set));
	return found != NULL;
}

void
cache_pin(RelFileNode node, uint32 number)
{
	uint32		set = set_of(node, number);
	CacheChunk *chunk;

	LWLockAcquire(lock_of(set), LW_EXCLUSIVE);
	chunk = find_chunk(set, node, number);
	if (chunk != NULL)
	{
		subtract_blocks(chunk->present);
		chunk->present = 0;
		chunk->pinned = 1;
	}
	LWLockRelease(lock_of(set));
}
