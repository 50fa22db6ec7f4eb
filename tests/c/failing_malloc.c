#undef malloc
#undef free
#include "failing_malloc.h"

#include <stdlib.h>

long failing_malloc_first, failing_malloc_last;
long failing_malloc_asked, failing_malloc_held;

void *
failing_realloc(void *block, size_t size)
{
    const long i = failing_malloc_asked++;
    if (failing_malloc_first <= i && i < failing_malloc_last) {
        return NULL;
    }
    void *larger = realloc(block, size);
    failing_malloc_held += block == NULL && larger != NULL;
    return larger;
}

void *
failing_malloc(size_t size)
{
    return failing_realloc(NULL, size);
}

void
counted_free(void *block)
{
    failing_malloc_held -= block != NULL;
    free(block);
}
