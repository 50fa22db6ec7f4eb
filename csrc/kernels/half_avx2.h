/* Eight 16-bit floats in one vector, for half.h. */
#ifndef CENTERLOSS_HALF_AVX2_H
#define CENTERLOSS_HALF_AVX2_H

typedef __m128i h_part; /* 16-bit numbers for one f_part */

CL_INLINE f_part
halves_unpack(h_part halves)
{
    return _mm256_cvtph_ps(halves);
}

CL_INLINE h_part
halves_pack(f_part v)
{
    return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
}

CL_INLINE f_part
bfloats_unpack(h_part bfloats)
{
    return (f_part)_mm256_slli_epi32(_mm256_cvtepu16_epi32(bfloats), 16);
}

CL_INLINE u_part
choose_nan(f_part value, u_part nan, u_part other)
{
    const __m256 is_nan = _mm256_cmp_ps(value, value, _CMP_UNORD_Q);
    return (u_part)_mm256_blendv_ps((__m256)other, (__m256)nan, is_nan);
}

CL_INLINE h_part
narrow_bits(u_part bits)
{
    return _mm_packus_epi32(_mm256_castsi256_si128((__m256i)bits),
                            _mm256_extracti128_si256((__m256i)bits, 1));
}

#endif
