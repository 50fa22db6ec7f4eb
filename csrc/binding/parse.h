/*
 * The functions, their arguments, and the record of one call. Parsing assigns the
 * objects of a call to its arguments; the checks fill in the rest of the record.
 */
#ifndef CENTERLOSS_PARSE_H
#define CENTERLOSS_PARSE_H

#include "numpy_api.h"

#include "centerloss.h"

/* The arguments of all functions, in the order of their signatures. Those after OUT are
 * of private functions, which need not know other arguments by their positions. */
enum {
    FEATURES,
    LABELS,
    CENTERS,
    ALPHA,
    NORMALIZE,
    SKIP_NONFINITE,
    REDUCTION,
    LOSS_WEIGHT,
    SAMPLE_WEIGHT,
    IGNORE_INDEX,
    OUT,
    TOTAL_WEIGHT,
    PLACES,
    ARGUMENTS,
};

extern const char *const py_argument_names[ARGUMENTS];

/* The values of `reduction`. */
extern const char *const py_reduction_names[3];

/* What `out` receives. */
typedef enum {
    OUT_NOTHING,
    OUT_LOSSES,
    OUT_GRADIENT,
    OUT_DELTAS
} py_out;

typedef struct {
    const char *name;
    unsigned takes;      /* a bit 1 << ALPHA and so on for each optional argument */
    bool writes_centers; /* are the centers updated in place? */
    py_out out;
    bool all_positional; /* may more arguments than the first three be positional? */
    bool returns_terms;  /* the terms of the loss, in place of the loss? */
} py_signature;

enum {
    LOSS,
    GRADIENT,
    VALUE_AND_GRAD,
    TERMS_AND_GRAD,
    CENTER_DELTA,
    CLASS_SUMS,
    CLASS_SUMS_AT,
    UPDATE_CENTERS,
    UPDATE_CENTERS_AT,
    STEP,
    STEP_AND_COUNT,
    STEP_OF_CLASS,
    FUNCTIONS,
};

extern const py_signature py_signatures[FUNCTIONS];

/* One call. The arrays are strong references. */
typedef struct {
    const py_signature *signature;
    PyObject *given[ARGUMENTS]; /* borrowed; NULL if not given, or if None is given
                                   where that is the default */

    /* Words of the error messages. */
    const char *const *names; /* (ARGUMENTS,) */
    bool tensors;             /* hints are for PyTorch tensors, not NumPy arrays */

    PyArrayObject *features; /* labels.shape + (...); aligned, native, rows contiguous,
                                one stride between them */
    PyArrayObject *labels;   /* native, one stride between them */
    PyArrayObject *centers;  /* a view of the caller's memory */
    PyArrayObject *weights;  /* labels.shape; float64, contiguous; or NULL */
    PyArrayObject *places;   /* (rows,); int64, contiguous; or NULL */
    PyArrayObject *out;      /* a view of the caller's memory; or NULL */
    int row_axes;            /* axes of the labels: they index the rows of the batch */
    bool code_ran;           /* may a conversion have run code of the caller? */
    double total_weight;     /* if it is given */
    int ignore_index_overflow; /* not 0 if ignore_index needs more than 64 bits */
    cl_batch batch;
    cl_loss_options loss_options;
    cl_update_options update_options;
} py_call;

/* A call without arguments: options have their defaults. */
void
py_call_init(py_call *call, const py_signature *signature);

/* The argument names as interned strings, which callers' keywords mostly are too. */
bool
py_intern_keywords(PyObject *interned[ARGUMENTS]);

/* Assign the arguments of a METH_FASTCALL | METH_KEYWORDS function. False with an
 * exception if they do not fit the signature. */
bool
py_parse(py_call *call, PyObject *const interned[ARGUMENTS], PyObject *const *args,
         Py_ssize_t n_args, PyObject *keywords);

/* Assign arguments from a dict of names to values. */
bool
py_parse_dict(py_call *call, PyObject *arguments);

/* Index of an argument by its name, or -1. */
int
py_find_argument(PyObject *name);

#endif
