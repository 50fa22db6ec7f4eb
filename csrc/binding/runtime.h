/*
 * Settings of the process: number of threads, instruction set; and how this was built.
 */
#ifndef CENTERLOSS_RUNTIME_H
#define CENTERLOSS_RUNTIME_H

#include "numpy_api.h"

/* Read a number of threads, 1 to CL_MAX_THREADS. False with an exception otherwise. */
bool
py_read_num_threads(PyObject *n, int *threads);

/* Choose the instruction set: the best one, or that named by the environment variable
 * CENTERLOSS_ISA. False with an ImportError if it is not available. */
bool
py_select_isa(void);

/* A dict with the keys "compiler" and "isa". */
PyObject *
py_build_info(void);

#endif
