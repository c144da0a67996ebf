/*
 * random.h: counter-based random numbers.
 *
 * A number is a pure function of (key, counter), so a draw does not depend on
 * how many were made before it, by whom, or on which thread.
 * Mixing function: splitmix64's finalizer (Steele, Lea, Flood 2014).
 */
#ifndef MOE_RANDOM_H
#define MOE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* Compiled for both sides where a device's compiler reads this. */
#ifdef __CUDACC__
#define MOE_RANDOM_INLINE __host__ __device__ static inline
#else
#define MOE_RANDOM_INLINE static inline
#endif

MOE_RANDOM_INLINE uint64_t
moe_mix64(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Derive a new key from a key and a number: keys form a tree. */
MOE_RANDOM_INLINE uint64_t
moe_key(uint64_t key, uint64_t n)
{
    return moe_mix64(key ^ moe_mix64(n));
}

/* 64 random bits. */
MOE_RANDOM_INLINE uint64_t
moe_random_bits(uint64_t key, uint64_t counter)
{
    return moe_mix64(key + moe_mix64(counter ^ UINT64_C(0x5851f42d4c957f2d)));
}

/* As moe_mix64, of half the width and for vector units (Wellons' "lowbias32", 2018). */
MOE_RANDOM_INLINE uint32_t
moe_mix32(uint32_t x)
{
    x = (x ^ (x >> 16)) * UINT32_C(0x7feb352d);
    x = (x ^ (x >> 15)) * UINT32_C(0x846ca68b);
    return x ^ (x >> 16);
}

/* Small draws come in blocks: one base a block, then cheap bits by position. */
#define MOE_DRAW_BLOCK 512

MOE_RANDOM_INLINE uint32_t
moe_draw_base(uint64_t key, uint64_t block)
{
    return (uint32_t) moe_random_bits(key, block);
}

/* 16 random bits: draw number `counter` of the key. */
MOE_RANDOM_INLINE uint32_t
moe_random_draw(uint64_t key, uint64_t counter)
{
    uint32_t place = (uint32_t) (counter % MOE_DRAW_BLOCK);
    uint32_t bits = moe_mix32(moe_draw_base(key, counter / MOE_DRAW_BLOCK) + place % (MOE_DRAW_BLOCK / 2));
    return place < MOE_DRAW_BLOCK / 2 ? bits & 0xffff : bits >> 16;
}

/* Uniform in [0, 1). */
MOE_RANDOM_INLINE double
moe_random_uniform(uint64_t key, uint64_t counter)
{
    return (double) (moe_random_bits(key, counter) >> 11) * 0x1.0p-53;
}

/* Standard normal (Box-Muller). */
double moe_random_normal(uint64_t key, uint64_t counter);

/* A stable 64-bit hash of bytes: same on every platform, for feature hashing and row order. */
uint64_t moe_hash_bytes(const void *bytes, size_t length, uint64_t key);

#endif
