/*
 * mixture_predict.c: gates from cheap inputs, one combined prediction.
 *
 * Seeds pass in batches of fixed size. For a batch: inputs, gates, then each
 * expert on the rows whose gate for it is above zero, then the weighted sum.
 * A row's prediction depends on that row alone: experts, router and
 * calibration each promise it, and sums run over experts in order.
 */
#include "gnn/mixture_private.h"

#include <string.h>

#define BATCH 4096

/* Memory of one batch. */
typedef struct batch
{
    float *x;     /* [BATCH, width] */
    bool *stale;  /* [BATCH] */
    float *gates; /* [BATCH, experts] */
    float *chosen_x;
    int32_t *chosen; /* rows that need an expert */
    int32_t *row;    /* their seeds */
    int64_t *time;
    int64_t *horizon;
    float *said;  /* [BATCH, outputs] */
    float *early; /* [BATCH, outputs] */
    bool *stops;  /* [BATCH] */
    float *each[MOE_EXPERT_KINDS];
} batch;

static void
free_batch(const moe_mixture *m, batch *b)
{
    void *owned[] = {b->x,    b->stale,   b->gates, b->chosen_x, b->chosen, b->row,
                     b->time, b->horizon, b->said,  b->early,    b->stops};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        moe_free(m->job, owned[i]);
    for (int e = 0; e < m->n; e++)
        moe_free(m->job, b->each[e]);
}

static moe_code
allocate_batch(const moe_mixture *m, int64_t n, batch *b)
{
    moe_job *job = m->job;
    *b = (batch){0};
    b->x = moe_alloc(job, n * m->width, sizeof *b->x);
    b->stale = moe_alloc(job, n, sizeof *b->stale);
    b->gates = moe_alloc(job, n * m->n, sizeof *b->gates);
    b->chosen_x = moe_alloc(job, n * m->width, sizeof *b->chosen_x);
    b->chosen = moe_alloc(job, n, sizeof *b->chosen);
    b->row = moe_alloc(job, n, sizeof *b->row);
    b->time = moe_alloc(job, n, sizeof *b->time);
    b->horizon = moe_alloc(job, n, sizeof *b->horizon);
    b->said = moe_alloc(job, n * m->outputs, sizeof *b->said);
    b->early = moe_alloc(job, n * m->outputs, sizeof *b->early);
    b->stops = moe_alloc(job, n, sizeof *b->stops);
    for (int e = 0; e < m->n; e++)
        b->each[e] = moe_alloc(job, n * m->outputs, sizeof *b->each[e]);
    return moe_job_code(job);
}

/*
 * Have an expert predict the rows of a batch that need it, stale ones or the others, into its place of b->each. An
 * expert of one version takes all of them with the others.
 */
static moe_code
ask_for_rows(const moe_mixture *m, int e, bool stale, const moe_seeds *seeds, const bool *disabled, bool all, batch *b)
{
    bool versions = m->experts[e].stale != NULL;
    int64_t n = 0;
    for (int64_t i = 0; i < seeds->n; i++)
    {
        if ((!all && !(b->gates[i * m->n + e] > 0)) || (versions ? b->stale[i] != stale : stale))
            continue;
        b->row[n] = seeds->row[i];
        b->time[n] = seeds->time[i];
        b->horizon[n] = seeds->horizon == NULL ? seeds->time[i] : seeds->horizon[i];
        b->chosen[n++] = (int32_t) i;
    }
    if (n == 0)
        return MOE_OK;
    moe_seeds own = {.table = seeds->table, .n = n, .row = b->row, .time = b->time, .horizon = b->horizon};
    const float *x = b->x;
    if (n < seeds->n)
    {
        for (int64_t k = 0; k < n; k++)
            memcpy(b->chosen_x + k * m->width, b->x + (int64_t) b->chosen[k] * m->width, m->width * sizeof *b->x);
        x = b->chosen_x;
    }
    moe_code code = moe_mixture_ask(m, e, stale, &own, disabled, x, b->said);
    for (int64_t k = 0; k < n && code == MOE_OK; k++)
        memcpy(b->each[e] + (int64_t) b->chosen[k] * m->outputs, b->said + k * m->outputs,
               m->outputs * sizeof *b->said);
    return code;
}

/* An expert's predictions of the rows that need it, or of all. */
static moe_code
ask_versions(const moe_mixture *m, int e, const moe_seeds *seeds, const bool *disabled, bool all, batch *b)
{
    moe_code code = ask_for_rows(m, e, false, seeds, disabled, all, b);
    return code == MOE_OK ? ask_for_rows(m, e, true, seeds, disabled, all, b) : code;
}

