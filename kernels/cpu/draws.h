/*
 * draws.h: the draws of dropout, a block at a time.
 */
#ifndef MOE_DRAWS_H
#define MOE_DRAWS_H

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

#endif
