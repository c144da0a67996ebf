/*
 * norm.c: LayerNorm of each row (Ba, Kiros, Hinton 2016).
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
#include "kernels/cpu/vector.h"

#define EPSILON       1e-5f
#define BESIDE_FLOATS 1024 /* of rows that are worked on side by side: few enough for the first-level cache */

typedef struct norm
{
    int64_t cols;
    const float *x;
    const float *gain;
    const float *bias;
    float *y;
    float *mean;
    float *deviation;
    uint64_t key; /* of dropout */
    int32_t threshold;
    float factor; /* on what is kept, and on the gradient of what is above 0 */
    bool stream;
    const float *gy;
    bool add;
    float *gx;
    float *partial;  /* [slabs, 2 * cols]: sums for gain, then for bias; NULL if not wanted */
    float *filtered; /* [slabs, cols]: one row's gradient; NULL where y is */
    int64_t slab;
} norm;

/* How many rows are worked on side by side: a row's sums wait for each other, those of several do not. */
MOE_INLINE int64_t
rows_beside(int64_t cols)
{
    return cols > BESIDE_FLOATS ? 1 : BESIDE_FLOATS / cols;
}

/* The mean and the deviation of rows [begin, end), kept. */
MOE_INLINE void
measure_rows(const norm *n, int64_t begin, int64_t end, int64_t cols)
{
    for (int64_t i = begin; i < end; i++)
    {
        const float *x = n->x + i * cols;
        moe_fetch_ahead(x, cols);
        n->mean[i] = moe_row_sum(x, cols) / (float) cols;
    }
    for (int64_t i = begin; i < end; i++)
        n->deviation[i] = 1.0f / sqrtf(moe_row_squares(n->x + i * cols, n->mean[i], cols) / (float) cols + EPSILON);
}

/*
 * Numbers [j, end) of a row, normalised; clipped where `relu`, and thinned out by draws of theirs where these are
 * given. relu, stream and whether there are draws are constants.
 */
MOE_INLINE void
finish_row(const norm *n, const float *x, float mean, float deviation, int64_t j, int64_t end, bool relu,
           const int32_t *draw, bool stream, float *y)
{
    const float *gain = n->gain;
    const float *bias = n->bias;
    const int32_t threshold = n->threshold;
    const float factor = n->factor;
    for (; j + MOE_LANES <= end; j += MOE_LANES)
    {
        moe_lanes h = (moe_load(x + j) - mean) * deviation * moe_load(gain + j) + moe_load(bias + j);
        /* Written so that NaN stays NaN: a failure must not be hidden. */
        if (relu)
            h = (moe_lanes) (~(moe_whole_lanes) (h <= 0) & (moe_whole_lanes) h);
        if (draw != NULL)
        {
            moe_whole_lanes kept = *(const moe_whole_lanes *) draw >= threshold;
            h *= (moe_lanes) (kept & (moe_whole_lanes) ((moe_lanes){0} + factor));
            draw += MOE_LANES;
        }
        moe_store(y + j, h, stream);
    }
    for (; j < end; j++)
    {
        float h = (x[j] - mean) * deviation * gain[j] + bias[j];
        if (relu)
            h = h <= 0 ? 0 : h;
        if (draw != NULL)
            h *= *draw++ >= threshold ? factor : 0;
        y[j] = h;
    }
}

/* Rows [begin, end); relu and stream are constants. */
MOE_INLINE void
normalise_rows(const norm *n, int64_t begin, int64_t end, int64_t cols, bool relu, bool stream)
{
    int64_t step = rows_beside(cols);
    for (int64_t from = begin; from < end; from += step)
    {
        int64_t to = end - from < step ? end : from + step;
        measure_rows(n, from, to, cols);
        for (int64_t i = from; i < to; i++)
            finish_row(n, n->x + i * cols, n->mean[i], n->deviation[i], 0, cols, relu, NULL, stream, n->y + i * cols);
    }
    moe_end_stream(stream);
}

static void
layer_norm_range(int64_t begin, int64_t end, void *arg)
{
    const norm *n = arg;
    if (n->stream)
        normalise_rows(n, begin, end, n->cols, false, true);
    else
        MOE_AT_WIDTH(n->cols, normalise_rows, n, begin, end, cols, false, false);
}

