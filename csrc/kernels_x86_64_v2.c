/* The kernels for x86-64-v2. */
#include "kernels.h"

#ifdef CL_HAS_X86_64_LEVELS
#include <immintrin.h>
#include <string.h>
/* clang-format off */
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("sse4.2,popcnt"))), apply_to = function)
#else
#pragma GCC target("sse4.2,popcnt")
#endif
/* clang-format on */
#define VECTOR_BYTES 16
#define ALONE_LOOPS 0 /* a sixth of this code, for processors of before 2013 */
#define ISA_KERNELS cl_kernels_x86_64_v2
#include "kernels_for_isa.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
