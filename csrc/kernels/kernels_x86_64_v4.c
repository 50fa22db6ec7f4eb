/* The kernels for x86-64-v4: AVX-512. */
#include "kernels.h"

#ifdef CL_HAS_X86_64_LEVELS
#include <immintrin.h>
#include <string.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("arch=x86-64-v4"))), \
                             apply_to = function)
#else
#pragma GCC target("arch=x86-64-v4")
#pragma GCC target("prefer-vector-width=512")
#endif
#define HAS_X86_64_V3
#define VECTOR_BYTES 64
/* GCC makes two of each conversion out of __builtin_convertvector. */
#define PART_WIDEN(v, half) \
    _mm512_cvtps_pd(half ? _mm512_extractf32x8_ps(v, 1) : _mm512_castps512_ps256(v))
#define PART_NARROW(low, high)                                       \
    _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), \
                       _mm512_cvtpd_ps(high), 1)
#define PART_FMA_F32(a, b, c) _mm512_fmadd_ps(a, b, c)
#define PART_FMA_F64(a, b, c) _mm512_fmadd_pd(a, b, c)
#define ISA_KERNELS cl_kernels_x86_64_v4
#include "kernels_for_isa.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
