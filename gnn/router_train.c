/*
 * router_train.c: fit the router's network by the loss of the mixture.
 *
 * Minimises  mean loss + balance + z + ridge  by Adam. Sparse gates are trained
 * dense to sparse (Nie et al. 2021): every expert learns its place in the first
 * half of the steps, since a gate of 0 has no gradient. The ridge is that of a
 * normal prior under which the inputs together move a logit by about 1: width / n
 * for a weight. Sums go chunk by chunk in double, so that the number of threads
 * changes no bit.
 */
#include "gnn/router_net.h"

#include <math.h>

#include "kernels/random.h"

#define STEPS          200
#define LARGEST_BATCH  4096
#define CHUNK          512
#define POLL           64
#define RATE           0.05
#define MOMENTUM       0.9
#define SQUARE_DECAY   0.999
#define LEAST_GRADIENT 1e-4 /* smaller ones move a weight in proportion: no evidence, no step */
#define LEAST_SPREAD   1e-6 /* of an input, relative to its size: else it counts as constant */

typedef struct batch
{
    const moe_router *router;
    const moe_router_evidence *evidence;
    const int64_t *row;
    int64_t n;
    bool dense;
    int64_t parameters;
    double threshold[MOE_ROUTER_EXPERTS];
    double share[MOE_ROUTER_EXPERTS]; /* of the routed experts' places; their mean where an expert is not routed */
    double *logits;                   /* [n, experts] */
    double *loss;                     /* [chunks] */
    double *gradient;                 /* [chunks, parameters] */
} batch;

static void
compute_logits(int64_t begin, int64_t end, void *arg)
{
    batch *b = arg;
    for (int64_t i = begin; i < end; i++)
    {
        if (i % POLL == 0 && moe_job_cancelled(b->router->job))
            return;
        moe_router_logits(b->router, b->evidence->x + b->row[i] * b->evidence->width,
                          b->logits + i * b->evidence->experts);
    }
}

/* How many of the routed experts' places each has; all the same while gates are dense. */
static void
count_shares(batch *b)
{
    int experts = b->evidence->experts;
    int shared = b->router->config.shared;
    double total = 0;
    for (int e = 0; e < experts; e++)
        b->share[e] = 0;
    for (int64_t i = 0; !b->dense && i < b->n; i++)
    {
        double gates[MOE_ROUTER_EXPERTS];
        moe_router_row_gates(b->router, b->threshold, b->logits + i * experts, gates);
        for (int e = 0; e < experts; e++)
            b->share[e] += e != shared && gates[e] > 0;
    }
    for (int e = 0; e < experts; e++)
        total += b->share[e];
    int routed = experts - (shared >= 0);
    for (int e = 0; e < experts; e++)
        b->share[e] = b->dense || e == shared || total == 0 ? 1.0 / (routed > 0 ? routed : 1) : b->share[e] / total;
}

/*
 * balance_weight E sum_e share_e P_e + z_weight lse^2 of one row, P its scores; adds the derivative by its logits.
 * Constant weights cannot be balanced.
 */
static double
penalties(const batch *b, const double *logits, const double *scores, double *derivative)
{
    const moe_router_config *config = &b->router->config;
    int experts = config->experts;
    double balance = b->router->inputs > 0 ? config->balance_weight * experts : 0;
    double expected = 0;
    int best = 0;
    for (int e = 0; e < experts; e++)
    {
        expected += b->share[e] * scores[e];
        best = logits[e] > logits[best] ? e : best;
    }
    double lse = logits[best] - log(scores[best]); /* log sum exp; the best one's score cannot be 0 */
    for (int e = 0; e < experts; e++)
        derivative[e] += scores[e] * (balance * (b->share[e] - expected) + config->z_weight * 2 * lse);
    return balance * expected + config->z_weight * lse * lse;
}

/* The loss of place i in the batch, and its derivative by the logits. */
static double
row_objective(const batch *b, int64_t i, double *derivative)
{
    const double *logits = b->logits + i * b->evidence->experts;
    double scores[MOE_ROUTER_EXPERTS], gates[MOE_ROUTER_EXPERTS];
    moe_router_scores(b->evidence->experts, logits, scores);
    if (!b->dense)
        moe_router_row_gates(b->router, b->threshold, logits, gates);
    double loss = moe_router_row_loss(b->evidence, b->row[i], b->dense ? scores : gates, derivative);
    return loss + penalties(b, logits, scores, derivative);
}

