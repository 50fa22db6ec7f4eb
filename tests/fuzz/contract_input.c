/*
 * Turns bytes into a batch and options. The files of corpus/ depend on this encoding.
 */
#include "contract.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../c/random_bits.h"

typedef struct {
    const uint8_t *data;
    size_t size;
} input;

/* The next bytes as a number, with zeros after the last byte. */
static uint64_t
take(input *in, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes && in->size > 0; i++) {
        value |= (uint64_t)*in->data++ << (8 * i);
        in->size--;
    }
    return value;
}

/* The bits of a number, mostly around 1; `kinds` allows zeros, infinities, ... */
static uint64_t
number(format f, uint64_t random, unsigned kinds)
{
    const int exponent_bits = 8 * formats[f].size - 1 - formats[f].fraction_bits;
    const uint64_t bias = (UINT64_C(1) << (exponent_bits - 1)) - 1;
    const uint64_t top = 2 * bias + 1, kind = random & 31, sign = random >> 5 & 1;
    uint64_t exponent = bias - 4 + (random >> 6 & 7);
    uint64_t fraction = random >> (64 - formats[f].fraction_bits);
    if (kind == 0 && kinds & 1) {
        exponent = fraction = 0;
    }
    else if (kind == 1 && kinds & 2) {
        exponent = 0;
    }
    else if (kind == 2 && kinds & 4) {
        exponent = top - 1;
    }
    else if (kind == 3 && kinds & 8) {
        exponent = top;
        fraction = 0;
    }
    else if (kind == 4 && kinds & 16) {
        exponent = top;
    }
    else if (kinds & 32) {
        exponent = (random >> 6) % top;
    }
    return ((sign << exponent_bits | exponent) << formats[f].fraction_bits) | fraction;
}

static void
fill_numbers(array *a, format f, unsigned kinds, uint64_t *state)
{
    const int size = formats[f].size;
    for (int64_t i = 0; i < a->rows; i++) {
        for (int64_t at = 0; at < a->row_bytes; at += size) {
            const uint64_t bits = number(f, random_bits(state), kinds);
            memcpy(row_of(a, i) + at, &bits, (size_t)size);
        }
    }
}

/* Sizes: mostly small; sometimes large enough for several chunks, segments or threads,
 * or for non-temporal stores, which takes seconds under sanitizers. */
static void
take_sizes(input *in, cl_batch *b)
{
    const unsigned kind = (unsigned)take(in, 1);
    const int64_t rows = (int64_t)take(in, 2), columns = (int64_t)take(in, 2);
    const int64_t classes = (int64_t)take(in, 3);
    const bool large = classes >> 21 == 7;
    b->B = rows % 300;
    b->D = columns % 71;
    b->K = classes % 400;
    if (large && kind >= 250) { /* several segments */
        b->B = 20000 + rows % 60000;
        b->D = columns % 33;
    }
    else if (large && kind >= 246) { /* long rows */
        b->B = 2200 + rows % 1000;
        b->D = 512 + columns % 30;
    }
    else if (large && kind >= 238) { /* several threads */
        b->B = 3000 + rows % 3000;
        b->D = 180 + columns % 300;
    }
    else if (kind >= 220) { /* several chunks */
        b->B = rows % 3000;
    }
    if (kind & 1 && b->D <= 70) { /* more classes than one digit of the sort has */
        b->K = classes % 200000 / (b->D + 1);
    }
}

uint64_t
label_mask(int size)
{
    return size == 8 ? UINT64_MAX : (UINT64_C(1) << (8 * size)) - 1;
}

/* Labels: of all classes, of the first few, of one, or ascending; then a few rows with
 * labels at the limits, or of any bytes. */
static void
fill_labels(input *in, test_case *t, uint64_t *state)
{
    const cl_batch *b = &t->batch;
    const unsigned kind = (unsigned)take(in, 1);
    const uint64_t K = (uint64_t)(b->K > 0 ? b->K : 1);
    const uint64_t max = label_mask(b->label_size) >> b->label_signed;
    for (int64_t i = 0; i < b->B; i++) {
        const uint64_t random = random_bits(state);
        uint64_t label = kind % 4 == 0   ? random % K
                         : kind % 4 == 1 ? random % (K < 3 ? K : 3)
                         : kind % 4 == 2 ? kind % K
                                         : (uint64_t)i % K;
        if (kind & 16 && random >> 60 == 0) {
            label = (uint64_t)b->ignore_index;
        }
        else if (label > max) {
            label = max < K ? max : 0;
        }
        memcpy(row_of(&t->labels, i), &label, (size_t)b->label_size);
    }
    for (int n = (int)(kind >> 6); n > 0 && b->B > 0; n--) {
        const int64_t row = (int64_t)(take(in, 4) % (uint64_t)b->B);
        const unsigned which = (unsigned)take(in, 1) % 4;
        const uint64_t label = which == 0   ? (uint64_t)b->K
                               : which == 1 ? (uint64_t)b->ignore_index
                               : which == 2 ? K - 1
                                            : take(in, 8);
        memcpy(row_of(&t->labels, row), &label, (size_t)b->label_size);
    }
}

