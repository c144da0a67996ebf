/*
 * cascade.h: cheap experts first, dear ones only for rows that are still in doubt.
 *
 * Experts stand in stages from cheap to dear (language model cascades, Dohan et
 * al. 2022; deferral by uncertainty, Gupta et al. 2024). After each stage a
 * row's prediction is the weighted mean of the experts so far; the row stops
 * where its uncertainty is at most a threshold, at the last stage in any case.
 * Uncertainty: BINARY 1 - |2 p - 1| (which orders rows as entropy does);
 * MULTICLASS 1 - largest p; REGRESSION the width of the stage's range where
 * there is one, else the standard deviation of the experts so far. A curve of
 * cost against loss is measured on held-out rows; a threshold is read off it
 * for a budget.
 */
#ifndef MOE_CASCADE_H
#define MOE_CASCADE_H

#include "gnn/model.h"

#define MOE_CASCADE_STAGES 16
#define MOE_CASCADE_POINTS 64

typedef struct moe_cascade_rows
{
    int64_t n;
    int stages;                                  /* 1..MOE_CASCADE_STAGES */
    const float *prediction[MOE_CASCADE_STAGES]; /* [n] or [n * K] each; a row whose gate is 0 is not read */
    const float *width[MOE_CASCADE_STAGES]; /* REGRESSION: [n] upper - lower after the stage, NaN: unknown; or NULL */
    const float *gates;                     /* [n, stages], each row's sum above 0; NULL: equal weights */
} moe_cascade_rows;

/* One threshold and what comes of it. */
typedef struct moe_cascade_point
{
    double threshold;                   /* -1: no row stops early */
    double stopped[MOE_CASCADE_STAGES]; /* share of rows that stop at each stage; sums to 1 */
    double cost;                        /* mean, in the unit of the experts' costs */
    double loss;                        /* log loss, absolute error or cross-entropy */
} moe_cascade_point;

typedef struct moe_cascade_curve
{
    int stages;
    int points; /* 1..MOE_CASCADE_POINTS, thresholds ascending */
    moe_cascade_point point[MOE_CASCADE_POINTS];
} moe_cascade_curve;

/*
 * What is known after stages 0..stage: prediction [n] or [n * K], uncertainty [n]. Infinite where nothing is known of
 * it: no expert so far has a gate, or one alone has and there is no range.
 */
void moe_cascade_stage(moe_task_type task, int n_classes, const moe_cascade_rows *rows, int stage, float *prediction,
                       float *uncertainty);

static inline bool
moe_cascade_stops(double threshold, float uncertainty)
{
    return uncertainty <= threshold;
}

/* The curve over n >= 1 held-out rows; cost [stages]: of a row at each stage, 0 or more, if its gate is not 0. */
moe_code moe_cascade_measure(moe_job *job, moe_task_type task, int n_classes, const moe_cascade_rows *rows,
                             const double *cost, const float *label, moe_cascade_curve *out);
/* The point of least loss whose mean cost is within the budget; the cheapest where none is. */
int moe_cascade_choose(const moe_cascade_curve *curve, double budget);

void moe_cascade_write(const moe_cascade_curve *curve, moe_buffer *buffer);
moe_code moe_cascade_read(moe_reader *reader, moe_cascade_curve *out);

#endif
