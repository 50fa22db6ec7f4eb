/*
 * Before a job: labels read and checked, the order of the rows settled, and all
 * memory allocated.
 *
 * There are two orders, and both give the same bits; the faster is taken.
 *
 * Class order: rows are sorted by label, and a class's sum stays in the
 * first-level cache while its rows pass by. This serves any batch.
 *
 * Batch order, where classes are few and none has more rows than a chunk: in each
 * segment every class has a sum of its own. Rows are read and written one after the
 * other, as memory likes best, and nothing is sorted.
 */
#include "plan.h"

#include <stdlib.h>
#include <string.h>

#include "groups.h"
#include "lanes.h"
#include "threads.h"

/* Creating a thread, waking an idle processor for it and joining it takes 15 to
 * 100 us, by the machine and by what else runs there. A share of the features that
 * is read, worked on and written in less is not worth one: two threads broke even
 * at 0.6 MiB of features in a good hour, and between 1.3 and 4 MiB in a bad one. */
enum {
    LEAST_BYTES_PER_THREAD = 1 << 20
};

static double
threads_worth(const cl_batch *b)
{
    return cl_feature_bytes(b) / LEAST_BYTES_PER_THREAD;
}

static int
threads_for(const cl_batch *b, int threads)
{
    const double worth = threads_worth(b);
    const int most = threads < CL_MAX_THREADS ? threads : CL_MAX_THREADS;
    return worth < 2 ? 1 : worth < most ? (int)worth : most;
}

/* A row of at least so many bytes is put together in the cache before it is
 * stored past it, unless rows fill whole cache lines. Measured: up to 1.5 times
 * faster from 1 KiB on, slower for 512 bytes. */
enum {
    LEAST_BYTES_STAGED = 1024
};

/* In batch order the sums of a segment are to stay in a second-level cache, mostly,
 * and those of all in proportion to the batch. */
enum {
    MOST_SUM_BYTES = 2 << 20,
    SUM_BYTES_PER_ROW = 40
};

static bool
classes_are_few(const cl_plan *plan, const cl_batch *b)
{
    const double bytes = (double)b->K * (double)plan->sum_size * sizeof(double);
    return bytes <= MOST_SUM_BYTES &&
           bytes * (double)plan->segments <= SUM_BYTES_PER_ROW * (double)b->B;
}

/* Threads cannot share a segment: many of them are better off in class order. */
static bool
batch_order_suits(const cl_plan *plan, int64_t K)
{
    if (plan->counts == NULL || plan->threads >= 2 * plan->segments) {
        return false;
    }
    for (int64_t label = 0; label < K; label++) {
        if (plan->counts[label] > CHUNK_ROWS) {
            return false;
        }
    }
    return true;
}

double
cl_sum(const double *v, int64_t n)
{
    enum {
        RUN = 1024
    };
    if (n > RUN) {
        const int64_t half = (n / 2 + RUN - 1) / RUN * RUN;
        return cl_sum(v, half) + cl_sum(v + half, n - half);
    }
    d8 lanes = d8_zero();
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        lanes = d8_add(lanes, d8_load(v + i, LANES), LANES);
    }
    double rest = 0;
    for (; i < n; i++) {
        rest += v[i];
    }
    return d8_total(lanes) + rest;
}

/* W. The rows' losses are not there yet: their place holds the weights. */
static double
counted_weight(const cl_plan *plan, const cl_batch *b)
{
    if (b->weights == NULL) {
        return (double)plan->counted;
    }
    for (int64_t i = 0; i < b->B; i++) {
        plan->losses[i] = plan->labels[i] >= 0 ? b->weights[i] : 0.0;
    }
    return cl_sum(plan->losses, b->B);
}

/* What is needed before the labels are known. */
static bool
read_memory(cl_plan *plan, const cl_batch *b, int needs)
{
    const int64_t most = INT64_MAX / 8192; /* below it no size here overflows */
    if (b->B > most || b->D > most) {
        return false;
    }
    /* A class's weight follows its sum; sums start on cache lines. */
    plan->sum_size = (b->D + 8) / 8 * 8;
    plan->segments = (b->B + SEGMENT_ROWS - 1) / SEGMENT_ROWS;
    const bool counts = needs & CL_GROUPS && classes_are_few(plan, b);
    const int64_t n_losses = needs & CL_LOSSES ? b->B : 0;
    const int64_t n_counts = counts ? b->K : 0;
    const int64_t bytes = 8 * (n_losses + b->B + n_counts);
    plan->memory = (uint64_t)bytes <= SIZE_MAX ? malloc((size_t)bytes + 1) : NULL;
    if (plan->memory == NULL) {
        return false;
    }
    plan->losses = plan->memory;
    plan->labels = (int64_t *)(plan->losses + n_losses);
    if (counts) {
        plan->counts = plan->labels + b->B;
        memset(plan->counts, 0, (size_t)n_counts * sizeof(*plan->counts));
    }
    return true;
}

