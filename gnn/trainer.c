/*
 * trainer.c: fitting a model, one short step a call.
 *
 * An epoch is one pass over a fresh random order of the training rows (at
 * most max_steps batches of it), then one over the validation rows. Training
 * draws new neighbours in every epoch; validation always draws the same, so
 * that epochs compare. Optimiser: AdamW; the learning rate rises linearly over
 * the first 20 steps and then stays. All random numbers follow from the seed
 * by (purpose, epoch, step).
 *
 * A training row sees what was visible at its own time, and nothing is
 * computed over all rows but the class counts for weights and the base rate
 * the output bias starts from. Validation rows choose the epoch and nothing
 * else.
 *
 * On a device a step is queued, and its loss is looked at only when the host
 * has sampled the next one: that is the one wait a step has. A step that
 * diverged leaves the parameters as they are, so nothing is lost by the delay.
 */
#include "gnn/trainer.h"

#include <math.h>
#include <string.h>

#include "gnn/layers.h"
#include "gnn/metrics.h"
#include "kernels/device.h"
#include "kernels/random.h"

#define WARM_UP      20
#define EVALUATE_MAX 512 /* validation rows a step */

enum
{
    KEY_ORDER,
    KEY_SAMPLE,
    KEY_TAPE,
    KEY_VALIDATE,
    KEY_MEASURE
};

typedef enum phase
{
    PHASE_TRAIN,
    PHASE_VALIDATE, /* measures the epoch */
    PHASE_DONE
} phase;

struct moe_trainer
{
    moe_job *job;
    moe_model *model;
    moe_params *params;
    moe_train_config config;
    moe_samples train;
    moe_samples valid;
    moe_adam adam;
    phase phase;
    int epoch; /* from 0 */
    int64_t step;
    int64_t steps;
    int64_t evaluated; /* rows of the validation pass done */
    int32_t *order;    /* [train.n] */
    float *class_weight;
    int n_classes;

    /* one batch */
    int32_t *row;
    int64_t *time;
    float *label;
    int32_t *class_label;
    float *weight;

    float *prediction; /* [evaluated rows * outputs] */
    float *loss;       /* [1] of the last step, on the device */
    bool pending;      /* it has not been looked at */
    bool any_best;     /* the best epoch's parameters were kept */
    double best_metric;
    int epochs_since_best;
    double loss_sum;
    double epoch_start;
    double encode_before; /* of the model's clock when the trainer was made */
    double encode_evaluating;
    moe_progress progress;
};

void
moe_train_config_defaults(moe_train_config *config)
{
    *config = (moe_train_config){
        .epochs = 8,
        .patience = 3,
        .batch_size = 512,
        .max_steps = 2000,
        .learning_rate = 0.005f,
        .weight_decay = 0.0f,
        .clip_norm = 1.0f,
        .balance_classes = false,
        .seed = 1,
    };
}

static moe_code
check_config(moe_job *job, const moe_train_config *c)
{
    if (c->epochs < 1 || c->epochs > 100000)
        return moe_fail(job, MOE_INVALID, "epochs must be between 1 and 100000, not %d", c->epochs);
    if (c->batch_size < 1 || c->batch_size > 1 << 20)
        return moe_fail(job, MOE_INVALID, "batch size must be between 1 and 1048576, not %d", c->batch_size);
    if (c->patience < 0 || c->max_steps < 0)
        return moe_fail(job, MOE_INVALID, "patience and steps must not be negative");
    if (!(c->learning_rate > 0 && c->learning_rate <= 10))
        return moe_fail(job, MOE_INVALID, "learning rate must be above 0 and at most 10");
    if (!(c->weight_decay >= 0 && c->weight_decay <= 10) || !(c->clip_norm >= 0 && isfinite(c->clip_norm)))
        return moe_fail(job, MOE_INVALID, "weight decay and gradient clipping must not be negative");
    return MOE_OK;
}

