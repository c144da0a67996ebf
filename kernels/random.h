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

static inline uint64_t
moe_mix64(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Derive a new key from a key and a number: keys form a tree. */
static inline uint64_t
moe_key(uint64_t key, uint64_t n)
{
    return moe_mix64(key ^ moe_mix64(n));
}

/* 64 random bits. */
static inline uint64_t
moe_random_bits(uint64_t key, uint64_t counter)
{
    return moe_mix64(key + moe_mix64(counter ^ UINT64_C(0x5851f42d4c957f2d)));
}

/* Uniform in [0, 1). */
static inline double
moe_random_uniform(uint64_t key, uint64_t counter)
{
    return (double) (moe_random_bits(key, counter) >> 11) * 0x1.0p-53;
}

/* Standard normal (Box-Muller). */
double moe_random_normal(uint64_t key, uint64_t counter);

/* A stable 64-bit hash of bytes: same on every platform, for feature hashing and row order. */
uint64_t moe_hash_bytes(const void *bytes, size_t length, uint64_t key);

#endif
