#include "check_types.h"

#include <math.h>

#include "array_util.h"
#include "explain.h"

/* A plain view if the argument is an array; otherwise a TypeError. */
static PyArrayObject *
require_array(const py_call *call, int argument, const char *expected)
{
    PyObject *object = call->given[argument];
    if (PyArray_Check(object)) {
        return py_plain_view(object);
    }
    py_raise_no_array(call, argument, expected);
    return NULL;
}

static bool
check_centers_dtype(const py_call *call)
{
    PyArray_Descr *dtype = PyArray_DESCR(call->centers);
    const int type = PyArray_TYPE(call->centers);
    const char *name = call->names[CENTERS];
    if (type != NPY_FLOAT32 && type != NPY_FLOAT64) {
        PyErr_Format(PyExc_TypeError,
                     "%s has dtype %S, expected float32 or float64: make it with "
                     "%s%sfloat32)",
                     name, dtype, name, py_cast_method(call));
        return false;
    }
    if (!py_is_native(call->centers)) {
        PyErr_Format(PyExc_TypeError,
                     "%s has dtype %S, expected native byte order: make it with "
                     "%s%s%s)",
                     name, dtype, name, py_cast_method(call),
                     type == NPY_FLOAT32 ? "float32" : "float64");
        return false;
    }
    return true;
}

static bool
check_centers_type(py_call *call)
{
    call->centers = require_array(call, CENTERS, "a NumPy array of float32 or float64");
    return call->centers != NULL && check_centers_dtype(call);
}

static bool
find_types(py_call *call)
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
    else if (single && py_is_bfloat16(dtype)) {
        call->batch.types = CL_BFLOAT16_FLOAT32;
    }
    else {
        py_raise_features_dtype(call);
        return false;
    }
    return true;
}

/* 1 if the object has a dtype, 0 if not, -1 with an exception. The name is interned:
 * the interpreter's cache of attributes would keep another string alive. */
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

/* numpy.asarray of an argument. `type` is the dtype if the argument has none. */
static PyArrayObject *
as_array(py_call *call, int argument, int type)
{
    PyObject *object = call->given[argument];
    if (PyArray_Check(object)) {
        return py_plain_view(object);
    }
    call->code_ran = true;
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
        py_name_argument(call, argument);
    }
    return (PyArrayObject *)array;
}

static bool
check_features_type(py_call *call)
{
    call->features = as_array(call, FEATURES, PyArray_TYPE(call->centers));
    return call->features != NULL && find_types(call);
}

static bool
check_labels_dtype(const py_call *call)
{
    if (!PyArray_ISINTEGER(call->labels) && !PyArray_ISBOOL(call->labels)) {
        py_raise_labels_dtype(call);
        return false;
    }
    return true;
}

static bool
check_labels_type(py_call *call)
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
    /* NumPy makes an empty list float64. */
    PyArrayObject *empty = call->labels;
    call->labels = (PyArrayObject *)PyArray_Cast(empty, NPY_INT64);
    Py_DECREF(empty);
    return call->labels != NULL;
}

/* NumPy would convert a complex number, with a warning that it drops the imaginary
 * part. */
static bool
is_complex(PyObject *value)
{
    return PyComplex_Check(value) || PyArray_IsScalar(value, ComplexFloating) ||
           (PyArray_Check(value) && PyArray_ISCOMPLEX((PyArrayObject *)value));
}

/* Read a number. One too large for a double becomes infinite, which is a ValueError
 * later. */
static bool
read_number(py_call *call, int argument, double *number)
{
    PyObject *value = call->given[argument];
    if (value == NULL) {
        return true;
    }
    if (PyFloat_CheckExact(value)) {
        *number = PyFloat_AsDouble(value);
        return true;
    }
    call->code_ran = true;
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
    PyErr_Format(PyExc_TypeError, "%s is %R, expected a number", call->names[argument],
                 value);
    return false;
}

static bool
read_bool(const py_call *call, int argument, bool *flag)
{
    PyObject *value = call->given[argument];
    if (value == NULL) {
        return true;
    }
    if (!PyBool_Check(value) && !PyArray_IsScalar(value, Bool)) {
        PyErr_Format(PyExc_TypeError, "%s is %R, expected True or False",
                     call->names[argument], value);
        return false;
    }
    *flag = value == Py_True || (value != Py_False && PyObject_IsTrue(value));
    return true;
}

bool
py_fail_reduction(const py_call *call, PyObject *type)
{
    PyErr_Format(type, "%s is %R, expected %s'sum' or 'mean'", call->names[REDUCTION],
                 call->given[REDUCTION],
                 call->signature->returns_terms ? "" : "'none', ");
    return false;
}

static bool
check_reduction_type(const py_call *call)
{
    PyObject *value = call->given[REDUCTION];
    if (value == NULL || PyUnicode_Check(value)) {
        return true;
    }
    return py_fail_reduction(call, PyExc_TypeError);
}

