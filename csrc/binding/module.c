/*
 * The module centerloss._core. A function reads its arguments, plans and allocates what
 * it returns. Only then does it run its operation, which cannot fail.
 */
#define PY_IMPORT_NUMPY
#include "numpy_api.h"

#include <assert.h>

#include "array_util.h"
#include "call.h"
#include "centerloss.h"
#include "check.h"
#include "docstrings.h"
#include "ordered_sum.h"
#include "runtime.h"

/* Set by one thread and read by others. The GIL orders this, where there is one. */
#ifdef Py_GIL_DISABLED
#include <stdatomic.h>
typedef atomic_int shared_int;
#else
typedef int shared_int;
#endif

typedef struct {
    PyObject *keywords[ARGUMENTS]; /* interned names of the arguments */
    shared_int threads;            /* maximum for a call */
} module_state;

static module_state *
get_state(PyObject *module)
{
    return PyModule_GetState(module);
}

static int
centers_type(const py_call *call)
{
    return PyArray_TYPE(call->centers);
}

/* --------------------------------------- loss, gradient, value_and_grad, step */

/* The int `count`, made after an operation that cannot be undone, so it must not fail.
 * `most` is an int made before, of the largest value that `count` can have; its
 * reference is stolen. It is returned if it has the right value. If not, Python has the
 * ints up to 256 already, and a larger one gets the memory of `most`, which is freed
 * just before. */
static PyObject *
count_object(PyObject *most, int64_t most_value, int64_t count)
{
    if (count == most_value) {
        return most;
    }
    Py_DECREF(most);
    return PyLong_FromLongLong(count);
}

/* The objects that a call returns. They are allocated first, because nothing may fail
 * once the operation has written to the centers. */
typedef struct {
    double loss;
    PyObject *spare_float; /* reserves the memory of the returned float */
    PyArrayObject *losses; /* for reduction="none", or the terms */
    PyArrayObject *gradient;
    PyObject *out;   /* borrowed; `losses` or `gradient` may be a view of it */
    PyObject *count; /* of the centers updated, for step_and_count */
    PyObject *tuple;
} loss_outputs;

static bool
returns_count(const py_call *call)
{
    return call->signature == &py_signatures[STEP_AND_COUNT];
}

/* The bytes from each row to the next; the checks require that there is one number. */
static int64_t
row_stride(const py_call *call, PyArrayObject *array)
{
    npy_intp stride;
    py_find_row_stride(array, call->row_axes, &stride);
    return stride;
}

static bool
make_outputs(loss_outputs *outputs, const py_call *call, cl_outputs *result)
{
    const py_signature *signature = call->signature;
    PyArrayObject *out = (PyArrayObject *)Py_XNewRef((PyObject *)call->out);
    outputs->out = call->given[OUT];
    assert((outputs->out != NULL) == (out != NULL));
    if (signature->out == OUT_GRADIENT) {
        outputs->gradient = out != NULL ? out : py_new_like(call->features);
        if (outputs->gradient == NULL) {
            return false;
        }
        result->gradient = PyArray_BYTES(outputs->gradient);
        result->gradient_stride = row_stride(call, outputs->gradient);
        out = NULL;
    }
    if (signature->returns_terms) {
        outputs->losses = py_new_of_shape(call->labels, NPY_FLOAT64);
        if (outputs->losses == NULL) {
            return false;
        }
        result->terms = PyArray_DATA(outputs->losses);
    }
    else if (call->loss_options.reduction == CL_NONE) {
        outputs->losses =
            out != NULL ? out : py_new_of_shape(call->labels, centers_type(call));
        if (outputs->losses == NULL) {
            return false;
        }
        result->row_losses = PyArray_BYTES(outputs->losses);
        result->row_loss_stride = row_stride(call, outputs->losses);
    }
    result->loss = &outputs->loss;
    outputs->spare_float = PyFloat_FromDouble(0.0);
    outputs->tuple = PyTuple_New(returns_count(call) ? 3 : 2);
    return outputs->spare_float != NULL && outputs->tuple != NULL;
}

