/*
 * attribution.h: one prediction's difference from one that knows nothing, shared out among what the model looks at.
 */
#ifndef MOE_ATTRIBUTION_H
#define MOE_ATTRIBUTION_H

#include "postgres.h"

#include "extension/predict.h"
#include "extension/subject.h"

typedef struct moe_attributed
{
    moe_subject subject;
    double contribution;
} moe_attributed;

/* Contributions of subjects, and of experts with their calibration, sum to prediction - base each, but for rounding. */
typedef struct moe_attribution
{
    double prediction; /* the probability, the value, or the probability of the class predicted */
    double base;       /* the same with every subject hidden */
    int n_subjects;
    moe_attributed *subjects; /* palloc'd; those of one table stand together */
    double gate[MOE_EXPERT_KINDS];
    double said[MOE_EXPERT_KINDS];   /* by an expert alone; NaN without a gate */
    double expert[MOE_EXPERT_KINDS]; /* contributions */
    double calibration;
} moe_attribution;

/* Raises on failure; checks for interrupts. */
void moe_attribute(const moe_seed *seed, moe_attribution *attribution);

#endif
