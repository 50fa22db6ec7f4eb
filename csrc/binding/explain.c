#include "explain.h"

#include <math.h>

#include "array_util.h"
#include "check_shapes.h"

const char *
py_cast_method(const py_call *call)
{
    return call->tensors ? ".to(torch." : ".astype(np.";
}

/* Is it a tensor of PyTorch? Does not import PyTorch. */
static bool
is_tensor(PyObject *object)
{
    int answer = -1;
    PyObject *name = PyUnicode_FromString("torch");
    PyObject *torch = name != NULL ? PyImport_GetModule(name) : NULL;
    PyObject *type = torch != NULL ? PyObject_GetAttrString(torch, "Tensor") : NULL;
    if (type != NULL) {
        answer = PyObject_IsInstance(object, type);
    }
    Py_XDECREF(name);
    Py_XDECREF(torch);
    Py_XDECREF(type);
    PyErr_Clear();
    return answer > 0;
}

#define TAKES_TENSORS "centerloss.torch.CenterLoss takes tensors"

void
py_raise_no_array(const py_call *call, int argument, const char *expected)
{
    PyObject *object = call->given[argument];
    if (is_tensor(object)) {
        PyErr_Format(PyExc_TypeError, "%s is a tensor, expected %s: " TAKES_TENSORS,
                     call->names[argument], expected);
        return;
    }
    PyObject *type = PyType_GetName(Py_TYPE(object));
    if (type != NULL) {
        PyErr_Format(PyExc_TypeError, "%s is a %U, expected %s", call->names[argument],
                     type, expected);
        Py_DECREF(type);
    }
}

void
py_name_argument(const py_call *call, int argument)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception) ||
        PyErr_ExceptionMatches(PyExc_MemoryError) ||
        PyErr_ExceptionMatches(PyExc_RecursionError)) {
        return;
    }
    const bool wrong_value = PyErr_ExceptionMatches(PyExc_ValueError) ||
                             PyErr_ExceptionMatches(PyExc_OverflowError);
    PyObject *reason = py_take_exception();
    if (is_tensor(call->given[argument])) {
        PyErr_Format(PyExc_TypeError,
                     "%s is a tensor that NumPy cannot read: " TAKES_TENSORS,
                     call->names[argument]);
    }
    else {
        PyErr_Format(wrong_value ? PyExc_ValueError : PyExc_TypeError,
                     "%s cannot be an array: %S", call->names[argument], reason);
    }
    py_set_cause(reason);
}

static bool
is_float(PyArrayObject *array)
{
    return PyArray_ISFLOAT(array) || py_is_bfloat16(PyArray_DESCR(array));
}

static bool
is_integer_or_bool(PyArrayObject *array)
{
    return PyArray_ISINTEGER(array) || PyArray_ISBOOL(array);
}

/* Would the labels be valid features, and the features not? */
static bool
look_swapped(const py_call *call, PyArrayObject *labels)
{
    PyArrayObject *features = call->features;
    const int axes = PyArray_NDIM(features);
    if (!is_float(labels) || axes == 0 || PyArray_NDIM(labels) <= axes ||
        PyArray_NDIM(call->centers) != 2 ||
        !PyArray_CompareLists(PyArray_DIMS(labels), PyArray_DIMS(features), axes)) {
        return false;
    }
    const int64_t D = PyArray_DIM(call->centers, 1);
    return py_row_length(labels, axes) == D && (is_integer_or_bool(features) || D != 1);
}

static void
raise_swapped(const py_call *call, PyArrayObject *labels)
{
    PyObject *shape = py_shape(call->features);
    PyObject *labels_shape = py_shape(labels);
    if (shape != NULL && labels_shape != NULL) {
        PyErr_Format(PyExc_TypeError,
                     "%s has dtype %S and shape %S, %s has dtype %S and shape %S: they "
                     "look swapped",
                     call->names[FEATURES], PyArray_DESCR(call->features), shape,
                     call->names[LABELS], PyArray_DESCR(labels), labels_shape);
    }
    Py_XDECREF(shape);
    Py_XDECREF(labels_shape);
}

