/*
 * What plan.c settles before a job and jobs.c carries out.
 */
#ifndef CENTERLOSS_PLAN_H
#define CENTERLOSS_PLAN_H

#include "centerloss.h"

/* Bytes of a feature, and of a center's value. */
static inline int64_t
cl_feature_size(cl_types types)
{
    return types == CL_FLOAT64 ? 8 : types == CL_FLOAT32 ? 4 : 2;
}

static inline int64_t
cl_center_size(cl_types types)
{
    return types == CL_FLOAT64 ? 8 : 4;
}

static inline double
cl_feature_bytes(const cl_batch *b)
{
    return (double)b->B * (double)b->D * (double)cl_feature_size(b->types);
}

/* The sum of n doubles in an order that depends on n alone, halving down to
 * short runs of lanes, so that the error grows with log n. */
double
cl_sum(const double *v, int64_t n);

/* A gradient this large does not stay in the caches until it is used, so it
 * need not go through them. */
enum {
    CL_LEAST_BYTES_STREAMED = 4 << 20
};

#endif
