#include "check.h"

#include <string.h>

#include "call.h"

const char py_check_doc[] =
    "check($module, function, arguments, names=None, tensors=False)\n"
    "--\n"
    "\n"
    "Raise what a function would raise for these arguments; change none of them.\n"
    "\n"
    "Parameters\n"
    "----------\n"
    "function : str\n"
    "    Name of the function: \"loss\", \"step\" and so on.\n"
    "arguments : dict\n"
    "    Its arguments by name.\n"
    "names : dict of str to str, optional\n"
    "    Other names for arguments in error messages: {\"centers\": \"init\"}.\n"
    "tensors : bool\n"
    "    Whether messages suggest methods of PyTorch tensors, not of arrays.\n"
    "\n"
    "Returns\n"
    "-------\n"
    "dict\n"
    "    The arguments of all public functions, with defaults for those not given:\n"
    "    `features` and `labels` as plain arrays of their own shapes and dtypes, in\n"
    "    native byte order, the rows of `features` contiguous; `centers` as a plain\n"
    "    view; `sample_weight` as an array of float64, or None; `out` as given, or\n"
    "    None; the others as a float, bool, str, or int or None.\n";

static const py_signature *
find_signature(const char *name)
{
    for (int i = 0; i < FUNCTIONS; i++) {
        if (strcmp(name, py_signatures[i].name) == 0) {
            return &py_signatures[i];
        }
    }
    PyErr_Format(PyExc_ValueError, "no function '%s'", name);
    return NULL;
}

/* Enter other names into the table of names. They point into the strings of `given`. */
static bool
read_names(const char *names[ARGUMENTS], PyObject *given)
{
    PyObject *argument, *name;
    for (Py_ssize_t i = 0; PyDict_Next(given, &i, &argument, &name);) {
        if (!PyUnicode_Check(argument) || !PyUnicode_Check(name)) {
            PyErr_SetString(PyExc_TypeError, "names must be a dict of str to str");
            return false;
        }
        const int found = py_find_argument(argument);
        if (found < 0) {
            PyErr_Format(PyExc_ValueError, "no argument '%U'", argument);
            return false;
        }
        names[found] = PyUnicode_AsUTF8AndSize(name, NULL);
        if (names[found] == NULL) {
            return false;
        }
    }
    return true;
}

/* Reading the labels is part of making a plan. */
static bool
check_labels(const py_call *call)
{
    cl_plan plan;
    cl_status status;
    Py_BEGIN_ALLOW_THREADS
    status = cl_plan_make(&plan, &call->batch, 0, 1);
    cl_plan_free(&plan);
    Py_END_ALLOW_THREADS
    return py_plan_made(call, &plan, status);
}

static PyObject *
object_or_none(void *object)
{
    return object != NULL ? object : Py_None;
}

static PyObject *
checked_arguments(const py_call *call)
{
    PyObject *ignore_index = call->batch.has_ignore_index
                                 ? PyLong_FromLongLong(call->batch.ignore_index)
                                 : Py_NewRef(Py_None);
    const char *const *names = py_argument_names;
    return Py_BuildValue(
        "{s:O,s:O,s:O,s:d,s:O,s:O,s:s,s:d,s:O,s:N,s:O}", names[FEATURES],
        call->features, names[LABELS], call->labels, names[CENTERS], call->centers,
        names[ALPHA], call->update_options.alpha, names[NORMALIZE],
        call->update_options.normalize ? Py_True : Py_False, names[SKIP_NONFINITE],
        call->update_options.skip_nonfinite ? Py_True : Py_False, names[REDUCTION],
        py_reduction_names[call->loss_options.reduction], names[LOSS_WEIGHT],
        call->loss_options.loss_weight, names[SAMPLE_WEIGHT],
        object_or_none(call->weights), names[IGNORE_INDEX], ignore_index, names[OUT],
        object_or_none(call->given[OUT]));
}

/* The dicts must be private copies: the call borrows their objects, and code of the
 * caller that runs in the checks could change a dict that it can reach. */
static PyObject *
check_call(const py_signature *signature, PyObject *arguments, PyObject *given_names,
           bool tensors)
{
    const char *names[ARGUMENTS];
    memcpy(names, py_argument_names, sizeof(names));
    if (given_names != NULL && !read_names(names, given_names)) {
        return NULL;
    }
    py_call call;
    py_call_init(&call, signature);
    call.names = names;
    call.tensors = tensors;
    PyObject *checked = NULL;
    if (py_parse_dict(&call, arguments) && py_call_check(&call) &&
        check_labels(&call)) {
        checked = checked_arguments(&call);
    }
    py_call_clear(&call);
    return checked;
}

PyObject *
py_check(PyObject *Py_UNUSED(module), PyObject *args, PyObject *keywords)
{
    static char *parameters[] = {"function", "arguments", "names", "tensors", NULL};
    const char *function;
    PyObject *arguments, *names = Py_None;
    int tensors = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "sO!|Op:check", parameters,
                                     &function, &PyDict_Type, &arguments, &names,
                                     &tensors)) {
        return NULL;
    }
    if (names != Py_None && !PyDict_Check(names)) {
        PyErr_SetString(PyExc_TypeError, "names must be a dict of str to str");
        return NULL;
    }
    const py_signature *signature = find_signature(function);
    if (signature == NULL) {
        return NULL;
    }
    PyObject *own_arguments = PyDict_Copy(arguments);
    PyObject *own_names = names != Py_None ? PyDict_Copy(names) : NULL;
    PyObject *checked = NULL;
    if (own_arguments != NULL && (names == Py_None || own_names != NULL)) {
        checked = check_call(signature, own_arguments, own_names, tensors);
    }
    Py_XDECREF(own_arguments);
    Py_XDECREF(own_names);
    return checked;
}
