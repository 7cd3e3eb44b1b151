/* The background worker that keeps the local files within neon.file_cache_size_limit. */
#ifndef NEON_CACHE_WORKER_H
#define NEON_CACHE_WORKER_H

/* To be called in the postmaster, once. */
extern void cache_worker_install(void);

#endif
