/*
 * mixture_early.c: rows that the glance expert answers alone.
 *
 * The glance expert is calibrated by itself, so that its predictions and the
 * mixture's are of one scale. How much there is to read for a row is told by
 * boosted trees over what the glance expert sees; which rows it may keep is
 * chosen from a curve on held-out rows.
 */
#include "gnn/mixture_private.h"

#include <math.h>
#include <string.h>

#define LEAST_EXPECTED 0.05f /* rows; that nothing is to be read is never certain */
#define MOST_EXPECTED  1e12f
#define VALID_EVERY    4 /* of the rows that reading is learned from, one in so many says when to stop */

/* A share of the rows to learn from, with the logarithms of their labels. */
static moe_code
take_rows(const moe_mixture *m, const moe_dense_rows *from, bool valid, moe_dense_rows *out, float **x, float **label)
{
    int64_t n = 0;
    *x = moe_alloc(m->job, from->n * m->width, sizeof **x);
    *label = moe_alloc(m->job, from->n, sizeof **label);
    if (*x == NULL || *label == NULL)
        return moe_job_code(m->job);
    for (int64_t i = 0; i < from->n; i++)
    {
        if ((i % VALID_EVERY == 0) != valid)
            continue;
        memcpy(*x + n * m->width, from->x + i * m->width, m->width * sizeof **x);
        (*label)[n++] = log1pf(from->label[i]);
    }
    *out = (moe_dense_rows){.n = n, .width = m->width, .x = *x, .label = *label};
    return MOE_OK;
}

/* Fit the trees on rows of which the glance expert's inputs are seen. */
static moe_code
fit_trees(moe_mixture *m, const moe_dense_rows *train, const moe_dense_rows *valid, uint64_t seed)
{
    moe_dense_task task = {.task = MOE_REGRESSION, .n_classes = 1, .high = log1pf(MOST_EXPECTED)};
    moe_dense_rows seen = *train, held = *valid;
    float *owned, *owned_held;
    seen.x = moe_mixture_inputs_of(m, MOE_EXPERT_GLANCE, train->n, train->x, &owned, &seen.width);
    held.x = moe_mixture_inputs_of(m, MOE_EXPERT_GLANCE, valid->n, valid->x, &owned_held, &held.width);
    moe_code code = moe_job_check(m->job);
    if (code == MOE_OK)
        code = moe_dense_expert_fit(m->job, MOE_DENSE_TREES, &task, &seen, &held, seed, &m->reading);
    moe_free(m->job, owned);
    moe_free(m->job, owned_held);
    return code;
}

moe_code
moe_mixture_fit_reading(moe_mixture *m, const moe_dense_rows *train, uint64_t seed)
{
    moe_dense_rows own, valid;
    float *x[2] = {NULL}, *label[2] = {NULL};
    if (m->reading != NULL)
        moe_dense_expert_destroy(m->reading);
    m->reading = NULL;
    if (train->n < VALID_EVERY || moe_mixture_find(m, MOE_EXPERT_GLANCE) < 0)
        return MOE_OK;
    moe_code code = take_rows(m, train, false, &own, &x[0], &label[0]);
    if (code == MOE_OK)
        code = take_rows(m, train, true, &valid, &x[1], &label[1]);
    if (code == MOE_OK)
        code = fit_trees(m, &own, &valid, seed);
    for (int i = 0; i < 2; i++)
    {
        moe_free(m->job, x[i]);
        moe_free(m->job, label[i]);
    }
    return code;
}

/* How many rows the others are expected to need, of n rows with inputs x. */
static moe_code
expect_reading(const moe_mixture *m, int64_t n, const float *x, float *expected)
{
    moe_dense_rows rows = {.n = n};
    float *owned = NULL;
    moe_code code = MOE_OK;
    if (m->reading != NULL)
    {
        rows.x = moe_mixture_inputs_of(m, MOE_EXPERT_GLANCE, n, x, &owned, &rows.width);
        code = moe_job_check(m->job);
        if (code == MOE_OK)
            code = moe_dense_expert_predict(m->reading, &rows, expected);
    }
    for (int64_t i = 0; code == MOE_OK && i < n; i++)
        expected[i] = m->reading == NULL ? 1 : fminf(fmaxf(expm1f(expected[i]), LEAST_EXPECTED), MOST_EXPECTED);
    moe_free(m->job, owned);
    return code;
}

