/*
 * The contract of csrc/centerloss.h under libFuzzer: bytes become a batch and what
 * is wanted of it, every job runs, and what it stored is checked.
 *
 *     clang -fsanitize=fuzzer,address,undefined ... contract.c   libFuzzer's main
 *     cc -DREPLAY ... contract.c                                 contract FILE...
 *
 * Checked, by stopping with a message:
 *
 *   - the row that CL_BAD_LABEL tells is the first one out of range;
 *   - only what a job is to write changes: no byte between rows, before the first,
 *     or of a class that the batch does not touch (what lies behind an array is for
 *     AddressSanitizer: each is a block of memory of exactly its size);
 *   - results are those of plain loops in double, written anew below;
 *   - they have the same bits with several threads and on every instruction set.
 */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "centerloss.h"

static void
fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("contract: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    abort();
}

/* ------------------------------------------------------ bytes into decisions */

typedef struct {
    const uint8_t *data;
    size_t size;
} input;

/* The next bytes as a number; zeros follow the last one. */
static uint64_t
take(input *in, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes && in->size > 0; i++) {
        value |= (uint64_t)*in->data++ << (8 * i);
        in->size--;
    }
    return value;
}

/* SplitMix64. */
static uint64_t
random_bits(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* ------------------------------------------------------------------- numbers */

typedef enum {
    F16,
    BF16,
    F32,
    F64
} format;

static const struct {
    int size, fraction_bits;
    double largest, smallest; /* finite, and above zero */
} formats[] = {
    [F16] = {2, 10, 65504.0, 0x1p-24},
    [BF16] = {2, 7, 0x1.fep127, 0x1p-133},
    [F32] = {4, 23, FLT_MAX, 0x1p-149},
    [F64] = {8, 52, DBL_MAX, 0x1p-1074},
};

static const format feature_formats[CL_TYPES] = {F32, F64, F16, BF16};
static const format center_formats[CL_TYPES] = {F32, F64, F32, F32};

static double
half_value(uint16_t bits)
{
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double value = exponent == 31  ? (fraction ? NAN : INFINITY)
                   : exponent == 0 ? ldexp(fraction, -24)
                                   : ldexp(1024 + fraction, exponent - 25);
    return bits >> 15 ? -value : value;
}

static double
load(const char *p, format f)
{
    uint16_t half;
    uint32_t wide;
    float single;
    double value;
    switch (f) {
        case F16:
            memcpy(&half, p, 2);
            return half_value(half);
        case BF16:
            memcpy(&half, p, 2);
            wide = (uint32_t)half << 16;
            memcpy(&single, &wide, 4);
            return single;
        case F32:
            memcpy(&single, p, 4);
            return single;
        default:
            memcpy(&value, p, 8);
            return value;
    }
}

/* A value rounded to the type of the centers. */
static double
rounded(double value, format f)
{
    return f == F64 ? value : (double)(float)value;
}

/* A number's bits: mostly around 1, of the kinds that the input lets in. */
static uint64_t
number(format f, uint64_t random, unsigned kinds)
{
    const int exponent_bits = 8 * formats[f].size - 1 - formats[f].fraction_bits;
    const uint64_t bias = (UINT64_C(1) << (exponent_bits - 1)) - 1;
    const uint64_t top = 2 * bias + 1, kind = random & 31, sign = random >> 5 & 1;
    uint64_t exponent = bias - 4 + (random >> 6 & 7);
    uint64_t fraction = random >> (64 - formats[f].fraction_bits);
    if (kind == 0 && kinds & 1) {
        exponent = fraction = 0;
    }
    else if (kind == 1 && kinds & 2) {
        exponent = 0;
    }
    else if (kind == 2 && kinds & 4) {
        exponent = top - 1;
    }
    else if (kind == 3 && kinds & 8) {
        exponent = top;
        fraction = 0;
    }
    else if (kind == 4 && kinds & 16) {
        exponent = top;
    }
    else if (kinds & 32) {
        exponent = (random >> 6) % top;
    }
    return ((sign << exponent_bits | exponent) << formats[f].fraction_bits) | fraction;
}

/* -------------------------------------------------------------------- arrays */

enum {
    FILL = 0x5a
};

/* Rows in a block of memory of exactly the bytes that they reach over, after some
 * that give them their place within a cache line. */
typedef struct {
    char *memory, *first;
    int64_t rows, row_bytes, stride, bytes;
} array;

/* How rows lie: bits of `layout` say where, how far apart and in which direction. */
static array
make_array(int64_t rows, int64_t row_bytes, int64_t unit, unsigned layout)
{
    const int64_t place = (layout & 7) * unit;
    const int64_t gap = layout & 8 ? (layout >> 4 & 3) * unit : 0;
    const int64_t step = row_bytes + gap, last = rows > 0 ? (rows - 1) * step : 0;
    array a = {.rows = rows, .row_bytes = row_bytes, .stride = step};
    a.bytes = place + (rows > 0 ? last + row_bytes : 0);
    a.memory = malloc((size_t)a.bytes);
    if (a.memory == NULL && a.bytes > 0) {
        fail("the harness itself is out of memory");
    }
    a.first = a.memory == NULL ? NULL : a.memory + place;
    if (layout & 64 && rows > 0) {
        a.first += last;
        a.stride = -step;
    }
    if (a.bytes > 0) {
        memset(a.memory, FILL, (size_t)a.bytes);
    }
    return a;
}

static char *
row_of(const array *a, int64_t row)
{
    return a->first + row * a->stride;
}

static array
copy_of(const array *a)
{
    array copy = *a;
    copy.memory = malloc((size_t)a->bytes);
    if (a->bytes > 0) {
        if (copy.memory == NULL) {
            fail("the harness itself is out of memory");
        }
        memcpy(copy.memory, a->memory, (size_t)a->bytes);
        copy.first = copy.memory + (a->first - a->memory);
    }
    return copy;
}

static void
fill_numbers(array *a, format f, unsigned kinds, uint64_t *state)
{
    const int size = formats[f].size;
    for (int64_t i = 0; i < a->rows; i++) {
        for (int64_t at = 0; at < a->row_bytes; at += size) {
            const uint64_t bits = number(f, random_bits(state), kinds);
            memcpy(row_of(a, i) + at, &bits, (size_t)size);
        }
    }
}

/* Every byte that is in no row is as it was. */
static void
check_gaps(const array *a, const char *name)
{
    array copy = copy_of(a);
    for (int64_t i = 0; i < a->rows; i++) {
        memset(row_of(&copy, i), FILL, (size_t)a->row_bytes);
    }
    for (int64_t at = 0; at < copy.bytes; at++) {
        if (copy.memory[at] != FILL) {
            fail("%s: byte %" PRId64 " beside the rows changed", name, at);
        }
    }
    free(copy.memory);
}

/* ------------------------------------------------------- a batch, as decoded */

typedef struct {
    cl_batch batch;
    cl_objective objective;
    cl_rate rate;
    int needs, threads, isa;
    bool wants_gradient;
    unsigned gradient_layout, deltas_layout, losses_layout;
    array features, centers, labels;
    double *weights;
} test_case;

/* Sizes: mostly small, now and then such that chunks, segments, threads or stores
 * past the cache come into play. */
static void
take_sizes(input *in, cl_batch *b)
{
    const unsigned kind = (unsigned)take(in, 1);
    const int64_t rows = (int64_t)take(in, 2), columns = (int64_t)take(in, 2);
    const int64_t classes = (int64_t)take(in, 3);
    b->B = rows % 300;
    b->D = columns % 71;
    b->K = classes % 400;
    if (kind >= 250) { /* several segments */
        b->B = 20000 + rows % 60000;
        b->D = columns % 33;
    }
    else if (kind >= 246) { /* rows that are staged */
        b->B = 2200 + rows % 1000;
        b->D = 512 + columns % 30;
    }
    else if (kind >= 238) { /* several threads */
        b->B = 3000 + rows % 3000;
        b->D = 180 + columns % 300;
    }
    else if (kind >= 220) { /* several chunks */
        b->B = rows % 3000;
    }
    if (kind & 1 && b->D <= 70) { /* classes beyond a digit of the sort */
        b->K = classes % 200000 / (b->D + 1);
    }
}

static uint64_t
label_mask(int size)
{
    return size == 8 ? UINT64_MAX : (UINT64_C(1) << (8 * size)) - 1;
}

/* Labels: of all classes, of the first few, of one, or ascending; then a few rows at
 * the edges, or with any bytes at all. */
static void
fill_labels(input *in, test_case *t, uint64_t *state)
{
    const cl_batch *b = &t->batch;
    const unsigned kind = (unsigned)take(in, 1);
    const uint64_t K = (uint64_t)(b->K > 0 ? b->K : 1);
    const uint64_t most = label_mask(b->label_size) >> b->label_signed;
    for (int64_t i = 0; i < b->B; i++) {
        const uint64_t random = random_bits(state);
        uint64_t label = kind % 4 == 0   ? random % K
                         : kind % 4 == 1 ? random % (K < 3 ? K : 3)
                         : kind % 4 == 2 ? kind % K
                                         : (uint64_t)i % K;
        if (kind & 16 && random >> 60 == 0) {
            label = (uint64_t)b->ignore_index;
        }
        else if (label > most) {
            label = most < K ? most : 0;
        }
        memcpy(row_of(&t->labels, i), &label, (size_t)b->label_size);
    }
    for (int n = kind >> 6; n > 0 && b->B > 0; n--) {
        const int64_t row = (int64_t)(take(in, 4) % (uint64_t)b->B);
        const unsigned which = (unsigned)take(in, 1) % 4;
        const uint64_t label = which == 0   ? (uint64_t)b->K
                               : which == 1 ? (uint64_t)b->ignore_index
                               : which == 2 ? K - 1
                                            : take(in, 8);
        memcpy(row_of(&t->labels, row), &label, (size_t)b->label_size);
    }
}

/* A finite number >= 0: any at all, or a common one. */
static double
take_factor(input *in)
{
    const unsigned kind = (unsigned)take(in, 1);
    if (kind < 224) {
        return kind / 64.0;
    }
    const uint64_t bits = take(in, 8) & INT64_MAX;
    double value;
    memcpy(&value, &bits, 8);
    return isfinite(value) ? value : 1.0;
}

static void
fill_weights(input *in, test_case *t, uint64_t *state)
{
    const unsigned kind = (unsigned)take(in, 1);
    const int64_t B = t->batch.B;
    if (kind % 2 == 0) {
        return;
    }
    t->weights = malloc((size_t)B * 8);
    for (int64_t i = 0; i < B; i++) {
        const uint64_t random = random_bits(state);
        const bool zero = kind & 2 ? random % 4 == 0 : (kind & 4) != 0;
        t->weights[i] = zero ? 0.0 : (double)(random >> 11) * 0x1p-51;
    }
    if (kind & 8 && B > 0) {
        t->weights[take(in, 4) % (uint64_t)B] = take_factor(in);
    }
    t->batch.weights = t->weights;
}

/* Rows on one another, where they are only read. */
static void
take_zero_strides(input *in, test_case *t)
{
    const unsigned zero = (unsigned)take(in, 1);
    if (zero % 8 == 1) {
        t->features.stride = 0;
    }
    if (zero % 8 == 2) {
        t->labels.stride = 0;
    }
    if (zero % 8 == 3 && !(t->needs & CL_GROUPS)) {
        t->centers.stride = 0;
    }
}

static void
take_options(input *in, test_case *t)
{
    cl_batch *b = &t->batch;
    const unsigned bits = (unsigned)take(in, 2);
    b->types = bits % CL_TYPES;
    b->label_size = 1 << (bits >> 2 & 3);
    b->label_signed = bits >> 4 & 1;
    b->ignores = bits >> 5 & 1;
    t->needs = 1 + (int)(bits >> 6 & 3) % 3;
    t->threads = 1 + (int)(bits >> 8 & 3);
    t->objective.reduction = (bits >> 10 & 3) % 3;
    t->rate.normalize = bits >> 12 & 1;
    t->wants_gradient = (bits >> 13 & 3) != 0;
    b->ignore_index = (int64_t)take(in, 1) - 2;
    if (bits >> 15) {
        b->ignore_index = (int64_t)take(in, 8);
    }
    t->objective.loss_weight = take_factor(in);
    t->rate.alpha = take_factor(in);
    t->gradient_layout = (unsigned)take(in, 1);
    t->deltas_layout = (unsigned)take(in, 1);
    t->losses_layout = (unsigned)take(in, 1);
}

static test_case
take_case(input *in)
{
    test_case t = {0};
    cl_batch *b = &t.batch;
    take_options(in, &t);
    take_sizes(in, b);
    const int feature = formats[feature_formats[b->types]].size;
    const int center = formats[center_formats[b->types]].size;
    t.features = make_array(b->B, b->D * feature, feature, (unsigned)take(in, 1));
    t.centers = make_array(b->K, b->D * center, center, (unsigned)take(in, 1));
    t.labels = make_array(b->B, b->label_size, 1, (unsigned)take(in, 1));
    take_zero_strides(in, &t);
    const unsigned kinds = (unsigned)take(in, 1);
    uint64_t state = take(in, 8);
    fill_numbers(&t.features, feature_formats[b->types], kinds, &state);
    fill_numbers(&t.centers, center_formats[b->types], kinds, &state);
    fill_weights(in, &t, &state);
    fill_labels(in, &t, &state);
    b->features = t.features.first;
    b->feature_stride = t.features.stride;
    b->labels = t.labels.first;
    b->label_stride = t.labels.stride;
    b->center_stride = t.centers.stride;
    return t;
}

static void
free_case(test_case *t)
{
    free(t->features.memory);
    free(t->centers.memory);
    free(t->labels.memory);
    free(t->weights);
}

/* ------------------------------------------------- the jobs, and their results */

/* What all jobs of a plan stored. */
typedef struct {
    cl_status status;
    int64_t bad_row, counted, classes;
    double loss, step_loss, plan_weight;
    array losses, gradient, step_losses, step_gradient; /* B rows */
    array stepped, updated, deltas;                     /* K rows */
    int64_t *touched;                                   /* U of each */
    array sums;
    double *counts;
} results;

static cl_result
result_of(double *loss, array *losses, array *gradient, bool wants_gradient)
{
    return (cl_result){
        .loss = loss,
        .row_losses = losses->first,
        .row_loss_stride = losses->stride,
        .gradient = wants_gradient ? gradient->first : NULL,
        .gradient_stride = gradient->stride,
    };
}

static void
run_loss_jobs(const test_case *t, cl_batch *b, const cl_plan *plan, results *r)
{
    const int feature = formats[feature_formats[b->types]].size;
    const int center = formats[center_formats[b->types]].size;
    r->losses = make_array(b->B, center, center, t->losses_layout);
    r->gradient = make_array(b->B, b->D * feature, feature, t->gradient_layout);
    cl_result result = result_of(&r->loss, &r->losses, &r->gradient, t->wants_gradient);
    cl_value_and_grad(b, plan, &t->objective, &result);
    if (!(t->needs & CL_GROUPS)) {
        return;
    }
    r->step_losses = make_array(b->B, center, center, t->losses_layout);
    r->step_gradient = make_array(b->B, b->D * feature, feature, t->gradient_layout);
    r->stepped = copy_of(&t->centers);
    b->centers = r->stepped.first;
    result = result_of(&r->step_loss, &r->step_losses, &r->step_gradient, true);
    cl_step(b, plan, &t->objective, &t->rate, &result);
}

static void
run_group_jobs(const test_case *t, cl_batch *b, const cl_plan *plan, results *r)
{
    const int center = formats[center_formats[b->types]].size;
    const array before = copy_of(&t->centers);
    b->centers = t->centers.first;
    r->deltas = make_array(b->K, b->D * center, center, t->deltas_layout);
    cl_center_delta(b, plan, t->rate.normalize, r->deltas.first, r->deltas.stride);
    const size_t U = (size_t)plan->classes;
    r->touched = malloc(U * 8);
    r->sums = make_array(plan->classes, b->D * center, center, 0);
    r->counts = malloc(U * 8);
    cl_class_sums(b, plan, r->touched, r->sums.first, r->counts);
    if (before.bytes > 0 && memcmp(before.memory, t->centers.memory, before.bytes)) {
        fail("a job that reads the centers changed them");
    }
    r->updated = before;
    b->centers = r->updated.first;
    cl_update_centers(b, plan, &t->rate);
}

static results
run_jobs(const test_case *t, const char *isa, int threads)
{
    results r = {0};
    cl_batch b = t->batch;
    cl_plan plan;
    if (!cl_select_isa(isa)) {
        fail("no instruction set %s", isa);
    }
    b.centers = t->centers.first;
    r.status = cl_plan_make(&plan, &b, t->needs, threads);
    r.bad_row = plan.bad_row;
    r.counted = plan.counted;
    r.classes = plan.classes;
    r.plan_weight = plan.weight;
    if (r.status == CL_NO_MEMORY) {
        fail("out of memory, of all things");
    }
    if (r.status == CL_OK && t->needs & CL_LOSSES) {
        run_loss_jobs(t, &b, &plan, &r);
    }
    if (r.status == CL_OK && t->needs & CL_GROUPS) {
        run_group_jobs(t, &b, &plan, &r);
    }
    cl_plan_free(&plan);
    return r;
}

static void
free_results(results *r)
{
    array *arrays[] = {&r->losses,  &r->gradient, &r->step_losses, &r->step_gradient,
                       &r->stepped, &r->updated,  &r->deltas,      &r->sums};
    for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++) {
        free(arrays[i]->memory);
    }
    free(r->touched);
    free(r->counts);
}

