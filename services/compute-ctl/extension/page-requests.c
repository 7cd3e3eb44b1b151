/*
 * Owns the rings of this process's requests, one a shard, in the order in which they were sent.
 *
 *      head                 arrived                 tail
 *       |  answers waiting   |  requests on the way  |
 *       |  for their use     |                       |
 *
 * Answers come in the order of the requests, so the next message always belongs to `arrived`. Whoever is thrown out of a
 * wait leaves the ring in step: the answer it waited for arrives later, and is kept if it is a page, dropped otherwise.
 *
 * A page requested ahead may be used if it would do as the answer to a request made now: it must have been asked for with a
 * not_modified_since that is not below the present one. The caller looks into the local file first, which rules out that
 * this compute has written the page since. When the shards change, all connections do, and with them all rings become empty.
 */
#include "page-requests.h"

#include "miscadmin.h"
#include "portability/instr_time.h"
#include "utils/memutils.h"

#include "connection.h"
#include "replica.h"
#include "settings.h"
#include "shard-map.h"
#include "shared-state.h"
#include "wal-position.h"

#define RING_SLOTS 2048

typedef struct Slot
{
	PageRequest request;
	char	   *message;		/* the answer, once it is here and until it is used */
	int			length;
	bool		done;			/* used, or of no use */
} Slot;

typedef struct Ring
{
	int			shard;
	uint32		head;
	uint32		arrived;
	uint32		tail;
	uint32		connection;		/* the connection that all requests in the ring were sent on */
	int			unflushed;
	Slot		slots[RING_SLOTS];
} Ring;

static Ring *rings[SHARDS_MAX];
static uint32 requests_made;

static Slot *
slot_at(Ring *ring, uint32 position)
{
	return &ring->slots[position % RING_SLOTS];
}

static void
finish_slot(Slot *slot)
{
	if (slot->message != NULL)
		connection_free_message(slot->message);
	slot->message = NULL;
	slot->done = true;
}

static void
empty_ring(Ring *ring)
{
	for (; ring->head != ring->arrived; ring->head++)
		finish_slot(slot_at(ring, ring->head));
	ring->arrived = ring->tail = ring->head;
	ring->unflushed = 0;
}

/* Connects if needed; requests that went out on an earlier connection are lost with it. NULL: the shards have changed. */
static Ring *
ensure_ring(int shard)
{
	uint32		number = connection_ensure(shard);

	if (number == 0)
		return NULL;
	if (rings[shard] == NULL)
	{
		rings[shard] = MemoryContextAllocZero(TopMemoryContext, sizeof(Ring));
		rings[shard]->shard = shard;
	}
	if (number != rings[shard]->connection)
	{
		empty_ring(rings[shard]);
		rings[shard]->connection = number;
	}
	return rings[shard];
}

static bool
ring_is_live(Ring *ring)
{
	return ring != NULL && ring->connection != 0 && connection_number(ring->shard) == ring->connection;
}

/* Takes the next answer off the stream. 1: taken; 0: none there and `wait` is false; -1: connection lost. */
static int
take_answer(Ring *ring, bool wait, uint32 wanted)
{
	char	   *message;
	int			length = connection_receive(ring->shard, &message, wait);
	Slot	   *slot;

	if (length <= 0)
		return length;
	if (ring->arrived == ring->tail)
	{
		connection_free_message(message);
		connection_drop(ring->shard, "it answered without having been asked");
		return -1;
	}
	slot = slot_at(ring, ring->arrived);
	slot->message = message;
	slot->length = length;
	/* Only a page can be of use to somebody else than the one who waits for it. */
	if (ring->arrived != wanted && slot->request.tag != REQUEST_PAGE)
		finish_slot(slot);
	ring->arrived++;
	return 1;
}

static void
release_head(Ring *ring)
{
	while (ring->head != ring->arrived && slot_at(ring, ring->head)->done)
		ring->head++;
}

/* Makes room for one more request. False: all slots are on their way, or the connection is lost. */
static bool
make_room(Ring *ring, uint32 limit)
{
	release_head(ring);
	if (ring->tail - ring->head < limit)
		return true;
	while (ring->arrived == ring->head)
	{
		if (take_answer(ring, false, ring->tail) <= 0)
			return false;
	}
	/* The oldest answer has waited longest without being used. */
	if (!slot_at(ring, ring->head)->done)
	{
		stat_count(STAT_PREFETCH_WASTED);
		finish_slot(slot_at(ring, ring->head));
	}
	release_head(ring);
	return ring->tail - ring->head < limit;
}

