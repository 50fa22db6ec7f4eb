/*
 * A batch in parts, as the owners of its classes see it:
 *
 *     places                          prints the names of the instruction sets here
 *     places NAME THREADS             compares the results of parts and batch
 *     places NAME THREADS without     the same, for parts without places
 *     places NAME THREADS garbage     only runs parts whose places change meanwhile
 *
 * Each line that is printed has a type, the number of classes, how many of the centers'
 * values differ, and how many of the rows' terms and gradients.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "centerloss.h"
#include "random_bits.h"

enum {
    B = 40000, /* two segments */
    D = 48,    /* each part is large enough for two threads */
    OWNERS = 3,
    MAX_K = 4000,
    IGNORED = -7
};

static const struct {
    const char *name;
    int feature_size, center_size, feature_fraction, center_fraction;
} types_of[CL_TYPES] = {
    [CL_FLOAT32] = {"float32", 4, 4, 23, 23},
    [CL_FLOAT64] = {"float64", 8, 8, 52, 52},
    [CL_FLOAT16_FLOAT32] = {"float16", 2, 4, 10, 23},
    [CL_BFLOAT16_FLOAT32] = {"bfloat16", 2, 4, 7, 23},
};

/* Rows of a batch or of a part of it, and their results. */
typedef struct {
    cl_batch batch;
    char features[B * D * 8], gradient[B * D * 8];
    int64_t labels[B], places[B];
    double weights[B], terms[B];
    double loss, total_weight;
} rows;

typedef struct {
    char values[MAX_K * D * 8];
} centers;

static rows whole, part;
static centers initial, expected, got;

static void
stop(const char *message)
{
    fprintf(stderr, "places: %s\n", message);
    exit(2);
}

/* Numbers of magnitudes from 1/8 to 2; all are finite. */
static void
fill_numbers(char *p, int64_t count, int size, int fraction_bits, uint64_t *state)
{
    const int exponent_bits = 8 * size - 1 - fraction_bits;
    const uint64_t bias = (UINT64_C(1) << (exponent_bits - 1)) - 1;
    for (int64_t i = 0; i < count; i++) {
        const uint64_t random = random_bits(state);
        const uint64_t sign = random & 1, exponent = bias - 3 + (random >> 1 & 3);
        const uint64_t fraction = random >> (64 - fraction_bits);
        const uint64_t bits =
            ((sign << exponent_bits | exponent) << fraction_bits) | fraction;
        memcpy(p + i * size, &bits, (size_t)size);
    }
}

static void
set_batch(rows *r, cl_types types, int64_t n, int64_t K)
{
    r->batch = (cl_batch){
        .types = types,
        .B = n,
        .D = D,
        .K = K,
        .features = r->features,
        .feature_stride = D * types_of[types].feature_size,
        .center_stride = D * types_of[types].center_size,
        .labels = (const char *)r->labels,
        .label_stride = 8,
        .label_size = 8,
        .label_signed = true,
        .has_ignore_index = true,
        .ignore_index = IGNORED,
        .weights = r->weights,
    };
}

/* A third of the rows is of class 0, one in 16 is ignored; with `bad_rows`, one in 64
 * is not finite. */
static void
make_whole(cl_types types, int64_t K, bool bad_rows)
{
    const int size = types_of[types].feature_size;
    uint64_t state = (uint64_t)(K << 8) | types;
    set_batch(&whole, types, B, K);
    fill_numbers(whole.features, B * D, size, types_of[types].feature_fraction, &state);
    fill_numbers(initial.values, K * D, types_of[types].center_size,
                 types_of[types].center_fraction, &state);
    for (int64_t i = 0; i < B; i++) {
        const uint64_t random = random_bits(&state);
        whole.places[i] = i;
        whole.labels[i] = random % 3 == 0 ? 0 : (int64_t)(random >> 32) % K;
        whole.weights[i] = random & 4 ? (double)(random >> 11) * 0x1p-52 : 1.0;
        if (random >> 60 == 0) {
            whole.labels[i] = IGNORED;
        }
        if (bad_rows && (random >> 4 & 63) == 0) {
            memset(whole.features + (i * D + 5) * size, 0xff, (size_t)size); /* NaN */
        }
    }
}

static int64_t
owner_of(int64_t row)
{
    return (whole.labels[row] == IGNORED ? row : whole.labels[row]) % OWNERS;
}

/* The rows of an owner, of the places first..last-1. */
static void
take_part(int64_t owner, int64_t first, int64_t last)
{
    const cl_types types = whole.batch.types;
    const int64_t bytes = whole.batch.feature_stride;
    int64_t n = 0;
    for (int64_t i = first; i < last; i++) {
        if (owner_of(i) == owner) {
            memcpy(part.features + n * bytes, whole.features + i * bytes,
                   (size_t)bytes);
            part.labels[n] = whole.labels[i];
            part.weights[n] = whole.weights[i];
            part.places[n++] = i;
        }
    }
    set_batch(&part, types, n, whole.batch.K);
}