static void
compute_gradient(int64_t begin, int64_t end, void *arg)
{
    batch *b = arg;
    int experts = b->evidence->experts;
    int inputs = b->router->inputs;
    double *gradient = b->gradient + begin / CHUNK * b->parameters;
    double loss = 0;
    for (int64_t k = 0; k < b->parameters; k++)
        gradient[k] = 0;
    for (int64_t i = begin; i < end; i++)
    {
        if (i % POLL == 0 && moe_job_cancelled(b->router->job))
            return;
        const float *x = b->evidence->x + b->row[i] * b->evidence->width;
        double derivative[MOE_ROUTER_EXPERTS];
        loss += row_objective(b, i, derivative);
        double *g = gradient;
        for (int j = 0; j < inputs; j++, g += experts)
        {
            double z = moe_router_input(b->router, j, x[j]);
            for (int e = 0; e < experts; e++)
                g[e] += z * derivative[e];
        }
        for (int e = 0; e < experts; e++)
            g[e] += derivative[e];
    }
    b->loss[begin / CHUNK] = loss;
}

/* Sum what the chunks found, in their order, and add the ridge. */
static void
reduce(const batch *b, int64_t n_fitted, double *loss, double *gradient)
{
    int experts = b->evidence->experts;
    int inputs = b->router->inputs;
    int64_t chunks = (b->n + CHUNK - 1) / CHUNK;
    *loss = 0;
    for (int64_t c = 0; c < chunks; c++)
        *loss += b->loss[c] / b->n;
    for (int64_t k = 0; k < b->parameters; k++)
    {
        double weight = b->router->weight[k];
        double ridge = (k < (int64_t) inputs * experts ? inputs : 1.0) / n_fitted;
        double sum = 0;
        for (int64_t c = 0; c < chunks; c++)
            sum += b->gradient[c * b->parameters + k];
        gradient[k] = sum / b->n / b->router->config.temperature + ridge * weight;
        *loss += ridge / 2 * weight * weight;
    }
}

moe_code
moe_router_objective(const moe_router *router, const moe_router_evidence *evidence, const int64_t *row, int64_t n,
                     int64_t n_fitted, bool dense, double *loss, double *gradient)
{
    moe_job *job = router->job;
    int64_t chunks = (n + CHUNK - 1) / CHUNK;
    batch b = {.router = router, .evidence = evidence, .row = row, .n = n, .dense = dense};
    b.parameters = ((int64_t) router->inputs + 1) * evidence->experts;
    b.logits = moe_alloc(job, n * evidence->experts, sizeof(double));
    b.loss = moe_alloc(job, chunks, sizeof(double));
    b.gradient = moe_alloc(job, chunks * b.parameters, sizeof(double));
    moe_code code = b.logits == NULL || b.loss == NULL || b.gradient == NULL ? moe_job_code(job) : MOE_OK;
    if (code == MOE_OK)
    {
        moe_parallel(job, n, CHUNK, compute_logits, &b);
        code = moe_job_check(job);
    }
    if (code == MOE_OK && !dense && router->config.routing == MOE_ROUTE_EXPERT_CHOICE)
        code = moe_router_thresholds(router, n, b.logits, b.threshold);
    if (code == MOE_OK)
    {
        count_shares(&b);
        moe_parallel(job, n, CHUNK, compute_gradient, &b);
        code = moe_job_check(job);
    }
    if (code == MOE_OK)
        reduce(&b, n_fitted, loss, gradient);
    moe_free(job, b.logits);
    moe_free(job, b.loss);
    moe_free(job, b.gradient);
    return code;
}

/* Mean and 1 / standard deviation of each input over the rows; 0 for one that does not vary. */
static moe_code
standardise(moe_router *router, const moe_router_evidence *evidence, const int64_t *row, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        for (int j = 0; j < router->inputs; j++)
            router->mean[j] += evidence->x[row[i] * evidence->width + j] / (double) n;
    moe_code code = moe_job_check(router->job);
    for (int64_t i = 0; i < n; i++)
        for (int j = 0; j < router->inputs; j++)
        {
            double off = evidence->x[row[i] * evidence->width + j] - router->mean[j];
            router->scale[j] += off * off / (double) n;
        }
    for (int j = 0; j < router->inputs; j++)
    {
        double spread = sqrt(router->scale[j]);
        router->scale[j] = spread > LEAST_SPREAD * fabs(router->mean[j]) && spread > 1e-30 ? 1 / spread : 0;
    }
    return code;
}

