/*
 * trainer.h: fit a model's parameters, step by step.
 *
 * The caller owns the loop, one short step a call, so that it can serve its
 * own interrupts in between. Early stopping: the parameters of the best
 * validation epoch are restored at the end.
 */
#ifndef MOE_TRAINER_H
#define MOE_TRAINER_H

#include "gnn/model.h"

typedef struct moe_samples /* labelled seeds */
{
    int64_t n;
    const int32_t *row;
    const int64_t *time;
    const float *label; /* 0/1, value, or class number */
} moe_samples;

typedef struct moe_train_config
{
    int epochs;
    int patience; /* epochs without a better validation metric before stopping; 0: never stop early */
    int batch_size;
    int max_steps; /* per epoch, over a fresh random order; 0: all */
    float learning_rate;
    float weight_decay;
    float clip_norm;
    bool balance_classes; /* weight classes by inverse frequency, so that each weighs the same */
    uint64_t seed;
} moe_train_config;

void moe_train_config_defaults(moe_train_config *config);

typedef struct moe_progress
{
    int epoch; /* from 1 */
    int epochs;
    int64_t step, steps; /* within the epoch */
    bool epoch_done;     /* this step ended an epoch: the fields below are new */
    double train_loss;
    double metric;  /* validation: AUROC, MAE, or accuracy; NaN without validation rows */
    bool best;      /* it is the best so far */
    double seconds; /* of the epoch */
    /* Totals so far. On a device, encode, forward and backward are the time it takes to ask for them. */
    double sample_seconds, encode_seconds, forward_seconds, backward_seconds, evaluate_seconds;
    double device_seconds; /* and this is what the host then waited for the device; 0 on the host */
    bool done;
} moe_progress;

typedef struct moe_trainer moe_trainer;

/* Higher is better for AUROC and accuracy, lower for MAE. valid may have n = 0 (then all epochs are run). */
moe_code moe_trainer_create(moe_job *job, moe_model *model, moe_params *params, const moe_train_config *config,
                            const moe_samples *train, const moe_samples *valid, moe_trainer **out);
moe_code moe_trainer_step(moe_trainer *trainer, moe_progress *progress);
void moe_trainer_destroy(moe_trainer *trainer);

#endif
