/* The kernels for every other processor, or for a compiler without vector
 * types: 16 bytes are the vectors of AArch64, and of most others. */
#include "kernels.h"

#ifndef CL_HAS_X86_64_LEVELS
#if defined(__GNUC__) && !defined(CL_NO_VECTORS)
#define VECTOR_BYTES 16
#endif
#define ISA_KERNELS cl_kernels_portable
#include "kernels_for_isa.h"
#endif