/* As of when the request is made: a primary is the newest there is. Returns from when on the answer may be used. */
static XLogRecPtr
set_position(PageRequest *request)
{
	ReadPosition position;

	request->request_lsn = LATEST_LSN;
	if (neon_compute_mode == MODE_PRIMARY)
		return InvalidXLogRecPtr;
	if (request->tag == REQUEST_PAGE)
		replica_page_position(request->node, request->fork, request->block, request->not_modified_since, &position);
	else
		replica_length_position(request->not_modified_since, &position);
	request->request_lsn = position.request_lsn;
	request->not_modified_since = position.not_modified_since;
	return position.usable_after;
}

/* Sends a request; its position in the ring goes to *position. False: connection lost. */
static bool
send_request(Ring *ring, PageRequest *request, uint32 *position)
{
	unsigned char bytes[REQUEST_BYTES_MAX];
	Slot	   *slot;
	int			length;

	request->id = ((uint64) MyProcPid << 32) | ++requests_made;
	length = protocol_encode(request, bytes);
	if (!connection_send(ring->shard, bytes, length))
		return false;
	slot = slot_at(ring, ring->tail);
	slot->request = *request;
	slot->message = NULL;
	slot->done = false;
	*position = ring->tail++;
	ring->unflushed++;
	return true;
}

void
page_requests_flush(int threshold)
{
	/* Also those to other shards: what was asked for ahead is on its way while this process waits for one page. */
	for (int shard = 0; shard < shard_count(); shard++)
	{
		Ring	   *ring = rings[shard];

		if (ring != NULL && ring->unflushed >= threshold && ring->unflushed > 0 && ring_is_live(ring) &&
			connection_flush(shard))
			ring->unflushed = 0;
	}
}

/* Waits until the answer at `position` is here. False: connection lost. */
static bool
await_answer(Ring *ring, uint32 position)
{
	page_requests_flush(1);
	while (ring_is_live(ring) && (int32) (position - ring->arrived) >= 0)
		(void) take_answer(ring, true, position);
	return ring_is_live(ring);
}

/* Decodes the answer at `position` into *answer, which points into the slot. False: nonsense, connection dropped. */
static bool
decode_slot(Ring *ring, Slot *slot, PageAnswer *answer)
{
	const char *problem = protocol_decode(&slot->request, slot->message, slot->length, answer);

	if (problem == NULL)
	{
		connection_note_success(ring->shard);
		return true;
	}
	ereport(LOG, (errmsg("neon: the page server sent an answer that cannot be used: %s", problem), errhidestmt(true)));
	connection_drop(ring->shard, "its answer cannot be used");
	return false;
}

static void
refuse(const PageRequest *request, const char *message)
{
	ereport(errors_allowed() ? ERROR : LOG,
			(errcode(ERRCODE_IO_ERROR),
			 errmsg("the page server refused a request for relation %u/%u/%u, fork %d, block %u: %s",
					request->node.spcNode, request->node.dbNode, request->node.relNode, request->fork,
					request->tag == REQUEST_PAGE ? request->block : 0, message)));
	pg_usleep(1000000L);
}

/*
 * One attempt. The position of the slot that answers the request goes to *position; its message stays until finish_slot().
 * False: try again.
 */
static bool
ask_once(Ring *ring, PageRequest *request, PageAnswer *answer, uint32 *position)
{
	while (!make_room(ring, RING_SLOTS))
	{
		if (!ring_is_live(ring) || !await_answer(ring, ring->head))
			return false;
	}
	if (!send_request(ring, request, position) || !await_answer(ring, *position))
		return false;
	if (!decode_slot(ring, slot_at(ring, *position), answer))
		return false;
	if (answer->kind != ANSWER_ERROR)
		return true;
	finish_slot(slot_at(ring, *position));
	refuse(request, answer->message);
	return false;
}

/* Which shard answers. All but page requests are with shard 0, which knows everything but the other shards' pages. */
static int
shard_of_request(const PageRequest *request)
{
	if (request->tag != REQUEST_PAGE)
		return 0;
	return shard_of_page(request->node.relNode, request->fork, request->block);
}

/* As page_server_ask(), and the slot in *ring stays occupied, as the answer may point into it. */
static Slot *
ask(PageRequest *request, PageAnswer *answer, Ring **ring)
{
	uint32		position;

	flush_position(request->not_modified_since);
	do
	{
		*ring = ensure_ring(shard_of_request(request));
	} while (*ring == NULL || !ask_once(*ring, request, answer, &position));
	return slot_at(*ring, position);
}

