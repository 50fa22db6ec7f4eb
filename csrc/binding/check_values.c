#include "check_values.h"

#include <math.h>

#include "array_util.h"
#include "check_shapes.h"
#include "check_types.h"
#include "overlap.h"

static bool
read_reduction(py_call *call)
{
    PyObject *value = call->given[REDUCTION];
    if (value == NULL) {
        return true;
    }
    const int last = call->signature->returns_terms ? CL_SUM : CL_NONE;
    for (int i = CL_MEAN; i >= last; i--) { /* the most frequent first */
        if (PyUnicode_CompareWithASCIIString(value, py_reduction_names[i]) == 0) {
            call->loss_options.reduction = (cl_reduction)i;
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

/* Checks of an array that the kernels read or write in the caller's memory. The first
 * `axes` axes index its rows. */
static bool
check_in_place(const py_call *call, int argument, PyArrayObject *array, int axes,
               bool written)
{
    const char *problem = NULL;
    npy_intp stride;
    if (written && !PyArray_ISWRITEABLE(array)) {
        problem = "is read-only";
    }
    else if (!PyArray_ISALIGNED(array)) {
        problem = "is not aligned";
    }
    else if (PyArray_IS_C_CONTIGUOUS(array)) {
        return true;
    }
    else if (!py_rows_contiguous(array, axes)) {
        problem = "has strided rows: each row must be contiguous in memory";
    }
    else if (!py_find_row_stride(array, axes, &stride)) {
        problem =
            "has rows at uneven distances: one stride must lead from each row to "
            "the next";
    }
    else if (written && py_rows_overlap(array, axes, stride)) {
        problem = "overlaps itself";
    }
    if (problem != NULL) {
        PyErr_Format(PyExc_ValueError, "%s %s", call->names[argument], problem);
    }
    return problem == NULL;
}

/* An argument that is an array, or NULL. */
typedef struct {
    const char *name;
    PyArrayObject *array;
    py_span span;
} operand;

static operand
operand_of(const py_call *call, int argument, PyArrayObject *array)
{
    operand result = {.name = call->names[argument], .array = array};
    if (array != NULL) {
        result.span = py_find_span(array);
    }
    return result;
}

static bool
check_no_overlap(const py_call *call, const operand *written, const operand *other)
{
    if (other->array == NULL || py_are_apart(&written->span, &other->span)) {
        return true;
    }
    const py_overlap overlap =
        py_find_overlap(written->array, &written->span, other->array, &other->span);
    if (overlap == OVERLAP_FOUND) {
        PyErr_Format(PyExc_ValueError, "%s overlaps %s in memory", written->name,
                     other->name);
    }
    else if (overlap == OVERLAP_UNKNOWN) {
        PyErr_Format(PyExc_ValueError,
                     "whether %s overlaps %s in memory is too hard to tell: pass "
                     "%s.%s()",
                     written->name, other->name, other->name,
                     call->tensors ? "clone" : "copy");
    }
    return overlap == OVERLAP_NONE;
}

/* Arrays that are written must not overlap the arrays that are read. */
static bool
check_overlaps(const py_call *call)
{
    const bool writes_centers = call->signature->writes_centers;
    if (!writes_centers && call->out == NULL) {
        return true;
    }
    const operand features = operand_of(call, FEATURES, call->features);
    const operand labels = operand_of(call, LABELS, call->labels);
    const operand centers = operand_of(call, CENTERS, call->centers);
    const operand weights = operand_of(call, SAMPLE_WEIGHT, call->weights);
    const operand places = operand_of(call, PLACES, call->places);
    if (writes_centers && !(check_no_overlap(call, &centers, &features) &&
                            check_no_overlap(call, &centers, &labels) &&
                            check_no_overlap(call, &centers, &weights) &&
                            check_no_overlap(call, &centers, &places))) {
        return false;
    }
    if (call->out == NULL) {
        return true;
    }
    const operand out = operand_of(call, OUT, call->out);
    return check_no_overlap(call, &out, &features) &&
           check_no_overlap(call, &out, &labels) &&
           check_no_overlap(call, &out, &centers) &&
           check_no_overlap(call, &out, &weights);
}

static bool
check_memory(const py_call *call)
{
    const bool writes_centers = call->signature->writes_centers;
    const int out_axes = call->signature->out == OUT_DELTAS ? 1 : call->row_axes;
    return check_in_place(call, CENTERS, call->centers, 1, writes_centers) &&
           (call->out == NULL ||
            check_in_place(call, OUT, call->out, out_axes, true)) &&
           check_overlaps(call);
}

static bool
check_arrays(py_call *call)
{
    return py_check_shapes(call) && check_memory(call);
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
fail_weight(const py_call *call, int64_t row)
{
    PyObject *value = PyFloat_FromDouble(call->batch.weights[row]);
    PyObject *index = py_index_text(call->weights, row);
    if (value != NULL && index != NULL) {
        PyErr_Format(PyExc_ValueError, "%s[%U] is %R, expected a finite number >= 0",
                     call->names[SAMPLE_WEIGHT], index, value);
    }
    Py_XDECREF(value);
    Py_XDECREF(index);
    return false;
}

static bool
check_weights(const py_call *call)
{
    const double *weights = call->batch.weights;
    const int64_t rows = weights != NULL ? call->batch.B : 0;
    for (int64_t i = 0; i < rows; i++) {
        if (!isfinite(weights[i]) || weights[i] < 0) {
            return fail_weight(call, i);
        }
    }
    return true;
}

static bool
fail_place(const py_call *call, const int64_t *places, int64_t row)
{
    const char *name = call->names[PLACES];
    const long long place = (long long)places[row];
    if (row == 0) {
        PyErr_Format(PyExc_ValueError, "%s[0] is %lld, expected an integer >= 0", name,
                     place);
    }
    else {
        PyErr_Format(PyExc_ValueError,
                     "%s[%lld] is %lld, but %s[%lld] is %lld: expected ascending "
                     "places",
                     name, (long long)row, place, name, (long long)row - 1,
                     (long long)places[row - 1]);
    }
    return false;
}

/* Copies the places unless they are contiguous, and checks them. Another thread can
 * still write to the caller's array during the operation. The kernels read the places
 * only to compare the segments of rows, so that changes bits of the sums at worst. */
static bool
read_places(py_call *call)
{
    if (call->places == NULL) {
        return true;
    }
    PyObject *read = PyArray_FromArray(call->places, PyArray_DescrFromType(NPY_INT64),
                                       NPY_ARRAY_CARRAY_RO);
    if (!py_replace(&call->places, read)) {
        return false;
    }
    const int64_t *places = PyArray_DATA(call->places);
    for (int64_t row = 0; row < call->batch.B; row++) {
        if (places[row] < 0 || (row > 0 && places[row] <= places[row - 1])) {
            return fail_place(call, places, row);
        }
    }
    call->batch.places = places;
    return true;
}

static bool
check_options(py_call *call)
{
    if (!read_reduction(call) ||
        !check_factor(call, ALPHA, call->update_options.alpha) ||
        !check_factor(call, LOSS_WEIGHT, call->loss_options.loss_weight) ||
        !check_factor(call, TOTAL_WEIGHT, call->total_weight)) {
        return false;
    }
    if (call->given[TOTAL_WEIGHT] != NULL) {
        call->loss_options.total_weight = &call->total_weight;
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
           check_weights(call) && read_places(call);
}
