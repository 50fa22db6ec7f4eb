/* The kernels for x86-64-v3: AVX2. */
#include "kernels.h"

#ifdef CL_HAS_X86_64_LEVELS
#include <immintrin.h>
#include <string.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("arch=x86-64-v3"))), \
                             apply_to = function)
#else
#pragma GCC target("arch=x86-64-v3")
#endif
#define HAS_X86_64_V3
#define VECTOR_BYTES 32
/* GCC makes two of each conversion out of __builtin_convertvector. */
#define PART_WIDEN(v, half) \
    _mm256_cvtps_pd(half ? _mm256_extractf128_ps(v, 1) : _mm256_castps256_ps128(v))
#define PART_NARROW(low, high) \
    _mm256_set_m128(_mm256_cvtpd_ps(high), _mm256_cvtpd_ps(low))
#define PART_FMA_F32(a, b, c) _mm256_fmadd_ps(a, b, c)
#define PART_FMA_F64(a, b, c) _mm256_fmadd_pd(a, b, c)
#define ISA_KERNELS cl_kernels_x86_64_v3
#include "kernels_for_isa.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
