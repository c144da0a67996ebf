/*
 * mixture.c: experts side by side: made, fitted, asked one by one, and routed.
 *
 * Linear experts learn numbers bent: they seek the median of asinh((y - shift) /
 * scale), which is the bent median of y, since bending keeps order. Near the
 * middle this is a line, far out a logarithm, so that a few huge labels are
 * within reach of what fits the many small ones. Networks bend by themselves.
 */
#include "gnn/mixture_private.h"

#include <math.h>
#include <string.h>

#include "gnn/metrics.h"

static const char *const expert_names[MOE_EXPERT_KINDS] = {"history", "linear", "tabular", "retrieval",
                                                           "arm",     "trees",  "graph",   "glance"};

const moe_dense_kind moe_mixture_dense_kinds[MOE_EXPERT_KINDS] = {
    MOE_DENSE_LINEAR, MOE_DENSE_LINEAR, MOE_DENSE_TABULAR, MOE_DENSE_RETRIEVAL,
    MOE_DENSE_ARM,    MOE_DENSE_TREES,  MOE_DENSE_KINDS,   MOE_DENSE_TREES};

const char *
moe_expert_name(moe_expert_kind kind)
{
    return expert_names[kind];
}

moe_code
moe_mixture_create(moe_job *job, const moe_dense_task *task, double shift, double scale, unsigned kinds, int width,
                   const uint8_t *role, moe_mixture **out)
{
    *out = NULL;
    if (kinds == 0 || kinds >= 1u << MOE_EXPERT_KINDS || width < 0 || width > MOE_MIXTURE_WIDTH)
        return moe_fail(job, MOE_INVALID, "no such experts, or too many inputs");
    if (!isfinite(shift) || !isfinite(scale) || !(scale > 0))
        return moe_fail(job, MOE_INVALID, "labels cannot be scaled by %g", scale);
    moe_mixture *m = moe_alloc(job, 1, sizeof *m);
    uint8_t *roles = moe_alloc(job, width, sizeof *roles);
    if (m == NULL || roles == NULL)
    {
        moe_free(job, m);
        moe_free(job, roles);
        return moe_job_code(job);
    }
    m->job = job;
    m->task = *task;
    m->shift = shift;
    m->scale = scale;
    m->outputs = task->task == MOE_MULTICLASS ? task->n_classes : 1;
    m->width = width;
    m->role = roles;
    m->calibration.task = m->stale_calibration.task = m->early.task = task->task;
    m->threshold = -1;
    for (int i = 0; i < width; i++)
    {
        m->role[i] = role[i];
        m->n_history += (role[i] & MOE_INPUT_HISTORY) != 0;
        m->n_cheap += (role[i] & MOE_INPUT_CHEAP) != 0;
        m->n_glance += (role[i] & MOE_INPUT_GLANCE) != 0;
    }
    for (int kind = 0; kind < MOE_EXPERT_KINDS; kind++)
        if (kinds & 1u << kind)
            m->experts[m->n++].kind = (moe_expert_kind) kind;
    *out = m;
    return MOE_OK;
}

void
moe_mixture_destroy(moe_mixture *m)
{
    if (m == NULL)
        return;
    for (int e = 0; e < m->n; e++)
    {
        if (m->experts[e].dense != NULL)
            moe_dense_expert_destroy(m->experts[e].dense);
        if (m->experts[e].stale != NULL)
            moe_dense_expert_destroy(m->experts[e].stale);
    }
    if (m->router != NULL)
        moe_router_destroy(m->router);
    if (m->reading != NULL)
        moe_dense_expert_destroy(m->reading);
    moe_free(m->job, m->role);
    moe_free(m->job, m);
}

void
moe_mixture_connect(moe_mixture *m, moe_inputs_fn inputs, void *inputs_arg, moe_graph_fn graph, void *graph_arg)
{
    m->inputs = inputs;
    m->inputs_arg = inputs_arg;
    m->graph = graph;
    m->graph_arg = graph_arg;
}

int
moe_mixture_experts(const moe_mixture *m)
{
    return m->n;
}

