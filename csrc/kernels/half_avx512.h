/* Sixteen 16-bit floats in one vector, for half.h. */
#ifndef CENTERLOSS_HALF_AVX512_H
#define CENTERLOSS_HALF_AVX512_H

typedef __m256i h_part; /* 16-bit numbers for one f_part */

CL_INLINE f_part
halves_unpack(h_part halves)
{
    return _mm512_cvtph_ps(halves);
}

CL_INLINE h_part
halves_pack(f_part v)
{
    /* With GCC and no optimization, _mm512_cvtps_ph() is a macro that warns. */
    return _mm512_maskz_cvtps_ph(0xffff, v, _MM_FROUND_TO_NEAREST_INT);
}

CL_INLINE f_part
bfloats_unpack(h_part bfloats)
{
    return (f_part)_mm512_slli_epi32(_mm512_cvtepu16_epi32(bfloats), 16);
}

CL_INLINE u_part
choose_nan(f_part value, u_part nan, u_part other)
{
    const __mmask16 is_nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    return (u_part)_mm512_mask_mov_epi32((__m512i)other, is_nan, (__m512i)nan);
}

CL_INLINE h_part
narrow_bits(u_part bits)
{
    return _mm512_cvtepi32_epi16((__m512i)bits);
}

#endif
