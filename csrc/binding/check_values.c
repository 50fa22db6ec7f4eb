#include "check_values.h"

#include <math.h>

#include "array_util.h"
#include "check_types.h"
#include "overlap.h"

const char *const py_reduction_names[3] = {
    [CL_NONE] = "none",
    [CL_SUM] = "sum",
    [CL_MEAN] = "mean",
};

static bool
read_reduction(py_call *call)
{
    PyObject *value = call->given[REDUCTION];
    if (value == NULL) {
        return true;
    }
    for (cl_reduction i = CL_NONE; i <= CL_MEAN; i++) {
        if (PyUnicode_CompareWithASCIIString(value, py_reduction_names[i]) == 0) {
            call->loss_options.reduction = i;
            return true;
        }
    }
    return py_fail_reduction(call, PyExc_ValueError);
}

static bool
check_factor(const py_call *call, int argument, double number)
{
    if (isfinite(number) && number >= 0) {
        return true;
    }
    PyErr_Format(PyExc_ValueError, "%s is %R, expected a finite number >= 0",
                 call->names[argument], call->given[argument]);
    return false;
}

static bool
fail_shape(const py_call *call, int argument, PyArrayObject *array,
           const char *expected)
{
    PyObject *shape = py_shape(array);
    if (shape != NULL) {
        PyErr_Format(PyExc_ValueError, "%s has shape %S, expected %s",
                     call->names[argument], shape, expected);
        Py_DECREF(shape);
    }
    return false;
}

static bool
fail_row_length(const py_call *call, int64_t D)
{
    PyObject *features = py_shape(call->features);
    PyObject *centers = py_shape(call->centers);
    if (features != NULL && centers != NULL) {
        PyErr_Format(PyExc_ValueError,
                     "%s has %lld values per row, but %s has %lld: shapes %S and %S",
                     call->names[FEATURES], (long long)D, call->names[CENTERS],
                     (long long)call->batch.D, features, centers);
    }
    Py_XDECREF(features);
    Py_XDECREF(centers);
    return false;
}

static bool
check_shapes(py_call *call)
{
    cl_batch *b = &call->batch;
    if (PyArray_NDIM(call->centers) != 2) {
        return fail_shape(call, CENTERS, call->centers, "(classes, features)");
    }
    b->K = PyArray_DIM(call->centers, 0);
    b->D = PyArray_DIM(call->centers, 1);
    if (PyArray_NDIM(call->features) == 0) {
        return fail_shape(call, FEATURES, call->features, "(rows, ...)");
    }
    b->B = PyArray_DIM(call->features, 0);
    const npy_intp *dims = PyArray_DIMS(call->features);
    const int64_t D = PyArray_MultiplyList(dims + 1, PyArray_NDIM(call->features) - 1);
    if (D != b->D) {
        return fail_row_length(call, D);
    }
    return true;
}

/* Does the array have one entry per row? */
static bool
check_per_row(const py_call *call, int argument, PyArrayObject *array,
              const char *entry)
{
    if (array == NULL ||
        (PyArray_NDIM(array) == 1 && PyArray_DIM(array, 0) == call->batch.B)) {
        return true;
    }
    PyObject *shape = py_shape(array);
    if (shape != NULL) {
        PyErr_Format(PyExc_ValueError,
                     "%s has shape %S, expected (%lld,): one %s per row of %s",
                     call->names[argument], shape, (long long)call->batch.B, entry,
                     call->names[FEATURES]);
        Py_DECREF(shape);
    }
    return false;
}

static bool
fail_losses_reduction(const py_call *call)
{
    PyObject *given = call->given[REDUCTION];
    const char *reduction = py_reduction_names[call->loss_options.reduction];
    PyObject *value =
        given != NULL ? Py_NewRef(given) : PyUnicode_FromString(reduction);
    if (value != NULL) {
        PyErr_Format(
            PyExc_ValueError, "%s needs %s='none': the loss is a float with %s=%R",
            call->names[OUT], call->names[REDUCTION], call->names[REDUCTION], value);
        Py_DECREF(value);
    }
    return false;
}

/* `out` of `loss` is for one loss per row. */
static bool
check_losses_shape(const py_call *call)
{
    if (call->loss_options.reduction != CL_NONE) {
        return fail_losses_reduction(call);
    }
    if (PyArray_NDIM(call->out) == 1 && PyArray_DIM(call->out, 0) == call->batch.B) {
        return true;
    }
    char expected[32];
    PyOS_snprintf(expected, sizeof(expected), "(%lld,)", (long long)call->batch.B);
    return fail_shape(call, OUT, call->out, expected);
}

static bool
check_out_shape(const py_call *call)
{
    if (call->out == NULL) {
        return true;
    }
    if (call->signature->out == OUT_LOSSES) {
        return check_losses_shape(call);
    }
    PyArrayObject *like =
        call->signature->out == OUT_GRADIENT ? call->features : call->centers;
    if (py_same_shape(call->out, like)) {
        return true;
    }
    PyObject *given = py_shape(call->out);
    PyObject *expected = py_shape(like);
    if (given != NULL && expected != NULL) {
        PyErr_Format(PyExc_ValueError, "%s has shape %S, expected %S", call->names[OUT],
                     given, expected);
    }
    Py_XDECREF(given);
    Py_XDECREF(expected);
    return false;
}

