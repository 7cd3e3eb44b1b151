#ifndef NEON_AUX_FILES_H
#define NEON_AUX_FILES_H

/* In the postmaster, at load: registers the worker. */
extern void aux_files_install(void);

#endif
