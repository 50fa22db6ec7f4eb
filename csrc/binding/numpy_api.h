/*
 * Python and NumPy, as the wrapper's files share them: one table of NumPy's
 * functions, filled in by module.c, which defines CL_IMPORTS_NUMPY.
 */
#ifndef CENTERLOSS_NUMPY_API_H
#define CENTERLOSS_NUMPY_API_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define PY_ARRAY_UNIQUE_SYMBOL centerloss_ARRAY_API
#ifndef CL_IMPORTS_NUMPY
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

#endif