static void
clear_outputs(loss_outputs *outputs)
{
    Py_XDECREF(outputs->spare_float);
    Py_XDECREF((PyObject *)outputs->losses);
    Py_XDECREF((PyObject *)outputs->gradient);
    Py_XDECREF(outputs->count);
    Py_XDECREF(outputs->tuple);
}

static PyObject *
gradient_object(const loss_outputs *outputs)
{
    return Py_NewRef(outputs->out != NULL ? outputs->out
                                          : (PyObject *)outputs->gradient);
}

/* The array of losses, or a float. Creating the float cannot fail: the spare float, of
 * the same size, is freed just before. */
static PyObject *
loss_object(loss_outputs *outputs)
{
    if (outputs->losses != NULL) {
        const bool given = outputs->gradient == NULL && outputs->out != NULL;
        return Py_NewRef(given ? outputs->out : (PyObject *)outputs->losses);
    }
    Py_CLEAR(outputs->spare_float);
    return PyFloat_FromDouble(outputs->loss);
}

/* Loss and gradient, and the count if there is one. */
static PyObject *
tuple_object(loss_outputs *outputs)
{
    PyObject *loss = loss_object(outputs);
    if (loss == NULL) {
        return NULL; /* GCOVR_EXCL_LINE: memory was freed just before */
    }
    PyTuple_SetItem(outputs->tuple, 0, loss);
    PyTuple_SetItem(outputs->tuple, 1, gradient_object(outputs));
    if (outputs->count != NULL) {
        PyTuple_SetItem(outputs->tuple, 2, Py_NewRef(outputs->count));
    }
    return Py_NewRef(outputs->tuple);
}

/* Releasing and taking the GIL costs 0.1 us. Batches of up to this many values, and
 * eight more per row, take 1 us: for these it is kept. */
static const double MAX_VALUES_WITH_GIL = 2048;

/* Release the GIL, unless the batch is tiny. NULL if it is kept. */
static PyThreadState *
release_gil(const cl_batch *b)
{
    const bool keep = (double)b->B * ((double)b->D + 8) <= MAX_VALUES_WITH_GIL;
    return keep ? NULL : PyEval_SaveThread();
}

static void
take_gil(PyThreadState *released)
{
    if (released != NULL) {
        PyEval_RestoreThread(released);
    }
}

/* Plan and run without the GIL, which is taken in between to make the count. */
static bool
run_loss_operation(const py_call *call, int threads, loss_outputs *outputs,
                   const cl_outputs *result)
{
    const bool updates = call->signature->writes_centers;
    const bool counts = returns_count(call);
    int64_t updated = 0;
    const int needs = updates ? CL_LOSSES | CL_GROUPS : CL_LOSSES;
    cl_plan plan;
    PyThreadState *released = release_gil(&call->batch);
    const cl_status status = cl_plan_make(&plan, &call->batch, needs, threads);
    bool ready = status == CL_OK;
    if (ready && counts) {
        take_gil(released);
        outputs->count = PyLong_FromLongLong(plan.classes);
        ready = outputs->count != NULL;
        released = release_gil(&call->batch);
    }
    if (ready && updates) {
        updated = cl_step(&call->batch, &plan, PyArray_BYTES(call->centers),
                          &call->loss_options, &call->update_options, result);
    }
    else if (ready) {
        cl_value_and_grad(&call->batch, &plan, &call->loss_options, result);
    }
    cl_plan_free(&plan);
    take_gil(released);
    if (ready && counts) {
        outputs->count = count_object(outputs->count, plan.classes, updated);
    }
    return py_plan_made(call, &plan, status) && ready;
}

