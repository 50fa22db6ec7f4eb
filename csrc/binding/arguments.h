/*
 * Python arguments -> cl_batch and options: every check, in one order, with
 * its exact message. TypeErrors come before ValueErrors; nothing is stored in
 * a caller's array here.
 */
#ifndef CENTERLOSS_ARGUMENTS_H
#define CENTERLOSS_ARGUMENTS_H

#include "numpy_api.h"

#include "centerloss.h"

/* The arguments of all functions, in the order of their signatures. */
enum {
    FEATURES,
    LABELS,
    CENTERS,
    ALPHA,
    NORMALIZE,
    REDUCTION,
    LOSS_WEIGHT,
    SAMPLE_WEIGHT,
    IGNORE_INDEX,
    OUT,
    ARGUMENTS,
};

/* What `out` is to receive. */
typedef enum {
    OUT_NOTHING,
    OUT_LOSSES,
    OUT_GRADIENT,
    OUT_DELTAS
} cl_out;

typedef struct {
    const char *name;
    unsigned takes; /* 1 << ALPHA and so on; the first three go without saying */
    bool moves;     /* are the centers written to? */
    cl_out out;
} cl_signature;

/* A call with its arguments checked. The arrays are strong references. */
typedef struct {
    const cl_signature *signature;
    PyObject *given[ARGUMENTS]; /* borrowed; NULL where not given, or None */
    PyArrayObject *features;    /* aligned, native, its rows contiguous */
    PyArrayObject *labels;      /* native */
    PyArrayObject *centers;     /* the caller's own, as a plain array */
    PyArrayObject *weights;     /* float64, contiguous; or NULL */
    PyArrayObject *out;         /* likewise; or NULL. given[OUT] is returned */
    cl_batch batch;
    cl_loss_options loss_options;
    cl_update_options update_options;
} cl_call;

/* The argument names as interned strings, to be compared by address. */
bool
cl_intern_names(PyObject *names[ARGUMENTS]);

/* Read and check the arguments of a METH_FASTCALL | METH_KEYWORDS function.
 * False with an exception set if something is wrong; cl_call_clear() is due
 * either way. */
bool
cl_call_read(cl_call *call, const cl_signature *signature,
             PyObject *const names[ARGUMENTS], PyObject *const *args, Py_ssize_t n_args,
             PyObject *keywords);

void
cl_call_clear(cl_call *call);

/* An array for one result, C-contiguous. */
PyArrayObject *
cl_new_losses(const cl_call *call);

PyArrayObject *
cl_new_gradient(const cl_call *call);

PyArrayObject *
cl_new_class_rows(const cl_call *call, int64_t rows);

#endif
