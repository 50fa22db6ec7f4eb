/*
 * What each argument is: a TypeError if it is anything else. Arguments that may
 * be any sequence become arrays here.
 */
#include "checks.h"

#include <math.h>

/* type(object).__name__, a new reference. */
static PyObject *
type_name(PyObject *object)
{
    return PyType_GetName(Py_TYPE(object));
}

/* An array, with a new reference; of a subclass, whose methods may do anything, a
 * plain view. */
static PyArrayObject *
plain_array(PyObject *array)
{
    return (PyArrayObject *)PyArray_EnsureArray(Py_NewRef(array));
}

/* The plain array, if it is one; else an error that says what was expected. */
static PyArrayObject *
require_array(PyObject *object, const char *name, const char *expected)
{
    if (PyArray_Check(object)) {
        return plain_array(object);
    }
    PyObject *type = type_name(object);
    if (type != NULL) {
        PyErr_Format(PyExc_TypeError, "%s is a %U, expected %s", name, type, expected);
        Py_DECREF(type);
    }
    return NULL;
}

static bool
check_centers_dtype(const cl_call *call)
{
    PyArray_Descr *dtype = PyArray_DESCR(call->centers);
    const int type = PyArray_TYPE(call->centers);
    if (type != NPY_FLOAT32 && type != NPY_FLOAT64) {
        PyErr_Format(PyExc_TypeError,
                     "centers has dtype %S, expected float32 or float64: make it with "
                     "centers.astype(np.float32)",
                     dtype);
        return false;
    }
    if (!cl_is_native(call->centers)) {
        PyErr_Format(PyExc_TypeError,
                     "centers has dtype %S, expected native byte order: make it with "
                     "centers.astype(np.%s)",
                     dtype, type == NPY_FLOAT32 ? "float32" : "float64");
        return false;
    }
    return true;
}

static bool
check_centers_type(cl_call *call)
{
    call->centers = require_array(call->given[CENTERS], "centers",
                                  "a NumPy array of float32 or float64");
    return call->centers != NULL && check_centers_dtype(call);
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
    if (name == NULL) { /* GCOVR_EXCL_START: only a static type's may be missing */
        PyErr_Clear();
        return false;
    } /* GCOVR_EXCL_STOP */
    const bool same = PyUnicode_CompareWithASCIIString(name, "bfloat16") == 0;
    Py_DECREF(name);
    return same;
}

/* Would a cast to another dtype keep what the numbers mean? */
static bool
is_real(PyArrayObject *array)
{
    return PyArray_ISFLOAT(array) || PyArray_ISINTEGER(array) || PyArray_ISBOOL(array);
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
        const char *hint = single ? ": pass features.astype(np.float32)"
                                  : ": pass features.astype(np.float64)";
        PyErr_Format(PyExc_TypeError, "features has dtype %S, but centers has %s%s",
                     dtype, single ? "float32" : "float64",
                     is_real(call->features) ? hint : "");
        return false;
    }
    return true;
}

/* 1 if the object has a dtype, 0 if not, -1 with an exception. The name is interned:
 * any other string would stay behind in the interpreter's cache of attributes. */
static int
has_dtype(PyObject *object)
{
    PyObject *name = PyUnicode_InternFromString("dtype");
    if (name == NULL) {
        return -1;
    }
    PyObject *dtype = PyObject_GetAttr(object, name);
    Py_DECREF(name);
    if (dtype == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    Py_DECREF(dtype);
    return 1;
}

/* Put the argument's name before what NumPy says of a conversion that failed. */
static void
name_argument(int argument)
{
    const bool wrong_type = PyErr_ExceptionMatches(PyExc_TypeError);
    if (!wrong_type && !PyErr_ExceptionMatches(PyExc_ValueError)) {
        return;
    }
    PyObject *type, *reason, *traceback;
    PyErr_Fetch(&type, &reason, &traceback);
    PyErr_NormalizeException(&type, &reason, &traceback);
    PyErr_Format(wrong_type ? PyExc_TypeError : PyExc_ValueError,
                 "%s cannot be an array: %S", cl_argument_names[argument], reason);
    Py_XDECREF(type);
    Py_XDECREF(reason);
    Py_XDECREF(traceback);
}

/* An argument as an array of its own dtype or, where it has none, of `type`, as
 * numpy.asarray makes it. */
static PyArrayObject *
as_array(const cl_call *call, int argument, int type)
{
    PyObject *object = call->given[argument];
    if (PyArray_Check(object)) {
        return plain_array(object);
    }
    PyArray_Descr *dtype = NULL;
    if (type != NPY_NOTYPE) {
        const int has = has_dtype(object);
        if (has < 0) {
            return NULL;
        }
        dtype = has ? NULL : PyArray_DescrFromType(type);
    }
    const int flags = NPY_ARRAY_ENSUREARRAY | NPY_ARRAY_FORCECAST;
    PyObject *array = PyArray_FromAny(object, dtype, 0, 0, flags, NULL);
    if (array == NULL) {
        name_argument(argument);
    }
    return (PyArrayObject *)array;
}

static bool
check_features_type(cl_call *call)
{
    call->features = as_array(call, FEATURES, PyArray_TYPE(call->centers));
    return call->features != NULL && find_types(call);
}

static bool
check_labels_dtype(const cl_call *call)
{
    if (!PyArray_ISINTEGER(call->labels)) {
        PyErr_Format(PyExc_TypeError,
                     "labels has dtype %S, expected an integer dtype%s",
                     PyArray_DESCR(call->labels),
                     is_real(call->labels) ? ": pass labels.astype(np.int64)" : "");
        return false;
    }
    return true;
}

static bool
check_labels_type(cl_call *call)
{
    PyObject *labels = call->given[LABELS];
    call->labels = as_array(call, LABELS, NPY_NOTYPE);
    if (call->labels == NULL) {
        return false;
    }
    if (PyArray_Check(labels) || PyArray_SIZE(call->labels) > 0) {
        return check_labels_dtype(call);
    }
    const int has = has_dtype(labels);
    if (has != 0) {
        return has > 0 && check_labels_dtype(call);
    }
    /* An empty list would be float64. */
    PyArrayObject *empty = call->labels;
    call->labels = (PyArrayObject *)PyArray_Cast(empty, NPY_INT64);
    Py_DECREF(empty);
    return call->labels != NULL;
}

/* NumPy's complex numbers would convert, with a warning that they lose half. */
static bool
is_complex(PyObject *value)
{
    return PyComplex_Check(value) || PyArray_IsScalar(value, ComplexFloating) ||
           (PyArray_Check(value) && PyArray_ISCOMPLEX((PyArrayObject *)value));
}

/* A number, its sign and size still unchecked; one too large for a double comes
 * out infinite. */
static bool
check_number(const cl_call *call, int argument, double *number)
{
    PyObject *value = call->given[argument];
    if (value == NULL) {
        return true;
    }
    if (!is_complex(value)) {
        *number = PyFloat_AsDouble(value);
        if (*number != -1.0 || !PyErr_Occurred()) {
            return true;
        }
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_Clear();
            *number = INFINITY;
            return true;
        }
        if (!PyErr_ExceptionMatches(PyExc_TypeError)) {
            return false;
        }
    }
    PyErr_Format(PyExc_TypeError, "%s is %R, expected a number",
                 cl_argument_names[argument], value);
    return false;
}

