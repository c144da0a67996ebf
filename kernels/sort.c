/*
 * sort.c: floats in order, by digits.
 *
 * A float's bits, all flipped where it is negative and the sign alone where it
 * is not, are an unsigned integer in the same order; three stable passes over
 * eleven bits each sort those.
 */
#include "kernels/sort.h"

#include <string.h>

#define RADIX_BITS 11
#define RADIX      (1 << RADIX_BITS)

static uint32_t
order_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

void
moe_sort_floats(float *values, float *spare, int64_t n)
{
    for (int shift = 0; shift < 32; shift += RADIX_BITS)
    {
        int64_t start[RADIX + 1] = {0};
        for (int64_t i = 0; i < n; i++)
            start[(order_bits(values[i]) >> shift & (RADIX - 1)) + 1]++;
        for (int d = 0; d < RADIX; d++)
            start[d + 1] += start[d];
        for (int64_t i = 0; i < n; i++)
            spare[start[order_bits(values[i]) >> shift & (RADIX - 1)]++] = values[i];
        memcpy(values, spare, (size_t) n * sizeof *values);
    }
}