static bool
check_weights_dtype(const py_call *call)
{
    if (!py_is_real(call->weights)) {
        PyErr_Format(PyExc_TypeError, "%s has dtype %S, expected a real number dtype",
                     call->names[SAMPLE_WEIGHT], PyArray_DESCR(call->weights));
        return false;
    }
    return true;
}

static bool
check_weights_type(py_call *call)
{
    if (call->given[SAMPLE_WEIGHT] == NULL) {
        return true;
    }
    call->weights = as_array(call, SAMPLE_WEIGHT, NPY_NOTYPE);
    return call->weights != NULL && check_weights_dtype(call);
}

/* A value of more than 64 bits is a ValueError later. */
static bool
read_ignore_index(py_call *call)
{
    PyObject *value = call->given[IGNORE_INDEX];
    if (value == NULL) {
        return true;
    }
    call->code_ran = call->code_ran || !PyLong_CheckExact(value);
    PyObject *index = PyNumber_Index(value);
    if (index == NULL) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Format(PyExc_TypeError, "%s is %R, expected an integer or None",
                         call->names[IGNORE_INDEX], value);
        }
        return false;
    }
    call->batch.has_ignore_index = true;
    call->batch.ignore_index =
        PyLong_AsLongLongAndOverflow(index, &call->ignore_index_overflow);
    Py_DECREF(index);
    return true;
}

/* The kind and size are compared: two types of C may have 64 bits. */
static bool
check_places_dtype(const py_call *call)
{
    PyArrayObject *places = call->places;
    if (PyArray_ISSIGNED(places) && PyArray_ITEMSIZE(places) == 8 &&
        py_is_native(places)) {
        return true;
    }
    PyErr_Format(PyExc_TypeError, "%s has dtype %S, expected int64",
                 call->names[PLACES], PyArray_DESCR(places));
    return false;
}

static bool
check_places_type(py_call *call)
{
    if (call->given[PLACES] == NULL) {
        return true;
    }
    call->places = require_array(call, PLACES, "a NumPy array of int64");
    return call->places != NULL && check_places_dtype(call);
}

/* The dtype that `out` must have, apart from its byte order; a borrowed reference. */
static PyArray_Descr *
out_dtype(const py_call *call)
{
    const bool gradient = call->signature->out == OUT_GRADIENT;
    return PyArray_DESCR(gradient ? call->features : call->centers);
}

static bool
check_out_dtype(const py_call *call)
{
    PyArray_Descr *expected = out_dtype(call);
    if (PyArray_TYPE(call->out) == expected->type_num && py_is_native(call->out)) {
        return true;
    }
    expected = PyArray_DescrNewByteorder(expected, NPY_NATIVE);
    if (expected != NULL) {
        PyErr_Format(PyExc_TypeError, "%s has dtype %S, expected %S", call->names[OUT],
                     PyArray_DESCR(call->out), expected);
        Py_DECREF(expected);
    }
    return false;
}

static bool
check_out_type(py_call *call)
{
    if (call->given[OUT] == NULL) {
        return true;
    }
    call->out = require_array(call, OUT, "a NumPy array");
    return call->out != NULL && check_out_dtype(call);
}

/* Fetch an argument again if it was given as an array. */
static bool
reload_array(PyArrayObject **array, PyObject *given)
{
    return *array == NULL || !PyArray_Check(given) ||
           py_replace(array, (PyObject *)py_plain_view(given));
}

bool
py_revalidate_arrays(py_call *call)
{
    const bool weights_read = call->batch.weights != NULL;
    return reload_array(&call->centers, call->given[CENTERS]) &&
           reload_array(&call->features, call->given[FEATURES]) &&
           reload_array(&call->labels, call->given[LABELS]) &&
           (weights_read || reload_array(&call->weights, call->given[SAMPLE_WEIGHT])) &&
           reload_array(&call->places, call->given[PLACES]) &&
           reload_array(&call->out, call->given[OUT]) && check_centers_dtype(call) &&
           find_types(call) && check_labels_dtype(call) &&
           (call->weights == NULL || check_weights_dtype(call)) &&
           (call->places == NULL || check_places_dtype(call)) &&
           (call->out == NULL || check_out_dtype(call));
}

bool
py_check_types(py_call *call)
{
    return check_centers_type(call) && check_features_type(call) &&
           check_labels_type(call) &&
           read_number(call, ALPHA, &call->update_options.alpha) &&
           read_bool(call, NORMALIZE, &call->update_options.normalize) &&
           read_bool(call, SKIP_NONFINITE, &call->update_options.skip_nonfinite) &&
           check_reduction_type(call) &&
           read_number(call, LOSS_WEIGHT, &call->loss_options.loss_weight) &&
           check_weights_type(call) && read_ignore_index(call) &&
           read_number(call, TOTAL_WEIGHT, &call->total_weight) &&
           (!call->code_ran || py_revalidate_arrays(call)) && check_places_type(call) &&
           check_out_type(call);
}
