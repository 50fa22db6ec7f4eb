/* The kernels for x86-64-v4. */
#include "kernels.h"

#ifdef CL_HAS_X86_64_LEVELS
#include <immintrin.h>
#include <string.h>
/* clang-format off */
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("sse4.2,popcnt,avx2,bmi,bmi2,f16c,fma,lzcnt,movbe,avx512f,avx512bw,avx512cd,avx512dq,avx512vl"))), apply_to = function)
#else
#pragma GCC target("sse4.2,popcnt,avx2,bmi,bmi2,f16c,fma,lzcnt,movbe")
#pragma GCC target("avx512f,avx512bw,avx512cd,avx512dq,avx512vl")
#pragma GCC target("prefer-vector-width=512")
#endif
/* clang-format on */
#define HAS_X86_64_V3
#define VECTOR_BYTES 64
/* GCC makes two of each of these out of __builtin_convertvector. */
#define PART_WIDEN(v) _mm512_cvtps_pd(v)
#define PART_NARROW(v) _mm512_cvtpd_ps(v)
#define STREAM_LINE(to, from) \
    _mm512_stream_si512((void *)(to), _mm512_load_si512((const void *)(from)))
#define ISA_KERNELS cl_kernels_x86_64_v4
#include "kernels_for_isa.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
