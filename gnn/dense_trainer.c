/*
 * dense_trainer.c: the training loop and the predictions of networks over a matrix of inputs.
 *
 * An epoch is one pass over a fresh random order of the rows. Optimiser: AdamW
 * with a learning rate that falls to zero along a cosine. All random numbers
 * follow from the seed by (purpose, epoch, step). Validation rows choose the
 * epoch and nothing else.
 *
 * The rule for steps: 48 an epoch where batches stay within 32 to 1024 rows, 5
 * epochs, more of them where these would be fewer than 240 steps, fewer where
 * they would look at more than 2^21 rows. The learning rate falls with the cube
 * root of the inputs of a hidden unit: a step of Adam moves every weight alike, and
 * so the unit by as many of them as it has. Numbers are learned by absolute error,
 * which on skewed labels gave a tenth less of it than squared error, and on even ones
 * a hundredth more.
 */
#include "gnn/dense_trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gnn/dense_columns.h"
#include "kernels/random.h"

#define STEPS_AN_EPOCH 48
#define LEAST_BATCH    32
#define MOST_BATCH     1024
#define EPOCHS         5
#define MOST_EPOCHS    40
#define LEAST_STEPS    240
#define MOST_ROWS      (INT64_C(1) << 21) /* looked at in all */
#define LEARNING_RATE  0.002f             /* for 1024 inputs */
#define WEIGHT_DECAY   0.01f
#define CLIP_NORM      1.0f
#define PREDICT_BATCH  64

enum
{
    KEY_ORDER,
    KEY_TAPE
};

static inline int64_t
at_least_one(int64_t n)
{
    return n < 1 ? 1 : n;
}

moe_dense_training
moe_dense_training_for(int64_t n, int64_t inputs)
{
    int64_t batch = LEAST_BATCH;
    while (batch < MOST_BATCH && batch * STEPS_AN_EPOCH < n)
        batch *= 2;
    int64_t steps = at_least_one(n / batch);
    int64_t epochs = (LEAST_STEPS + steps - 1) / steps;
    epochs = epochs < EPOCHS ? EPOCHS : epochs > MOST_EPOCHS ? MOST_EPOCHS : epochs;
    if (epochs > MOST_ROWS / at_least_one(n))
        epochs = at_least_one(MOST_ROWS / at_least_one(n));
    if (steps > MOST_ROWS / batch)
        steps = MOST_ROWS / batch;
    else
        batch = (n + steps - 1) / steps;
    return (moe_dense_training){.epochs = (int) epochs,
                                .steps = steps,
                                .batch = batch,
                                .learning_rate = LEARNING_RATE * cbrtf(1024.0f / (float) inputs),
                                .weight_decay = WEIGHT_DECAY};
}

static bool
label_fits(const moe_dense_task *task, float y)
{
    if (task->task == MOE_BINARY)
        return y == 0 || y == 1;
    if (task->task == MOE_MULTICLASS)
        return y >= 0 && y < task->n_classes && y == (int) y;
    return isfinite(y);
}

moe_code
moe_dense_check(moe_job *job, const moe_dense_task *task, const moe_dense_rows *rows, bool empty)
{
    double total = 0;
    if (rows->n < 0 || rows->n > INT32_MAX || rows->width < 1 || (rows->n == 0 && !empty))
        return moe_fail(job, MOE_INVALID, "an expert cannot learn from %lld rows of %d columns", (long long) rows->n,
                        rows->width);
    if (task->task == MOE_MULTICLASS && task->n_classes < 2)
        return moe_fail(job, MOE_INVALID, "a multiclass task needs two classes or more");
    if (rows->n > 0 && rows->label == NULL)
        return moe_fail(job, MOE_INVALID, "rows to learn from lack labels");
    for (int64_t i = 0; i < rows->n; i++)
    {
        float weight = rows->weight == NULL ? 1 : rows->weight[i];
        if (!label_fits(task, rows->label[i]))
            return moe_fail(job, MOE_INVALID, "label %g does not fit the task", rows->label[i]);
        if (!(weight >= 0 && isfinite(weight)))
            return moe_fail(job, MOE_INVALID, "a row has weight %g", weight);
        total += weight;
    }
    if (rows->n > 0 && !(total > 0))
        return moe_fail(job, MOE_INVALID, "all rows have weight 0");
    return MOE_OK;
}

