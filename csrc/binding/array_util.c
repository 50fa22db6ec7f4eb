#include "array_util.h"

#include <assert.h>

bool
py_is_native(PyArrayObject *array)
{
    return PyArray_ISNOTSWAPPED(array);
}

bool
py_rows_contiguous(PyArrayObject *array)
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

bool
py_rows_overlap(PyArrayObject *array)
{
    assert(py_rows_contiguous(array));
    const npy_intp rows = PyArray_DIM(array, 0);
    if (rows <= 1) {
        return false;
    }
    const uintptr_t row_bytes = (uintptr_t)(PyArray_NBYTES(array) / rows);
    const npy_intp stride = PyArray_STRIDE(array, 0);
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
py_new_like(PyArrayObject *array)
{
    PyArray_Descr *dtype = PyArray_DESCR(array);
    Py_INCREF((PyObject *)dtype);
    return (PyArrayObject *)PyArray_Empty(PyArray_NDIM(array), PyArray_DIMS(array),
                                          dtype, 0);
}
