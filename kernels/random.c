/*
 * random.c: the parts of random.h that are not worth inlining.
 */
#include <math.h>

#include "kernels/random.h"

double
moe_random_normal(uint64_t key, uint64_t counter)
{
    /* 1 - u lies in (0, 1], where the logarithm is finite. */
    double radius = sqrt(-2.0 * log(1.0 - moe_random_uniform(key, 2 * counter)));
    return radius * cos(2.0 * 3.14159265358979323846 * moe_random_uniform(key, 2 * counter + 1));
}

/* Up to eight bytes as a little-endian number. */
static uint64_t
load_word(const uint8_t *bytes, size_t length)
{
    uint64_t word = 0;
    for (size_t i = 0; i < length; i++)
        word |= (uint64_t) bytes[i] << (8 * i);
    return word;
}

uint64_t
moe_hash_bytes(const void *bytes, size_t length, uint64_t key)
{
    const uint8_t *next = bytes;
    uint64_t hash = moe_key(key, length);
    for (; length >= 8; length -= 8, next += 8)
        hash = moe_mix64(hash ^ load_word(next, 8));
    return length > 0 ? moe_mix64(hash ^ load_word(next, length)) : hash;
}
