/*
 * Hashes of what the operations of csrc/kernels store, without Python:
 *
 *     bits                        prints the names of the instruction sets here
 *     bits NAME THREADS           prints a line per batch, computed with one of them
 *     bits NAME THREADS small     only for batches that use one thread
 *     bits NAME THREADS large     only for batches that use all threads
 *
 * The lines are those of golden.txt for every instruction set, number of
 * threads, compiler and processor of little-endian byte order. Therefore the
 * batches are made from integers. They contain zeros of both signs and subnormal
 * numbers, but no NaN: processors differ in the bits of the NaN they produce.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32 /* which has its own names for C11's */
#include <malloc.h>
#define aligned_alloc(alignment, size) _aligned_malloc(size, alignment)
#define free _aligned_free
#endif

#include "centerloss.h"
#include "random_bits.h"

/* The bits of a number of a type, below the sign. */
typedef struct {
    int64_t size;
    int exponent_bits, fraction_bits;
} format;

static const struct {
    const char *name;
    format feature, center;
} types_of[CL_TYPES] = {
    [CL_FLOAT32] = {"float32", {4, 8, 23}, {4, 8, 23}},
    [CL_FLOAT64] = {"float64", {8, 11, 52}, {8, 11, 52}},
    [CL_FLOAT16_FLOAT32] = {"float16", {2, 5, 10}, {4, 8, 23}},
    [CL_BFLOAT16_FLOAT32] = {"bfloat16", {2, 8, 7}, {4, 8, 23}},
};

/* Options of the operations. Some gradients overflow a half, and some are subnormal in
 * each type. All features are finite: there are no rows to skip. */
static const struct {
    cl_loss_options loss;
    cl_update_options update;
    bool weighted, ignores;
} options[] = {
    {{CL_MEAN, 1.0, NULL}, {0.5, true, true}, false, false},
    {{CL_SUM, 3000.1, NULL}, {0.001, false, true}, true, true},
    {{CL_NONE, 0.7, NULL}, {0.3, true, false}, true, false},
    {{CL_MEAN, 0x1p-1060, NULL}, {0.7, true, true}, true, false},
    {{CL_SUM, 0x1p-133, NULL}, {1.0, true, true}, false, true},
    {{CL_NONE, 0.003, NULL}, {0.003, false, false}, false, false},
};

enum {
    OPTIONS = sizeof(options) / sizeof(options[0]),
    LARGE_BYTES = 8 << 20, /* enough for 8 threads, and stored past the cache */
    STEPS = 3,
};

typedef struct {
    int64_t B, D, K;
} shape;

/* A batch and the arrays of its results. */
typedef struct {
    cl_batch batch;
    char *features, *centers, *old_centers;
    int64_t *labels;
    double *weights;
    int64_t centers_bytes;

    char *gradient, *losses, *deltas, *sums;
    int64_t *classes;
    double *counts;
    int64_t gradient_stride, gradient_bytes, losses_bytes;
} arrays;

static void
stop(const char *message)
{
    fprintf(stderr, "bits: %s\n", message);
    exit(2);
}

/* Allocate memory that starts on a cache line. */
static void *
memory(int64_t bytes)
{
    const size_t size = ((size_t)bytes / 64 + 1) * 64;
    void *p = aligned_alloc(64, size);
    if (p == NULL) {
        stop("out of memory");
    }
    return memset(p, 0x55, size);
}

/* FNV-1a over words of eight bytes. */
static uint64_t
hashed(uint64_t hash, const void *p, int64_t bytes)
{
    for (int64_t at = 0; at < bytes; at += 8) {
        const int64_t left = bytes - at;
        uint64_t word = 0;
        memcpy(&word, (const char *)p + at, left < 8 ? (size_t)left : 8);
        hash = (hash ^ word) * UINT64_C(0x100000001b3);
    }
    return hash;
}

/* A number of either sign: one in 16 is zero, one in 16 is subnormal, and the others
 * have magnitudes from 1/64 to 4. */
