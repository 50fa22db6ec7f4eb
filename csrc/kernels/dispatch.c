#include <string.h>

#include "kernels.h"

typedef struct {
    const char *name;
    const cl_kernels *kernels; /* (CL_TYPES,) */
} instruction_set;

/* Each includes those before it. */
static const instruction_set sets[] = {
    {"baseline", cl_kernels_baseline},
#ifdef CL_HAS_X86_64_LEVELS
    {"x86-64-v3", cl_kernels_x86_64_v3},
    {"x86-64-v4", cl_kernels_x86_64_v4},
#endif
};

static const instruction_set *in_use = &sets[0];

/* How many of the sets this processor has. */
static int
available_sets(void)
{
#ifdef CL_HAS_X86_64_LEVELS
    __builtin_cpu_init();
    if (__builtin_cpu_supports("x86-64-v4")) {
        return 3;
    }
    if (__builtin_cpu_supports("x86-64-v3")) {
        return 2;
    }
#endif
    return 1;
}

bool
cl_select_isa(const char *name)
{
    for (int i = available_sets() - 1; i >= 0; i--) {
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
        "baseline",
        "baseline, x86-64-v3",
        "baseline, x86-64-v3, x86-64-v4",
    };
    return names[available_sets() - 1];
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
