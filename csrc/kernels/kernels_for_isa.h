/*
 * All kernels for one instruction set: included once per set, with its target
 * switched on and ISA_KERNELS defined as the name of the table to make.
 */
#include <math.h>

#include "half.h"
#include "kernels.h"
#include "simd.h"

/* What a pass does with a row besides computing its loss. They are constants in every
 * call, so the compiler removes the tests of them from the loops. */
enum {
    GRADIENT = 1,    /* store the gradient */
    ACCUMULATE = 2,  /* add to the class's sum */
    WEIGHTED = 4,    /* multiplied by the row's weight, which may be other than 1 */
    SINGLETON = 8,   /* it is the class's only row: update the center at once */
    EXACT_RATE = 16, /* the rate of that update is a power of two */
    SHORT = 32,      /* the row has at most SHORT_ROW_VALUES values */
};

enum {
    SHORT_ROW_VALUES = 3
};

/* Prefetch into the second-level cache, which takes many more lines at a time than the
 * first. The address may be outside the array: a prefetch does not access it. */
CL_INLINE void
prefetch(const void *p, int64_t size)
{
#if defined(__GNUC__)
    for (int64_t at = 0; at < size; at += LINE_BYTES) {
        __builtin_prefetch((const char *)p + at, 0, 2);
    }
#else
    (void)p;
    (void)size;
#endif
}

/* What the loops over rows read from a pass. Each loop has a copy in a local variable,
 * which can stay in registers because no store to an array changes it. */
typedef struct {
    const char *features, *centers;
    int64_t feature_stride, center_stride;
    char *gradient; /* or NULL */
    int64_t gradient_stride;
    bool nontemporal;
    const double *weights;
    double factor;
    const int64_t *labels, *rows, *places;
    double *losses;
    int64_t D;
    int64_t prefetch_distance;
    line_writer *lines;
} row_arrays;

CL_INLINE row_arrays
arrays_of(const cl_pass *pass, line_writer *lines)
{
    const cl_batch *b = pass->batch;
    return (row_arrays){
        .features = b->features,
        .centers = b->centers,
        .feature_stride = b->feature_stride,
        .center_stride = b->center_stride,
        .gradient = pass->gradient,
        .gradient_stride = pass->gradient_stride,
        .nontemporal = pass->nontemporal,
        .weights = b->weights,
        .factor = pass->factor,
        .labels = pass->plan->labels,
        .rows = pass->plan->rows,
        .places = b->places,
        .losses = pass->plan->losses,
        .D = b->D,
        .prefetch_distance = pass->prefetch_distance,
        .lines = lines,
    };
}

/* The last thing that a thread does in a pass. */
CL_INLINE void
finish_stores(const cl_pass *pass)
{
    if (pass->nontemporal) {
        stream_end();
    }
}

/* 1 / (1 + n_j), or 1 without normalization. */
CL_INLINE double
class_normalizer(const cl_pass *pass, double weight)
{
    return pass->normalize ? 1.0 / (1.0 + weight) : 1.0;
}

/* The end of the rows that are in the same segment as the one at position `from`. */
CL_INLINE int64_t
segment_end(const row_arrays *a, int64_t from, int64_t stop)
{
    const int64_t segment = cl_segment_of(a->places, a->rows[from]);
    if (cl_segment_of(a->places, a->rows[stop - 1]) == segment) {
        return stop;
    }
    int64_t to = from + 1;
    while (to < stop && cl_segment_of(a->places, a->rows[to]) == segment) {
        to++;
    }
    return to;
}

/* MinGW warns of the macros isfinite() and isnan(). */
CL_INLINE bool
is_finite(double v)
{
    return v >= -DBL_MAX && v <= DBL_MAX;
}

/* Is it a power of two that is a normal float, or zero? */
CL_INLINE bool
is_power_of_two(double v)
{
    const float f = (float)v;
    return f == v && (bits_of_float(f) & 0x7fffffu) == 0;
}

CL_INLINE bool
is_nan(double v)
{
    return v != v;
}

/* May there be a row to be left out, given the total of the rows' 1/2 ||d||^2? Then a
 * weight is set to NaN, which marks the sums to be computed again: the chunk's or, in
 * batch order, that of the first class in the segment, which marks all sums. */
CL_INLINE bool
may_have_nonfinite(const cl_pass *pass, double total)
{
    return !is_finite(total) && pass->skip_nonfinite;
}

CL_INLINE void
clear_sum(double *sum, int64_t D)
{
    memset(sum, 0, (size_t)(D + 1) * sizeof(*sum));
}