/* ----------------------------------------------- the same bits, but those of NaN */

static void
same_array(const array *a, const array *b, format f, const char *name)
{
    if (a->bytes != b->bytes || a->bytes == 0 ||
        memcmp(a->memory, b->memory, (size_t)a->bytes) == 0) {
        if (a->bytes != b->bytes) {
            fail("%s: of another size in another run", name);
        }
        return;
    }
    const int size = formats[f].size;
    for (int64_t i = 0; i < a->rows; i++) {
        for (int64_t at = 0; at < a->row_bytes; at += size) {
            const char *p = row_of(a, i) + at, *q = row_of(b, i) + at;
            const bool nan = isnan(load(p, f)) && isnan(load(q, f));
            if (!nan && memcmp(p, q, (size_t)size) != 0) {
                fail("%s: other bits in row %" PRId64, name, i);
            }
        }
    }
}

static void
same_double(double a, double b, const char *name)
{
    if (!(isnan(a) && isnan(b)) && memcmp(&a, &b, 8) != 0) {
        fail("%s: %a in one run, %a in another", name, a, b);
    }
}

static void
same_results(const test_case *t, const results *a, const results *b)
{
    const format x = feature_formats[t->batch.types];
    const format c = center_formats[t->batch.types];
    if (a->status != b->status || a->bad_row != b->bad_row ||
        a->counted != b->counted || a->classes != b->classes) {
        fail("plans differ");
    }
    same_double(a->plan_weight, b->plan_weight, "W");
    same_double(a->loss, b->loss, "loss");
    same_double(a->step_loss, b->step_loss, "loss of a step");
    same_array(&a->losses, &b->losses, c, "row losses");
    same_array(&a->gradient, &b->gradient, x, "gradient");
    same_array(&a->step_losses, &b->step_losses, c, "row losses of a step");
    same_array(&a->step_gradient, &b->step_gradient, x, "gradient of a step");
    same_array(&a->stepped, &b->stepped, c, "centers of a step");
    same_array(&a->updated, &b->updated, c, "centers");
    same_array(&a->deltas, &b->deltas, c, "deltas");
    same_array(&a->sums, &b->sums, c, "sums");
    if (a->touched != NULL && a->classes > 0 &&
        memcmp(a->touched, b->touched, (size_t)a->classes * 8) != 0) {
        fail("classes differ");
    }
    for (int64_t u = 0; a->counts != NULL && u < a->classes; u++) {
        same_double(a->counts[u], b->counts[u], "count");
    }
}

