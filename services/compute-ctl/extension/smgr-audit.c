/*
 * Owns the check that nothing in the server calls the disk storage manager behind the table's back.
 *
 * The compiler turns some indirect calls through the one-element table into direct ones: where the index is the
 * constant 0, and for the table's last field, which only element 0 can have. Those that gcc is known to make are dealt
 * with: init and open have nothing to take over, and mdimmedsync works on md's own files, which we keep real.
 * Any other direct call from outside md.c would silently read or write the wrong place, so the server must not start.
 */
#include "smgr-table.h"

#include <dlfcn.h>

#include "storage/md.h"

static const struct
{
	const char *caller;
	const char *callee;
}			expected_calls[] = {
	{"smgrinit", "mdinit"},
	{"smgropen", "mdopen"},
	{"smgrimmedsync", "mdimmedsync"},
	{"smgrdosyncall", "mdimmedsync"},
};

/* md.c's static functions carry no exported name, but lie between its exported ones. */
typedef struct MdRange
{
	uintptr_t	start;
	uintptr_t	end;
} MdRange;

#define MD_STATIC_MARGIN_BYTES 8192
#define MD_LAST_FUNCTION_BYTES 4096

static MdRange
md_code_range(const SmgrTable *targets)
{
	void	   *const *functions = (void *const *) targets;
	MdRange		range = {UINTPTR_MAX, 0};

	for (size_t i = 0; i < SMGR_TABLE_FIELDS; i++)
	{
		if (functions[i] == NULL)
			continue;
		range.start = Min(range.start, (uintptr_t) functions[i]);
		range.end = Max(range.end, (uintptr_t) functions[i]);
	}
	range.start -= MD_STATIC_MARGIN_BYTES;
	range.end += MD_LAST_FUNCTION_BYTES;
	/* smgr.c follows md.c in the link order; its functions must not count as md's. */
	if ((uintptr_t) smgrinit > range.start)
		range.end = Min(range.end, (uintptr_t) smgrinit);
	return range;
}

static const char *
exported_name(const void *address)
{
	Dl_info		info;

	return dladdr(address, &info) != 0 && info.dli_sname != NULL ? info.dli_sname : NULL;
}

static bool
is_expected(const char *caller, const char *callee)
{
	for (size_t i = 0; i < lengthof(expected_calls); i++)
	{
		if (strcmp(expected_calls[i].caller, caller) == 0 && strcmp(expected_calls[i].callee, callee) == 0)
			return true;
	}
	return false;
}

/* Returns the address a direct call or jump at `code` goes to; NULL when there is none. *step: bytes to the next try. */
static const void *
branch_target(const unsigned char *code, const unsigned char *end, size_t *step)
{
#if defined(__x86_64__)
	int32		distance;

	/* Instructions have no fixed length: try every byte. A false hit needs a chance 32-bit match with an md function. */
	*step = 1;
	if ((code[0] != 0xe8 && code[0] != 0xe9) || code + 5 > end)
		return NULL;
	memcpy(&distance, code + 1, sizeof(distance));
	return code + 5 + distance;
#elif defined(__aarch64__)
	uint32		word;
	int64		distance;

	*step = 4;
	if (code + 4 > end)
		return NULL;
	memcpy(&word, code, sizeof(word));
	if ((word & 0x7c000000) != 0x14000000)	/* B and BL */
		return NULL;
	distance = (int64) ((int32) (word << 6) >> 6) * 4;
	return code + distance;
#else
	*step = 0;
	return NULL;
#endif
}

int
smgr_audit_code(const unsigned char *start, const unsigned char *end, const SmgrTable *targets,
				char *unknown, size_t size, int *known_count)
{
	void	   *const *functions = (void *const *) targets;
	MdRange		md_range = md_code_range(targets);
	int			unknown_count = 0;
	size_t		step = 1;

	for (const unsigned char *code = start; code < end; code += step)
	{
		const void *target = branch_target(code, end, &step);
		const char *caller;
		const char *callee;

		if (step == 0)
			return -1;
		if (target == NULL || (uintptr_t) target < md_range.start || (uintptr_t) target >= md_range.end)
			continue;
		for (size_t i = 0; i < SMGR_TABLE_FIELDS; i++)
		{
			if (functions[i] == NULL || target != functions[i])
				continue;
			caller = exported_name(code);
			callee = exported_name(target);
			if ((uintptr_t) code >= md_range.start && (uintptr_t) code < md_range.end &&
				(caller == NULL || strncmp(caller, "md", 2) == 0))
				break;
			if (caller != NULL && callee != NULL && is_expected(caller, callee))
			{
				(*known_count)++;
				break;
			}
			unknown_count++;
			snprintf(unknown + strlen(unknown), size - strlen(unknown), " %s->%s",
					 caller ? caller : "(unnamed)", callee ? callee : "(unnamed)");
			break;
		}
	}
	return unknown_count;
}
