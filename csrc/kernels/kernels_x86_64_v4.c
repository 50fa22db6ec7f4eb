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
/* GCC makes two of each of these out of __builtin_convertvector. */
#define PART_WIDEN(v) _mm512_cvtps_pd(v)
#define PART_NARROW(v) _mm512_cvtpd_ps(v)
#define ISA_KERNELS cl_kernels_x86_64_v4
#include "kernels_for_isa.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
