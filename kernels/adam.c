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

#define GRAIN 16384

/* The norm's square in double, in four lanes and in order: the same for any number of threads. */
static double
gradient_square_sum(const moe_params *params)
{
    double sum[4] = {0};
    for (int i = 0; i < moe_params_count(params); i++)
    {
        const moe_param *param = moe_params_get(params, i);
        int64_t size = param->rows * param->cols;
        for (int64_t k = 0; k < size; k++)
            sum[k % 4] += (double) param->gradient[k] * param->gradient[k];
    }
    return sum[0] + sum[1] + sum[2] + sum[3];
}

typedef struct step
{
    moe_param *param;
    float clip; /* factor on the gradient */
    float beta1;
    float beta2;
    float rate;       /* learning rate over (1 - beta1^t) */
    float correction; /* 1 / (1 - beta2^t) */
    float epsilon;
    float shrink; /* 1 - learning rate * decay */
} step;

static void
update_range(int64_t begin, int64_t end, void *arg)
{
    const step s = *(step *) arg;
    float *restrict value = s.param->value;
    float *restrict gradient = s.param->gradient;
    float *restrict moment1 = s.param->moment1;
    float *restrict moment2 = s.param->moment2;
    for (int64_t i = begin; i < end; i++)
    {
        float g = gradient[i] * s.clip;
        gradient[i] = 0;
        moment1[i] = s.beta1 * moment1[i] + (1 - s.beta1) * g;
        moment2[i] = s.beta2 * moment2[i] + (1 - s.beta2) * g * g;
        value[i] = s.shrink * value[i] - s.rate * moment1[i] / (sqrtf(moment2[i] * s.correction) + s.epsilon);
    }
}

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
    double square_sum = gradient_square_sum(params);
    double norm = sqrt(square_sum);
    moe_upload(job, moe_params_square_sum(params), &square_sum, sizeof square_sum);
    if (moe_adam_check(adam, params) != MOE_OK)
    {
        moe_params_zero_gradients(params);
        return;
    }
    adam->step++;
    step s = {.clip = adam->clip_norm > 0 && norm > adam->clip_norm ? (float) (adam->clip_norm / norm) : 1.0f,
              .beta1 = adam->beta1,
              .beta2 = adam->beta2,
              .rate = (float) (adam->learning_rate / (1 - pow(adam->beta1, (double) adam->step))),
              .correction = (float) (1 / (1 - pow(adam->beta2, (double) adam->step))),
              .epsilon = adam->epsilon};
    for (int i = 0; i < moe_params_count(params); i++)
    {
        s.param = moe_params_get(params, i);
        s.shrink = s.param->decay ? 1 - adam->learning_rate * adam->weight_decay : 1;
        moe_parallel(job, s.param->rows * s.param->cols, GRAIN, update_range, &s);
    }
}