static moe_code
check_samples(const moe_trainer *t, const moe_samples *samples)
{
    int64_t n_rows = moe_graph_table_at(t->model->graph, t->model->entity)->n_rows;
    for (int64_t i = 0; i < samples->n; i++)
    {
        float y = samples->label[i];
        bool good = isfinite(y);
        if (t->model->config.task == MOE_BINARY)
            good = y == 0 || y == 1;
        else if (t->model->config.task == MOE_MULTICLASS)
            good = y >= 0 && y < t->n_classes && y == (int) y;
        if (!good)
            return moe_fail(t->job, MOE_INVALID, "label %g does not fit the task", y);
        if (samples->row[i] < 0 || samples->row[i] >= n_rows)
            return moe_fail(t->job, MOE_INVALID, "a labelled row does not exist in the entity table");
    }
    return MOE_OK;
}

static inline int
class_of(const moe_trainer *t, float label)
{
    return t->model->config.task == MOE_REGRESSION ? 0 : (int) label;
}

/* Start from the base rate: it need not be learned. A bias that is not zero was trained before and stays. */
static void
initialise_bias(moe_trainer *t, const int64_t *counts)
{
    moe_param *bias = t->model->head_bias;
    if (t->model->config.task == MOE_REGRESSION || t->config.balance_classes)
        return;
    float *value = moe_alloc(t->job, bias->cols, sizeof *value);
    if (value == NULL)
        return;
    moe_param_download(t->params, bias, value);
    bool trained = false;
    for (int64_t c = 0; c < bias->cols; c++)
        trained = trained || value[c] != 0;
    if (t->model->config.task == MOE_BINARY)
        value[0] = (float) log((counts[1] + 1.0) / (counts[0] + 1.0));
    else
        for (int64_t c = 0; c < bias->cols; c++)
            value[c] = (float) log((counts[c] + 1.0) * bias->cols / (t->train.n + bias->cols));
    if (!trained)
        moe_param_upload(t->params, bias, value);
    moe_free(t->job, value);
}

static moe_code
count_classes(moe_trainer *t)
{
    int present = 0;
    int64_t *counts = moe_alloc(t->job, t->n_classes, sizeof *counts);
    if (counts == NULL)
        return moe_job_code(t->job);
    for (int64_t i = 0; i < t->train.n; i++)
        counts[class_of(t, t->train.label[i])]++;
    for (int c = 0; c < t->n_classes; c++)
        present += counts[c] > 0;
    for (int c = 0; c < t->n_classes; c++)
        t->class_weight[c] =
            t->config.balance_classes && counts[c] > 0 ? (float) ((double) t->train.n / present / counts[c]) : 1;
    initialise_bias(t, counts);
    moe_free(t->job, counts);
    return moe_job_code(t->job);
}

static moe_code
allocate(moe_trainer *t)
{
    moe_job *job = t->job;
    int64_t batch = t->config.batch_size;
    t->order = moe_alloc(job, t->train.n, sizeof *t->order);
    t->class_weight = moe_alloc(job, t->n_classes, sizeof *t->class_weight);
    t->row = moe_alloc(job, batch, sizeof *t->row);
    t->time = moe_alloc(job, batch, sizeof *t->time);
    t->label = moe_alloc(job, batch, sizeof *t->label);
    t->class_label = moe_alloc(job, batch, sizeof *t->class_label);
    t->weight = moe_alloc(job, batch, sizeof *t->weight);
    t->prediction = moe_alloc(job, t->valid.n * t->model->outputs, sizeof *t->prediction);
    t->loss = moe_device_alloc(job, 1, sizeof *t->loss);
    return t->order && t->class_weight && t->row && t->time && t->label && t->class_label && t->weight &&
                   t->prediction && t->loss
               ? MOE_OK
               : moe_job_code(job);
}

/* A fresh random order of the training rows (Fisher and Yates). */
static void
shuffle(moe_trainer *t)
{
    uint64_t key = moe_key(moe_key(t->config.seed, KEY_ORDER), t->epoch);
    for (int64_t i = 0; i < t->train.n; i++)
        t->order[i] = (int32_t) i;
    for (int64_t i = t->train.n - 1; i > 0; i--)
    {
        int64_t j = (int64_t) (moe_random_uniform(key, i) * (i + 1));
        int32_t swap = t->order[i];
        t->order[i] = t->order[j];
        t->order[j] = swap;
    }
}