/* --------------------------------------------------------------- plain loops */

/* A sum, and that of the finite magnitudes, which rounding errors are measured by. */
typedef struct {
    double sum, size;
} total;

static void
add(total *t, double value)
{
    t->sum += value;
    t->size += isfinite(value) ? fabs(value) : 0.0;
}

/* Sums whose parts may or may not overflow, by their order. */
static bool
tells_nothing(const total *t)
{
    return t->size > 1e300;
}

/* `got`, of type f, is `expected` but for a few roundings of it and of what it was
 * added up from, `size`. Where that may overflow, it has to be huge at least. */
static void
check_close(double got, double expected, double size, format f, const char *name,
            int64_t row)
{
    const double unit = ldexp(1.0, -formats[f].fraction_bits);
    const double slack =
        4 * unit * fabs(expected) + 1e-12 * size + 4 * formats[f].smallest;
    if (isnan(expected) ? isnan(got) : fabs(got - expected) <= slack) {
        return;
    }
    if (got == expected) { /* infinities */
        return;
    }
    const double edge = formats[f].largest * 0.99;
    const bool both_huge = fabs(got) > edge && fabs(expected) > edge;
    if (!(both_huge && signbit(got) == signbit(expected))) {
        fail("%s of row %" PRId64 " is %.17g, expected %.17g", name, row, got,
             expected);
    }
}

