/*
 * What lies in the local files, by chunks of 64 blocks of main forks: how much, when it was last written out, whether it is
 * in use. The worker (cache-worker.c) frees chunks by this; a chunk that is not in the table is never freed.
 *
 * Epochs count the worker's samples of running transactions. A block that was written out bears the epoch of that moment;
 * epoch 0: nothing in the chunk but pages that were fetched and not changed since.
 */
#ifndef NEON_CACHE_TABLE_H
#define NEON_CACHE_TABLE_H

#include "postgres.h"
#include "storage/block.h"
#include "storage/latch.h"
#include "storage/relfilenode.h"

#define CHUNK_BLOCKS 64

typedef struct CacheChunk
{
	RelFileNode node;			/* relNode 0: free */
	uint32		number;			/* block number / CHUNK_BLOCKS */
	uint64		present;		/* bit n: block n of the chunk takes disk space */
	uint64		epoch;			/* of the last write-out */
	uint8		used;			/* since the hand of the clock passed */
	uint8		pinned;			/* the worker found that it must never be freed; it does not count then */
} CacheChunk;

extern void cache_table_request_memory(void);
extern void cache_table_attach(void);

/* The data directory is there, and nothing has been read or written. */
extern void cache_table_begin(void);

/* Disk space that the chunks in the table take, and what it is to be kept below. */
extern uint64 cache_bytes(void);
extern uint64 cache_limit_bytes(void);

/* Chunks in the table, blocks in them that take disk space, and chunks that are never freed. Walks the whole table. */
extern void cache_usage(uint64 *chunks, uint64 *pages, uint64 *pinned);

/* Where the worker starts to free chunks; less than the limit, so that fetched pages can be kept meanwhile. */
extern uint64 cache_target_bytes(void);

/*
 * To be called with the file's lock held, before the block is written: the worker, which holds that lock exclusively,
 * then sees either no write, or its note.
 */
extern void cache_note_written(RelFileNode node, BlockNumber block);
extern void cache_note_kept(RelFileNode node, BlockNumber block);

/* The block was found in the local file. */
extern void cache_note_used(RelFileNode node, BlockNumber block);

/* Blocks [from, to) have left the disk, by truncation or drop. Neither fails nor allocates. */
extern void cache_note_removed(RelFileNode node, BlockNumber from, BlockNumber to);
extern void cache_note_database_removed(Oid database);

/* ---- for the worker ---- */

extern uint64 cache_epoch(void);
extern uint64 cache_epoch_advance(void);

/* Whom to wake when the target is passed. */
extern void cache_set_sleeper(Latch *latch);

/*
 * A chunk that has not been used lately and whose epoch is below `safe_epoch`. False: none was found in one round of the
 * whole table.
 */
extern bool cache_find_victim(uint64 safe_epoch, CacheChunk *victim);

/* The chunk as it is now. False: it is not in the table. */
extern bool cache_lookup(RelFileNode node, uint32 number, CacheChunk *chunk);
extern void cache_pin(RelFileNode node, uint32 number);

#endif
