/*
 * Steps on separate centers at the same time:
 *
 *     concurrent           prints the names of the instruction sets here
 *     concurrent NAME      compares the bits with those of sequential steps
 *
 * The callers share features and labels; each has its own centers and gradient, and
 * its calls use threads themselves. Meant for ThreadSanitizer, which reports a race
 * even if the bits are right.
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
    B = 40000, /* two segments: batch order for up to five threads */
};

static float features[B * D];
static int64_t labels[B];

/* The state of one caller. */
typedef struct {
    int threads;
    int orders; /* of the rows: 1 in class order, 2 in batch order, 3 both */
    bool failed;
    double loss;
    float centers[K * D], gradient[B * D];
} caller;

static caller sequential[CALLERS], concurrent[CALLERS];

static void
stop(const char *message)
{
    fprintf(stderr, "concurrent: %s\n", message);
    exit(2);
}

/* A number from -1 to 1. */
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
            sequential[c].centers[i] = concurrent[c].centers[i] =
                value * (float)(c + 1);
        }
    }
}

/* Every other step has a single segment, hence class order with three threads. */
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
    const cl_loss_options loss_options = {.reduction = CL_MEAN, .loss_weight = 1.0};
    const cl_update_options update_options = {0.5, true, true};
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
        sequential[i].threads = 1;
        take_steps(&sequential[i]);
    }
    for (int i = 0; i < CALLERS; i++) {
        concurrent[i].threads = i + 1;
        if (pthread_create(&threads[i], NULL, take_steps, &concurrent[i]) != 0) {
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
        if (!same_bits(&sequential[i], &concurrent[i])) {
            stop("concurrent and sequential steps differ");
        }
    }
    if (concurrent[2].orders != 3 || concurrent[3].orders != 3) {
        stop("only one order of the rows was used: change B, D or K");
    }
    printf("%d callers at the same time: %s\n", CALLERS, argv[1]);
    return 0;
}
