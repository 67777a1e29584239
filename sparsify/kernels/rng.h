/* rng.h: random numbers by counter: a number depends on its key alone, never on who asks first.
 * Source: the finalizer of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014). */
#ifndef WN_RNG_H
#define WN_RNG_H

#include <stdint.h>

static inline uint64_t wn_rng_mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
/** 64 random bits for (seed, a, b, c). */
static inline uint64_t wn_rng(uint64_t seed, uint64_t a, uint64_t b, uint64_t c)
{
    return wn_rng_mix(wn_rng_mix(wn_rng_mix(wn_rng_mix(seed) ^ a) ^ b) ^ c);
}
/** Uniform in [0, n), n >= 1; the bias of 2^-64 n does not matter here. */
static inline uint64_t wn_rng_below(uint64_t bits, uint64_t n)
{
    return (uint64_t)(((unsigned __int128)bits * n) >> 64);
}
/** Uniform in [0, 1). */
static inline float wn_rng_unit(uint64_t bits)
{
    return (float)(bits >> 40) * 0x1p-24f;
}

#endif
