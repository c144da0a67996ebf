/*
 * rows.c: LayerNorm (Ba, Kiros, Hinton 2016) and softmax of each row.
 *
 * With h = (x - mean) * deviation and g = gy * gain, LayerNorm's backward is
 *   gx = deviation * (g - mean(g) - h * mean(g * h)).
 *
 * Fused with relu and dropout, a row is normalised, clipped and thinned out
 * while it is in the first-level cache; backward, its gradient is filtered by
 * what came out.
 */
#include <math.h>

#include "kernels/cpu/draws.h"

#define EPSILON     1e-5f
#define THIN_FLOATS 4096

typedef struct norm
{
    int64_t cols;
    const float *x;
    const float *gain;
    const float *bias;
    float *y;
    float *mean;
    float *deviation;
    float rate; /* of dropout */
    uint64_t key;
    float factor; /* on the gradient of what is above 0 */
    const float *gy;
    bool add;
    float *gx;
    float *partial;  /* [slabs, 2 * cols]: sums for gain, then for bias; NULL if not wanted */
    float *filtered; /* [slabs, cols]: one row's gradient; NULL where y is */
    int64_t slab;
} norm;

/* The row's mean and deviation, kept. */
MOE_INLINE void
measure_row(const norm *n, int64_t row, float *mean, float *deviation)
{
    const float *x = n->x + row * n->cols;
    *mean = moe_row_sum(x, n->cols) / (float) n->cols;
    *deviation = 1.0f / sqrtf(moe_row_squares(x, *mean, n->cols) / (float) n->cols + EPSILON);
    n->mean[row] = *mean;
    n->deviation[row] = *deviation;
}

static void
layer_norm_range(int64_t begin, int64_t end, void *arg)
{
    const norm *n = arg;
    int64_t cols = n->cols;
    const float *gain = n->gain;
    const float *bias = n->bias;
    for (int64_t i = begin; i < end; i++)
    {
        const float *x = n->x + i * cols;
        float *restrict y = n->y + i * cols;
        float mean, deviation;
        measure_row(n, i, &mean, &deviation);
        for (int64_t j = 0; j < cols; j++)
            y[j] = (x[j] - mean) * deviation * gain[j] + bias[j];
    }
}

void
moe_cpu_layer_norm(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *gain, const float *bias,
                   float *y, float *mean, float *deviation)
{
    norm n = {.cols = cols, .x = x, .gain = gain, .bias = bias, .y = y, .mean = mean, .deviation = deviation};
    moe_parallel(job, cols == 0 ? 0 : rows, moe_row_grain(cols), layer_norm_range, &n);
}

static void
layer_norm_relu_range(int64_t begin, int64_t end, void *arg)
{
    const norm *n = arg;
    int64_t cols = n->cols;
    const float *gain = n->gain;
    const float *bias = n->bias;
    for (int64_t i = begin; i < end; i++)
    {
        const float *x = n->x + i * cols;
        float *restrict y = n->y + i * cols;
        float mean, deviation;
        measure_row(n, i, &mean, &deviation);
        for (int64_t j = 0; j < cols; j++)
        {
            /* Written so that NaN stays NaN: a failure must not be hidden. */
            float h = (x[j] - mean) * deviation * gain[j] + bias[j];
            y[j] = h <= 0 ? 0 : h;
        }
    }
}

/* Dropout in place of the numbers [begin, end) of y, whose draws come in blocks that rows do not know. */
static void
thin_out(const norm *n, int64_t begin, int64_t end)
{
    int32_t threshold = (int32_t) moe_dropped_draws(n->rate);
    float factor = moe_dropout_factor(n->rate);
    int32_t draw[MOE_DRAW_BLOCK];
    while (begin < end)
    {
        int64_t block = begin / MOE_DRAW_BLOCK;
        int64_t stop = (block + 1) * MOE_DRAW_BLOCK < end ? (block + 1) * MOE_DRAW_BLOCK : end;
        const int32_t *own = draw + begin % MOE_DRAW_BLOCK;
        float *restrict y = n->y + begin;
        moe_fill_draws(n->key, block, draw);
        for (int64_t i = 0; i < stop - begin; i++)
            y[i] *= own[i] >= threshold ? factor : 0;
        begin = stop;
    }
}

