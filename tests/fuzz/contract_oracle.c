/*
 * The operations, written as plain loops in double.
 */
#include "contract.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void
add(total *t, double value)
{
    t->sum += value;
    t->size += isfinite(value) ? fabs(value) : 0.0;
}

bool
may_overflow(const total *t)
{
    return t->size > 1e300;
}

/* The label of a row; *huge is set if it is above INT64_MAX. */
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

int64_t
read_classes(const test_case *t, int64_t *classes)
{
    for (int64_t i = 0; i < t->batch.B; i++) {
        bool huge;
        const int64_t label = label_of(t, i, &huge);
        const bool ignored =
            t->batch.has_ignore_index && !huge && label == t->batch.ignore_index;
        classes[i] = ignored ? -1 : label;
        if (!ignored && (huge || label < 0 || label >= t->batch.K)) {
            return i;
        }
    }
    return -1;
}

double
weight_of(const test_case *t, int64_t row)
{
    return t->weights != NULL ? t->weights[row] : 1.0;
}

double
difference(const test_case *t, int64_t row, int64_t class, int64_t j)
{
    const format x = feature_formats[t->batch.types],
                 c = center_formats[t->batch.types];
    const double feature = load(row_of(&t->features, row) + j * formats[x].size, x);
    const double center = load(row_of(&t->centers, class) + j * formats[c].size, c);
    return rounded(feature - center, c);
}

static double
squared_distance(const test_case *t, int64_t row, int64_t class)
{
    double squares = 0;
    for (int64_t j = 0; j < t->batch.D; j++) {
        const double d = difference(t, row, class, j);
        squares += d * d;
    }
    return squares;
}

double
row_loss(const test_case *t, int64_t row, int64_t class)
{
    return class < 0 ? 0.0
                     : weight_of(t, row) * (0.5 * squared_distance(t, row, class));
}

/* Is the squared distance of a row to its center finite? */
static bool
row_is_finite(const test_case *t, int64_t row, int64_t class)
{
    return isfinite(squared_distance(t, row, class));
}

class_totals
add_up_classes(const test_case *t, const int64_t *classes, bool only_finite)
{
    const int64_t K = t->batch.K, D = t->batch.D;
    class_totals c = {
        .sums = calloc((size_t)(K * D) + 1, sizeof(total)),
        .weights = calloc((size_t)K + 1, sizeof(total)),
        .rows = calloc((size_t)K + 1, sizeof(int64_t)),
    };
    for (int64_t i = 0; i < t->batch.B; i++) {
        const int64_t class = classes[i];
        if (class < 0 || (only_finite && !row_is_finite(t, i, class))) {
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

void
free_class_totals(class_totals *c)
{
    free(c->sums);
    free(c->weights);
    free(c->rows);
}
