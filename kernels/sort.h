/*
 * sort.h: numbers in order.
 */
#ifndef MOE_SORT_H
#define MOE_SORT_H

#include <stdint.h>

/* Sort n floats (no NaN; -0 comes before 0) by digits, least first; spare [n] is written over. */
void moe_sort_floats(float *values, float *spare, int64_t n);

#endif