/* Several rows at a time, so that few blocks of draws are made twice and the rows are still in the cache. */
static void
layer_norm_dropout_range(int64_t begin, int64_t end, void *arg)
{
    const norm *n = arg;
    int64_t step = n->cols > THIN_FLOATS ? 1 : THIN_FLOATS / n->cols;
    for (int64_t i = begin; i < end; i += step)
    {
        int64_t stop = end - i < step ? end : i + step;
        layer_norm_relu_range(i, stop, arg);
        thin_out(n, i * n->cols, stop * n->cols);
    }
}

void
moe_cpu_layer_norm_relu(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *gain, const float *bias,
                        float rate, uint64_t key, float *y, float *mean, float *deviation)
{
    norm n = {.cols = cols,
              .x = x,
              .gain = gain,
              .bias = bias,
              .y = y,
              .mean = mean,
              .deviation = deviation,
              .rate = rate,
              .key = key};
    moe_parallel(job, cols == 0 ? 0 : rows, moe_row_grain(cols),
                 rate > 0 ? layer_norm_dropout_range : layer_norm_relu_range, &n);
}

/* The row's gradient, filtered by what came out of relu and dropout. */
static void
filter_gradient(const norm *n, const float *y, const float *gy, float *restrict g)
{
    float factor = n->factor;
    for (int64_t j = 0; j < n->cols; j++)
        g[j] = gy[j] * (y[j] > 0 ? factor : 0);
}

/* Sums of gy * h and of gy over the slab's rows. */
static void
add_partial(const norm *n, const float *x, const float *gy, int64_t row, float *partial)
{
    int64_t cols = n->cols;
    float mean = n->mean[row];
    float deviation = n->deviation[row];
    float *restrict ggain = partial;
    float *restrict gbias = partial + cols;
    for (int64_t j = 0; j < cols; j++)
    {
        ggain[j] += gy[j] * (x[j] - mean) * deviation;
        gbias[j] += gy[j];
    }
}

static void
input_gradient(const norm *n, const float *x, const float *gy, int64_t row, float *gx)
{
    int64_t cols = n->cols;
    const float *gain = n->gain;
    float mean = n->mean[row];
    float deviation = n->deviation[row];
    bool add = n->add;
    float mean_g = moe_row_product(gy, gain, cols) / (float) cols;
    float mean_gh = moe_row_triple(gy, gain, x, mean, cols) * deviation / (float) cols;
    MOE_NO_DEPENDENCE
    for (int64_t j = 0; j < cols; j++)
    {
        float g = deviation * (gy[j] * gain[j] - mean_g - (x[j] - mean) * deviation * mean_gh);
        gx[j] = add ? gx[j] + g : g;
    }
}

static void
layer_norm_backward_range(int64_t begin, int64_t end, void *arg)
{
    const norm *n = arg;
    int64_t slab = begin / n->slab;
    float *partial = n->partial == NULL ? NULL : n->partial + slab * 2 * n->cols;
    float *filtered = n->filtered == NULL ? NULL : n->filtered + slab * n->cols;
    for (int64_t i = begin; i < end; i++)
    {
        const float *x = n->x + i * n->cols;
        const float *gy = n->gy + i * n->cols;
        if (filtered != NULL)
        {
            filter_gradient(n, n->y + i * n->cols, gy, filtered);
            gy = filtered;
        }
        /* First: gx may be gy. */
        if (partial != NULL)
            add_partial(n, x, gy, i, partial);
        if (n->gx != NULL)
            input_gradient(n, x, gy, i, n->gx + i * n->cols);
    }
}

