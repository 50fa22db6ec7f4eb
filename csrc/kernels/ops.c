/*
 * Each operation as passes over the batch, and how the work of a pass is split over
 * threads.
 *
 * Serial, whatever the number of threads: adding up the losses, clearing ignored rows
 * and absent deltas, and finalizing classes of several chunks or segments.
 */
#include <assert.h>
#include <string.h>

#include "group_rows.h"
#include "kernels.h"
#include "plan.h"
#include "simd.h"
#include "threads.h"

/* Rows in batch order, an equal number for every worker. */
static void
run_rows(void *argument, int worker, int workers)
{
    const cl_pass *pass = argument;
    const int64_t B = pass->batch->B;
    cl_kernels_for(pass->batch->types)
        ->rows(pass, B * worker / workers, B * (worker + 1) / workers);
}

/* The first chunk of a worker: chunks are split by the position of their first row. */
static int64_t
first_chunk(const cl_plan *plan, int worker, int workers)
{
    const int64_t position = plan->counted * worker / workers;
    int64_t low = 0, high = plan->n_chunks;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (plan->chunks[middle].start < position) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    return low;
}

static void
run_chunks(void *argument, int worker, int workers)
{
    const cl_pass *pass = argument;
    const cl_plan *plan = pass->plan;
    pass->finalized[worker] = cl_kernels_for(pass->batch->types)
                                  ->chunks(pass, first_chunk(plan, worker, workers),
                                           first_chunk(plan, worker + 1, workers),
                                           plan->sums + 3 * worker * plan->sum_size);
}

static void
run_segments(void *argument, int worker, int workers)
{
    const cl_pass *pass = argument;
    const cl_plan *plan = pass->plan;
    cl_kernels_for(pass->batch->types)
        ->segments(pass, plan->segments * worker / workers,
                   plan->segments * (worker + 1) / workers);
}

/* Rows are prefetched this many bytes of features ahead, in whole rows: far enough to
 * hide the latency of memory, near enough to be still in the second-level cache.
 * Smaller features are mostly in that cache already. Of long rows the processor
 * prefetches most by itself, which is enough while the features are in some cache. */
static const double PREFETCH_BYTES = 4096;
static const double MIN_BYTES_PREFETCHED = 128 * 1024;
static const double MIN_BYTES_PREFETCHED_LONG = 2 << 20;

static int64_t
prefetch_distance(const cl_batch *b)
{
    const double bytes = cl_feature_bytes(b);
    const double rows = PREFETCH_BYTES / (double)(b->D * cl_feature_size(b->types));
    if (bytes < (rows < 1 ? MIN_BYTES_PREFETCHED_LONG : MIN_BYTES_PREFETCHED)) {
        return 0;
    }
    return rows > 1 ? (int64_t)rows : 1;
}

/* Process the rows of every class and finalize it. Returns the number of classes
 * finalized. */
static int64_t
run_classes(cl_pass *pass)
{
    const cl_plan *plan = pass->plan;
    const cl_kernels *kernels = cl_kernels_for(pass->batch->types);
    pass->prefetch_distance = prefetch_distance(pass->batch);
    if (plan->in_batch_order) {
        const bool fewer = plan->segments < plan->threads;
        cl_parallel(run_segments, pass, fewer ? (int)plan->segments : plan->threads);
        return kernels->finalize_segments(pass);
    }
    int64_t finalized[CL_MAX_THREADS];
    pass->finalized = finalized;
    cl_parallel(run_chunks, pass, plan->threads);
    int64_t total = kernels->finalize_chunks(pass, plan->sums);
    for (int worker = 0; worker < plan->threads; worker++) {
        total += finalized[worker];
    }
    return total;
}

/* The W of the mean. */
static double
mean_weight(const cl_plan *plan, const cl_loss_options *options)
{
    return options->total_weight != NULL ? *options->total_weight : plan->weight;
}

/* What multiplies every row's loss, besides its weight. */
static double
loss_factor(const cl_plan *plan, const cl_loss_options *options)
{
    if (options->reduction != CL_MEAN) {
        return options->loss_weight;
    }
    const double weight = mean_weight(plan, options);
    return weight > 0 ? options->loss_weight / weight : 0.0;
}

/* A gradient this large does not stay in the caches until it is used, so it is stored
 * past them. */
static const double MIN_BYTES_NONTEMPORAL = 4 << 20;

static bool
stores_nontemporal(const cl_batch *b, const cl_outputs *outputs)
{
    const uintptr_t address_bits =
        (uintptr_t)outputs->gradient | (uintptr_t)outputs->gradient_stride;
    return HAS_STREAM && outputs->gradient != NULL &&
           address_bits % STREAM_BYTES == 0 &&
           cl_feature_bytes(b) >= MIN_BYTES_NONTEMPORAL;
}

