/*
 * cascade.h: the cheap expert first, all of them where reading on is worth it.
 *
 * Deferral by uncertainty (language model cascades, Dohan et al. 2022; Gupta et al. 2024), for each row that would be
 * read: the worth of reading on is the entropy of the early prediction divided by the number of rows that the others
 * are expected to need. Rows of little worth stop with the early prediction; for the others everything is asked. So few
 * rows with much around them stop, and most of the reading is saved. There is no worth for REGRESSION. What a threshold
 * saves and costs is measured on held-out rows, and one is read off that curve for a budget.
 */
#ifndef MOE_CASCADE_H
#define MOE_CASCADE_H

#include "gnn/model.h"

#define MOE_CASCADE_POINTS 64

/* One threshold and what comes of it. */
typedef struct moe_cascade_point
{
    double threshold; /* rows of at most this worth stop early; -1: none does */
    double reads;     /* share of what all rows would read that is read */
    double asked;     /* share of the rows that all experts are asked for */
    double loss;      /* mean log loss */
} moe_cascade_point;

typedef struct moe_cascade_curve
{
    int points; /* 0: not measured; thresholds ascend, shares descend */
    moe_cascade_point point[MOE_CASCADE_POINTS];
} moe_cascade_curve;

/* Held-out rows with their early and full predictions. */
typedef struct moe_cascade_rows
{
    int64_t n;
    const float *early;    /* [n] or [n * n_classes] probabilities */
    const float *full;     /* as early */
    const float *label;    /* [n] */
    const float *expected; /* [n] rows that reading on is expected to read, above 0 */
    const float *reading;  /* [n] rows that it reads, NaN: not known, and the row is passed over; NULL: one each */
} moe_cascade_rows;

/* Of one row's early probabilities, [1] or [n_classes]: nats a row. */
float moe_cascade_worth(moe_task_type task, int n_classes, const float *early, float expected);
/*
 * The curve over the rows whose reading is known, at least `least` of them: with fewer there is none. Not of
 * REGRESSION. Where nothing is read at all, a row's reading counts as one.
 */
moe_code moe_cascade_measure(moe_job *job, moe_task_type task, int n_classes, const moe_cascade_rows *rows,
                             int64_t least, moe_cascade_curve *out);
/* The point by which the fewest rows stop early of those that read at most a share `budget`. */
int moe_cascade_choose(const moe_cascade_curve *curve, double budget);

/*
 * The share of their reading that n rows do of which some stop early: stops [n]; reading [n] as of moe_cascade_rows.
 * NaN where none is known.
 */
double moe_cascade_reads(int64_t n, const float *reading, const bool *stops);

void moe_cascade_write(const moe_cascade_curve *curve, moe_buffer *buffer);
/* Hostile input is refused with MOE_CORRUPT. */
moe_code moe_cascade_read(moe_reader *reader, moe_cascade_curve *out);

#endif
