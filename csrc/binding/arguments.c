#include "checks.h"

const char *const cl_argument_names[ARGUMENTS] = {
    "features",  "labels",      "centers",       "alpha",        "normalize",
    "reduction", "loss_weight", "sample_weight", "ignore_index", "out",
};

bool
cl_intern_names(PyObject *names[ARGUMENTS])
{
    for (int i = 0; i < ARGUMENTS; i++) {
        names[i] = PyUnicode_InternFromString(cl_argument_names[i]);
        if (names[i] == NULL) {
            return false; /* GCOVR_EXCL_LINE: no memory for a name */
        }
    }
    return true;
}

static int
find_name(PyObject *const names[ARGUMENTS], PyObject *keyword)
{
    for (int i = 0; i < ARGUMENTS; i++) {
        if (names[i] == keyword) {
            return i;
        }
    }
    for (int i = 0; i < ARGUMENTS; i++) {
        if (PyUnicode_CompareWithASCIIString(keyword, cl_argument_names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

static bool
take_keyword(cl_call *call, PyObject *const names[ARGUMENTS], PyObject *keyword,
             PyObject *value)
{
    const cl_signature *signature = call->signature;
    const int i = find_name(names, keyword);
    if (i < 0 || (i > CENTERS && !(signature->takes & (1u << i)))) {
        PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'",
                     signature->name, keyword);
        return false;
    }
    if (call->given[i] != NULL) {
        PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%U'",
                     signature->name, keyword);
        return false;
    }
    call->given[i] = value;
    return true;
}

static bool
take_arguments(cl_call *call, PyObject *const names[ARGUMENTS], PyObject *const *args,
               Py_ssize_t n_args, PyObject *keywords)
{
    const char *name = call->signature->name;
    if (n_args > CENTERS + 1) {
        PyErr_Format(PyExc_TypeError,
                     "%s() takes 3 positional arguments but %zd were given", name,
                     n_args);
        return false;
    }
    for (Py_ssize_t i = 0; i < n_args; i++) {
        call->given[i] = args[i];
    }
    const Py_ssize_t n_keywords = keywords != NULL ? PyTuple_Size(keywords) : 0;
    for (Py_ssize_t i = 0; i < n_keywords; i++) {
        PyObject *keyword = PyTuple_GetItem(keywords, i);
        if (!take_keyword(call, names, keyword, args[n_args + i])) {
            return false;
        }
    }
    for (int i = FEATURES; i <= CENTERS; i++) {
        if (call->given[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument '%s'", name,
                         cl_argument_names[i]);
            return false;
        }
    }
    /* None is the same as nothing where None is the default. */
    for (int i = SAMPLE_WEIGHT; i <= OUT; i++) {
        if (call->given[i] == Py_None) {
            call->given[i] = NULL;
        }
    }
    return true;
}

bool
cl_is_native(PyArrayObject *array)
{
    return PyArray_ISNOTSWAPPED(array);
}

bool
cl_rows_contiguous(PyArrayObject *array)
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
cl_replace(PyArrayObject **array, PyObject *converted)
{
    Py_DECREF(*array);
    *array = (PyArrayObject *)converted;
    return converted != NULL;
}

bool
cl_fail_reduction(PyObject *type, PyObject *value)
{
    PyErr_Format(type, "reduction is %R, expected 'none', 'sum' or 'mean'", value);
    return false;
}

/* Put a native copy with these other flags in the place of an array. */
static bool
make_native(PyArrayObject **array, int flags)
{
    PyArray_Descr *dtype = PyArray_DescrNewByteorder(PyArray_DESCR(*array), NPY_NATIVE);
    return dtype != NULL && cl_replace(array, PyArray_FromArray(*array, dtype, flags));
}

/* Copy what the kernels cannot read where it lies. */
static bool
make_readable(cl_call *call)
{
    PyArrayObject *features = call->features;
    const bool readable = PyArray_ISALIGNED(features) && cl_is_native(features) &&
                          cl_rows_contiguous(features);
    return (readable || make_native(&call->features, NPY_ARRAY_CARRAY_RO)) &&
           (cl_is_native(call->labels) || make_native(&call->labels, 0));
}

static void
describe_batch(cl_call *call)
{
    cl_batch *b = &call->batch;
    b->features = PyArray_BYTES(call->features);
    b->feature_stride = PyArray_STRIDE(call->features, 0);
    b->centers = PyArray_BYTES(call->centers);
    b->center_stride = PyArray_STRIDE(call->centers, 0);
    b->labels = PyArray_BYTES(call->labels);
    b->label_stride = PyArray_STRIDE(call->labels, 0);
    b->label_size = (int)PyArray_ITEMSIZE(call->labels);
    b->label_signed = PyArray_ISSIGNED(call->labels);
}

bool
cl_call_read(cl_call *call, const cl_signature *signature,
             PyObject *const names[ARGUMENTS], PyObject *const *args, Py_ssize_t n_args,
             PyObject *keywords)
{
    *call = (cl_call){
        .signature = signature,
        .loss_options = {.reduction = CL_MEAN, .loss_weight = 1.0},
        .update_options = {.alpha = 0.5, .normalize = true},
    };
    int ignore_overflow = 0;
    if (!take_arguments(call, names, args, n_args, keywords) ||
        !cl_check_types(call, &ignore_overflow) ||
        !cl_check_values(call, ignore_overflow) || !make_readable(call)) {
        return false;
    }
    describe_batch(call);
    return true;
}

void
cl_call_clear(cl_call *call)
{
    Py_XDECREF((PyObject *)call->features);
    Py_XDECREF((PyObject *)call->labels);
    Py_XDECREF((PyObject *)call->centers);
    Py_XDECREF((PyObject *)call->weights);
    Py_XDECREF((PyObject *)call->out);
}

PyArrayObject *
cl_new_losses(const cl_call *call)
{
    npy_intp rows = (npy_intp)call->batch.B;
    return (PyArrayObject *)PyArray_SimpleNew(1, &rows, PyArray_TYPE(call->centers));
}

PyArrayObject *
cl_new_gradient(const cl_call *call)
{
    PyArray_Descr *dtype = PyArray_DESCR(call->features);
    Py_INCREF((PyObject *)dtype);
    return (PyArrayObject *)PyArray_Empty(PyArray_NDIM(call->features),
                                          PyArray_DIMS(call->features), dtype, 0);
}

PyArrayObject *
cl_new_class_rows(const cl_call *call, int64_t rows)
{
    npy_intp shape[2] = {(npy_intp)rows, (npy_intp)call->batch.D};
    return (PyArrayObject *)PyArray_SimpleNew(2, shape, PyArray_TYPE(call->centers));
}
