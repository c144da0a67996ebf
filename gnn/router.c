/*
 * router.c: choose between equal, constant and input-dependent weights.
 *
 * Each candidate predicts every held-out row from a fit on the other blocks of
 * time. Losses are compared row by row. Rows of one seed time are correlated,
 * so the standard error of a mean difference is that of the clusters' sums,
 *     se^2 = C / (C - 1) sum_c (S_c - n_c mean)^2 / n^2,
 * over seed times where there are at least 10, else over rows. Rows of one seed
 * time alone are cut by their place, row by row, which cannot tell what holds
 * of that time from what holds of others.
 */
#include "gnn/router_net.h"

#include <math.h>
#include <stdlib.h>

#define FEWEST_ROWS     200
#define BLOCKS          5
#define FEWEST_CLUSTERS 10
#define CHUNK           256
#define POLL            64

void
moe_router_config_defaults(moe_router_config *config, int experts)
{
    *config = (moe_router_config){
        .experts = experts,
        .shared = -1,
        .top_k = experts,
        .routing = MOE_ROUTE_TOP_K,
        .temperature = 1,
        .balance_weight = 0.01f,
        .z_weight = 0.001f,
    };
}

/* Comparisons are written so that NaN fails. */
const char *
moe_router_config_problem(const moe_router_config *c)
{
    if (c->experts < 1 || c->experts > MOE_ROUTER_EXPERTS)
        return "number of experts must be between 1 and 16";
    if (c->shared < -1 || c->shared >= c->experts)
        return "the shared expert must be one of the experts";
    if (c->top_k < 1 || c->top_k > c->experts)
        return "top_k must be between 1 and the number of experts";
    if (c->routing != MOE_ROUTE_TOP_K && c->routing != MOE_ROUTE_EXPERT_CHOICE)
        return "unknown way of routing";
    if (!(c->temperature >= 0.001f && c->temperature <= 1000))
        return "temperature must be between 0.001 and 1000";
    if (!(c->balance_weight >= 0 && c->balance_weight <= 1000) || !(c->z_weight >= 0 && c->z_weight <= 1000))
        return "weights of the router losses must be between 0 and 1000";
    return NULL;
}

/* What is wrong with the rows, or NULL. */
static const char *
rows_problem(const moe_router_rows *rows, moe_task_type task, int n_classes)
{
    if (rows->n < 0 || rows->width < 0 || rows->width > MOE_ROUTER_WIDTH)
        return "the number of inputs must be between 0 and 4096";
    if (task != MOE_BINARY && task != MOE_REGRESSION && task != MOE_MULTICLASS)
        return "unknown task type";
    if (task == MOE_MULTICLASS && n_classes < 2)
        return "a multiclass task needs two classes or more";
    for (int64_t i = 0; i < rows->n; i++)
        if (!isfinite(rows->label[i]) ||
            (task == MOE_MULTICLASS && !(rows->label[i] >= 0 && rows->label[i] < n_classes)))
            return "a label does not fit the task";
    for (int64_t i = 0; i < rows->n * rows->width; i++)
        if (!isfinite(rows->x[i]))
            return "an input is not a finite number";
    return NULL;
}

typedef struct fit
{
    moe_job *job;
    const moe_router_config *config;
    moe_router_evidence evidence;
    const int64_t *time;
    int64_t n;
    int64_t *row;                   /* [n] in order of time */
    uint8_t *block;                 /* [n] of the row at that place */
    int blocks;                     /* that hold rows */
    int64_t *some;                  /* [n] scratch: the rows of a fit, then those it predicts */
    double *loss[MOE_ROUTER_KINDS]; /* [n] by row */
    double unit;                    /* of the evidence's losses */
} fit;

