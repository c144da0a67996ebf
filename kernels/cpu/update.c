/*
 * update.c: the optimiser's loops over all weights.
 *
 * Both are bound by memory: Adam reads and writes four numbers of each weight.
 * The sum of squares is cut into slabs by its length alone, each in double and
 * in four vectors, and the slabs are added in order.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

#define GRAIN         8192 /* weights worth one chunk of Adam */
#define SMALLEST_SLAB MOE_GRAIN
#define WIDTH         (MOE_LANES / 2) /* doubles of a vector register */
#define VECTORS       4

typedef float narrow_lanes __attribute__((vector_size(WIDTH * sizeof(float)), aligned(4), may_alias));
typedef double wide_lanes __attribute__((vector_size(WIDTH * sizeof(double))));

typedef struct squares
{
    const float *x;
    int64_t slab;
    double partial[MOE_MOST_SLABS];
} squares;

static void
square_sum_range(int64_t begin, int64_t end, void *arg)
{
    squares *s = arg;
    const float *x = s->x;
    wide_lanes lanes[VECTORS] = {{0}};
    int64_t i = begin;
    for (; i + VECTORS * WIDTH <= end; i += VECTORS * WIDTH)
        for (int v = 0; v < VECTORS; v++)
        {
            wide_lanes wide = __builtin_convertvector(*(const narrow_lanes *) (x + i + v * WIDTH), wide_lanes);
            lanes[v] += wide * wide;
        }
    lanes[0] = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
    double sum = 0;
    for (int l = 0; l < WIDTH; l++)
        sum += lanes[0][l];
    for (; i < end; i++)
        sum += (double) x[i] * x[i];
    s->partial[begin / s->slab] = sum;
}

void
moe_cpu_square_sum(moe_job *job, int64_t count, const float *x, double *out)
{
    squares s = {.x = x, .slab = (count + MOE_MOST_SLABS - 1) / MOE_MOST_SLABS};
    s.slab = s.slab < SMALLEST_SLAB ? SMALLEST_SLAB : s.slab;
    moe_parallel(job, count, s.slab, square_sum_range, &s);
    double sum = 0;
    for (int i = 0; i < MOE_MOST_SLABS; i++)
        sum += s.partial[i];
    *out = sum;
}

typedef struct update
{
    moe_adam_rates rates;
    float clip; /* factor on the gradient */
    float *value;
    float *gradient;
    float *moment1;
    float *moment2;
} update;

static void
adam_range(int64_t begin, int64_t end, void *arg)
{
    const update u = *(const update *) arg;
    const moe_adam_rates r = u.rates;
    float *restrict value = u.value;
    float *restrict gradient = u.gradient;
    float *restrict moment1 = u.moment1;
    float *restrict moment2 = u.moment2;
    for (int64_t i = begin; i < end; i++)
    {
        float g = gradient[i] * u.clip;
        gradient[i] = 0;
        moment1[i] = r.beta1 * moment1[i] + (1 - r.beta1) * g;
        moment2[i] = r.beta2 * moment2[i] + (1 - r.beta2) * g * g;
        value[i] = r.shrink * value[i] - r.rate * moment1[i] / (sqrtf(moment2[i] * r.correction) + r.epsilon);
    }
}

void
moe_cpu_adam(moe_job *job, int64_t count, const moe_adam_rates *rates, const double *square_sum, float *value,
             float *gradient, float *moment1, float *moment2)
{
    if (!isfinite(*square_sum))
    {
        memset(gradient, 0, (size_t) count * sizeof(float));
        return;
    }
    double norm = sqrt(*square_sum);
    update u = {.rates = *rates,
                .clip = rates->clip_norm > 0 && norm > rates->clip_norm ? (float) (rates->clip_norm / norm) : 1.0f,
                .value = value,
                .gradient = gradient,
                .moment1 = moment1,
                .moment2 = moment2};
    moe_parallel(job, count, GRAIN, adam_range, &u);
}
