/*
 * reader_radix.h: a parallel sort of rows by a 64-bit rank.
 */
#ifndef MOE_READER_RADIX_H
#define MOE_READER_RADIX_H

#include "kernels/job.h"

typedef struct moe_ranked
{
    uint64_t rank;
    int32_t row;
} moe_ranked;

/* Sort [n] rows by rank, rows of equal rank as they stood; room: [n] to work with. */
moe_code moe_radix_sort(moe_job *job, moe_ranked *rows, moe_ranked *room, int64_t n);

#endif
