#include "arguments.h"

#include <math.h>

static const char *const argument_names[ARGUMENTS] = {
        "features",  "labels",      "centers",       "alpha",        "normalize",
        "reduction", "loss_weight", "sample_weight", "ignore_index", "out",
};

bool
cl_intern_names(PyObject *names[ARGUMENTS])
{
    for (int i = 0; i < ARGUMENTS; i++) {
        names[i] = PyUnicode_InternFromString(argument_names[i]);
        if (names[i] == NULL) {
            return false;
        }
    }
    return true;
}

/* ------------------------------------------------------- which is which */

static int
find_name(PyObject *const names[ARGUMENTS], PyObject *keyword)
{
    for (int i = 0; i < ARGUMENTS; i++) {
        if (names[i] == keyword) {
            return i;
        }
    }
    for (int i = 0; i < ARGUMENTS; i++) {
        if (PyUnicode_CompareWithASCIIString(keyword, argument_names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

static bool
take_keyword(cl_call *call, PyObject *const names[ARGUMENTS], PyObject *keyword,
             PyObject *value)
{
    const cl_signature *signature = call->signature;
    const int i = find_name(names, keyword);
    if (i < 0 || (i > CENTERS && !(signature->takes & (1u << i)))) {
        PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'",
                     signature->name, keyword);
        return false;
    }
    if (call->given[i] != NULL) {
        PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%U'",
                     signature->name, keyword);
        return false;
    }
    call->given[i] = value;
    return true;
}

static bool
take_arguments(cl_call *call, PyObject *const names[ARGUMENTS], PyObject *const *args,
               Py_ssize_t n_args, PyObject *keywords)
{
    const char *name = call->signature->name;
    if (n_args > CENTERS + 1) {
        PyErr_Format(PyExc_TypeError,
                     "%s() takes 3 positional arguments but %zd were given", name,
                     n_args);
        return false;
    }
    for (Py_ssize_t i = 0; i < n_args; i++) {
        call->given[i] = args[i];
    }
    const Py_ssize_t n_keywords = keywords != NULL ? PyTuple_Size(keywords) : 0;
    for (Py_ssize_t i = 0; i < n_keywords; i++) {
        PyObject *keyword = PyTuple_GetItem(keywords, i);
        if (!take_keyword(call, names, keyword, args[n_args + i])) {
            return false;
        }
    }
    for (int i = FEATURES; i <= CENTERS; i++) {
        if (call->given[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument '%s'", name,
                         argument_names[i]);
            return false;
        }
    }
    /* None is the same as nothing where None is the default. */
    for (int i = SAMPLE_WEIGHT; i <= OUT; i++) {
        if (call->given[i] == Py_None) {
            call->given[i] = NULL;
        }
    }
    return true;
}

/* ------------------------------------------------------------ TypeErrors */

/* type(object).__name__, a new reference. */
static PyObject *
type_name(PyObject *object)
{
    return PyType_GetName(Py_TYPE(object));
}

static bool
is_native(PyArrayObject *array)
{
    return PyArray_ISNOTSWAPPED(array);
}

/* The array itself, if it is one; else an error that says what was expected. */
static PyArrayObject *
require_array(PyObject *object, const char *name, const char *expected)
{
    if (PyArray_Check(object)) {
        return (PyArrayObject *)Py_NewRef(object);
    }
    PyObject *type = type_name(object);
    if (type != NULL) {
        PyErr_Format(PyExc_TypeError, "%s is a %U, expected %s", name, type, expected);
        Py_DECREF(type);
    }
    return NULL;
}

static bool
check_centers_type(cl_call *call)
{
    call->centers = require_array(call->given[CENTERS], "centers",
                                  "a NumPy array of float32 or float64");
    if (call->centers == NULL) {
        return false;
    }
    PyArray_Descr *dtype = PyArray_DESCR(call->centers);
    const int type = PyArray_TYPE(call->centers);
    if (type != NPY_FLOAT32 && type != NPY_FLOAT64) {
        PyErr_Format(PyExc_TypeError,
                     "centers has dtype %S, expected float32 or float64: make it with "
                     "centers.astype(np.float32)",
                     dtype);
        return false;
    }
    if (!is_native(call->centers)) {
        PyErr_Format(PyExc_TypeError,
                     "centers has dtype %S, expected native byte order: make it with "
                     "centers.astype(np.%s)",
                     dtype, type == NPY_FLOAT32 ? "float32" : "float64");
        return false;
    }
    return true;
}

/* ml_dtypes' bfloat16 is known by its name: NumPy gives it a number of its own
 * in every process, and this package does without ml_dtypes. */
static bool
is_bfloat16(PyArray_Descr *dtype)
{
    if (dtype->type_num < NPY_USERDEF || PyDataType_ELSIZE(dtype) != 2) {
        return false;
    }
    PyObject *name = PyType_GetName(dtype->typeobj);
    if (name == NULL) {
        PyErr_Clear();
        return false;
    }
    const bool same = PyUnicode_CompareWithASCIIString(name, "bfloat16") == 0;
    Py_DECREF(name);
    return same;
}

static bool
find_types(cl_call *call)
{
    PyArray_Descr *dtype = PyArray_DESCR(call->features);
    const int type = dtype->type_num;
    const bool single = PyArray_TYPE(call->centers) == NPY_FLOAT32;
    if (type == PyArray_TYPE(call->centers)) {
        call->batch.types = single ? CL_FLOAT32 : CL_FLOAT64;
    }
    else if (single && type == NPY_FLOAT16) {
        call->batch.types = CL_FLOAT16_FLOAT32;
    }
    else if (single && is_bfloat16(dtype)) {
        call->batch.types = CL_BFLOAT16_FLOAT32;
    }
    else {
        const char *expected = single ? "float32" : "float64";
        PyErr_Format(PyExc_TypeError,
                     "features has dtype %S, but centers has %s: pass "
                     "features.astype(np.%s)",
                     dtype, expected, expected);
        return false;
    }
    return true;
}

/* Any object as an array of its own dtype or, where it has none, of `type`. */
static PyArrayObject *
as_array(PyObject *object, int type)
{
    if (PyArray_Check(object)) {
        return (PyArrayObject *)Py_NewRef(object);
    }
    PyArray_Descr *dtype = NULL;
    if (type != NPY_NOTYPE && !PyObject_HasAttrString(object, "dtype")) {
        dtype = PyArray_DescrFromType(type);
    }
    return (PyArrayObject *)PyArray_FromAny(object, dtype, 0, 0, NPY_ARRAY_ENSUREARRAY,
                                            NULL);
}

static bool
check_features_type(cl_call *call)
{
    call->features = as_array(call->given[FEATURES], PyArray_TYPE(call->centers));
    return call->features != NULL && find_types(call);
}

static bool
check_labels_type(cl_call *call)
{
    PyObject *labels = call->given[LABELS];
    call->labels = as_array(labels, NPY_NOTYPE);
    if (call->labels == NULL) {
        return false;
    }
    const bool has_dtype = PyArray_Check(labels) || PyObject_HasAttrString(labels, "dtype");
    if (!has_dtype && PyArray_SIZE(call->labels) == 0) {
        /* An empty list would be float64. */
        PyArrayObject *empty = call->labels;
        call->labels = (PyArrayObject *)PyArray_Cast(empty, NPY_INT64);
        Py_DECREF(empty);
        return call->labels != NULL;
    }
    if (!PyArray_ISINTEGER(call->labels)) {
        PyErr_Format(PyExc_TypeError,
                     "labels has dtype %S, expected an integer dtype: pass "
                     "labels.astype(np.int64)",
                     PyArray_DESCR(call->labels));
        return false;
    }
    return true;
}

/* A number, its sign and size still unchecked; what float() cannot represent
 * at all comes out infinite. */
static bool
check_number(const cl_call *call, int argument, double *number)
{
    PyObject *value = call->given[argument];
    if (value == NULL) {
        return true;
    }
    *number = PyFloat_AsDouble(value);
    if (*number == -1.0 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_Clear();
            *number = INFINITY;
            return true;
        }
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Format(PyExc_TypeError, "%s is %R, expected a number",
                         argument_names[argument], value);
        }
        return false;
    }
    return true;
}

