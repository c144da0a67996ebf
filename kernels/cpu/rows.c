/*
 * rows.c: LayerNorm (Ba, Kiros, Hinton 2016) and softmax of each row.
 *
 * With h = (x - mean) * deviation and g = gy * gain, LayerNorm's backward is
 *   gx = deviation * (g - mean(g) - h * mean(g * h)).
 */
#include <math.h>

#include "kernels/cpu/cpu.h"

#define EPSILON 1e-5f

typedef struct norm
{
    int64_t cols;
    const float *x;
    const float *gain;
    const float *bias;
    float *y;
    float *mean;
    float *deviation;
    const float *gy;
    bool add;
    float *gx;
    float *partial; /* [slabs, 2 * cols]: sums for gain, then for bias; NULL if not wanted */
    int64_t slab;
} norm;

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
        float mean = moe_row_sum(x, cols) / (float) cols;
        float deviation = 1.0f / sqrtf(moe_row_squares(x, mean, cols) / (float) cols + EPSILON);
        for (int64_t j = 0; j < cols; j++)
            y[j] = (x[j] - mean) * deviation * gain[j] + bias[j];
        n->mean[i] = mean;
        n->deviation[i] = deviation;
    }
}

void
moe_cpu_layer_norm(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *gain, const float *bias,
                   float *y, float *mean, float *deviation)
{
    norm n = {.cols = cols, .x = x, .gain = gain, .bias = bias, .y = y, .mean = mean, .deviation = deviation};
    moe_parallel(job, cols == 0 ? 0 : rows, moe_row_grain(cols), layer_norm_range, &n);
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
    float *partial = n->partial == NULL ? NULL : n->partial + begin / n->slab * 2 * n->cols;
    for (int64_t i = begin; i < end; i++)
    {
        const float *x = n->x + i * n->cols;
        const float *gy = n->gy + i * n->cols;
        /* First: gx may be gy. */
        if (partial != NULL)
            add_partial(n, x, gy, i, partial);
        if (n->gx != NULL)
            input_gradient(n, x, gy, i, n->gx + i * n->cols);
    }
}

void
moe_cpu_layer_norm_backward(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *gain,
                            const float *mean, const float *deviation, const float *gy, bool add, float *gx,
                            float *ggain, float *gbias)
{
    int64_t slab = moe_slab_rows(rows);
    int64_t slabs = (rows + slab - 1) / slab;
    norm n = {.cols = cols,
              .x = x,
              .gain = gain,
              .mean = (float *) mean,
              .deviation = (float *) deviation,
              .gy = gy,
              .add = add,
              .gx = gx,
              .slab = slab};
    if (ggain != NULL || gbias != NULL)
    {
        n.partial = moe_alloc(job, slabs * 2 * cols, sizeof(float));
        if (n.partial == NULL)
            return;
    }
    moe_parallel(job, cols == 0 ? 0 : rows, slab, layer_norm_backward_range, &n);
    for (int64_t i = 0; n.partial != NULL && i < slabs; i++)
    {
        const float *partial = n.partial + i * 2 * cols;
        for (int64_t j = 0; ggain != NULL && j < cols; j++)
            ggain[j] += partial[j];
        for (int64_t j = 0; gbias != NULL && j < cols; j++)
            gbias[j] += partial[cols + j];
    }
    moe_free(job, n.partial);
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
