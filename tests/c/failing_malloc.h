/*
 * Memory that is scarce when a test says so: for csrc/ compiled with
 * -Dmalloc=failing_malloc -Dfree=counted_free.
 */
#ifndef SCARCE_MEMORY_H
#define SCARCE_MEMORY_H

#include <stddef.h>

/* Which allocations fail, counted by `asked` from 0: first..last-1. */
extern long failing_malloc_first, failing_malloc_last;
/* How many there were, and how many of their blocks have not been freed. */
extern long failing_malloc_asked, failing_malloc_held;

void *
failing_malloc(size_t size);

void *
scarce_realloc(void *block, size_t size);

void
counted_free(void *block);

#endif
