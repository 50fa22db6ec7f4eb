/*
 * Steps on separate centers, side by side:
 *
 *     concurrent           prints the instruction sets to be had here
 *     concurrent NAME      compares the bits with those of one after the other
 *
 * Features and labels are shared; each of the threads here has centers and a
 * gradient of its own, and its calls use threads themselves. For ThreadSanitizer
 * above all: a race is a report even when the bits come out right.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "centerloss.h"
#include "random_bits.h"

enum {
    CALLERS = 4,
    STEPS = 6,
    D = 48,
    K = 300,
    B = 40000, /* two segments, which up to three threads work on in batch order */
};

static float features[B * D];
static int64_t labels[B];

/* What one caller owns. */
typedef struct {
    int threads;
    int orders; /* of the rows: 1 in class order, 2 in batch order, 3 both */
    bool failed;
    double loss;
    float centers[K * D], gradient[B * D];
} caller;

static caller alone[CALLERS], together[CALLERS];

static void
stop(const char *message)
{
    fprintf(stderr, "concurrent: %s\n", message);
    exit(2);
}

/* From -1 up to 1. */
static float
number(uint64_t *state)
{
    return (float)(random_bits(state) >> 40) * 0x1p-23f - 1;
}

static void
make_numbers(void)
{
    uint64_t state = 0;
    for (int i = 0; i < B * D; i++) {
        features[i] = number(&state);
    }
    for (int i = 0; i < B; i++) {
        labels[i] = (int64_t)(random_bits(&state) % K);
    }
    for (int i = 0; i < K * D; i++) {
        const float value = number(&state);
        for (int c = 0; c < CALLERS; c++) {
            alone[c].centers[i] = together[c].centers[i] = value * (float)(c + 1);
        }
    }
}

/* Every other step is on a single segment: several threads take it in class order. */
static cl_batch
batch_of(caller *c, int step)
{
    return (cl_batch){
        .types = CL_FLOAT32,
        .B = step % 2 ? B : B / 2,
        .D = D,
        .K = K,
        .features = (const char *)features,
        .feature_stride = D * 4,
        .centers = (const char *)c->centers,
        .center_stride = D * 4,
        .labels = (const char *)labels,
        .label_stride = 8,
        .label_size = 8,
        .label_signed = true,
        .has_ignore_index = true,
        .ignore_index = K - 1,
    };
}

static void *
take_steps(void *argument)
{
    caller *c = argument;
    const cl_outputs outputs = {
        .loss = &c->loss, .gradient = (char *)c->gradient, .gradient_stride = D * 4};
    const cl_loss_options loss_options = {CL_MEAN, 1.0};
    const cl_update_options update_options = {0.5, true};
    for (int step = 0; step < STEPS && !c->failed; step++) {
        const cl_batch batch = batch_of(c, step);
        cl_plan plan;
        c->failed = cl_plan_make(&plan, &batch, CL_LOSSES | CL_GROUPS, c->threads);
        if (!c->failed) {
            c->orders |= plan.in_batch_order ? 2 : 1;
            cl_step(&batch, &plan, (char *)c->centers, &loss_options, &update_options,
                    &outputs);
            cl_value_and_grad(&batch, &plan, &loss_options, &outputs);
        }
        cl_plan_free(&plan);
    }
    return NULL;
}

static void
take_all_steps(void)
{
    pthread_t threads[CALLERS];
    for (int i = 0; i < CALLERS; i++) {
        alone[i].threads = 1;
        take_steps(&alone[i]);
    }
    for (int i = 0; i < CALLERS; i++) {
        together[i].threads = i + 1;
        if (pthread_create(&threads[i], NULL, take_steps, &together[i]) != 0) {
            stop("no thread");
        }
    }
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(threads[i], NULL);
    }
}

static bool
same_bits(const caller *a, const caller *b)
{
    return !a->failed && !b->failed && memcmp(&a->loss, &b->loss, 8) == 0 &&
           memcmp(a->centers, b->centers, sizeof(a->centers)) == 0 &&
           memcmp(a->gradient, b->gradient, sizeof(a->gradient)) == 0;
}

int
main(int argc, char **argv)
{
    if (argc == 1) {
        puts(cl_isa_names());
        return 0;
    }
    if (!cl_select_isa(argv[1])) {
        stop("usage: concurrent [NAME]");
    }
    make_numbers();
    take_all_steps();
    for (int i = 0; i < CALLERS; i++) {
        if (!same_bits(&alone[i], &together[i])) {
            stop("steps side by side gave other bits than one after the other");
        }
    }
    if (together[1].orders != 3 || together[2].orders != 3) {
        stop("not both orders of the rows: B, D or K has to change");
    }
    printf("%d callers side by side: %s\n", CALLERS, argv[1]);
    return 0;
}