moe_expert_kind
moe_mixture_kind(const moe_mixture *m, int e)
{
    return m->experts[e].kind;
}

int
moe_mixture_find(const moe_mixture *m, moe_expert_kind kind)
{
    int e = 0;
    while (e < m->n && m->experts[e].kind != kind)
        e++;
    return e < m->n ? e : -1;
}

int64_t
moe_mixture_parameters(const moe_mixture *m, int e)
{
    const moe_mixture_expert *expert = &m->experts[e];
    return (expert->dense == NULL ? 0 : moe_dense_expert_parameters(expert->dense)) +
           (expert->stale == NULL ? 0 : moe_dense_expert_parameters(expert->stale));
}

int
moe_mixture_width(const moe_mixture *m)
{
    return m->width;
}

/* The inputs of a role, [n, their number], of x [n, width]. */
static void
pick_inputs(const moe_mixture *m, uint8_t role, int64_t n, const float *x, float *out)
{
    for (int64_t i = 0; i < n; i++)
        for (int c = 0; c < m->width; c++)
            if (m->role[c] & role)
                *out++ = x[i * m->width + c];
}

uint8_t
moe_mixture_sees(moe_expert_kind kind)
{
    return kind == MOE_EXPERT_HISTORY ? MOE_INPUT_HISTORY : kind == MOE_EXPERT_GLANCE ? MOE_INPUT_GLANCE : 0;
}

int
moe_mixture_seen(const moe_mixture *m, moe_expert_kind kind)
{
    return kind == MOE_EXPERT_HISTORY ? m->n_history : kind == MOE_EXPERT_GLANCE ? m->n_glance : m->width;
}

const float *
moe_mixture_inputs_of(const moe_mixture *m, moe_expert_kind kind, int64_t n, const float *x, float **owned, int *width)
{
    uint8_t role = moe_mixture_sees(kind);
    *owned = NULL;
    *width = moe_mixture_seen(m, kind);
    if (role == 0)
        return x;
    *owned = moe_alloc(m->job, n * *width, sizeof **owned);
    if (*owned != NULL)
        pick_inputs(m, role, n, x, *owned);
    return *owned;
}

/* Whether an expert learns numbers bent. */
static bool
is_bent(const moe_mixture *m, int e)
{
    return m->task.task == MOE_REGRESSION && moe_mixture_dense_kinds[m->experts[e].kind] == MOE_DENSE_LINEAR;
}

static double
bend(const moe_mixture *m, double y)
{
    return asinh((y - m->shift) / m->scale);
}

/* Within the range of the labels, whatever rounding does. */
static double
straighten(const moe_mixture *m, double bent)
{
    double y = m->shift + m->scale * sinh(bent);
    return y < m->task.low ? m->task.low : y > m->task.high ? m->task.high : y;
}

/* Rows with their labels bent, in *owned, which the caller frees. */
static void
bend_labels(const moe_mixture *m, moe_dense_rows *rows, float **owned)
{
    *owned = moe_alloc(m->job, rows->n, sizeof **owned);
    for (int64_t i = 0; *owned != NULL && i < rows->n; i++)
        (*owned)[i] = (float) bend(m, rows->label[i]);
    rows->label = *owned;
}

moe_code
moe_mixture_fit(moe_mixture *m, int e, bool stale, const moe_dense_rows *train, const moe_dense_rows *valid,
                uint64_t seed)
{
    moe_dense_expert **place = stale ? &m->experts[e].stale : &m->experts[e].dense;
    moe_dense_rows seen = *train;
    moe_dense_rows held = *valid;
    moe_dense_expert *fitted = NULL;
    float *owned, *owned_held, *labels = NULL, *labels_held = NULL;
    moe_dense_task task = m->task;
    seen.x = moe_mixture_inputs_of(m, m->experts[e].kind, train->n, train->x, &owned, &seen.width);
    held.x = moe_mixture_inputs_of(m, m->experts[e].kind, valid->n, valid->x, &owned_held, &held.width);
    if (is_bent(m, e))
    {
        task.low = bend(m, task.low);
        task.high = bend(m, task.high);
        bend_labels(m, &seen, &labels);
        bend_labels(m, &held, &labels_held);
    }
    moe_code code = moe_job_check(m->job);
    if (code == MOE_OK)
        code = moe_dense_expert_fit(m->job, moe_mixture_dense_kinds[m->experts[e].kind], &task, &seen, &held, seed,
                                    &fitted);
    moe_free(m->job, owned);
    moe_free(m->job, owned_held);
    moe_free(m->job, labels);
    moe_free(m->job, labels_held);
    if (code != MOE_OK)
        return code;
    if (*place != NULL)
        moe_dense_expert_destroy(*place);
    *place = fitted;
    return MOE_OK;
}

