/*
 * Owns the format of pagestream version 3. All numbers are big-endian.
 *
 *   request   tag u8 | id u64 | request_lsn u64 | not_modified_since u64 | body
 *     0 exists, 1 blocks        body = relation
 *     2 page                    body = relation | block u32
 *     3 database size           body = database u32
 *   relation  tablespace u32 | database u32 | relation u32 | fork u8
 *
 *   answer    tag u8 | id u64 | request_lsn u64 | not_modified_since u64 | body of the request | payload
 *     100 exists                payload = u8
 *     101 blocks                payload = u32
 *     102 page                  payload = 8192 bytes
 *     104 database size         payload = i64, bytes
 *     103 error                 no body; payload = message, ending in a zero byte
 *
 * Answers come in the order of the requests, and repeat all of the request so that a mix-up cannot go unnoticed.
 */
#include "protocol.h"

#include "port/pg_bswap.h"

#define ANSWER_TAG_OFFSET 100
#define ANSWER_ERROR_TAG 103
#define ANSWER_DATABASE_TAG 104
#define HEADER_BYTES 25
#define NOT_FOUND_PREFIX "relation not found:"

static unsigned char *
put_u8(unsigned char *at, uint8 value)
{
	*at = value;
	return at + 1;
}

static unsigned char *
put_u32(unsigned char *at, uint32 value)
{
	uint32		wire = pg_hton32(value);

	memcpy(at, &wire, sizeof(wire));
	return at + sizeof(wire);
}

static unsigned char *
put_u64(unsigned char *at, uint64 value)
{
	uint64		wire = pg_hton64(value);

	memcpy(at, &wire, sizeof(wire));
	return at + sizeof(wire);
}

static uint32
get_u32(const char *at)
{
	uint32		wire;

	memcpy(&wire, at, sizeof(wire));
	return pg_ntoh32(wire);
}

static uint64
get_u64(const char *at)
{
	uint64		wire;

	memcpy(&wire, at, sizeof(wire));
	return pg_ntoh64(wire);
}

int
protocol_encode(const PageRequest *request, unsigned char out[REQUEST_BYTES_MAX])
{
	unsigned char *at = out;

	at = put_u8(at, request->tag);
	at = put_u64(at, request->id);
	at = put_u64(at, request->request_lsn);
	at = put_u64(at, request->not_modified_since);
	if (request->tag == REQUEST_DATABASE_BYTES)
		return put_u32(at, request->node.dbNode) - out;
	at = put_u32(at, request->node.spcNode);
	at = put_u32(at, request->node.dbNode);
	at = put_u32(at, request->node.relNode);
	at = put_u8(at, request->fork);
	if (request->tag == REQUEST_PAGE)
		at = put_u32(at, request->block);
	return at - out;
}

static int
payload_bytes(RequestTag tag)
{
	switch (tag)
	{
		case REQUEST_EXISTS:
			return 1;
		case REQUEST_BLOCKS:
			return 4;
		case REQUEST_PAGE:
			return BLCKSZ;
		case REQUEST_DATABASE_BYTES:
			return 8;
	}
	pg_unreachable();
}

static int
answer_tag(RequestTag tag)
{
	return tag == REQUEST_DATABASE_BYTES ? ANSWER_DATABASE_TAG : ANSWER_TAG_OFFSET + tag;
}

static const char *
decode_error(const char *payload, int length, PageAnswer *answer)
{
	if (length < 1 || payload[length - 1] != '\0')
		return "its error message does not end in a zero byte";
	answer->kind = strncmp(payload, NOT_FOUND_PREFIX, strlen(NOT_FOUND_PREFIX)) == 0 ? ANSWER_NOT_FOUND : ANSWER_ERROR;
	strlcpy(answer->message, payload, sizeof(answer->message));
	return NULL;
}

static const char *
decode_value(RequestTag tag, const char *payload, PageAnswer *answer)
{
	answer->kind = ANSWER_VALUE;
	switch (tag)
	{
		case REQUEST_EXISTS:
			answer->exists = payload[0] != 0;
			break;
		case REQUEST_BLOCKS:
			answer->blocks = get_u32(payload);
			if (answer->blocks > MaxBlockNumber)
				return "its relation size is out of range";
			break;
		case REQUEST_PAGE:
			answer->page = payload;
			break;
		case REQUEST_DATABASE_BYTES:
			answer->database_bytes = (int64) get_u64(payload);
			if (answer->database_bytes < 0)
				return "its database size is negative";
			break;
	}
	return NULL;
}

const char *
protocol_decode(const PageRequest *request, const char *bytes, int length, PageAnswer *answer)
{
	unsigned char echo[REQUEST_BYTES_MAX];
	int			echo_bytes = protocol_encode(request, echo);
	int			tag;

	memset(answer, 0, offsetof(PageAnswer, message));
	answer->message[0] = '\0';
	if (length < HEADER_BYTES)
		return "it is too short";
	tag = (unsigned char) bytes[0];
	/* The tag differs; all else is compared as bytes with what was sent. */
	if (memcmp(bytes + 1, echo + 1, HEADER_BYTES - 1) != 0)
		return "it belongs to another request";
	if (tag == ANSWER_ERROR_TAG)
		return decode_error(bytes + HEADER_BYTES, length - HEADER_BYTES, answer);
	if (tag != answer_tag(request->tag))
		return "it is of another kind than the request";
	if (length != echo_bytes + payload_bytes(request->tag))
		return "its length is wrong";
	if (memcmp(bytes + HEADER_BYTES, echo + HEADER_BYTES, echo_bytes - HEADER_BYTES) != 0)
		return "it speaks of another page or relation";
	return decode_value(request->tag, bytes + echo_bytes, answer);
}
