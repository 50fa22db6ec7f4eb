/*
 * Memory that is scarce when a test says so: for csrc/ compiled with
 * -Dmalloc=scarce_malloc -Dfree=scarce_free.
 */
#ifndef SCARCE_MEMORY_H
#define SCARCE_MEMORY_H

#include <stddef.h>

/* Which allocations fail, counted by `asked` from 0: first..last-1. */
extern long scarce_memory_first, scarce_memory_last;
/* How many there were, and how many of their blocks have not been freed. */
extern long scarce_memory_asked, scarce_memory_held;

void *
scarce_malloc(size_t size);

void *
scarce_realloc(void *block, size_t size);

void
scarce_free(void *block);

#endif