static PyObject *
call_loss_operation(PyObject *module, int function, PyObject *const *args,
                    Py_ssize_t n_args, PyObject *keywords)
{
    const module_state *state = get_state(module);
    py_call call;
    loss_outputs outputs = {0};
    cl_outputs result = {0};
    PyObject *returned = NULL;
    if (py_call_read(&call, &py_signatures[function], state->keywords, args, n_args,
                     keywords) &&
        make_outputs(&outputs, &call, &result) &&
        run_loss_operation(&call, state->threads, &outputs, &result)) {
        if (function == LOSS) {
            returned = loss_object(&outputs);
        }
        else if (function == GRADIENT) {
            returned = gradient_object(&outputs);
        }
        else {
            returned = tuple_object(&outputs);
        }
    }
    clear_outputs(&outputs);
    py_call_clear(&call);
    return returned;
}

static PyObject *
core_loss(PyObject *module, PyObject *const *args, Py_ssize_t n_args,
          PyObject *keywords)
{
    return call_loss_operation(module, LOSS, args, n_args, keywords);
}

static PyObject *
core_gradient(PyObject *module, PyObject *const *args, Py_ssize_t n_args,
              PyObject *keywords)
{
    return call_loss_operation(module, GRADIENT, args, n_args, keywords);
}

static PyObject *
core_value_and_grad(PyObject *module, PyObject *const *args, Py_ssize_t n_args,
                    PyObject *keywords)
{
    return call_loss_operation(module, VALUE_AND_GRAD, args, n_args, keywords);
}

static PyObject *
core_step(PyObject *module, PyObject *const *args, Py_ssize_t n_args,
          PyObject *keywords)
{
    return call_loss_operation(module, STEP, args, n_args, keywords);
}

PyDoc_STRVAR(terms_and_grad_doc,
             "`value_and_grad`, for sharded centers: it returns the terms of the "
             "loss's sum, and divides by `total_weight`, if given, for the mean.");

static PyObject *
core_terms_and_grad(PyObject *module, PyObject *const *args, Py_ssize_t n_args,
                    PyObject *keywords)
{
    return call_loss_operation(module, TERMS_AND_GRAD, args, n_args, keywords);
}

PyDoc_STRVAR(step_and_count_doc,
             "`step`, for centerloss.torch: it also returns the number of centers "
             "updated.");

static PyObject *
core_step_and_count(PyObject *module, PyObject *const *args, Py_ssize_t n_args,
                    PyObject *keywords)
{
    return call_loss_operation(module, STEP_AND_COUNT, args, n_args, keywords);
}

PyDoc_STRVAR(step_of_class_doc,
             "`step`, for CenterLoss: all arguments may be positional. Keywords take "
             "longer.");

static PyObject *
core_step_of_class(PyObject *module, PyObject *const *args, Py_ssize_t n_args,
                   PyObject *keywords)
{
    return call_loss_operation(module, STEP_OF_CLASS, args, n_args, keywords);
}

/* ---------------------------------- update_centers, center_delta, class_sums */

static PyArrayObject *
new_class_rows(const py_call *call, int64_t rows)
{
    return py_new_matrix(rows, call->batch.D, centers_type(call));
}

static bool
plan_groups(const py_call *call, cl_plan *plan, int threads)
{
    cl_status status;
    Py_BEGIN_ALLOW_THREADS
    status = cl_plan_make(plan, &call->batch, CL_GROUPS, threads);
    Py_END_ALLOW_THREADS
    return py_plan_made(call, plan, status);
}

/* Allocates what the function returns, then runs the operation. */
typedef PyObject *(*group_operation)(const py_call *call, cl_plan *plan);

static PyObject *
call_group_operation(PyObject *module, int function, group_operation operation,
                     PyObject *const *args, Py_ssize_t n_args, PyObject *keywords)
{
    const module_state *state = get_state(module);
    py_call call;
    cl_plan plan = {0};
    PyObject *returned = NULL;
    if (py_call_read(&call, &py_signatures[function], state->keywords, args, n_args,
                     keywords) &&
        plan_groups(&call, &plan, state->threads)) {
        returned = operation(&call, &plan);
    }
    cl_plan_free(&plan);
    py_call_clear(&call);
    return returned;
}