moe_code
moe_mixture_ask(const moe_mixture *m, int e, bool stale, const moe_seeds *seeds, const bool *disabled, const float *x,
                float *out)
{
    const moe_mixture_expert *expert = &m->experts[e];
    if (expert->kind == MOE_EXPERT_GRAPH)
        return m->graph(m->graph_arg, seeds, x, disabled, out);
    moe_dense_rows rows = {.n = seeds->n};
    float *owned;
    rows.x = moe_mixture_inputs_of(m, m->experts[e].kind, seeds->n, x, &owned, &rows.width);
    moe_code code = moe_job_check(m->job);
    if (code == MOE_OK)
        code = moe_dense_expert_predict(stale && expert->stale != NULL ? expert->stale : expert->dense, &rows, out);
    for (int64_t i = 0; code == MOE_OK && is_bent(m, e) && i < seeds->n; i++)
        out[i] = (float) straighten(m, out[i]);
    moe_free(m->job, owned);
    return code;
}

static double
metric_of(const moe_mixture *m, const float *prediction, const float *label, int64_t n)
{
    if (n == 0)
        return NAN;
    switch (m->task.task)
    {
        case MOE_BINARY:
            return moe_metric_auroc(m->job, prediction, label, n);
        case MOE_REGRESSION:
            return moe_metric_mae(prediction, label, n);
        default:
            return moe_metric_class_accuracy(prediction, label, n, m->task.n_classes);
    }
}

moe_code
moe_mixture_gates(const moe_mixture *m, int64_t n, const float *x, float *gates)
{
    if (m->router == NULL)
    {
        for (int64_t i = 0; i < n * m->n; i++)
            gates[i] = 1.0f / (float) m->n;
        return MOE_OK;
    }
    float *cheap = moe_alloc(m->job, n * m->n_cheap, sizeof *cheap);
    if (cheap == NULL)
        return moe_job_code(m->job);
    pick_inputs(m, MOE_INPUT_CHEAP, n, x, cheap);
    moe_code code = moe_router_gates(m->router, n, cheap, gates);
    moe_free(m->job, cheap);
    return code;
}

const moe_calibration *
moe_mixture_calibration(const moe_mixture *m, bool stale)
{
    return stale && m->stale_calibration.fitted ? &m->stale_calibration : &m->calibration;
}

/* Router, calibration and report from what every expert says of the held-out rows. */
static moe_code
fit_router(moe_mixture *m, const moe_router_config *config, const moe_samples *held_out, const float *x,
           const float *reading, float *const *each, moe_mixture_report *report)
{
    int64_t n = held_out->n;
    float *cheap = moe_alloc(m->job, n * m->n_cheap, sizeof *cheap);
    float *gates = moe_alloc(m->job, n * m->n, sizeof *gates);
    float *mixed = moe_alloc(m->job, n * m->outputs, sizeof *mixed);
    moe_router_rows rows = {.n = n, .width = m->n_cheap, .x = cheap, .time = held_out->time, .label = held_out->label};
    moe_router_config own = *config;
    moe_code code = moe_job_check(m->job);
    own.experts = m->n;
    own.top_k = own.top_k < m->n ? own.top_k : m->n;
    for (int e = 0; e < m->n; e++)
    {
        rows.prediction[e] = each[e];
        report->metric[e] = metric_of(m, each[e], held_out->label, n);
    }
    if (code == MOE_OK)
    {
        pick_inputs(m, MOE_INPUT_CHEAP, n, x, cheap);
        code = moe_router_fit(m->job, &own, m->task.task, m->task.n_classes, &rows, &m->router, &report->router);
    }
    if (code == MOE_OK)
        code = moe_router_gates(m->router, n, cheap, gates);
    if (code == MOE_OK)
    {
        moe_router_mix(m->n, m->outputs, n, rows.prediction, gates, mixed);
        code = moe_calibration_fit(m->job, m->task.task, m->task.n_classes, n, mixed, held_out->label, &m->calibration);
        report->mixed = metric_of(m, mixed, held_out->label, n);
    }
    if (code == MOE_OK && moe_mixture_may_stop_early(m, n))
    {
        moe_calibration_apply(&m->calibration, m->task.n_classes, n, mixed);
        code = moe_mixture_fit_early(m, n, x, each[moe_mixture_find(m, MOE_EXPERT_GLANCE)], mixed, held_out->label,
                                     reading);
    }
    moe_free(m->job, cheap);
    moe_free(m->job, gates);
    moe_free(m->job, mixed);
    return code;
}

