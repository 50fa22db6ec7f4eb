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
    PULL = 2,     /* add to the class's sum */
    ALONE = 4,    /* it is the class's only row: move the center at once */
};

/* Whether ALONE has loops of its own. Without, such rows go through PULL, to the same
 * bits. */
#ifndef ALONE_LOOPS
#define ALONE_LOOPS 1
#endif

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

/* Fetch a line that will be stored to. */
CL_INLINE void
fetch_to_store(const char *p)
{
#if defined(__GNUC__)
    __builtin_prefetch(p, 1, 2);
#else
    (void)p;
#endif
}

/* The last thing that a thread does with its part of a pass. */
CL_INLINE void
part_end(const cl_pass *pass)
{
    if (pass->store != CL_CACHED) {
        stream_end();
    }
}

/* 1 / (1 + n_j), or 1 for sums that are not normalised. */
CL_INLINE double
class_share(const cl_pass *pass, double weight)
{
    return pass->normalize ? 1.0 / (1.0 + weight) : 1.0;
}

/* Where the piece of a chunk that begins at place `from` ends. */
CL_INLINE int64_t
piece_end(const cl_plan *plan, int64_t from, int64_t stop)
{
    const int64_t segment = plan->rows[from] / SEGMENT_ROWS;
    if (plan->rows[stop - 1] / SEGMENT_ROWS == segment) {
        return stop;
    }
    int64_t to = from + 1;
    while (plan->rows[to] / SEGMENT_ROWS == segment) {
        to++;
    }
    return to;
}

/* A class's sum, and the weight behind it, added to another. */
CL_INLINE void
add_sum(double *sum, const double *other, int64_t D)
{
    for (int64_t j = 0; j <= D; j++) {
        sum[j] += other[j];
    }
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
    [CL_FLOAT32] = {rows_float32, chunks_float32, finish_chunks_float32,
                    segment_float32, finish_segments_float32},
    [CL_FLOAT64] = {rows_float64, chunks_float64, finish_chunks_float64,
                    segment_float64, finish_segments_float64},
    [CL_FLOAT16_FLOAT32] = {rows_float16_float32, chunks_float16_float32,
                            finish_chunks_float16_float32, segment_float16_float32,
                            finish_segments_float16_float32},
    [CL_BFLOAT16_FLOAT32] = {rows_bfloat16_float32, chunks_bfloat16_float32,
                             finish_chunks_bfloat16_float32, segment_bfloat16_float32,
                             finish_segments_bfloat16_float32},
};
