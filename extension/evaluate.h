/*
 * evaluate.h: blocks of labelled seeds, and what metrics say of their predictions.
 */
#ifndef MOE_EVALUATE_H
#define MOE_EVALUATE_H

#include "extension/labelled.h"

typedef struct moe_block /* seeds of one split under one regime */
{
    int64 n;
    int64 *source; /* index into the labelled rows */
    int32 *row;
    int64 *time;
    int64 *horizon;
    float *label;
    bool frozen; /* some seed sees less than it would at its own time */
} moe_block;

/*
 * The rows of a split (-1: all) with horizons min(time, cut); DT_NOEND for
 * cut: rolling. Rows whose entity is not visible at the horizon are left out.
 */
moe_block *moe_block_make(const moe_predictor *predictor, const moe_labelled *labelled, int split, int64 cut);

/* Predictions of a block: [n] or [n * classes]. disabled: NULL, or a flag a table. */
float *moe_block_score(moe_predictor *predictor, const moe_block *block, const bool *disabled);
/* The same of a REGRESSION, with the range around each: lower and upper [n], palloc'd. */
float *moe_block_score_range(moe_predictor *predictor, const moe_block *block, float **lower, float **upper);

/* Where frozen evaluation cuts: the model's test_from, or else the earliest of the rows. */
int64 moe_evaluate_cut(const moe_model_info *info, const moe_labelled *labelled);

/* Metrics by number: names and values; NaN where a metric is undefined. */
int moe_metric_count(moe_task_type task);
const char *moe_metric_name(moe_task_type task, int metric);
/* As users are told it: four decimals, or five digits where it is in the unit of the label. */
double moe_metric_rounded(moe_task_type task, int metric, double value);
double moe_metric_value(moe_job *job, moe_task_type task, int metric, const float *prediction, const float *label,
                        int64 n, int classes);

#endif
