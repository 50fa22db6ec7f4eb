/*
 * The data of NumPy's arrays out of failing_malloc.c, counted together with what
 * csrc/ allocates itself. For a _core compiled with this file, through ctypes.
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
    return scarce_realloc(data, size);
}

static void
free_data(void *Py_UNUSED(context), void *data, size_t Py_UNUSED(size))
{
    counted_free(data);
}

static PyDataMem_Handler handler = {
    "scarce", 1, {NULL, new_data, zeroed_data, resized_data, free_data}};

/* Take it into use in this context; returns the handler that was. */
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
