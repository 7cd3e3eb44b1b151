/*
 * Owns the estimate of the working set: HyperLogLog whose registers remember when each rank was last seen, so that one table answers
 * for every span of time.
 *
 * 1024 registers give an error of about 3 %. The hash's low 10 bits choose the register, the number of leading zeros of the rest is
 * the rank. Writers only ever raise a time; a lost race between two of them in one second changes nothing.
 */
#include "working-set.h"

#include <math.h>

#include "common/hashfn.h"
#include "fmgr.h"
#include "port/atomics.h"
#include "port/pg_bitutils.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "shared-state.h"

#define REGISTER_BITS 10
#define REGISTERS (1 << REGISTER_BITS)
#define RANKS (64 - REGISTER_BITS + 1)
#define SECOND_US INT64CONST(1000000)

typedef struct WorkingSet
{
	/* Pages seen before this second do not count; set by a reset. Seconds of the PostgreSQL epoch, as below. */
	pg_atomic_uint32 since;
	pg_atomic_uint32 last_seen[REGISTERS][RANKS];
} WorkingSet;

static WorkingSet *set;

void
working_set_request_memory(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(WorkingSet)));
}

void
working_set_attach(void)
{
	bool		found;

	set = ShmemInitStruct("neon working set", sizeof(WorkingSet), &found);
	if (!found)
		memset(set, 0, sizeof(*set));
}

static uint32
now_s(void)
{
	return (uint32) (GetCurrentTimestamp() / SECOND_US);
}

void
working_set_note(RelFileNode node, ForkNumber fork, BlockNumber block)
{
	uint64		hash = hash_bytes_extended((const unsigned char *) &node, sizeof(node), ((uint64) fork << 32) | block);
	uint64		rest = hash >> REGISTER_BITS;
	int			rank = rest == 0 ? RANKS - 1 : 63 - REGISTER_BITS - pg_leftmost_one_pos64(rest);
	pg_atomic_uint32 *seen = &set->last_seen[hash % REGISTERS][rank];
	uint32		now = now_s();

	if (pg_atomic_read_u32(seen) < now)
		pg_atomic_write_u32(seen, now);
}

/* Flajolet's estimate with linear counting for small sets. */
static double
estimate(uint32 from)
{
	const double alpha = 0.7213 / (1 + 1.079 / REGISTERS);
	double		sum = 0;
	int			empty = 0;

	for (int i = 0; i < REGISTERS; i++)
	{
		int			rank = RANKS - 1;

		while (rank >= 0 && (pg_atomic_read_u32(&set->last_seen[i][rank]) < from || pg_atomic_read_u32(&set->last_seen[i][rank]) == 0))
			rank--;
		empty += rank < 0;
		sum += ldexp(1.0, -(rank + 1));
	}
	if (empty > 0 && alpha * REGISTERS * REGISTERS / sum < 2.5 * REGISTERS)
		return REGISTERS * log((double) REGISTERS / empty);
	return alpha * REGISTERS * REGISTERS / sum;
}

PG_FUNCTION_INFO_V1(neon_working_set_size_seconds);

Datum
neon_working_set_size_seconds(PG_FUNCTION_ARGS)
{
	uint32		from;

	require_active();
	from = pg_atomic_read_u32(&set->since);
	if (!PG_ARGISNULL(0))
	{
		int32		seconds = PG_GETARG_INT32(0);
		uint32		now = now_s();

		if (seconds < 0)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a span of time cannot be negative")));
		from = Max(from, now - Min((uint32) seconds, now));
	}
	PG_RETURN_INT32((int32) rint(estimate(from)));
}

PG_FUNCTION_INFO_V1(neon_working_set_size);

Datum
neon_working_set_size(PG_FUNCTION_ARGS)
{
	int32		pages;

	require_active();
	pages = (int32) rint(estimate(pg_atomic_read_u32(&set->since)));
	/* From the next second on: what was seen in this one is part of the answer already. */
	if (PG_GETARG_BOOL(0))
		pg_atomic_write_u32(&set->since, now_s() + 1);
	PG_RETURN_INT32(pages);
}
