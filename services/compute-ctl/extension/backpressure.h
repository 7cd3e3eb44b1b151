/* Holding writers back while the page server lags behind. See backpressure.c. */
#ifndef NEON_BACKPRESSURE_H
#define NEON_BACKPRESSURE_H

/* Puts the gates at statements and commits in place. */
extern void backpressure_install(void);

/*
 * The gate itself: returns at once when the page server keeps up, or when this process must not wait here. Else waits, with
 * interrupts served. May raise an error, as any such wait.
 */
extern void backpressure_gate(void);

#endif