/* The label of a row; `huge` if it is above INT64_MAX. */
static int64_t
label_of(const test_case *t, int64_t row, bool *huge)
{
    const cl_batch *b = &t->batch;
    uint64_t bits = 0;
    memcpy(&bits, b->labels + row * b->label_stride, (size_t)b->label_size);
    *huge = !b->label_signed && bits > INT64_MAX;
    const uint64_t sign = UINT64_C(1) << (8 * b->label_size - 1);
    if (b->label_signed && bits & sign) {
        bits |= ~label_mask(b->label_size);
    }
    return (int64_t)bits;
}

/* Class of every row, -1 if it is ignored; returns the first that is wrong, or -1. */
static int64_t
read_classes(const test_case *t, int64_t *classes)
{
    for (int64_t i = 0; i < t->batch.B; i++) {
        bool huge;
        const int64_t label = label_of(t, i, &huge);
        const bool ignored =
            t->batch.ignores && !huge && label == t->batch.ignore_index;
        classes[i] = ignored ? -1 : label;
        if (!ignored && (huge || label < 0 || label >= t->batch.K)) {
            return i;
        }
    }
    return -1;
}

static double
weight_of(const test_case *t, int64_t row)
{
    return t->weights != NULL ? t->weights[row] : 1.0;
}

