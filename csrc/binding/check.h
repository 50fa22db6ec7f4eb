/*
 * centerloss._core.check: the checks of a function without its operation, for callers
 * that compute by other means but accept and refuse the same arguments.
 */
#ifndef CENTERLOSS_CHECK_H
#define CENTERLOSS_CHECK_H

#include "numpy_api.h"

extern const char py_check_doc[];

PyObject *
py_check(PyObject *module, PyObject *args, PyObject *keywords);

#endif
