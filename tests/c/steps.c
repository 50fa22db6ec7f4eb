/*
 * Steps on one batch, for counting instructions.
 *
 *     steps ISA ROWS DIM CLASSES CALLS
 */
#include <stdio.h>
#include <stdlib.h>

#include "centerloss.h"
#include "random_bits.h"

static void *
allocate(int64_t count, size_t size)
{
    void *memory = calloc((size_t)count, size);
    if (memory == NULL) {
        fprintf(stderr, "no memory\n");
        exit(1);
    }
    return memory;
}

int
main(int argc, char **argv)
{
    if (argc != 6 || !cl_select_isa(argv[1])) {
        fprintf(stderr, "usage: steps ISA ROWS DIM CLASSES CALLS, ISA one of %s\n",
                cl_isa_names());
        return 2;
    }
    const int64_t B = atol(argv[2]), D = atol(argv[3]), K = atol(argv[4]);
    float *features = allocate(B * D, sizeof *features);
    float *gradient = allocate(B * D, sizeof *gradient);
    float *centers = allocate(K * D, sizeof *centers);
    int64_t *labels = allocate(B, sizeof *labels);
    uint64_t state = 1;
    for (int64_t i = 0; i < B; i++) {
        labels[i] = (int64_t)(random_bits(&state) % (uint64_t)K);
    }
    for (int64_t i = 0; i < B * D; i++) {
        features[i] = (float)(i % 7);
    }

    const int64_t row_size = D * (int64_t)sizeof(float);
    const cl_batch batch = {
        .types = CL_FLOAT32,
        .B = B,
        .D = D,
        .K = K,
        .features = (const char *)features,
        .feature_stride = row_size,
        .centers = (const char *)centers,
        .center_stride = row_size,
        .labels = (const char *)labels,
        .label_stride = sizeof *labels,
        .label_size = sizeof *labels,
        .label_signed = true,
    };
    const cl_loss_options loss_options = {.reduction = CL_MEAN, .loss_weight = 1.0};
    const cl_update_options update_options = {0.5, true, true};
    double loss = 0.0;
    const cl_outputs outputs = {
        .loss = &loss,
        .gradient = (char *)gradient,
        .gradient_stride = row_size,
    };
    for (long call = atol(argv[5]); call > 0; call--) {
        cl_plan plan;
        if (cl_plan_make(&plan, &batch, CL_LOSSES | CL_GROUPS, 1) != CL_OK) {
            fprintf(stderr, "no plan\n");
            return 1;
        }
        cl_step(&batch, &plan, (char *)centers, &loss_options, &update_options,
                &outputs);
        cl_plan_free(&plan);
    }
    printf("%g\n", loss);
    free(features);
    free(gradient);
    free(centers);
    free(labels);
    return 0;
}