/* Add a class's sum, and the weight stored after it, to another. */
CL_INLINE void
add_sum(double *restrict sum, const double *restrict other, int64_t D)
{
    for (int64_t j = 0; j <= D; j++) {
        sum[j] += other[j];
    }
}

/* Batch order: the sum of a class without full chunks. */
CL_INLINE const double *
add_segments(const cl_pass *pass, int64_t label)
{
    const cl_plan *plan = pass->plan;
    double *sum = plan->sums + label * plan->sum_size;
    for (int64_t k = 1; k < plan->segments; k++) {
        add_sum(sum, sum + k * pass->batch->K * plan->sum_size, pass->batch->D);
    }
    return sum;
}

/* Add `other` to a sum, or start it with `other` if it is NULL. Returns the sum. */
CL_INLINE double *
start_or_add(double *sum, double *other, int64_t D)
{
    if (sum == NULL) {
        return other;
    }
    add_sum(sum, other, D);
    return sum;
}

/* Batch order: the sum of a class whose full chunks have the partials from..to-1. What
 * is left in the class's sum of a segment belongs to the chunk that follows these. */
static const double *
add_chunks(const cl_pass *pass, int64_t label, int64_t from, int64_t to)
{
    const cl_plan *plan = pass->plan;
    const int64_t D = pass->batch->D;
    double *left = plan->sums + label * plan->sum_size;
    double *sum = NULL, *chunk = NULL;
    for (int64_t k = 0; k < plan->segments; k++) {
        for (; from < to && plan->last_rows[from] / SEGMENT_ROWS == k; from++) {
            chunk = start_or_add(chunk, plan->partials + from * (D + 1), D);
            sum = start_or_add(sum, chunk, D);
            chunk = NULL;
        }
        chunk = start_or_add(chunk, left, D);
        left += pass->batch->K * plan->sum_size;
    }
    return start_or_add(sum, chunk, D);
}

/* Batch order: may there be a row to be left out? */
CL_INLINE bool
is_marked(const cl_pass *pass)
{
    const cl_plan *plan = pass->plan;
    for (int64_t k = 0; k < plan->segments && pass->batch->K > 0; k++) {
        if (is_nan(plan->sums[k * pass->batch->K * plan->sum_size + pass->batch->D])) {
            return true;
        }
    }
    return false;
}

/* The label of a row that is left out, which is below -1: as any negative label, it
 * stands for an ignored row. Applied again, this gives the label back. */
CL_INLINE int64_t
left_out(int64_t label)
{
    return -2 - label;
}

/* Batch order: no row is left out any more. */
CL_INLINE void
restore_labels(const cl_pass *pass)
{
    int64_t *labels = pass->plan->labels;
    for (int64_t i = 0; i < pass->batch->B; i++) {
        labels[i] = labels[i] < -1 ? left_out(labels[i]) : labels[i];
    }
    cl_count_rows(pass->plan, pass->batch);
}

#define FEATURE float
#define CENTER float
#define CENTERS f32x16
#define ON_CENTERS(op) f32x16_##op
#define ON_FEATURES(op) f32x16_##op
#define NAME(base) base##_float32
#include "kernels_template.h"
#undef FEATURE
#undef ON_FEATURES
#undef NAME

#define FEATURE uint16_t
#define ON_FEATURES(op) f16x16_##op
#define NAME(base) base##_float16_float32
#include "kernels_template.h"
#undef ON_FEATURES
#undef NAME

#define ON_FEATURES(op) bf16x16_##op
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
#define CENTERS f64x16
#define ON_CENTERS(op) f64x16_##op
#define ON_FEATURES(op) f64x16_##op
#define NAME(base) base##_float64
#include "kernels_template.h"

const cl_kernels ISA_KERNELS[CL_TYPES] = {
    [CL_FLOAT32] = {rows_float32, chunks_float32, finalize_chunks_float32,
                    segments_float32, finalize_segments_float32},
    [CL_FLOAT64] = {rows_float64, chunks_float64, finalize_chunks_float64,
                    segments_float64, finalize_segments_float64},
    [CL_FLOAT16_FLOAT32] = {rows_float16_float32, chunks_float16_float32,
                            finalize_chunks_float16_float32, segments_float16_float32,
                            finalize_segments_float16_float32},
    [CL_BFLOAT16_FLOAT32] = {rows_bfloat16_float32, chunks_bfloat16_float32,
                             finalize_chunks_bfloat16_float32,
                             segments_bfloat16_float32,
                             finalize_segments_bfloat16_float32},
};
