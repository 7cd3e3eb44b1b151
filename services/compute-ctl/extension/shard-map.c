/*
 * Owns this process's idea of the shards: how many connection strings the address has, separated by commas, and how large a
 * stripe is. Read anew from shared memory whenever the address has changed there.
 */
#include "shard-map.h"

#include "common/hashfn.h"
#include "fmgr.h"

#include "shared-state.h"

static uint32 known_version;
static int	known_count = 1;
static uint32 known_stripe = 1;

/*
 * What follows the first connection string of a list; NULL if nothing does. A comma begins the next string when a URL or
 * `host` follows it: hosts of one string are separated by commas too, and libpq tries them one after the other.
 */
static const char *
next_part(const char *list)
{
	while ((list = strchr(list, ',')) != NULL)
	{
		do
			list++;
		while (*list == ' ');
		if (strncmp(list, "postgres://", 11) == 0 || strncmp(list, "postgresql://", 13) == 0 ||
			strncmp(list, "host", 4) == 0)
			return list;
	}
	return NULL;
}

static int
list_length(const char *list)
{
	int			length = 1;

	while (length < SHARDS_MAX && (list = next_part(list)) != NULL)
		length++;
	return length;
}

static void
refresh(void)
{
	char		list[CONNSTRING_BYTES_MAX];

	if (known_version == shared_connstring_version())
		return;
	known_version = shared_connstring_get(list, &known_stripe);
	known_count = list_length(list);
}

int
shard_count(void)
{
	refresh();
	return known_count;
}

int
shard_of_block(uint32 count, uint32 stripe_blocks, uint32 relation, uint32 block)
{
	if (count < 2)
		return 0;
	return hash_combine(murmurhash32(relation), murmurhash32(block / stripe_blocks)) % count;
}

int
shard_of_page(Oid relation, ForkNumber fork, BlockNumber block)
{
	refresh();
	if (fork > VISIBILITYMAP_FORKNUM)
		return 0;
	return shard_of_block(known_count, known_stripe, relation, block);
}

uint32
shard_address(int shard, char connstring[CONNSTRING_BYTES_MAX], char tenant[64])
{
	char		list[CONNSTRING_BYTES_MAX];
	uint32		stripe;
	uint32		version = shared_connstring_get(list, &stripe);
	int			count = list_length(list);
	const char *part = list;
	const char *end;

	if (shard >= count)
		return 0;
	for (int i = 0; i < shard; i++)
		part = next_part(part);
	strlcpy(connstring, part, CONNSTRING_BYTES_MAX);
	end = next_part(part);
	if (end != NULL)
	{
		/* Back over the spaces and the comma. */
		do
			end--;
		while (*end != ',');
		connstring[end - part] = '\0';
	}
	if (count == 1)
		strlcpy(tenant, neon_tenant_id, 64);
	else
		snprintf(tenant, 64, "%s-%02x%02x", neon_tenant_id, shard, count);
	return version;
}

/* For tests: shard_of_block(count, stripe, relation, block). */
PG_FUNCTION_INFO_V1(neon_shard_of_block);

Datum
neon_shard_of_block(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(shard_of_block(PG_GETARG_INT32(0), PG_GETARG_INT32(1), PG_GETARG_OID(2),
								   (uint32) PG_GETARG_INT64(3)));
}
