/*
 * Type checks. A TypeError unless each argument has an accepted type and dtype;
 * array-likes are converted to arrays.
 */
#ifndef CENTERLOSS_CHECK_TYPES_H
#define CENTERLOSS_CHECK_TYPES_H

#include "parse.h"

/* Raise the TypeErrors, argument by argument. Reads arrays and numbers into `call`. */
bool
py_check_types(py_call *call);

/* Fetch the arrays again and repeat the checks of their dtypes. Call this when code of
 * the caller may have run, such as an __array__, __float__ or __index__, or a handler
 * of numpy.errstate: it can give an array that was checked another dtype, shape or
 * memory. */
bool
py_revalidate_arrays(py_call *call);

/* Raise an error of the given type about `reduction`. Returns false. */
bool
py_fail_reduction(const py_call *call, PyObject *type);

#endif
