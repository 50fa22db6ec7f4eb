/*
 * Numbers of every type, and arrays allocated with exactly their size.
 */
#include "contract.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const format_facts formats[] = {
    [F16] = {2, 10, 65504.0, 0x1p-24},
    [BF16] = {2, 7, 0x1.fep127, 0x1p-133},
    [F32] = {4, 23, FLT_MAX, 0x1p-149},
    [F64] = {8, 52, DBL_MAX, 0x1p-1074},
};

const format feature_formats[CL_TYPES] = {F32, F64, F16, BF16};
const format center_formats[CL_TYPES] = {F32, F64, F32, F32};

static double
half_value(uint16_t bits)
{
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double value = exponent == 31  ? (fraction ? NAN : INFINITY)
                   : exponent == 0 ? ldexp(fraction, -24)
                                   : ldexp(1024 + fraction, exponent - 25);
    return bits >> 15 ? -value : value;
}

double
load(const char *p, format f)
{
    uint16_t half;
    uint32_t wide;
    float single;
    double value;
    switch (f) {
        case F16:
            memcpy(&half, p, 2);
            return half_value(half);
        case BF16:
            memcpy(&half, p, 2);
            wide = (uint32_t)half << 16;
            memcpy(&single, &wide, 4);
            return single;
        case F32:
            memcpy(&single, p, 4);
            return single;
        default:
            memcpy(&value, p, 8);
            return value;
    }
}

double
rounded(double value, format f)
{
    return f == F64 ? value : (double)(float)value;
}

enum {
    FILL = 0x5a
};

array
make_array(int64_t rows, int64_t row_bytes, int64_t unit, unsigned layout)
{
    const int64_t place = (layout & 7) * unit;
    const int64_t gap = layout & 8 ? (layout >> 4 & 3) * unit : 0;
    const int64_t step = row_bytes + gap, last = rows > 0 ? (rows - 1) * step : 0;
    array a = {.rows = rows, .row_bytes = row_bytes, .stride = step};
    a.bytes = place + (rows > 0 ? last + row_bytes : 0);
    a.memory = malloc((size_t)a.bytes);
    if (a.memory == NULL && a.bytes > 0) {
        fail("out of memory");
    }
    a.first = a.memory == NULL ? NULL : a.memory + place;
    if (layout & 64 && rows > 0) {
        a.first += last;
        a.stride = -step;
    }
    if (a.bytes > 0) {
        memset(a.memory, FILL, (size_t)a.bytes);
    }
    return a;
}

char *
row_of(const array *a, int64_t row)
{
    return a->first + row * a->stride;
}

array
copy_of(const array *a)
{
    array copy = *a;
    copy.memory = malloc((size_t)a->bytes);
    if (a->bytes > 0) {
        if (copy.memory == NULL) {
            fail("out of memory");
        }
        memcpy(copy.memory, a->memory, (size_t)a->bytes);
        copy.first = copy.memory + (a->first - a->memory);
    }
    return copy;
}

void
check_gaps(const array *a, const char *name)
{
    array copy = copy_of(a);
    for (int64_t i = 0; i < a->rows; i++) {
        memset(row_of(&copy, i), FILL, (size_t)a->row_bytes);
    }
    for (int64_t at = 0; at < copy.bytes; at++) {
        if (copy.memory[at] != FILL) {
            fail("%s: byte %" PRId64 " outside of the rows changed", name, at);
        }
    }
    free(copy.memory);
}