/* A finite number >= 0, often a small one. */
static double
take_factor(input *in)
{
    const unsigned kind = (unsigned)take(in, 1);
    if (kind < 224) {
        return kind / 64.0;
    }
    const uint64_t bits = take(in, 8) & INT64_MAX;
    double value;
    memcpy(&value, &bits, 8);
    return isfinite(value) ? value : 1.0;
}

static void
fill_weights(input *in, test_case *t, uint64_t *state)
{
    const unsigned kind = (unsigned)take(in, 1);
    const int64_t B = t->batch.B;
    if (kind % 2 == 0) {
        return;
    }
    t->weights = malloc((size_t)B * 8);
    for (int64_t i = 0; i < B; i++) {
        const uint64_t random = random_bits(state);
        const bool zero = kind & 2 ? random % 4 == 0 : (kind & 4) != 0;
        t->weights[i] = zero ? 0.0 : (double)(random >> 11) * 0x1p-51;
    }
    if (kind & 8 && B > 0) {
        t->weights[take(in, 4) % (uint64_t)B] = take_factor(in);
    }
    t->batch.weights = t->weights;
}

/* Places with gaps, small or as long as a segment. */
static void
fill_places(input *in, test_case *t, uint64_t *state)
{
    const unsigned kind = (unsigned)take(in, 1);
    const int64_t B = t->batch.B;
    if (kind % 2 == 0) {
        return;
    }
    t->places = malloc((size_t)B * 8);
    int64_t place = kind & 2 ? 0 : 32768 - kind;
    for (int64_t i = 0; i < B; i++) {
        t->places[i] = place;
        place += 1 + (int64_t)(random_bits(state) % (kind & 4 ? 40000 : 3));
    }
    t->batch.places = t->places;
}

/* Rows that share memory, in arrays that are only read; and whether rows that are not
 * finite are skipped. */
static void
take_zero_strides(input *in, test_case *t)
{
    const unsigned zero = (unsigned)take(in, 1);
    t->update_options.skip_nonfinite = zero & 8;
    if (zero % 8 == 1) {
        t->features.stride = 0;
    }
    if (zero % 8 == 2) {
        t->labels.stride = 0;
    }
    if (zero % 8 == 3 && !(t->needs & CL_GROUPS)) {
        t->centers.stride = 0;
    }
}

static void
take_options(input *in, test_case *t)
{
    cl_batch *b = &t->batch;
    const unsigned bits = (unsigned)take(in, 2);
    b->types = bits % CL_TYPES;
    b->label_size = 1 << (bits >> 2 & 3);
    b->label_signed = bits >> 4 & 1;
    b->has_ignore_index = bits >> 5 & 1;
    t->needs = 1 + (int)(bits >> 6 & 3) % 3;
    t->threads = 1 + (int)(bits >> 8 & 3);
    t->loss_options.reduction = (bits >> 10 & 3) % 3;
    t->update_options.normalize = bits >> 12 & 1;
    t->wants_gradient = (bits >> 13 & 3) != 0;
    b->ignore_index = (int64_t)take(in, 1) - 2;
    if (bits >> 15) {
        b->ignore_index = (int64_t)take(in, 8);
    }
    t->loss_options.loss_weight = take_factor(in);
    t->update_options.alpha = take_factor(in);
    t->gradient_layout = (unsigned)take(in, 1);
    t->deltas_layout = (unsigned)take(in, 1);
    t->losses_layout = (unsigned)take(in, 1);
}

test_case
take_case(const uint8_t *data, size_t size)
{
    input bytes = {data, size}, *in = &bytes;
    test_case t = {0};
    cl_batch *b = &t.batch;
    take_options(in, &t);
    take_sizes(in, b);
    const int feature = formats[feature_formats[b->types]].size;
    const int center = formats[center_formats[b->types]].size;
    t.features = make_array(b->B, b->D * feature, feature, (unsigned)take(in, 1));
    t.centers = make_array(b->K, b->D * center, center, (unsigned)take(in, 1));
    t.labels = make_array(b->B, b->label_size, 1, (unsigned)take(in, 1));
    take_zero_strides(in, &t);
    const unsigned kinds = (unsigned)take(in, 1);
    uint64_t state = take(in, 8);
    fill_numbers(&t.features, feature_formats[b->types], kinds, &state);
    fill_numbers(&t.centers, center_formats[b->types], kinds, &state);
    fill_weights(in, &t, &state);
    fill_labels(in, &t, &state);
    fill_places(in, &t, &state);
    b->features = t.features.first;
    b->feature_stride = t.features.stride;
    b->labels = t.labels.first;
    b->label_stride = t.labels.stride;
    b->center_stride = t.centers.stride;
    return t;
}

void
free_case(test_case *t)
{
    free(t->features.memory);
    free(t->centers.memory);
    free(t->labels.memory);
    free(t->weights);
    free(t->places);
}
