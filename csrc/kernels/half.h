/*
 * Sixteen lanes of features in 16 bits: f16x16 for IEEE half precision, bf16x16 for
 * bfloat16 (the upper half of a float). Loads widen to float, which is exact; stores
 * round to nearest, ties to even.
 *
 * With HAS_X86_64_V3 a part is converted by instructions, in half_avx2.h or
 * half_avx512.h; without, every number is converted in a loop.
 */
#ifndef CENTERLOSS_HALF_H
#define CENTERLOSS_HALF_H

#include <stdint.h>

#include "simd.h"

#ifdef HAS_X86_64_V3
typedef uint32_t u_part __attribute__((vector_size(VECTOR_BYTES)));
#endif

CL_INLINE float
float_of_bits(uint32_t bits)
{
    float v;
    memcpy(&v, &bits, sizeof(v));
    return v;
}

CL_INLINE uint32_t
bits_of_float(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof(bits));
    return bits;
}

/* condition ? yes : no, without a branch. */
CL_INLINE uint32_t
choose(bool condition, uint32_t yes, uint32_t no)
{
    const uint32_t mask = 0u - (uint32_t)condition;
    return (mask & yes) | (~mask & no);
}

/* A half has a sign bit, 5 bits of exponent and 10 of fraction. Shifted to where a
 * float has them, the exponent is 112 too small; for infinity and NaN it is 224 too
 * small. A subnormal half has no implicit bit: as the fraction of a float with the
 * exponent of 2^-14 it is 2^-14 too large, which is subtracted. */
CL_INLINE float
half_to_float(uint16_t half)
{
    const uint32_t bias = 112u << 23;
    const uint32_t smallest = 113u << 23; /* 2^-14 */
    const uint32_t magnitude = (half & 0x7fffu) << 13;
    const uint32_t subnormal =
        bits_of_float(float_of_bits(magnitude + smallest) - float_of_bits(smallest));
    uint32_t bits = choose(magnitude < (1u << 23), subnormal, magnitude + bias);
    bits = choose(magnitude >= (0x1fu << 23), magnitude + 2 * bias, bits);
    return float_of_bits(bits | ((half & 0x8000u) << 16));
}

/* Round to nearest, ties to even. When 1/2 is added to a number below 2^-14, the
 * processor rounds the sum so that its last bits are the fraction of the subnormal
 * half. A NaN keeps its upper bits and is made quiet, as by the conversion
 * instructions. */
CL_INLINE uint16_t
half_from_float(float value)
{
    const uint32_t one_half = 126u << 23;
    const uint32_t infinity = 0x7c00u;
    const uint32_t bits = bits_of_float(value);
    const uint32_t magnitude = bits & 0x7fffffffu;
    const uint32_t odd = (magnitude >> 13) & 1u;
    const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + odd) >> 13;
    const uint32_t subnormal =
        bits_of_float(float_of_bits(magnitude) + float_of_bits(one_half)) - one_half;
    const uint32_t nan = infinity | 0x200u | ((magnitude >> 13) & 0x3ffu);
    uint32_t half = choose(magnitude < (113u << 23), subnormal, normal);
    half = choose(magnitude >= (143u << 23), infinity, half);
    half = choose(magnitude > (255u << 23), nan, half);
    return (uint16_t)(half | ((bits >> 16) & 0x8000u));
}

CL_INLINE float
bfloat_to_float(uint16_t bfloat)
{
    return float_of_bits((uint32_t)bfloat << 16);
}

CL_INLINE uint16_t
bfloat_from_float(float value)
{
    const uint32_t bits = bits_of_float(value);
    const uint32_t odd = (bits >> 16) & 1u;
    const uint32_t rounded = (bits + 0x7fffu + odd) >> 16;
    const uint32_t nan = (bits >> 16) | 0x40u;
    const bool is_nan = (bits & 0x7fffffffu) > (255u << 23);
    return (uint16_t)choose(is_nan, nan, rounded);
}

#ifdef HAS_X86_64_V3
#if VECTOR_BYTES == 64
#include "half_avx512.h"
#else
#include "half_avx2.h"
#endif

CL_INLINE u_part
round_to_bfloats(u_part bits)
{
    return bits + 0x7fffu + ((bits >> 16) & 1u);
}

/* bfloat_from_float() of a part. */
CL_INLINE h_part
bfloats_pack(f_part value)
{
    const u_part bits = (u_part)value;
    const u_part nan = bits | (0x40u << 16);
    return narrow_bits(choose_nan(value, nan, round_to_bfloats(bits)) >> 16);
}