static void
run_backward(moe_job *job, int64_t rows, norm *n, float *ggain, float *gbias)
{
    int64_t cols = n->cols;
    n->slab = moe_slab_rows(rows);
    int64_t slabs = (rows + n->slab - 1) / n->slab;
    if (ggain != NULL || gbias != NULL)
        n->partial = moe_alloc(job, slabs * 2 * cols, sizeof(float));
    if (n->y != NULL)
        n->filtered = moe_alloc(job, slabs * cols, sizeof(float));
    if (moe_job_code(job) == MOE_OK)
        moe_parallel(job, cols == 0 ? 0 : rows, n->slab, layer_norm_backward_range, n);
    for (int64_t i = 0; n->partial != NULL && i < slabs; i++)
    {
        const float *partial = n->partial + i * 2 * cols;
        for (int64_t j = 0; ggain != NULL && j < cols; j++)
            ggain[j] += partial[j];
        for (int64_t j = 0; gbias != NULL && j < cols; j++)
            gbias[j] += partial[cols + j];
    }
    moe_free(job, n->partial);
    moe_free(job, n->filtered);
}

void
moe_cpu_layer_norm_backward(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *gain,
                            const float *mean, const float *deviation, const float *gy, bool add, float *gx,
                            float *ggain, float *gbias)
{
    norm n = {.cols = cols,
              .x = x,
              .gain = gain,
              .mean = (float *) mean,
              .deviation = (float *) deviation,
              .gy = gy,
              .add = add,
              .gx = gx};
    run_backward(job, rows, &n, ggain, gbias);
}

void
moe_cpu_layer_norm_relu_backward(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *gain,
                                 const float *mean, const float *deviation, const float *y, float factor,
                                 const float *gy, bool add, float *gx, float *ggain, float *gbias)
{
    norm n = {.cols = cols,
              .x = x,
              .gain = gain,
              .y = (float *) y,
              .mean = (float *) mean,
              .deviation = (float *) deviation,
              .factor = factor,
              .gy = gy,
              .add = add,
              .gx = gx};
    run_backward(job, rows, &n, ggain, gbias);
}

typedef struct rows_softmax
{
    int64_t cols;
    const float *x;
    const float *gy;
    bool add;
    float *out;
} rows_softmax;

static void
softmax_range(int64_t begin, int64_t end, void *arg)
{
    const rows_softmax *s = arg;
    for (int64_t i = begin; i < end; i++)
    {
        const float *x = s->x + i * s->cols;
        float *y = s->out + i * s->cols;
        float high = x[0];
        for (int64_t j = 1; j < s->cols; j++)
            high = x[j] > high ? x[j] : high;
        float sum = 0;
        for (int64_t j = 0; j < s->cols; j++)
            sum += y[j] = expf(x[j] - high);
        for (int64_t j = 0; j < s->cols; j++)
            y[j] /= sum;
    }
}

void
moe_cpu_softmax(moe_job *job, int64_t rows, int64_t cols, const float *x, float *y)
{
    rows_softmax s = {.cols = cols, .x = x, .out = y};
    moe_parallel(job, cols == 0 ? 0 : rows, moe_row_grain(cols), softmax_range, &s);
}

static void
softmax_backward_range(int64_t begin, int64_t end, void *arg)
{
    const rows_softmax *s = arg;
    bool add = s->add;
    for (int64_t i = begin; i < end; i++)
    {
        const float *y = s->x + i * s->cols;
        const float *gy = s->gy + i * s->cols;
        float *gx = s->out + i * s->cols;
        float dot = moe_row_product(y, gy, s->cols);
        MOE_NO_DEPENDENCE
        for (int64_t j = 0; j < s->cols; j++)
        {
            float g = y[j] * (gy[j] - dot);
            gx[j] = add ? gx[j] + g : g;
        }
    }
}

void
moe_cpu_softmax_backward(moe_job *job, int64_t rows, int64_t cols, const float *y, const float *gy, bool add, float *gx)
{
    rows_softmax s = {.cols = cols, .x = y, .gy = gy, .add = add, .out = gx};
    moe_parallel(job, cols == 0 ? 0 : rows, moe_row_grain(cols), softmax_backward_range, &s);
}
