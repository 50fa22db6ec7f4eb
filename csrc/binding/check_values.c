/*
 * What values, shapes and memory the arguments have: a ValueError if they do
 * not fit the function or one another.
 */
#include "checks.h"

#include <math.h>

static bool
check_reduction(cl_call *call)
{
    PyObject *value = call->given[REDUCTION];
    call->loss_options.reduction = CL_MEAN;
    if (value == NULL || PyUnicode_CompareWithASCIIString(value, "mean") == 0) {
        return true;
    }
    if (PyUnicode_CompareWithASCIIString(value, "sum") == 0) {
        call->loss_options.reduction = CL_SUM;
        return true;
    }
    if (PyUnicode_CompareWithASCIIString(value, "none") == 0) {
        call->loss_options.reduction = CL_NONE;
        return true;
    }
    return cl_fail_reduction(PyExc_ValueError, value);
}

static bool
check_factor(const cl_call *call, int argument, double number)
{
    if (isfinite(number) && number >= 0) {
        return true;
    }
    PyErr_Format(PyExc_ValueError, "%s is %R, expected a finite number >= 0",
                 cl_argument_names[argument], call->given[argument]);
    return false;
}

/* array.shape, a new reference. */
static PyObject *
shape_of(PyArrayObject *array)
{
    return PyObject_GetAttrString((PyObject *)array, "shape");
}

static bool
fail_shape(const char *name, PyArrayObject *array, const char *expected)
{
    PyObject *shape = shape_of(array);
    if (shape != NULL) {
        PyErr_Format(PyExc_ValueError, "%s has shape %S, expected %s", name, shape,
                     expected);
        Py_DECREF(shape);
    }
    return false;
}

static bool
fail_row_length(const cl_call *call, int64_t D)
{
    PyObject *features = shape_of(call->features);
    PyObject *centers = shape_of(call->centers);
    if (features != NULL && centers != NULL) {
        PyErr_Format(PyExc_ValueError,
                     "features has %lld values per row, but centers has %lld: "
                     "shapes %S and %S",
                     (long long)D, (long long)call->batch.D, features, centers);
    }
    Py_XDECREF(features);
    Py_XDECREF(centers);
    return false;
}

static bool
check_shapes(cl_call *call)
{
    cl_batch *b = &call->batch;
    if (PyArray_NDIM(call->centers) != 2) {
        return fail_shape("centers", call->centers, "(classes, features)");
    }
    b->K = PyArray_DIM(call->centers, 0);
    b->D = PyArray_DIM(call->centers, 1);
    if (PyArray_NDIM(call->features) == 0) {
        return fail_shape("features", call->features, "(rows, ...)");
    }
    b->B = PyArray_DIM(call->features, 0);
    const npy_intp *dims = PyArray_DIMS(call->features);
    const int64_t D = PyArray_MultiplyList(dims + 1, PyArray_NDIM(call->features) - 1);
    if (D != b->D) {
        return fail_row_length(call, D);
    }
    return true;
}

/* An array with one entry per row. */
static bool
check_per_row(const cl_call *call, PyArrayObject *array, const char *name,
              const char *what)
{
    if (array == NULL ||
        (PyArray_NDIM(array) == 1 && PyArray_DIM(array, 0) == call->batch.B)) {
        return true;
    }
    PyObject *shape = shape_of(array);
    if (shape != NULL) {
        PyErr_Format(PyExc_ValueError,
                     "%s has shape %S, expected (%lld,): one %s per row of features",
                     name, shape, (long long)call->batch.B, what);
        Py_DECREF(shape);
    }
    return false;
}

static bool
same_shape(PyArrayObject *a, PyArrayObject *b)
{
    return PyArray_NDIM(a) == PyArray_NDIM(b) &&
           PyArray_CompareLists(PyArray_DIMS(a), PyArray_DIMS(b), PyArray_NDIM(a));
}

