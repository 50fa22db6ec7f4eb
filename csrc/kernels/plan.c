/*
 * Before an operation: labels read and checked, the order of the rows chosen, and all
 * memory allocated.
 *
 * There are two orders. Both give the same bits; the faster one is chosen.
 *
 * Class order: rows are sorted by label, and a class's sum stays in the first-level
 * cache while its rows are processed. This suits any batch.
 *
 * Batch order, if there are few classes and none has more rows than a chunk: every
 * class has its own sum in each segment. Rows are read and written in the order of
 * memory, and nothing is sorted.
 */
#include "plan.h"

#include <stdlib.h>
#include <string.h>

#include "group_rows.h"
#include "simd.h"
#include "threads.h"

/* Creating and joining a thread costs 15 to 100 us. Two threads break even at 0.6 MiB
 * of features on an idle machine and at 1.3 to 4 MiB on a busy one, hence at least
 * 1 MiB per thread. */
static const double MIN_BYTES_PER_THREAD = 1 << 20;

static double
max_useful_threads(const cl_batch *b)
{
    return cl_feature_bytes(b) / MIN_BYTES_PER_THREAD;
}

static int
threads_for(const cl_batch *b, int requested)
{
    const double useful = max_useful_threads(b);
    const int max = requested < CL_MAX_THREADS ? requested : CL_MAX_THREADS;
    return useful < 2 || max < 1 ? 1 : useful < max ? (int)useful : max;
}

/* In batch order the sums of a segment should fit into a second-level cache, mostly,
 * and those of all segments should be in proportion to the batch. */
static const double MAX_SUM_BYTES = 2 << 20;
static const double MAX_SUM_BYTES_PER_ROW = 40;

static bool
classes_are_few(const cl_plan *plan, const cl_batch *b)
{
    const double bytes = (double)b->K * (double)plan->sum_size * sizeof(double);
    return bytes <= MAX_SUM_BYTES &&
           bytes * (double)plan->segments <= MAX_SUM_BYTES_PER_ROW * (double)b->B;
}

/* Threads cannot share a segment, so many threads are faster in class order. */
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

/* W. The losses are not computed yet, so their memory holds the weights. */
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

/* Allocate what is needed before the labels are known. */
static bool
allocate_labels(cl_plan *plan, const cl_batch *b)
{
    const int64_t max_size = INT64_MAX / 8192; /* up to it no size here overflows */
    if (b->B > max_size || b->D > max_size) {
        return false;
    }
    /* A class's weight follows its sum; sums start on cache lines. */
    plan->sum_size = (b->D + 8) / 8 * 8;
    plan->segments = (b->B + SEGMENT_ROWS - 1) / SEGMENT_ROWS;
    const bool counts = plan->needs & CL_GROUPS && classes_are_few(plan, b);
    const int64_t n_losses = plan->needs & CL_LOSSES ? b->B : 0;
    const int64_t n_counts = counts ? b->K : 0;
    const int64_t bytes = 8 * (n_losses + b->B + n_counts);
    plan->label_memory = (uint64_t)bytes <= SIZE_MAX ? malloc((size_t)bytes + 1) : NULL;
    if (plan->label_memory == NULL) {
        return false;
    }
    plan->losses = plan->label_memory;
    plan->labels = (int64_t *)(plan->losses + n_losses);
    if (counts) {
        plan->counts = plan->labels + b->B;
        memset(plan->counts, 0, (size_t)n_counts * sizeof(*plan->counts));
    }
    return true;
}

/* Allocate what a kernel works in, starting on a cache line. */
static double *
allocate_groups(cl_plan *plan, int64_t bytes)
{
    const uint64_t size = (uint64_t)bytes + LINE_BYTES;
    plan->group_memory = size <= SIZE_MAX ? malloc((size_t)size) : NULL;
    const uintptr_t start = (uintptr_t)plan->group_memory;
    return (double *)((start + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES);
}

static bool
plan_batch_order(cl_plan *plan, const cl_batch *b)
{
    plan->sums = allocate_groups(plan, 8 * plan->segments * b->K * plan->sum_size);
    for (int64_t label = 0; label < b->K; label++) {
        plan->classes += plan->counts[label] > 0;
    }
    return plan->group_memory != NULL;
}

static bool
plan_class_order(cl_plan *plan, const cl_batch *b)
{
    /* Without rows, D may be larger than memory. */
    const int64_t n_sums = b->B > 0 ? 3 * plan->threads * plan->sum_size : 0;
    const int64_t max_chunks = cl_max_chunks(plan->counted, b->K) + 1;
    plan->sums = allocate_groups(plan, 8 * (n_sums + 2 * plan->counted) +
                                           max_chunks * (int64_t)sizeof(cl_chunk));
    if (plan->group_memory == NULL) {
        return false;
    }
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
        return false; /* GCOVR_EXCL_LINE: with 64 bits, malloc has failed before */
    }
    plan->partials = malloc((size_t)(n_partials * row_bytes));
    return plan->partials != NULL;
}

static bool
plan_groups(cl_plan *plan, const cl_batch *b)
{
    plan->in_batch_order = batch_order_suits(plan, b->K);
    return plan->in_batch_order ? plan_batch_order(plan, b) : plan_class_order(plan, b);
}

cl_status
cl_plan_make(cl_plan *plan, const cl_batch *batch, int needs, int threads)
{
    *plan = (cl_plan){
        .bad_row = -1, .threads = threads_for(batch, threads), .needs = needs};
    if (!allocate_labels(plan, batch)) {
        return CL_NO_MEMORY;
    }
    plan->bad_row = cl_read_labels(batch, plan);
    if (plan->bad_row >= 0) {
        return CL_BAD_LABEL;
    }
    if (needs & CL_LOSSES) {
        plan->weight = counted_weight(plan, batch);
    }
    if (needs & CL_GROUPS && !plan_groups(plan, batch)) {
        return CL_NO_MEMORY;
    }
    return CL_OK;
}

void
cl_plan_free(cl_plan *plan)
{
    free(plan->label_memory);
    free(plan->group_memory);
    free(plan->partials);
}
