#include "array_util.h"

#include <assert.h>

bool
py_is_native(PyArrayObject *array)
{
    return PyArray_ISNOTSWAPPED(array);
}

bool
py_is_bfloat16(PyArray_Descr *dtype)
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

bool
py_is_real(PyArrayObject *array)
{
    return PyArray_ISFLOAT(array) || PyArray_ISINTEGER(array) || PyArray_ISBOOL(array);
}

int64_t
py_count_rows(PyArrayObject *array, int axes)
{
    return PyArray_MultiplyList(PyArray_DIMS(array), axes);
}

int64_t
py_row_length(PyArrayObject *array, int axes)
{
    return PyArray_MultiplyList(PyArray_DIMS(array) + axes, PyArray_NDIM(array) - axes);
}

bool
py_rows_contiguous(PyArrayObject *array, int axes)
{
    npy_intp expected = PyArray_ITEMSIZE(array);
    for (int axis = PyArray_NDIM(array) - 1; axis >= axes; axis--) {
        const npy_intp size = PyArray_DIM(array, axis);
        if (size > 1 && PyArray_STRIDE(array, axis) != expected) {
            return false;
        }
        expected *= size;
    }
    return true;
}

bool
py_find_row_stride(PyArrayObject *array, int axes, npy_intp *stride)
{
    *stride = PyArray_STRIDE(array, axes - 1);
    uintptr_t expected = 0; /* it wraps around, as addresses do */
    bool found = false;
    for (int axis = axes - 1; axis >= 0; axis--) {
        const npy_intp size = PyArray_DIM(array, axis);
        if (size == 1) {
            continue;
        }
        const npy_intp step = PyArray_STRIDE(array, axis);
        if (!found) {
            *stride = step;
        }
        else if ((uintptr_t)step != expected) {
            return PyArray_SIZE(array) == 0;
        }
        found = true;
        expected = (uintptr_t)step * (uintptr_t)size;
    }
    return true;
}

bool
py_rows_overlap(PyArrayObject *array, int axes, npy_intp stride)
{
    assert(py_rows_contiguous(array, axes));
    assert(py_count_rows(array, axes) > 1); /* a single row is C-contiguous */
    const uintptr_t row_bytes =
        (uintptr_t)(py_row_length(array, axes) * PyArray_ITEMSIZE(array));
    const uintptr_t distance = stride < 0 ? 0 - (uintptr_t)stride : (uintptr_t)stride;
    return distance < row_bytes;
}

bool
py_same_shape(PyArrayObject *a, PyArrayObject *b)
{
    return PyArray_NDIM(a) == PyArray_NDIM(b) &&
           PyArray_CompareLists(PyArray_DIMS(a), PyArray_DIMS(b), PyArray_NDIM(a));
}

PyObject *
py_shape(PyArrayObject *array)
{
    return PyObject_GetAttrString((PyObject *)array, "shape");
}

PyObject *
py_index_text(PyArrayObject *array, int64_t element)
{
    PyObject *text = NULL;
    for (int axis = PyArray_NDIM(array) - 1; axis >= 0; axis--) {
        const long long size = PyArray_DIM(array, axis), index = element % size;
        PyObject *longer = text == NULL ? PyUnicode_FromFormat("%lld", index)
                                        : PyUnicode_FromFormat("%lld, %U", index, text);
        Py_XDECREF(text);
        if (longer == NULL) {
            return NULL;
        }
        text = longer;
        element /= size;
    }
    return text;
}

PyArrayObject *
py_plain_view(PyObject *array)
{
    assert(PyArray_Check(array));
    return (PyArrayObject *)PyArray_EnsureArray(Py_NewRef(array));
}

bool
py_replace(PyArrayObject **array, PyObject *converted)
{
    Py_DECREF(*array);
    *array = (PyArrayObject *)converted;
    return converted != NULL;
}

bool
py_make_native(PyArrayObject **array, int flags)
{
    PyArray_Descr *dtype = PyArray_DescrNewByteorder(PyArray_DESCR(*array), NPY_NATIVE);
    return dtype != NULL && py_replace(array, PyArray_FromArray(*array, dtype, flags));
}

PyObject *
py_take_exception(void)
{
    PyObject *type, *exception, *traceback;
    PyErr_Fetch(&type, &exception, &traceback);
    PyErr_NormalizeException(&type, &exception, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(exception, traceback);
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return exception;
}

void
py_set_cause(PyObject *cause)
{
    PyObject *type, *exception, *traceback;
    PyErr_Fetch(&type, &exception, &traceback);
    PyErr_NormalizeException(&type, &exception, &traceback);
    PyException_SetCause(exception, Py_NewRef(cause));
    PyException_SetContext(exception, cause);
    PyErr_Restore(type, exception, traceback);
}

PyArrayObject *
py_new_vector(int64_t length, int type)
{
    npy_intp shape = (npy_intp)length;
    return (PyArrayObject *)PyArray_SimpleNew(1, &shape, type);
}

PyArrayObject *
py_new_matrix(int64_t rows, int64_t columns, int type)
{
    npy_intp shape[2] = {(npy_intp)rows, (npy_intp)columns};
    return (PyArrayObject *)PyArray_SimpleNew(2, shape, type);
}

PyArrayObject *
py_new_of_shape(PyArrayObject *array, int type)
{
    return (PyArrayObject *)PyArray_SimpleNew(PyArray_NDIM(array), PyArray_DIMS(array),
                                              type);
}

PyArrayObject *
py_new_like(PyArrayObject *array)
{
    PyArray_Descr *dtype = PyArray_DESCR(array);
    Py_INCREF((PyObject *)dtype);
    return (PyArrayObject *)PyArray_Empty(PyArray_NDIM(array), PyArray_DIMS(array),
                                          dtype, 0);
}
