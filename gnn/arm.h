/*
 * arm.h: what an ARM-Net has found: the columns that its neurons multiply with each other.
 */
#ifndef MOE_ARM_H
#define MOE_ARM_H

#include "gnn/dense_expert.h"

#define MOE_ARM_MOST 3 /* columns of an interaction */

typedef struct moe_arm_interaction
{
    int n;                        /* columns: 2 or 3 */
    int32_t column[MOE_ARM_MOST]; /* ascending, of the matrix the expert was fitted on */
    double use;                   /* neurons a row that have these as their strongest */
    double gate;                  /* the mean, over these neurons and rows, of the least of the columns' gates */
} moe_arm_interaction;

/*
 * The cross features an expert of MOE_DENSE_ARM (`state` as its class made it) uses on rows: up to `most` pairs and
 * triples, the most used first; *n says how many.
 */
moe_code moe_arm_interactions(moe_job *job, const void *state, const moe_dense_rows *rows, int most,
                              moe_arm_interaction *out, int *n);

#endif
