/*
 * Owns the shared cache of relation states.
 *
 * A set-associative table: a relation's hash names a set of WAYS entries, of which the least recently used makes room.
 * So memory is fixed, nothing is allocated or can fail at run time (truncation runs in a critical section), and each
 * operation holds one lock for a scan of one set.
 *
 * It is only a cache. What an entry said can be found out again: a fork's length is the larger of what the page server
 * says and the local file's length, since each extension lengthens the local file; a fork created here is one that has a
 * local file and is unknown to the page server, or unlogged. For that the page server's answer must not predate the
 * relation's last truncation or drop, so an entry that is forgotten raises the shared `forgotten_lsn`, from which new
 * entries start.
 */
#include "relation-state.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "cache-table.h"
#include "local-file.h"
#include "settings.h"
#include "shared-state.h"

#define WAYS 8
#define SET_LOCKS 128
#define LOCK_TRANCHE "neon_relation_state"
#define FORKS (MAX_FORKNUM + 1)

typedef struct RelationEntry
{
	RelFileNode node;			/* relNode 0: free */
	pg_atomic_uint32 last_used; /* the clock's reading at the last use */
	uint8		state[FORKS];	/* ForkState */
	BlockNumber blocks[FORKS];	/* of FORK_REMOTE and FORK_LOCAL */
	XLogRecPtr	event_lsn;		/* last creation, truncation or drop of any fork, or freeing of written pages */
} RelationEntry;

static RelationEntry *entries;
static LWLockPadded *set_locks;

/* Counts insertions: the coarse clock of "least recently used", so that a hit seldom writes to shared memory. */
static pg_atomic_uint32 *insertion_clock;

static uint32
set_count(void)
{
	return Max(1, neon_relsize_hash_size / WAYS);
}

static Size
table_bytes(void)
{
	return mul_size(mul_size(set_count(), WAYS), sizeof(RelationEntry));
}

void
relation_state_request_memory(void)
{
	RequestAddinShmemSpace(add_size(table_bytes(), MAXALIGN(sizeof(pg_atomic_uint32))));
	RequestNamedLWLockTranche(LOCK_TRANCHE, SET_LOCKS);
}

void
relation_state_attach(void)
{
	bool		found;

	set_locks = GetNamedLWLockTranche(LOCK_TRANCHE);
	insertion_clock = ShmemInitStruct("neon relation clock", sizeof(pg_atomic_uint32), &found);
	if (!found)
		pg_atomic_init_u32(insertion_clock, 1);
	entries = ShmemInitStruct("neon relation state", table_bytes(), &found);
	/* New shared memory is zeros, which is an empty table; writing them again would touch all of it at each start. */
}

static uint32
set_of(RelFileNode node)
{
	return hash_bytes((const unsigned char *) &node, sizeof(node)) % set_count();
}

static LWLock *
lock_of(uint32 set)
{
	return &set_locks[set % SET_LOCKS].lock;
}

/* With the set's lock held. */
static RelationEntry *
find_entry(uint32 set, RelFileNode node)
{
	RelationEntry *first = &entries[(Size) set * WAYS];

	for (int i = 0; i < WAYS; i++)
	{
		if (RelFileNodeEquals(first[i].node, node))
		{
			uint32		now = pg_atomic_read_u32(insertion_clock);

			if (pg_atomic_read_u32(&first[i].last_used) != now)
				pg_atomic_write_u32(&first[i].last_used, now);
			return &first[i];
		}
	}
	return NULL;
}

static void
raise_forgotten_lsn(XLogRecPtr lsn)
{
	uint64		seen = pg_atomic_read_u64(&neon_shared->forgotten_lsn);

	while (seen < lsn && !pg_atomic_compare_exchange_u64(&neon_shared->forgotten_lsn, &seen, lsn))
		;
}

/* With the set's exclusive lock held. */
static void
forget_entry(RelationEntry *entry)
{
	raise_forgotten_lsn(entry->event_lsn);
	entry->node.relNode = InvalidOid;
}

/* With the set's exclusive lock held. */
static RelationEntry *
find_or_make_entry(uint32 set, RelFileNode node)
{
	RelationEntry *entry = find_entry(set, node);
	RelationEntry *victim = &entries[(Size) set * WAYS];
	uint32		now = pg_atomic_read_u32(insertion_clock);

	if (entry != NULL)
		return entry;
	for (entry = victim; entry < &entries[((Size) set + 1) * WAYS]; entry++)
	{
		if (!OidIsValid(entry->node.relNode))
		{
			victim = entry;
			break;
		}
		/* Differences, so that the clock may wrap. */
		if (now - pg_atomic_read_u32(&entry->last_used) > now - pg_atomic_read_u32(&victim->last_used))
			victim = entry;
	}
	if (OidIsValid(victim->node.relNode))
		forget_entry(victim);

	victim->node = node;
	victim->event_lsn = pg_atomic_read_u64(&neon_shared->forgotten_lsn);
	for (int fork = 0; fork < FORKS; fork++)
	{
		victim->state[fork] = FORK_UNKNOWN;
		victim->blocks[fork] = 0;
	}
	pg_atomic_write_u32(&victim->last_used, pg_atomic_add_fetch_u32(insertion_clock, 1));
	return victim;
}

static void
fill_info(const RelationEntry *entry, ForkNumber fork, ForkInfo *info)
{
	info->state = entry->state[fork];
	info->blocks = entry->blocks[fork];
	info->not_modified_since = entry->event_lsn;
}

