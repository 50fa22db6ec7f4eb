/*
 * Eight lanes of features in 16 bits: h for IEEE half precision, b for
 * bfloat16 (the upper half of a float). Loads widen to float, which is exact;
 * stores round to nearest, ties to even. No lane takes a branch.
 */
#ifndef CENTERLOSS_HALF_H
#define CENTERLOSS_HALF_H

#include <stdint.h>

#include "lanes.h"

#ifdef VECTOR_BYTES
typedef uint32_t u_part __attribute__((vector_size(VECTOR_BYTES / 2)));
typedef uint16_t h_part __attribute__((vector_size(VECTOR_BYTES / 4)));
/* All ones where a comparison holds. */
#define PART_MASK(comparison) ((u_part)(comparison))
#else
typedef uint32_t u_part;
typedef uint16_t h_part;
#define PART_MASK(comparison) (-(u_part)(comparison))
#endif

typedef struct {
    h_part part[PARTS];
} h8;

CL_INLINE h8
h8_bits_load(const uint16_t *p, int n)
{
    h8 v;
    memset(&v, 0, sizeof(v));
    for (int i = 0; i < full_parts(n); i++) {
        memcpy(&v.part[i], p + i * PART_LANES, sizeof(v.part[i]));
    }
    for (int k = full_parts(n) * PART_LANES; k < n; k++) {
        PART_LANE(v.part[k / PART_LANES], k % PART_LANES) = p[k];
    }
    return v;
}

CL_INLINE void
h8_bits_store(uint16_t *p, h8 v, int n)
{
    for (int i = 0; i < full_parts(n); i++) {
        memcpy(p + i * PART_LANES, &v.part[i], sizeof(v.part[i]));
    }
    for (int k = full_parts(n) * PART_LANES; k < n; k++) {
        p[k] = PART_LANE(v.part[k / PART_LANES], k % PART_LANES);
    }
}

CL_INLINE u_part
part_select(u_part mask, u_part yes, u_part no)
{
    return (mask & yes) | (~mask & no);
}

CL_INLINE f_part
part_float(u_part bits)
{
    f_part v;
    memcpy(&v, &bits, sizeof(v));
    return v;
}

CL_INLINE u_part
part_bits(f_part v)
{
    u_part bits;
    memcpy(&bits, &v, sizeof(bits));
    return bits;
}

/* A half is sign, 5 bits of exponent, 10 of fraction. Moved into a float's
 * place its exponent is 112 too small, infinity and NaN need 112 more, and a
 * subnormal is a normal number with the implicit 2^-14 still to take off. */
CL_INLINE f_part
half_to_float(u_part h)
{
    const u_part bias = (u_part){0} + (112u << 23);
    const u_part smallest = (u_part){0} + (113u << 23); /* 2^-14 */
    const u_part magnitude = (h & 0x7fffu) << 13;
    const u_part normal = magnitude + bias;
    const u_part special = normal + bias;
    const u_part subnormal =
        part_bits(part_float(magnitude + smallest) - part_float(smallest));
    u_part bits = part_select(PART_MASK(magnitude < (1u << 23)), subnormal, normal);
    bits = part_select(PART_MASK(magnitude >= (0x1fu << 23)), special, bits);
    return part_float(bits | ((h & 0x8000u) << 16));
}

/* The other way. Adding 1/2 to a number below 2^-14 leaves the half's
 * subnormal fraction, rounded by the processor, in the sum's last bits. A NaN
 * keeps its upper bits and is made quiet, as the conversion instructions do. */
CL_INLINE u_part
half_from_float(f_part value)
{
    const u_part one_half = (u_part){0} + (126u << 23);
    const u_part infinity = (u_part){0} + 0x7c00u;
    const u_part bits = part_bits(value);
    const u_part magnitude = bits & 0x7fffffffu;
    const u_part odd = (magnitude >> 13) & 1u;
    const u_part normal = (magnitude - (112u << 23) + 0xfffu + odd) >> 13;
    const u_part subnormal =
        part_bits(part_float(magnitude) + part_float(one_half)) - one_half;
    const u_part nan = infinity | 0x200u | ((magnitude >> 13) & 0x3ffu);
    u_part h = part_select(PART_MASK(magnitude < (113u << 23)), subnormal, normal);
    h = part_select(PART_MASK(magnitude >= (143u << 23)), infinity, h);
    h = part_select(PART_MASK(magnitude > (255u << 23)), nan, h);
    return h | ((bits >> 16) & 0x8000u);
}

CL_INLINE u_part
bfloat_from_float(f_part value)
{
    const u_part bits = part_bits(value);
    const u_part odd = (bits >> 16) & 1u;
    const u_part rounded = (bits + 0x7fffu + odd) >> 16;
    const u_part nan = (bits >> 16) | 0x40u;
    return part_select(PART_MASK((bits & 0x7fffffffu) > (255u << 23)), nan, rounded);
}

CL_INLINE f8
h8_load(const uint16_t *p, int n)
{
    h8 bits = h8_bits_load(p, n);
    f8 v = f8_zero();
    for (int i = 0; i < parts(n); i++) {
        v.part[i] = half_to_float(PART_CONVERT(bits.part[i], u_part));
    }
    return v;
}

CL_INLINE h8
h8_from(f8 v, int n)
{
    h8 bits;
    memset(&bits, 0, sizeof(bits));
    for (int i = 0; i < parts(n); i++) {
        bits.part[i] = PART_CONVERT(half_from_float(v.part[i]), h_part);
    }
    return bits;
}

CL_INLINE void
h8_store(uint16_t *p, f8 v, int n)
{
    h8_bits_store(p, h8_from(v, n), n);
}

CL_INLINE void
h8_stream(uint16_t *p, f8 v)
{
    h8 bits = h8_from(v, LANES);
    stream_store(p, &bits, sizeof(bits));
}

CL_INLINE f8
b8_load(const uint16_t *p, int n)
{
    h8 bits = h8_bits_load(p, n);
    f8 v = f8_zero();
    for (int i = 0; i < parts(n); i++) {
        v.part[i] = part_float(PART_CONVERT(bits.part[i], u_part) << 16);
    }
    return v;
}

CL_INLINE h8
b8_from(f8 v, int n)
{
    h8 bits;
    memset(&bits, 0, sizeof(bits));
    for (int i = 0; i < parts(n); i++) {
        bits.part[i] = PART_CONVERT(bfloat_from_float(v.part[i]), h_part);
    }
    return bits;
}

CL_INLINE void
b8_store(uint16_t *p, f8 v, int n)
{
    h8_bits_store(p, b8_from(v, n), n);
}

CL_INLINE void
b8_stream(uint16_t *p, f8 v)
{
    h8 bits = b8_from(v, LANES);
    stream_store(p, &bits, sizeof(bits));
}

#endif