void
moe_cpu_layer_norm(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *gain, const float *bias,
                   float *y, float *mean, float *deviation)
{
    norm n = {.cols = cols,
              .x = x,
              .gain = gain,
              .bias = bias,
              .y = y,
              .mean = mean,
              .deviation = deviation,
              .stream = moe_streams(y, rows * cols, cols)};
    moe_parallel(job, cols == 0 ? 0 : rows, moe_row_grain(cols), layer_norm_range, &n);
}

static void
layer_norm_relu_range(int64_t begin, int64_t end, void *arg)
{
    const norm *n = arg;
    if (n->stream)
        normalise_rows(n, begin, end, n->cols, true, true);
    else
        MOE_AT_WIDTH(n->cols, normalise_rows, n, begin, end, cols, true, false);
}

/* The draws of numbers [begin, end) of the matrix into draw; they come in blocks that rows do not know. */
MOE_INLINE const int32_t *
draws_of(const norm *n, int64_t begin, int64_t end, int32_t *draw)
{
    int64_t first = begin / MOE_DRAW_BLOCK;
    for (int64_t block = first; block * MOE_DRAW_BLOCK < end; block++)
        moe_fill_draws(n->key, block, draw + (block - first) * MOE_DRAW_BLOCK);
    return draw + begin % MOE_DRAW_BLOCK;
}

/* Rows [begin, end), with dropout. */
MOE_INLINE void
normalise_and_thin(const norm *n, int64_t begin, int64_t end, int64_t cols, bool stream)
{
    int32_t draw[BESIDE_FLOATS + 2 * MOE_DRAW_BLOCK];
    int64_t step = rows_beside(cols);
    for (int64_t from = begin; from < end; from += step)
    {
        int64_t to = end - from < step ? end : from + step;
        measure_rows(n, from, to, cols);
        if (cols <= BESIDE_FLOATS)
        {
            const int32_t *own = draws_of(n, from * cols, to * cols, draw);
            for (int64_t i = from; i < to; i++, own += cols)
                finish_row(n, n->x + i * cols, n->mean[i], n->deviation[i], 0, cols, true, own, stream,
                           n->y + i * cols);
            continue;
        }
        for (int64_t j = 0; j < cols; j += BESIDE_FLOATS)
        {
            int64_t last = cols - j < BESIDE_FLOATS ? cols : j + BESIDE_FLOATS;
            const int32_t *own = draws_of(n, from * cols + j, from * cols + last, draw);
            finish_row(n, n->x + from * cols, n->mean[from], n->deviation[from], j, last, true, own, stream,
                       n->y + from * cols);
        }
    }
    moe_end_stream(stream);
}

static void
layer_norm_dropout_range(int64_t begin, int64_t end, void *arg)
{
    const norm *n = arg;
    if (n->stream)
        normalise_and_thin(n, begin, end, n->cols, true);
    else
        MOE_AT_WIDTH(n->cols, normalise_and_thin, n, begin, end, cols, false);
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
              .key = key,
              .threshold = (int32_t) moe_dropped_draws(rate),
              .factor = moe_dropout_factor(rate),
              .stream = moe_streams(y, rows * cols, cols)};
    moe_parallel(job, cols == 0 ? 0 : rows, moe_row_grain(cols),
                 rate > 0 ? layer_norm_dropout_range : layer_norm_relu_range, &n);
}

/* Sums along one row of its gradient times gain, g, and of g * (x - mean); by chains. */
typedef struct row_sums
{
    moe_lanes g[MOE_CHAINS];
    moe_lanes gx[MOE_CHAINS];
} row_sums;

/* One vector of a row: what it adds to the sums along the row, and to those of the slab. */
MOE_INLINE void
add_vector(const norm *n, const float *x, const float *gy, float mean, float deviation, int64_t j, int chain,
           row_sums *sums, float *restrict partial)
{
    moe_lanes d = moe_load(x + j) - mean;
    moe_lanes own = moe_load(gy + j);
    moe_lanes g = own * moe_load(n->gain + j);
    sums->g[chain] += g;
    sums->gx[chain] += g * d;
    if (partial == NULL)
        return;
    MOE_LANES_AT(partial + j) += own * d * deviation;
    MOE_LANES_AT(partial + n->cols + j) += own;
}

