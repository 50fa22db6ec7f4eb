/*
 * Python.h and NumPy's C API. The files of the binding share one table of NumPy's
 * functions, which module.c defines and fills; it alone defines PY_IMPORT_NUMPY.
 */
#ifndef CENTERLOSS_NUMPY_API_H
#define CENTERLOSS_NUMPY_API_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define PY_ARRAY_UNIQUE_SYMBOL centerloss_ARRAY_API
#ifndef PY_IMPORT_NUMPY
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

#include <stdbool.h>
#include <stdint.h>

#endif
