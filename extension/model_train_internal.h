/*
 * model_train_internal.h: what the files of a training share.
 *
 * model_train.c    the way from a statement to a record: options, reading, graph
 * model_experts.c  inputs, dense experts, router
 * model_members.c  the members of the graph expert
 */
#ifndef MOE_MODEL_TRAIN_INTERNAL_H
#define MOE_MODEL_TRAIN_INTERNAL_H

#include "extension/model_inputs.h"
#include "extension/model_labels.h"
#include "extension/model_store.h"
#include "extension/model_train.h"
#include "extension/progress.h"

/* What one training works with. */
typedef struct moe_train_run
{
    moe_training *result;
    double start; /* moe_seconds() */
    moe_job *job;
    moe_model_options *options;
    moe_data *data;
    moe_labels *labels;
    moe_graph *graph;
    moe_features *features; /* NULL without a graph expert */
    moe_inputs *inputs;
    moe_mixture *mixture;
    moe_mixture_report report;
    const moe_table *known; /* the tables as known at the last training seed */
    int64 *known_rows;      /* visible then */
    bool warm;              /* members start from these parameters */
    moe_stored stored;
    float *graph_said;        /* of the validation rows: the mean of the members' predictions */
    float *graph_said_frozen; /* of the block's frozen ones */
    double read_seconds, label_seconds, graph_seconds, feature_seconds;
    double sample_seconds, encode_seconds, forward_seconds, backward_seconds, evaluate_seconds;
    double input_seconds, expert_seconds;
    double device_seconds; /* waited for a device */
    double member_seconds; /* training the graph expert */
    double last_notice;    /* moe_seconds() when an epoch was last told, 0: never */
} moe_train_run;

/* The name of the metric that a task is told by: "auroc", "mae", "accuracy". */
const char *moe_train_metric(moe_task_type task);

/* As moe_progress_phase, letting go of the catalog's snapshot, which look-ups leave behind: learning is to hold none.
 */
void moe_train_phase(moe_phase phase, const char *expert);

/* Train inputs, experts and router, and write them to the store, members included. */
void moe_train_experts(moe_train_run *run);
/*
 * Rows with their inputs: training's as they looked when data was stale, training's, validation's, and later ones of
 * validation as they look when nothing after its first moment is seen.
 */
typedef struct moe_input_block
{
    int64 n_stale; /* a multiple of n_train, or less */
    int64 n_train, n_valid, n_frozen;
    int32 *row;
    int64 *time;
    int64 *horizon;
    float *label;
    float *weight;
    float *x; /* [all of them, width] */
} moe_input_block;

/* The last of these. */
moe_seeds moe_frozen_seeds(const moe_input_block *block);

/*
 * Train the graph expert's members, write them to the store, beginning it, and note what they say of the validation
 * rows. kept: the past labels to store, or NULL.
 */
void moe_train_members(moe_train_run *run, const moe_input_block *block, const moe_past_labels *kept);

#endif
