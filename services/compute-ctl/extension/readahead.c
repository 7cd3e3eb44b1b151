/*
 * Owns the decision which pages this process asks for ahead of their use.
 *
 * PostgreSQL 15 announces the pages of bitmap scans, VACUUM and ANALYZE, but not those of sequential scans. So the last few
 * places of reading are remembered; one that moves on block by block is a scan. The number of pages asked for ahead of it
 * doubles as the scan goes on, so that a short one wastes little. Requests are made in batches, when half of the window
 * has been used up.
 *
 * The processes of a parallel scan each read a run of blocks, skip what the others took, and read the next run. A skip
 * forward in the same relation is taken for that: the next run is expected to be as long as the last one, and nothing is
 * asked for beyond its expected end until it has been passed.
 */
#include "readahead.h"

#include "local-file.h"
#include "page-requests.h"
#include "settings.h"

#define STREAMS 8
#define WINDOW_INITIAL 4
#define SCAN_RUN_BLOCKS 3
#define SCAN_PATIENCE 1000
#define SKIP_MAX_BLOCKS 16384

typedef struct Stream
{
	RelFileNode node;
	ForkNumber	fork;
	BlockNumber run_start;
	BlockNumber last_run;		/* length of the run before; 0: this is the first */
	BlockNumber next;			/* the block that continues the run */
	BlockNumber requested_to;	/* everything below has been considered */
	BlockNumber expected_end;	/* ask for nothing from here on; InvalidBlockNumber: no bound */
	bool		is_scan;
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

	return stream->is_scan ? age : age + SCAN_PATIENCE;
}

static bool
continues_after_skip(const Stream *stream, BlockNumber block)
{
	return stream->next - stream->run_start >= SCAN_RUN_BLOCKS &&
		block > stream->next && block - stream->next <= SKIP_MAX_BLOCKS;
}

/* The stream that reading this block continues, directly or after a skip; NULL if there is none. */
static Stream *
find_stream(RelFileNode node, ForkNumber fork, BlockNumber block)
{
	Stream	   *skipped = NULL;

	for (Stream *stream = streams; stream < streams + STREAMS; stream++)
	{
		if (stream->fork != fork || !RelFileNodeEquals(stream->node, node))
			continue;
		if (stream->next == block)
			return stream;
		if (continues_after_skip(stream, block))
			skipped = stream;
	}
	if (skipped != NULL)
	{
		BlockNumber run = skipped->next - skipped->run_start;

		/* A process may get two runs in a row, which look like a long one: believe the shorter of two. */
		skipped->expected_end = block + (skipped->last_run > 0 ? Min(run, skipped->last_run) : run);
		skipped->last_run = run;
		skipped->run_start = block;
		skipped->requested_to = block + 1;
	}
	return skipped;
}

static Stream *
new_stream(RelFileNode node, ForkNumber fork, BlockNumber block)
{
	Stream	   *oldest = streams;

	for (Stream *stream = streams; stream < streams + STREAMS; stream++)
	{
		if (staleness(stream) > staleness(oldest))
			oldest = stream;
	}
	*oldest = (Stream) {
		.node = node,
		.fork = fork,
		.run_start = block,
		.requested_to = block + 1,
		.expected_end = InvalidBlockNumber,
		.window = WINDOW_INITIAL,
	};
	return oldest;
}

/* The stream that this read belongs to, moved on. */
static Stream *
note_read(RelFileNode node, ForkNumber fork, BlockNumber block)
{
	Stream	   *stream = find_stream(node, fork, block);

	if (stream == NULL)
		stream = new_stream(node, fork, block);
	stream->last_used = ++stream_clock;
	stream->next = block + 1;
	stream->requested_to = Max(stream->requested_to, block + 1);
	if (stream->next - stream->run_start >= SCAN_RUN_BLOCKS)
		stream->is_scan = true;
	if (block >= stream->expected_end)
		stream->expected_end = InvalidBlockNumber;
	return stream;
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
	Stream	   *stream = note_read(node, fork, block);
	BlockNumber ahead = stream->requested_to - stream->next;
	BlockNumber to;

	if (!stream->is_scan || ahead > stream->window / 2 || (ahead == 0 && !absent))
		return;
	to = Min((uint64) info->blocks, (uint64) stream->next + stream->window);
	to = Min(to, stream->expected_end);
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