static bool
check_normalize(cl_call *call)
{
    PyObject *value = call->given[NORMALIZE];
    if (value == NULL || PyBool_Check(value) || PyArray_IsScalar(value, Bool)) {
        call->update_options.normalize = value == NULL || PyObject_IsTrue(value);
        return true;
    }
    PyErr_Format(PyExc_TypeError, "normalize is %R, expected True or False", value);
    return false;
}

static bool
check_reduction_type(const cl_call *call)
{
    PyObject *value = call->given[REDUCTION];
    if (value == NULL || PyUnicode_Check(value)) {
        return true;
    }
    return cl_fail_reduction(PyExc_TypeError, value);
}

static bool
check_weights_dtype(const cl_call *call)
{
    if (!is_real(call->weights)) {
        PyErr_Format(PyExc_TypeError,
                     "sample_weight has dtype %S, expected a real number dtype",
                     PyArray_DESCR(call->weights));
        return false;
    }
    return true;
}

static bool
check_weights_type(cl_call *call)
{
    if (call->given[SAMPLE_WEIGHT] == NULL) {
        return true;
    }
    call->weights = as_array(call, SAMPLE_WEIGHT, NPY_NOTYPE);
    return call->weights != NULL && check_weights_dtype(call);
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
    call->batch.has_ignore_index = true;
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
check_out_dtype(const cl_call *call)
{
    PyArray_Descr *expected = out_dtype(call);
    if (PyArray_TYPE(call->out) == expected->type_num && cl_is_native(call->out)) {
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

static bool
check_out_type(cl_call *call)
{
    if (call->given[OUT] == NULL) {
        return true;
    }
    call->out = require_array(call->given[OUT], "out", "a NumPy array");
    return call->out != NULL && check_out_dtype(call);
}

/* Take an array anew that was one from the start. */
static bool
retake(PyArrayObject **array, PyObject *given)
{
    return *array == NULL || !PyArray_Check(given) ||
           cl_replace(array, (PyObject *)plain_array(given));
}

bool
cl_check_still(cl_call *call)
{
    const bool weights_read = call->batch.weights != NULL;
    return retake(&call->centers, call->given[CENTERS]) &&
           retake(&call->features, call->given[FEATURES]) &&
           retake(&call->labels, call->given[LABELS]) &&
           (weights_read || retake(&call->weights, call->given[SAMPLE_WEIGHT])) &&
           retake(&call->out, call->given[OUT]) && check_centers_dtype(call) &&
           find_types(call) && check_labels_dtype(call) &&
           (call->weights == NULL || check_weights_dtype(call)) &&
           (call->out == NULL || check_out_dtype(call));
}

bool
cl_check_types(cl_call *call, int *ignore_overflow)
{
    return check_centers_type(call) && check_features_type(call) &&
           check_labels_type(call) &&
           check_number(call, ALPHA, &call->update_options.alpha) &&
           check_normalize(call) && check_reduction_type(call) &&
           check_number(call, LOSS_WEIGHT, &call->loss_options.loss_weight) &&
           check_weights_type(call) && check_ignore_index_type(call, ignore_overflow) &&
           cl_check_still(call) && check_out_type(call);
}
