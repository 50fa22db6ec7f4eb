/*
 * Properties of NumPy arrays, conversions, and new arrays.
 */
#ifndef CENTERLOSS_ARRAY_UTIL_H
#define CENTERLOSS_ARRAY_UTIL_H

#include "numpy_api.h"

bool
py_is_native(PyArrayObject *array);

/* Is each row, array[i], contiguous? */
bool
py_rows_contiguous(PyArrayObject *array);

/* Do two rows share memory? The rows must be contiguous. */
bool
py_rows_overlap(PyArrayObject *array);

bool
py_same_shape(PyArrayObject *a, PyArrayObject *b);

/* array.shape, a new reference. */
PyObject *
py_shape(PyArrayObject *array);

/* A new reference to the array, or a base-class view of it if it is an instance of a
 * subclass, whose methods may do anything. */
PyArrayObject *
py_plain_view(PyObject *array);

/* Replace an array by `converted`, a new reference or NULL. False if it is NULL. */
bool
py_replace(PyArrayObject **array, PyObject *converted);

/* Replace an array by a copy in native byte order that has the given flags. */
bool
py_make_native(PyArrayObject **array, int flags);

/* New C-contiguous arrays, uninitialized. */
PyArrayObject *
py_new_vector(int64_t length, int type);

PyArrayObject *
py_new_matrix(int64_t rows, int64_t columns, int type);

/* Of the shape and dtype of `array`. */
PyArrayObject *
py_new_like(PyArrayObject *array);

#endif