void
page_server_ask(PageRequest *request, PageAnswer *answer)
{
	XLogRecPtr	usable_after = set_position(request);
	Ring	   *ring;

	finish_slot(ask(request, answer, &ring));
	answer->page = NULL;
	release_head(ring);
	replica_await(usable_after);
}

/* The position in *ring of the request for this page, if it is on its way or here; false otherwise. */
static bool
find_ahead(RelFileNode node, ForkNumber fork, BlockNumber block, Ring **where, uint32 *position)
{
	Ring	   *ring = rings[shard_of_page(node.relNode, fork, block)];

	*where = ring;
	if (!ring_is_live(ring))
		return false;
	for (uint32 at = ring->head; at != ring->tail; at++)
	{
		Slot	   *slot = slot_at(ring, at);

		if (slot->request.block == block && !slot->done && slot->request.tag == REQUEST_PAGE &&
			slot->request.fork == fork && RelFileNodeEquals(slot->request.node, node))
		{
			*position = at;
			return true;
		}
	}
	return false;
}

bool
page_is_ahead(RelFileNode node, ForkNumber fork, BlockNumber block)
{
	Ring	   *ring;
	uint32		position;

	return find_ahead(node, fork, block, &ring, &position);
}

bool
page_fetch_ahead(RelFileNode node, ForkNumber fork, BlockNumber block, XLogRecPtr not_modified_since)
{
	PageRequest request = {
		.tag = REQUEST_PAGE,
		.node = node,
		.fork = fork,
		.block = block,
		.not_modified_since = not_modified_since,
	};
	Ring	   *ring;
	uint32		position;

	(void) set_position(&request);
	flush_position(not_modified_since);
	if (find_ahead(node, fork, block, &ring, &position))
		return true;
	ring = ensure_ring(shard_of_request(&request));
	if (ring == NULL)
		return false;
	if (!make_room(ring, neon_readahead_buffer_size) || !send_request(ring, &request, &position))
		return false;
	stat_count(STAT_PREFETCH_REQUESTS);
	return true;
}

/* Whether an answer to `asked` is one to `wanted` as well. */
static bool
is_new_enough(const PageRequest *asked, const PageRequest *wanted)
{
	if (neon_compute_mode == MODE_PRIMARY)
		return asked->not_modified_since >= wanted->not_modified_since;
	/* It is right as of its request_lsn, and still is if nothing was done to the page after that. */
	return asked->request_lsn >= wanted->not_modified_since &&
		asked->request_lsn >= replica_last_skipped(wanted->node, wanted->fork, wanted->block);
}

/* Takes the page from the ring, if it was asked for and is new enough. */
static bool
use_ahead(const PageRequest *wanted, char *page, XLogRecPtr *as_of)
{
	Ring	   *ring;
	uint32		position;
	Slot	   *slot;
	PageAnswer	answer;
	bool		usable;

	if (!find_ahead(wanted->node, wanted->fork, wanted->block, &ring, &position) || !await_answer(ring, position))
		return false;
	slot = slot_at(ring, position);
	if (!decode_slot(ring, slot, &answer))
		return false;
	usable = answer.kind == ANSWER_VALUE && is_new_enough(&slot->request, wanted);
	if (usable)
	{
		memcpy(page, answer.page, BLCKSZ);
		*as_of = slot->request.request_lsn;
	}
	stat_count(usable ? STAT_PREFETCH_HITS : STAT_PREFETCH_WASTED);
	finish_slot(slot);
	release_head(ring);
	return usable;
}

AnswerKind
page_fetch(RelFileNode node, ForkNumber fork, BlockNumber block, XLogRecPtr not_modified_since, char *page, char *message,
		   XLogRecPtr *as_of)
{
	PageRequest request = {
		.tag = REQUEST_PAGE,
		.node = node,
		.fork = fork,
		.block = block,
		.not_modified_since = not_modified_since,
	};
	PageAnswer	answer = {.kind = ANSWER_VALUE};
	XLogRecPtr	usable_after;
	instr_time	start;
	instr_time	end;
	Ring	   *ring;
	Slot	   *slot;

	INSTR_TIME_SET_CURRENT(start);
	usable_after = set_position(&request);
	if (!use_ahead(&request, page, as_of))
	{
		*as_of = request.request_lsn;
		slot = ask(&request, &answer, &ring);
		if (answer.kind == ANSWER_VALUE)
			memcpy(page, answer.page, BLCKSZ);
		else
			memcpy(message, answer.message, sizeof(answer.message));
		finish_slot(slot);
		release_head(ring);
	}
	replica_await(usable_after);
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, start);
	stat_add(STAT_WAIT_US, INSTR_TIME_GET_MICROSEC(end));
	return answer.kind;
}