/* A step at `c`. With `garbage` the places change after the plan is made. */
static void
run_step(rows *r, centers *c, int threads, bool garbage)
{
    const cl_loss_options loss_options = {
        .reduction = CL_MEAN,
        .loss_weight = 1.5,
        .total_weight = r == &part ? &whole.total_weight : NULL,
    };
    const cl_update_options update_options = {0.3, true, true};
    const cl_outputs outputs = {
        .loss = &r->loss,
        .terms = r->terms,
        .gradient = r->gradient,
        .gradient_stride = r->batch.feature_stride,
    };
    cl_plan plan;
    r->batch.centers = c->values;
    if (cl_plan_make(&plan, &r->batch, CL_LOSSES | CL_GROUPS, threads) != CL_OK) {
        stop("no plan");
    }
    r->total_weight = plan.weight;
    uint64_t state = 1;
    for (int64_t i = 0; i < r->batch.B && garbage; i++) {
        r->places[i] = (int64_t)random_bits(&state) >> (i % 64);
    }
    cl_step(&r->batch, &plan, c->values, &loss_options, &update_options, &outputs);
    cl_plan_free(&plan);
}

static int64_t
differing(const void *a, const void *b, int64_t count, int64_t size)
{
    int64_t n = 0;
    for (int64_t i = 0; i < count; i++) {
        n += memcmp((const char *)a + i * size, (const char *)b + i * size,
                    (size_t)size) != 0;
    }
    return n;
}

/* How many terms and gradients of the part's rows are not those of the whole batch. */
static int64_t
differing_rows(void)
{
    const int64_t bytes = part.batch.feature_stride;
    int64_t n = 0;
    for (int64_t i = 0; i < part.batch.B; i++) {
        const int64_t place = part.places[i];
        n += differing(&part.terms[i], &whole.terms[place], 1, 8);
        n += differing(part.gradient + i * bytes, whole.gradient + place * bytes, 1,
                       bytes);
    }
    return n;
}

static int64_t
differing_centers(void)
{
    const int64_t size = types_of[whole.batch.types].center_size;
    return differing(expected.values, got.values, whole.batch.K * D, size);
}

/* Is the loss the factor times the sum of the terms? */
static void
check_loss(void)
{
    const double loss = 1.5 / whole.total_weight * cl_sum(whole.terms, B);
    const bool both_nan = loss != loss && whole.loss != whole.loss;
    if (loss != whole.loss && !both_nan) {
        stop("the terms do not add up to the loss");
    }
}

static const struct {
    int64_t K, first, last; /* the other rows are ignored, and no owner has them */
    bool bad_rows;
} cases[] = {
    {10, 0, B, false},
    {MAX_K, 0, B, true},
    {10, 33000, B, true}, /* one segment, which is not the first */
};

enum {
    CASES = sizeof(cases) / sizeof(cases[0])
};

typedef enum {
    WITH_PLACES,
    WITHOUT,
    GARBAGE
} how_places_are;

/* Compare the steps of all owners, from the same old centers, with that of the whole
 * batch. */
static void
compare(cl_types types, int i, int threads, how_places_are how)
{
    const int64_t first = cases[i].first, last = cases[i].last;
    make_whole(types, cases[i].K, cases[i].bad_rows);
    for (int64_t row = 0; row < B; row++) {
        whole.labels[row] = row >= first && row < last ? whole.labels[row] : IGNORED;
    }
    expected = got = initial;
    run_step(&whole, &expected, threads, false);
    check_loss();
    int64_t differ = 0;
    for (int64_t owner = 0; owner < OWNERS; owner++) {
        take_part(owner, first, last);
        part.batch.places = how == WITHOUT ? NULL : part.places;
        run_step(&part, &got, threads, how == GARBAGE);
        differ += how == GARBAGE ? 0 : differing_rows();
    }
    printf("%s %" PRId64 " %" PRId64 " %" PRId64 "\n", types_of[types].name, cases[i].K,
           how == GARBAGE ? 0 : differing_centers(), differ);
    if (how == WITH_PLACES) { /* places that are those without places */
        got = initial;
        whole.batch.places = whole.places;
        run_step(&whole, &got, threads, false);
        if (differing_centers() > 0) {
            stop("the whole batch with places has other bits");
        }
    }
}

int
main(int argc, char **argv)
{
    if (argc == 1) {
        puts(cl_isa_names());
        return 0;
    }
    const int threads = argc >= 3 ? atoi(argv[2]) : 0;
    const char *word = argc == 4 ? argv[3] : "";
    if (threads < 1 || !cl_select_isa(argv[1])) {
        stop("usage: places [NAME THREADS [without|garbage]]");
    }
    const how_places_are how = strcmp(word, "without") == 0   ? WITHOUT
                               : strcmp(word, "garbage") == 0 ? GARBAGE
                                                              : WITH_PLACES;
    for (int types = 0; types < CL_TYPES; types++) {
        for (int i = 0; i < CASES; i++) {
            compare((cl_types)types, i, threads, how);
        }
    }
    return 0;
}