static cl_pass
loss_pass(const cl_batch *batch, cl_plan *plan, const cl_loss_options *options,
          const cl_outputs *outputs)
{
    return (cl_pass){
        .batch = batch,
        .plan = plan,
        .factor = loss_factor(plan, options),
        .gradient = outputs->gradient,
        .gradient_stride = outputs->gradient_stride,
        .nontemporal = stores_nontemporal(batch, outputs),
    };
}

/* Set loss and gradient of ignored rows, which no pass visits, to zero. */
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
store_losses(const cl_pass *pass, const cl_loss_options *options,
             const cl_outputs *outputs)
{
    const double *losses = pass->plan->losses;
    const int64_t B = pass->batch->B;
    if (outputs->terms != NULL) {
        memcpy(outputs->terms, losses, (size_t)B * sizeof(*losses));
    }
    if (options->reduction != CL_NONE) {
        const double total = cl_sum(losses, B);
        const bool empty =
            options->reduction == CL_MEAN && !(mean_weight(pass->plan, options) > 0);
        *outputs->loss = empty ? 0.0 : pass->factor * total;
    }
    else if (cl_center_size(pass->batch->types) == 8) {
        for (int64_t i = 0; i < B; i++) {
            *(double *)(outputs->row_losses + i * outputs->row_loss_stride) =
                pass->factor * losses[i];
        }
    }
    else {
        for (int64_t i = 0; i < B; i++) {
            *(float *)(outputs->row_losses + i * outputs->row_loss_stride) =
                (float)(pass->factor * losses[i]);
        }
    }
}

void
cl_value_and_grad(const cl_batch *batch, cl_plan *plan, const cl_loss_options *options,
                  const cl_outputs *outputs)
{
    assert(plan->needs & CL_LOSSES);
    cl_pass pass = loss_pass(batch, plan, options, outputs);
    pass.prefetch_distance = prefetch_distance(batch);
    clear_ignored(&pass);
    cl_parallel(run_rows, &pass, plan->threads);
    store_losses(&pass, options, outputs);
}

int64_t
cl_step(const cl_batch *batch, cl_plan *plan, char *centers,
        const cl_loss_options *loss_options, const cl_update_options *update_options,
        const cl_outputs *outputs)
{
    assert(plan->needs == (CL_LOSSES | CL_GROUPS));
    assert(centers == batch->centers && outputs->gradient != NULL);
    cl_pass pass = loss_pass(batch, plan, loss_options, outputs);
    pass.finalize = CL_UPDATE;
    pass.centers = centers;
    pass.alpha = update_options->alpha;
    pass.normalize = update_options->normalize;
    pass.skip_nonfinite = update_options->skip_nonfinite;
    clear_ignored(&pass);
    const int64_t updated = run_classes(&pass);
    store_losses(&pass, loss_options, outputs);
    return updated;
}

int64_t
cl_update_centers(const cl_batch *batch, cl_plan *plan, char *centers,
                  const cl_update_options *options)
{
    assert(plan->needs & CL_GROUPS);
    assert(centers == batch->centers);
    cl_pass pass = {
        .batch = batch,
        .plan = plan,
        .finalize = CL_UPDATE,
        .centers = centers,
        .alpha = options->alpha,
        .normalize = options->normalize,
        .skip_nonfinite = options->skip_nonfinite,
    };
    return run_classes(&pass);
}

void
cl_center_delta(const cl_batch *batch, cl_plan *plan, bool normalize, char *deltas,
                int64_t delta_stride)
{
    assert(plan->needs & CL_GROUPS);
    cl_pass pass = {
        .batch = batch,
        .plan = plan,
        .finalize = CL_DELTA,
        .normalize = normalize,
        .class_rows = deltas,
        .class_stride = delta_stride,
    };
    const size_t row_bytes = (size_t)(batch->D * cl_center_size(batch->types));
    const int64_t rows = row_bytes > 0 ? batch->K : 0; /* D = 0 allows K = 2^60 */
    for (int64_t j = 0; j < rows; j++) {
        memset(deltas + j * delta_stride, 0, row_bytes);
    }
    run_classes(&pass);
}

void
cl_class_sums(const cl_batch *batch, cl_plan *plan, int64_t *classes, char *sums,
              double *counts)
{
    assert(plan->needs & CL_GROUPS);
    cl_pass pass = {
        .batch = batch,
        .plan = plan,
        .finalize = CL_SUMS,
        .class_rows = sums,
        .class_stride = batch->D * cl_center_size(batch->types),
        .classes = classes,
        .counts = counts,
    };
    run_classes(&pass);
}