/* Checks of an array that the kernels read or write in the caller's memory. */
static bool
check_in_place(const py_call *call, int argument, PyArrayObject *array, bool written)
{
    const char *problem = NULL;
    if (written && !PyArray_ISWRITEABLE(array)) {
        problem = "is read-only";
    }
    else if (!PyArray_ISALIGNED(array)) {
        problem = "is not aligned";
    }
    else if (PyArray_SIZE(array) > 0 && !py_rows_contiguous(array)) {
        problem = "has strided rows: each row must be contiguous in memory";
    }
    else if (written && PyArray_SIZE(array) > 0 && py_rows_overlap(array)) {
        problem = "overlaps itself";
    }
    if (problem != NULL) {
        PyErr_Format(PyExc_ValueError, "%s %s", call->names[argument], problem);
    }
    return problem == NULL;
}

static bool
check_no_overlap(const py_call *call, int written, PyArrayObject *written_array,
                 int other, PyArrayObject *other_array)
{
    if (written_array == NULL || other_array == NULL) {
        return true;
    }
    const char *written_name = call->names[written], *other_name = call->names[other];
    const py_overlap overlap = py_find_overlap(written_array, other_array);
    if (overlap == OVERLAP_FOUND) {
        PyErr_Format(PyExc_ValueError, "%s overlaps %s in memory", written_name,
                     other_name);
    }
    else if (overlap == OVERLAP_UNKNOWN) {
        PyErr_Format(PyExc_ValueError,
                     "whether %s overlaps %s in memory is too hard to tell: pass "
                     "%s.%s()",
                     written_name, other_name, other_name,
                     call->tensors ? "clone" : "copy");
    }
    return overlap == OVERLAP_NONE;
}

/* Arrays that are written must not overlap the arrays that are read. */
static bool
check_overlaps(const py_call *call)
{
    PyArrayObject *features = call->features, *labels = call->labels;
    PyArrayObject *weights = call->weights, *centers = call->centers;
    PyArrayObject *updated = call->signature->writes_centers ? centers : NULL;
    PyArrayObject *out = call->out;
    return check_no_overlap(call, CENTERS, updated, FEATURES, features) &&
           check_no_overlap(call, CENTERS, updated, LABELS, labels) &&
           check_no_overlap(call, CENTERS, updated, SAMPLE_WEIGHT, weights) &&
           check_no_overlap(call, OUT, out, FEATURES, features) &&
           check_no_overlap(call, OUT, out, LABELS, labels) &&
           check_no_overlap(call, OUT, out, CENTERS, centers) &&
           check_no_overlap(call, OUT, out, SAMPLE_WEIGHT, weights);
}

static bool
check_memory(const py_call *call)
{
    const bool writes_centers = call->signature->writes_centers;
    return check_in_place(call, CENTERS, call->centers, writes_centers) &&
           (call->out == NULL || check_in_place(call, OUT, call->out, true)) &&
           check_overlaps(call);
}

static bool
check_arrays(py_call *call)
{
    return check_shapes(call) && check_per_row(call, LABELS, call->labels, "label") &&
           check_per_row(call, SAMPLE_WEIGHT, call->weights, "weight") &&
           check_out_shape(call) && check_memory(call);
}

/* Convert the weights to float64. A cast that overflows may run code of the caller: a
 * handler of numpy.errstate or a filter of warnings. */
static bool
read_weights(py_call *call)
{
    if (call->weights == NULL) {
        return true;
    }
    PyObject *read =
        PyArray_FromArray(call->weights, PyArray_DescrFromType(NPY_FLOAT64),
                          NPY_ARRAY_CARRAY_RO | NPY_ARRAY_FORCECAST);
    const bool copied = read != (PyObject *)call->weights;
    if (!py_replace(&call->weights, read)) {
        return false;
    }
    call->batch.weights = PyArray_DATA(call->weights);
    return !copied || (py_revalidate_arrays(call) && check_arrays(call));
}

static bool
check_weights(const py_call *call)
{
    const double *weights = call->batch.weights;
    const int64_t rows = weights != NULL ? call->batch.B : 0;
    for (int64_t i = 0; i < rows; i++) {
        if (!isfinite(weights[i]) || weights[i] < 0) {
            PyObject *value = PyFloat_FromDouble(weights[i]);
            if (value != NULL) {
                PyErr_Format(PyExc_ValueError,
                             "%s[%lld] is %R, expected a finite number >= 0",
                             call->names[SAMPLE_WEIGHT], (long long)i, value);
                Py_DECREF(value);
            }
            return false;
        }
    }
    return true;
}

static bool
check_options(py_call *call)
{
    if (!read_reduction(call) ||
        !check_factor(call, ALPHA, call->update_options.alpha) ||
        !check_factor(call, LOSS_WEIGHT, call->loss_options.loss_weight)) {
        return false;
    }
    if (call->ignore_index_overflow != 0) {
        PyErr_Format(PyExc_ValueError, "%s is %R, expected an integer of 64 bits",
                     call->names[IGNORE_INDEX], call->given[IGNORE_INDEX]);
        return false;
    }
    return true;
}

bool
py_check_values(py_call *call)
{
    return check_options(call) && check_arrays(call) && read_weights(call) &&
           check_weights(call);
}