static PyObject *
run_update_centers(const py_call *call, cl_plan *plan)
{
    PyObject *most = PyLong_FromLongLong(plan->classes);
    if (most == NULL) {
        return NULL;
    }
    int64_t updated;
    Py_BEGIN_ALLOW_THREADS
    updated = cl_update_centers(&call->batch, plan, PyArray_BYTES(call->centers),
                                &call->update_options);
    Py_END_ALLOW_THREADS
    return count_object(most, plan->classes, updated);
}

static PyObject *
run_center_delta(const py_call *call, cl_plan *plan)
{
    PyArrayObject *deltas = call->out != NULL
                                ? (PyArrayObject *)Py_NewRef((PyObject *)call->out)
                                : new_class_rows(call, call->batch.K);
    if (deltas != NULL) {
        Py_BEGIN_ALLOW_THREADS
        cl_center_delta(&call->batch, plan, call->update_options.normalize,
                        PyArray_BYTES(deltas), PyArray_STRIDE(deltas, 0));
        Py_END_ALLOW_THREADS
    }
    if (deltas != NULL && call->out != NULL) {
        Py_DECREF((PyObject *)deltas);
        return Py_NewRef(call->given[OUT]);
    }
    return (PyObject *)deltas;
}

static PyObject *
run_class_sums(const py_call *call, cl_plan *plan)
{
    PyArrayObject *classes = py_new_vector(plan->classes, NPY_INT64);
    PyArrayObject *sums = new_class_rows(call, plan->classes);
    PyArrayObject *counts = py_new_vector(plan->classes, NPY_FLOAT64);
    PyObject *returned = NULL;
    if (classes != NULL && sums != NULL && counts != NULL) {
        Py_BEGIN_ALLOW_THREADS
        cl_class_sums(&call->batch, plan, PyArray_DATA(classes), PyArray_DATA(sums),
                      PyArray_DATA(counts));
        Py_END_ALLOW_THREADS
        returned = PyTuple_Pack(3, classes, sums, counts);
    }
    Py_XDECREF((PyObject *)classes);
    Py_XDECREF((PyObject *)sums);
    Py_XDECREF((PyObject *)counts);
    return returned;
}

static PyObject *
core_update_centers(PyObject *module, PyObject *const *args, Py_ssize_t n_args,
                    PyObject *keywords)
{
    return call_group_operation(module, UPDATE_CENTERS, run_update_centers, args,
                                n_args, keywords);
}

static PyObject *
core_center_delta(PyObject *module, PyObject *const *args, Py_ssize_t n_args,
                  PyObject *keywords)
{
    return call_group_operation(module, CENTER_DELTA, run_center_delta, args, n_args,
                                keywords);
}

static PyObject *
core_class_sums(PyObject *module, PyObject *const *args, Py_ssize_t n_args,
                PyObject *keywords)
{
    return call_group_operation(module, CLASS_SUMS, run_class_sums, args, n_args,
                                keywords);
}

PyDoc_STRVAR(update_centers_at_doc,
             "`update_centers`, for sharded centers: `places` are the rows' indices in "
             "the whole batch.");

static PyObject *
core_update_centers_at(PyObject *module, PyObject *const *args, Py_ssize_t n_args,
                       PyObject *keywords)
{
    return call_group_operation(module, UPDATE_CENTERS_AT, run_update_centers, args,
                                n_args, keywords);
}

PyDoc_STRVAR(class_sums_at_doc,
             "`class_sums`, for sharded centers: `places` are the rows' indices in the "
             "whole batch.");

static PyObject *
core_class_sums_at(PyObject *module, PyObject *const *args, Py_ssize_t n_args,
                   PyObject *keywords)
{
    return call_group_operation(module, CLASS_SUMS_AT, run_class_sums, args, n_args,
                                keywords);
}

