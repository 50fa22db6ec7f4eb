/*
 * Helpers shared by plan.c, which makes a plan, and ops.c, which carries it out.
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

#endif
