#include "overlap.h"

#include "array_util.h"

/* The span of an array that is not C-contiguous. */
static py_span
strided_span(PyArrayObject *array)
{
    const uintptr_t start = (uintptr_t)PyArray_DATA(array);
    uintptr_t free_bytes = (uintptr_t)PTRDIFF_MAX - (uintptr_t)PyArray_ITEMSIZE(array);
    uintptr_t below = 0;
    uintptr_t above = (uintptr_t)PyArray_ITEMSIZE(array);
    for (int axis = 0; axis < PyArray_NDIM(array); axis++) {
        const uintptr_t steps = (uintptr_t)PyArray_DIM(array, axis) - 1;
        const npy_intp stride = PyArray_STRIDE(array, axis);
        const uintptr_t step = stride < 0 ? 0 - (uintptr_t)stride : (uintptr_t)stride;
        if (step != 0 && steps > free_bytes / step) {
            return (py_span){.unknown = true};
        }
        free_bytes -= steps * step;
        *(stride < 0 ? &below : &above) += steps * step;
    }
    return (py_span){
        .low = start - below,
        .high = start + above,
        .unknown = below > start || above > UINTPTR_MAX - start,
    };
}

py_span
py_find_span(PyArrayObject *array)
{
    const uintptr_t start = (uintptr_t)PyArray_DATA(array);
    const uintptr_t bytes = (uintptr_t)PyArray_NBYTES(array);
    if (bytes == 0 || PyArray_IS_C_CONTIGUOUS(array)) {
        return (py_span){start, start + bytes, bytes > UINTPTR_MAX - start};
    }
    return strided_span(array);
}

/* NumPy reports that it has no memory with a RuntimeError. */
static void
raise_memory_error_from_current(void)
{
    PyObject *cause = py_take_exception();
    PyErr_NoMemory();
    py_set_cause(cause);
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
py_find_overlap(PyArrayObject *a, const py_span *a_span, PyArrayObject *b,
                const py_span *b_span)
{
    const bool a_is_empty = !a_span->unknown && a_span->low == a_span->high;
    const bool b_is_empty = !b_span->unknown && b_span->low == b_span->high;
    if (a_is_empty || b_is_empty) {
        return OVERLAP_NONE;
    }
    if (a_span->unknown || b_span->unknown) {
        return OVERLAP_UNKNOWN;
    }
    return py_are_apart(a_span, b_span) ? OVERLAP_NONE : numpy_shares_memory(a, b);
}
