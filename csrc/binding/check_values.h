/*
 * Value checks. A ValueError unless options, shapes, memory and weights fit the
 * function and one another.
 */
#ifndef CENTERLOSS_CHECK_VALUES_H
#define CENTERLOSS_CHECK_VALUES_H

#include "parse.h"

/* Raise the ValueErrors, after py_check_types(). Converts the weights to float64. */
bool
py_check_values(py_call *call);

#endif