static void
begin_epoch(moe_trainer *t)
{
    t->phase = PHASE_TRAIN;
    t->step = 0;
    t->loss_sum = 0;
    t->epoch_start = moe_clock();
    shuffle(t);
}

moe_code
moe_trainer_create(moe_job *job, moe_model *model, moe_params *params, const moe_train_config *config,
                   const moe_samples *train, const moe_samples *valid, moe_trainer **out)
{
    *out = NULL;
    moe_code code = check_config(job, config);
    if (code == MOE_OK && (train->n < 1 || train->n > INT32_MAX))
        code = moe_fail(job, MOE_INVALID, train->n < 1 ? "there are no training rows" : "too many training rows");
    moe_trainer *t = code == MOE_OK ? moe_alloc(job, 1, sizeof *t) : NULL;
    if (t == NULL)
        return moe_job_code(job);
    t->job = job;
    t->model = model;
    t->params = params;
    t->config = *config;
    t->train = *train;
    t->valid = *valid;
    t->n_classes = model->config.task == MOE_MULTICLASS ? model->config.n_classes
                   : model->config.task == MOE_BINARY   ? 2
                                                        : 1;
    t->steps = (train->n + config->batch_size - 1) / config->batch_size;
    if (config->max_steps > 0 && t->steps > config->max_steps)
        t->steps = config->max_steps;
    t->adam = (moe_adam){.beta1 = 0.9f,
                         .beta2 = 0.999f,
                         .epsilon = 1e-8f,
                         .weight_decay = config->weight_decay,
                         .clip_norm = config->clip_norm};
    moe_seeds seeds = {.table = model->entity, .n = train->n, .row = train->row, .time = train->time};
    t->encode_before = moe_model_encode_seconds(model);
    if ((code = allocate(t)) != MOE_OK || (code = check_samples(t, train)) != MOE_OK ||
        (code = check_samples(t, valid)) != MOE_OK || (code = count_classes(t)) != MOE_OK ||
        (code = moe_model_measure(model, params, &seeds, moe_key(config->seed, KEY_MEASURE))) != MOE_OK ||
        (code = moe_params_train(params)) != MOE_OK)
    {
        moe_trainer_destroy(t);
        return code;
    }
    begin_epoch(t);
    *out = t;
    return MOE_OK;
}

void
moe_trainer_destroy(moe_trainer *t)
{
    if (t == NULL)
        return;
    void *owned[] = {t->order, t->class_weight, t->row, t->time, t->label, t->class_label, t->weight, t->prediction};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        moe_free(t->job, owned[i]);
    moe_device_free(t->job, t->loss);
    moe_free(t->job, t);
}

/* Copy the step's rows and labels into the batch; their number. */
static int64_t
fill_batch(moe_trainer *t)
{
    const moe_model_config *config = &t->model->config;
    int64_t first = t->step * t->config.batch_size;
    int64_t n = t->train.n - first < t->config.batch_size ? t->train.n - first : t->config.batch_size;
    for (int64_t i = 0; i < n; i++)
    {
        int32_t at = t->order[first + i];
        float y = t->train.label[at];
        t->row[i] = t->train.row[at];
        t->time[i] = t->train.time[at];
        t->class_label[i] = class_of(t, y);
        t->label[i] = config->task == MOE_REGRESSION ? (float) ((y - config->shift) / config->scale) : y;
        t->weight[i] = t->class_weight[t->class_label[i]];
    }
    return n;
}

static moe_var *
loss_of(const moe_trainer *t, moe_tape *tape, moe_var *logits)
{
    if (t->model->config.task == MOE_BINARY)
        return moe_loss_logistic(tape, logits, t->label, t->weight);
    if (t->model->config.task == MOE_MULTICLASS)
        return moe_loss_cross_entropy(tape, logits, t->class_label, t->weight);
    return moe_loss_absolute(tape, logits, t->label, NULL);
}