/* What every expert says of n seeds. */
static moe_code
ask_all(const moe_mixture *m, bool stale, const moe_seeds *seeds, const float *x, float **each)
{
    moe_code code = MOE_OK;
    for (int e = 0; e < m->n && code == MOE_OK; e++)
    {
        each[e] = moe_alloc(m->job, seeds->n * m->outputs, sizeof *each[e]);
        code = each[e] == NULL ? moe_job_code(m->job) : moe_mixture_ask(m, e, stale, seeds, NULL, x, each[e]);
    }
    return code;
}

static void
free_each(const moe_mixture *m, float **each)
{
    for (int e = 0; e < m->n; e++)
        moe_free(m->job, each[e]);
}

moe_code
moe_mixture_route(moe_mixture *m, const moe_router_config *config, const moe_samples *held_out, const float *x,
                  const float *reading, moe_mixture_report *report)
{
    float *each[MOE_EXPERT_KINDS] = {NULL};
    moe_seeds seeds = {.n = held_out->n, .row = held_out->row, .time = held_out->time};
    moe_code code = MOE_OK;
    if (m->router != NULL)
        moe_router_destroy(m->router);
    m->router = NULL;
    m->calibration = m->stale_calibration = m->early = (moe_calibration){.task = m->task.task};
    m->curve.points = 0;
    m->threshold = -1;
    *report = (moe_mixture_report){.mixed = NAN, .router = {.equal_loss = NAN, .learned_loss = NAN, .error = NAN}};
    for (int e = 0; e < m->n; e++)
    {
        report->metric[e] = NAN;
        report->router.load[e] = 1.0 / m->n;
    }
    if (held_out->n == 0)
        return MOE_OK;
    code = ask_all(m, false, &seeds, x, each);
    if (code == MOE_OK)
        code = fit_router(m, config, held_out, x, reading, each, report);
    free_each(m, each);
    return code;
}

moe_code
moe_mixture_calibrate_stale(moe_mixture *m, const moe_seeds *seeds, const float *label, const float *x)
{
    float *each[MOE_EXPERT_KINDS] = {NULL};
    float *gates = moe_alloc(m->job, seeds->n * m->n, sizeof *gates);
    float *mixed = moe_alloc(m->job, seeds->n * m->outputs, sizeof *mixed);
    moe_code code = moe_job_check(m->job);
    m->stale_calibration = (moe_calibration){.task = m->task.task};
    if (code == MOE_OK && seeds->n > 0)
        code = ask_all(m, true, seeds, x, each);
    if (code == MOE_OK)
        code = moe_mixture_gates(m, seeds->n, x, gates);
    if (code == MOE_OK)
    {
        moe_router_mix(m->n, m->outputs, seeds->n, (const float *const *) each, gates, mixed);
        code =
            moe_calibration_fit(m->job, m->task.task, m->task.n_classes, seeds->n, mixed, label, &m->stale_calibration);
    }
    free_each(m, each);
    moe_free(m->job, gates);
    moe_free(m->job, mixed);
    return code;
}
