/* The kernels in plain C, for any processor. */
#define ISA_KERNELS cl_kernels_baseline
#include "kernels_for_isa.h"
