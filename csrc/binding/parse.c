#include "parse.h"

const char *const py_argument_names[ARGUMENTS] = {
    "features",      "labels",         "centers",   "alpha",
    "normalize",     "skip_nonfinite", "reduction", "loss_weight",
    "sample_weight", "ignore_index",   "out",       "total_weight",
    "places",
};

const char *const py_reduction_names[3] = {
    [CL_NONE] = "none",
    [CL_SUM] = "sum",
    [CL_MEAN] = "mean",
};

#define BIT(argument) (1u << (argument))
enum {
    ROW_ARGUMENTS = BIT(SAMPLE_WEIGHT) | BIT(IGNORE_INDEX),
    LOSS_ARGUMENTS = BIT(REDUCTION) | BIT(LOSS_WEIGHT) | ROW_ARGUMENTS | BIT(OUT),
    UPDATE_ARGUMENTS = BIT(ALPHA) | BIT(NORMALIZE) | BIT(SKIP_NONFINITE) |
        ROW_ARGUMENTS,
};

const py_signature py_signatures[FUNCTIONS] = {
    [LOSS] = {.name = "loss", .takes = LOSS_ARGUMENTS, .out = OUT_LOSSES},
    [GRADIENT] = {.name = "gradient", .takes = LOSS_ARGUMENTS, .out = OUT_GRADIENT},
    [VALUE_AND_GRAD] = {.name = "value_and_grad",
                        .takes = LOSS_ARGUMENTS,
                        .out = OUT_GRADIENT},
    [TERMS_AND_GRAD] = {.name = "terms_and_grad",
                        .takes = LOSS_ARGUMENTS | BIT(TOTAL_WEIGHT),
                        .out = OUT_GRADIENT,
                        .returns_terms = true},
    [CENTER_DELTA] = {.name = "center_delta",
                      .takes = BIT(NORMALIZE) | ROW_ARGUMENTS | BIT(OUT),
                      .out = OUT_DELTAS},
    [CLASS_SUMS] = {.name = "class_sums", .takes = ROW_ARGUMENTS},
    [CLASS_SUMS_AT] = {.name = "class_sums_at", .takes = ROW_ARGUMENTS | BIT(PLACES)},
    [UPDATE_CENTERS] = {.name = "update_centers",
                        .takes = UPDATE_ARGUMENTS,
                        .writes_centers = true},
    [UPDATE_CENTERS_AT] = {.name = "update_centers_at",
                           .takes = UPDATE_ARGUMENTS | BIT(PLACES),
                           .writes_centers = true},
    [STEP] = {.name = "step",
              .takes = LOSS_ARGUMENTS | UPDATE_ARGUMENTS,
              .writes_centers = true,
              .out = OUT_GRADIENT},
    [STEP_AND_COUNT] = {.name = "step_and_count",
                        .takes = LOSS_ARGUMENTS | UPDATE_ARGUMENTS,
                        .writes_centers = true,
                        .out = OUT_GRADIENT},
    [STEP_OF_CLASS] = {.name = "step",
                       .takes = LOSS_ARGUMENTS | UPDATE_ARGUMENTS,
                       .writes_centers = true,
                       .out = OUT_GRADIENT,
                       .all_positional = true},
};

void
py_call_init(py_call *call, const py_signature *signature)
{
    *call = (py_call){
        .signature = signature,
        .names = py_argument_names,
        .loss_options = {.reduction = CL_MEAN, .loss_weight = 1.0},
        .update_options = {.alpha = 0.5, .normalize = true, .skip_nonfinite = true},
    };
}

bool
py_intern_keywords(PyObject *interned[ARGUMENTS])
{
    for (int i = 0; i < ARGUMENTS; i++) {
        interned[i] = PyUnicode_InternFromString(py_argument_names[i]);
        if (interned[i] == NULL) {
            return false; /* GCOVR_EXCL_LINE: no memory for a name */
        }
    }
    return true;
}

int
py_find_argument(PyObject *name)
{
    for (int i = 0; i < ARGUMENTS; i++) {
        if (PyUnicode_CompareWithASCIIString(name, py_argument_names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

/* Keywords are mostly in the order of the signature: the search begins at `first`, one
 * after the last keyword. */
static int
find_keyword(PyObject *const interned[ARGUMENTS], PyObject *keyword, int first)
{
    for (int n = 0, i = first; n < ARGUMENTS; n++, i++) {
        i = i < ARGUMENTS ? i : 0;
        if (interned[i] == keyword) {
            return i;
        }
    }
    return py_find_argument(keyword);
}

/* Assign a value to argument `i`, or -1 if no argument has the name `keyword`. */
static bool
assign(py_call *call, int i, PyObject *keyword, PyObject *value)
{
    const py_signature *signature = call->signature;
    if (i < 0 || (i > CENTERS && !(signature->takes & BIT(i)))) {
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
check_given(const py_call *call, int argument)
{
    if (call->given[argument] != NULL) {
        return true;
    }
    PyErr_Format(PyExc_TypeError, "%s() missing required argument '%s'",
                 call->signature->name, py_argument_names[argument]);
    return false;
}

static bool
finish_parsing(py_call *call)
{
    for (int i = FEATURES; i <= CENTERS; i++) {
        if (!check_given(call, i)) {
            return false;
        }
    }
    if (call->signature->takes & BIT(PLACES) && !check_given(call, PLACES)) {
        return false;
    }
    for (int i = SAMPLE_WEIGHT; i <= TOTAL_WEIGHT; i++) {
        if (call->given[i] == Py_None) {
            call->given[i] = NULL;
        }
    }
    return true;
}

bool
py_parse(py_call *call, PyObject *const interned[ARGUMENTS], PyObject *const *args,
         Py_ssize_t n_args, PyObject *keywords)
{
    const int positional = (call->signature->all_positional ? OUT : CENTERS) + 1;
    if (n_args > positional) {
        PyErr_Format(PyExc_TypeError,
                     "%s() takes %d positional arguments but %zd were given",
                     call->signature->name, positional, n_args);
        return false;
    }
    for (Py_ssize_t i = 0; i < n_args; i++) {
        call->given[i] = args[i];
    }
    const Py_ssize_t n_keywords = keywords != NULL ? PyTuple_Size(keywords) : 0;
    int found = -1;
    for (Py_ssize_t i = 0; i < n_keywords; i++) {
        PyObject *keyword = PyTuple_GetItem(keywords, i);
        found = find_keyword(interned, keyword, found + 1);
        if (!assign(call, found, keyword, args[n_args + i])) {
            return false;
        }
    }
    return finish_parsing(call);
}

bool
py_parse_dict(py_call *call, PyObject *arguments)
{
    PyObject *name, *value;
    for (Py_ssize_t i = 0; PyDict_Next(arguments, &i, &name, &value);) {
        if (!PyUnicode_Check(name)) {
            PyErr_SetString(PyExc_TypeError, "names of arguments must be strings");
            return false;
        }
        if (!assign(call, py_find_argument(name), name, value)) {
            return false;
        }
    }
    return finish_parsing(call);
}
