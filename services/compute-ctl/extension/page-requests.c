/*
 * Owns the ring of this process's requests, in the order in which they were sent.
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
 * this compute has written the page since.
 */
#include "page-requests.h"

#include "miscadmin.h"
#include "portability/instr_time.h"
#include "utils/memutils.h"

#include "connection.h"
#include "settings.h"
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

static Slot *ring;
static uint32 head;
static uint32 arrived;
static uint32 tail;
static uint32 ring_connection;	/* the connection that all requests in the ring were sent on */
static int	unflushed;
static uint32 requests_made;

static Slot *
slot_at(uint32 position)
{
	return &ring[position % RING_SLOTS];
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
empty_ring(void)
{
	for (; head != arrived; head++)
		finish_slot(slot_at(head));
	arrived = tail = head;
	unflushed = 0;
}

/* What others see of the ring, in the statistics. */
static void
show_ring(void)
{
	perf_gauge_set(GAUGE_OPEN_REQUESTS, tail - arrived);
	perf_gauge_set(GAUGE_BUFFERED_ANSWERS, arrived - head);
}

/* Connects if needed; requests that went out on an earlier connection are lost with it. */
static void
ensure_ring(void)
{
	uint32		number = connection_ensure();

	if (ring == NULL)
		ring = MemoryContextAllocZero(TopMemoryContext, sizeof(Slot) * RING_SLOTS);
	if (number != ring_connection)
	{
		empty_ring();
		ring_connection = number;
	}
}

static bool
ring_is_live(void)
{
	return ring != NULL && ring_connection != 0 && connection_number() == ring_connection;
}

/* Takes the next answer off the stream. 1: taken; 0: none there and `wait` is false; -1: connection lost. */
static int
take_answer(bool wait, uint32 wanted)
{
	char	   *message;
	int			length = connection_receive(&message, wait);
	Slot	   *slot;

	if (length <= 0)
		return length;
	if (arrived == tail)
	{
		connection_free_message(message);
		connection_drop("it answered without having been asked");
		return -1;
	}
	slot = slot_at(arrived);
	slot->message = message;
	slot->length = length;
	/* Only a page can be of use to somebody else than the one who waits for it. */
	if (arrived != wanted && slot->request.tag != REQUEST_PAGE)
		finish_slot(slot);
	arrived++;
	show_ring();
	return 1;
}

static void
release_head(void)
{
	while (head != arrived && slot_at(head)->done)
		head++;
	show_ring();
}

/* Makes room for one more request. False: all slots are on their way, or the connection is lost. */
static bool
make_room(uint32 limit)
{
	release_head();
	if (tail - head < limit)
		return true;
	while (arrived == head)
	{
		if (take_answer(false, tail) <= 0)
			return false;
	}
	/* The oldest answer has waited longest without being used. */
	if (!slot_at(head)->done)
	{
		stat_count(STAT_PREFETCH_WASTED);
		finish_slot(slot_at(head));
	}
	release_head();
	return tail - head < limit;
}

/* Sends a request; its position in the ring goes to *position. False: connection lost. */
static bool
send_request(PageRequest *request, uint32 *position)
{
	unsigned char bytes[REQUEST_BYTES_MAX];
	Slot	   *slot;
	int			length;

	request->id = ((uint64) MyProcPid << 32) | ++requests_made;
	request->request_lsn = LATEST_LSN;
	length = protocol_encode(request, bytes);
	if (!connection_send(bytes, length))
		return false;
	slot = slot_at(tail);
	slot->request = *request;
	slot->message = NULL;
	slot->done = false;
	*position = tail++;
	unflushed++;
	stat_count(STAT_REQUESTS_SENT);
	show_ring();
	return true;
}

void
page_requests_flush(int threshold)
{
	if (unflushed == 0 || unflushed < threshold || !ring_is_live() || !connection_flush())
		return;
	unflushed = 0;
	stat_count(STAT_SEND_FLUSHES);
}

/* Waits until the answer at `position` is here. False: connection lost. */
static bool
await_answer(uint32 position)
{
	page_requests_flush(1);
	while (ring_is_live() && (int32) (position - arrived) >= 0)
		(void) take_answer(true, position);
	return ring_is_live();
}

/* Decodes the answer at `position` into *answer, which points into the slot. False: nonsense, connection dropped. */
static bool
decode_slot(Slot *slot, PageAnswer *answer)
{
	const char *problem = protocol_decode(&slot->request, slot->message, slot->length, answer);

	if (problem == NULL)
	{
		connection_note_success();
		return true;
	}
	ereport(LOG, (errmsg("neon: the page server sent an answer that cannot be used: %s", problem), errhidestmt(true)));
	connection_drop("its answer cannot be used");
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
ask_once(PageRequest *request, PageAnswer *answer, uint32 *position)
{
	while (!make_room(RING_SLOTS))
	{
		if (!ring_is_live() || !await_answer(head))
			return false;
	}
	if (!send_request(request, position) || !await_answer(*position))
		return false;
	if (!decode_slot(slot_at(*position), answer))
		return false;
	if (answer->kind != ANSWER_ERROR)
		return true;
	finish_slot(slot_at(*position));
	refuse(request, answer->message);
	return false;
}

/* As page_server_ask(), and the slot stays occupied, as the answer may point into it. */
static Slot *
ask(PageRequest *request, PageAnswer *answer)
{
	uint32		position;

	flush_position(request->not_modified_since);
	do
	{
		ensure_ring();
	} while (!ask_once(request, answer, &position));
	return slot_at(position);
}

void
page_server_ask(PageRequest *request, PageAnswer *answer)
{
	finish_slot(ask(request, answer));
	answer->page = NULL;
	release_head();
}

/* The position of the request for this page, if it is on its way or here; false otherwise. */
static bool
find_ahead(RelFileNode node, ForkNumber fork, BlockNumber block, uint32 *position)
{
	if (!ring_is_live())
		return false;
	for (uint32 at = head; at != tail; at++)
	{
		Slot	   *slot = slot_at(at);

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
	uint32		position;

	return find_ahead(node, fork, block, &position);
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
	uint32		position;

	flush_position(not_modified_since);
	ensure_ring();
	if (find_ahead(node, fork, block, &position))
		return true;
	if (!make_room(neon_readahead_buffer_size) || !send_request(&request, &position))
		return false;
	stat_count(STAT_PREFETCH_REQUESTS);
	return true;
}

/* Takes the page from the ring, if it was asked for and is new enough. */
static bool
use_ahead(RelFileNode node, ForkNumber fork, BlockNumber block, XLogRecPtr not_modified_since, char *page)
{
	uint32		position;
	Slot	   *slot;
	PageAnswer	answer;
	bool		usable;

	if (!find_ahead(node, fork, block, &position) || !await_answer(position))
		return false;
	slot = slot_at(position);
	if (!decode_slot(slot, &answer))
		return false;
	usable = answer.kind == ANSWER_VALUE && slot->request.not_modified_since >= not_modified_since;
	if (usable)
		memcpy(page, answer.page, BLCKSZ);
	stat_count(usable ? STAT_PREFETCH_HITS : STAT_PREFETCH_WASTED);
	finish_slot(slot);
	release_head();
	return usable;
}

AnswerKind
page_fetch(RelFileNode node, ForkNumber fork, BlockNumber block, XLogRecPtr not_modified_since, char *page, char *message)
{
	PageRequest request = {
		.tag = REQUEST_PAGE,
		.node = node,
		.fork = fork,
		.block = block,
		.not_modified_since = not_modified_since,
	};
	PageAnswer	answer = {.kind = ANSWER_VALUE};
	instr_time	start;
	instr_time	end;
	Slot	   *slot;

	INSTR_TIME_SET_CURRENT(start);
	if (!use_ahead(node, fork, block, not_modified_since, page))
	{
		slot = ask(&request, &answer);
		if (answer.kind == ANSWER_VALUE)
			memcpy(page, answer.page, BLCKSZ);
		else
			memcpy(message, answer.message, sizeof(answer.message));
		finish_slot(slot);
		release_head();
	}
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, start);
	stat_add(STAT_WAIT_US, INSTR_TIME_GET_MICROSEC(end));
	perf_time(TIMER_GET_PAGE, start);
	return answer.kind;
}
