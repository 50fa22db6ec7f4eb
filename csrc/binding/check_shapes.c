#include "check_shapes.h"

#include "array_util.h"

static bool
same_lengths(PyArrayObject *a, PyArrayObject *b, int axes)
{
    return PyArray_NDIM(a) >= axes && PyArray_NDIM(b) >= axes &&
           PyArray_CompareLists(PyArray_DIMS(a), PyArray_DIMS(b), axes);
}

PyObject *
py_shape_of_rows(PyArrayObject *array, int axes)
{
    PyObject *shape = py_shape(array);
    PyObject *rows = shape != NULL ? PySequence_GetSlice(shape, 0, axes) : NULL;
    Py_XDECREF(shape);
    return rows;
}

/* How many axes of the features index rows of D values: the fewest, or 0 if no number
 * of axes does. */
static int
find_row_axes(const py_call *call)
{
    if (PyArray_NDIM(call->centers) != 2) {
        return 0;
    }
    const int64_t D = PyArray_DIM(call->centers, 1);
    for (int axes = 1; axes <= PyArray_NDIM(call->features); axes++) {
        if (py_row_length(call->features, axes) == D) {
            return axes;
        }
    }
    return 0;
}

bool
py_labels_look_one_hot(const py_call *call)
{
    const int axes = find_row_axes(call);
    const npy_intp K = axes > 0 ? PyArray_DIM(call->centers, 0) : 0;
    return K > 1 && PyArray_NDIM(call->labels) == axes + 1 &&
           same_lengths(call->labels, call->features, axes) &&
           PyArray_DIM(call->labels, axes) == K;
}