/* Seconds the encode callback took since the trainer began, less what evaluation counts as its own. */
static double
encode_seconds(const moe_trainer *t)
{
    return moe_model_encode_seconds(t->model) - t->encode_before - t->encode_evaluating;
}

/* Look at the loss of the last step; waits for it. */
static moe_code
read_loss(moe_trainer *t)
{
    float loss = 0;
    moe_download(t->job, &loss, t->loss, sizeof loss);
    moe_code code = moe_job_check(t->job);
    if (code == MOE_OK && !isfinite(loss))
        code = moe_fail(t->job, MOE_INVALID, "training diverged in epoch %d; use a lower learning rate", t->epoch + 1);
    t->loss_sum += loss;
    return code;
}

/* Wait for the step that a device computes, if there is one, and check it. */
static moe_code
finish_step(moe_trainer *t)
{
    if (!t->pending)
        return MOE_OK;
    t->pending = false;
    double start = moe_clock();
    moe_code code = read_loss(t);
    if (code == MOE_OK)
        code = moe_adam_check(&t->adam, t->params);
    t->progress.device_seconds += moe_clock() - start;
    return code;
}

/* Run the model forward and keep the loss; *loss is where backward starts. */
static moe_code
forward_batch(moe_trainer *t, const moe_sample *sample, const moe_states *states, moe_var **loss)
{
    moe_outputs outputs;
    moe_code code = moe_model_run(t->model, t->model->tape, sample, states, &outputs);
    *loss = code == MOE_OK ? loss_of(t, t->model->tape, outputs.logits) : NULL;
    if (*loss == NULL)
        return moe_job_code(t->job);
    moe_device_copy(t->job, t->loss, (*loss)->value, sizeof *t->loss);
    t->pending = moe_job_device(t->job) != NULL;
    return t->pending ? MOE_OK : read_loss(t);
}

static moe_code
backward_batch(moe_trainer *t, moe_var *loss)
{
    moe_code code = moe_tape_backward(t->model->tape, loss);
    if (code != MOE_OK)
        return code;
    t->adam.learning_rate = t->config.learning_rate * (t->adam.step < WARM_UP ? (t->adam.step + 1.0f) / WARM_UP : 1.0f);
    moe_adam_step(&t->adam, t->params);
    return moe_job_check(t->job);
}

/* Fill the batch, and sample the trees of its seeds. */
static moe_code
sample_batch(moe_trainer *t, uint64_t seed, moe_seeds *seeds, moe_sample **sample)
{
    moe_model *model = t->model;
    *seeds = (moe_seeds){.table = model->entity, .n = fill_batch(t), .row = t->row, .time = t->time};
    moe_sampler_config sampler = moe_model_sampler(model, moe_key(seed, KEY_SAMPLE));
    moe_arena_reset(model->arena);
    return moe_sample_trees(model->arena, model->graph, seeds, &sampler, sample);
}

static moe_code
train_batch(moe_trainer *t)
{
    moe_progress *progress = &t->progress;
    uint64_t seed = moe_key(moe_key(t->config.seed, t->epoch), t->step);
    moe_seeds seeds;
    moe_sample *sample;
    moe_states states;
    moe_var *loss;
    moe_code code;

    double start = moe_clock();
    if ((code = sample_batch(t, seed, &seeds, &sample)) != MOE_OK)
        return code;
    double sampled = moe_clock();
    moe_tape_reset(t->model->tape, true, moe_key(seed, KEY_TAPE));
    if ((code = moe_model_prepare(t->model, t->model->tape, &seeds, sample, &states)) != MOE_OK)
        return code;
    double prepared = moe_clock();
    if ((code = finish_step(t)) != MOE_OK)
        return code;
    double finished = moe_clock();
    double encode = encode_seconds(t);
    if ((code = forward_batch(t, sample, &states, &loss)) != MOE_OK)
        return code;
    encode = encode_seconds(t) - encode;
    double forward = moe_clock();
    code = backward_batch(t, loss);

    progress->sample_seconds += sampled - start;
    progress->encode_seconds += encode;
    progress->forward_seconds += prepared - sampled + forward - finished - encode;
    progress->backward_seconds += moe_clock() - forward;
    return code;
}