static inline double
weight_of(const moe_dense_rows *rows, int64_t i)
{
    return rows->weight == NULL ? 1 : rows->weight[i];
}

typedef struct weighted
{
    float value;
    float weight;
} weighted;

static int
by_value(const void *a, const void *b)
{
    float x = ((const weighted *) a)->value;
    float y = ((const weighted *) b)->value;
    return (x > y) - (x < y);
}

/* The smallest of ascending labels that has at least this share of all weight up to it. */
static double
quantile(const weighted *sorted, int64_t n, double share)
{
    double total = 0;
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        total += sorted[i].weight;
    for (int64_t i = 0; i < n; i++)
    {
        sum += sorted[i].weight;
        if (sum >= share * total && sorted[i].weight > 0)
            return sorted[i].value;
    }
    return n == 0 ? 0 : sorted[n - 1].value;
}

/* The weighted mean distance of sorted labels from a value. */
static double
mean_distance(const weighted *sorted, int64_t n, double from)
{
    double total = 0;
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
    {
        total += sorted[i].weight;
        sum += sorted[i].weight * fabs(sorted[i].value - from);
    }
    return total > 0 ? sum / total : 0;
}

moe_code
moe_dense_net_scale(moe_dense_net *net, const moe_dense_rows *train)
{
    net->shift = 0;
    net->scale = 1;
    if (net->task.task != MOE_REGRESSION)
        return MOE_OK;
    weighted *sorted = moe_alloc(net->job, train->n, sizeof *sorted);
    if (sorted == NULL)
        return moe_job_code(net->job);
    for (int64_t i = 0; i < train->n; i++)
        sorted[i] = (weighted){train->label[i], (float) weight_of(train, i)};
    qsort(sorted, train->n, sizeof *sorted, by_value);
    net->shift = quantile(sorted, train->n, 0.5);
    double range = (quantile(sorted, train->n, 0.75) - quantile(sorted, train->n, 0.25)) / 1.349;
    /* Of labels that are mostly equal the range is no scale; 1.25 mean distances are a deviation if they are normal. */
    double distance = 1.25 * mean_distance(sorted, train->n, net->shift);
    range = range > 0.1 * distance ? range : distance;
    net->scale = range > 0 && isfinite(range) ? range : 1;
    moe_free(net->job, sorted);
    return MOE_OK;
}

moe_code
moe_dense_net_base(const moe_dense_net *net, const moe_dense_rows *train, float *base)
{
    memset(base, 0, (size_t) net->outputs * sizeof *base);
    if (net->task.task == MOE_REGRESSION)
        return MOE_OK;
    int classes = net->task.task == MOE_BINARY ? 2 : net->outputs;
    double *sum = moe_alloc(net->job, classes, sizeof *sum);
    if (sum == NULL)
        return moe_job_code(net->job);
    double total = 0;
    for (int64_t i = 0; i < train->n; i++)
    {
        sum[(int) train->label[i]] += weight_of(train, i);
        total += weight_of(train, i);
    }
    /* A row of each class is added to the rows there are. */
    for (int c = 0; c < classes; c++)
        sum[c] = log((sum[c] / total * (double) train->n + 1) / (double) (train->n + classes));
    for (int c = 0; c < net->outputs; c++)
        base[c] = (float) (net->task.task == MOE_BINARY ? sum[1] - sum[0] : sum[c]);
    moe_free(net->job, sum);
    return MOE_OK;
}

