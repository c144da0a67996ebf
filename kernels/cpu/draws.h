/*
 * draws.h: the draws of dropout and of noise, many at a time.
 */
#ifndef MOE_DRAWS_H
#define MOE_DRAWS_H

#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/random.h"

/* The block's draws, as moe_random_draw gives them: two of 16 bits from each number of 32. */
MOE_INLINE void
moe_fill_draws(uint64_t key, int64_t block, int32_t *restrict draw)
{
    uint32_t base = moe_draw_base(key, (uint64_t) block);
    for (uint32_t i = 0; i < MOE_DRAW_BLOCK / 2; i++)
    {
        uint32_t bits = moe_mix32(base + i);
        draw[i] = (int32_t) (bits & 0xffff);
        draw[i + MOE_DRAW_BLOCK / 2] = (int32_t) (bits >> 16);
    }
}

/* log(x) of a normal number in (0, 1], to 1e-10 of it; written so that loops over it become vectors. */
MOE_INLINE double
moe_quick_log(double x)
{
    const int64_t least = 0x3fe6a09e667f3bcd; /* the square root of 1/2, as bits */
    int64_t bits;
    double part;
    memcpy(&bits, &x, sizeof bits);
    int64_t power = ((bits - least + (INT64_C(1023) << 52)) >> 52) - 1023;
    bits -= (int64_t) ((uint64_t) power << 52);
    memcpy(&part, &bits, sizeof part);
    double s = (part - 1) / (part + 1);
    double z = s * s;
    double sum = 1.0 / 3 + z * (1.0 / 5 + z * (1.0 / 7 + z * (1.0 / 9 + z * (1.0 / 11 + z * (1.0 / 13)))));
    return (double) power * 0.69314718055994530942 + 2 * (s + s * z * sum);
}

/* cos(2 pi u) for u in [0, 1): the sine of a quarter of a turn at most, by its series. */
MOE_INLINE double
moe_quick_cos_of_turn(double u)
{
    double x = 6.283185307179586476925 * (fabs(u - 0.5) - 0.25);
    double z = -x * x;
    double sum = 1.0 / 1307674368000.0; /* 1 / 15! */
    sum = sum * z + 1.0 / 6227020800.0;
    sum = sum * z + 1.0 / 39916800.0;
    sum = sum * z + 1.0 / 362880.0;
    sum = sum * z + 1.0 / 5040.0;
    sum = sum * z + 1.0 / 120.0;
    sum = sum * z + 1.0 / 6.0;
    return x + x * z * sum;
}

/* moe_random_normal of n counters from `first` on, to 1e-9. */
MOE_INLINE void
moe_fill_normals(uint64_t key, uint64_t first, int64_t n, float *restrict out)
{
    for (int64_t i = 0; i < n; i++)
    {
        uint64_t counter = 2 * (first + (uint64_t) i);
        double radius = sqrt(-2.0 * moe_quick_log(1.0 - moe_random_uniform(key, counter)));
        out[i] = (float) (radius * moe_quick_cos_of_turn(moe_random_uniform(key, counter + 1)));
    }
}

#endif
