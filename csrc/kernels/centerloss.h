/*
 * Center loss in C: the public interface of the library.
 *
 * Center loss (Wen, Zhang, Li, Qiao, ECCV 2016) pulls the feature row x_i of
 * every sample towards the center c_j of its class j = y_i. README.md in the
 * folder above has the algorithm and says how the numbers are rounded.
 *
 * Shapes, used everywhere:
 *
 *     B   rows of the batch          features  (B, D)
 *     D   values of a row            labels    (B,)
 *     K   classes                    centers   (K, D)
 *     U   classes in the batch       weights   (B,)
 *
 * An operation takes two calls. cl_plan_make() reads the labels, chooses the order
 * of the rows and allocates: it does everything that can fail and writes to none of
 * the caller's arrays. The operation itself then cannot fail. A caller that has its
 * output arrays before it starts the operation therefore gets all or nothing.
 *
 * The only state kept between calls is the instruction set chosen by
 * cl_select_isa(). No memory has a size that depends on K, unless K is small
 * compared with B.
 */
#ifndef CENTERLOSS_H
#define CENTERLOSS_H

#include <stdbool.h>
#include <stdint.h>

/* Element types: of the features, then of the centers. */
typedef enum {
    CL_FLOAT32,          /* float features, float centers */
    CL_FLOAT64,          /* double, double */
    CL_FLOAT16_FLOAT32,  /* IEEE half precision in a uint16_t, float */
    CL_BFLOAT16_FLOAT32, /* upper half of a float in a uint16_t, float */
} cl_types;
enum {
    CL_TYPES = 4
};

typedef enum {
    CL_OK,
    CL_BAD_LABEL, /* cl_plan.bad_row is the row */
    CL_NO_MEMORY,
} cl_status;

typedef enum {
    CL_NONE,
    CL_SUM,
    CL_MEAN
} cl_reduction;

/* One batch and one set of centers. Strides are in bytes, may be negative, and go
 * from one row to the next; the values of a row are contiguous and aligned. Labels
 * need no alignment. */
typedef struct {
    cl_types types;
    int64_t B, D, K;
    const char *features; /* (B, D) */
    int64_t feature_stride;
    const char *centers; /* (K, D) */
    int64_t center_stride;
    const char *labels; /* (B,) */
    int64_t label_stride;
    int label_size; /* 1, 2, 4 or 8 bytes */
    bool label_signed;
    bool has_ignore_index; /* leave out rows with label == ignore_index? */
    int64_t ignore_index;  /* may be outside 0..K-1 */
    const double *weights; /* (B,), finite, >= 0; NULL: every weight is 1 */
    const int64_t *places; /* (B,), strictly ascending, >= 0: where each row stands in
                              the larger batch that this one is a part of; NULL: row i
                              stands at i */
} cl_batch;

/* Settings of loss and gradient. They never reach the centers. */
typedef struct {
    cl_reduction reduction;
    double loss_weight;         /* finite, >= 0 */
    const double *total_weight; /* the W of a larger batch, >= 0, which CL_MEAN divides
                                   by; NULL: the batch's own */
} cl_loss_options;

/* Settings of the center update, c_j -= alpha * sum_i w_i (c_j - x_i) / (1 + n_j).
 * Without `normalize` the sum is not divided by 1 + n_j.
 *
 * With `skip_nonfinite` a row whose ||x_i - c_j||^2 is not finite is in neither the sum
 * nor n_j: the centers get the bits that they would get if the row were ignored. Its
 * loss and gradient are computed as those of any row. Without `skip_nonfinite`, NaN and
 * infinity reach the center of the row's class. */
typedef struct {
    double alpha; /* finite, >= 0 */
    bool normalize;
    bool skip_nonfinite;
} cl_update_options;

/* Where loss and gradient are written. These arrays must not overlap those of the
 * batch. */
typedef struct {
    double *loss;     /* one number; not written for CL_NONE */
    char *row_losses; /* (B,) of the centers' type; written for CL_NONE only */
    int64_t row_loss_stride;
    double *terms;  /* (B,) w_i/2 ||d_i||^2, 0 for an ignored row; or NULL */
    char *gradient; /* (B, D) of the features' type, or NULL */
    int64_t gradient_stride;
} cl_outputs;

/* What the operation to come needs. */
enum {
    CL_LOSSES = 1, /* loss or gradient */
    CL_GROUPS = 2, /* sums over the rows of each class */
};

enum {
    CL_MAX_THREADS = 256
};

/* Rows of one class; see group_rows.h. */
typedef struct cl_chunk cl_chunk;
typedef struct cl_full_chunk cl_full_chunk;

