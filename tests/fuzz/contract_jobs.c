/*
 * Runs every operation on a batch, and compares the bits of two runs.
 */
#include "contract.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static cl_outputs
result_of(double *loss, array *losses, array *gradient, bool wants_gradient)
{
    return (cl_outputs){
        .loss = loss,
        .row_losses = losses->first,
        .row_loss_stride = losses->stride,
        .gradient = wants_gradient ? gradient->first : NULL,
        .gradient_stride = gradient->stride,
    };
}

static void
run_loss_operations(const test_case *t, cl_batch *b, cl_plan *plan, results *r)
{
    const int feature = formats[feature_formats[b->types]].size;
    const int center = formats[center_formats[b->types]].size;
    r->losses = make_array(b->B, center, center, t->losses_layout);
    r->gradient = make_array(b->B, b->D * feature, feature, t->gradient_layout);
    cl_outputs result =
        result_of(&r->loss, &r->losses, &r->gradient, t->wants_gradient);
    cl_value_and_grad(b, plan, &t->loss_options, &result);
    if (!(t->needs & CL_GROUPS)) {
        return;
    }
    r->step_losses = make_array(b->B, center, center, t->losses_layout);
    r->step_gradient = make_array(b->B, b->D * feature, feature, t->gradient_layout);
    r->stepped = copy_of(&t->centers);
    b->centers = r->stepped.first;
    result = result_of(&r->step_loss, &r->step_losses, &r->step_gradient, true);
    r->stepped_classes = cl_step(b, plan, r->stepped.first, &t->loss_options,
                                 &t->update_options, &result);
}

static void
run_group_operations(const test_case *t, cl_batch *b, cl_plan *plan, results *r)
{
    const int center = formats[center_formats[b->types]].size;
    const array before = copy_of(&t->centers);
    b->centers = t->centers.first;
    r->deltas = make_array(b->K, b->D * center, center, t->deltas_layout);
    cl_center_delta(b, plan, t->update_options.normalize, r->deltas.first,
                    r->deltas.stride);
    const size_t U = (size_t)plan->classes;
    r->touched = malloc(U * 8);
    r->sums = make_array(plan->classes, b->D * center, center, 0);
    r->counts = malloc(U * 8);
    cl_class_sums(b, plan, r->touched, r->sums.first, r->counts);
    if (before.bytes > 0 &&
        memcmp(before.memory, t->centers.memory, (size_t)before.bytes) != 0) {
        fail("an operation that reads the centers changed them");
    }
    r->updated = before;
    b->centers = r->updated.first;
    r->updated_classes =
        cl_update_centers(b, plan, r->updated.first, &t->update_options);
}

results
run_operations(const test_case *t, const char *isa, int threads)
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
        fail("out of memory");
    }
    if (r.status == CL_OK && t->needs & CL_LOSSES) {
        run_loss_operations(t, &b, &plan, &r);
    }
    if (r.status == CL_OK && t->needs & CL_GROUPS) {
        run_group_operations(t, &b, &plan, &r);
    }
    cl_plan_free(&plan);
    return r;
}

void
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

/* The bits of a NaN may differ. */
static void
same_array(const array *a, const array *b, format f, const char *name)
{
    if (a->bytes != b->bytes || a->bytes == 0 ||
        memcmp(a->memory, b->memory, (size_t)a->bytes) == 0) {
        if (a->bytes != b->bytes) {
            fail("%s: the size differs between runs", name);
        }
        return;
    }
    const int size = formats[f].size;
    for (int64_t i = 0; i < a->rows; i++) {
        for (int64_t at = 0; at < a->row_bytes; at += size) {
            const char *p = row_of(a, i) + at, *q = row_of(b, i) + at;
            const bool nan = isnan(load(p, f)) && isnan(load(q, f));
            if (!nan && memcmp(p, q, (size_t)size) != 0) {
                fail("%s: the bits of row %" PRId64 " differ", name, i);
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

void
same_results(const test_case *t, const results *a, const results *b)
{
    const format x = feature_formats[t->batch.types];
    const format c = center_formats[t->batch.types];
    if (a->status != b->status || a->bad_row != b->bad_row ||
        a->counted != b->counted || a->classes != b->classes ||
        a->stepped_classes != b->stepped_classes ||
        a->updated_classes != b->updated_classes) {
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
