/* Center loss from C: one step on three rows of two classes. */
#include <stdio.h>

#include "centerloss.h"

enum {
    B = 3, /* rows of the batch */
    D = 2, /* values of a row */
    K = 2, /* classes */
};

int
main(void)
{
    const float features[B][D] = {{3, 4}, {1, 0}, {3, 0}};
    const int32_t labels[B] = {0, 1, 1};
    float centers[K][D] = {{0, 0}, {0, 0}};
    float gradient[B][D];
    double loss;

    const cl_batch batch = {
        .types = CL_FLOAT32,
        .B = B,
        .D = D,
        .K = K,
        .features = (const char *)features,
        .feature_stride = sizeof(features[0]),
        .centers = (char *)centers,
        .center_stride = sizeof(centers[0]),
        .labels = (const char *)labels,
        .label_stride = sizeof(labels[0]),
        .label_size = sizeof(labels[0]),
        .label_signed = true,
    };
    const cl_loss_options loss_options = {.reduction = CL_MEAN, .loss_weight = 1.0};
    const cl_update_options update_options = {
        .alpha = 0.5, .normalize = true, .skip_nonfinite = true};
    const cl_outputs outputs = {
        .loss = &loss,
        .gradient = (char *)gradient,
        .gradient_stride = sizeof(gradient[0]),
    };

    /* Once, before any operation: choose the kernels for this processor. */
    if (!cl_select_isa(NULL)) {
        fprintf(stderr, "no kernels for this processor\n");
        return 1;
    }

    /* Only this can fail. The 1 is the maximum number of threads. */
    cl_plan plan;
    const cl_status status = cl_plan_make(&plan, &batch, CL_LOSSES | CL_GROUPS, 1);
    if (status == CL_OK) {
        cl_step(&batch, &plan, (char *)centers, &loss_options, &update_options,
                &outputs);
    }
    cl_plan_free(&plan);
    if (status != CL_OK) {
        fprintf(stderr, "%s\n", status == CL_BAD_LABEL ? "bad label" : "no memory");
        return 1;
    }

    printf("loss %.4f\n", loss);
    for (int i = 0; i < B; i++) {
        printf("gradient %d: %.4f %.4f\n", i, gradient[i][0], gradient[i][1]);
    }
    for (int j = 0; j < K; j++) {
        printf("center %d: %.4f %.4f\n", j, centers[j][0], centers[j][1]);
    }
    return 0;
}
