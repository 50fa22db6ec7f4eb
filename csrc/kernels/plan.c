/*
 * Before an operation: labels read and checked, the order of the rows chosen, and all
 * memory allocated.
 *
 * There are two orders. Both give the same bits; the faster one is chosen.
 *
 * Class order: rows are sorted by label, and a class's sum stays in the first-level
 * cache while its rows are processed. This suits any batch.
 *
 * Batch order, if there are few classes: every class has its own sum in each segment.
 * Rows are read and written in the order of memory, and nothing is sorted. When a chunk
 * of a class is full, its sum in the segment is moved to a row of partials.
 */
#include "plan.h"

#include <stdlib.h>
#include <string.h>

#include "group_rows.h"
#include "simd.h"

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

/* In batch order, most of the sums of a segment should fit into a second-level cache,
 * and the sums of all segments should not be large compared with the batch. */
static const double MAX_SUM_BYTES = 2 << 20;
static const double MAX_SUM_BYTES_PER_ROW = 40;

static bool
classes_are_few(const cl_plan *plan, const cl_batch *b)
{
    const double bytes = (double)b->K * (double)plan->sum_size * sizeof(double);
    return bytes <= MAX_SUM_BYTES &&
           bytes * (double)plan->segments <= MAX_SUM_BYTES_PER_ROW * (double)b->B;
}

/* In batch order a row's segment follows from its index. With places, a batch that is
 * in several segments of the larger one takes class order. */
static bool
segments_are_by_index(const cl_batch *b)
{
    return b->places == NULL || b->B == 0 ||
           cl_segment_of(b->places, 0) == cl_segment_of(b->places, b->B - 1);
}

/* Threads cannot share a segment, so many threads are faster in class order. Two
 * threads in class order take as long as one in batch order, or 1.1 times as long. */
static bool
batch_order_suits(const cl_plan *plan, const cl_batch *b)
{
    return plan->threads < 3 * plan->segments && classes_are_few(plan, b) &&
           segments_are_by_index(b);
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

/* How many elements each array of plan->memory has. */
typedef struct {
    int64_t sums, losses, labels, counts, full_chunks, rows, spare, chunks;
} array_sizes;

static array_sizes
sizes_of(const cl_plan *plan, const cl_batch *b)
{
    array_sizes n = {.labels = b->B};
    if (plan->needs & CL_LOSSES) {
        n.losses = b->B;
    }
    if (plan->in_batch_order) {
        n.sums = plan->segments * b->K * plan->sum_size;
        n.counts = b->K;
        n.full_chunks = b->B / CHUNK_ROWS;
    }
    else if (plan->needs & CL_GROUPS) {
        /* Without rows, D may be larger than memory. */
        n.sums = b->B > 0 ? 3 * plan->threads * plan->sum_size : 0;
        n.rows = b->B;
        n.spare = b->B - n.losses; /* the losses' memory does if there are losses */
        n.chunks = cl_max_chunks(b->B, b->K) + 1;
    }
    return n;
}

/* Allocate all arrays whose sizes do not depend on the labels. They are one block:
 * malloc() of glibc returns memory to the system, to be cleared again in the next
 * call, as soon as the free memory is twice the largest block. */
static bool
allocate(cl_plan *plan, const cl_batch *b)
{
    const int64_t max_size = INT64_MAX / 8192; /* up to it no size here overflows */
    if (b->B > max_size || b->D > max_size) {
        return false;
    }
    /* A class's weight follows its sum; sums start on cache lines. */
    plan->sum_size = (b->D + 8) / 8 * 8;
    plan->segments = (b->B + SEGMENT_ROWS - 1) / SEGMENT_ROWS;
    plan->in_batch_order = plan->needs & CL_GROUPS && batch_order_suits(plan, b);
    const array_sizes n = sizes_of(plan, b);
    const int64_t numbers =
        n.sums + n.losses + n.labels + n.counts + n.full_chunks + n.rows + n.spare;
    const int64_t bytes = 8 * numbers + n.full_chunks * (int64_t)sizeof(cl_full_chunk) +
                          n.chunks * (int64_t)sizeof(cl_chunk) + LINE_BYTES;
    plan->memory = (uint64_t)bytes <= SIZE_MAX ? malloc((size_t)bytes) : NULL;
    if (plan->memory == NULL) {
        return false;
    }
    const uintptr_t start = (uintptr_t)plan->memory + LINE_BYTES - 1;
    plan->sums = (double *)(start / LINE_BYTES * LINE_BYTES);
    plan->losses = plan->sums + n.sums;
    plan->labels = (int64_t *)(plan->losses + n.losses);
    plan->counts = plan->labels + n.labels;
    plan->last_rows = plan->counts + n.counts;
    plan->full_chunks = (cl_full_chunk *)(plan->last_rows + n.full_chunks);
    plan->rows = (int64_t *)(plan->full_chunks + n.full_chunks);
    plan->chunks = (cl_chunk *)(plan->rows + n.rows + n.spare);
    memset(plan->counts, 0, (size_t)n.counts * sizeof(*plan->counts));
    return true;
}

static bool
allocate_partials(cl_plan *plan, const cl_batch *b, int64_t n)
{
    if (n == 0) {
        return true;
    }
    const int64_t row_bytes = (b->D + 1) * (int64_t)sizeof(double);
    if ((uint64_t)n > (uint64_t)PTRDIFF_MAX / (uint64_t)row_bytes) {
        return false; /* GCOVR_EXCL_LINE: with 64 bits, malloc has failed before */
    }
    plan->partials = malloc((size_t)(n * row_bytes));
    return plan->partials != NULL;
}

static bool
plan_batch_order(cl_plan *plan, const cl_batch *b)
{
    for (int64_t label = 0; label < b->K; label++) {
        plan->classes += plan->counts[label] > 0;
    }
    return allocate_partials(plan, b, plan->n_full);
}

/* The losses are not computed yet, so their memory is work space of the sort. */
static bool
plan_class_order(cl_plan *plan, const cl_batch *b)
{
    const bool has_losses = plan->needs & CL_LOSSES;
    int64_t *spare = has_losses ? (int64_t *)plan->losses : plan->rows + b->B;
    cl_sort_rows(plan->labels, b->B, b->K, plan->counted, plan->rows, spare);
    int64_t n_partials;
    plan->n_chunks = cl_cut_chunks(plan->labels, plan->rows, plan->counted,
                                   plan->chunks, &plan->classes, &n_partials);
    return allocate_partials(plan, b, n_partials);
}

static bool
plan_groups(cl_plan *plan, const cl_batch *b)
{
    return plan->in_batch_order ? plan_batch_order(plan, b) : plan_class_order(plan, b);
}

cl_status
cl_plan_make(cl_plan *plan, const cl_batch *batch, int needs, int threads)
{
    *plan = (cl_plan){
        .bad_row = -1, .threads = threads_for(batch, threads), .needs = needs};
    if (!allocate(plan, batch)) {
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
    free(plan->memory);
    free(plan->partials);
}
