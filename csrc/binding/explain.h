/*
 * Errors about arguments of a wrong type. Their messages say what the caller may have
 * meant: what to convert, two arguments swapped, or a tensor.
 */
#ifndef CENTERLOSS_EXPLAIN_H
#define CENTERLOSS_EXPLAIN_H

#include "parse.h"

/* Start of the call that converts an array or tensor to a dtype: ".astype(np.". */
const char *
py_cast_method(const py_call *call);

/* Raise a TypeError: the argument is not an array, but should be `expected`. */
void
py_raise_no_array(const py_call *call, int argument, const char *expected);

/* The current exception, raised by the conversion of an argument to an array, becomes
 * one that names the argument. Exceptions of other types, such as MemoryError, are left
 * alone. */
void
py_name_argument(const py_call *call, int argument);

/* Raise a TypeError: the dtype of the features does not go with that of the centers. */
void
py_raise_features_dtype(const py_call *call);

/* Raise a TypeError: the labels are not integers. */
void
py_raise_labels_dtype(const py_call *call);

#endif
