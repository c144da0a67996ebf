/*
 * baseline.h: the predictions that need no model, to stand beside every metric.
 *
 * constant: the training rows' mean (binary: positive share; regression: median,
 * which minimises MAE; multiclass: class shares). entity: the mean of the
 * entity's own past labels whose window had closed by the horizon (multiclass:
 * shares), and the constant of the training rows where there are none.
 */
#ifndef MOE_BASELINE_H
#define MOE_BASELINE_H

#include "gnn/model.h"
#include "gnn/trainer.h"

/* Both write [n] (MULTICLASS [n * k]). window: the label window's length in microseconds. */
moe_code moe_baseline_constant(moe_job *job, moe_task_type task, int k, const moe_samples *known, int64_t n,
                               float *out);
moe_code moe_baseline_entity(moe_job *job, moe_task_type task, int k, const moe_samples *training,
                             const moe_samples *known, int64_t window, const moe_seeds *seeds, float *out);

#endif
