/*
 * gradient.h: pairs of a forward operation and what derives it backward.
 */
#ifndef MOE_TEST_GRADIENT_H
#define MOE_TEST_GRADIENT_H

#include "ops.h"

#define OPS_MOST_INPUTS      3
#define OPS_MOST_DERIVATIVES 100

typedef struct ops_pair
{
    const char *name;
    int inputs; /* those it is derived by */
    int64_t size[OPS_MOST_INPUTS];
    int64_t outputs;
    bool grid; /* inputs far from each other, for operations that choose */
    void (*forward)(ops_run *run, const float *const *x, float *out);
    /* Add to each gradient what gy, the derivative by the outputs, makes of it; gy is 1 where there is one output. */
    void (*backward)(ops_run *run, const float *const *x, const float *out, const float *gy, float *const *gradient);
} ops_pair;

extern const ops_pair ops_pairs[];
extern const int ops_pair_count;

/* Compare the backward operations of a backend with differences of the reference's forward one. */
void ops_check_gradient(const ops_pair *pair, moe_job *reference, moe_job *job, const moe_backend *table,
                        const char *name);

#endif
