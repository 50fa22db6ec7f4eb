/*
 * centerloss._core: each function reads its arguments, plans and makes what it
 * will return, and only then runs its job, which cannot fail.
 */
#define CL_IMPORTS_NUMPY
#include "numpy_api.h"

#include <stdlib.h>

#include "arguments.h"
#include "centerloss.h"
#include "docstrings.h"

/* Set by one thread and read by others: what the GIL orders, where there is one. */
#ifdef Py_GIL_DISABLED
#include <stdatomic.h>
typedef atomic_int shared_int;
#else
typedef int shared_int;
#endif

typedef struct {
    PyObject *names[ARGUMENTS];
    shared_int threads; /* the most that a call may use */
} module_state;

static module_state *
state_of(PyObject *module)
{
    return PyModule_GetState(module);
}

#define BIT(argument) (1u << (argument))
enum {
    ROW_ARGUMENTS = BIT(SAMPLE_WEIGHT) | BIT(IGNORE_INDEX),
    LOSS_ARGUMENTS = BIT(REDUCTION) | BIT(LOSS_WEIGHT) | ROW_ARGUMENTS | BIT(OUT),
    MOVE_ARGUMENTS = BIT(ALPHA) | BIT(NORMALIZE) | ROW_ARGUMENTS,
};

static const cl_signature loss_signature = {
    .name = "loss", .takes = LOSS_ARGUMENTS, .out = OUT_LOSSES};
static const cl_signature gradient_signature = {
    .name = "gradient", .takes = LOSS_ARGUMENTS, .out = OUT_GRADIENT};
static const cl_signature value_and_grad_signature = {
    .name = "value_and_grad", .takes = LOSS_ARGUMENTS, .out = OUT_GRADIENT};
static const cl_signature step_signature = {.name = "step",
                                            .takes = LOSS_ARGUMENTS | MOVE_ARGUMENTS,
                                            .moves = true,
                                            .out = OUT_GRADIENT};
static const cl_signature update_centers_signature = {
    .name = "update_centers", .takes = MOVE_ARGUMENTS, .moves = true};
static const cl_signature center_delta_signature = {
    .name = "center_delta",
    .takes = BIT(NORMALIZE) | ROW_ARGUMENTS | BIT(OUT),
    .out = OUT_DELTAS};
static const cl_signature class_sums_signature = {.name = "class_sums",
                                                  .takes = ROW_ARGUMENTS};

/* ---------------------------------------------------------------- errors */

static void
raise_bad_label(const cl_call *call, int64_t row)
{
    PyObject *label = PySequence_GetItem((PyObject *)call->labels, (Py_ssize_t)row);
    if (label != NULL) {
        PyErr_Format(PyExc_IndexError, "labels[%lld] is %S, but there are %lld classes",
                     (long long)row, label, (long long)call->batch.K);
        Py_DECREF(label);
    }
}

/* True if the plan stands; else the exception is set. */
static bool
planned(const cl_call *call, const cl_plan *plan, cl_status status)
{
    if (status == CL_BAD_LABEL) {
        raise_bad_label(call, plan->bad_row);
    }
    else if (status == CL_NO_MEMORY) {
        PyErr_NoMemory();
    }
    return status == CL_OK;
}

/* --------------------------------------- loss, gradient, value_and_grad, step */

/* What such a call returns, made before anything is stored: after the job
 * nothing may fail any more, not even the making of a float or a tuple. */
typedef struct {
    double loss;
    PyObject *spare_float; /* its memory becomes the loss's */
    PyArrayObject *losses; /* for reduction="none" */
    PyArrayObject *gradient;
    PyObject *given; /* borrowed: `out`, of which one of these may be a plain view */
    PyObject *pair;
} loss_outputs;

static bool
make_outputs(loss_outputs *outputs, const cl_call *call, cl_outputs *result)
{
    const cl_signature *signature = call->signature;
    PyArrayObject *out = (PyArrayObject *)Py_XNewRef((PyObject *)call->out);
    outputs->given = call->given[OUT];
    if (signature->out == OUT_GRADIENT) {
        outputs->gradient = out != NULL ? out : cl_new_gradient(call);
        if (outputs->gradient == NULL) {
            return false;
        }
        result->gradient = PyArray_BYTES(outputs->gradient);
        result->gradient_stride = PyArray_STRIDE(outputs->gradient, 0);
        out = NULL;
    }
    if (call->loss_options.reduction == CL_NONE) {
        outputs->losses = out != NULL ? out : cl_new_losses(call);
        if (outputs->losses == NULL) {
            return false;
        }
        result->row_losses = PyArray_BYTES(outputs->losses);
        result->row_loss_stride = PyArray_STRIDE(outputs->losses, 0);
    }
    result->loss = &outputs->loss;
    outputs->spare_float = PyFloat_FromDouble(0.0);
    outputs->pair = PyTuple_New(2);
    return outputs->spare_float != NULL && outputs->pair != NULL;
}