typedef struct {
    int64_t counted; /* rows that are not ignored */
    int64_t classes; /* U, with CL_GROUPS */
    int64_t bad_row; /* after CL_BAD_LABEL: the first row out of range */
    double weight;   /* W, the sum of the counted rows' weights, with CL_LOSSES */
    int threads;     /* how many threads the operation uses */

    /* Private from here on: set by plan.c, used by ops.c and the kernels. */
    int needs;
    bool in_batch_order; /* or else in class order */
    void *memory;        /* holds every array but the partials */
    double *losses;      /* (B,) w_i/2 ||d_i||^2 */
    int64_t *labels;     /* (B,), negative for an ignored row */
    double *sums;        /* a class's sum and its weight: in batch order
                            (segments, K, D + 1), in class order (threads, 3, D + 1) */
    int64_t sum_size;    /* doubles from one of them to the next */
    int64_t segments;    /* of the batch, see group_rows.h */
    double *partials;    /* a row of D + 1: in batch order per full chunk, in class
                            order per chunk of a class with several */

    /* In batch order. */
    int64_t *counts;            /* (K,) the rows of each class */
    cl_full_chunk *full_chunks; /* (n_full,) in the order of their last rows */
    int64_t n_full;
    int64_t *last_rows; /* (n_full,) the last row of the chunk of each partial */

    /* In class order. */
    int64_t *rows;    /* (counted,) rows in class order, batch order within */
    cl_chunk *chunks; /* (n_chunks + 1,) of the rows */
    int64_t n_chunks;
} cl_plan;

/* Read and check the labels, group the rows, and allocate. `needs` is CL_LOSSES,
 * CL_GROUPS or both. `threads` is the most that may be used, from 1 to
 * CL_MAX_THREADS; smaller and larger values count as these. Small batches use one
 * thread whatever it is. Free the plan, whatever the status.
 *
 * A plan serves several operations on the same batch, one after another. */
cl_status
cl_plan_make(cl_plan *plan, const cl_batch *batch, int needs, int threads);

void
cl_plan_free(cl_plan *plan);

/* Operations. Each asserts that the plan was made for what it needs. */

/* Loss, and the gradient unless outputs->gradient is NULL. Needs CL_LOSSES. */
void
cl_value_and_grad(const cl_batch *batch, cl_plan *plan, const cl_loss_options *options,
                  const cl_outputs *outputs);

/* Loss and gradient at the old centers, then the center update, in one pass.
 * `centers` is batch->centers, to be written; outputs->gradient is not NULL. Returns
 * how many centers were updated: those of the classes with a row that is not left out.
 * Needs CL_LOSSES | CL_GROUPS. */
int64_t
cl_step(const cl_batch *batch, cl_plan *plan, char *centers,
        const cl_loss_options *loss_options, const cl_update_options *update_options,
        const cl_outputs *outputs);

/* The center update. `centers` is batch->centers, to be written. Returns what cl_step()
 * does. Needs CL_GROUPS. */
int64_t
cl_update_centers(const cl_batch *batch, cl_plan *plan, char *centers,
                  const cl_update_options *options);

/* deltas (K, D), of the centers' type: the sum of w_i (c_j - x_i), divided by
 * 1 + n_j if normalize; zero for absent classes. Needs CL_GROUPS. */
void
cl_center_delta(const cl_batch *batch, cl_plan *plan, bool normalize, char *deltas,
                int64_t delta_stride);

/* The classes in the batch, ascending, (U,); their sums of w_i (x_i - c_j), (U, D)
 * of the centers' type, C-contiguous; their n_j, (U,). Needs CL_GROUPS. */
void
cl_class_sums(const cl_batch *batch, cl_plan *plan, int64_t *classes, char *sums,
              double *counts);

/* The sum of n doubles, in an order that depends on n alone; 0 for n = 0. The loss of a
 * batch is a factor times the cl_sum() of its terms, where the factor is loss_weight
 * or, for CL_MEAN, loss_weight / W; W is the cl_sum() of the weights, 0 for an ignored
 * row. The order never changes:
 *
 * A run is up to CL_SUM_RUN values. Eight lanes start at zero; value i is added to lane
 * i % 8, in the order of i, as long as whole groups of eight are left. The other values
 * are added up from zero, one after another. The run's sum is
 *
 *     (((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7))) + others
 *
 * More values than that are split in two: the first h = n / 2, rounded down and then up
 * to a multiple of CL_SUM_RUN, and the rest. The sum is that of the first h plus that
 * of the rest, each added up by these rules. */
enum {
    CL_SUM_RUN = 1024
};
double
cl_sum(const double *values, int64_t n);

/* cl_sum() of n values, given the sums of their runs: run k is values k * CL_SUM_RUN to
 * (k + 1) * CL_SUM_RUN - 1, the last one what is left. */
double
cl_sum_of_runs(const double *run_sums, int64_t n);

/* Instruction sets. Call cl_select_isa() once, before any operation, with the name
 * of a set or NULL for the best that this processor has; it returns false if there
 * is no such set here. cl_isa() is the name of the set in use, cl_isa_names() lists
 * those available. Without the call the baseline is used. */
bool
cl_select_isa(const char *name);

const char *
cl_isa(void);

const char *
cl_isa_names(void);

#endif
