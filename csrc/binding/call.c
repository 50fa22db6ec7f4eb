#include "call.h"

#include <assert.h>

#include "array_util.h"
#include "check_types.h"
#include "check_values.h"

static bool
make_readable(py_call *call)
{
    PyArrayObject *features = call->features;
    const bool readable = PyArray_ISALIGNED(features) && py_is_native(features) &&
                          py_rows_contiguous(features);
    return (readable || py_make_native(&call->features, NPY_ARRAY_CARRAY_RO)) &&
           (py_is_native(call->labels) || py_make_native(&call->labels, 0));
}

/* The checks have set types, B, D, K, weights and ignore_index. */
static void
describe_batch(py_call *call)
{
    cl_batch *b = &call->batch;
    assert(PyArray_DIM(call->features, 0) == b->B);
    assert(PyArray_DIM(call->labels, 0) == b->B);
    assert(PyArray_DIM(call->centers, 0) == b->K);
    b->features = PyArray_BYTES(call->features);
    b->feature_stride = PyArray_STRIDE(call->features, 0);
    b->centers = PyArray_BYTES(call->centers);
    b->center_stride = PyArray_STRIDE(call->centers, 0);
    b->labels = PyArray_BYTES(call->labels);
    b->label_stride = PyArray_STRIDE(call->labels, 0);
    b->label_size = (int)PyArray_ITEMSIZE(call->labels);
    b->label_signed = PyArray_ISSIGNED(call->labels);
}

bool
py_call_check(py_call *call)
{
    if (!py_check_types(call) || !py_check_values(call) || !make_readable(call)) {
        return false;
    }
    describe_batch(call);
    return true;
}

bool
py_call_read(py_call *call, const py_signature *signature,
             PyObject *const interned[ARGUMENTS], PyObject *const *args,
             Py_ssize_t n_args, PyObject *keywords)
{
    py_call_init(call, signature);
    return py_parse(call, interned, args, n_args, keywords) && py_call_check(call);
}

static void
raise_bad_label(const py_call *call, int64_t row)
{
    PyObject *label = PySequence_GetItem((PyObject *)call->labels, (Py_ssize_t)row);
    if (label != NULL) {
        PyErr_Format(PyExc_IndexError, "%s[%lld] is %S, but there are %lld classes",
                     call->names[LABELS], (long long)row, label,
                     (long long)call->batch.K);
        Py_DECREF(label);
    }
}

bool
py_plan_made(const py_call *call, const cl_plan *plan, cl_status status)
{
    if (status == CL_BAD_LABEL) {
        raise_bad_label(call, plan->bad_row);
    }
    else if (status == CL_NO_MEMORY) {
        PyErr_NoMemory();
    }
    return status == CL_OK;
}

void
py_call_clear(py_call *call)
{
    Py_XDECREF((PyObject *)call->features);
    Py_XDECREF((PyObject *)call->labels);
    Py_XDECREF((PyObject *)call->centers);
    Py_XDECREF((PyObject *)call->weights);
    Py_XDECREF((PyObject *)call->out);
}