static bool
check_out_shape(const cl_call *call)
{
    if (call->out == NULL) {
        return true;
    }
    if (call->signature->out == OUT_LOSSES) {
        if (call->loss_options.reduction != CL_NONE) {
            PyObject *given = call->given[REDUCTION];
            PyObject *mean =
                given == NULL ? PyUnicode_FromString("mean") : Py_NewRef(given);
            PyErr_Format(PyExc_ValueError,
                         "out needs reduction='none': the loss is a float with "
                         "reduction=%R",
                         mean);
            Py_XDECREF(mean);
            return false;
        }
        if (PyArray_NDIM(call->out) == 1 &&
            PyArray_DIM(call->out, 0) == call->batch.B) {
            return true;
        }
        char expected[32];
        PyOS_snprintf(expected, sizeof(expected), "(%lld,)", (long long)call->batch.B);
        return fail_shape("out", call->out, expected);
    }
    PyArrayObject *like =
        call->signature->out == OUT_GRADIENT ? call->features : call->centers;
    if (same_shape(call->out, like)) {
        return true;
    }
    PyObject *given = shape_of(call->out);
    PyObject *expected = shape_of(like);
    if (given != NULL && expected != NULL) {
        PyErr_Format(PyExc_ValueError, "out has shape %S, expected %S", given,
                     expected);
    }
    Py_XDECREF(given);
    Py_XDECREF(expected);
    return false;
}

/* Does one row lie upon another? Of an array with contiguous rows. */
static bool
rows_overlap(PyArrayObject *array)
{
    const npy_intp rows = PyArray_DIM(array, 0);
    if (rows <= 1) {
        return false;
    }
    const npy_intp row_bytes = PyArray_NBYTES(array) / rows;
    const npy_intp stride = PyArray_STRIDE(array, 0);
    return (stride < 0 ? -stride : stride) < row_bytes;
}

/* An array that the kernels work on where it lies. */
static bool
check_in_place(PyArrayObject *array, const char *name, bool written)
{
    const char *problem = NULL;
    if (written && !PyArray_ISWRITEABLE(array)) {
        problem = "is read-only";
    }
    else if (!PyArray_ISALIGNED(array)) {
        problem = "is not aligned";
    }
    else if (PyArray_SIZE(array) > 0 && !cl_rows_contiguous(array)) {
        problem = "has strided rows: each row must be contiguous in memory";
    }
    else if (written && PyArray_SIZE(array) > 0 && rows_overlap(array)) {
        problem = "overlaps itself";
    }
    if (problem != NULL) {
        PyErr_Format(PyExc_ValueError, "%s %s", name, problem);
    }
    return problem == NULL;
}

/* The bytes an array spans. */
static void
extent(PyArrayObject *array, uintptr_t *low, uintptr_t *high)
{
    *low = *high = (uintptr_t)PyArray_DATA(array);
    for (int axis = 0; axis < PyArray_NDIM(array); axis++) {
        const npy_intp reach =
            (PyArray_DIM(array, axis) - 1) * PyArray_STRIDE(array, axis);
        if (reach < 0) {
            *low -= (uintptr_t)-reach;
        }
        else {
            *high += (uintptr_t)reach;
        }
    }
    *high += (uintptr_t)PyArray_ITEMSIZE(array);
}

typedef enum {
    APART,
    OVERLAPPING,
    TOO_HARD_TO_TELL,
    FAILED, /* with an exception */
} overlap;

/* How many steps NumPy may take to tell, some ten milliseconds. It mostly takes a
 * few; where the strides of many axes do not nest it may go on for hours. */
enum {
    MOST_OVERLAP_STEPS = 100000
};

static overlap
ask_numpy(PyArrayObject *a, PyArrayObject *b)
{
    overlap answer = FAILED;
    PyObject *too_hard = NULL, *shared = NULL;
    PyObject *numpy = PyImport_ImportModule("numpy");
    PyObject *exceptions =
        numpy != NULL ? PyObject_GetAttrString(numpy, "exceptions") : NULL;
    if (exceptions != NULL) {
        too_hard = PyObject_GetAttrString(exceptions, "TooHardError");
    }
    if (too_hard != NULL) {
        shared = PyObject_CallMethod(numpy, "shares_memory", "OOi", a, b,
                                     MOST_OVERLAP_STEPS);
    }
    if (shared != NULL) {
        answer = PyObject_IsTrue(shared) ? OVERLAPPING : APART;
    }
    else if (too_hard != NULL && PyErr_ExceptionMatches(too_hard)) {
        PyErr_Clear();
        answer = TOO_HARD_TO_TELL;
    }
    else if (PyErr_Occurred() == PyExc_RuntimeError) {
        PyErr_NoMemory(); /* which NumPy says in this way */
    }
    Py_XDECREF(numpy);
    Py_XDECREF(exceptions);
    Py_XDECREF(too_hard);
    Py_XDECREF(shared);
    return answer;
}