/* x - c, rounded to the type of the centers. */
static double
difference(const test_case *t, int64_t row, int64_t class, int64_t j)
{
    const format x = feature_formats[t->batch.types],
                 c = center_formats[t->batch.types];
    const double feature = load(row_of(&t->features, row) + j * formats[x].size, x);
    const double center = load(row_of(&t->centers, class) + j * formats[c].size, c);
    return rounded(feature - center, c);
}

static double
factor_of(const test_case *t, const int64_t *classes, const results *r)
{
    total W = {0, 0};
    for (int64_t i = 0; i < t->batch.B; i++) {
        add(&W, classes[i] < 0 ? 0.0 : weight_of(t, i));
    }
    check_close(r->plan_weight, W.sum, W.size, F64, "W", 0);
    if (t->objective.reduction != CL_MEAN) {
        return t->objective.loss_weight;
    }
    /* Of a tiny or huge W the last bits count; they are those of the plan. */
    return r->plan_weight > 0 ? t->objective.loss_weight / r->plan_weight : 0.0;
}

static void
check_gradient_row(const test_case *t, const array *gradient, int64_t row,
                   int64_t class, double factor)
{
    const format x = feature_formats[t->batch.types],
                 c = center_formats[t->batch.types];
    const double scale = rounded(weight_of(t, row) * factor, c);
    for (int64_t j = 0; j < t->batch.D; j++) {
        const double d = class < 0 ? 0.0 : difference(t, row, class, j);
        const double expected = class < 0 ? 0.0 : rounded(d * scale, c);
        const double got = load(row_of(gradient, row) + j * formats[x].size, x);
        check_close(got, expected, 0, x, "gradient", row);
    }
}

