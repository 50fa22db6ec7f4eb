/*
 * cl_plan_make() when allocations fail. For every kind of plan, allocation 1, 2, 3,
 * ... fails, alone and with all that follow, until the plan succeeds. Prints how many
 * allocations each plan makes, or what went wrong.
 */
#include <stdio.h>
#include <stdlib.h>

#include "centerloss.h"
#include "failing_malloc.h"

enum {
    MAX_ROWS = 40000
};

static int64_t labels[MAX_ROWS];
static double weights[MAX_ROWS];

static const struct {
    const char *name;
    int64_t B, D, K, same; /* the first `same` rows belong to class 0 */
    int needs, threads;
} plans[] = {
    {"no rows", 0, 3, 4, 0, CL_LOSSES | CL_GROUPS, 1},
    {"losses", 100, 3, 4, 0, CL_LOSSES, 1},
    {"batch order", 100, 3, 4, 0, CL_LOSSES | CL_GROUPS, 1},
    {"segments", MAX_ROWS, 3, 400, 0, CL_GROUPS, 1},
    {"chunks in batch order", 2000, 3, 4, 1500, CL_LOSSES | CL_GROUPS, 1},
    {"class order", 100, 3, 100000, 0, CL_LOSSES | CL_GROUPS, 1},
    {"class order without losses", 100, 3, 100000, 0, CL_GROUPS, 1},
    {"chunks in class order", 2000, 300, 4, 1500, CL_LOSSES | CL_GROUPS, 8},
};

static void
stop(const char *name, const char *message, long i)
{
    fprintf(stderr, "%s: %s, allocation %ld\n", name, message, i);
    exit(1);
}

/* Make a plan while allocations first..last-1 fail. */
static cl_status
make_plan(const cl_batch *batch, int needs, int threads, long first, long last)
{
    cl_plan plan;
    failing_malloc_first = first;
    failing_malloc_last = last;
    failing_malloc_asked = 0;
    const cl_status status = cl_plan_make(&plan, batch, needs, threads);
    cl_plan_free(&plan);
    return status;
}

/* Returns how many allocations the plan makes. */
static long
fail_each(const char *name, const cl_batch *batch, int needs, int threads)
{
    for (long i = 0;; i++) {
        const cl_status once = make_plan(batch, needs, threads, i, i + 1);
        const cl_status from_then_on = make_plan(batch, needs, threads, i, 1000000);
        if (failing_malloc_held != 0) {
            stop(name, "not all memory is freed", i);
        }
        if (once == CL_OK && from_then_on == CL_OK) {
            return i;
        }
        if (once != CL_NO_MEMORY || from_then_on != CL_NO_MEMORY) {
            stop(name, "not CL_NO_MEMORY", i);
        }
    }
}

/* Sizes that exceed any memory are refused without an allocation. */
static void
check_too_large(void)
{
    const cl_batch rows = {.B = INT64_MAX, .D = 1, .K = 1};
    const cl_batch columns = {.B = 1, .D = INT64_MAX, .K = 1};
    if (make_plan(&rows, CL_LOSSES, 1, 0, 0) != CL_NO_MEMORY ||
        make_plan(&columns, CL_GROUPS, 1, 0, 0) != CL_NO_MEMORY ||
        failing_malloc_asked != 0) {
        stop("too large", "not refused at once", 0);
    }
}

int
main(void)
{
    for (size_t i = 0; i < sizeof(plans) / sizeof(plans[0]); i++) {
        for (int64_t row = 0; row < plans[i].B; row++) {
            labels[row] = row < plans[i].same ? 0 : row % plans[i].K;
            weights[row] = 1;
        }
        const cl_batch batch = {
            .types = CL_FLOAT32,
            .B = plans[i].B,
            .D = plans[i].D,
            .K = plans[i].K,
            .labels = (const char *)labels,
            .label_stride = sizeof(*labels),
            .label_size = sizeof(*labels),
            .label_signed = true,
            .weights = weights,
        };
        printf("%s: %ld\n", plans[i].name,
               fail_each(plans[i].name, &batch, plans[i].needs, plans[i].threads));
    }
    check_too_large();
    return 0;
}
