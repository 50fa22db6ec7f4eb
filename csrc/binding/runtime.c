#include "runtime.h"

#include <stdlib.h>

#include "centerloss.h"

bool
py_read_num_threads(PyObject *n, int *threads)
{
    PyObject *index = PyNumber_Index(n);
    if (index == NULL) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Format(PyExc_TypeError, "n is %R, expected an integer", n);
        }
        return false;
    }
    int overflow = 0;
    const long long number = PyLong_AsLongLongAndOverflow(index, &overflow);
    Py_DECREF(index);
    if (overflow != 0 || number < 1 || number > CL_MAX_THREADS) {
        PyErr_Format(PyExc_ValueError, "n is %R, expected 1 to %d", n, CL_MAX_THREADS);
        return false;
    }
    *threads = (int)number;
    return true;
}

bool
py_select_isa(void)
{
    const char *name = getenv("CENTERLOSS_ISA");
    if (name != NULL && name[0] == '\0') {
        name = NULL;
    }
    if (cl_select_isa(name)) {
        return true;
    }
    PyErr_Format(PyExc_ImportError,
                 "CENTERLOSS_ISA is '%s', which this build or this processor does "
                 "not have: expected one of %s",
                 name, cl_isa_names());
    return false;
}

/* Not COMPILER, which pyconfig.h defines on Windows. */
#if defined(__clang__)
#define BUILT_BY "Clang " __clang_version__
#elif defined(__GNUC__)
#define BUILT_BY "GCC " __VERSION__
#elif defined(_MSC_VER)
#define BUILT_BY "MSVC"
#else
#define BUILT_BY "unknown"
#endif

PyObject *
py_build_info(void)
{
    return Py_BuildValue("{s:s,s:s}", "compiler", BUILT_BY, "isa", cl_isa());
}