static void
clear_outputs(loss_outputs *outputs)
{
    Py_XDECREF(outputs->spare_float);
    Py_XDECREF((PyObject *)outputs->losses);
    Py_XDECREF((PyObject *)outputs->gradient);
    Py_XDECREF(outputs->pair);
}

static PyObject *
gradient_object(const loss_outputs *outputs)
{
    return Py_NewRef(outputs->given != NULL ? outputs->given
                                            : (PyObject *)outputs->gradient);
}

/* The loss as an object: the array, or a float in the place of the spare one,
 * which is freed right before and so is there to be had. */
static PyObject *
loss_object(loss_outputs *outputs)
{
    if (outputs->losses != NULL) {
        const bool given = outputs->gradient == NULL && outputs->given != NULL;
        return Py_NewRef(given ? outputs->given : (PyObject *)outputs->losses);
    }
    Py_CLEAR(outputs->spare_float);
    return PyFloat_FromDouble(outputs->loss);
}

static PyObject *
pair_object(loss_outputs *outputs)
{
    PyObject *loss = loss_object(outputs);
    if (loss == NULL) {
        return NULL; /* GCOVR_EXCL_LINE: the memory was freed right before */
    }
    PyTuple_SetItem(outputs->pair, 0, loss);
    PyTuple_SetItem(outputs->pair, 1, gradient_object(outputs));
    return Py_NewRef(outputs->pair);
}

/* Plan and run with the GIL released. */
static bool
run_loss_job(const cl_call *call, int threads, const cl_outputs *result)
{
    const bool moves = call->signature->moves;
    cl_plan plan;
    cl_status status;
    Py_BEGIN_ALLOW_THREADS
    status = cl_plan_make(&plan, &call->batch,
                          moves ? CL_LOSSES | CL_GROUPS : CL_LOSSES, threads);
    if (status == CL_OK && moves) {
        cl_step(&call->batch, &plan, PyArray_BYTES(call->centers), &call->loss_options,
                &call->update_options, result);
    }
    else if (status == CL_OK) {
        cl_value_and_grad(&call->batch, &plan, &call->loss_options, result);
    }
    cl_plan_free(&plan);
    Py_END_ALLOW_THREADS
    return planned(call, &plan, status);
}

static PyObject *
loss_job(PyObject *module, const cl_signature *signature, PyObject *const *args,
         Py_ssize_t n_args, PyObject *keywords)
{
    const module_state *state = state_of(module);
    cl_call call;
    loss_outputs outputs = {0};
    cl_outputs result = {0};
    PyObject *returned = NULL;
    if (cl_call_read(&call, signature, state->names, args, n_args, keywords) &&
        make_outputs(&outputs, &call, &result) &&
        run_loss_job(&call, state->threads, &result)) {
        if (signature == &loss_signature) {
            returned = loss_object(&outputs);
        }
        else if (signature == &gradient_signature) {
            returned = gradient_object(&outputs);
        }
        else {
            returned = pair_object(&outputs);
        }
    }
    clear_outputs(&outputs);
    cl_call_clear(&call);
    return returned;
}

static PyObject *
core_loss(PyObject *module, PyObject *const *args, Py_ssize_t n_args,
          PyObject *keywords)
{
    return loss_job(module, &loss_signature, args, n_args, keywords);
}

static PyObject *
core_gradient(PyObject *module, PyObject *const *args, Py_ssize_t n_args,
              PyObject *keywords)
{
    return loss_job(module, &gradient_signature, args, n_args, keywords);
}

static PyObject *
core_value_and_grad(PyObject *module, PyObject *const *args, Py_ssize_t n_args,
                    PyObject *keywords)
{
    return loss_job(module, &value_and_grad_signature, args, n_args, keywords);
}

static PyObject *
core_step(PyObject *module, PyObject *const *args, Py_ssize_t n_args,
          PyObject *keywords)
{
    return loss_job(module, &step_signature, args, n_args, keywords);
}

/* ------------------------------------------------- the centers' own functions */

static bool
plan_groups_only(const cl_call *call, cl_plan *plan, int threads)
{
    cl_status status;
    Py_BEGIN_ALLOW_THREADS
    status = cl_plan_make(plan, &call->batch, CL_GROUPS, threads);
    Py_END_ALLOW_THREADS
    return planned(call, plan, status);
}

/* Each of the three: what to make once the plan stands, and what to run. */
typedef PyObject *(*group_job)(const cl_call *call, cl_plan *plan);

static PyObject *
run_group_job(PyObject *module, const cl_signature *signature, group_job job,
              PyObject *const *args, Py_ssize_t n_args, PyObject *keywords)
{
    const module_state *state = state_of(module);
    cl_call call;
    cl_plan plan = {0};
    PyObject *returned = NULL;
    if (cl_call_read(&call, signature, state->names, args, n_args, keywords) &&
        plan_groups_only(&call, &plan, state->threads)) {
        returned = job(&call, &plan);
    }
    cl_plan_free(&plan);
    cl_call_clear(&call);
    return returned;
}

