/*
 * trees_loss.c: what boosted trees lower.
 *
 * BINARY and MULTICLASS: the logarithmic loss of logistic and softmax outputs
 * (Friedman 2001). REGRESSION: the absolute error; a tree follows the signs of
 * the residuals, and each leaf then moves by the weighted median of its rows'
 * residuals, the step that lowers their loss most (Friedman's LAD_TreeBoost).
 *
 * Of more than MOST_OUTPUTS classes the most common have trees.
 */
#include "gnn/trees.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MOST_OUTPUTS 64
#define ROW_GRAIN    1024

typedef struct weighted
{
    double value;
    double weight;
} weighted;

static int
by_value(const void *a, const void *b)
{
    double x = ((const weighted *) a)->value, y = ((const weighted *) b)->value;
    return (x > y) - (x < y);
}

/* The least value that half of the weight does not exceed; mean with the next where it is just half. */
static double
weighted_median(weighted *values, int64_t n)
{
    double total = 0, sum = 0;
    int64_t at = 0;
    qsort(values, (size_t) n, sizeof *values, by_value);
    for (int64_t i = 0; i < n; i++)
        total += values[i].weight;
    while (at < n - 1 && (sum += values[at].weight) < total / 2)
        at++;
    return at < n - 1 && sum == total / 2 ? (values[at].value + values[at + 1].value) / 2 : values[at].value;
}

moe_code
moe_tree_outputs_create(moe_job *job, const moe_dense_task *task, moe_tree_outputs *out)
{
    *out = (moe_tree_outputs){.n = task->n_classes < MOST_OUTPUTS ? task->n_classes : MOST_OUTPUTS};
    out->n_classes = task->n_classes;
    out->class_of = moe_alloc(job, out->n, sizeof *out->class_of);
    out->base = moe_alloc(job, task->n_classes, sizeof *out->base);
    return moe_job_code(job);
}

void
moe_tree_outputs_destroy(moe_job *job, moe_tree_outputs *outputs)
{
    moe_free(job, outputs->class_of);
    moe_free(job, outputs->base);
}

static moe_code
fit_median(moe_job *job, const moe_dense_rows *train, double *base)
{
    weighted *values = moe_alloc(job, train->n, sizeof *values);
    if (values == NULL)
        return moe_job_code(job);
    int64_t n = 0;
    for (int64_t i = 0; i < train->n; i++)
        if (moe_dense_weight(train, i) > 0)
            values[n++] = (weighted){train->label[i], moe_dense_weight(train, i)};
    *base = weighted_median(values, n);
    moe_free(job, values);
    return MOE_OK;
}

/* Logarithms of shares [classes], half a row of each added to the rows there are. */
static void
fit_shares(const moe_dense_rows *train, int classes, double *share)
{
    double total = 0;
    memset(share, 0, (size_t) classes * sizeof *share);
    for (int64_t i = 0; i < train->n; i++)
    {
        share[(int) train->label[i]] += moe_dense_weight(train, i);
        total += moe_dense_weight(train, i);
    }
    for (int c = 0; c < classes; c++)
        share[c] = log((share[c] + 0.5) / (total + 0.5 * classes));
}

/* The most common classes, ascending; of equals the first. */
static void
choose_classes(int classes, const double *share, moe_tree_outputs *outputs)
{
    for (int o = 0; o < outputs->n; o++)
    {
        int best = -1;
        for (int c = 0; c < classes; c++)
        {
            bool taken = false;
            for (int k = 0; k < o; k++)
                taken = taken || outputs->class_of[k] == c;
            if (!taken && (best < 0 || share[c] > share[best]))
                best = c;
        }
        int place = o;
        for (; place > 0 && outputs->class_of[place - 1] > best; place--)
            outputs->class_of[place] = outputs->class_of[place - 1];
        outputs->class_of[place] = best;
    }
}

void
moe_tree_outputs_complete(const moe_dense_task *task, moe_tree_outputs *outputs)
{
    outputs->rest = 0;
    for (int c = 0, o = 0; task->task == MOE_MULTICLASS && c < task->n_classes; c++)
        if (o < outputs->n && outputs->class_of[o] == c)
            o++;
        else
            outputs->rest += exp(outputs->base[c]);
}

moe_code
moe_tree_outputs_fit(moe_job *job, const moe_dense_task *task, const moe_dense_rows *train, moe_tree_outputs *outputs)
{
    double share[2];
    if (task->task == MOE_REGRESSION)
        return fit_median(job, train, outputs->base);
    if (task->task == MOE_BINARY)
    {
        fit_shares(train, 2, share);
        outputs->base[0] = share[1] - share[0];
        return MOE_OK;
    }
    fit_shares(train, task->n_classes, outputs->base);
    choose_classes(task->n_classes, outputs->base, outputs);
    moe_tree_outputs_complete(task, outputs);
    return MOE_OK;
}

/* *most: the largest exponent, 0 or more; the sum of e^(exponent - *most) over all classes. */
static double
partition(const moe_tree_outputs *outputs, const double *raw, double *most)
{
    *most = 0;
    for (int o = 0; o < outputs->n; o++)
        *most = fmax(*most, raw[o]);
    double sum = outputs->rest * exp(-*most);
    for (int o = 0; o < outputs->n; o++)
        sum += exp(raw[o] - *most);
    return sum;
}

