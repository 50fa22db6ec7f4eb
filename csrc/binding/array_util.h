/*
 * Properties of NumPy arrays, conversions, and new arrays.
 */
#ifndef CENTERLOSS_ARRAY_UTIL_H
#define CENTERLOSS_ARRAY_UTIL_H

#include "numpy_api.h"

bool
py_is_native(PyArrayObject *array);

/* The bfloat16 of ml_dtypes is recognized by its name: its type number differs from
 * process to process, and ml_dtypes is not required. */
bool
py_is_bfloat16(PyArray_Descr *dtype);

/* Is the dtype a float of NumPy, an integer or bool? */
bool
py_is_real(PyArrayObject *array);

/* In the following, the first `axes` axes of an array index its rows, in C order, and
 * the other axes the values of a row. */

int64_t
py_count_rows(PyArrayObject *array, int axes);

int64_t
py_row_length(PyArrayObject *array, int axes);

/* Is each row contiguous? */
bool
py_rows_contiguous(PyArrayObject *array, int axes);

/* Find the bytes from each row to the next. False if they are not the same for all. */
bool
py_find_row_stride(PyArrayObject *array, int axes, npy_intp *stride);

/* Do two rows share memory? The rows must be contiguous, and `stride` bytes apart. */
bool
py_rows_overlap(PyArrayObject *array, int axes, npy_intp stride);

bool
py_same_shape(PyArrayObject *a, PyArrayObject *b);

/* array.shape, a new reference. */
PyObject *
py_shape(PyArrayObject *array);

/* The index of an element in C order, as it is written in brackets: "7", or "2, 3" for
 * an array of several axes. A new reference. */
PyObject *
py_index_text(PyArrayObject *array, int64_t element);

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

/* Take the exception that is set: a new reference. */
PyObject *
py_take_exception(void);

/* Make an exception the cause of the one that is set. Steals the reference. */
void
py_set_cause(PyObject *cause);

/* New C-contiguous arrays, uninitialized. */
PyArrayObject *
py_new_vector(int64_t length, int type);

PyArrayObject *
py_new_matrix(int64_t rows, int64_t columns, int type);

/* Of the shape of `array`, and of the given dtype. */
PyArrayObject *
py_new_of_shape(PyArrayObject *array, int type);

/* Of the shape and dtype of `array`. */
PyArrayObject *
py_new_like(PyArrayObject *array);

#endif
