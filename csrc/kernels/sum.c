/*
 * The sum of many doubles. centerloss.h documents the order: the error grows with log
 * n, and the sums of runs may be computed apart.
 */
#include "centerloss.h"
#include "simd.h"

static double
sum_run(const double *v, int64_t n)
{
    double lane[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        for (int k = 0; k < 8; k++) {
            lane[k] += v[i + k];
        }
    }
    double rest = 0;
    for (; i < n; i++) {
        rest += v[i];
    }
    return eight_total(lane) + rest;
}

/* The sum of n values. `v` has the values or, if `of_runs`, the sums of their runs. */
static double
sum_tree(const double *v, int64_t n, bool of_runs)
{
    if (n > CL_SUM_RUN) {
        const int64_t half = (n / 2 + CL_SUM_RUN - 1) / CL_SUM_RUN * CL_SUM_RUN;
        const double *const second = v + (of_runs ? half / CL_SUM_RUN : half);
        return sum_tree(v, half, of_runs) + sum_tree(second, n - half, of_runs);
    }
    return of_runs ? *v : sum_run(v, n);
}

double
cl_sum(const double *values, int64_t n)
{
    return sum_tree(values, n, false);
}

double
cl_sum_of_runs(const double *run_sums, int64_t n)
{
    return n > 0 ? sum_tree(run_sums, n, true) : 0.0;
}