/* bfloat_from_float() of all parts. */
CL_INLINE __m256i
bfloats_pack_all(f32x16 v)
{
#if VECTOR_BYTES == 64
    return bfloats_pack(v.part[0]); /* GCOVR_EXCL_LINE: AVX-512 */
#else
    const __m256 is_nan = _mm256_cmp_ps(v.part[0], v.part[1], _CMP_UNORD_Q);
    if (_mm256_movemask_ps(is_nan) != 0) { /* in either part */
        return _mm256_set_m128i(bfloats_pack(v.part[1]), bfloats_pack(v.part[0]));
    }
    const u_part low = round_to_bfloats((u_part)v.part[0]) >> 16;
    const u_part high = round_to_bfloats((u_part)v.part[1]) >> 16;
    const __m256i mixed = _mm256_packus_epi32((__m256i)low, (__m256i)high);
    return _mm256_permute4x64_epi64(mixed, 0xd8);
#endif
}

/* Load the i-th part of n numbers. */
CL_INLINE h_part
halves_load(const uint16_t *p, int i, int n)
{
    h_part some;
    const int lanes = n - i * F_LANES < F_LANES ? n - i * F_LANES : F_LANES;
    memset(&some, 0, sizeof(some));
    memcpy(&some, p + i * F_LANES, (size_t)lanes * sizeof(*p));
    return some;
}

CL_INLINE void
halves_store(uint16_t *p, h_part halves, int i, int n)
{
    const int lanes = n - i * F_LANES < F_LANES ? n - i * F_LANES : F_LANES;
    memcpy(p + i * F_LANES, &halves, (size_t)lanes * sizeof(*p));
}

CL_INLINE f32x16
f16x16_load(const uint16_t *p, int n)
{
    f32x16 v = f32x16_zero();
    for (int i = 0; i < parts(n, F_LANES); i++) {
        v.part[i] = halves_unpack(halves_load(p, i, n));
    }
    return v;
}

CL_INLINE void
f16x16_store(uint16_t *p, f32x16 v, int n)
{
    for (int i = 0; i < parts(n, F_LANES); i++) {
        halves_store(p, halves_pack(v.part[i]), i, n);
    }
}

CL_INLINE void
f16x16_stream(uint16_t *p, f32x16 v, line_writer *lines)
{
    (void)lines;
    for (int i = 0; i < LANES / F_LANES; i++) {
        const h_part halves = halves_pack(v.part[i]);
        stream_store(p + i * F_LANES, &halves, sizeof(halves));
    }
}

CL_INLINE f32x16
bf16x16_load(const uint16_t *p, int n)
{
    f32x16 v = f32x16_zero();
    for (int i = 0; i < parts(n, F_LANES); i++) {
        v.part[i] = bfloats_unpack(halves_load(p, i, n));
    }
    return v;
}

CL_INLINE void
bf16x16_store(uint16_t *p, f32x16 v, int n)
{
    if (n == LANES) {
        _mm256_storeu_si256((__m256i *)p, bfloats_pack_all(v));
        return;
    }
    for (int i = 0; i < parts(n, F_LANES); i++) {
        halves_store(p, bfloats_pack(v.part[i]), i, n);
    }
}

CL_INLINE void
bf16x16_stream(uint16_t *p, f32x16 v, line_writer *lines)
{
    (void)lines;
    const __m256i bfloats = bfloats_pack_all(v);
    stream_store(p, &bfloats, sizeof(bfloats));
}

#else
/* Not inlined: these functions are long, and a call costs little beside them. */
static CL_NOINLINE f32x16
f16x16_load(const uint16_t *p, int n)
{
    float wide[LANES];
    for (int k = 0; k < n; k++) {
        wide[k] = half_to_float(p[k]);
    }
    return f32x16_load(wide, n);
}

static CL_NOINLINE void
f16x16_store(uint16_t *p, f32x16 v, int n)
{
    float wide[LANES];
    f32x16_store(wide, v, LANES);
    for (int k = 0; k < n; k++) {
        p[k] = half_from_float(wide[k]);
    }
}

CL_INLINE void
f16x16_stream(uint16_t *p, f32x16 v, line_writer *lines)
{
    (void)lines;
    uint16_t halves[LANES];
    f16x16_store(halves, v, LANES);
    stream_store(p, halves, sizeof(halves));
}

static CL_NOINLINE f32x16
bf16x16_load(const uint16_t *p, int n)
{
    float wide[LANES];
    for (int k = 0; k < n; k++) {
        wide[k] = bfloat_to_float(p[k]);
    }
    return f32x16_load(wide, n);
}

static CL_NOINLINE void
bf16x16_store(uint16_t *p, f32x16 v, int n)
{
    float wide[LANES];
    f32x16_store(wide, v, LANES);
    for (int k = 0; k < n; k++) {
        p[k] = bfloat_from_float(wide[k]);
    }
}

CL_INLINE void
bf16x16_stream(uint16_t *p, f32x16 v, line_writer *lines)
{
    (void)lines;
    uint16_t bfloats[LANES];
    bf16x16_store(bfloats, v, LANES);
    stream_store(p, bfloats, sizeof(bfloats));
}
#endif

#endif