static bool
check_normalize(cl_call *call)
{
    PyObject *value = call->given[NORMALIZE];
    if (value == NULL || PyBool_Check(value) || PyArray_IsScalar(value, Bool)) {
        call->rate.normalize = value == NULL || PyObject_IsTrue(value);
        return true;
    }
    PyErr_Format(PyExc_TypeError, "normalize is %R, expected True or False", value);
    return false;
}

static bool
fail_reduction(PyObject *type, PyObject *value)
{
    PyErr_Format(type, "reduction is %R, expected 'none', 'sum' or 'mean'", value);
    return false;
}

static bool
check_reduction_type(const cl_call *call)
{
    PyObject *value = call->given[REDUCTION];
    if (value == NULL || PyUnicode_Check(value)) {
        return true;
    }
    return fail_reduction(PyExc_TypeError, value);
}

static bool
check_weights_type(cl_call *call)
{
    if (call->given[SAMPLE_WEIGHT] == NULL) {
        return true;
    }
    call->weights = as_array(call->given[SAMPLE_WEIGHT], NPY_NOTYPE);
    if (call->weights == NULL) {
        return false;
    }
    if (!PyArray_ISFLOAT(call->weights) && !PyArray_ISINTEGER(call->weights) &&
        !PyArray_ISBOOL(call->weights)) {
        PyErr_Format(PyExc_TypeError,
                     "sample_weight has dtype %S, expected a real number dtype",
                     PyArray_DESCR(call->weights));
        return false;
    }
    return true;
}

