/*
 * Each job as passes over the batch: what is planned, and how the work is
 * split over threads.
 */
#include <stdlib.h>
#include <string.h>

#include "groups.h"
#include "kernels.h"
#include "lanes.h"
#include "threads.h"

/* Sizes of a feature and of a center's value. */
static int64_t
feature_size(cl_types types)
{
    return types == CL_FLOAT64 ? 8 : types == CL_FLOAT32 ? 4 : 2;
}

static int64_t
center_size(cl_types types)
{
    return types == CL_FLOAT64 ? 8 : 4;
}

static double
feature_bytes(const cl_batch *b)
{
    return (double)b->B * (double)b->D * (double)feature_size(b->types);
}

/* Creating and joining a thread costs some 15 to 30 us; a share of the features
 * that is read, worked on and written in less is not worth one. */
enum {
    LEAST_BYTES_PER_THREAD = 300 * 1024
};

static int
threads_worth(const cl_batch *b, int threads)
{
    const double worth = feature_bytes(b) / LEAST_BYTES_PER_THREAD;
    const int most = threads < CL_MAX_THREADS ? threads : CL_MAX_THREADS;
    return worth < 2 ? 1 : worth < most ? (int)worth : most;
}

/* The sum of n doubles in an order that depends on n alone, halving down to
 * short runs of lanes, so that the error grows with log n. */
