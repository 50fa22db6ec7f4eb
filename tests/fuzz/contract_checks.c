/*
 * Compares what the operations stored with the plain loops of contract_oracle.c.
 */
#include "contract.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* `got`, of type f, may differ from `expected` by a few roundings of it and of its
 * summands, whose magnitudes add up to `size`. If it may overflow, huge is enough. */
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

/* What multiplies every row's loss. W itself is checked only within rounding; the
 * factor takes the plan's W, so the last bits of W are not checked again in every
 * loss and gradient, where a tiny or huge W would magnify them. */
static double
factor_of(const test_case *t, const int64_t *classes, const results *r)
{
    total W = {0, 0};
    for (int64_t i = 0; i < t->batch.B; i++) {
        add(&W, classes[i] < 0 ? 0.0 : weight_of(t, i));
    }
    check_close(r->plan_weight, W.sum, W.size, F64, "W", 0);
    if (t->loss_options.reduction != CL_MEAN) {
        return t->loss_options.loss_weight;
    }
    return r->plan_weight > 0 ? t->loss_options.loss_weight / r->plan_weight : 0.0;
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

static void
check_losses(const test_case *t, const int64_t *classes, double factor, bool empty,
             double loss, const array *losses)
{
    const format c = center_formats[t->batch.types];
    total all = {0, 0};
    for (int64_t i = 0; i < t->batch.B; i++) {
        const double expected = row_loss(t, i, classes[i]);
        add(&all, expected);
        if (t->loss_options.reduction == CL_NONE) {
            const double value = classes[i] < 0 ? 0.0 * factor : factor * expected;
            const double smallest = factor * formats[F64].smallest * 1e12;
            check_close(load(row_of(losses, i), c), value, smallest + fabs(value), c,
                        "loss", i);
        }
    }
    if (t->loss_options.reduction != CL_NONE && !may_overflow(&all)) {
        const double value = empty ? 0.0 : factor * all.sum;
        const double smallest = factor * formats[F64].smallest * 1e15;
        check_close(loss, value, smallest + fabs(value), F64, "total loss", 0);
    }
    else if (t->loss_options.reduction == CL_NONE && loss != 0.0) {
        fail("a loss was stored for CL_NONE");
    }
}

static void
check_loss_results(const test_case *t, const int64_t *classes, const results *r)
{
    const double factor = factor_of(t, classes, r);
    const bool steps = t->needs & CL_GROUPS;
    const bool empty = t->loss_options.reduction == CL_MEAN && r->plan_weight == 0.0;
    check_losses(t, classes, factor, empty, r->loss, &r->losses);
    if (steps) {
        check_losses(t, classes, factor, empty, r->step_loss, &r->step_losses);
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

static double
share_of(const test_case *t, const class_totals *c, int64_t class)
{
    const double n = 1.0 + c->weights[class].sum;
    return t->update_options.normalize ? 1.0 / n : 1.0;
}

/* The results that every row takes part in. */
static void
check_sums_row(const test_case *t, const class_totals *c, const results *r,
               int64_t class, int64_t rank)
{
    const format f = center_formats[t->batch.types];
    const double share = share_of(t, c, class);
    for (int64_t j = 0; j < t->batch.D; j++) {
        const total *sum = &c->sums[class * t->batch.D + j];
        const int64_t at = j * formats[f].size;
        if (may_overflow(sum)) {
            continue;
        }
        check_close(load(row_of(&r->sums, rank) + at, f), sum->sum, sum->size, f, "sum",
                    class);
        check_close(load(row_of(&r->deltas, class) + at, f), -share * sum->sum,
                    share * sum->size + formats[F64].smallest * sum->size, f, "delta",
                    class);
    }
}

/* `c` are the totals of the rows that move the centers. */
static void
check_center_row(const test_case *t, const class_totals *c, const results *r,
                 int64_t class)
{
    const format f = center_formats[t->batch.types];
    const double rate = t->update_options.alpha * share_of(t, c, class);
    for (int64_t j = 0; j < t->batch.D; j++) {
        const total *sum = &c->sums[class * t->batch.D + j];
        const int64_t at = j * formats[f].size;
        if (may_overflow(sum)) {
            continue;
        }
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
check_center_stays(const test_case *t, const results *r, int64_t class)
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
}

static void
check_delta_is_zero(const test_case *t, const results *r, int64_t class)
{
    const char *delta = row_of(&r->deltas, class);
    for (int64_t i = 0; i < t->centers.row_bytes; i++) {
        if (delta[i] != 0) {
            fail("delta %" PRId64 " is not zero without a row", class);
        }
    }
}

static void
check_group_results(const test_case *t, const int64_t *classes, const results *r)
{
    class_totals c = add_up_classes(t, classes, false);
    class_totals moving = add_up_classes(t, classes, t->update_options.skip_nonfinite);
    int64_t rank = 0, updated = 0;
    for (int64_t class = 0; class < t->batch.K; class++) {
        if (moving.rows[class] == 0) {
            check_center_stays(t, r, class);
        }
        else {
            check_center_row(t, &moving, r, class);
            updated++;
        }
        if (c.rows[class] == 0) {
            check_delta_is_zero(t, r, class);
            continue;
        }
        if (rank >= r->classes || r->touched[rank] != class) {
            fail("class %" PRId64 " is missing from the classes", class);
        }
        check_close(r->counts[rank], c.weights[class].sum, c.weights[class].size, F64,
                    "count", class);
        check_sums_row(t, &c, r, class, rank);
        rank++;
    }
    if (r->updated_classes != updated ||
        (t->needs & CL_LOSSES && r->stepped_classes != updated)) {
        fail("%" PRId64 " centers updated, expected %" PRId64, r->updated_classes,
             updated);
    }
    if (rank != r->classes) {
        fail("%" PRId64 " classes, expected %" PRId64, r->classes, rank);
    }
    check_gaps(&r->deltas, "deltas");
    check_gaps(&r->updated, "centers");
    if (t->needs & CL_LOSSES) {
        check_gaps(&r->stepped, "centers of a step");
    }
    free_class_totals(&c);
    free_class_totals(&moving);
}

void
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
