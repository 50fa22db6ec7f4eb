#include <string.h>

#include "kernels.h"

typedef struct {
    const char *name;
    const cl_kernels *kernels; /* (CL_TYPES,) */
} instruction_set;

/* The best comes last. */
static const instruction_set sets[] = {
#ifdef CL_HAS_X86_64_LEVELS
    {"x86-64-v2", cl_kernels_x86_64_v2},
    {"x86-64-v3", cl_kernels_x86_64_v3},
    {"x86-64-v4", cl_kernels_x86_64_v4},
#else
    {"portable", cl_kernels_portable},
#endif
};

enum {
    SETS = sizeof(sets) / sizeof(sets[0])
};

static const instruction_set *in_use = &sets[0];

/* How many of the sets this processor has: they build on one another. */
static int
sets_here(void)
{
#ifdef CL_HAS_X86_64_LEVELS
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("sse4.2") || !__builtin_cpu_supports("popcnt")) {
        return 0;
    }
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi2") ||
        !__builtin_cpu_supports("fma")) {
        return 1;
    }
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512cd") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512vl")) {
        return 2;
    }
#endif
    return SETS;
}

bool
cl_select_isa(const char *name)
{
    for (int i = sets_here() - 1; i >= 0; i--) {
        if (name == NULL || strcmp(name, sets[i].name) == 0) {
            in_use = &sets[i];
            return true;
        }
    }
    return false;
}

const char *
cl_isa_names(void)
{
    static const char *const names[] = {
#ifdef CL_HAS_X86_64_LEVELS
        "none",
        "x86-64-v2",
        "x86-64-v2, x86-64-v3",
        "x86-64-v2, x86-64-v3, x86-64-v4",
#else
        "none",
        "portable",
#endif
    };
    return names[sets_here()];
}

const char *
cl_isa(void)
{
    return in_use->name;
}

const cl_kernels *
cl_kernels_for(cl_types types)
{
    return &in_use->kernels[types];
}
