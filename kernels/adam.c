/*
 * adam.c: one Adam step with decoupled weight decay and clipping.
 *
 *   m = beta1 m + (1 - beta1) g          v = beta2 v + (1 - beta2) g^2
 *   w = w - rate * (decay * w + m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon))
 *
 * (Kingma and Ba 2015; Loshchilov and Hutter 2019.) A gradient that is not
 * finite would spoil every weight for good, so it is recorded as a failure and
 * the weights stay as they are.
 */
#include <math.h>

#include "kernels/device.h"

moe_code
moe_adam_check(const moe_adam *adam, const moe_params *params)
{
    moe_job *job = moe_params_job(params);
    double square_sum = 0;
    moe_download(job, &square_sum, moe_params_square_sum(params), sizeof square_sum);
    if (!isfinite(square_sum))
        moe_fail(job, MOE_INVALID, "training diverged: a gradient is not finite after %lld steps",
                 (long long) adam->step);
    return moe_job_code(job);
}

void
moe_adam_step(moe_adam *adam, moe_params *params)
{
    moe_job *job = moe_params_job(params);
    if (moe_job_check(job) != MOE_OK || moe_params_train(params) != MOE_OK)
        return;
    const moe_backend *backend = moe_job_backend(job);
    int n;
    const moe_param_range *ranges = moe_params_ranges(params, &n);
    double *square_sum = moe_params_square_sum(params);
    if (n == 0)
        return;
    backend->square_sum(job, moe_params_laid_out(params), ranges[0].gradient, square_sum);
    /* A device is not waited for: its step leaves the weights alone by itself, and is looked at later. */
    if (moe_job_device(job) == NULL && moe_adam_check(adam, params) != MOE_OK)
    {
        moe_params_zero_gradients(params);
        return;
    }
    adam->step++;
    moe_adam_rates rates = {.beta1 = adam->beta1,
                            .beta2 = adam->beta2,
                            .rate = (float) (adam->learning_rate / (1 - pow(adam->beta1, (double) adam->step))),
                            .correction = (float) (1 / (1 - pow(adam->beta2, (double) adam->step))),
                            .epsilon = adam->epsilon,
                            .clip_norm = adam->clip_norm};
    for (int i = 0; i < n; i++)
    {
        rates.shrink = ranges[i].decay ? 1 - adam->learning_rate * adam->weight_decay : 1;
        backend->adam(job, ranges[i].count, &rates, square_sum, ranges[i].value, ranges[i].gradient, ranges[i].moment1,
                      ranges[i].moment2);
    }
}
