/*
 * linear.c: logistic, median and multinomial regression on standardised inputs.
 *
 * Penalties: |w|^2 / (2 C) with C = .002 beside the summed log losses; of numbers,
 * whose loss is nearly the absolute distance (linear_loss.c), alpha |w|^2 / 2 with
 * alpha = 2000 and a target of deviation 1. They do not grow with the number of rows:
 * a penalty is what is believed of the weights before any row is seen, and more
 * rows should outweigh it. A penalty of a fifth or five times as much is taken
 * only where at least LEAST_VALID validation rows are better off by more than
 * one standard error of the paired difference of losses, and where the fits take
 * seconds: with more products of a row and an output's weights than MOST_TRIED,
 * there are rows enough for the penalty to matter little.
 */
#include "gnn/linear_loss.h"

#include <math.h>
#include <string.h>

#define LOGISTIC_PENALTY (1 / .002)
#define NUMBER_PENALTY   2000.0
#define LEAST_VALID      500
#define MOST_TRIED       ((int64_t) 1 << 30)
#define ROWS             64 /* a chunk */

typedef struct linear
{
    int width;
    int outputs;
    double shift; /* of a regression's target */
    double scale;
    double penalty;
    double *parameters; /* [outputs, width + 1] */
} linear;

static const double factors[] = {1, 0.2, 5}; /* of the penalty; the first unless another is better */
#define CHOICES ((int) (sizeof factors / sizeof *factors))

static int64_t
count_parameters(const linear *l)
{
    return l->outputs * ((int64_t) l->width + 1);
}

static int64_t
linear_parameters(const void *state)
{
    return count_parameters(state);
}

static void
linear_destroy(moe_job *job, void *state)
{
    linear *l = state;
    if (l != NULL)
        moe_free(job, l->parameters);
    moe_free(job, l);
}

static linear *
create(moe_job *job, const moe_dense_task *task, int width)
{
    linear *l = moe_alloc(job, 1, sizeof *l);
    if (l == NULL)
        return NULL;
    *l = (linear){.width = width, .outputs = moe_linear_outputs(task), .scale = 1};
    l->parameters = moe_alloc(job, count_parameters(l), sizeof *l->parameters);
    if (l->parameters != NULL)
        return l;
    linear_destroy(job, l);
    return NULL;
}

/* Mean and deviation of the labels, by weight. */
static void
measure_target(const moe_dense_rows *rows, double *mean, double *deviation)
{
    double total = 0, sum = 0, square = 0;
    for (int64_t i = 0; i < rows->n; i++)
    {
        double weight = rows->weight == NULL ? 1 : rows->weight[i];
        total += weight;
        sum += weight * rows->label[i];
    }
    *mean = sum / total;
    for (int64_t i = 0; i < rows->n; i++)
    {
        double d = rows->label[i] - *mean;
        square += (rows->weight == NULL ? 1 : rows->weight[i]) * d * d;
    }
    *deviation = sqrt(square / total);
    if (!(*deviation > 0))
        *deviation = 1;
}

/* Raw outputs of one row become what is predicted. */
static void
finish_row(const linear *l, const moe_dense_task *task, double *raw)
{
    double most = raw[0], sum = 0;
    if (task->task == MOE_REGRESSION)
        raw[0] = fmin(fmax(l->shift + l->scale * raw[0], task->low), task->high);
    else if (task->task == MOE_BINARY)
        raw[0] = 1 / (1 + exp(-raw[0]));
    else
    {
        for (int o = 1; o < l->outputs; o++)
            most = fmax(most, raw[o]);
        for (int o = 0; o < l->outputs; o++)
            sum += raw[o] = exp(raw[o] - most);
        for (int o = 0; o < l->outputs; o++)
            raw[o] /= sum;
    }
}

typedef struct predicting
{
    moe_job *job;
    const linear *expert;
    const moe_dense_task *task;
    const moe_dense_rows *rows;
    double *out; /* [n, outputs] */
} predicting;

static void
predict_rows(int64_t begin, int64_t end, void *arg)
{
    const predicting *p = arg;
    const linear *l = p->expert;
    double *out = p->out + begin * l->outputs;
    if (moe_job_cancelled(p->job))
        return;
    moe_linear_raw(l->width, l->outputs, l->parameters, p->rows->x + begin * l->width, end - begin, out);
    for (int64_t i = 0; i < end - begin; i++)
        finish_row(l, p->task, out + i * l->outputs);
}

/* [n, outputs] of the job's; NULL on failure. */
static double *
predict_exactly(moe_job *job, const linear *l, const moe_dense_task *task, const moe_dense_rows *rows)
{
    double *out = moe_alloc(job, rows->n, (size_t) l->outputs * sizeof *out);
    predicting p = {job, l, task, rows, out};
    if (out == NULL)
        return NULL;
    moe_parallel(job, rows->n, ROWS, predict_rows, &p);
    if (moe_job_check(job) == MOE_OK)
        return out;
    moe_free(job, out);
    return NULL;
}

static moe_code
linear_predict(moe_job *job, void *state, const moe_dense_task *task, const moe_dense_rows *rows, float *prediction)
{
    const linear *l = state;
    double *out = predict_exactly(job, l, task, rows);
    if (out == NULL)
        return moe_job_code(job);
    for (int64_t i = 0; i < rows->n * l->outputs; i++)
        prediction[i] = (float) out[i];
    moe_free(job, out);
    return MOE_OK;
}