/* Reads the value too; one of more than 64 bits is left for
 * check_ignore_index() to refuse. */
static bool
check_ignore_index_type(cl_call *call, int *overflow)
{
    PyObject *value = call->given[IGNORE_INDEX];
    if (value == NULL) {
        return true;
    }
    PyObject *index = PyNumber_Index(value);
    if (index == NULL) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Format(PyExc_TypeError,
                         "ignore_index is %R, expected an integer or None", value);
        }
        return false;
    }
    call->batch.ignores = true;
    call->batch.ignore_index = PyLong_AsLongLongAndOverflow(index, overflow);
    Py_DECREF(index);
    return true;
}

/* The dtype that `out` must have, borrowed. */
static PyArray_Descr *
out_dtype(const cl_call *call)
{
    const bool gradient = call->signature->out == OUT_GRADIENT;
    return PyArray_DESCR(gradient ? call->features : call->centers);
}

static bool
check_out_type(cl_call *call)
{
    if (call->given[OUT] == NULL) {
        return true;
    }
    call->out = require_array(call->given[OUT], "out", "a NumPy array");
    if (call->out == NULL) {
        return false;
    }
    PyArray_Descr *expected = out_dtype(call);
    if (PyArray_TYPE(call->out) == expected->type_num && is_native(call->out)) {
        return true;
    }
    expected = PyArray_DescrNewByteorder(expected, NPY_NATIVE);
    if (expected != NULL) {
        PyErr_Format(PyExc_TypeError, "out has dtype %S, expected %S",
                     PyArray_DESCR(call->out), expected);
        Py_DECREF(expected);
    }
    return false;
}

/* ----------------------------------------------------------- ValueErrors */

static bool
check_reduction(cl_call *call)
{
    PyObject *value = call->given[REDUCTION];
    call->objective.reduction = CL_MEAN;
    if (value == NULL || PyUnicode_CompareWithASCIIString(value, "mean") == 0) {
        return true;
    }
    if (PyUnicode_CompareWithASCIIString(value, "sum") == 0) {
        call->objective.reduction = CL_SUM;
        return true;
    }
    if (PyUnicode_CompareWithASCIIString(value, "none") == 0) {
        call->objective.reduction = CL_NONE;
        return true;
    }
    return fail_reduction(PyExc_ValueError, value);
}

