/*
 * Eight lanes of features in 16 bits: f16x8 for IEEE half precision, bf16x8 for
 * bfloat16 (the upper half of a float). Loads widen to float, which is exact; stores
 * round to nearest, ties to even.
 *
 * Conversions have no branches and convert all eight lanes, even if fewer are used.
 * With HAS_X86_64_V3 there are instructions for them, on one 16-byte vector; without,
 * there are loops.
 */
#ifndef CENTERLOSS_HALF_H
#define CENTERLOSS_HALF_H

#include <stdint.h>

#include "simd.h"

#ifdef HAS_X86_64_V3
typedef uint32_t u_part __attribute__((vector_size(VECTOR_BYTES / 2)));
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

/* A half is sign, 5 bits of exponent, 10 of fraction. Moved into a float's
 * place its exponent is 112 too small, infinity and NaN need 112 more, and a
 * subnormal is a normal number with the implicit 2^-14 still to take off. */
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

/* The other way. Adding 1/2 to a number below 2^-14 leaves the half's
 * subnormal fraction, rounded by the processor, in the sum's last bits. A NaN
 * keeps its upper bits and is made quiet, as the conversion instructions do. */
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
CL_INLINE f32x8
halves_unpack(__m128i halves)
{
    f32x8 v;
#if VECTOR_BYTES == 64
    v.part[0] = _mm256_cvtph_ps(halves);
#else
    v.part[0] = _mm_cvtph_ps(halves);
    v.part[1] = _mm_cvtph_ps(_mm_unpackhi_epi64(halves, halves));
#endif
    return v;
}

CL_INLINE __m128i
halves_pack(f32x8 v)
{
#if VECTOR_BYTES == 64
    return _mm256_cvtps_ph(v.part[0], _MM_FROUND_TO_NEAREST_INT);
#else
    return _mm_unpacklo_epi64(_mm_cvtps_ph(v.part[0], _MM_FROUND_TO_NEAREST_INT),
                              _mm_cvtps_ph(v.part[1], _MM_FROUND_TO_NEAREST_INT));
#endif
}
#else
/* Not inline: so much code is worth a call. */
static CL_NOINLINE f32x8
halves_unpack(const uint16_t *halves)
{
    float wide[LANES];
    for (int k = 0; k < LANES; k++) {
        wide[k] = half_to_float(halves[k]);
    }
    return f32x8_load(wide, LANES);
}

static CL_NOINLINE void
halves_pack(uint16_t *halves, f32x8 v)
{
    float wide[LANES];
    f32x8_store(wide, v, LANES);
    for (int k = 0; k < LANES; k++) {
        halves[k] = half_from_float(wide[k]);
    }
}
#endif

CL_INLINE f32x8
f16x8_load(const uint16_t *p, int n)
{
#ifdef HAS_X86_64_V3
    __m128i some = _mm_setzero_si128();
    memcpy(&some, p, (size_t)n * sizeof(*p));
    return halves_unpack(some);
#else
    uint16_t some[LANES] = {0};
    memcpy(some, p, (size_t)n * sizeof(*p));
    return halves_unpack(some);
#endif
}

CL_INLINE void
f16x8_store(uint16_t *p, f32x8 v, int n)
{
#ifdef HAS_X86_64_V3
    const __m128i some = halves_pack(v);
    memcpy(p, &some, (size_t)n * sizeof(*p));
#else
    uint16_t some[LANES];
    halves_pack(some, v);
    memcpy(p, some, (size_t)n * sizeof(*p));
#endif
}

CL_INLINE void
f16x8_stream(uint16_t *p, f32x8 v)
{
#ifdef HAS_X86_64_V3
    _mm_stream_si128((__m128i *)p, halves_pack(v));
#else
    uint16_t halves[LANES];
    f16x8_store(halves, v, LANES);
    stream_store(p, halves, sizeof(halves));
#endif
}

#ifdef HAS_X86_64_V3
CL_INLINE f32x8
bfloats_unpack(__m128i bfloats)
{
    f32x8 v;
#if VECTOR_BYTES == 64
    v.part[0] = (f_part)_mm256_slli_epi32(_mm256_cvtepu16_epi32(bfloats), 16);
#else
    v.part[0] = (f_part)_mm_unpacklo_epi16(_mm_setzero_si128(), bfloats);
    v.part[1] = (f_part)_mm_unpackhi_epi16(_mm_setzero_si128(), bfloats);
#endif
    return v;
}

/* bfloat_from_float() of a part, left in the upper halves of 32-bit lanes. */
CL_INLINE u_part
bfloats_round(f_part value)
{
    const u_part bits = (u_part)value;
    const u_part rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
    const u_part nan = bits | (0x40u << 16);
#if VECTOR_BYTES == 64
    const __mmask8 is_nan = _mm256_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    return (u_part)_mm256_mask_mov_epi32((__m256i)rounded, is_nan, (__m256i)nan);
#else
    const __m128 is_nan = _mm_cmpunord_ps(value, value);
    return (u_part)_mm_blendv_ps((__m128)rounded, (__m128)nan, is_nan);
#endif
}

CL_INLINE __m128i
bfloats_pack(f32x8 v)
{
#if VECTOR_BYTES == 64
    const __m256i upper =
        _mm256_setr_epi16(1, 3, 5, 7, 9, 11, 13, 15, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m256i rounded = (__m256i)bfloats_round(v.part[0]);
    return _mm256_castsi256_si128(_mm256_permutexvar_epi16(upper, rounded));
#else
    return _mm_packus_epi32((__m128i)(bfloats_round(v.part[0]) >> 16),
                            (__m128i)(bfloats_round(v.part[1]) >> 16));
#endif
}
#else
static CL_NOINLINE f32x8
bfloats_unpack(const uint16_t *bfloats)
{
    float wide[LANES];
    for (int k = 0; k < LANES; k++) {
        wide[k] = bfloat_to_float(bfloats[k]);
    }
    return f32x8_load(wide, LANES);
}

static CL_NOINLINE void
bfloats_pack(uint16_t *bfloats, f32x8 v)
{
    float wide[LANES];
    f32x8_store(wide, v, LANES);
    for (int k = 0; k < LANES; k++) {
        bfloats[k] = bfloat_from_float(wide[k]);
    }
}
#endif

CL_INLINE f32x8
bf16x8_load(const uint16_t *p, int n)
{
#ifdef HAS_X86_64_V3
    __m128i some = _mm_setzero_si128();
    memcpy(&some, p, (size_t)n * sizeof(*p));
    return bfloats_unpack(some);
#else
    uint16_t some[LANES] = {0};
    memcpy(some, p, (size_t)n * sizeof(*p));
    return bfloats_unpack(some);
#endif
}

CL_INLINE void
bf16x8_store(uint16_t *p, f32x8 v, int n)
{
#ifdef HAS_X86_64_V3
    const __m128i some = bfloats_pack(v);
    memcpy(p, &some, (size_t)n * sizeof(*p));
#else
    uint16_t some[LANES];
    bfloats_pack(some, v);
    memcpy(p, some, (size_t)n * sizeof(*p));
#endif
}

CL_INLINE void
bf16x8_stream(uint16_t *p, f32x8 v)
{
#ifdef HAS_X86_64_V3
    _mm_stream_si128((__m128i *)p, bfloats_pack(v));
#else
    uint16_t bfloats[LANES];
    bf16x8_store(bfloats, v, LANES);
    stream_store(p, bfloats, sizeof(bfloats));
#endif
}

#endif
