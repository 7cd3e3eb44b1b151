/* Statements that copy or place relation files behind the storage manager's back. */
#ifndef NEON_UTILITY_HOOK_H
#define NEON_UTILITY_HOOK_H

extern void utility_hook_install(void);

#endif
