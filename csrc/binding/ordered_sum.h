/*
 * Sums of float64 in the order of cl_sum(), in which losses and weights are added up.
 */
#ifndef CENTERLOSS_ORDERED_SUM_H
#define CENTERLOSS_ORDERED_SUM_H

#include "numpy_api.h"

extern const char py_ordered_sum_doc[], py_ordered_sum_of_runs_doc[];

PyObject *
py_ordered_sum(PyObject *module, PyObject *values);

PyObject *
py_ordered_sum_of_runs(PyObject *module, PyObject *args);

#endif
