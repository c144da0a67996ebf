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
#define LATEST         4 /* of the rows that reading is learned from, one part in so many says when to stop */

moe_code
moe_mixture_fit_reading(moe_mixture *m, const moe_dense_rows *train, uint64_t seed)
{
    moe_dense_task task = {.task = MOE_REGRESSION, .n_classes = 1, .high = log1pf(MOST_EXPECTED)};
    moe_dense_rows own = {.n = train->n - train->n / LATEST}, latest = {.n = train->n / LATEST};
    float *owned = NULL;
    if (m->reading != NULL)
        moe_dense_expert_destroy(m->reading);
    m->reading = NULL;
    if (train->n == 0 || moe_mixture_find(m, MOE_EXPERT_GLANCE) < 0)
        return MOE_OK;
    float *label = moe_alloc(m->job, train->n, sizeof *label);
    own.x = moe_mixture_inputs_of(m, MOE_EXPERT_GLANCE, train->n, train->x, &owned, &own.width);
    moe_code code = moe_job_check(m->job);
    for (int64_t i = 0; code == MOE_OK && i < train->n; i++)
        label[i] = log1pf(train->label[i]);
    if (code == MOE_OK)
    {
        own.label = label;
        latest.width = own.width;
        latest.x = own.x + own.n * own.width;
        latest.label = label + own.n;
        code = moe_dense_expert_fit(m->job, MOE_DENSE_TREES, &task, &own, &latest, seed, &m->reading);
    }
    moe_free(m->job, owned);
    moe_free(m->job, label);
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

bool
moe_mixture_may_stop_early(const moe_mixture *m, int64_t held_out)
{
    return moe_mixture_find(m, MOE_EXPERT_GLANCE) >= 0 && m->n > 1 && m->task.task != MOE_REGRESSION &&
           held_out >= MOE_MIXTURE_LEAST_HELD_OUT;
}

moe_code
moe_mixture_fit_early(moe_mixture *m, int64_t n, const float *x, const float *glance, const float *mixed,
                      const float *label, const float *reading)
{
    float *early = moe_alloc(m->job, n * m->outputs, sizeof *early);
    float *expected = moe_alloc(m->job, n, sizeof *expected);
    moe_cascade_rows rows = {n, early, mixed, label, expected, reading};
    moe_code code = moe_job_check(m->job);
    if (code == MOE_OK)
    {
        memcpy(early, glance, n * m->outputs * sizeof *early);
        code = moe_calibration_fit(m->job, m->task.task, m->task.n_classes, n, early, label, &m->early);
    }
    if (code == MOE_OK)
        code = expect_reading(m, n, x, expected);
    if (code == MOE_OK)
    {
        moe_calibration_apply(&m->early, m->task.n_classes, n, early);
        code =
            moe_cascade_measure(m->job, m->task.task, m->task.n_classes, &rows, MOE_MIXTURE_LEAST_HELD_OUT, &m->curve);
    }
    moe_free(m->job, early);
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
    if (budget < 1)
        moe_mixture_use_point(m, moe_cascade_choose(&m->curve, budget));
    else
        m->threshold = -1;
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

void
moe_mixture_use_point(moe_mixture *m, int point)
{
    m->threshold = m->curve.point[point].threshold;
}

bool
moe_mixture_stops_early(const moe_mixture *m)
{
    return m->threshold >= 0;
}