moe_code
moe_dense_net_columns(const moe_dense_net *net, const moe_dense_rows *train, int n, int32_t *columns)
{
    moe_job *job = net->job;
    moe_dense_rows rows = *train;
    double *relevance = moe_alloc(job, train->width, sizeof *relevance);
    float *label = moe_alloc(job, train->n, sizeof *label);
    if (relevance == NULL || label == NULL)
        return moe_job_code(job);
    for (int64_t i = 0; i < train->n; i++)
    {
        double y = (train->label[i] - net->shift) / net->scale;
        label[i] = (float) (net->task.task == MOE_REGRESSION ? fmin(fmax(y, -3), 3) : y);
    }
    rows.label = label;
    moe_code code = moe_dense_relevance(job, &net->task, &rows, relevance);
    if (code == MOE_OK)
        code = moe_dense_best_columns(job, relevance, train->width, n, columns);
    moe_free(job, relevance);
    moe_free(job, label);
    return code;
}

typedef struct trainer
{
    moe_dense_net *net;
    const moe_dense_training *training;
    const moe_dense_rows *train;
    const moe_dense_rows *valid;
    uint64_t seed;
    moe_tape *tape;
    moe_adam adam;
    int32_t *order;    /* [train->n] */
    float *prediction; /* [valid->n * outputs] */
} trainer;

/* A fresh random order of the rows (Fisher and Yates). */
static void
shuffle(trainer *t, int epoch)
{
    uint64_t key = moe_key(moe_key(t->seed, KEY_ORDER), (uint64_t) epoch);
    for (int64_t i = 0; i < t->train->n; i++)
        t->order[i] = (int32_t) i;
    for (int64_t i = t->train->n - 1; i > 0; i--)
    {
        int64_t j = (int64_t) (moe_random_uniform(key, (uint64_t) i) * (double) (i + 1));
        int32_t swap = t->order[i];
        t->order[i] = t->order[j];
        t->order[j] = swap;
    }
}

/* One batch on the tape: inputs by row, labels and weights by copy of a row. */
typedef struct batch
{
    int64_t n;
    float *x;
    float *label;
    int32_t *class_label;
    float *weight;
} batch;

static moe_code
fill_batch(trainer *t, int64_t step, batch *b)
{
    const moe_dense_net *net = t->net;
    const moe_dense_rows *train = t->train;
    /* Where there are more rows than steps look at, an epoch is of some of them. */
    int64_t n = t->training->steps * t->training->batch < train->n ? t->training->steps * t->training->batch : train->n;
    int64_t first = step * n / t->training->steps;
    int copies = net->copies;
    b->n = (step + 1) * n / t->training->steps - first;
    b->x = moe_tape_alloc(t->tape, b->n, (size_t) net->width * sizeof *b->x);
    b->label = moe_tape_alloc(t->tape, b->n * copies, sizeof *b->label);
    b->class_label = moe_tape_alloc(t->tape, b->n * copies, sizeof *b->class_label);
    b->weight = moe_tape_alloc(t->tape, b->n * copies, sizeof *b->weight);
    if (b->x == NULL || b->label == NULL || b->class_label == NULL || b->weight == NULL)
        return moe_job_code(net->job);
    for (int64_t i = 0; i < b->n; i++)
    {
        int64_t row = t->order[first + i];
        memcpy(b->x + i * net->width, train->x + row * net->width, (size_t) net->width * sizeof *b->x);
        for (int64_t c = i * copies; c < (i + 1) * copies; c++)
        {
            b->label[c] = (float) ((train->label[row] - net->shift) / net->scale);
            b->class_label[c] = net->task.task == MOE_MULTICLASS ? (int32_t) train->label[row] : 0;
            b->weight[c] = (float) weight_of(train, row);
        }
    }
    return MOE_OK;
}

static moe_var *
loss_of(const trainer *t, moe_var *raw, const batch *b)
{
    const float *weight = t->train->weight == NULL ? NULL : b->weight;
    if (t->net->task.task == MOE_BINARY)
        return moe_loss_logistic(t->tape, raw, b->label, weight);
    if (t->net->task.task == MOE_MULTICLASS)
        return moe_loss_cross_entropy(t->tape, raw, b->class_label, weight);
    return moe_loss_absolute(t->tape, raw, b->label, weight);
}