/* `bytes` and what is left of a cache line. */
static int64_t
whole_lines(int64_t bytes)
{
    return (bytes + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
}

/* The memory that a kernel works in, on a cache line. */
static char *
work_memory(cl_plan *plan, int64_t bytes)
{
    const uint64_t size = (uint64_t)bytes + LINE_BYTES;
    plan->work = size <= SIZE_MAX ? malloc((size_t)size) : NULL;
    return (char *)whole_lines((intptr_t)plan->work);
}

static bool
plan_batch_order(cl_plan *plan, const cl_batch *b)
{
    plan->sums =
        (double *)work_memory(plan, 8 * plan->segments * b->K * plan->sum_size);
    for (int64_t label = 0; label < b->K; label++) {
        plan->classes += plan->counts[label] > 0;
    }
    return plan->work != NULL;
}

/* Room for a row of the gradient and for its place within a cache line, or 0. */
static int64_t
staged_size(const cl_batch *b, int needs)
{
    const int64_t row_bytes = b->D * cl_feature_size(b->types);
    const bool stages = needs & CL_LOSSES && row_bytes >= LEAST_BYTES_STAGED &&
                        cl_feature_bytes(b) >= CL_LEAST_BYTES_STREAMED;
    return stages ? whole_lines(row_bytes + LINE_BYTES) : 0;
}

static bool
plan_class_order(cl_plan *plan, const cl_batch *b, int needs)
{
    /* Where there are no rows, they may be longer than memory. */
    const int64_t n_sums = b->B > 0 ? 2 * plan->threads * plan->sum_size : 0;
    const int64_t n_chunks = cl_most_chunks(plan->counted, b->K) + 1;
    plan->staged_size = staged_size(b, needs);
    plan->staged = work_memory(plan, plan->threads * plan->staged_size +
                                         8 * (n_sums + 2 * plan->counted) +
                                         n_chunks * (int64_t)sizeof(cl_chunk));
    if (plan->work == NULL) {
        return false;
    }
    plan->sums = (double *)(plan->staged + plan->threads * plan->staged_size);
    int64_t *rows = (int64_t *)(plan->sums + n_sums);
    int64_t *spare = rows + plan->counted;
    plan->chunks = (cl_chunk *)(spare + plan->counted);
    plan->rows = cl_sort_rows(plan->labels, b->B, b->K, plan->counted, rows, spare);
    int64_t n_partials;
    plan->n_chunks = cl_cut_chunks(plan->labels, plan->rows, plan->counted,
                                   plan->chunks, &plan->classes, &n_partials);
    if (n_partials == 0) {
        return true;
    }
    const int64_t row_bytes = (b->D + 1) * (int64_t)sizeof(double);
    if ((uint64_t)n_partials > (uint64_t)PTRDIFF_MAX / (uint64_t)row_bytes) {
        return false; /* GCOVR_EXCL_LINE: with 64 bits, there was no memory before */
    }
    plan->partials = malloc((size_t)(n_partials * row_bytes));
    return plan->partials != NULL;
}

static bool
plan_groups(cl_plan *plan, const cl_batch *b, int needs)
{
    plan->in_batch_order = batch_order_suits(plan, b->K);
    return plan->in_batch_order ? plan_batch_order(plan, b)
                                : plan_class_order(plan, b, needs);
}

cl_status
cl_plan_make(cl_plan *plan, const cl_batch *batch, int needs, int threads)
{
    *plan = (cl_plan){.bad_row = -1, .threads = threads_for(batch, threads)};
    if (!read_memory(plan, batch, needs)) {
        return CL_NO_MEMORY;
    }
    plan->bad_row = cl_read_labels(batch, plan);
    if (plan->bad_row >= 0) {
        return CL_BAD_LABEL;
    }
    if (needs & CL_LOSSES) {
        plan->weight = counted_weight(plan, batch);
    }
    if (needs & CL_GROUPS && !plan_groups(plan, batch, needs)) {
        return CL_NO_MEMORY;
    }
    return CL_OK;
}

void
cl_plan_free(cl_plan *plan)
{
    free(plan->memory);
    free(plan->work);
    free(plan->partials);
}
