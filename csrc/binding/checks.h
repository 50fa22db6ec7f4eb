/*
 * The checks behind cl_call_read(), in the order in which errors are found,
 * and what they share.
 */
#ifndef CENTERLOSS_CHECKS_H
#define CENTERLOSS_CHECKS_H

#include "arguments.h"

extern const char *const cl_argument_names[ARGUMENTS];

/* Every TypeError. Reads the numbers on the way; `ignore_overflow` is not 0 if
 * ignore_index has more than 64 bits. */
bool
cl_check_types(cl_call *call, int *ignore_overflow);

/* Look at the arrays again after code of the caller's: an __array__, __float__ or
 * __index__, or a handler of numpy.errstate. It can give an array that was checked
 * before another dtype, shape or memory. */
bool
cl_check_still(cl_call *call);

/* Every ValueError. */
bool
cl_check_values(cl_call *call, int ignore_overflow);

/* Raise what is wrong with `reduction`; false. */
bool
cl_fail_reduction(PyObject *type, PyObject *value);

bool
cl_is_native(PyArrayObject *array);

/* Do the values of each row, all axes but the first, lie side by side? */
bool
cl_rows_contiguous(PyArrayObject *array);

/* Put `converted`, a new reference or NULL, in the place of an array; false if
 * it is NULL. */
bool
cl_replace(PyArrayObject **array, PyObject *converted);

#endif
