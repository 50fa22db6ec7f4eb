/*
 * The loops over a batch: what ops.c passes to them, and the table of them that each
 * instruction set provides.
 */
#ifndef CENTERLOSS_KERNELS_H
#define CENTERLOSS_KERNELS_H

#include "centerloss.h"
#include "group_rows.h"

/* What is done with the sum of w_i d_i over the rows of a class. */
typedef enum {
    CL_UPDATE, /* alpha times it, divided by 1 + n_j or not, is added to the center */
    CL_DELTA,  /* its negative, divided by 1 + n_j or not, is stored in row j */
    CL_SUMS,   /* it is stored in the row of the class index, with the class and n_j */
} cl_finalize;

/* One pass over a batch. */
typedef struct {
    const cl_batch *batch;
    cl_plan *plan;

    double factor;  /* a row's gradient is factor * w_i * d_i */
    char *gradient; /* (B, D), or NULL */
    int64_t gradient_stride;
    bool nontemporal; /* store the gradient past the caches? */

    int64_t prefetch_distance; /* in rows; 0: no prefetching */
    cl_finalize finalize;
    char *centers; /* (K, D) for CL_UPDATE, the memory of batch->centers */
    double alpha;
    bool normalize;
    bool skip_nonfinite; /* leave rows that are not finite out of the class sums? */
    char *class_rows;    /* (K, D) for CL_DELTA, (U, D) for CL_SUMS */
    int64_t class_stride;
    int64_t *classes; /* (U,), for CL_SUMS */
    double *counts;   /* (U,), for CL_SUMS */

    int64_t *finalized; /* how many classes each worker finalized */
} cl_pass;

typedef struct {
    /* Loss and, if wanted, gradient of the rows first..last-1, in batch order. */
    void (*rows)(const cl_pass *pass, int64_t first, int64_t last);

    /* Class order: the class sums of the chunks first..last-1, and loss and gradient
     * of their rows if there is a gradient. A chunk that is its whole class finalizes
     * it, another stores its partial sum. `sums` (3, D + 1) is work space. This and
     * the functions that follow return how many classes they finalized. */
    int64_t (*chunks)(const cl_pass *pass, int64_t first, int64_t last, double *sums);

    /* Class order: finalize the classes with partial sums. Serial. */
    int64_t (*finalize_chunks)(const cl_pass *pass, double *sums);

    /* Batch order: the class sums of the segments first..last-1, and loss and gradient
     * of their rows if there is a gradient. */
    void (*segments)(const cl_pass *pass, int64_t first, int64_t last);

    /* Batch order: finalize the classes. Serial. */
    int64_t (*finalize_segments)(const cl_pass *pass);
} cl_kernels;

/* Levels of x86-64 beyond the baseline need a compiler that can ask the processor
 * for them. MinGW does not align the stack for AVX. CL_BASELINE_ONLY leaves them out,
 * for tests that compile often. */
#if defined(__clang__)
#define CL_COMPILER_KNOWS_LEVELS (__clang_major__ >= 18)
#elif defined(__GNUC__)
#define CL_COMPILER_KNOWS_LEVELS (__GNUC__ >= 12)
#else
#define CL_COMPILER_KNOWS_LEVELS 0
#endif
#if defined(__x86_64__) && !defined(_WIN32) && CL_COMPILER_KNOWS_LEVELS && \
    !defined(CL_BASELINE_ONLY)
#define CL_HAS_X86_64_LEVELS
#endif

/* Per instruction set, a table with one entry per cl_types. */
extern const cl_kernels cl_kernels_baseline[CL_TYPES];
#ifdef CL_HAS_X86_64_LEVELS
extern const cl_kernels cl_kernels_x86_64_v3[CL_TYPES];
extern const cl_kernels cl_kernels_x86_64_v4[CL_TYPES];
#endif

/* The kernels in use. */
const cl_kernels *
cl_kernels_for(cl_types types);

#endif
