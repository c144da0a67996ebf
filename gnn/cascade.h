/*
 * cascade.h: the cheap expert first, all of them only for rows that it leaves in doubt.
 *
 * Deferral by uncertainty (language model cascades, Dohan et al. 2022; Gupta et al. 2024): a row whose early
 * prediction is sure enough stops there; for the others everything is asked. Uncertainty: BINARY 1 - |2 p - 1| (which
 * orders rows as entropy does), MULTICLASS 1 - largest p; there is none for REGRESSION. What a threshold saves and
 * costs is measured on held-out rows, and one is read off that curve for a budget.
 */
#ifndef MOE_CASCADE_H
#define MOE_CASCADE_H

#include "gnn/model.h"

#define MOE_CASCADE_POINTS 64

/* One threshold and what comes of it. */
typedef struct moe_cascade_point
{
    double threshold; /* rows of at most this uncertainty stop early; -1: none does */
    double asked;     /* share of the rows that all experts are asked for */
    double loss;      /* mean log loss */
} moe_cascade_point;

typedef struct moe_cascade_curve
{
    int points; /* 0: not measured; thresholds ascend, shares descend */
    moe_cascade_point point[MOE_CASCADE_POINTS];
} moe_cascade_curve;

/* Of one row's probabilities: [1] or [n_classes]. */
float moe_cascade_uncertainty(moe_task_type task, int n_classes, const float *prediction);
/* The curve over n >= 1 held-out rows with their early and full predictions, [n] or [n * n_classes]; not of REGRESSION.
 */
moe_code moe_cascade_measure(moe_job *job, moe_task_type task, int n_classes, int64_t n, const float *early,
                             const float *full, const float *label, moe_cascade_curve *out);
/* The point by which the fewest rows stop early of those that ask everything for at most a share `budget` of rows. */
int moe_cascade_choose(const moe_cascade_curve *curve, double budget);

void moe_cascade_write(const moe_cascade_curve *curve, moe_buffer *buffer);
/* Hostile input is refused with MOE_CORRUPT. */
moe_code moe_cascade_read(moe_reader *reader, moe_cascade_curve *out);

#endif
