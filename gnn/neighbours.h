/*
 * neighbours.h: the nearest of a set of rows, by Euclid's distance.
 */
#ifndef MOE_NEIGHBOURS_H
#define MOE_NEIGHBOURS_H

#include "kernels/job.h"

#define MOE_NEIGHBOUR_COLUMNS 256 /* at most */

typedef struct moe_neighbours moe_neighbours;

typedef struct moe_neighbour
{
    int32_t row;
    float square; /* of the distance */
} moe_neighbour;

/* rows [n, columns], of moderate size (no square overflows); they must outlive it. n and columns: 1 or more. */
moe_code moe_neighbours_create(moe_job *job, int64_t n, int columns, const float *rows, moe_neighbours **out);
void moe_neighbours_destroy(moe_neighbours *neighbours);

/*
 * For each of `count` rows asked [count, columns] the k nearest, nearest first, of equal distances the earlier row
 * first: found [count, k]. except: NULL, or a row for each that does not count (-1: all do). Where there are fewer than
 * k, the rest has row -1. What is found for a row does not depend on the others.
 */
moe_code moe_neighbours_find(moe_neighbours *neighbours, int64_t count, const float *asked, const int32_t *except,
                             int k, moe_neighbour *found);

#endif