typedef struct deriving
{
    moe_job *job;
    const moe_dense_task *task;
    const moe_tree_outputs *outputs;
    const moe_dense_rows *rows;
    const double *raw;
    int o;
    float *gradient;
    float *curvature;
} deriving;

static void
derive_rows(int64_t begin, int64_t end, void *arg)
{
    const deriving *d = arg;
    const moe_tree_outputs *outputs = d->outputs;
    for (int64_t i = begin; i < end && !moe_job_cancelled(d->job); i++)
    {
        double weight = moe_dense_weight(d->rows, i), label = d->rows->label[i], most, p;
        const double *raw = d->raw + i * outputs->n;
        if (d->task->task == MOE_REGRESSION)
        {
            d->gradient[i] = (float) (weight * ((raw[0] > label) - (raw[0] < label)));
            d->curvature[i] = (float) weight;
            continue;
        }
        if (d->task->task == MOE_BINARY)
            p = 1 / (1 + exp(-raw[0]));
        else
        {
            p = partition(outputs, raw, &most);
            p = exp(raw[d->o] - most) / p;
            label = label == outputs->class_of[d->o];
        }
        d->gradient[i] = (float) (weight * (p - label));
        d->curvature[i] = (float) (weight * p * (1 - p));
    }
}

void
moe_tree_gradients(moe_job *job, const moe_dense_task *task, const moe_tree_outputs *outputs,
                   const moe_dense_rows *rows, const double *raw, int o, float *gradient, float *curvature)
{
    deriving d = {job, task, outputs, rows, raw, o, gradient, curvature};
    moe_parallel(job, rows->n, ROW_GRAIN, derive_rows, &d);
}

typedef struct refitting
{
    moe_job *job;
    const moe_dense_rows *rows;
    const double *raw;
    const moe_tree_grower *grower;
    moe_tree *tree;
    weighted *short_of; /* [rows of the tree] */
} refitting;

static void
refit_leaves(int64_t begin, int64_t end, void *arg)
{
    const refitting *r = arg;
    const int32_t *first = NULL;
    int64_t n;
    first = moe_tree_leaf_rows(r->grower, 0, &n); /* all leaves' rows stand in one run, not in the order of leaves */
    for (int64_t l = begin; l < end && !moe_job_cancelled(r->job); l++)
    {
        const int32_t *row = moe_tree_leaf_rows(r->grower, (int) l, &n);
        weighted *own = r->short_of + (row - first);
        int64_t kept = 0;
        for (int64_t i = 0; i < n; i++)
            if (moe_dense_weight(r->rows, row[i]) > 0)
                own[kept++] = (weighted){r->rows->label[row[i]] - r->raw[row[i]], moe_dense_weight(r->rows, row[i])};
        r->tree->value[l] = kept > 0 ? (float) weighted_median(own, kept) : 0;
    }
}

moe_code
moe_tree_medians(moe_job *job, const moe_dense_rows *rows, const double *raw, const moe_tree_grower *grower,
                 moe_tree *tree)
{
    refitting r = {job, rows, raw, grower, tree, moe_alloc(job, rows->n, sizeof *r.short_of)};
    if (r.short_of == NULL)
        return moe_job_code(job);
    moe_parallel(job, tree->nodes + 1, 1, refit_leaves, &r);
    moe_free(job, r.short_of);
    return moe_job_check(job);
}

double
moe_tree_loss(const moe_dense_task *task, const moe_tree_outputs *outputs, const moe_dense_rows *rows,
              const double *raw)
{
    double sum = 0, total = 0, most;
    for (int64_t i = 0; i < rows->n; i++, raw += outputs->n)
    {
        double weight = moe_dense_weight(rows, i), label = rows->label[i], loss;
        if (task->task == MOE_REGRESSION)
            loss = fabs(fmin(fmax(raw[0], task->low), task->high) - label);
        else if (task->task == MOE_BINARY)
            loss = log1p(exp(-fabs(raw[0]))) + fmax(label > 0 ? -raw[0] : raw[0], 0);
        else
        {
            double own = outputs->base[(int) label];
            for (int o = 0; o < outputs->n; o++)
                own = outputs->class_of[o] == label ? raw[o] : own;
            loss = log(partition(outputs, raw, &most));
            loss += most - own;
        }
        total += weight;
        sum += weight * loss;
    }
    return sum / total;
}

void
moe_tree_finish(const moe_dense_task *task, const moe_tree_outputs *outputs, const double *raw, float *out)
{
    double most, sum;
    if (task->task == MOE_REGRESSION)
        out[0] = (float) fmin(fmax(raw[0], task->low), task->high);
    else if (task->task == MOE_BINARY)
        out[0] = (float) (1 / (1 + exp(-raw[0])));
    else
    {
        sum = partition(outputs, raw, &most);
        for (int c = 0, o = 0; c < task->n_classes; c++)
        {
            bool grown = o < outputs->n && outputs->class_of[o] == c;
            out[c] = (float) (exp((grown ? raw[o] : outputs->base[c]) - most) / sum);
            o += grown;
        }
    }
}
