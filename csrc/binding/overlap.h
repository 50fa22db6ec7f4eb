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

/* The addresses of an array: low <= address < high, or low == high if it is empty. They
 * are unknown if it spans more than PTRDIFF_MAX bytes or leaves the address space,
 * which is possible for views made with as_strided: NumPy's search overflows for those.
 */
typedef struct {
    uintptr_t low, high;
    bool unknown;
} py_span;

py_span
py_find_span(PyArrayObject *array);

/* Whether the spans alone tell that two arrays share no memory. */
static inline bool
py_are_apart(const py_span *a, const py_span *b)
{
    return !a->unknown && !b->unknown && (a->high <= b->low || b->high <= a->low);
}

/* Do two arrays share memory? The spans are those of py_find_span(). */
py_overlap
py_find_overlap(PyArrayObject *a, const py_span *a_span, PyArrayObject *b,
                const py_span *b_span);

#endif
