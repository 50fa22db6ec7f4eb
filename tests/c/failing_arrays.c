/*
 * Allocates the data of NumPy's arrays with failing_malloc.c, as csrc/ does its own
 * memory. Part of the extension module of the tests, which call it through ctypes.
 */
#include "numpy_api.h"
#include "failing_malloc.h"

#include <string.h>

static void *
new_data(void *Py_UNUSED(context), size_t size)
{
    return failing_malloc(size);
}

static void *
zeroed_data(void *Py_UNUSED(context), size_t count, size_t size)
{
    void *data = failing_malloc(count * size);
    return data != NULL ? memset(data, 0, count * size) : NULL;
}

static void *
resized_data(void *Py_UNUSED(context), void *data, size_t size)
{
    return failing_realloc(data, size);
}

static void
free_data(void *Py_UNUSED(context), void *data, size_t Py_UNUSED(size))
{
    counted_free(data);
}

static PyDataMem_Handler handler = {
    "failing", 1, {NULL, new_data, zeroed_data, resized_data, free_data}};

/* Use the handler in this context; returns the previous one. */
PyObject *
failing_arrays(void)
{
    PyObject *capsule = PyCapsule_New(&handler, "mem_handler", NULL);
    PyObject *before = capsule != NULL ? PyDataMem_SetHandler(capsule) : NULL;
    Py_XDECREF(capsule);
    return before;
}

PyObject *
restore_arrays(PyObject *before)
{
    return PyDataMem_SetHandler(before);
}