static bool
check_factor(const cl_call *call, int argument, double number)
{
    if (isfinite(number) && number >= 0) {
        return true;
    }
    PyErr_Format(PyExc_ValueError, "%s is %R, expected a finite number >= 0",
                 argument_names[argument], call->given[argument]);
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
    if (array == NULL || (PyArray_NDIM(array) == 1 &&
                          PyArray_DIM(array, 0) == call->batch.B)) {
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
        if (call->objective.reduction != CL_NONE) {
            PyObject *given = call->given[REDUCTION];
            PyObject *mean = given == NULL ? PyUnicode_FromString("mean") : Py_NewRef(given);
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
        PyErr_Format(PyExc_ValueError, "out has shape %S, expected %S", given, expected);
    }
    Py_XDECREF(given);
    Py_XDECREF(expected);
    return false;
}

/* Do the values of each row, all axes but the first, lie side by side? */
static bool
rows_contiguous(PyArrayObject *array)
{
    npy_intp expected = PyArray_ITEMSIZE(array);
    for (int axis = PyArray_NDIM(array) - 1; axis >= 1; axis--) {
        const npy_intp size = PyArray_DIM(array, axis);
        if (size > 1 && PyArray_STRIDE(array, axis) != expected) {
            return false;
        }
        expected *= size;
    }
    return true;
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
    else if (PyArray_SIZE(array) > 0 && !rows_contiguous(array)) {
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
        const npy_intp reach = (PyArray_DIM(array, axis) - 1) * PyArray_STRIDE(array, axis);
        if (reach < 0) {
            *low -= (uintptr_t)-reach;
        }
        else {
            *high += (uintptr_t)reach;
        }
    }
    *high += (uintptr_t)PyArray_ITEMSIZE(array);
}

/* 1 if the two share a byte, 0 if not, -1 with an exception. NumPy decides,
 * where the spans do not already. */
static int
shares_memory(PyArrayObject *a, PyArrayObject *b)
{
    uintptr_t a_low, a_high, b_low, b_high;
    if (PyArray_SIZE(a) == 0 || PyArray_SIZE(b) == 0) {
        return 0;
    }
    extent(a, &a_low, &a_high);
    extent(b, &b_low, &b_high);
    if (a_high <= b_low || b_high <= a_low) {
        return 0;
    }
    PyObject *numpy = PyImport_ImportModule("numpy");
    if (numpy == NULL) {
        return -1;
    }
    PyObject *answer = PyObject_CallMethod(numpy, "shares_memory", "OO", a, b);
    Py_DECREF(numpy);
    const int shared = answer != NULL ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    return shared;
}

static bool
check_apart(PyArrayObject *written, const char *written_name, PyArrayObject *other,
            const char *other_name)
{
    if (written == NULL || other == NULL) {
        return true;
    }
    const int shared = shares_memory(written, other);
    if (shared == 1) {
        PyErr_Format(PyExc_ValueError, "%s overlaps %s in memory", written_name,
                     other_name);
    }
    return shared == 0;
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

/* Replace an array by `converted`, a new reference or NULL. */
static bool
replace(PyArrayObject **array, PyObject *converted)
{
    Py_DECREF(*array);
    *array = (PyArrayObject *)converted;
    return converted != NULL;
}

static bool
check_weights(cl_call *call)
{
    if (call->weights == NULL) {
        return true;
    }
    PyArray_Descr *dtype = PyArray_DescrFromType(NPY_FLOAT64);
    if (!replace(&call->weights, PyArray_FromArray(call->weights, dtype,
                                                   NPY_ARRAY_CARRAY_RO |
                                                           NPY_ARRAY_FORCECAST))) {
        return false;
    }
    const double *weights = PyArray_DATA(call->weights);
    for (int64_t i = 0; i < call->batch.B; i++) {
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
    call->batch.weights = weights;
    return true;
}

/* ------------------------------------------------------------- the batch */

/* Copy what the kernels cannot read where it lies. */
static bool
make_readable(cl_call *call)
{
    if (!PyArray_ISALIGNED(call->features) || !is_native(call->features) ||
        !rows_contiguous(call->features)) {
        if (!replace(&call->features,
                     PyArray_FromArray(call->features, NULL,
                                       NPY_ARRAY_CARRAY_RO | NPY_ARRAY_NOTSWAPPED))) {
            return false;
        }
    }
    return is_native(call->labels) ||
           replace(&call->labels,
                   PyArray_FromArray(call->labels, NULL, NPY_ARRAY_NOTSWAPPED));
}

static void
describe_batch(cl_call *call)
{
    cl_batch *b = &call->batch;
    b->features = PyArray_BYTES(call->features);
    b->feature_stride = PyArray_STRIDE(call->features, 0);
    b->centers = PyArray_BYTES(call->centers);
    b->center_stride = PyArray_STRIDE(call->centers, 0);
    b->labels = PyArray_BYTES(call->labels);
    b->label_stride = PyArray_STRIDE(call->labels, 0);
    b->label_size = (int)PyArray_ITEMSIZE(call->labels);
    b->label_signed = PyArray_ISSIGNED(call->labels);
}

static bool
check_types(cl_call *call, int *ignore_overflow)
{
    return check_centers_type(call) && check_features_type(call) &&
           check_labels_type(call) && check_number(call, ALPHA, &call->rate.alpha) &&
           check_normalize(call) && check_reduction_type(call) &&
           check_number(call, LOSS_WEIGHT, &call->objective.loss_weight) &&
           check_weights_type(call) && check_ignore_index_type(call, ignore_overflow) &&
           check_out_type(call);
}

static bool
check_options(cl_call *call, int ignore_overflow)
{
    if (!check_reduction(call) || !check_factor(call, ALPHA, call->rate.alpha) ||
        !check_factor(call, LOSS_WEIGHT, call->objective.loss_weight)) {
        return false;
    }
    if (ignore_overflow != 0) {
        PyErr_Format(PyExc_ValueError, "ignore_index is %R, expected an integer of 64 bits",
                     call->given[IGNORE_INDEX]);
        return false;
    }
    return true;
}

static bool
check_memory(const cl_call *call)
{
    return check_in_place(call->centers, "centers", call->signature->moves) &&
           (call->out == NULL || check_in_place(call->out, "out", true)) &&
           check_arrays_apart(call);
}

bool
cl_call_read(cl_call *call, const cl_signature *signature,
             PyObject *const names[ARGUMENTS], PyObject *const *args,
             Py_ssize_t n_args, PyObject *keywords)
{
    *call = (cl_call){
            .signature = signature,
            .objective = {.reduction = CL_MEAN, .loss_weight = 1.0},
            .rate = {.alpha = 0.5, .normalize = true},
    };
    int ignore_overflow = 0;
    if (!take_arguments(call, names, args, n_args, keywords) ||
        !check_types(call, &ignore_overflow) || !check_options(call, ignore_overflow) ||
        !check_shapes(call) || !check_per_row(call, call->labels, "labels", "label") ||
        !check_per_row(call, call->weights, "sample_weight", "weight") ||
        !check_out_shape(call) || !check_memory(call) || !check_weights(call) ||
        !make_readable(call)) {
        return false;
    }
    describe_batch(call);
    return true;
}

void
cl_call_clear(cl_call *call)
{
    Py_XDECREF((PyObject *)call->features);
    Py_XDECREF((PyObject *)call->labels);
    Py_XDECREF((PyObject *)call->centers);
    Py_XDECREF((PyObject *)call->weights);
    Py_XDECREF((PyObject *)call->out);
}

PyArrayObject *
cl_new_losses(const cl_call *call)
{
    npy_intp rows = (npy_intp)call->batch.B;
    return (PyArrayObject *)PyArray_SimpleNew(1, &rows, PyArray_TYPE(call->centers));
}

PyArrayObject *
cl_new_gradient(const cl_call *call)
{
    PyArray_Descr *dtype = PyArray_DESCR(call->features);
    Py_INCREF((PyObject *)dtype);
    return (PyArrayObject *)PyArray_Empty(PyArray_NDIM(call->features),
                                          PyArray_DIMS(call->features), dtype, 0);
}

PyArrayObject *
cl_new_class_rows(const cl_call *call, int64_t rows)
{
    npy_intp shape[2] = {(npy_intp)rows, (npy_intp)call->batch.D};
    return (PyArrayObject *)PyArray_SimpleNew(2, shape, PyArray_TYPE(call->centers));
}