static moe_code
train_batch(trainer *t, int epoch, int64_t step)
{
    batch b;
    float value;
    const moe_dense_training *training = t->training;
    int64_t done = epoch * training->steps + step;
    moe_tape_reset(t->tape, true, moe_key(moe_key(t->seed, KEY_TAPE), (uint64_t) done));
    moe_code code = fill_batch(t, step, &b);
    if (code != MOE_OK)
        return code;
    moe_var *loss = loss_of(t, t->net->forward(t->net, t->tape, b.x, b.n), &b);
    if ((code = moe_tape_read(t->tape, loss, &value)) != MOE_OK)
        return code;
    if (!isfinite(value))
        return moe_fail(t->net->job, MOE_INVALID, "training an expert diverged in epoch %d", epoch + 1);
    if ((code = moe_tape_backward(t->tape, loss)) != MOE_OK)
        return code;
    double share = (double) done / (double) (training->epochs * training->steps);
    t->adam.learning_rate = training->learning_rate * 0.5f * (1 + cosf(3.14159265f * (float) share));
    moe_adam_step(&t->adam, t->net->params);
    return moe_adam_check(&t->adam, t->net->params);
}

/* The weighted mean loss of predictions: logarithmic, or absolute. */
static double
loss_of_predictions(const moe_dense_net *net, const moe_dense_rows *rows, const float *prediction)
{
    double sum = 0;
    double total = 0;
    for (int64_t i = 0; i < rows->n; i++)
    {
        double w = weight_of(rows, i);
        double y = rows->label[i];
        const float *p = prediction + i * net->outputs;
        total += w;
        if (net->task.task == MOE_REGRESSION)
            sum += w * fabs(p[0] - y);
        else
            sum -= w * log(fmax(1e-12, net->task.task == MOE_MULTICLASS ? p[(int) y] : y == 1 ? p[0] : 1 - p[0]));
    }
    return sum / total;
}

static moe_code
run_epochs(trainer *t)
{
    double best = INFINITY;
    bool validated = t->valid->n > 0;
    moe_code code = MOE_OK;
    for (int epoch = 0; epoch < t->training->epochs; epoch++)
    {
        shuffle(t, epoch);
        for (int64_t step = 0; code == MOE_OK && step < t->training->steps; step++)
            code = train_batch(t, epoch, step);
        if (code == MOE_OK && validated)
            code = moe_dense_net_predict(t->net, t->valid, t->prediction);
        if (code != MOE_OK)
            return code;
        double loss = validated ? loss_of_predictions(t->net, t->valid, t->prediction) : 0;
        if (validated && loss < best)
        {
            best = loss;
            code = moe_params_keep(t->net->params);
        }
    }
    return code == MOE_OK && best < INFINITY ? moe_params_recall(t->net->params) : code;
}

moe_code
moe_dense_net_train(moe_dense_net *net, const moe_dense_training *training, const moe_dense_rows *train,
                    const moe_dense_rows *valid, uint64_t seed)
{
    moe_job *job = net->job;
    trainer t = {.net = net, .training = training, .train = train, .valid = valid, .seed = seed};
    t.adam = (moe_adam){.beta1 = 0.9f,
                        .beta2 = 0.999f,
                        .epsilon = 1e-8f,
                        .weight_decay = training->weight_decay,
                        .clip_norm = CLIP_NORM};
    t.tape = moe_tape_create(job);
    t.order = moe_alloc(job, train->n, sizeof *t.order);
    t.prediction = moe_alloc(job, valid->n, (size_t) net->outputs * sizeof *t.prediction);
    moe_code code = moe_job_code(job) == MOE_OK ? moe_params_train(net->params) : moe_job_code(job);
    if (code == MOE_OK)
        code = run_epochs(&t);
    moe_tape_destroy(t.tape);
    moe_free(job, t.order);
    moe_free(job, t.prediction);
    return code;
}

