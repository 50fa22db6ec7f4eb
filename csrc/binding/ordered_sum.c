#include "ordered_sum.h"

#include "array_util.h"
#include "centerloss.h"

const char py_ordered_sum_doc[] =
    "The sum of float64 in the order in which a batch's losses are added up.";

const char py_ordered_sum_of_runs_doc[] =
    "`ordered_sum` of n values, given that of each 1024 of them.";

/* Is it a contiguous array of float64 with one axis? */
static bool
check_numbers(PyObject *object, const char *name)
{
    if (!PyArray_Check(object)) {
        PyObject *type = PyType_GetName(Py_TYPE(object));
        if (type != NULL) {
            PyErr_Format(PyExc_TypeError,
                         "%s is a %U, expected a NumPy array of float64", name, type);
            Py_DECREF(type);
        }
        return false;
    }
    PyArrayObject *array = (PyArrayObject *)object;
    if (PyArray_TYPE(array) != NPY_FLOAT64 || !py_is_native(array)) {
        PyErr_Format(PyExc_TypeError, "%s has dtype %S, expected float64", name,
                     PyArray_DESCR(array));
        return false;
    }
    if (PyArray_NDIM(array) != 1) {
        PyObject *shape = py_shape(array);
        if (shape != NULL) {
            PyErr_Format(PyExc_ValueError, "%s has shape %S, expected one axis", name,
                         shape);
            Py_DECREF(shape);
        }
        return false;
    }
    if (!PyArray_ISCARRAY_RO(array)) {
        PyErr_Format(PyExc_ValueError, "%s is not contiguous and aligned", name);
        return false;
    }
    return true;
}

PyObject *
py_ordered_sum(PyObject *Py_UNUSED(module), PyObject *values)
{
    if (!check_numbers(values, "values")) {
        return NULL;
    }
    PyArrayObject *array = (PyArrayObject *)values;
    return PyFloat_FromDouble(cl_sum(PyArray_DATA(array), PyArray_DIM(array, 0)));
}

PyObject *
py_ordered_sum_of_runs(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *sums;
    Py_ssize_t n;
    if (!PyArg_ParseTuple(args, "On:ordered_sum_of_runs", &sums, &n) ||
        !check_numbers(sums, "sums")) {
        return NULL;
    }
    if (n < 0) {
        PyErr_Format(PyExc_ValueError, "n is %zd, expected an integer >= 0", n);
        return NULL;
    }
    PyArrayObject *array = (PyArrayObject *)sums;
    const Py_ssize_t runs = n / CL_SUM_RUN + (n % CL_SUM_RUN > 0);
    if (PyArray_DIM(array, 0) != runs) {
        PyErr_Format(PyExc_ValueError,
                     "sums has shape (%zd,), expected (%zd,): one sum per %d of %zd "
                     "values",
                     (Py_ssize_t)PyArray_DIM(array, 0), runs, CL_SUM_RUN, n);
        return NULL;
    }
    return PyFloat_FromDouble(cl_sum_of_runs(PyArray_DATA(array), n));
}
