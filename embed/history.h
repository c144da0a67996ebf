/*
 * history.h: an entity's own past labels, as known at a moment, as columns.
 *
 * A label of seed time s is known once its window has closed, s + window <=
 * horizon, and part of the history for the 40 windows after. Of those (of one
 * row at most 256, the latest): lags by window, the last that exist, exponential
 * means by event shrunk towards a prior, their number, the time since the last.
 * A multiclass label is several series, indicators of the classes 0 to 7: which
 * are frequent, a seed in the past does not know.
 */
#ifndef MOE_HISTORY_H
#define MOE_HISTORY_H

#include "embed/relational.h"
#include "kernels/job.h"

/* time - k windows; the beginning of time if that lies before it. */
static inline int64_t
moe_windows_before(int64_t window, int64_t time, int k)
{
    int64_t length, moment;

    if (__builtin_mul_overflow(window, (int64_t) k, &length) || __builtin_sub_overflow(time, length, &moment))
        return INT64_MIN;
    return moment;
}

#define MOE_HISTORY_REACH   40 /* windows */
#define MOE_HISTORY_CLASSES 8  /* series of a multiclass label at most */

typedef struct moe_past_labels /* in any order; of equal (row, time) the first counts */
{
    int64_t n;
    const int32_t *row;
    const int64_t *time;
    const float *label; /* 0/1, value, or class number */
} moe_past_labels;

typedef struct moe_history moe_history;

/*
 * classes: 1, or the number of classes. window: microseconds, 1 or more. prior: what means are shrunk towards, by one
 * label of this value: [moe_history_series(classes)]. Copies labels and prior.
 */
moe_code moe_history_create(moe_job *job, const moe_past_labels *labels, int64_t window, int classes,
                            const float *prior, moe_history **out);
void moe_history_destroy(moe_history *history);

int moe_history_columns(int classes);
/* 1, or the classes that have one; at most MOE_HISTORY_CLASSES. */
int moe_history_series(int classes);
/* The mean label of each series: [series]; 0 where there are no labels. */
void moe_history_prior(int classes, int64_t n, const float *label, float *prior);
/* For people: "label 2 windows ago". Writes to a buffer of the caller's. */
void moe_history_name(int classes, int column, char *out, size_t size);
/* Write [n, moe_history_columns]; NaN is NULL. */
moe_code moe_history_compute(moe_history *history, const moe_moments *moments, float *out);

#endif