/* The rows in an order that batches may be cut from: a random one where one batch does not hold them all. */
static int64_t *
shuffled(const moe_router *router, const int64_t *row, int64_t n)
{
    int64_t *order = moe_alloc(router->job, n, sizeof *order);
    for (int64_t i = 0; order != NULL && i < n; i++)
    {
        int64_t j = n > LARGEST_BATCH ? (int64_t) (moe_random_bits(router->config.seed, i) % (uint64_t) (i + 1)) : i;
        order[i] = order[j];
        order[j] = row[i];
    }
    return order;
}

/* One step of Adam; both moments [parameters]. */
static void
step(moe_router *router, int64_t parameters, int number, const double *gradient, double *mean, double *square)
{
    double rate = RATE * (1 - (double) number / STEPS);
    double mean_weight = 1 - pow(MOMENTUM, number + 1);
    double square_weight = 1 - pow(SQUARE_DECAY, number + 1);
    for (int64_t k = 0; k < parameters; k++)
    {
        mean[k] = MOMENTUM * mean[k] + (1 - MOMENTUM) * gradient[k];
        square[k] = SQUARE_DECAY * square[k] + (1 - SQUARE_DECAY) * gradient[k] * gradient[k];
        router->weight[k] -= rate * mean[k] / mean_weight / (sqrt(square[k] / square_weight) + LEAST_GRADIENT);
    }
}

/* Batch by batch through the order, around and around. */
static moe_code
descend(moe_router *router, const moe_router_evidence *evidence, const int64_t *order, int64_t n)
{
    moe_job *job = router->job;
    int64_t parameters = ((int64_t) router->inputs + 1) * router->config.experts;
    int64_t size = n > LARGEST_BATCH ? LARGEST_BATCH : n;
    double *scratch = moe_alloc(job, 3 * parameters, sizeof *scratch);
    moe_code code = scratch == NULL ? moe_job_code(job) : MOE_OK;
    bool dense = moe_router_is_dense(&router->config);
    int64_t at = 0;
    for (int s = 0; code == MOE_OK && s < STEPS; s++, at += size)
    {
        double loss;
        if (at + size > n)
            at = 0;
        code = moe_router_objective(router, evidence, order + at, size, n, dense || s < STEPS / 2, &loss, scratch);
        if (code == MOE_OK)
            step(router, parameters, s, scratch, scratch + parameters, scratch + 2 * parameters);
    }
    moe_free(job, scratch);
    return code;
}

/* The thresholds of expert choice, over all the rows. */
static moe_code
set_thresholds(moe_router *router, const moe_router_evidence *evidence, const int64_t *row, int64_t n)
{
    if (router->config.routing != MOE_ROUTE_EXPERT_CHOICE || moe_router_is_dense(&router->config))
        return MOE_OK;
    batch b = {.router = router, .evidence = evidence, .row = row, .n = n};
    b.logits = moe_alloc(router->job, n * evidence->experts, sizeof(double));
    if (b.logits == NULL)
        return moe_job_code(router->job);
    moe_parallel(router->job, n, CHUNK, compute_logits, &b);
    moe_code code = moe_job_check(router->job);
    if (code == MOE_OK)
        code = moe_router_thresholds(router, n, b.logits, router->threshold);
    moe_free(router->job, b.logits);
    return code;
}

moe_code
moe_router_train(moe_router *router, const moe_router_evidence *evidence, const int64_t *row, int64_t n)
{
    int64_t *order = shuffled(router, row, n);
    moe_code code = order == NULL ? moe_job_code(router->job) : standardise(router, evidence, row, n);
    if (code == MOE_OK)
        code = descend(router, evidence, order, n);
    if (code == MOE_OK)
        code = set_thresholds(router, evidence, row, n);
    moe_free(router->job, order);
    return code;
}