static double
row_loss(const test_case *t, int64_t row, int64_t class)
{
    double squares = 0;
    for (int64_t j = 0; class >= 0 && j < t->batch.D; j++) {
        const double d = difference(t, row, class, j);
        squares += d * d;
    }
    return class < 0 ? 0.0 : weight_of(t, row) * (0.5 * squares);
}

static void
check_losses(const test_case *t, const int64_t *classes, double factor, double loss,
             const array *losses)
{
    const format c = center_formats[t->batch.types];
    total all = {0, 0};
    for (int64_t i = 0; i < t->batch.B; i++) {
        const double expected = row_loss(t, i, classes[i]);
        add(&all, expected);
        if (t->objective.reduction == CL_NONE) {
            const double value = classes[i] < 0 ? 0.0 * factor : factor * expected;
            const double smallest = factor * formats[F64].smallest * 1e12;
            check_close(load(row_of(losses, i), c), value, smallest + fabs(value), c,
                        "loss", i);
        }
    }
    if (t->objective.reduction != CL_NONE && !tells_nothing(&all)) {
        const bool empty = t->objective.reduction == CL_MEAN && factor == 0.0 &&
                           t->objective.loss_weight > 0.0;
        const double value = empty ? 0.0 : factor * all.sum;
        const double smallest = factor * formats[F64].smallest * 1e15;
        check_close(loss, value, smallest + fabs(value), F64, "total loss", 0);
    }
    else if (t->objective.reduction == CL_NONE && loss != 0.0) {
        fail("a number was stored for CL_NONE");
    }
}