/* The means along a row of g and of g * h; gy * h and gy are added to the slab's. */
MOE_INLINE void
measure_gradient(const norm *n, const float *x, const float *gy, float mean, float deviation, int64_t cols,
                 float *restrict partial, float *mean_g, float *mean_gh)
{
    row_sums sums = {{{0}}, {{0}}};
    int64_t j = 0;
    for (; j + MOE_CHAINS * MOE_LANES <= cols; j += MOE_CHAINS * MOE_LANES)
        for (int c = 0; c < MOE_CHAINS; c++)
            add_vector(n, x, gy, mean, deviation, j + c * MOE_LANES, c, &sums, partial);
    for (; j + MOE_LANES <= cols; j += MOE_LANES)
        add_vector(n, x, gy, mean, deviation, j, 0, &sums, partial);
    float g = moe_add_chains(sums.g);
    float gx = moe_add_chains(sums.gx);
    for (; j < cols; j++)
    {
        float d = x[j] - mean;
        g += gy[j] * n->gain[j];
        gx += gy[j] * n->gain[j] * d;
        if (partial == NULL)
            continue;
        partial[j] += gy[j] * d * deviation;
        partial[n->cols + j] += gy[j];
    }
    *mean_g = g / (float) cols;
    *mean_gh = gx * deviation / (float) cols;
}

/* gx may be gy. */
MOE_INLINE void
input_gradient(const norm *n, const float *x, const float *gy, float mean, float deviation, float mean_g, float mean_gh,
               int64_t cols, bool stream, float *gx)
{
    const float *gain = n->gain;
    int64_t j = 0;
    for (; j + MOE_LANES <= cols; j += MOE_LANES)
    {
        moe_lanes h = (moe_load(x + j) - mean) * deviation;
        moe_lanes g = deviation * (moe_load(gy + j) * moe_load(gain + j) - mean_g - h * mean_gh);
        if (n->add)
            g += moe_load(gx + j);
        moe_store(gx + j, g, stream);
    }
    for (; j < cols; j++)
    {
        float g = deviation * (gy[j] * gain[j] - mean_g - (x[j] - mean) * deviation * mean_gh);
        gx[j] = n->add ? gx[j] + g : g;
    }
}

/* The row's gradient, filtered by what came out of relu and dropout. */
MOE_INLINE void
filter_gradient(const norm *n, const float *y, const float *gy, int64_t cols, float *restrict g)
{
    float factor = n->factor;
    for (int64_t j = 0; j < cols; j++)
        g[j] = gy[j] * (y[j] > 0 ? factor : 0);
}

/* Rows [begin, end) of a slab; stream is a constant. */
MOE_INLINE void
gradient_rows(const norm *n, int64_t begin, int64_t end, int64_t cols, bool stream)
{
    int64_t slab = begin / n->slab;
    float *partial = n->partial == NULL ? NULL : n->partial + slab * 2 * cols;
    float *filtered = n->filtered == NULL ? NULL : n->filtered + slab * cols;
    for (int64_t i = begin; i < end; i++)
    {
        const float *x = n->x + i * cols;
        const float *gy = n->gy + i * cols;
        float mean_g, mean_gh;
        moe_fetch_ahead(x, cols);
        moe_fetch_ahead(gy, cols);
        if (filtered != NULL)
        {
            moe_fetch_ahead(n->y + i * cols, cols);
            filter_gradient(n, n->y + i * cols, gy, cols, filtered);
            gy = filtered;
        }
        measure_gradient(n, x, gy, n->mean[i], n->deviation[i], cols, partial, &mean_g, &mean_gh);
        if (n->gx != NULL)
            input_gradient(n, x, gy, n->mean[i], n->deviation[i], mean_g, mean_gh, cols, stream, n->gx + i * cols);
    }
    moe_end_stream(stream);
}

static void
layer_norm_backward_range(int64_t begin, int64_t end, void *arg)
{
    const norm *n = arg;
    if (n->stream)
        gradient_rows(n, begin, end, n->cols, true);
    else
        MOE_AT_WIDTH(n->cols, gradient_rows, n, begin, end, cols, false);
}

static void
run_backward(moe_job *job, int64_t rows, norm *n, float *ggain, float *gbias)
{
    int64_t cols = n->cols;
    n->slab = moe_slab_rows(rows);
    n->stream = n->gx != NULL && !n->add && n->gx != n->gy && moe_streams(n->gx, rows * cols, cols);
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
