/*
 * The loops over a batch: what jobs.c hands to them, and the table of them
 * that each instruction set brings.
 */
#ifndef CENTERLOSS_KERNELS_H
#define CENTERLOSS_KERNELS_H

#include "centerloss.h"
#include "groups.h"

/* What becomes of the sum of w_i d_i over the rows of a class. */
typedef enum {
    CL_MOVE,  /* the center goes by alpha times it, or times it / (1 + n_j) */
    CL_DELTA, /* its negative, over 1 + n_j or not, is stored in the class's row */
    CL_SUMS,  /* it is stored at the class's rank, with the class and n_j */
} cl_finish;

/* How the gradient is stored. */
typedef enum {
    CL_CACHED,
    CL_STREAMED, /* past the cache, value by value */
    CL_STAGED,   /* past the cache, row by row, by way of plan->staged */
} cl_store;

/* One pass over a batch. */
typedef struct {
    const cl_batch *batch;
    const cl_plan *plan;

    double factor;  /* a row's gradient is factor * w_i * d_i */
    char *gradient; /* (B, D), or NULL */
    int64_t gradient_stride;
    cl_store store;

    int64_t ahead; /* how many rows from fetching to use; 0: none is fetched */
    cl_finish finish;
    double alpha;
    bool normalize;
    char *class_rows; /* (K, D) for CL_DELTA, (U, D) for CL_SUMS */
    int64_t class_stride;
    int64_t *classes; /* (U,), for CL_SUMS */
    double *counts;   /* (U,), for CL_SUMS */
} cl_pass;

typedef struct {
    /* Loss and, if wanted, gradient of the rows first..last-1, in batch
     * order. */
    void (*rows)(const cl_pass *pass, int64_t first, int64_t last);

    /* Class order: the class sums of the chunks first..last-1, with `sums`
     * (2, D + 1) to work in, and loss and gradient of their rows too if there is a
     * gradient. A chunk that is its whole class is finished at once, another leaves
     * its partial. `staged` is for CL_STAGED. */
    void (*chunks)(const cl_pass *pass, int64_t first, int64_t last, double *sums,
                   char *staged);

    /* Class order: finish the classes that left partials. */
    void (*finish_chunks)(const cl_pass *pass, double *sum);

    /* Batch order: the class sums of a segment, the rows first..last-1, into `sums`
     * (K, D + 1), and loss and gradient too if there is a gradient. */
    void (*segment)(const cl_pass *pass, int64_t first, int64_t last, double *sums);

    /* Batch order: finish the classes. */
    void (*finish_segments)(const cl_pass *pass);
} cl_kernels;

/* One row of the table per instruction set, one column per cl_types. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(CL_PORTABLE)
#define CL_HAS_X86_64_LEVELS
extern const cl_kernels cl_kernels_x86_64_v2[CL_TYPES];
extern const cl_kernels cl_kernels_x86_64_v3[CL_TYPES];
extern const cl_kernels cl_kernels_x86_64_v4[CL_TYPES];
#else
extern const cl_kernels cl_kernels_portable[CL_TYPES];
#endif

/* The kernels in use. */
const cl_kernels *
cl_kernels_for(cl_types types);

#endif
