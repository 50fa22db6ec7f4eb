#include "overlap.h"

#include <assert.h>
#include <stddef.h>

/* The addresses of a non-empty array: low <= address < high. False if it spans more
 * than PTRDIFF_MAX bytes or leaves the address space, which is possible for views made
 * with as_strided. NumPy's search overflows for such views. */
static bool
find_span(PyArrayObject *array, uintptr_t *low, uintptr_t *high)
{
    assert(PyArray_SIZE(array) > 0);
    const uintptr_t start = (uintptr_t)PyArray_DATA(array);
    uintptr_t free_bytes = (uintptr_t)PTRDIFF_MAX - (uintptr_t)PyArray_ITEMSIZE(array);
    uintptr_t below = 0;
    uintptr_t above = (uintptr_t)PyArray_ITEMSIZE(array);
    for (int axis = 0; axis < PyArray_NDIM(array); axis++) {
        const uintptr_t steps = (uintptr_t)PyArray_DIM(array, axis) - 1;
        const npy_intp stride = PyArray_STRIDE(array, axis);
        const uintptr_t step = stride < 0 ? 0 - (uintptr_t)stride : (uintptr_t)stride;
        if (step != 0 && steps > free_bytes / step) {
            return false;
        }
        free_bytes -= steps * step;
        *(stride < 0 ? &below : &above) += steps * step;
    }
    *low = start - below;
    *high = start + above;
    return below <= start && above <= UINTPTR_MAX - start;
}

/* NumPy reports that it has no memory with a RuntimeError. */
static void
raise_memory_error_from_current(void)
{
    PyObject *type, *cause, *traceback;
    PyErr_Fetch(&type, &cause, &traceback);
    PyErr_NormalizeException(&type, &cause, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(cause, traceback);
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    PyObject *error;
    PyErr_NoMemory();
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    PyException_SetCause(error, Py_NewRef(cause));
    PyException_SetContext(error, cause);
    PyErr_Restore(type, error, traceback);
}

/* How many steps numpy.shares_memory may take: some ten milliseconds. It mostly takes a
 * few steps, but may need hours if the strides of many axes do not nest. */
enum {
    MAX_OVERLAP_STEPS = 100000
};

static py_overlap
numpy_shares_memory(PyArrayObject *a, PyArrayObject *b)
{
    py_overlap answer = OVERLAP_ERROR;
    PyObject *too_hard = NULL, *shared = NULL;
    PyObject *numpy = PyImport_ImportModule("numpy");
    PyObject *exceptions =
        numpy != NULL ? PyObject_GetAttrString(numpy, "exceptions") : NULL;
    if (exceptions != NULL) {
        too_hard = PyObject_GetAttrString(exceptions, "TooHardError");
    }
    if (too_hard != NULL) {
        shared =
            PyObject_CallMethod(numpy, "shares_memory", "OOi", a, b, MAX_OVERLAP_STEPS);
    }
    if (shared != NULL) {
        answer = PyObject_IsTrue(shared) ? OVERLAP_FOUND : OVERLAP_NONE;
    }
    else if (too_hard != NULL && PyErr_ExceptionMatches(too_hard)) {
        PyErr_Clear();
        answer = OVERLAP_UNKNOWN;
    }
    else if (PyErr_Occurred() == PyExc_RuntimeError) {
        raise_memory_error_from_current();
    }
    Py_XDECREF(numpy);
    Py_XDECREF(exceptions);
    Py_XDECREF(too_hard);
    Py_XDECREF(shared);
    return answer;
}

py_overlap
py_find_overlap(PyArrayObject *a, PyArrayObject *b)
{
    uintptr_t a_low, a_high, b_low, b_high;
    if (PyArray_SIZE(a) == 0 || PyArray_SIZE(b) == 0) {
        return OVERLAP_NONE;
    }
    if (!find_span(a, &a_low, &a_high) || !find_span(b, &b_low, &b_high)) {
        return OVERLAP_UNKNOWN;
    }
    return a_high <= b_low || b_high <= a_low ? OVERLAP_NONE
                                              : numpy_shares_memory(a, b);
}
