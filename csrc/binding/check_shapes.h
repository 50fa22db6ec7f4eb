/*
 * Shape checks. The labels decide which axes of the features index the rows: labels of
 * shape S go with features of shape S + (...), whose other axes have D values in all.
 */
#ifndef CENTERLOSS_CHECK_SHAPES_H
#define CENTERLOSS_CHECK_SHAPES_H

#include "parse.h"

/* A ValueError unless the shapes of all arrays go together. Sets B, D, K and row_axes.
 */
bool
py_check_shapes(py_call *call);

/* Do the labels have one axis too many, with an entry for each class? */
bool
py_labels_look_one_hot(const py_call *call);

/* The call that finds the class of each one-hot label: ".argmax(axis=1)". */
typedef struct {
    char text[32];
} py_argmax;

py_argmax
py_argmax_call(const py_call *call);

/* The lengths of the first `axes` axes as a tuple, a new reference. */
PyObject *
py_shape_of_rows(PyArrayObject *array, int axes);

#endif