/* What one expert said of one row, reduced to what counts; NaN if it cannot be right. */
static float
said_of(const moe_router_rows *rows, moe_task_type task, int n_classes, int expert, int64_t i)
{
    const float *prediction = rows->prediction[expert];
    if (task == MOE_REGRESSION)
        return prediction[i];
    float p = task == MOE_MULTICLASS ? prediction[i * n_classes + (int) rows->label[i]] : prediction[i];
    if (!(p >= -1e-5f && p <= 1 + 1e-5f))
        return NAN;
    p = p < 0 ? 0 : p > 1 ? 1 : p;
    return task == MOE_BINARY && rows->label[i] <= 0.5f ? 1 - p : p;
}

static moe_code
gather(fit *f, const moe_router_rows *rows, moe_task_type task, int n_classes)
{
    int experts = f->config->experts;
    f->evidence = (moe_router_evidence){
        .probabilities = task != MOE_REGRESSION, .experts = experts, .width = rows->width, .x = rows->x};
    f->evidence.said = moe_alloc(f->job, rows->n, experts * sizeof(float));
    f->evidence.truth = moe_alloc(f->job, rows->n, sizeof(float));
    f->row = moe_alloc(f->job, rows->n, sizeof *f->row);
    f->block = moe_alloc(f->job, rows->n, sizeof *f->block);
    f->some = moe_alloc(f->job, rows->n, sizeof *f->some);
    for (int k = 0; k < MOE_ROUTER_KINDS; k++)
        f->loss[k] = moe_alloc(f->job, rows->n, sizeof(double));
    if (moe_job_code(f->job) != MOE_OK)
        return moe_job_code(f->job);
    for (int64_t i = 0; i < rows->n; i++)
    {
        f->evidence.truth[i] = rows->label[i];
        f->row[i] = i;
        for (int e = 0; e < experts; e++)
        {
            float said = said_of(rows, task, n_classes, e, i);
            if (!isfinite(said))
                return moe_fail(f->job, MOE_INVALID, "the prediction of expert %d for row %lld does not fit the task",
                                e, (long long) i);
            f->evidence.said[i * experts + e] = said;
        }
    }
    return moe_job_check(f->job);
}

/* Numbers in units of the loss of equal weights, so that one ridge and one balance weight serve every scale. */
static void
set_unit(fit *f)
{
    double gates[MOE_ROUTER_EXPERTS];
    int experts = f->config->experts;
    double sum = 0;
    for (int e = 0; e < experts; e++)
        gates[e] = 1.0 / experts;
    for (int64_t i = 0; i < f->n; i++)
        sum += moe_router_row_loss(&f->evidence, i, gates, NULL);
    f->unit = !f->evidence.probabilities && sum > 0 ? sum / f->n : 1;
    for (int64_t i = 0; f->unit != 1 && i < f->n; i++)
    {
        f->evidence.truth[i] = (float) (f->evidence.truth[i] / f->unit);
        for (int e = 0; e < experts; e++)
            f->evidence.said[i * experts + e] = (float) (f->evidence.said[i * experts + e] / f->unit);
    }
}

typedef struct timed
{
    int64_t time;
    int64_t row;
} timed;

