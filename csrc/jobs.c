/*
 * Each job as passes over the batch, and how the work of a pass is split over
 * threads.
 */
#include <string.h>

#include "groups.h"
#include "kernels.h"
#include "lanes.h"
#include "plan.h"
#include "threads.h"

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
                 plan->sums + 2 * part * plan->sum_size,
                 plan->staged + part * plan->staged_size);
}

static void
segments_part(void *argument, int part, int parts)
{
    const cl_pass *pass = argument;
    const cl_plan *plan = pass->plan;
    const int64_t B = pass->batch->B, n = plan->segments;
    for (int64_t k = n * part / parts; k < n * (part + 1) / parts; k++) {
        const int64_t first = k * SEGMENT_ROWS, last = first + SEGMENT_ROWS;
        cl_kernels_for(pass->batch->types)
            ->segment(pass, first, last < B ? last : B,
                      plan->sums + k * pass->batch->K * plan->sum_size);
    }
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
    if (cl_feature_bytes(b) < LEAST_BYTES_FETCHED) {
        return 0;
    }
    const int64_t rows = BYTES_AHEAD / (b->D * cl_feature_size(b->types));
    return rows > 1 ? rows : 1;
}

/* Visit the rows of every class and finish it. */
static void
run_classes(cl_pass *pass)
{
    const cl_plan *plan = pass->plan;
    const cl_kernels *kernels = cl_kernels_for(pass->batch->types);
    pass->ahead = rows_ahead(pass->batch);
    if (plan->in_batch_order) {
        const bool fewer = plan->segments < plan->threads;
        cl_parallel(segments_part, pass, fewer ? (int)plan->segments : plan->threads);
        kernels->finish_segments(pass);
    }
    else {
        cl_parallel(chunks_part, pass, plan->threads);
        kernels->finish_chunks(pass, plan->sums);
    }
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

/* How the gradient is stored. Streaming takes whole groups of STREAM_BYTES. Rows
 * in class order whose ends share cache lines with other rows are staged. */
static cl_store
store_for(const cl_batch *b, const cl_plan *plan, const cl_result *result)
{
#if STREAM_BYTES
    const uintptr_t place =
        (uintptr_t)result->gradient | (uintptr_t)result->gradient_stride;
    if (result->gradient != NULL && place % STREAM_BYTES == 0 &&
        cl_feature_bytes(b) >= CL_LEAST_BYTES_STREAMED) {
        return plan->staged_size > 0 && place % LINE_BYTES != 0 ? CL_STAGED
                                                                : CL_STREAMED;
    }
#else
    (void)b;
    (void)plan;
    (void)result;
#endif
    return CL_CACHED;
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
        .store = store_for(batch, plan, result),
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
    const size_t row_bytes = (size_t)(b->D * cl_feature_size(b->types));
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
        const double total = cl_sum(losses, B);
        const bool empty = objective->reduction == CL_MEAN && !(pass->plan->weight > 0);
        *result->loss = empty ? 0.0 : pass->factor * total;
    }
    else if (cl_center_size(pass->batch->types) == 8) {
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
    pass.ahead = rows_ahead(batch);
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
    run_classes(&pass);
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
    run_classes(&pass);
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
    const size_t row_bytes = (size_t)(batch->D * cl_center_size(batch->types));
    const int64_t rows = row_bytes > 0 ? batch->K : 0; /* K may be 2^60, of nothing */
    for (int64_t j = 0; j < rows; j++) {
        memset(deltas + j * delta_stride, 0, row_bytes);
    }
    run_classes(&pass);
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
        .class_stride = batch->D * cl_center_size(batch->types),
        .classes = classes,
        .counts = counts,
    };
    run_classes(&pass);
}
