/*
 * The limits of the arguments of csrc/kernels/centerloss.h:
 *
 *     api                    compares steps with unusual values of `threads`
 *     api B D K THREADS      prints the number of threads and the order of the rows
 *     api OPERATION NEEDS    runs an operation on a plan made with NEEDS, 1 to 3
 *     api sums               compares cl_sum() with cl_sum_of_runs()
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "centerloss.h"
#include "random_bits.h"

enum {
    B = 40000, /* 10 MB of features: enough for several threads */
    D = 64,
    K = 2000,
};

static float features[B][D], centers[K][D], gradient[B][D], deltas[K][D];
static int64_t labels[B], classes[K];
static double counts[K];

typedef struct {
    double loss;
    float gradient[B][D], centers[K][D];
} results;

static const cl_loss_options loss_options = {.reduction = CL_MEAN, .loss_weight = 1.0};
static const cl_update_options update_options = {0.5, true, true};
static double loss;
static const cl_outputs outputs = {
    .loss = &loss,
    .gradient = (char *)gradient,
    .gradient_stride = sizeof(gradient[0]),
};

static void
fill_inputs(void)
{
    for (int i = 0; i < B; i++) {
        labels[i] = (i * 7919) % K;
        for (int j = 0; j < D; j++) {
            features[i][j] = (float)((i * 31 + j * 17) % 1009) / 512;
        }
    }
    memset(centers, 0, sizeof(centers));
}

static cl_batch
make_batch(void)
{
    return (cl_batch){
        .types = CL_FLOAT32,
        .B = B,
        .D = D,
        .K = K,
        .features = (const char *)features,
        .feature_stride = sizeof(features[0]),
        .centers = (const char *)centers,
        .center_stride = sizeof(centers[0]),
        .labels = (const char *)labels,
        .label_stride = 8,
        .label_size = 8,
        .label_signed = true,
    };
}

static void
make_plan(cl_plan *plan, const cl_batch *batch, int needs, int threads)
{
    if (cl_plan_make(plan, batch, needs, threads) != CL_OK || plan->threads < 1 ||
        plan->threads > CL_MAX_THREADS) {
        fprintf(stderr, "no plan with %d threads\n", threads);
        exit(2);
    }
}

static void
run_step(int threads, results *r)
{
    const cl_batch batch = make_batch();
    cl_plan plan;
    fill_inputs();
    make_plan(&plan, &batch, CL_LOSSES | CL_GROUPS, threads);
    cl_step(&batch, &plan, (char *)centers, &loss_options, &update_options, &outputs);
    cl_plan_free(&plan);
    r->loss = loss;
    memcpy(r->gradient, gradient, sizeof(gradient));
    memcpy(r->centers, centers, sizeof(centers));
}

static int
compare_threads(void)
{
    static results expected, got;
    static const int threads[] = {0, -1, INT32_MIN, 8, 1000, INT32_MAX};
    run_step(1, &expected);
    for (size_t i = 0; i < sizeof(threads) / sizeof(threads[0]); i++) {
        run_step(threads[i], &got);
        if (memcmp(&got, &expected, sizeof(got)) != 0) {
            fprintf(stderr, "other bits with %d threads\n", threads[i]);
            return 1;
        }
    }
    return 0;
}

static int
run_operation(const char *name, int needs)
{
    const cl_batch batch = make_batch();
    cl_plan plan;
    fill_inputs();
    make_plan(&plan, &batch, needs, 1);
    if (strcmp(name, "value_and_grad") == 0) {
        cl_value_and_grad(&batch, &plan, &loss_options, &outputs);
    }
    else if (strcmp(name, "step") == 0) {
        cl_step(&batch, &plan, (char *)centers, &loss_options, &update_options,
                &outputs);
    }
    else if (strcmp(name, "update_centers") == 0) {
        cl_update_centers(&batch, &plan, (char *)centers, &update_options);
    }
    else if (strcmp(name, "center_delta") == 0) {
        cl_center_delta(&batch, &plan, true, (char *)deltas, sizeof(deltas[0]));
    }
    else {
        cl_class_sums(&batch, &plan, classes, (char *)deltas, counts);
    }
    cl_plan_free(&plan);
    return 0;
}

static int
print_plan(char **sizes)
{
    cl_batch batch = make_batch();
    cl_plan plan;
    batch.B = atoi(sizes[0]);
    batch.D = atoi(sizes[1]);
    batch.K = atoi(sizes[2]);
    for (int i = 0; i < B; i++) {
        labels[i] = i % batch.K;
    }
    make_plan(&plan, &batch, CL_GROUPS, atoi(sizes[3]));
    printf("%d %s", plan.threads, plan.in_batch_order ? "batch order" : "class order");
    cl_plan_free(&plan);
    return 0;
}

static int
compare_sums(void)
{
    enum {
        MAX = 20 * CL_SUM_RUN + 1
    };
    static double values[MAX], run_sums[MAX / CL_SUM_RUN + 1];
    uint64_t state = 0;
    for (int i = 0; i < MAX; i++) {
        values[i] = (double)(random_bits(&state) >> 11) * 0x1p-53 - 0.25;
    }
    for (int64_t n = 0; n <= MAX; n += n % CL_SUM_RUN < 2 || n % 7 == 0 ? 1 : 5) {
        for (int64_t start = 0; start < n; start += CL_SUM_RUN) {
            const int64_t left = n - start;
            run_sums[start / CL_SUM_RUN] =
                cl_sum(values + start, left < CL_SUM_RUN ? left : CL_SUM_RUN);
        }
        if (cl_sum(values, n) != cl_sum_of_runs(run_sums, n)) {
            fprintf(stderr, "another sum of %d values\n", (int)n);
            return 1;
        }
    }
    return 0;
}

int
main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "sums") == 0) {
        return compare_sums();
    }
    if (argc == 5) {
        return print_plan(argv + 1);
    }
    return argc == 3 ? run_operation(argv[1], atoi(argv[2])) : compare_threads();
}