bool
relation_state_lookup(RelFileNode node, ForkNumber fork, ForkInfo *info)
{
	uint32		set = set_of(node);
	RelationEntry *entry;

	LWLockAcquire(lock_of(set), LW_SHARED);
	entry = find_entry(set, node);
	if (entry != NULL)
		fill_info(entry, fork, info);
	else
	{
		info->state = FORK_UNKNOWN;
		info->blocks = 0;
		info->not_modified_since = pg_atomic_read_u64(&neon_shared->forgotten_lsn);
	}
	LWLockRelease(lock_of(set));
	return info->state != FORK_UNKNOWN;
}

bool
relation_state_learn(SMgrRelation reln, ForkNumber fork, ForkState state, BlockNumber remote_blocks,
					 XLogRecPtr asked_at, ForkInfo *info)
{
	RelFileNode node = reln->smgr_rnode.node;
	uint32		set = set_of(node);
	RelationEntry *entry;
	bool		current;

	LWLockAcquire(lock_of(set), LW_EXCLUSIVE);
	entry = find_or_make_entry(set, node);
	current = entry->event_lsn <= asked_at;
	if (entry->state[fork] == FORK_UNKNOWN && current)
	{
		/*
		 * Measured under the lock: whoever lengthens the file afterwards finds the entry and raises it, whoever did so
		 * before is seen in the length.
		 */
		entry->blocks[fork] = state == FORK_ABSENT ? 0 : Max(remote_blocks, local_file_blocks(reln, fork));
		entry->state[fork] = state;
	}
	fill_info(entry, fork, info);
	LWLockRelease(lock_of(set));
	return info->state != FORK_UNKNOWN;
}

void
relation_state_created(RelFileNode node, ForkNumber fork, XLogRecPtr lsn)
{
	uint32		set = set_of(node);
	RelationEntry *entry;

	LWLockAcquire(lock_of(set), LW_EXCLUSIVE);
	entry = find_or_make_entry(set, node);
	entry->state[fork] = FORK_LOCAL;
	entry->blocks[fork] = 0;
	entry->event_lsn = Max(entry->event_lsn, lsn);
	LWLockRelease(lock_of(set));
}

void
relation_state_freed(RelFileNode node, ForkNumber fork, XLogRecPtr lsn)
{
	uint32		set = set_of(node);
	RelationEntry *entry;

	LWLockAcquire(lock_of(set), LW_EXCLUSIVE);
	entry = find_or_make_entry(set, node);
	if (entry->state[fork] == FORK_LOCAL)
		entry->state[fork] = FORK_REMOTE;
	entry->event_lsn = Max(entry->event_lsn, lsn);
	LWLockRelease(lock_of(set));
}

/* Redo makes a file for every fork it touches; whether it had been there before is not said. */
void
relation_state_found_in_redo(RelFileNode node, ForkNumber fork)
{
	uint32		set = set_of(node);
	RelationEntry *entry;

	LWLockAcquire(lock_of(set), LW_EXCLUSIVE);
	entry = find_entry(set, node);
	if (entry != NULL && entry->state[fork] == FORK_ABSENT)
		entry->state[fork] = FORK_UNKNOWN;
	LWLockRelease(lock_of(set));
}

void
relation_state_extended(RelFileNode node, ForkNumber fork, BlockNumber blocks)
{
	uint32		set = set_of(node);
	RelationEntry *entry;

	LWLockAcquire(lock_of(set), LW_EXCLUSIVE);
	entry = find_entry(set, node);
	/* An unknown length needs no note: whoever finds it out looks at the local file. */
	if (entry != NULL && (entry->state[fork] == FORK_LOCAL || entry->state[fork] == FORK_REMOTE))
		entry->blocks[fork] = Max(entry->blocks[fork], blocks);
	LWLockRelease(lock_of(set));
}

void
relation_state_truncated(RelFileNode node, ForkNumber fork, BlockNumber blocks, XLogRecPtr lsn)
{
	uint32		set = set_of(node);
	RelationEntry *entry;

	LWLockAcquire(lock_of(set), LW_EXCLUSIVE);
	entry = find_or_make_entry(set, node);
	/* What is unknown stays so: it will be found out as of this truncation, from the page server and the cut local file. */
	if (entry->state[fork] == FORK_LOCAL || entry->state[fork] == FORK_REMOTE)
		entry->blocks[fork] = blocks;
	entry->event_lsn = Max(entry->event_lsn, lsn);
	LWLockRelease(lock_of(set));
}

void
relation_state_unlinked(RelFileNode node, ForkNumber fork, XLogRecPtr lsn)
{
	uint32		set = set_of(node);
	RelationEntry *entry;

	LWLockAcquire(lock_of(set), LW_EXCLUSIVE);
	entry = find_or_make_entry(set, node);
	for (int each = 0; each < FORKS; each++)
	{
		if (fork != InvalidForkNumber && each != fork)
			continue;
		/* If its length is not known, the worker will find the file gone. */
		if (each == MAIN_FORKNUM)
			cache_note_removed(node, 0, entry->blocks[each]);
		entry->state[each] = FORK_ABSENT;
		entry->blocks[each] = 0;
	}
	entry->event_lsn = Max(entry->event_lsn, lsn);
	LWLockRelease(lock_of(set));
}

void
relation_state_database_dropped(Oid database, XLogRecPtr lsn)
{
	raise_forgotten_lsn(lsn);
	cache_note_database_removed(database);
	for (uint32 set = 0; set < set_count(); set++)
	{
		LWLockAcquire(lock_of(set), LW_EXCLUSIVE);
		for (int i = 0; i < WAYS; i++)
		{
			RelationEntry *entry = &entries[(Size) set * WAYS + i];

			if (OidIsValid(entry->node.relNode) && entry->node.dbNode == database)
				forget_entry(entry);
		}
		LWLockRelease(lock_of(set));
	}
}
