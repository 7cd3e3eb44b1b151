/* Which page server holds which pages: the shards of the tenant, as neon.pageserver_connstring and neon.stripe_size say. */
#ifndef NEON_SHARD_MAP_H
#define NEON_SHARD_MAP_H

#include "postgres.h"
#include "common/relpath.h"
#include "storage/block.h"

#include "settings.h"

/* Two hex digits in a shard's name. */
#define SHARDS_MAX 255

/*
 * The shard to ask for a block; the map may change between two calls. What is no block of a main fork, free space map or
 * visibility map is with shard 0.
 */
extern int	shard_of_page(Oid relation, ForkNumber fork, BlockNumber block);

/* The same by numbers alone; the page servers compute it in services/shared/core/shard.ts. `count` 0 or 1: no shards. */
extern int	shard_of_block(uint32 count, uint32 stripe_blocks, uint32 relation, uint32 block);

/* How many shards there are: 1 for a tenant that is not split. */
extern int	shard_count(void);

/*
 * The connection string of a shard, and the name under which its page server knows the tenant. Returns the version of the
 * address, 0 if there is no such shard any more.
 */
extern uint32 shard_address(int shard, char connstring[CONNSTRING_BYTES_MAX], char tenant[64]);

#endif