py_argmax
py_argmax_call(const py_call *call)
{
    py_argmax call_text;
    PyOS_snprintf(call_text.text, sizeof(call_text.text), ".argmax(%s%d)",
                  call->tensors ? "" : "axis=", PyArray_NDIM(call->labels) - 1);
    return call_text;
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

/* The rows, which the first `axes` axes of the features index, do not have D values. If
 * `expected` is not 0, rows that are indexed by so many axes would have D values. */
static bool
fail_row_length(const py_call *call, int axes, int expected)
{
    const long long D = (long long)call->batch.D;
    const long long given = (long long)py_row_length(call->features, axes);
    PyObject *features = py_shape(call->features);
    PyObject *centers = py_shape(call->centers);
    PyObject *rows = py_shape_of_rows(call->features, expected);
    const bool complete = features != NULL && centers != NULL && rows != NULL;
    if (complete && expected == 0) {
        PyErr_Format(PyExc_ValueError,
                     "%s has %lld values per row, but %s has %lld: shapes %S and %S",
                     call->names[FEATURES], given, call->names[CENTERS], D, features,
                     centers);
    }
    else if (complete) {
        PyErr_Format(PyExc_ValueError,
                     "%s has %lld values per row, but %s has %lld: shapes %S and %S; "
                     "for rows of length %lld, %s needs shape %S",
                     call->names[FEATURES], given, call->names[CENTERS], D, features,
                     centers, D, call->names[LABELS], rows);
    }
    Py_XDECREF(features);
    Py_XDECREF(centers);
    Py_XDECREF(rows);
    return false;
}

/* Is there one entry per row, but in a matrix with one column or one row? */
static bool
can_ravel(PyArrayObject *entries, PyArrayObject *features, int axes)
{
    bool found = false;
    for (int axis = 0; axis < PyArray_NDIM(entries); axis++) {
        found = found || PyArray_DIM(entries, axis) == PyArray_DIM(features, 0);
    }
    return axes == 1 && found && PyArray_SIZE(entries) == PyArray_DIM(features, 0);
}

/* The array does not have one entry per row. The first `axes` axes of the features
 * index the rows. */
static bool
fail_entries(const py_call *call, int argument, PyArrayObject *entries, int axes,
             const char *entry)
{
    const char *name = call->names[argument];
    py_argmax argmax;
    const char *method = "";
    if (can_ravel(entries, call->features, axes)) {
        method = ".ravel()";
    }
    else if (argument == LABELS && py_labels_look_one_hot(call)) {
        argmax = py_argmax_call(call);
        method = argmax.text;
    }
    const bool hint = method[0] != '\0';
    PyObject *shape = py_shape(entries);
    PyObject *expected = py_shape_of_rows(call->features, axes);
    if (shape != NULL && expected != NULL) {
        PyErr_Format(PyExc_ValueError,
                     "%s has shape %S, expected %S: one %s per row of %s%s%s%s", name,
                     shape, expected, entry, call->names[FEATURES],
                     hint ? "; pass " : "", hint ? name : "", method);
    }
    Py_XDECREF(shape);
    Py_XDECREF(expected);
    return false;
}

/* Are the features (B, D, H, W), with labels (B, H, W)? */
static bool
are_channels_first(const py_call *call)
{
    PyArrayObject *features = call->features, *labels = call->labels;
    const int axes = PyArray_NDIM(labels);
    return axes >= 2 && PyArray_NDIM(features) == axes + 1 &&
           PyArray_DIM(features, 0) == PyArray_DIM(labels, 0) &&
           PyArray_DIM(features, 1) == call->batch.D &&
           PyArray_CompareLists(PyArray_DIMS(features) + 2, PyArray_DIMS(labels) + 1,
                                axes - 1);
}

static bool
fail_channels_first(const py_call *call)
{
    const char *name = call->names[FEATURES];
    PyObject *features = py_shape(call->features);
    PyObject *labels = py_shape(call->labels);
    PyObject *row = Py_BuildValue("(L)", (long long)call->batch.D);
    PyObject *expected =
        labels != NULL && row != NULL ? PySequence_Concat(labels, row) : NULL;
    if (features != NULL && expected != NULL) {
        PyErr_Format(PyExc_ValueError,
                     "%s has shape %S, expected %S for %s of shape %S: pass %s%s%s",
                     name, features, expected, call->names[LABELS], labels,
                     call->tensors ? "" : "np.moveaxis(", name,
                     call->tensors ? ".movedim(1, -1)" : ", 1, -1)");
    }
    Py_XDECREF(features);
    Py_XDECREF(labels);
    Py_XDECREF(row);
    Py_XDECREF(expected);
    return false;
}

static bool
check_centers_shape(py_call *call)
{
    if (PyArray_NDIM(call->centers) != 2) {
        return fail_shape(call, CENTERS, call->centers, "(classes, features)");
    }
    call->batch.K = PyArray_DIM(call->centers, 0);
    call->batch.D = PyArray_DIM(call->centers, 1);
    return true;
}

/* Compare features and labels. */
static bool
check_rows(py_call *call)
{
    if (PyArray_NDIM(call->features) == 0) {
        return fail_shape(call, FEATURES, call->features, "(rows, ...)");
    }
    const int axes = PyArray_NDIM(call->labels);
    const bool same = axes > 0 && same_lengths(call->labels, call->features, axes);
    if (same && py_row_length(call->features, axes) == call->batch.D) {
        call->row_axes = axes;
        call->batch.B = PyArray_SIZE(call->labels);
        return true;
    }
    if (are_channels_first(call)) {
        return fail_channels_first(call);
    }
    const int expected = find_row_axes(call);
    if (expected == 0 && axes == 0) {
        return fail_shape(call, LABELS, call->labels, "at least one axis: (rows,)");
    }
    if (expected == 0) {
        const bool has_rows = same && axes < PyArray_NDIM(call->features);
        return fail_row_length(call, has_rows ? axes : 1, 0);
    }
    if (same && axes < expected) {
        return fail_row_length(call, axes, expected);
    }
    return fail_entries(call, LABELS, call->labels, expected, "label");
}

static bool
check_weights_shape(const py_call *call)
{
    return call->weights == NULL || py_same_shape(call->weights, call->labels) ||
           fail_entries(call, SAMPLE_WEIGHT, call->weights, call->row_axes, "weight");
}

/* One place per row, whatever the number of axes that index the rows. */
static bool
check_places_shape(const py_call *call)
{
    const long long B = (long long)call->batch.B;
    if (call->places == NULL ||
        (PyArray_NDIM(call->places) == 1 && PyArray_SIZE(call->places) == B)) {
        return true;
    }
    PyObject *shape = py_shape(call->places);
    if (shape != NULL) {
        PyErr_Format(PyExc_ValueError,
                     "%s has shape %S, expected (%lld,): one place per row of %s",
                     call->names[PLACES], shape, B, call->names[FEATURES]);
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

/* An array of the shape that `out` must have. */
static PyArrayObject *
shaped_like_out(const py_call *call)
{
    switch (call->signature->out) {
        case OUT_LOSSES:
            return call->labels;
        case OUT_GRADIENT:
            return call->features;
        default:
            return call->centers;
    }
}

static bool
check_out_shape(const py_call *call)
{
    if (call->out == NULL) {
        return true;
    }
    if (call->signature->out == OUT_LOSSES && call->loss_options.reduction != CL_NONE) {
        return fail_losses_reduction(call);
    }
    PyArrayObject *like = shaped_like_out(call);
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

bool
py_check_shapes(py_call *call)
{
    return check_centers_shape(call) && check_rows(call) && check_weights_shape(call) &&
           check_places_shape(call) && check_out_shape(call);
}
