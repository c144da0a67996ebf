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

/* Rows of one table around the seed. */
typedef struct moe_attributed_rows
{
    int table;
    int32 row; /* the one row; -1: n rows, together, or that there are none */
    int64 n;
    double contribution;
} moe_attributed_rows;

/*
 * Contributions of subjects, of rows with the subjects that have no table, and of experts with their calibration, sum
 * to prediction - base each, but for rounding. Those of a table's rows sum to those of its subjects.
 */
typedef struct moe_attribution
{
    double prediction; /* the probability, the value, or the probability of the class predicted */
    double base;       /* the same with every subject hidden */
    int n_subjects;
    moe_attributed *subjects; /* palloc'd; those of one table stand together */
    int n_rows;
    moe_attributed_rows *rows; /* palloc'd */
    double gate[MOE_EXPERT_KINDS];
    double said[MOE_EXPERT_KINDS];   /* by an expert alone; NaN without a gate */
    double expert[MOE_EXPERT_KINDS]; /* contributions */
    double calibration;
} moe_attribution;

/*
 * rows_alone: at most so many rows of each table are told one by one, the others together; 0: rows are not told.
 * Raises on failure; checks for interrupts.
 */
void moe_attribute(const moe_seed *seed, int rows_alone, moe_attribution *attribution);

#endif