static PyObject *
update_centers_job(const cl_call *call, cl_plan *plan)
{
    PyObject *updated = PyLong_FromLongLong(plan->classes);
    if (updated != NULL) {
        Py_BEGIN_ALLOW_THREADS
        cl_update_centers(&call->batch, plan, PyArray_BYTES(call->centers),
                          &call->update_options);
        Py_END_ALLOW_THREADS
    }
    return updated;
}

static PyObject *
center_delta_job(const cl_call *call, cl_plan *plan)
{
    PyArrayObject *deltas = call->out != NULL
                                ? (PyArrayObject *)Py_NewRef((PyObject *)call->out)
                                : cl_new_class_rows(call, call->batch.K);
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
class_sums_job(const cl_call *call, cl_plan *plan)
{
    npy_intp classes_shape = (npy_intp)plan->classes;
    PyArrayObject *classes =
        (PyArrayObject *)PyArray_SimpleNew(1, &classes_shape, NPY_INT64);
    PyArrayObject *sums = cl_new_class_rows(call, plan->classes);
    PyArrayObject *counts =
        (PyArrayObject *)PyArray_SimpleNew(1, &classes_shape, NPY_FLOAT64);
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
    return run_group_job(module, &update_centers_signature, update_centers_job, args,
                         n_args, keywords);
}

static PyObject *
core_center_delta(PyObject *module, PyObject *const *args, Py_ssize_t n_args,
                  PyObject *keywords)
{
    return run_group_job(module, &center_delta_signature, center_delta_job, args,
                         n_args, keywords);
}

static PyObject *
core_class_sums(PyObject *module, PyObject *const *args, Py_ssize_t n_args,
                PyObject *keywords)
{
    return run_group_job(module, &class_sums_signature, class_sums_job, args, n_args,
                         keywords);
}

/* ------------------------------------------------------- threads and build */

static PyObject *
core_set_num_threads(PyObject *module, PyObject *n)
{
    PyObject *index = PyNumber_Index(n);
    if (index == NULL) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Format(PyExc_TypeError, "n is %R, expected an integer", n);
        }
        return NULL;
    }
    int overflow = 0;
    const long long threads = PyLong_AsLongLongAndOverflow(index, &overflow);
    Py_DECREF(index);
    if (overflow != 0 || threads < 1 || threads > CL_MAX_THREADS) {
        PyErr_Format(PyExc_ValueError, "n is %R, expected 1 to %d", n, CL_MAX_THREADS);
        return NULL;
    }
    state_of(module)->threads = (int)threads;
    return Py_NewRef(Py_None);
}

static PyObject *
core_get_num_threads(PyObject *module, PyObject *Py_UNUSED(nothing))
{
    return PyLong_FromLong(state_of(module)->threads);
}

/* pyconfig.h of Windows has a COMPILER. */
#if defined(__clang__)
#define BUILT_BY "Clang " __clang_version__
#elif defined(__GNUC__)
#define BUILT_BY "GCC " __VERSION__
#elif defined(_MSC_VER)
#define BUILT_BY "MSVC"
#else
#define BUILT_BY "unknown"
#endif

static PyObject *
core_build_info(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(nothing))
{
    return Py_BuildValue("{s:s,s:s}", "compiler", BUILT_BY, "isa", cl_isa());
}

/* ---------------------------------------------------------------- the module */

#define FUNCTION(function)                                    \
    {#function, (PyCFunction)(void (*)(void))core_##function, \
     METH_FASTCALL | METH_KEYWORDS, function##_doc}

static PyMethodDef methods[] = {
    FUNCTION(loss),
    FUNCTION(gradient),
    FUNCTION(value_and_grad),
    FUNCTION(center_delta),
    FUNCTION(class_sums),
    FUNCTION(update_centers),
    FUNCTION(step),
    {"set_num_threads", core_set_num_threads, METH_O, set_num_threads_doc},
    {"get_num_threads", core_get_num_threads, METH_NOARGS, get_num_threads_doc},
    {"_build_info", core_build_info, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

/* CENTERLOSS_ISA forces a set of instructions, for tests and comparisons. */
static bool
select_isa(void)
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

static int
exec_module(PyObject *module)
{
    if (PyArray_ImportNumPyAPI() < 0 || !select_isa()) {
        return -1;
    }
    state_of(module)->threads = 1;
    return cl_intern_names(state_of(module)->names) ? 0 : -1;
}

static int
traverse_module(PyObject *module, visitproc visit, void *arg)
{
    for (int i = 0; i < ARGUMENTS; i++) {
        Py_VISIT(state_of(module)->names[i]);
    }
    return 0;
}

static int
clear_module(PyObject *module)
{
    for (int i = 0; i < ARGUMENTS; i++) {
        Py_CLEAR(state_of(module)->names[i]);
    }
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, exec_module},
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