/* The loss that was trained, of one prediction. */
static double
loss_of(const linear *l, const moe_dense_task *task, float label, const double *prediction)
{
    if (task->task == MOE_REGRESSION)
        return fabs(label - prediction[0]);
    double p = task->task == MOE_MULTICLASS ? prediction[(int) label] : label > 0 ? prediction[0] : 1 - prediction[0];
    return -log(fmax(p, 1e-12));
}

/* Whether b's losses are lower than a's by more than one standard error; by how much, per row. */
static bool
clearly_better(const linear *l, const moe_dense_task *task, const moe_dense_rows *valid, const double *a,
               const double *b, double *gain)
{
    double total = 0, sum = 0, square = 0;
    for (int64_t i = 0; i < valid->n; i++)
    {
        double weight = valid->weight == NULL ? 1 : valid->weight[i];
        double d = loss_of(l, task, valid->label[i], a + i * l->outputs) -
                   loss_of(l, task, valid->label[i], b + i * l->outputs);
        total += weight;
        sum += weight * d;
        square += weight * d * d;
    }
    *gain = sum / total;
    double variance = fmax(square / total - *gain * *gain, 0);
    return *gain > sqrt(variance / (double) valid->n);
}

/* Fit under the other penalties too; the expert takes the best that is clearly better on the validation rows. */
static moe_code
choose_penalty(moe_job *job, linear *l, const moe_dense_task *task, moe_linear_loss *loss, const moe_dense_rows *valid)
{
    double most = 0, usual = l->penalty;
    double *first = predict_exactly(job, l, task, valid);
    linear *other = create(job, task, l->width);
    for (int c = 1; c < CHOICES && first != NULL && other != NULL && moe_job_code(job) == MOE_OK; c++)
    {
        double gain;
        double *parameters = other->parameters;
        *other = *l;
        other->parameters = parameters;
        other->penalty = factors[c] * usual;
        memcpy(parameters, l->parameters, (size_t) count_parameters(l) * sizeof *parameters);
        moe_linear_loss_minimise(loss, other->penalty, parameters);
        double *second = predict_exactly(job, other, task, valid);
        if (second != NULL && clearly_better(l, task, valid, first, second, &gain) && gain > most)
        {
            most = gain;
            other->parameters = l->parameters;
            l->parameters = parameters;
            l->penalty = other->penalty;
        }
        moe_free(job, second);
    }
    moe_free(job, first);
    linear_destroy(job, other);
    return moe_job_check(job);
}

static moe_code
linear_fit(moe_job *job, const moe_dense_task *task, const moe_dense_rows *train, const moe_dense_rows *valid,
           uint64_t seed, void **state)
{
    moe_linear_loss *loss;
    linear *l = create(job, task, train->width);
    if (l == NULL)
        return moe_job_code(job);
    l->penalty = task->task == MOE_REGRESSION ? NUMBER_PENALTY : LOGISTIC_PENALTY;
    if (task->task == MOE_REGRESSION)
        measure_target(train, &l->shift, &l->scale);
    moe_code code = moe_linear_loss_create(job, task, train, l->shift, l->scale, &loss);
    if (code == MOE_OK)
    {
        moe_linear_loss_start(loss, l->parameters);
        code = moe_linear_loss_minimise(loss, l->penalty, l->parameters);
    }
    if (code == MOE_OK && valid->n >= LEAST_VALID && train->n <= MOST_TRIED / count_parameters(l))
        code = choose_penalty(job, l, task, loss, valid);
    moe_linear_loss_destroy(loss);
    if (code == MOE_OK)
        *state = l;
    else
        linear_destroy(job, l);
    return code;
}

static void
linear_write(const void *state, moe_buffer *buffer)
{
    const linear *l = state;
    moe_put_f64(buffer, l->shift);
    moe_put_f64(buffer, l->scale);
    moe_put_f64(buffer, l->penalty);
    moe_put_i64(buffer, count_parameters(l));
    for (int64_t p = 0; p < count_parameters(l); p++)
        moe_put_f64(buffer, l->parameters[p]);
}

static moe_code
linear_read(moe_job *job, moe_reader *reader, const moe_dense_task *task, int width, void **state)
{
    double shift = moe_get_f64(reader), scale = moe_get_f64(reader), penalty = moe_get_f64(reader);
    int64_t n = moe_get_count(reader, sizeof(double));
    bool valid = isfinite(shift) && isfinite(scale) && scale > 0 && isfinite(penalty) && penalty >= 0 &&
                 n == moe_linear_outputs(task) * ((int64_t) width + 1);
    if (moe_reader_code(reader) != MOE_OK)
        return moe_reader_code(reader);
    linear *l = valid ? create(job, task, width) : NULL;
    if (valid && l == NULL)
        return moe_job_code(job);
    for (int64_t p = 0; valid && p < n; p++)
    {
        l->parameters[p] = moe_get_f64(reader);
        valid = isfinite(l->parameters[p]);
    }
    if (!valid)
    {
        linear_destroy(job, l);
        return moe_fail(job, MOE_CORRUPT, "a stored linear model does not read back");
    }
    l->shift = shift;
    l->scale = scale;
    l->penalty = penalty;
    *state = l;
    return moe_reader_code(reader);
}

const moe_dense_class moe_dense_linear = {
    .name = "linear",
    .fit = linear_fit,
    .predict = linear_predict,
    .parameters = linear_parameters,
    .write = linear_write,
    .read = linear_read,
    .destroy = linear_destroy,
};
