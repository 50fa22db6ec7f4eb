/*
 * Read a call: parse, check types, check values, copy what the kernels cannot read in
 * place, describe the batch. None of this writes to an array of the caller.
 */
#ifndef CENTERLOSS_CALL_H
#define CENTERLOSS_CALL_H

#include "parse.h"

/* Read the arguments of a METH_FASTCALL | METH_KEYWORDS function. False with an
 * exception on an error. Clear the call in either case. */
bool
py_call_read(py_call *call, const py_signature *signature,
             PyObject *const interned[ARGUMENTS], PyObject *const *args,
             Py_ssize_t n_args, PyObject *keywords);

/* The part of py_call_read() after parsing. */
bool
py_call_check(py_call *call);

/* True if the plan was made. Otherwise raises IndexError or MemoryError. */
bool
py_plan_made(const py_call *call, const cl_plan *plan, cl_status status);

/* Release the references of a call. */
void
py_call_clear(py_call *call);

#endif