static void
check_loss_results(const test_case *t, const int64_t *classes, const results *r)
{
    const double factor = factor_of(t, classes, r);
    const bool steps = t->needs & CL_GROUPS;
    check_losses(t, classes, factor, r->loss, &r->losses);
    if (steps) {
        check_losses(t, classes, factor, r->step_loss, &r->step_losses);
    }
    for (int64_t i = 0; i < t->batch.B; i++) {
        if (t->wants_gradient) {
            check_gradient_row(t, &r->gradient, i, classes[i], factor);
        }
        if (steps) {
            check_gradient_row(t, &r->step_gradient, i, classes[i], factor);
        }
    }
    check_gaps(&r->losses, "row losses");
    check_gaps(&r->gradient, "gradient");
    if (steps) {
        check_gaps(&r->step_losses, "row losses of a step");
        check_gaps(&r->step_gradient, "gradient of a step");
    }
}

/* The sums of every class, (K, D), and its weight and number of rows. */
typedef struct {
    total *sums, *weights;
    int64_t *rows;
} class_totals;

static class_totals
add_up_classes(const test_case *t, const int64_t *classes)
{
    const int64_t K = t->batch.K, D = t->batch.D;
    class_totals c = {
        .sums = calloc((size_t)(K * D) + 1, sizeof(total)),
        .weights = calloc((size_t)K + 1, sizeof(total)),
        .rows = calloc((size_t)K + 1, sizeof(int64_t)),
    };
    for (int64_t i = 0; i < t->batch.B; i++) {
        const int64_t class = classes[i];
        if (class < 0) {
            continue;
        }
        c.rows[class]++;
        add(&c.weights[class], weight_of(t, i));
        for (int64_t j = 0; j < D; j++) {
            add(&c.sums[class * D + j], weight_of(t, i) * difference(t, i, class, j));
        }
    }
    return c;
}

static void
check_center_row(const test_case *t, const class_totals *c, const results *r,
                 int64_t class, int64_t rank)
{
    const format f = center_formats[t->batch.types];
    const double n = 1.0 + c->weights[class].sum;
    const double share = t->rate.normalize ? 1.0 / n : 1.0;
    const double rate = t->rate.alpha * share;
    for (int64_t j = 0; j < t->batch.D; j++) {
        const total *sum = &c->sums[class * t->batch.D + j];
        const int64_t at = j * formats[f].size;
        if (tells_nothing(sum)) {
            continue;
        }
        check_close(load(row_of(&r->sums, rank) + at, f), sum->sum, sum->size, f, "sum",
                    class);
        check_close(load(row_of(&r->deltas, class) + at, f), -share * sum->sum,
                    share * sum->size + formats[F64].smallest * sum->size, f, "delta",
                    class);
        const double old = load(row_of(&t->centers, class) + at, f);
        const double moved = old + rate * sum->sum;
        const double size = fabs(old) + rate * sum->size;
        if (rate * sum->size > 1e300) {
            continue;
        }
        check_close(load(row_of(&r->updated, class) + at, f), moved, size, f, "center",
                    class);
        if (t->needs & CL_LOSSES) {
            check_close(load(row_of(&r->stepped, class) + at, f), moved, size, f,
                        "center of a step", class);
        }
    }
}

