/*
 * router_data.h: held-out rows of made-up experts, for the tests of the router and of what uses its gates.
 */
#ifndef ROUTER_DATA_H
#define ROUTER_DATA_H

#include <math.h>
#include <stdlib.h>

#include "gnn/router.h"
#include "test/unit/core.h"

typedef enum data_kind
{
    ALIKE,   /* every expert errs alike, independently */
    REGIONS, /* an expert is right where its input is the largest of the first inputs, and poor elsewhere */
    ONE_GOOD /* expert 0 is right everywhere, the others are poor */
} data_kind;

typedef struct router_data
{
    moe_router_rows rows;
    int experts;
    int k;
    void *owned[MOE_ROUTER_EXPERTS + 3];
} router_data;

static inline double
data_sigmoid(double z)
{
    return 1 / (1 + exp(-z));
}

/* What a row's true logits, and those an expert says, make of the task: a probability, a number, or k of them. */
static inline void
data_say(moe_task_type task, int k, const double *logit, float *out)
{
    double total = 0;
    if (task == MOE_BINARY)
        out[0] = (float) data_sigmoid(logit[0]);
    if (task == MOE_REGRESSION)
        out[0] = (float) (100 * logit[0]);
    for (int c = 0; task == MOE_MULTICLASS && c < k; c++)
        total += exp(logit[c]);
    for (int c = 0; task == MOE_MULTICLASS && c < k; c++)
        out[c] = (float) (exp(logit[c]) / total);
}

static inline float
data_label(moe_task_type task, int k, const double *logit, double uniform)
{
    float p[8];
    data_say(task, k, logit, p);
    if (task == MOE_BINARY)
        return uniform < p[0];
    if (task == MOE_REGRESSION)
        return p[0] + (float) (20 * (uniform - 0.5));
    int class = 0;
    for (uniform -= p[0]; class < k - 1 && uniform > 0; uniform -= p[class])
        class ++;
    return (float) class;
}

/* n rows at `times` seed times with `width` inputs; errors of experts: normal, sd .3 where right, 2 where poor. */
static inline void
make_router_data(router_data *d, data_kind kind, moe_task_type task, int experts, int64_t n, int width, int64_t times,
                 uint64_t seed)
{
    int k = task == MOE_MULTICLASS ? 3 : 1;
    float *x = calloc(n * width + 1, sizeof *x);
    int64_t *time = calloc(n, sizeof *time);
    float *label = calloc(n, sizeof *label);
    *d = (router_data){.experts = experts, .k = k, .owned = {x, time, label}};
    d->rows = (moe_router_rows){.n = n, .width = width, .x = x, .time = time, .label = label};
    for (int e = 0; e < experts; e++)
        d->rows.prediction[e] = d->owned[3 + e] = calloc(n * k, sizeof(float));
    for (int64_t i = 0; i < n * width; i++)
        x[i] = (float) (10 + 3 * moe_random_normal(moe_key(seed, 1), i));
    for (int64_t i = 0; i < n; i++)
    {
        double truth[3], said[3];
        int best = 0;
        for (int e = 1; e < experts && e < width; e++)
            best = x[i * width + e] > x[i * width + best] ? e : best;
        time[i] = (int64_t) (moe_random_bits(moe_key(seed, 2), i) % times);
        for (int c = 0; c < k; c++)
            truth[c] = 2 * moe_random_normal(moe_key(seed, 3), i * k + c);
        label[i] = data_label(task, k, truth, moe_random_uniform(moe_key(seed, 4), i));
        for (int e = 0; e < experts; e++)
        {
            double spread = kind == ALIKE ? 0.7 : (kind == REGIONS ? best : 0) == e ? 0.3 : 2;
            for (int c = 0; c < k; c++)
                said[c] = truth[c] + spread * moe_random_normal(moe_key(seed, 5 + e), i * k + c);
            data_say(task, k, said, (float *) d->rows.prediction[e] + i * k);
        }
    }
}

static inline void
free_router_data(router_data *d)
{
    for (int i = 0; i < MOE_ROUTER_EXPERTS + 3; i++)
        free(d->owned[i]);
}

#endif
