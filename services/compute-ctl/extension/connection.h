/* One process's connections to the page servers, one a shard: each a stream of messages each way, in order. */
#ifndef NEON_CONNECTION_H
#define NEON_CONNECTION_H

#include "postgres.h"

/*
 * Makes sure that there is a usable connection, waiting with growing pauses between attempts. Returns its number, which
 * changes with each new connection: what was asked on an earlier one will never be answered. Raises an error after
 * neon.max_reconnect_attempts failures in a row since the last connection_note_success(), where errors are allowed.
 * Returns 0 when there is no such shard any more: the shard map has changed.
 */
extern uint32 connection_ensure(int shard);

/* The number of the present connection; 0 if there is none that can be used at once. */
extern uint32 connection_number(int shard);

/* The page server answered sensibly: failures are counted anew. */
extern void connection_note_success(int shard);

/* All of these return false (-1) when the connection is lost; it has then been closed. */
extern bool connection_send(int shard, const void *bytes, int length);
extern bool connection_flush(int shard);

/*
 * Takes the next message: its length, with *message to be freed by connection_free_message(); 0 if none has arrived and
 * `wait` is false. Statement cancel is honoured while waiting: nothing is lost by it.
 */
extern int	connection_receive(int shard, char **message, bool wait);
extern void connection_free_message(char *message);

/* Closes the connection; `reason` goes to the log. */
extern void connection_drop(int shard, const char *reason);

/* Whether an error raised now ends a statement, rather than the server or its recovery. */
extern bool errors_allowed(void);

#endif