/* Find the rows of a batch that stop at the glance expert. */
static moe_code
stop_early(const moe_mixture *m, const moe_seeds *seeds, const bool *disabled, batch *b)
{
    int glance = moe_mixture_find(m, MOE_EXPERT_GLANCE);
    moe_code code = ask_versions(m, glance, seeds, disabled, true, b);
    if (code != MOE_OK)
        return code;
    memcpy(b->early, b->each[glance], seeds->n * m->outputs * sizeof *b->early);
    return moe_mixture_stop_early(m, seeds->n, b->x, b->early, b->gates, b->stops);
}

static moe_code
predict_batch(moe_mixture *m, const moe_seeds *seeds, const bool *disabled, bool all, batch *b, float *prediction)
{
    const float *said[MOE_EXPERT_KINDS];
    bool early = moe_mixture_stops_early(m);
    moe_code code = MOE_OK;
    if (m->width > 0)
        code = m->inputs(m->inputs_arg, seeds, disabled, b->x, b->stale);
    else
        memset(b->stale, 0, seeds->n * sizeof *b->stale);
    if (code == MOE_OK)
        code = moe_mixture_gates(m, seeds->n, b->x, b->gates);
    if (code == MOE_OK && early)
        code = stop_early(m, seeds, disabled, b);
    for (int e = 0; e < m->n && code == MOE_OK; e++)
        code = ask_versions(m, e, seeds, disabled, all, b);
    if (code != MOE_OK)
        return code;
    for (int e = 0; e < m->n; e++)
        said[e] = b->each[e];
    moe_router_mix(m->n, m->outputs, seeds->n, said, b->gates, prediction);
    for (int64_t i = 0; i < seeds->n; i++)
        moe_calibration_apply(moe_mixture_calibration(m, b->stale[i]), m->task.n_classes, 1,
                              prediction + i * m->outputs);
    for (int64_t i = 0; early && i < seeds->n; i++)
        if (b->stops[i])
            memcpy(prediction + i * m->outputs, b->early + i * m->outputs, m->outputs * sizeof *prediction);
    return moe_job_check(m->job);
}

/* The same of the rows that stop early alone. */
static moe_code
predict_batch_early(moe_mixture *m, const moe_seeds *seeds, const bool *disabled, batch *b, float *prediction)
{
    moe_code code = m->inputs(m->inputs_arg, seeds, disabled, b->x, b->stale);
    if (code == MOE_OK)
        code = stop_early(m, seeds, disabled, b);
    memcpy(prediction, b->early, seeds->n * m->outputs * sizeof *prediction);
    return code;
}

/* The ranges of a batch's rows. */
static void
give_ranges(const moe_mixture *m, int64_t n, const bool *stale, const float *prediction, float *lower, float *upper)
{
    for (int64_t i = 0; i < n; i++)
        moe_calibration_range(moe_mixture_calibration(m, stale[i]), 1, prediction + i, lower + i, upper + i);
}

/* Batch by batch; stops: NULL, or [n]: of those that stop early alone. */
static moe_code
predict(moe_mixture *m, const moe_seeds *seeds, const bool *disabled, const moe_mixture_answer *out, bool *stops)
{
    batch b;
    moe_code code = allocate_batch(m, seeds->n < BATCH ? seeds->n : BATCH, &b);
    for (int64_t first = 0; first < seeds->n && code == MOE_OK; first += BATCH)
    {
        moe_seeds part = *seeds;
        float *prediction = out->prediction + first * m->outputs;
        part.n = seeds->n - first < BATCH ? seeds->n - first : BATCH;
        part.row += first;
        part.time += first;
        part.horizon = seeds->horizon == NULL ? NULL : seeds->horizon + first;
        code = stops != NULL ? predict_batch_early(m, &part, disabled, &b, prediction)
                             : predict_batch(m, &part, disabled, out->each != NULL, &b, prediction);
        if (code == MOE_OK && stops != NULL)
            memcpy(stops + first, b.stops, part.n * sizeof *stops);
        if (code == MOE_OK && out->gates != NULL)
            memcpy(out->gates + first * m->n, b.gates, part.n * m->n * sizeof *b.gates);
        for (int e = 0; code == MOE_OK && out->each != NULL && e < m->n; e++)
            memcpy(out->each[e] + first * m->outputs, b.each[e], part.n * m->outputs * sizeof *prediction);
        if (code == MOE_OK && out->lower != NULL)
            give_ranges(m, part.n, b.stale, prediction, out->lower + first, out->upper + first);
    }
    free_batch(m, &b);
    return code;
}

moe_code
moe_mixture_predict(moe_mixture *m, const moe_seeds *seeds, const bool *disabled, const moe_mixture_answer *out)
{
    return predict(m, seeds, disabled, out, NULL);
}

moe_code
moe_mixture_predict_early(moe_mixture *m, const moe_seeds *seeds, const bool *disabled, float *prediction, float *gates,
                          bool *stops)
{
    return predict(m, seeds, disabled, &(moe_mixture_answer){.prediction = prediction, .gates = gates}, stops);
}
