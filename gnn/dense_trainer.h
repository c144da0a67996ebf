/*
 * dense_trainer.h: networks over a matrix of inputs: train, predict, store.
 *
 * A network is its parameters and a function that composes them on a tape; the
 * struct below is the first member of a kind's own. An ensemble gives several
 * outputs a row (copies): the loss is the mean of theirs, and the prediction the
 * mean of their probabilities or values.
 *
 * A row's prediction is the same bits in any company as long as `forward` treats rows apart, which
 * products of weights beyond what kernels/cpu/narrow.c takes would not.
 */
#ifndef MOE_DENSE_TRAINER_H
#define MOE_DENSE_TRAINER_H

#include "gnn/dense_expert.h"

typedef struct moe_dense_net moe_dense_net;
struct moe_dense_net
{
    moe_job *job;
    moe_dense_task task;
    int width;           /* numbers of a row */
    int outputs;         /* MULTICLASS: one a class; otherwise 1 */
    int copies;          /* outputs a row */
    double shift, scale; /* REGRESSION: labels are learned as (y - shift) / scale */
    moe_params *params;
    /* Add the parameters, or find those that were read. */
    moe_code (*add)(moe_dense_net *net);
    /* Raw outputs [n * copies, outputs], those of a row one after another, of rows x [n, width] of the host. */
    moe_var *(*forward)(const moe_dense_net *net, moe_tape *tape, const float *x, int64_t n);
};

typedef struct moe_dense_training
{
    int epochs;
    int64_t steps; /* an epoch; batches are as equal as they can be */
    int64_t batch; /* rows of the largest */
    float learning_rate;
    float weight_decay;
} moe_dense_training;

/* What every network trains with: by a rule from the number of rows and of the inputs of a hidden unit
 * (dense_trainer.c). */
moe_dense_training moe_dense_training_for(int64_t n, int64_t inputs);

/* MOE_INVALID unless there are rows whose labels and weights fit the task; n = 0 passes where `empty`. */
moe_code moe_dense_check(moe_job *job, const moe_dense_task *task, const moe_dense_rows *rows, bool empty);
/* Set shift and scale from the labels (1 and 0 but for REGRESSION): weighted median, and interquartile range / 1.349.
 */
moe_code moe_dense_net_scale(moe_dense_net *net, const moe_dense_rows *train);
/* Raw outputs that predict every row alike, as the labels' shares have it: [outputs]. */
moe_code moe_dense_net_base(const moe_dense_net *net, const moe_dense_rows *train, float *base);

/*
 * The n columns of rows that say most of the label (dense_columns.h), ascending. Of numbers, labels are limited to
 * three scales from the median, so that few far out do not choose.
 */
moe_code moe_dense_net_columns(const moe_dense_net *net, const moe_dense_rows *train, int n, int32_t *columns);

/* Train on checked rows. With validation rows the epoch of the least loss on them is kept, otherwise the last one. */
moe_code moe_dense_net_train(moe_dense_net *net, const moe_dense_training *training, const moe_dense_rows *train,
                             const moe_dense_rows *valid, uint64_t seed);
/* As moe_dense_expert_predict. */
moe_code moe_dense_net_predict(const moe_dense_net *net, const moe_dense_rows *rows, float *prediction);

/* Shift, scale and parameters; what is read must be just what `add` asks for. */
void moe_dense_net_write(const moe_dense_net *net, moe_buffer *buffer);
moe_code moe_dense_net_read(moe_dense_net *net, moe_reader *reader);

#endif