static void
check_absent_row(const test_case *t, const results *r, int64_t class)
{
    const size_t bytes = (size_t)t->centers.row_bytes;
    const char *old = row_of(&t->centers, class);
    if (bytes == 0) {
        return;
    }
    if (memcmp(old, row_of(&r->updated, class), bytes) != 0 ||
        (t->needs & CL_LOSSES && memcmp(old, row_of(&r->stepped, class), bytes) != 0)) {
        fail("center %" PRId64 " moved without a row", class);
    }
    const char *delta = row_of(&r->deltas, class);
    for (size_t i = 0; i < bytes; i++) {
        if (delta[i] != 0) {
            fail("delta %" PRId64 " is not zero without a row", class);
        }
    }
}

static void
check_group_results(const test_case *t, const int64_t *classes, const results *r)
{
    class_totals c = add_up_classes(t, classes);
    int64_t rank = 0;
    for (int64_t class = 0; class < t->batch.K; class++) {
        if (c.rows[class] == 0) {
            check_absent_row(t, r, class);
            continue;
        }
        if (rank >= r->classes || r->touched[rank] != class) {
            fail("class %" PRId64 " is missing from the classes", class);
        }
        check_close(r->counts[rank], c.weights[class].sum, c.weights[class].size, F64,
                    "count", class);
        check_center_row(t, &c, r, class, rank);
        rank++;
    }
    if (rank != r->classes) {
        fail("%" PRId64 " classes, expected %" PRId64, r->classes, rank);
    }
    check_gaps(&r->deltas, "deltas");
    check_gaps(&r->updated, "centers");
    if (t->needs & CL_LOSSES) {
        check_gaps(&r->stepped, "centers of a step");
    }
    free(c.sums);
    free(c.weights);
    free(c.rows);
}

static void
check_results(const test_case *t, const results *r)
{
    int64_t *classes = calloc((size_t)t->batch.B + 1, sizeof(*classes));
    const int64_t bad_row = read_classes(t, classes);
    if (bad_row != r->bad_row || (bad_row >= 0) != (r->status == CL_BAD_LABEL)) {
        fail("the first bad row is %" PRId64 ", not %" PRId64, bad_row, r->bad_row);
    }
    if (r->status == CL_OK) {
        int64_t counted = 0;
        for (int64_t i = 0; i < t->batch.B; i++) {
            counted += classes[i] >= 0;
        }
        if (counted != r->counted) {
            fail("%" PRId64 " rows count, expected %" PRId64, r->counted, counted);
        }
        if (t->needs & CL_LOSSES) {
            check_loss_results(t, classes, r);
        }
        if (t->needs & CL_GROUPS) {
            check_group_results(t, classes, r);
        }
    }
    free(classes);
}

/* ------------------------------------------------------------------- the run */

static void
run_again(const test_case *t, const results *first, const char *isa, int threads)
{
    results again = run_jobs(t, isa, threads);
    same_results(t, first, &again);
    free_results(&again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, size};
    test_case t = take_case(&in);
    char names[128];
    snprintf(names, sizeof(names), "%s", cl_isa_names());
    const char *isa = strtok(names, ", ");
    results first = run_jobs(&t, isa, 1);
    check_results(&t, &first);
    for (; isa != NULL; isa = strtok(NULL, ", ")) {
        run_again(&t, &first, isa, t.threads);
    }
    free_results(&first);
    free_case(&t);
    return 0;
}

#ifdef REPLAY
int
main(int argc, char **argv)
{
    static uint8_t bytes[1 << 16];
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        if (file == NULL) {
            fail("no file %s", argv[i]);
        }
        const size_t size = fread(bytes, 1, sizeof(bytes), file);
        fclose(file);
        fprintf(stderr, "%s\n", argv[i]);
        LLVMFuzzerTestOneInput(bytes, size);
    }
    return 0;
}
#endif