/* Do the two share a byte? NumPy decides, where the spans do not already. */
static overlap
overlap_of(PyArrayObject *a, PyArrayObject *b)
{
    uintptr_t a_low, a_high, b_low, b_high;
    if (PyArray_SIZE(a) == 0 || PyArray_SIZE(b) == 0) {
        return APART;
    }
    extent(a, &a_low, &a_high);
    extent(b, &b_low, &b_high);
    return a_high <= b_low || b_high <= a_low ? APART : ask_numpy(a, b);
}

static bool
check_apart(PyArrayObject *written, const char *written_name, PyArrayObject *other,
            const char *other_name)
{
    if (written == NULL || other == NULL) {
        return true;
    }
    const overlap found = overlap_of(written, other);
    if (found == OVERLAPPING) {
        PyErr_Format(PyExc_ValueError, "%s overlaps %s in memory", written_name,
                     other_name);
    }
    else if (found == TOO_HARD_TO_TELL) {
        PyErr_Format(PyExc_ValueError,
                     "whether %s overlaps %s in memory is too hard to tell: pass "
                     "%s.copy()",
                     written_name, other_name, other_name);
    }
    return found == APART;
}

static bool
check_arrays_apart(const cl_call *call)
{
    PyArrayObject *moved = call->signature->moves ? call->centers : NULL;
    return check_apart(moved, "centers", call->features, "features") &&
           check_apart(moved, "centers", call->labels, "labels") &&
           check_apart(moved, "centers", call->weights, "sample_weight") &&
           check_apart(call->out, "out", call->features, "features") &&
           check_apart(call->out, "out", call->labels, "labels") &&
           check_apart(call->out, "out", call->centers, "centers") &&
           check_apart(call->out, "out", call->weights, "sample_weight");
}

static bool
check_memory(const cl_call *call)
{
    return check_in_place(call->centers, "centers", call->signature->moves) &&
           (call->out == NULL || check_in_place(call->out, "out", true)) &&
           check_arrays_apart(call);
}

static bool
check_arrays(cl_call *call)
{
    return check_shapes(call) && check_per_row(call, call->labels, "labels", "label") &&
           check_per_row(call, call->weights, "sample_weight", "weight") &&
           check_out_shape(call) && check_memory(call);
}

/* Make the weights float64. A cast that overflows calls what numpy.errstate names,
 * or a filter of warnings, and so may run code of the caller's. */
static bool
read_weights(cl_call *call)
{
    if (call->weights == NULL) {
        return true;
    }
    PyObject *read =
        PyArray_FromArray(call->weights, PyArray_DescrFromType(NPY_FLOAT64),
                          NPY_ARRAY_CARRAY_RO | NPY_ARRAY_FORCECAST);
    const bool copied = read != (PyObject *)call->weights;
    if (!cl_replace(&call->weights, read)) {
        return false;
    }
    call->batch.weights = PyArray_DATA(call->weights);
    return !copied || (cl_check_still(call) && check_arrays(call));
}

static bool
check_weights(const cl_call *call)
{
    const double *weights = call->batch.weights;
    const int64_t rows = weights != NULL ? call->batch.B : 0;
    for (int64_t i = 0; i < rows; i++) {
        if (!isfinite(weights[i]) || weights[i] < 0) {
            PyObject *value = PyFloat_FromDouble(weights[i]);
            if (value != NULL) {
                PyErr_Format(PyExc_ValueError,
                             "sample_weight[%lld] is %R, expected a finite number >= 0",
                             (long long)i, value);
                Py_DECREF(value);
            }
            return false;
        }
    }
    return true;
}

static bool
check_options(cl_call *call, int ignore_overflow)
{
    if (!check_reduction(call) ||
        !check_factor(call, ALPHA, call->update_options.alpha) ||
        !check_factor(call, LOSS_WEIGHT, call->loss_options.loss_weight)) {
        return false;
    }
    if (ignore_overflow != 0) {
        PyErr_Format(PyExc_ValueError,
                     "ignore_index is %R, expected an integer of 64 bits",
                     call->given[IGNORE_INDEX]);
        return false;
    }
    return true;
}

bool
cl_check_values(cl_call *call, int ignore_overflow)
{
    return check_options(call, ignore_overflow) && check_arrays(call) &&
           read_weights(call) && check_weights(call);
}
