/*
 * entmax.c: 1.5-entmax of each row (Peters, Niculae, Martins 2019), a softmax that gives zeros:
 *
 *   y = max(z - t, 0)^2,   z = x / 2,   with the threshold t that makes the sum of y 1.
 *
 * The sum is convex in t and falls, so that Newton's steps from max(z) - 1, where
 * it is 1 or more, rise to t without passing it: no sorting, and whole vectors
 * all the way. A step about halves what is missing until the support is known.
 */
#include <math.h>

#include "kernels/cpu/cpu.h"

#define MOST_STEPS 40
#define NO_STEP    1e-7f

typedef int32_t whole_lanes __attribute__((vector_size(MOE_LANES * sizeof(int32_t)), aligned(4), may_alias));

typedef struct rows
{
    int64_t cols;
    const float *x;
    const float *gy;
    bool add;
    float *out;
} rows;

/* The sums of max(z - t, 0) and of its square; NaN stays NaN. */
MOE_INLINE void
sums_above(const float *z, int64_t n, float t, float *sum, float *squares)
{
    moe_lanes lanes[2][MOE_CHAINS] = {{{0}}};
    int64_t i = 0;
    for (; i + MOE_LANES <= n; i += MOE_LANES)
    {
        moe_lanes d = moe_load(z + i) - t;
        d = (moe_lanes) (~(whole_lanes) (d <= 0) & (whole_lanes) d);
        lanes[0][i / MOE_LANES % MOE_CHAINS] += d;
        lanes[1][i / MOE_LANES % MOE_CHAINS] += d * d;
    }
    *sum = moe_add_chains(lanes[0]);
    *squares = moe_add_chains(lanes[1]);
    for (; i < n; i++)
    {
        float d = z[i] - t <= 0 ? 0 : z[i] - t;
        *sum += d;
        *squares += d * d;
    }
}

MOE_INLINE void
entmax_row(const float *x, int64_t n, float *y)
{
    float high = x[0];
    float sum;
    float squares;
    for (int64_t j = 1; j < n; j++)
        high = x[j] > high ? x[j] : high;
    for (int64_t j = 0; j < n; j++)
        y[j] = (x[j] - high) * 0.5f;
    float t = -1;
    for (int step = 0; step < MOST_STEPS; step++)
    {
        sums_above(y, n, t, &sum, &squares);
        float more = (squares - 1) / (2 * sum);
        if (more <= NO_STEP)
            break;
        t += more;
    }
    for (int64_t j = 0; j < n; j++)
    {
        float d = y[j] - t <= 0 ? 0 : y[j] - t;
        y[j] = d * d;
    }
}

static void
entmax_range(int64_t begin, int64_t end, void *arg)
{
    const rows *r = arg;
    for (int64_t i = begin; i < end; i++)
        entmax_row(r->x + i * r->cols, r->cols, r->out + i * r->cols);
}

void
moe_cpu_entmax(moe_job *job, int64_t n, int64_t cols, const float *x, float *y)
{
    rows r = {.cols = cols, .x = x, .out = y};
    moe_parallel(job, cols == 0 ? 0 : n, (moe_row_grain(cols) + 3) / 4, entmax_range, &r);
}

/* The sums of sqrt(y) and of sqrt(y) * gy, in the order of the lanes. */
MOE_INLINE float
mean_gradient(const float *y, const float *gy, int64_t n)
{
    float sum[MOE_LANES] = {0};
    float dot[MOE_LANES] = {0};
    int64_t j = 0;
    for (; j + MOE_LANES <= n; j += MOE_LANES)
        for (int l = 0; l < MOE_LANES; l++)
        {
            float root = sqrtf(y[j + l]);
            sum[l] += root;
            dot[l] += root * gy[j + l];
        }
    float total = moe_add_lanes(sum);
    float weighted = moe_add_lanes(dot);
    for (; j < n; j++)
    {
        total += sqrtf(y[j]);
        weighted += sqrtf(y[j]) * gy[j];
    }
    return weighted / total;
}

static void
entmax_backward_range(int64_t begin, int64_t end, void *arg)
{
    const rows *r = arg;
    bool add = r->add;
    for (int64_t i = begin; i < end; i++)
    {
        const float *y = r->x + i * r->cols;
        const float *gy = r->gy + i * r->cols;
        float *gx = r->out + i * r->cols;
        float mean = mean_gradient(y, gy, r->cols);
        MOE_NO_DEPENDENCE
        for (int64_t j = 0; j < r->cols; j++)
        {
            float g = sqrtf(y[j]) * (gy[j] - mean);
            gx[j] = add ? gx[j] + g : g;
        }
    }
}

void
moe_cpu_entmax_backward(moe_job *job, int64_t n, int64_t cols, const float *y, const float *gy, bool add, float *gx)
{
    rows r = {.cols = cols, .x = y, .gy = gy, .add = add, .out = gx};
    moe_parallel(job, cols == 0 ? 0 : n, moe_row_grain(cols), entmax_backward_range, &r);
}
