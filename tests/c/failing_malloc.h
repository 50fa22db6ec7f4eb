/*
 * Allocations that a test can make fail, for csrc/ compiled with
 * -Dmalloc=failing_malloc -Dfree=counted_free.
 */
#ifndef FAILING_MALLOC_H
#define FAILING_MALLOC_H

#include <stddef.h>

/* Allocations first..last-1 fail, counted from 0. */
extern long failing_malloc_first, failing_malloc_last;
/* The number of allocations so far, and of blocks that are not freed yet. */
extern long failing_malloc_asked, failing_malloc_held;

void *
failing_malloc(size_t size);

void *
failing_realloc(void *block, size_t size);

void
counted_free(void *block);

#endif
