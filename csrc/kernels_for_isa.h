/*
 * All kernels for one instruction set: included once per set, with its target
 * switched on and ISA_KERNELS defined as the name of the table to make.
 */
#include "half.h"
#include "kernels.h"
#include "lanes.h"

/* What a pass does with a row besides its loss; constants wherever they are
 * used, so that the loops hold no test of them. */
enum {
    GRADIENT = 1, /* store the gradient */
    STREAM = 2,   /* ... past the cache */
    PULL = 4,     /* add to the class's sum */
    ALONE = 8,    /* it is the class's only row: move the center at once */
};

/* A row of at most this many bytes is fetched at once, a longer one bit by bit:
 * measured faster on rows of 512 bytes and of 2 KiB, respectively. */
enum {
    SHORT_ROW_BYTES = 1024
};

/* Fetch into the second-level cache, where many more lines can be on their way
 * at a time than into the first. Beyond the end of an array it does nothing. */
CL_INLINE void
fetch(const char *p, int64_t size)
{
#if defined(__GNUC__)
    for (int64_t at = 0; at < size; at += 64) {
        __builtin_prefetch(p + at, 0, 2);
    }
#else
    (void)p;
    (void)size;
#endif
}

/* 1 / (1 + n_j), or 1 for sums that are not normalised. */
CL_INLINE double
class_share(const cl_pass *pass, double weight)
{
    return pass->normalize ? 1.0 / (1.0 + weight) : 1.0;
}

/* The weights of a chunk's rows added up. */
CL_INLINE double
chunk_weight(const cl_pass *pass, int64_t start, int64_t stop)
{
    if (pass->batch->weights == NULL) {
        return (double)(stop - start);
    }
    double weight = 0;
    for (int64_t place = start; place < stop; place++) {
        weight += pass->batch->weights[pass->plan->rows[place]];
    }
    return weight;
}

#define FEATURE float
#define CENTER float
#define CENTERS f8
#define ON_CENTERS(op) f8_##op
#define ON_FEATURES(op) f8_##op
#define NAME(base) base##_float32
#include "kernels_template.h"
#undef FEATURE
#undef ON_FEATURES
#undef NAME

#define FEATURE uint16_t
#define ON_FEATURES(op) h8_##op
#define NAME(base) base##_float16_float32
#include "kernels_template.h"
#undef ON_FEATURES
#undef NAME

#define ON_FEATURES(op) b8_##op
#define NAME(base) base##_bfloat16_float32
#include "kernels_template.h"
#undef FEATURE
#undef CENTER
#undef CENTERS
#undef ON_CENTERS
#undef ON_FEATURES
#undef NAME

#define FEATURE double
#define CENTER double
#define CENTERS d8
#define ON_CENTERS(op) d8_##op
#define ON_FEATURES(op) d8_##op
#define NAME(base) base##_float64
#include "kernels_template.h"

const cl_kernels ISA_KERNELS[CL_TYPES] = {
    [CL_FLOAT32] = {rows_float32, chunks_float32, merge_float32},
    [CL_FLOAT64] = {rows_float64, chunks_float64, merge_float64},
    [CL_FLOAT16_FLOAT32] = {rows_float16_float32, chunks_float16_float32,
                            merge_float16_float32},
    [CL_BFLOAT16_FLOAT32] = {rows_bfloat16_float32, chunks_bfloat16_float32,
                             merge_bfloat16_float32},
};
