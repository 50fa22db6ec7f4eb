/*
 * Whether two arrays share memory.
 */
#ifndef CENTERLOSS_OVERLAP_H
#define CENTERLOSS_OVERLAP_H

#include "numpy_api.h"

typedef enum {
    OVERLAP_NONE,
    OVERLAP_FOUND,
    OVERLAP_UNKNOWN, /* the search would take too long or overflow */
    OVERLAP_ERROR,   /* with an exception set */
} py_overlap;

py_overlap
py_find_overlap(PyArrayObject *a, PyArrayObject *b);

#endif