static double
sum_of(const double *v, int64_t n)
{
    enum {
        RUN = 1024
    };
    if (n > RUN) {
        const int64_t half = (n / 2 + RUN - 1) / RUN * RUN;
        return sum_of(v, half) + sum_of(v + half, n - half);
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
    return sum_of(plan->losses, b->B);
}

/* All memory whose size does not depend on the labels, in one piece: small
 * batches are common, and each malloc would cost as much as several rows. */
static bool
plan_memory(cl_plan *plan, const cl_batch *b, int needs)
{
    const int64_t most = INT64_MAX / 4096; /* below it no size here overflows */
    if (b->B > most || b->D > most) {
        return false;
    }
    const int64_t grouped = needs & CL_GROUPS ? b->B : 0;
    const int64_t n_losses = needs & CL_LOSSES ? b->B : 0;
    const int64_t n_chunks = grouped > 0 ? cl_most_chunks(b->B, b->K) + 1 : 1;
    /* Sums start on cache lines, and two threads' never share one. */
    plan->sum_size = grouped > 0 ? (b->D + 15) / 8 * 8 : 0;
    const int64_t words =
        plan->threads * plan->sum_size + b->B + n_losses + 2 * grouped;
    const int64_t bytes = 64 + 8 * words + n_chunks * (int64_t)sizeof(cl_chunk);
    plan->memory = (uint64_t)bytes <= SIZE_MAX ? malloc((size_t)bytes) : NULL;
    if (plan->memory == NULL) {
        return false;
    }
    plan->sums = (double *)(((uintptr_t)plan->memory + 63) / 64 * 64);
    plan->losses = plan->sums + plan->threads * plan->sum_size;
    plan->labels = (int64_t *)(plan->losses + n_losses);
    plan->rows = plan->labels + b->B;
    plan->spare = plan->rows + grouped;
    plan->chunks = (cl_chunk *)(plan->spare + grouped);
    return true;
}

static bool
plan_groups(cl_plan *plan, const cl_batch *b)
{
    int64_t n_partials;
    plan->rows =
        cl_sort_rows(plan->labels, b->B, b->K, plan->counted, plan->rows, plan->spare);
    plan->n_chunks = cl_cut_chunks(plan->labels, plan->rows, plan->counted,
                                   plan->chunks, &plan->classes, &n_partials);
    if (n_partials == 0) {
        return true;
    }
    const int64_t row_bytes = (b->D + 1) * (int64_t)sizeof(double);
    if ((uint64_t)n_partials > (uint64_t)PTRDIFF_MAX / (uint64_t)row_bytes) {
        return false;
    }
    plan->partials = malloc((size_t)(n_partials * row_bytes));
    return plan->partials != NULL;
}

cl_status
cl_plan_make(cl_plan *plan, const cl_batch *batch, int needs, int threads)
{
    *plan = (cl_plan){.bad_row = -1, .threads = threads_worth(batch, threads)};
    if (!plan_memory(plan, batch, needs)) {
        return CL_NO_MEMORY;
    }
    plan->bad_row = cl_read_labels(batch, plan->labels, &plan->counted);
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

/* Rows first..last-1 in batch order, a like share for every thread. */
static void
rows_part(void *argument, int part, int parts)
{
    const cl_pass *pass = argument;
    const int64_t B = pass->batch->B;
    cl_kernels_for(pass->batch->types)
        ->rows(pass, B * part / parts, B * (part + 1) / parts);
}

/* The first chunk that starts at or after this share of the rows. */
static int64_t
chunk_at(const cl_plan *plan, int part, int parts)
{
    const int64_t place = plan->counted * part / parts;
    int64_t low = 0, high = plan->n_chunks;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (plan->chunks[middle].start < place) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    return low;
}

static void
chunks_part(void *argument, int part, int parts)
{
    const cl_pass *pass = argument;
    const cl_plan *plan = pass->plan;
    cl_kernels_for(pass->batch->types)
        ->chunks(pass, chunk_at(plan, part, parts), chunk_at(plan, part + 1, parts),
                 plan->sums + part * plan->sum_size);
}

/* Rows are fetched this many bytes of features ahead of use, in whole rows: far
 * enough to hide the memory's latency, near enough to be still in the
 * second-level cache. Features that fit into it are mostly there already. */
enum {
    BYTES_AHEAD = 4096,
    LEAST_BYTES_FETCHED = 128 * 1024
};

static int64_t
rows_ahead(const cl_batch *b)
{
    if (feature_bytes(b) < LEAST_BYTES_FETCHED) {
        return 0;
    }
    const int64_t rows = BYTES_AHEAD / (b->D * feature_size(b->types));
    return rows > 1 ? rows : 1;
}

static void
run_chunks(cl_pass *pass)
{
    pass->ahead = rows_ahead(pass->batch);
    cl_parallel(chunks_part, pass, pass->plan->threads);
    cl_kernels_for(pass->batch->types)->merge(pass, pass->plan->sums);
}

/* What a row's loss is multiplied with, but for its weight. */
static double
objective_factor(const cl_plan *plan, const cl_objective *objective)
{
    if (objective->reduction != CL_MEAN) {
        return objective->loss_weight;
    }
    return plan->weight > 0 ? objective->loss_weight / plan->weight : 0.0;
}

/* A gradient this large does not stay in the caches until it is used, so it
 * need not go through them. */
enum {
    LEAST_BYTES_STREAMED = 4 << 20
};

static bool
is_streamed(const cl_batch *b, const cl_result *result)
{
#if STREAM_BYTES
    return result->gradient != NULL && feature_bytes(b) >= LEAST_BYTES_STREAMED &&
           (uintptr_t)result->gradient % STREAM_BYTES == 0 &&
           result->gradient_stride % STREAM_BYTES == 0;
#else
    (void)b;
    (void)result;
    return false;
#endif
}

static cl_pass
pass_for(const cl_batch *batch, const cl_plan *plan, const cl_objective *objective,
         const cl_result *result)
{
    return (cl_pass){
        .batch = batch,
        .plan = plan,
        .factor = objective_factor(plan, objective),
        .gradient = result->gradient,
        .gradient_stride = result->gradient_stride,
        .streams = is_streamed(batch, result),
    };
}

/* The rows that no pass visits. */
static void
clear_ignored(const cl_pass *pass)
{
    const cl_batch *b = pass->batch;
    const cl_plan *plan = pass->plan;
    if (plan->counted == b->B) {
        return;
    }
    const size_t row_bytes = (size_t)(b->D * feature_size(b->types));
    for (int64_t i = 0; i < b->B; i++) {
        if (plan->labels[i] < 0) {
            plan->losses[i] = 0.0;
            if (pass->gradient != NULL) {
                memset(pass->gradient + i * pass->gradient_stride, 0, row_bytes);
            }
        }
    }
}

static void
store_losses(const cl_pass *pass, const cl_objective *objective,
             const cl_result *result)
{
    const double *losses = pass->plan->losses;
    const int64_t B = pass->batch->B;
    if (objective->reduction != CL_NONE) {
        const double total = sum_of(losses, B);
        const bool empty = objective->reduction == CL_MEAN && !(pass->plan->weight > 0);
        *result->loss = empty ? 0.0 : pass->factor * total;
    }
    else if (center_size(pass->batch->types) == 8) {
        for (int64_t i = 0; i < B; i++) {
            *(double *)(result->row_losses + i * result->row_loss_stride) =
                pass->factor * losses[i];
        }
    }
    else {
        for (int64_t i = 0; i < B; i++) {
            *(float *)(result->row_losses + i * result->row_loss_stride) =
                (float)(pass->factor * losses[i]);
        }
    }
}

void
cl_value_and_grad(const cl_batch *batch, const cl_plan *plan,
                  const cl_objective *objective, const cl_result *result)
{
    cl_pass pass = pass_for(batch, plan, objective, result);
    clear_ignored(&pass);
    cl_parallel(rows_part, &pass, plan->threads);
    store_losses(&pass, objective, result);
}

void
cl_step(const cl_batch *batch, const cl_plan *plan, const cl_objective *objective,
        const cl_rate *rate, const cl_result *result)
{
    cl_pass pass = pass_for(batch, plan, objective, result);
    pass.finish = CL_MOVE;
    pass.alpha = rate->alpha;
    pass.normalize = rate->normalize;
    clear_ignored(&pass);
    run_chunks(&pass);
    store_losses(&pass, objective, result);
}

void
cl_update_centers(const cl_batch *batch, const cl_plan *plan, const cl_rate *rate)
{
    cl_pass pass = {
        .batch = batch,
        .plan = plan,
        .finish = CL_MOVE,
        .alpha = rate->alpha,
        .normalize = rate->normalize,
    };
    run_chunks(&pass);
}

void
cl_center_delta(const cl_batch *batch, const cl_plan *plan, bool normalize,
                char *deltas, int64_t delta_stride)
{
    cl_pass pass = {
        .batch = batch,
        .plan = plan,
        .finish = CL_DELTA,
        .normalize = normalize,
        .class_rows = deltas,
        .class_stride = delta_stride,
    };
    const size_t row_bytes = (size_t)(batch->D * center_size(batch->types));
    for (int64_t j = 0; j < batch->K; j++) {
        memset(deltas + j * delta_stride, 0, row_bytes);
    }
    run_chunks(&pass);
}

void
cl_class_sums(const cl_batch *batch, const cl_plan *plan, int64_t *classes, char *sums,
              double *counts)
{
    cl_pass pass = {
        .batch = batch,
        .plan = plan,
        .finish = CL_SUMS,
        .class_rows = sums,
        .class_stride = batch->D * center_size(batch->types),
        .classes = classes,
        .counts = counts,
    };
    run_chunks(&pass);
}
