/*
 * mixture_early.c: rows that the glance expert answers alone.
 *
 * The glance expert is calibrated by itself, so that its predictions and the
 * mixture's are of one scale; which rows it may keep is chosen from a curve on held-out rows.
 */
#include "gnn/mixture_private.h"

#include <string.h>

moe_code
moe_mixture_fit_early(moe_mixture *m, int64_t n, const float *glance, const float *mixed, const float *label)
{
    m->curve.points = 0;
    m->threshold = -1;
    if (glance == NULL || m->n < 2 || m->task.task == MOE_REGRESSION || n < MOE_MIXTURE_LEAST_HELD_OUT)
        return MOE_OK;
    float *early = moe_alloc(m->job, n * m->outputs, sizeof *early);
    if (early == NULL)
        return moe_job_code(m->job);
    memcpy(early, glance, n * m->outputs * sizeof *early);
    moe_code code = moe_calibration_fit(m->job, m->task.task, m->task.n_classes, n, early, label, &m->early);
    if (code == MOE_OK)
    {
        moe_calibration_apply(&m->early, m->task.n_classes, n, early);
        code = moe_cascade_measure(m->job, m->task.task, m->task.n_classes, n, early, mixed, label, &m->curve);
    }
    moe_free(m->job, early);
    return code;
}

void
moe_mixture_stop_early(const moe_mixture *m, int64_t n, float *glance, float *gates, bool *stops)
{
    int expert = moe_mixture_find(m, MOE_EXPERT_GLANCE);
    moe_calibration_apply(&m->early, m->task.n_classes, n, glance);
    for (int64_t i = 0; i < n; i++)
    {
        stops[i] =
            moe_cascade_uncertainty(m->task.task, m->task.n_classes, glance + i * m->outputs) <= (float) m->threshold;
        for (int e = 0; stops[i] && e < m->n; e++)
            gates[i * m->n + e] = e == expert;
    }
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