/* ---------------------------------------------------------- threads and build */

PyDoc_STRVAR(
    set_num_threads_doc,
    "set_num_threads($module, n, /)\n"
    "--\n"
    "\n"
    "Set how many threads a call may use at most.\n"
    "\n"
    "Small calls use one, whatever the setting. The results have the same bits\n"
    "for any number.\n"
    "\n"
    "Parameters\n"
    "----------\n"
    "n : int\n"
    "    1 to 256.\n"
    "\n"
    "Raises\n"
    "------\n"
    "TypeError\n"
    "    `n` is not an integer.\n"
    "ValueError\n"
    "    `n` is out of range.\n");

static PyObject *
core_set_num_threads(PyObject *module, PyObject *n)
{
    int threads;
    if (!py_read_num_threads(n, &threads)) {
        return NULL;
    }
    get_state(module)->threads = threads;
    return Py_NewRef(Py_None);
}

PyDoc_STRVAR(get_num_threads_doc,
             "get_num_threads($module)\n"
             "--\n"
             "\n"
             "How many threads a call may use at most.\n"
             "\n"
             "Returns\n"
             "-------\n"
             "int\n"
             "    The number that `set_num_threads` set last or, before that, the\n"
             "    environment variable CENTERLOSS_NUM_THREADS, OMP_NUM_THREADS or the\n"
             "    number of processors that this process may use.\n");

static PyObject *
core_get_num_threads(PyObject *module, PyObject *Py_UNUSED(nothing))
{
    return PyLong_FromLong(get_state(module)->threads);
}

static PyObject *
core_build_info(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(nothing))
{
    return py_build_info();
}

/* ----------------------------------------------------------------- the module */

#define FUNCTION(function)                                    \
    {#function, (PyCFunction)(void (*)(void))core_##function, \
     METH_FASTCALL | METH_KEYWORDS, function##_doc}

static PyMethodDef methods[] = {
    FUNCTION(loss),
    FUNCTION(gradient),
    FUNCTION(value_and_grad),
    FUNCTION(terms_and_grad),
    FUNCTION(center_delta),
    FUNCTION(class_sums),
    FUNCTION(class_sums_at),
    FUNCTION(update_centers),
    FUNCTION(update_centers_at),
    FUNCTION(step),
    FUNCTION(step_and_count),
    FUNCTION(step_of_class),
    {"ordered_sum", py_ordered_sum, METH_O, py_ordered_sum_doc},
    {"ordered_sum_of_runs", py_ordered_sum_of_runs, METH_VARARGS,
     py_ordered_sum_of_runs_doc},
    {"set_num_threads", core_set_num_threads, METH_O, set_num_threads_doc},
    {"get_num_threads", core_get_num_threads, METH_NOARGS, get_num_threads_doc},
    {"check", (PyCFunction)(void (*)(void))py_check, METH_VARARGS | METH_KEYWORDS,
     py_check_doc},
    {"_build_info", core_build_info, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static int
exec_module(PyObject *module)
{
    if (PyArray_ImportNumPyAPI() < 0 || !py_select_isa()) {
        return -1;
    }
    get_state(module)->threads = 1;
    return py_intern_keywords(get_state(module)->keywords) ? 0 : -1;
}

static int
traverse_module(PyObject *module, visitproc visit, void *arg)
{
    for (int i = 0; i < ARGUMENTS; i++) {
        Py_VISIT(get_state(module)->keywords[i]);
    }
    return 0;
}

static int
clear_module(PyObject *module)
{
    for (int i = 0; i < ARGUMENTS; i++) {
        Py_CLEAR(get_state(module)->keywords[i]);
    }
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, exec_module},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "centerloss._core",
    .m_doc = "The C kernels of centerloss, behind NumPy arrays.",
    .m_size = sizeof(module_state),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = traverse_module,
    .m_clear = clear_module,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&definition);
}
