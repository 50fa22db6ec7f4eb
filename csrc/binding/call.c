#include "call.h"

#include <assert.h>

#include "array_util.h"
#include "check_types.h"
#include "check_values.h"

/* Copies an array unless its rows have one stride and it is `readable` otherwise. Sets
 * the stride. */
static bool
make_readable(PyArrayObject **array, int axes, bool readable, int64_t *stride)
{
    npy_intp found;
    if (!(readable && py_find_row_stride(*array, axes, &found))) {
        if (!py_make_native(array, NPY_ARRAY_CARRAY_RO)) {
            return false;
        }
        py_find_row_stride(*array, axes, &found);
    }
    *stride = found;
    return true;
}

/* Copies features and labels where the kernels cannot read them, and sets their strides
 * in the batch. */
static bool
make_rows_readable(py_call *call)
{
    PyArrayObject *features = call->features;
    const int axes = call->row_axes;
    const bool features_readable = PyArray_ISALIGNED(features) &&
                                   py_is_native(features) &&
                                   py_rows_contiguous(features, axes);
    const bool labels_readable = py_is_native(call->labels);
    return make_readable(&call->features, axes, features_readable,
                         &call->batch.feature_stride) &&
           make_readable(&call->labels, axes, labels_readable,
                         &call->batch.label_stride);
}

/* The checks have set types, B, D, K, weights and ignore_index; make_rows_readable()
 * has set the strides of features and labels. */
static void
describe_batch(py_call *call)
{
    cl_batch *b = &call->batch;
    assert(py_count_rows(call->features, call->row_axes) == b->B);
    assert(PyArray_SIZE(call->labels) == b->B);
    assert(PyArray_DIM(call->centers, 0) == b->K);
    b->features = PyArray_BYTES(call->features);
    b->centers = PyArray_BYTES(call->centers);
    b->center_stride = PyArray_STRIDE(call->centers, 0);
    b->labels = PyArray_BYTES(call->labels);
    b->label_size = (int)PyArray_ITEMSIZE(call->labels);
    b->label_signed = PyArray_ISSIGNED(call->labels);
}

bool
py_call_check(py_call *call)
{
    if (!py_check_types(call) || !py_check_values(call) || !make_rows_readable(call)) {
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

/* PyTorch's default for labels of rows to leave out. */
enum {
    USUAL_IGNORE_INDEX = -100
};

static void
raise_bad_label(const py_call *call, int64_t row)
{
    const long long K = (long long)call->batch.K;
    char range[48] = "";
    if (K > 0) {
        PyOS_snprintf(range, sizeof(range), " (0 to %lld)", K - 1);
    }
    PyObject *label =
        PyObject_CallMethod((PyObject *)call->labels, "item", "n", (Py_ssize_t)row);
    PyObject *index = label != NULL ? py_index_text(call->labels, row) : NULL;
    PyObject *usual = index != NULL ? PyLong_FromLong(USUAL_IGNORE_INDEX) : NULL;
    if (usual != NULL) {
        const bool hint = !call->batch.has_ignore_index &&
                          PyObject_RichCompareBool(label, usual, Py_EQ) == 1;
        PyErr_Format(PyExc_IndexError,
                     "%s[%U] is %S, but there are %lld classes%s%s%s%s",
                     call->names[LABELS], index, label, K, range, hint ? ": " : "",
                     hint ? call->names[IGNORE_INDEX] : "",
                     hint ? "=-100 leaves such rows out" : "");
    }
    Py_XDECREF(label);
    Py_XDECREF(index);
    Py_XDECREF(usual);
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
    Py_XDECREF((PyObject *)call->places);
    Py_XDECREF((PyObject *)call->out);
}
