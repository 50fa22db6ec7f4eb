/*
 * Center loss in C: the contract.
 *
 * Center loss (Wen, Zhang, Li, Qiao, ECCV 2016) pulls the feature row x_i of
 * every sample towards the center c_j of its class j = y_i. README.md beside
 * the sources derives the formulas and says how the numbers are rounded.
 *
 * Shapes, used everywhere:
 *
 *     B   rows of the batch          features  (B, D)
 *     D   values of a row            labels    (B,)
 *     K   classes                    centers   (K, D)
 *     U   classes the batch touches  weights   (B,)
 *
 * A job is done in two moves. cl_plan_make() reads the labels, settles the order of
 * the rows and allocates: it does everything that can fail and stores nothing in the
 * caller's arrays. The job itself then cannot fail. A caller that has its
 * output arrays before it starts the job therefore gets all or nothing.
 *
 * Nothing here knows Python, keeps state between calls, or has a size that
 * depends on K, but where K is small against B.
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
    CL_BAD_LABEL, /* cl_plan.bad_row tells which row */
    CL_NO_MEMORY,
} cl_status;

typedef enum {
    CL_NONE,
    CL_SUM,
    CL_MEAN
} cl_reduction;

/* One batch against one set of centers. Strides are in bytes, may be negative,
 * and go from one row to the next; the values of a row lie side by side and
 * aligned. Labels need no alignment. */
typedef struct {
    cl_types types;
    int64_t B, D, K;
    const char *features; /* (B, D) */
    int64_t feature_stride;
    char *centers; /* (K, D); only cl_step and cl_update_centers write */
    int64_t center_stride;
    const char *labels; /* (B,) */
    int64_t label_stride;
    int label_size; /* 1, 2, 4 or 8 bytes */
    bool label_signed;
    bool ignores;          /* are rows with label == ignore_index left out? */
    int64_t ignore_index;  /* may lie outside 0..K-1 */
    const double *weights; /* (B,), finite, >= 0; NULL: every weight is 1 */
} cl_batch;

/* What loss and gradient are multiplied with; never reaches the centers. */
typedef struct {
    cl_reduction reduction;
    double loss_weight;
} cl_objective;

/* How far a center goes: c_j -= alpha * sum_i w_i (c_j - x_i) / (1 + n_j),
 * or without the 1 + n_j. */
typedef struct {
    double alpha;
    bool normalize;
} cl_rate;

/* Where loss and gradient go. */
typedef struct {
    double *loss;     /* one number; not written for CL_NONE */
    char *row_losses; /* (B,) of the centers' type; written for CL_NONE only */
    int64_t row_loss_stride;
    char *gradient; /* (B, D) of the features' type, or NULL */
    int64_t gradient_stride;
} cl_result;

/* A run of rows of one class, in class order; see groups.h. */
typedef struct cl_chunk cl_chunk;

/* Which parts of a plan a job needs. */
enum {
    CL_LOSSES = 1, /* loss or gradient are wanted */
    CL_GROUPS = 2, /* sums over the rows of each class are wanted */
};

typedef struct {
    int64_t counted; /* rows that are not ignored */
    int64_t classes; /* U, with CL_GROUPS */
    int64_t bad_row; /* after CL_BAD_LABEL: the first row out of range */
    double weight;   /* W, the weights of the counted rows added up */

    int threads;
    void *memory;    /* holds losses, labels and counts */
    double *losses;  /* (B,) w_i/2 ||d_i||^2 */
    int64_t *labels; /* (B,), -1 for an ignored row */
    int64_t *counts; /* (K,) the rows of each class; NULL unless K is small */

    bool in_batch_order; /* or else in class order */
    void *work;          /* holds all that follows but the partials */
    double *sums;        /* a class's sum and its weight: in batch order
                            (segments, K, D + 1), in class order (threads, 2, D + 1) */
    int64_t sum_size;    /* doubles from one of them to the next */
    int64_t segments;    /* of the batch, see groups.h */

    int64_t *rows;    /* (counted,) rows in class order, batch order within */
    cl_chunk *chunks; /* (n_chunks + 1,) of the rows */
    int64_t n_chunks;
    double *partials; /* a row of D + 1 per chunk of a class with several */
    char *staged;     /* (threads, staged_size) room for a row of the gradient */
    int64_t staged_size;
} cl_plan;

/* Read and check the labels, then group, count and allocate. `needs` is
 * CL_LOSSES, CL_GROUPS or both. Whatever the status, free the plan. */
cl_status
cl_plan_make(cl_plan *plan, const cl_batch *batch, int needs, int threads);

void
cl_plan_free(cl_plan *plan);

/* Loss, and the gradient unless result->gradient is NULL. Needs CL_LOSSES. */
void
cl_value_and_grad(const cl_batch *batch, const cl_plan *plan,
                  const cl_objective *objective, const cl_result *result);

/* Loss and gradient at the old centers, and then the centers move: one pass.
 * Needs CL_LOSSES | CL_GROUPS. */
void
cl_step(const cl_batch *batch, const cl_plan *plan, const cl_objective *objective,
        const cl_rate *rate, const cl_result *result);

/* The centers move. Needs CL_GROUPS. */
void
cl_update_centers(const cl_batch *batch, const cl_plan *plan, const cl_rate *rate);

/* deltas (K, D), of the centers' type: the sum of w_i (c_j - x_i), over
 * 1 + n_j if normalize; zero for absent classes. Needs CL_GROUPS. */
void
cl_center_delta(const cl_batch *batch, const cl_plan *plan, bool normalize,
                char *deltas, int64_t delta_stride);

/* The touched classes ascending, (U,); the sums of w_i (x_i - c_j), (U, D) of
 * the centers' type, C-contiguous; the n_j, (U,). Needs CL_GROUPS. */
void
cl_class_sums(const cl_batch *batch, const cl_plan *plan, int64_t *classes, char *sums,
              double *counts);

/* Instruction sets. cl_select_isa() is to be called once, before any job, with
 * the name of a set or NULL for the best this processor has; false if there is
 * no such set here. cl_isa() is the name of the one in use, cl_isa_names() lists
 * those to be had here. */
bool
cl_select_isa(const char *name);

const char *
cl_isa(void);

const char *
cl_isa_names(void);

#endif