/* Add one member's prediction to the mean. */
static void
add_prediction(const moe_dense_net *net, const float *raw, double *mean)
{
    double high = raw[0];
    double total = 0;
    for (int c = 1; c < net->outputs; c++)
        high = raw[c] > high ? raw[c] : high;
    for (int c = 0; c < net->outputs; c++)
        total += exp(raw[c] - high);
    for (int c = 0; c < net->outputs; c++)
        if (net->task.task == MOE_BINARY)
            mean[c] += 1 / (1 + exp(-(double) raw[c])) / net->copies;
        else
            mean[c] += (net->task.task == MOE_MULTICLASS ? exp(raw[c] - high) / total : raw[c]) / net->copies;
}

/* Turn the raw outputs of n rows into predictions. */
static moe_code
finish(const moe_dense_net *net, const float *raw, int64_t n, double *mean, float *prediction)
{
    int outputs = net->outputs;
    for (int64_t i = 0; i < n; i++)
    {
        memset(mean, 0, (size_t) outputs * sizeof *mean);
        for (int m = 0; m < net->copies; m++)
            add_prediction(net, raw + (i * net->copies + m) * outputs, mean);
        if (net->task.task == MOE_REGRESSION)
            mean[0] = fmin(fmax(mean[0] * net->scale + net->shift, net->task.low), net->task.high);
        for (int c = 0; c < outputs; c++)
        {
            prediction[i * outputs + c] = (float) mean[c];
            if (!isfinite(prediction[i * outputs + c]))
                return moe_fail(net->job, MOE_INVALID, "an expert's predictions are not finite");
        }
    }
    return MOE_OK;
}

/* Predict n rows (at most a batch). */
static moe_code
predict_batch(const moe_dense_net *net, moe_tape *tape, const float *x, int64_t n, float *raw, double *mean,
              float *prediction)
{
    moe_tape_reset(tape, false, 0);
    moe_code code = moe_tape_read(tape, net->forward(net, tape, x, n), raw);
    return code == MOE_OK ? finish(net, raw, n, mean, prediction) : code;
}

moe_code
moe_dense_net_predict(const moe_dense_net *net, const moe_dense_rows *rows, float *prediction)
{
    moe_job *job = net->job;
    moe_tape *tape = moe_tape_create(job);
    float *raw = moe_alloc(job, (int64_t) PREDICT_BATCH * net->copies * net->outputs, sizeof *raw);
    double *mean = moe_alloc(job, net->outputs, sizeof *mean);
    moe_code code = tape == NULL || raw == NULL || mean == NULL ? moe_job_code(job) : MOE_OK;
    for (int64_t first = 0; code == MOE_OK && first < rows->n; first += PREDICT_BATCH)
    {
        int64_t n = rows->n - first < PREDICT_BATCH ? rows->n - first : PREDICT_BATCH;
        code = predict_batch(net, tape, rows->x + first * net->width, n, raw, mean, prediction + first * net->outputs);
    }
    moe_tape_destroy(tape);
    moe_free(job, raw);
    moe_free(job, mean);
    return code;
}

void
moe_dense_net_write(const moe_dense_net *net, moe_buffer *buffer)
{
    moe_put_f64(buffer, net->shift);
    moe_put_f64(buffer, net->scale);
    moe_params_write(net->params, buffer);
}

moe_code
moe_dense_net_read(moe_dense_net *net, moe_reader *reader)
{
    net->shift = moe_get_f64(reader);
    net->scale = moe_get_f64(reader);
    moe_code code = moe_reader_code(reader);
    if (code == MOE_OK && !(isfinite(net->shift) && isfinite(net->scale) && net->scale > 0))
        code = moe_fail(net->job, MOE_CORRUPT, "a stored expert has scale %g and shift %g", net->scale, net->shift);
    if (code == MOE_OK)
        code = moe_params_read(net->params, reader);
    int stored = moe_params_count(net->params);
    if (code == MOE_OK && stored > 0)
        code = net->add(net);
    if (code == MOE_OK && (stored == 0 || moe_params_count(net->params) != stored))
        code = moe_fail(net->job, MOE_CORRUPT, "a stored expert lacks parameters");
    return code;
}