void
py_raise_features_dtype(const py_call *call)
{
    PyObject *labels = call->given[LABELS];
    if (PyArray_Check(labels) && look_swapped(call, (PyArrayObject *)labels)) {
        raise_swapped(call, (PyArrayObject *)labels);
        return;
    }
    const char *features = call->names[FEATURES], *centers = call->names[CENTERS];
    const char *expected =
        PyArray_TYPE(call->centers) == NPY_FLOAT32 ? "float32" : "float64";
    PyArray_Descr *dtype = PyArray_DESCR(call->features);
    if (py_is_real(call->features)) {
        PyErr_Format(PyExc_TypeError, "%s has dtype %S, but %s has %s: pass %s%s%s)",
                     features, dtype, centers, expected, features, py_cast_method(call),
                     expected);
    }
    else {
        PyErr_Format(PyExc_TypeError, "%s has dtype %S, but %s has %s", features, dtype,
                     centers, expected);
    }
}

/* The most labels that are read to find out whether they are whole numbers: a message
 * should take neither long nor much memory. */
enum {
    MAX_LABELS_READ = 1 << 24
};

/* Are the labels numbers of classes that a cast to int64 keeps? Where the last axis has
 * an entry for each class, they may be one-hot. */
static bool
can_be_cast(const py_call *call)
{
    PyArrayObject *labels = call->labels, *centers = call->centers;
    const int axes = PyArray_NDIM(labels);
    if (!is_float(labels) || PyArray_SIZE(labels) > MAX_LABELS_READ ||
        (axes > 1 && PyArray_NDIM(centers) > 0 &&
         PyArray_DIM(labels, axes - 1) == PyArray_DIM(centers, 0))) {
        return false;
    }
    PyArrayObject *numbers =
        (PyArrayObject *)PyArray_FromArray(labels, PyArray_DescrFromType(NPY_FLOAT64),
                                           NPY_ARRAY_CARRAY_RO | NPY_ARRAY_FORCECAST);
    if (numbers == NULL) {
        PyErr_Clear();
        return false;
    }
    const double *number = PyArray_DATA(numbers);
    const npy_intp n = PyArray_SIZE(numbers);
    bool whole = true;
    for (npy_intp i = 0; i < n && whole; i++) {
        whole = fabs(number[i]) < 0x1p63 && floor(number[i]) == number[i];
    }
    Py_DECREF((PyObject *)numbers);
    return whole;
}

static bool
are_names(PyArrayObject *labels)
{
    return PyArray_ISSTRING(labels) || PyArray_ISOBJECT(labels) ||
           PyArray_TYPE(labels) == NPY_VSTRING;
}

static void
raise_one_hot(const py_call *call)
{
    const char *name = call->names[LABELS];
    const py_argmax argmax = py_argmax_call(call);
    PyObject *shape = py_shape(call->labels);
    PyObject *expected = py_shape_of_rows(call->labels, PyArray_NDIM(call->labels) - 1);
    if (shape != NULL && expected != NULL) {
        PyErr_Format(PyExc_TypeError,
                     "%s has shape %S and dtype %S, expected integers of shape %S: "
                     "pass %s%s",
                     name, shape, PyArray_DESCR(call->labels), expected, name,
                     argmax.text);
    }
    Py_XDECREF(shape);
    Py_XDECREF(expected);
}

void
py_raise_labels_dtype(const py_call *call)
{
    const char *name = call->names[LABELS];
    if (look_swapped(call, call->labels)) {
        raise_swapped(call, call->labels);
    }
    else if (is_float(call->labels) && py_labels_look_one_hot(call)) {
        raise_one_hot(call);
    }
    else if (are_names(call->labels)) {
        PyErr_Format(PyExc_TypeError,
                     "%s has dtype %S, expected an integer dtype: number all labels y "
                     "of the data with np.unique(y, return_inverse=True)[1]",
                     name, PyArray_DESCR(call->labels));
    }
    else if (can_be_cast(call)) {
        PyErr_Format(PyExc_TypeError,
                     "%s has dtype %S, expected an integer dtype: pass %s%sint64)",
                     name, PyArray_DESCR(call->labels), name, py_cast_method(call));
    }
    else {
        PyErr_Format(PyExc_TypeError, "%s has dtype %S, expected an integer dtype",
                     name, PyArray_DESCR(call->labels));
    }
}