static uint64_t
number(format f, uint64_t random)
{
    const uint64_t bias = (UINT64_C(1) << (f.exponent_bits - 1)) - 1;
    const uint64_t kind = random & 15;
    const uint64_t sign = (random >> 4) & 1;
    const uint64_t exponent = kind < 2 ? 0 : bias - 6 + ((random >> 5) & 7);
    const uint64_t fraction = kind == 0 ? 0 : random >> (64 - f.fraction_bits);
    return (((sign << f.exponent_bits) | exponent) << f.fraction_bits) | fraction;
}

static char *
numbers(format f, int64_t count, uint64_t *state)
{
    char *p = memory(count * f.size);
    for (int64_t i = 0; i < count; i++) {
        const uint64_t bits = number(f, random_bits(state));
        memcpy(p + i * f.size, &bits, (size_t)f.size);
    }
    return p;
}

/* Of eight rows, six belong to the first class, one to the last, one to any. */
static int64_t *
make_labels(shape s, uint64_t *state)
{
    int64_t *labels = memory(s.B * 8);
    for (int64_t i = 0; i < s.B; i++) {
        const uint64_t random = random_bits(state);
        const int64_t any = (int64_t)(random >> 32) % s.K;
        const uint64_t kind = random & 7;
        labels[i] = kind == 0 ? any : kind == 1 ? s.K - 1 : 0;
    }
    return labels;
}

/* Weights from 0 to 2; one in 8 is 0. */
static double *
make_weights(shape s, uint64_t *state)
{
    double *weights = memory(s.B * 8);
    for (int64_t i = 0; i < s.B; i++) {
        const uint64_t random = random_bits(state);
        weights[i] = random & 7 ? (double)(random >> 11) * 0x1p-52 : 0.0;
    }
    return weights;
}

static arrays
make_arrays(cl_types types, shape s)
{
    const format feature = types_of[types].feature, center = types_of[types].center;
    uint64_t state = (uint64_t)(s.B << 40 | s.D << 24 | s.K << 8) | types;
    arrays a = {.centers_bytes = s.K * s.D * center.size};
    a.features = numbers(feature, s.B * s.D, &state);
    a.old_centers = numbers(center, s.K * s.D, &state);
    a.centers = memory(a.centers_bytes);
    a.labels = make_labels(s, &state);
    a.weights = make_weights(s, &state);
    a.batch = (cl_batch){
        .types = types,
        .B = s.B,
        .D = s.D,
        .K = s.K,
        .features = a.features,
        .feature_stride = s.D * feature.size,
        .centers = a.centers,
        .center_stride = s.D * center.size,
        .labels = (const char *)a.labels,
        .label_stride = 8,
        .label_size = 8,
        .label_signed = true,
        .ignore_index = s.K - 1,
    };
    a.gradient_stride = (s.D * feature.size + 63) / 64 * 64;
    a.gradient_bytes = s.B * a.gradient_stride;
    a.gradient = memory(a.gradient_bytes);
    a.losses_bytes = s.B * center.size;
    a.losses = memory(a.losses_bytes);
    a.deltas = memory(a.centers_bytes);
    a.sums = memory(a.centers_bytes);
    a.classes = memory(s.K * 8);
    a.counts = memory(s.K * 8);
    return a;
}

static void
free_arrays(arrays *a)
{
    free(a->features);
    free(a->centers);
    free(a->old_centers);
    free(a->labels);
    free(a->weights);
    free(a->gradient);
    free(a->losses);
    free(a->deltas);
    free(a->sums);
    free(a->classes);
    free(a->counts);
}

/* The bytes between the rows of the gradient are hashed, too: none may change. */
static uint64_t
hash_outputs(uint64_t hash, const arrays *a, const cl_outputs *outputs)
{
    hash = hashed(hash, outputs->loss, sizeof(*outputs->loss));
    hash = hashed(hash, a->losses, a->losses_bytes);
    return outputs->gradient == NULL ? hash
                                     : hashed(hash, a->gradient, a->gradient_bytes);
}

