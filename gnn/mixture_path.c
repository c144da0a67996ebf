/*
 * mixture_path.c: one row's way through the mixture, followed with other inputs.
 *
 * What a prediction rests on is asked by hiding inputs. The router would send
 * such a row elsewhere, to experts that had no part in the prediction: so the
 * path is found once, and held.
 */
#include "gnn/mixture_private.h"

#include <string.h>

/* Whether the glance expert answers alone, and the gates that follow. */
static moe_code
find_stop(const moe_mixture *m, const moe_seeds *seed, const float *x, moe_mixture_path *path)
{
    float *said = moe_alloc(m->job, m->outputs, sizeof *said);
    moe_code code = said == NULL ? moe_job_code(m->job) : MOE_OK;
    if (code == MOE_OK)
        code = moe_mixture_ask(m, moe_mixture_find(m, MOE_EXPERT_GLANCE), path->stale, seed, NULL, x, said);
    if (code == MOE_OK)
        code = moe_mixture_stop_early(m, 1, x, said, path->gate, &path->stops);
    moe_free(m->job, said);
    return code;
}

moe_code
moe_mixture_find_path(moe_mixture *m, const moe_seeds *seed, moe_mixture_path *path, float *x)
{
    *path = (moe_mixture_path){.stale = false};
    moe_code code = m->width > 0 ? m->inputs(m->inputs_arg, seed, NULL, x, &path->stale) : MOE_OK;
    if (code == MOE_OK)
        code = moe_mixture_gates(m, 1, x, path->gate);
    if (code == MOE_OK && moe_mixture_stops_early(m))
        code = find_stop(m, seed, x, path);
    return code;
}

moe_code
moe_mixture_follow(const moe_mixture *m, const moe_mixture_path *path, int64_t n, const float *const *said,
                   float *prediction)
{
    float *gates = moe_alloc(m->job, n * m->n, sizeof *gates);
    if (gates == NULL)
        return moe_job_code(m->job);
    for (int64_t i = 0; i < n; i++)
        memcpy(gates + i * m->n, path->gate, m->n * sizeof *gates);
    if (path->stops)
        memcpy(prediction, said[moe_mixture_find(m, MOE_EXPERT_GLANCE)], n * m->outputs * sizeof *prediction);
    else
        moe_router_mix(m->n, m->outputs, n, said, gates, prediction);
    moe_calibration_apply(path->stops ? &m->early : moe_mixture_calibration(m, path->stale), m->task.n_classes, n,
                          prediction);
    moe_free(m->job, gates);
    return moe_job_check(m->job);
}
