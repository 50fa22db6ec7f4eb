#undef malloc
#undef free
#include "scarce_memory.h"

#include <stdlib.h>

long scarce_memory_first, scarce_memory_last;
long scarce_memory_asked, scarce_memory_held;

void *
scarce_realloc(void *block, size_t size)
{
    const long i = scarce_memory_asked++;
    if (scarce_memory_first <= i && i < scarce_memory_last) {
        return NULL;
    }
    void *larger = realloc(block, size);
    scarce_memory_held += block == NULL && larger != NULL;
    return larger;
}

void *
scarce_malloc(size_t size)
{
    return scarce_realloc(NULL, size);
}

void
scarce_free(void *block)
{
    scarce_memory_held -= block != NULL;
    free(block);
}