static int
by_time(const void *a, const void *b)
{
    const timed *x = a;
    const timed *y = b;
    if (x->time != y->time)
        return x->time < y->time ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

/* Order the rows by time and cut them into blocks; a seed time goes where its middle falls, but where it is the only
 * one. */
static moe_code
cut_blocks(fit *f)
{
    timed *rows = moe_alloc(f->job, f->n, sizeof *rows);
    if (rows == NULL)
        return moe_job_code(f->job);
    for (int64_t i = 0; i < f->n; i++)
        rows[i] = (timed){f->time[i], i};
    qsort(rows, f->n, sizeof *rows, by_time);
    for (int64_t i = 0, end; i < f->n; i = end)
    {
        for (end = i + 1; end < f->n && rows[end].time == rows[i].time;)
            end++;
        int block = (int) (((double) i + end) / 2 * BLOCKS / f->n);
        f->blocks += i == 0 || block != f->block[i - 1];
        for (int64_t j = i; j < end; j++)
        {
            f->row[j] = rows[j].row;
            f->block[j] = (uint8_t) block;
        }
    }
    if (f->blocks == 1)
    {
        f->blocks = f->n < BLOCKS ? (int) f->n : BLOCKS;
        for (int64_t i = 0; i < f->n; i++)
            f->block[i] = (uint8_t) (i % BLOCKS);
    }
    moe_free(f->job, rows);
    return moe_job_check(f->job);
}

typedef struct scoring
{
    const moe_router *router;
    const moe_router_evidence *evidence;
    const int64_t *row;
    double *loss;
} scoring;

static void
gates_of(const moe_router *router, const float *x, double *gates)
{
    double logits[MOE_ROUTER_EXPERTS];
    int experts = router->config.experts;
    for (int e = 0; router->kind == MOE_ROUTER_EQUAL && e < experts; e++)
        gates[e] = 1.0 / experts;
    if (router->kind == MOE_ROUTER_EQUAL)
        return;
    moe_router_logits(router, x, logits);
    moe_router_row_gates(router, router->threshold, logits, gates);
}

static void
score_rows(int64_t begin, int64_t end, void *arg)
{
    scoring *s = arg;
    for (int64_t i = begin; i < end; i++)
    {
        double gates[MOE_ROUTER_EXPERTS];
        if (i % POLL == 0 && moe_job_cancelled(s->router->job))
            return;
        gates_of(s->router, s->evidence->x + s->row[i] * s->evidence->width, gates);
        s->loss[s->row[i]] = moe_router_row_loss(s->evidence, s->row[i], gates, NULL);
    }
}

/* The losses of rows that a router was not fitted on. */
static moe_code
score(fit *f, const moe_router *router, const int64_t *row, int64_t n)
{
    scoring s = {router, &f->evidence, row, f->loss[router->kind]};
    moe_parallel(f->job, n, CHUNK, score_rows, &s);
    return moe_job_check(f->job);
}

/* The mean loss of n rows under weights that are the same for all. */
static double
constant_loss(const fit *f, const moe_router *router, const int64_t *row, int64_t n)
{
    double gates[MOE_ROUTER_EXPERTS], sum = 0;
    gates_of(router, NULL, gates);
    for (int64_t i = 0; i < n; i++)
        sum += moe_router_row_loss(&f->evidence, row[i], gates, NULL);
    return sum / n;
}

/* The expert of the least weight above 0, unless all rows use it or it is the only one: then -1. */
static int
least_expert(const moe_router *router)
{
    double gates[MOE_ROUTER_EXPERTS];
    int least = -1, used = 0;
    gates_of(router, NULL, gates);
    for (int e = 0; e < router->config.experts; e++)
    {
        used += gates[e] > 0;
        if (gates[e] > 0 && e != router->config.shared && (least < 0 || gates[e] < gates[least]))
            least = e;
    }
    return used > 1 ? least : -1;
}

/*
 * Take constant weights from one expert after another, the least first, as long as the rows that the weights were
 * fitted on lose nothing: a softmax is slow to reach 0, and what is left of a poor expert pulls each prediction its
 * way.
 */
static void
drop_experts(const fit *f, moe_router *router, const int64_t *row, int64_t n)
{
    double loss = constant_loss(f, router, row, n);
    for (int least = least_expert(router); least >= 0; least = least_expert(router))
    {
        double weight = router->weight[least];
        router->weight[least] = -MOE_ROUTER_WEIGHT;
        double without = constant_loss(f, router, row, n);
        if (!(without <= loss))
        {
            router->weight[least] = weight;
            break;
        }
        loss = without;
    }
}

/* Fit a candidate on n rows. */
static moe_code
make(fit *f, moe_router_kind kind, const int64_t *row, int64_t n, moe_router **out)
{
    moe_code code = moe_router_create(f->job, f->config, kind, f->evidence.width, out);
    if (code == MOE_OK && kind != MOE_ROUTER_EQUAL)
        code = moe_router_train(*out, &f->evidence, row, n);
    if (code == MOE_OK && kind == MOE_ROUTER_CONSTANT && f->config->routing == MOE_ROUTE_TOP_K)
        drop_experts(f, *out, row, n);
    if (code == MOE_OK)
        return MOE_OK;
    moe_router_destroy(*out);
    *out = NULL;
    return code;
}

static moe_code
cross_validate(fit *f, moe_router_kind kind)
{
    moe_code code = MOE_OK;
    for (int b = 0; code == MOE_OK && b < BLOCKS; b++)
    {
        int64_t fitted = 0, rest = 0;
        moe_router *router = NULL;
        for (int64_t i = 0; i < f->n; i++)
            if (f->block[i] != b)
                f->some[fitted++] = f->row[i];
        for (int64_t i = 0; i < f->n; i++)
            if (f->block[i] == b)
                f->some[fitted + rest++] = f->row[i];
        if (rest > 0)
            code = make(f, kind, f->some, fitted, &router);
        if (router != NULL)
            code = score(f, router, f->some + fitted, rest);
        moe_router_destroy(router);
    }
    return code;
}

/* The mean of a - b over the rows, and its standard error. */
static double
difference(const fit *f, const double *a, const double *b, double *error)
{
    double mean = 0, squares = 0;
    int64_t times = 0, clusters = 0;
    for (int64_t i = 0; i < f->n; i++)
    {
        mean += (a[f->row[i]] - b[f->row[i]]) / f->n;
        times += i == 0 || f->time[f->row[i]] != f->time[f->row[i - 1]];
    }
    for (int64_t i = 0, end; i < f->n; i = end, clusters++)
    {
        double sum = 0;
        for (end = i;
             end == i || (times >= FEWEST_CLUSTERS && end < f->n && f->time[f->row[end]] == f->time[f->row[i]]); end++)
            sum += a[f->row[end]] - b[f->row[end]] - mean;
        squares += sum * sum;
    }
    *error = sqrt(squares * clusters / (clusters - 1)) / f->n;
    return mean;
}

static double
mean_loss(const fit *f, moe_router_kind kind)
{
    double sum = 0;
    for (int64_t i = 0; i < f->n; i++)
        sum += f->loss[kind][f->row[i]];
    return sum / f->n * f->unit;
}

/* Cross-validate the candidates and choose between them. */
static moe_code
choose(fit *f, moe_router_report *report)
{
    const double *equal = f->loss[MOE_ROUTER_EQUAL];
    const double *constant = f->loss[MOE_ROUTER_CONSTANT];
    const double *inputs = f->loss[MOE_ROUTER_INPUTS];
    moe_code code = cross_validate(f, MOE_ROUTER_CONSTANT);
    if (code != MOE_OK)
        return code;
    if (difference(f, equal, constant, &report->constant_error) > report->constant_error)
        report->kind = MOE_ROUTER_CONSTANT;
    report->constant_error *= f->unit;
    report->constant_loss = mean_loss(f, MOE_ROUTER_CONSTANT);
    if (f->evidence.width == 0)
        return MOE_OK;
    code = cross_validate(f, MOE_ROUTER_INPUTS);
    if (code != MOE_OK)
        return code;
    bool beats_equal = difference(f, equal, inputs, &report->error) > report->error;
    if (difference(f, constant, inputs, &report->step_error) > report->step_error && beats_equal)
        report->kind = MOE_ROUTER_INPUTS;
    report->error *= f->unit;
    report->step_error *= f->unit;
    report->learned_loss = mean_loss(f, MOE_ROUTER_INPUTS);
    return MOE_OK;
}

static void
add_loads(const fit *f, const moe_router *router, moe_router_report *report)
{
    int experts = f->config->experts;
    for (int e = 0; e < experts; e++)
        report->load[e] = f->n == 0 ? 1.0 / experts : 0;
    for (int64_t i = 0; i < f->n; i++)
    {
        double gates[MOE_ROUTER_EXPERTS];
        gates_of(router, f->evidence.x + i * f->evidence.width, gates);
        for (int e = 0; e < experts; e++)
            report->load[e] += gates[e] / f->n;
    }
}

/* From checked rows to a router. */
static moe_code
fit_router(fit *f, moe_router **out, moe_router_report *report)
{
    moe_router *equal;
    set_unit(f);
    moe_code code = cut_blocks(f);
    if (code == MOE_OK)
        code = make(f, MOE_ROUTER_EQUAL, NULL, 0, &equal);
    if (code != MOE_OK)
        return code;
    code = score(f, equal, f->row, f->n);
    moe_router_destroy(equal);
    if (f->n > 0)
        report->equal_loss = mean_loss(f, MOE_ROUTER_EQUAL);
    if (code == MOE_OK && f->n >= FEWEST_ROWS && f->config->experts > 1 && f->blocks > 1)
        code = choose(f, report);
    if (code == MOE_OK)
        code = make(f, report->kind, f->row, f->n, out);
    report->learned = report->kind != MOE_ROUTER_EQUAL;
    if (code == MOE_OK)
        add_loads(f, *out, report);
    return code;
}

moe_code
moe_router_fit(moe_job *job, const moe_router_config *config, moe_task_type task, int n_classes,
               const moe_router_rows *rows, moe_router **out, moe_router_report *report)
{
    moe_router_report found = {.equal_loss = NAN,
                               .constant_loss = NAN,
                               .learned_loss = NAN,
                               .constant_error = NAN,
                               .error = NAN,
                               .step_error = NAN};
    *out = NULL;
    const char *problem = moe_router_config_problem(config);
    if (problem == NULL)
        problem = rows_problem(rows, task, n_classes);
    if (problem != NULL)
        return moe_fail(job, MOE_INVALID, "the router cannot be fitted: %s", problem);
    fit f = {.job = job, .config = config, .time = rows->time, .n = rows->n};
    moe_code code = gather(&f, rows, task, n_classes);
    if (code == MOE_OK)
        code = fit_router(&f, out, &found);
    moe_free(job, f.evidence.said);
    moe_free(job, f.evidence.truth);
    moe_free(job, f.row);
    moe_free(job, f.block);
    moe_free(job, f.some);
    for (int k = 0; k < MOE_ROUTER_KINDS; k++)
        moe_free(job, f.loss[k]);
    if (report != NULL)
        *report = found;
    return code;
}

typedef struct gating
{
    const moe_router *router;
    const float *x;
    float *gates;
} gating;

static void
write_gates(int64_t begin, int64_t end, void *arg)
{
    gating *g = arg;
    int experts = g->router->config.experts;
    for (int64_t i = begin; i < end; i++)
    {
        double gates[MOE_ROUTER_EXPERTS];
        if (i % POLL == 0 && moe_job_cancelled(g->router->job))
            return;
        gates_of(g->router, g->router->inputs > 0 ? g->x + i * g->router->width : NULL, gates);
        for (int e = 0; e < experts; e++)
            g->gates[i * experts + e] = (float) gates[e];
    }
}

moe_code
moe_router_gates(moe_router *router, int64_t n, const float *x, float *gates)
{
    for (int64_t i = 0; router->inputs > 0 && i < n * router->width; i++)
        if (!isfinite(x[i]))
            return moe_fail(router->job, MOE_INVALID, "an input of the router is not a finite number");
    gating g = {router, x, gates};
    moe_parallel(router->job, n, CHUNK, write_gates, &g);
    return moe_job_check(router->job);
}

int
moe_router_experts(const moe_router *router)
{
    return router->config.experts;
}

int
moe_router_width(const moe_router *router)
{
    return router->width;
}

moe_router_kind
moe_router_kind_of(const moe_router *router)
{
    return router->kind;
}

void
moe_router_mix(int experts, int k, int64_t n, const float *const *prediction, const float *gates, float *out)
{
    for (int64_t i = 0; i < n * k; i++)
    {
        double mixed = 0;
        for (int e = 0; e < experts; e++)
            if (gates[i / k * experts + e] > 0)
                mixed += (double) gates[i / k * experts + e] * prediction[e][i];
        out[i] = (float) mixed;
    }
}
