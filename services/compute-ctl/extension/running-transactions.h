/* What a standby knows at its start about transactions that run on the primary. See running-transactions.c. */
#ifndef NEON_RUNNING_TRANSACTIONS_H
#define NEON_RUNNING_TRANSACTIONS_H

extern void running_transactions_install(void);

#endif