/* Predict the next validation rows; *finished when they were the last. */
static moe_code
evaluate_batch(moe_trainer *t, bool *finished)
{
    int64_t first = t->evaluated;
    moe_seeds seeds = {.table = t->model->entity,
                       .n = t->valid.n - first < EVALUATE_MAX ? t->valid.n - first : EVALUATE_MAX,
                       .row = t->valid.row + first,
                       .time = t->valid.time + first};
    double start = moe_clock();
    double encode = moe_model_encode_seconds(t->model);
    moe_code code = moe_model_predict(t->model, &seeds, moe_key(t->config.seed, KEY_VALIDATE), NULL,
                                      t->prediction + first * t->model->outputs);
    t->encode_evaluating += moe_model_encode_seconds(t->model) - encode;
    t->evaluated += seeds.n;
    t->progress.evaluate_seconds += moe_clock() - start;
    *finished = t->evaluated == t->valid.n;
    return code;
}

static double
validation_metric(moe_trainer *t)
{
    const moe_samples *valid = &t->valid;
    if (valid->n == 0)
        return NAN;
    switch (t->model->config.task)
    {
        case MOE_BINARY:
            return moe_metric_auroc(t->job, t->prediction, valid->label, valid->n);
        case MOE_REGRESSION:
            return moe_metric_mae(t->prediction, valid->label, valid->n);
        default:
            return moe_metric_class_accuracy(t->prediction, valid->label, valid->n, t->model->config.n_classes);
    }
}

/*
 * Close an epoch. Without a metric to compare (no validation rows, or a metric
 * they leave undefined) the last epoch counts as the best.
 */
static void
end_epoch(moe_trainer *t, double metric)
{
    bool lower = t->model->config.task == MOE_REGRESSION;
    bool better = !t->any_best || isnan(metric) || isnan(t->best_metric) ||
                  (lower ? metric < t->best_metric : metric > t->best_metric);
    if (better)
    {
        if (moe_params_keep(t->params) != MOE_OK)
            return;
        t->any_best = true;
        t->best_metric = metric;
        t->epochs_since_best = 0;
    }
    else
        t->epochs_since_best++;
    t->progress.epoch_done = true;
    t->progress.train_loss = t->loss_sum / t->steps;
    t->progress.metric = metric;
    t->progress.best = better;
    t->progress.seconds = moe_clock() - t->epoch_start;

    bool stop = t->config.patience > 0 && t->epochs_since_best >= t->config.patience;
    if (++t->epoch < t->config.epochs && !stop)
    {
        begin_epoch(t);
        return;
    }
    moe_params_recall(t->params);
    t->phase = PHASE_DONE;
}

static moe_code
step(moe_trainer *t)
{
    bool finished = t->valid.n == 0;
    moe_code code;
    if (t->phase == PHASE_TRAIN)
    {
        if ((code = train_batch(t)) != MOE_OK)
            return code;
        t->progress.step = ++t->step;
        if (t->step < t->steps)
            return MOE_OK;
        if ((code = finish_step(t)) != MOE_OK)
            return code;
        t->phase = PHASE_VALIDATE;
        t->evaluated = 0;
        if (!finished)
            return MOE_OK;
    }
    else if ((code = evaluate_batch(t, &finished)) != MOE_OK || !finished)
        return code;
    end_epoch(t, validation_metric(t));
    return moe_job_code(t->job);
}

moe_code
moe_trainer_step(moe_trainer *t, moe_progress *progress)
{
    moe_code code = moe_job_check(t->job);
    t->progress.epoch = t->phase == PHASE_DONE ? t->epoch : t->epoch + 1;
    t->progress.epochs = t->config.epochs;
    t->progress.step = t->step;
    t->progress.steps = t->steps;
    t->progress.epoch_done = false;
    if (code == MOE_OK && t->phase != PHASE_DONE)
        code = step(t);
    t->progress.done = t->phase == PHASE_DONE;
    *progress = t->progress;
    return code;
}