/* Measure the curve on the rows whose reading was counted, which are moved to the front. */
static moe_code
measure(moe_mixture *m, int64_t n, float *early, float *full, float *label, float *expected, const float *reading)
{
    float *counted = moe_alloc(m->job, n, sizeof *counted);
    moe_cascade_rows rows = {.early = early, .full = full, .label = label, .expected = expected, .reading = counted};
    moe_code code = counted == NULL ? moe_job_code(m->job) : MOE_OK;
    for (int64_t i = 0; code == MOE_OK && i < n; i++)
    {
        if (reading != NULL && isnan(reading[i]))
            continue;
        counted[rows.n] = reading == NULL ? 1 : reading[i];
        label[rows.n] = label[i];
        expected[rows.n] = expected[i];
        memmove(early + rows.n * m->outputs, early + i * m->outputs, m->outputs * sizeof *early);
        memmove(full + rows.n * m->outputs, full + i * m->outputs, m->outputs * sizeof *full);
        rows.n++;
    }
    if (code == MOE_OK && rows.n >= MOE_MIXTURE_LEAST_HELD_OUT)
        code = moe_cascade_measure(m->job, m->task.task, m->task.n_classes, &rows, &m->curve);
    moe_free(m->job, counted);
    return code;
}

/* A copy of n floats. */
static float *
copy(moe_job *job, int64_t n, const float *from)
{
    float *to = moe_alloc(job, n, sizeof *to);
    if (to != NULL)
        memcpy(to, from, (size_t) n * sizeof *to);
    return to;
}

moe_code
moe_mixture_fit_early(moe_mixture *m, int64_t n, const float *x, const float *glance, const float *mixed,
                      const float *label, const float *reading)
{
    m->curve.points = 0;
    m->threshold = -1;
    if (glance == NULL || m->n < 2 || m->task.task == MOE_REGRESSION || n < MOE_MIXTURE_LEAST_HELD_OUT)
        return MOE_OK;
    float *early = copy(m->job, n * m->outputs, glance);
    float *full = copy(m->job, n * m->outputs, mixed);
    float *labels = copy(m->job, n, label);
    float *expected = moe_alloc(m->job, n, sizeof *expected);
    moe_code code = moe_job_check(m->job);
    if (code == MOE_OK)
        code = moe_calibration_fit(m->job, m->task.task, m->task.n_classes, n, early, label, &m->early);
    if (code == MOE_OK)
        code = expect_reading(m, n, x, expected);
    if (code == MOE_OK)
    {
        moe_calibration_apply(&m->early, m->task.n_classes, n, early);
        code = measure(m, n, early, full, labels, expected, reading);
    }
    moe_free(m->job, early);
    moe_free(m->job, full);
    moe_free(m->job, labels);
    moe_free(m->job, expected);
    return code;
}

moe_code
moe_mixture_stop_early(const moe_mixture *m, int64_t n, const float *x, float *glance, float *gates, bool *stops)
{
    int expert = moe_mixture_find(m, MOE_EXPERT_GLANCE);
    float *expected = moe_alloc(m->job, n, sizeof *expected);
    moe_code code = expected == NULL ? moe_job_code(m->job) : expect_reading(m, n, x, expected);
    moe_calibration_apply(&m->early, m->task.n_classes, n, glance);
    for (int64_t i = 0; code == MOE_OK && i < n; i++)
    {
        stops[i] = moe_cascade_worth(m->task.task, m->task.n_classes, glance + i * m->outputs, expected[i]) <=
                   (float) m->threshold;
        for (int e = 0; stops[i] && e < m->n; e++)
            gates[i * m->n + e] = e == expert;
    }
    moe_free(m->job, expected);
    return code;
}

bool
moe_mixture_set_budget(moe_mixture *m, double budget)
{
    if (budget < 1 && m->curve.points == 0)
        return false;
    m->threshold = budget < 1 ? m->curve.point[moe_cascade_choose(&m->curve, budget)].threshold : -1;
    return true;
}

const moe_cascade_curve *
moe_mixture_curve(const moe_mixture *m)
{
    return &m->curve;
}

int
moe_mixture_curve_point(const moe_mixture *m)
{
    int p = 0;
    while (p + 1 < m->curve.points && m->curve.point[p].threshold < m->threshold)
        p++;
    return p;
}

bool
moe_mixture_stops_early(const moe_mixture *m)
{
    return m->threshold >= 0;
}
