/*
 * router_net.c: a row's inputs to its gates, and the loss of what they mix.
 *
 * Everything here is a function of one row, so a row's gates are the same bits
 * in any company. Gates are a softmax over the experts that take part: all, the
 * k with the largest logits, or (expert choice) those whose threshold the
 * row's score reaches, and its best expert where none does.
 */
#include "gnn/router_net.h"

#include <math.h>
#include <stdlib.h>

#define FARTHEST_INPUT    3
#define LEAST_PROBABILITY 1e-7

moe_code
moe_router_create(moe_job *job, const moe_router_config *config, moe_router_kind kind, int width, moe_router **out)
{
    *out = NULL;
    moe_router *router = moe_alloc(job, 1, sizeof *router);
    if (router == NULL)
        return moe_job_code(job);
    *router = (moe_router){.job = job, .config = *config, .kind = kind, .width = width};
    if (kind != MOE_ROUTER_EQUAL)
    {
        router->inputs = kind == MOE_ROUTER_INPUTS ? width : 0;
        router->mean = moe_alloc(job, router->inputs, sizeof(double));
        router->scale = moe_alloc(job, router->inputs, sizeof(double));
        router->weight = moe_alloc(job, ((int64_t) router->inputs + 1) * config->experts, sizeof(double));
        if (router->mean == NULL || router->scale == NULL || router->weight == NULL)
        {
            moe_router_destroy(router);
            return moe_job_code(job);
        }
    }
    *out = router;
    return MOE_OK;
}

void
moe_router_destroy(moe_router *router)
{
    if (router == NULL)
        return;
    moe_free(router->job, router->mean);
    moe_free(router->job, router->scale);
    moe_free(router->job, router->weight);
    moe_free(router->job, router);
}

double
moe_router_input(const moe_router *router, int j, float x)
{
    double z = (x - router->mean[j]) * router->scale[j];
    return z > FARTHEST_INPUT ? FARTHEST_INPUT : z < -FARTHEST_INPUT ? -FARTHEST_INPUT : z;
}

void
moe_router_logits(const moe_router *router, const float *x, double *logits)
{
    int experts = router->config.experts;
    const double *weight = router->weight;
    double sum[MOE_ROUTER_EXPERTS] = {0};
    for (int j = 0; j < router->inputs; j++, weight += experts)
    {
        double z = moe_router_input(router, j, x[j]);
        for (int e = 0; e < experts; e++)
            sum[e] += z * weight[e];
    }
    for (int e = 0; e < experts; e++)
        logits[e] = (sum[e] + weight[e]) / router->config.temperature;
}

/* Softmax over the experts that are `in`; 0 for the others. */
static void
softmax_of(int experts, const double *logits, const bool *in, double *out)
{
    double largest = -INFINITY, total = 0;
    for (int e = 0; e < experts; e++)
        largest = in[e] && logits[e] > largest ? logits[e] : largest;
    for (int e = 0; e < experts; e++)
    {
        out[e] = in[e] ? exp(logits[e] - largest) : 0;
        total += out[e];
    }
    for (int e = 0; e < experts; e++)
        out[e] /= total;
}

void
moe_router_scores(int experts, const double *logits, double *scores)
{
    bool in[MOE_ROUTER_EXPERTS];
    for (int e = 0; e < MOE_ROUTER_EXPERTS; e++)
        in[e] = true;
    softmax_of(experts, logits, in, scores);
}

/* The best expert that is not in yet; the first of equals; -1 if all are in. */
static int
best_outside(int experts, const double *logits, const bool *in)
{
    int best = -1;
    for (int e = 0; e < experts; e++)
        if (!in[e] && (best < 0 || logits[e] > logits[best]))
            best = e;
    return best;
}

/* Those whose threshold the row reaches; the shared expert is in already. */
static void
take_by_threshold(const moe_router *router, const double *threshold, const double *logits, bool *in)
{
    int experts = router->config.experts;
    bool taken = router->config.shared >= 0;
    double scores[MOE_ROUTER_EXPERTS];
    moe_router_scores(experts, logits, scores);
    for (int e = 0; e < experts; e++)
    {
        in[e] = in[e] || scores[e] >= threshold[e];
        taken = taken || in[e];
    }
    if (!taken)
        in[best_outside(experts, logits, in)] = true;
}

void
moe_router_row_gates(const moe_router *router, const double *threshold, const double *logits, double *gates)
{
    const moe_router_config *config = &router->config;
    bool in[MOE_ROUTER_EXPERTS];
    for (int e = 0; e < config->experts; e++)
        in[e] = e == config->shared;
    if (config->routing == MOE_ROUTE_EXPERT_CHOICE)
        take_by_threshold(router, threshold, logits, in);
    for (int k = 0, best; config->routing == MOE_ROUTE_TOP_K && k < config->top_k; k++)
        if ((best = best_outside(config->experts, logits, in)) >= 0)
            in[best] = true;
    softmax_of(config->experts, logits, in, gates);
}

static int
descending(const void *a, const void *b)
{
    double x = *(const double *) a;
    double y = *(const double *) b;
    return (x < y) - (x > y);
}

moe_code
moe_router_thresholds(const moe_router *router, int64_t n, const double *logits, double *threshold)
{
    const moe_router_config *config = &router->config;
    int experts = config->experts;
    int routed = experts - (config->shared >= 0);
    int64_t capacity = n * config->top_k / routed;
    capacity = capacity < 1 ? 1 : capacity;
    double *score = moe_alloc(router->job, n, sizeof *score);
    if (score == NULL)
        return moe_job_code(router->job);
    for (int e = 0; e < experts && moe_job_check(router->job) == MOE_OK; e++)
    {
        for (int64_t i = 0; i < n; i++)
        {
            double scores[MOE_ROUTER_EXPERTS];
            moe_router_scores(experts, logits + i * experts, scores);
            score[i] = scores[e];
        }
        qsort(score, n, sizeof *score, descending);
        threshold[e] = n > 0 ? score[capacity - 1] : 0;
    }
    moe_free(router->job, score);
    return moe_job_code(router->job);
}

double
moe_router_row_loss(const moe_router_evidence *evidence, int64_t row, const double *gates, double *derivative)
{
    int experts = evidence->experts;
    const float *said = evidence->said + row * experts;
    double mixed = 0;
    for (int e = 0; e < experts; e++)
        mixed += gates[e] * said[e];
    bool clipped = evidence->probabilities && mixed < LEAST_PROBABILITY;
    double miss = evidence->probabilities ? 0 : mixed - evidence->truth[row];
    for (int e = 0; derivative != NULL && e < experts; e++)
        if (evidence->probabilities)
            derivative[e] = clipped ? 0 : gates[e] * (1 - said[e] / mixed);
        else
            derivative[e] = ((miss > 0) - (miss < 0)) * gates[e] * (said[e] - mixed);
    return evidence->probabilities ? -log(clipped ? LEAST_PROBABILITY : mixed) : fabs(miss);
}