/* Run all operations. */
static uint64_t
hash_operations(uint64_t hash, const arrays *a, cl_plan *plan,
                const cl_loss_options *loss_options,
                const cl_update_options *update_options)
{
    const cl_batch *b = &a->batch;
    double loss = 0;
    cl_outputs outputs = {
        .loss = &loss,
        .row_losses = a->losses,
        .row_loss_stride = types_of[b->types].center.size,
        .gradient = a->gradient,
        .gradient_stride = a->gradient_stride,
    };
    for (int step = 0; step < STEPS; step++) {
        cl_step(b, plan, a->centers, loss_options, update_options, &outputs);
    }
    hash = hash_outputs(hash, a, &outputs);
    cl_update_centers(b, plan, a->centers, update_options);
    hash = hashed(hash, a->centers, a->centers_bytes);
    cl_value_and_grad(b, plan, loss_options, &outputs);
    hash = hash_outputs(hash, a, &outputs);
    outputs.gradient = NULL;
    cl_value_and_grad(b, plan, loss_options, &outputs);
    hash = hash_outputs(hash, a, &outputs);
    cl_center_delta(b, plan, update_options->normalize, a->deltas, b->center_stride);
    hash = hashed(hash, a->deltas, a->centers_bytes);
    cl_class_sums(b, plan, a->classes, a->sums, a->counts);
    hash = hashed(hash, a->classes, plan->classes * 8);
    hash = hashed(hash, a->sums, plan->classes * b->center_stride);
    return hashed(hash, a->counts, plan->classes * 8);
}

/* Print the hash of a batch with options first..last-1. */
static void
print_line(cl_types types, shape s, int threads, int first, int last)
{
    const bool large = s.B * s.D * types_of[types].feature.size >= LARGE_BYTES;
    arrays a = make_arrays(types, s);
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (int i = first; i < last; i++) {
        memcpy(a.centers, a.old_centers, (size_t)a.centers_bytes);
        a.batch.weights = options[i].weighted ? a.weights : NULL;
        a.batch.has_ignore_index = options[i].ignores;
        cl_plan plan;
        if (cl_plan_make(&plan, &a.batch, CL_LOSSES | CL_GROUPS, threads) != CL_OK) {
            stop("no plan");
        }
        if (large && plan.threads != threads) {
            stop("too few threads are used: change LARGE_BYTES");
        }
        hash = hash_operations(hash, &a, &plan, &options[i].loss, &options[i].update);
        cl_plan_free(&plan);
    }
    free_arrays(&a);
    printf("%s B=%" PRId64 " D=%" PRId64 " K=%" PRId64 " %016" PRIx64 "\n",
           types_of[types].name, s.B, s.D, s.K, hash);
}

/* From no rows to a class of two chunks among classes of one row; all options. */
static void
print_small(cl_types types, int threads)
{
    const int64_t columns[] = {1, 2, 3, 7, 8, 15, 16, 17, 31, 64, 100, 128, 513};
    const int64_t rows[] = {0, 1, 7, 130, 800};
    const int64_t classes[] = {2, 1, 3, 40, 150};
    for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++) {
        for (size_t j = 0; j < sizeof(rows) / sizeof(rows[0]); j++) {
            const shape s = {rows[j], columns[i], classes[j]};
            print_line(types, s, threads, 0, OPTIONS);
        }
    }
}

/* A single class; a class of many chunks among many of one row; many rows of few
 * classes, whose order depends on the number of threads. One set of options each. */
static void
print_large(cl_types types, int threads)
{
    const int64_t columns[] = {128, 513, 20};
    const int64_t classes[] = {1, 700, 300};
    for (int i = 0; i < 3; i++) {
        const int64_t rows = LARGE_BYTES / (columns[i] * types_of[types].feature.size);
        const shape s = {rows + 1, columns[i], classes[i]};
        print_line(types, s, threads, i, i + 1);
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
    const char *sizes = argc == 4 ? argv[3] : "all";
    if (threads < 1 || !cl_select_isa(argv[1])) {
        stop("usage: bits [NAME THREADS [small|large]]");
    }
    for (int types = 0; types < CL_TYPES; types++) {
        if (strcmp(sizes, "large") != 0) {
            print_small((cl_types)types, threads);
        }
        if (strcmp(sizes, "small") != 0) {
            print_large((cl_types)types, threads);
        }
    }
    return 0;
}
