/* Requests of this process to the page server: one at a time, or pages ahead of their use. */
#ifndef NEON_PAGE_REQUESTS_H
#define NEON_PAGE_REQUESTS_H

#include "postgres.h"
#include "common/relpath.h"
#include "storage/block.h"
#include "storage/relfilenode.h"

#include "protocol.h"

/*
 * Asks and waits. The request's tag, node, fork, block and not_modified_since are the caller's; the answer is of kind
 * ANSWER_VALUE or ANSWER_NOT_FOUND, any other refusal is raised as an error (where that is not allowed, asked again).
 */
extern void page_server_ask(PageRequest *request, PageAnswer *answer);

/*
 * Fetches one page into `page`, from what was requested ahead if that is new enough. ANSWER_NOT_FOUND leaves `page` alone
 * and copies the page server's words to `message` (512 bytes). In a server that does not write, *as_of is a position at which
 * the page is right.
 */
extern AnswerKind page_fetch(RelFileNode node, ForkNumber fork, BlockNumber block, XLogRecPtr not_modified_since,
							 char *page, char *message, XLogRecPtr *as_of);

/*
 * Starts fetching a page that will be needed, without waiting. Does nothing if it is on its way already. False when the
 * buffer is full of pages still on their way: stop for now.
 */
extern bool page_fetch_ahead(RelFileNode node, ForkNumber fork, BlockNumber block, XLogRecPtr not_modified_since);

/* Whether the page is on its way or here, so that page_fetch() will not have to ask. */
extern bool page_is_ahead(RelFileNode node, ForkNumber fork, BlockNumber block);

/* Hands requests to the kernel when `threshold` or more have collected; those asked for by page_fetch() go at once. */
extern void page_requests_flush(int threshold);

#endif
