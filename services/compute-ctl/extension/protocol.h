/* The pagestream protocol, version 3: requests and answers as bytes. */
#ifndef NEON_PROTOCOL_H
#define NEON_PROTOCOL_H

#include "postgres.h"
#include "access/xlogdefs.h"
#include "common/relpath.h"
#include "storage/block.h"
#include "storage/relfilenode.h"

typedef enum RequestTag
{
	REQUEST_EXISTS = 0,
	REQUEST_BLOCKS = 1,
	REQUEST_PAGE = 2,
	REQUEST_DATABASE_BYTES = 3
} RequestTag;

typedef struct PageRequest
{
	RequestTag	tag;
	uint64		id;
	XLogRecPtr	request_lsn;
	XLogRecPtr	not_modified_since;
	RelFileNode node;			/* REQUEST_DATABASE_BYTES: only dbNode */
	ForkNumber	fork;
	BlockNumber block;			/* REQUEST_PAGE */
} PageRequest;

typedef enum AnswerKind
{
	ANSWER_VALUE,
	ANSWER_NOT_FOUND,			/* the relation does not exist at that position */
	ANSWER_ERROR				/* any other refusal */
} AnswerKind;

typedef struct PageAnswer
{
	AnswerKind	kind;
	bool		exists;
	BlockNumber blocks;
	const char *page;			/* points into the message */
	int64		database_bytes;
	char		message[512];	/* the page server's words, for the last two kinds */
} PageAnswer;

#define REQUEST_BYTES_MAX 64

/* Returns the length. */
extern int	protocol_encode(const PageRequest *request, unsigned char out[REQUEST_BYTES_MAX]);

/*
 * Decodes the answer to `request`. NULL on success; otherwise what is wrong with it: the answer is malformed or belongs to
 * another request, and nothing that follows on the connection can be trusted.
 */
extern const char *protocol_decode(const PageRequest *request, const char *bytes, int length, PageAnswer *answer);

#endif
