/*
 * Owns the decision which pages this process asks for ahead of their use.
 *
 * PostgreSQL 15 announces the pages of bitmap scans, VACUUM and ANALYZE, but not those of sequential scans. So the last few
 * places of reading are remembered; one that moves on block by block is a scan. The number of pages asked for ahead of it
 * doubles as the scan goes on, so that a short one wastes little. Requests are made in batches, when half of the window
 * has been used up.
 */
#include "readahead.h"

#include "local-file.h"
#include "page-requests.h"
#include "settings.h"

#define STREAMS 8
#define WINDOW_INITIAL 4
#define SEQUENTIAL_AFTER 2
#define SCAN_PATIENCE 1000

typedef struct Stream
{
	RelFileNode node;
	ForkNumber	fork;
	BlockNumber next;			/* the block that continues the scan */
	BlockNumber requested_to;	/* everything below has been considered */
	int			run;			/* blocks read in order */
	int			window;
	uint32		last_used;
} Stream;

static Stream streams[STREAMS];
static uint32 stream_clock;

/* How readily a stream is given up. A scan survives a good number of scattered reads, such as those of a join's inner side. */
static uint32
staleness(const Stream *stream)
{
	uint32		age = stream_clock - stream->last_used;

	return stream->run < SEQUENTIAL_AFTER ? age + SCAN_PATIENCE : age;
}

static Stream *
find_stream(RelFileNode node, ForkNumber fork, BlockNumber block)
{
	Stream	   *oldest = &streams[0];

	stream_clock++;
	for (int i = 0; i < STREAMS; i++)
	{
		Stream	   *stream = &streams[i];

		if (stream->next == block && stream->fork == fork && RelFileNodeEquals(stream->node, node))
		{
			stream->run++;
			stream->last_used = stream_clock;
			return stream;
		}
		if (staleness(stream) > staleness(oldest))
			oldest = stream;
	}
	*oldest = (Stream) {
		.node = node,
		.fork = fork,
		.requested_to = block + 1,
		.window = WINDOW_INITIAL,
		.last_used = stream_clock,
	};
	return oldest;
}

/* Whether the block must be fetched. Reading it costs a microsecond, asking for it in vain ten. */
static bool
is_absent(SMgrRelation reln, ForkNumber fork, BlockNumber block)
{
	PGAlignedBlock page;

	return !local_file_read(reln, fork, block, page.data);
}

static void
request_range(SMgrRelation reln, ForkNumber fork, BlockNumber from, BlockNumber to, XLogRecPtr not_modified_since)
{
	for (BlockNumber block = from; block < to; block++)
	{
		if (is_absent(reln, fork, block) &&
			!page_fetch_ahead(reln->smgr_rnode.node, fork, block, not_modified_since))
			break;
	}
}

void
readahead_note(SMgrRelation reln, ForkNumber fork, BlockNumber block, const ForkInfo *info, bool absent)
{
	RelFileNode node = reln->smgr_rnode.node;
	Stream	   *stream = find_stream(node, fork, block);
	BlockNumber ahead;
	BlockNumber to;

	stream->next = block + 1;
	stream->requested_to = Max(stream->requested_to, block + 1);
	if (stream->run < SEQUENTIAL_AFTER)
		return;
	ahead = stream->requested_to - (block + 1);
	if (ahead > stream->window / 2 || (ahead == 0 && !absent))
		return;
	to = Min((uint64) info->blocks, (uint64) block + 1 + stream->window);
	if (to <= stream->requested_to)
		return;

	/* The page that is needed now goes first. */
	if (absent && !page_is_ahead(node, fork, block))
		(void) page_fetch_ahead(node, fork, block, info->not_modified_since);
	request_range(reln, fork, stream->requested_to, to, info->not_modified_since);
	stream->requested_to = to;
	stream->window = Min(stream->window * 2, neon_readahead_buffer_size / 2);
	page_requests_flush(1);
}

void
readahead_announced(SMgrRelation reln, ForkNumber fork, BlockNumber block, const ForkInfo *info)
{
	if (!is_absent(reln, fork, block))
		return;
	if (page_fetch_ahead(reln->smgr_rnode.node, fork, block, info->not_modified_since))
		page_requests_flush(neon_flush_output_after);
	else
		page_requests_flush(1);
}
