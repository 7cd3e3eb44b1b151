/*
 * Owns the file `neon.feedback` in the data directory: positions from compute_ctl for all processes of the server, counters
 * from them for compute_ctl. Each maps it; neither needs a session, a lock or an extension created in some database, so
 * nothing that users do to the server can cut it.
 *
 *   0    u32  magic
 *   4    u32  format, 1
 *   written by compute_ctl, in one write of 32 bytes:
 *   64   u64  received: the page server has WAL up to here
 *   72   u64  disk consistent: and lost nothing below here when it restarts
 *   80   u64  remote consistent: and its object store has everything below here
 *   88   u64  exclusive or of the three and of CHECK
 *   written by the server:
 *   128  u64  microseconds that writers were held back, all together
 *   136  u32  writers held back now
 *
 * All numbers are little-endian (this machine's). The file is made anew at each start.
 */
#include "feedback-file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "port/atomics.h"
#include "storage/s_lock.h"

#define FILE_NAME "neon.feedback"
#define FILE_BYTES 4096
#define MAGIC 0x4e464231
#define FORMAT 1
#define CHECK UINT64CONST(0x6e656f6e66656564)
#define READ_TRIES 100

typedef struct FeedbackFile
{
	uint32		magic;
	uint32		format;
	char		pad1[56];
	uint64		positions[4];
	char		pad2[32];
	pg_atomic_uint64 throttled_us;
	pg_atomic_uint32 throttled_now;
} FeedbackFile;

StaticAssertDecl(offsetof(FeedbackFile, positions) == 64, "compute_ctl writes here");
StaticAssertDecl(offsetof(FeedbackFile, throttled_us) == 128, "compute_ctl reads here");

static FeedbackFile *feedback;

void
feedback_file_map(void)
{
	int			file = open(FILE_NAME, O_RDWR | O_CREAT | O_TRUNC | PG_BINARY, 0600);
	void	   *mapped = MAP_FAILED;

	if (file >= 0 && ftruncate(file, FILE_BYTES) == 0)
		mapped = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (mapped == MAP_FAILED)
		ereport(FATAL, (errcode_for_file_access(), errmsg("neon: could not map file \"%s\": %m", FILE_NAME)));
	close(file);
	feedback = mapped;
	pg_atomic_init_u64(&feedback->throttled_us, 0);
	pg_atomic_init_u32(&feedback->throttled_now, 0);
	feedback->format = FORMAT;
	feedback->magic = MAGIC;
}

void
feedback_get(StorageFeedback *out)
{
	const volatile uint64 *positions = feedback->positions;

	/* A write under way is noticed by the check word; it takes nanoseconds. */
	for (int i = 0; i < READ_TRIES; i++)
	{
		uint64		check;

		out->received_lsn = positions[0];
		out->disk_consistent_lsn = positions[1];
		out->remote_consistent_lsn = positions[2];
		pg_read_barrier();
		check = positions[3];
		if ((out->received_lsn ^ out->disk_consistent_lsn ^ out->remote_consistent_lsn ^ CHECK) == check)
			return;
		pg_spin_delay();
	}
	memset(out, 0, sizeof(*out));
}

void
feedback_throttle_begins(void)
{
	pg_atomic_fetch_add_u32(&feedback->throttled_now, 1);
}

void
feedback_throttle_ends(uint64 us)
{
	pg_atomic_fetch_sub_u32(&feedback->throttled_now, 1);
	pg_atomic_fetch_add_u64(&feedback->throttled_us, us);
}

uint64
feedback_throttled_us(void)
{
	return pg_atomic_read_u64(&feedback->throttled_us);
}
