/*
 * Random bits, the same on every platform (SplitMix64).
 */
#ifndef RANDOM_BITS_H
#define RANDOM_BITS_H

#include <stdint.h>

/* Returns the next 64 bits. Any initial state will do. */
static inline uint64_t
random_bits(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

#endif
