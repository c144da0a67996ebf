/*
 * reference.c: every operation in its plainest form, in double, one thread.
 *
 * This is the definition the fast versions are checked against, and the place
 * to read what an operation does. Nothing here is meant to be fast.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/reference.h"
#include "kernels/random.h"

static void
linear(moe_job *job, int64_t n, int64_t k, int64_t m, const float *x, const float *w, const float *b, float *out)
{
    for (int64_t i = 0; i < n; i++)
    {
        for (int64_t j = 0; j < m; j++)
        {
            double sum = b == NULL ? 0 : b[j];
            for (int64_t l = 0; l < k; l++)
                sum += (double) x[i * k + l] * w[l * m + j];
            out[i * m + j] = (float) sum;
        }
    }
}

static void
linear_input(moe_job *job, int64_t n, int64_t k, int64_t m, const float *gy, const float *w, bool add, float *gx)
{
    for (int64_t i = 0; i < n; i++)
    {
        for (int64_t l = 0; l < k; l++)
        {
            double sum = 0;
            for (int64_t j = 0; j < m; j++)
                sum += (double) gy[i * m + j] * w[l * m + j];
            moe_reference_put(&gx[i * k + l], add, sum);
        }
    }
}

static void
linear_weight(moe_job *job, int64_t n, int64_t k, int64_t m, const float *x, const float *gy, float *gw)
{
    for (int64_t l = 0; l < k; l++)
    {
        for (int64_t j = 0; j < m; j++)
        {
            double sum = 0;
            for (int64_t i = 0; i < n; i++)
                sum += (double) x[i * k + l] * gy[i * m + j];
            moe_reference_put(&gw[l * m + j], true, sum);
        }
    }
}

static void
sum(moe_job *job, int64_t count, const float *const *terms, int n, float *out)
{
    for (int64_t i = 0; i < count; i++)
    {
        double total = 0;
        for (int t = 0; t < n; t++)
            total += terms[t][i];
        out[i] = (float) total;
    }
}

static void
scale(moe_job *job, int64_t count, float factor, const float *x, bool add, float *out)
{
    for (int64_t i = 0; i < count; i++)
        moe_reference_put(&out[i], add, (double) factor * x[i]);
}

static void
scale_by(moe_job *job, int64_t count, const float *factor, const float *x, bool add, float *out)
{
    scale(job, count, *factor, x, add, out);
}

static void
multiply(moe_job *job, int64_t count, const float *a, const float *b, bool add, float *out)
{
    for (int64_t i = 0; i < count; i++)
        moe_reference_put(&out[i], add, (double) a[i] * b[i]);
}

static void
add_row(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *row, float *out)
{
    for (int64_t i = 0; i < rows * cols; i++)
        out[i] = x[i] + row[i % cols];
}

static void
column_sum(moe_job *job, int64_t rows, int64_t cols, const float *x, float *out)
{
    for (int64_t j = 0; j < cols; j++)
    {
        double total = 0;
        for (int64_t i = 0; i < rows; i++)
            total += x[i * cols + j];
        moe_reference_put(&out[j], true, total);
    }
}

static void
multiply_column(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *c, bool add, float *out)
{
    for (int64_t i = 0; i < rows * cols; i++)
        moe_reference_put(&out[i], add, (double) x[i] * c[i / cols]);
}

static void
multiply_row(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *row, bool add, float *out)
{
    for (int64_t i = 0; i < rows * cols; i++)
        moe_reference_put(&out[i], add, (double) x[i] * row[i % cols]);
}

static void
row_dot(moe_job *job, int64_t rows, int64_t cols, const float *a, const float *b, bool add, float *out)
{
    for (int64_t i = 0; i < rows; i++)
    {
        double total = 0;
        for (int64_t j = 0; j < cols; j++)
            total += (double) a[i * cols + j] * b[i * cols + j];
        moe_reference_put(&out[i], add, total);
    }
}

static void
copy_block(moe_job *job, int64_t rows, int64_t cols, const float *x, int64_t x_stride, bool add, float *out,
           int64_t out_stride)
{
    for (int64_t i = 0; i < rows; i++)
    {
        for (int64_t j = 0; j < cols; j++)
            moe_reference_put(&out[i * out_stride + j], add, x[i * x_stride + j]);
    }
}

static void
relu(moe_job *job, int64_t count, const float *x, float *out)
{
    for (int64_t i = 0; i < count; i++)
        out[i] = x[i] <= 0 ? 0 : x[i];
}

static void
relu_backward(moe_job *job, int64_t count, float factor, const float *y, const float *gy, bool add, float *gx)
{
    for (int64_t i = 0; i < count; i++)
        moe_reference_put(&gx[i], add, y[i] > 0 ? factor * gy[i] : 0);
}

static void
dropout(moe_job *job, int64_t count, float rate, uint64_t key, const float *x, bool add, float *out)
{
    for (int64_t i = 0; i < count; i++)
    {
        bool dropped = moe_random_draw(key, (uint64_t) i) < moe_dropped_draws(rate);
        moe_reference_put(&out[i], add, dropped ? 0 : x[i] * moe_dropout_factor(rate));
    }
}

static void
relu_dropout(moe_job *job, int64_t count, float rate, uint64_t key, const float *x, float *out)
{
    relu(job, count, x, out);
    dropout(job, count, rate, key, out, false, out);
}

static void
exponential(moe_job *job, int64_t count, const float *x, float *out)
{
    for (int64_t i = 0; i < count; i++)
        out[i] = (float) exp(x[i] > MOE_EXP_LIMIT ? MOE_EXP_LIMIT : x[i] < -MOE_EXP_LIMIT ? -MOE_EXP_LIMIT : x[i]);
}

static void
exponential_backward(moe_job *job, int64_t count, const float *x, const float *y, const float *gy, bool add, float *gx)
{
    for (int64_t i = 0; i < count; i++)
        moe_reference_put(&gx[i], add, fabs(x[i]) >= MOE_EXP_LIMIT ? 0 : (double) y[i] * gy[i]);
}

static void
layer_norm(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *gain, const float *bias, float *y,
           float *mean, float *deviation)
{
    for (int64_t i = 0; cols > 0 && i < rows; i++, x += cols, y += cols)
    {
        double center = 0;
        double variance = 0;
        for (int64_t j = 0; j < cols; j++)
            center += x[j] / (double) cols;
        for (int64_t j = 0; j < cols; j++)
            variance += (x[j] - center) * (x[j] - center) / (double) cols;
        double inverse = 1 / sqrt(variance + 1e-5);
        for (int64_t j = 0; j < cols; j++)
            y[j] = (float) ((x[j] - center) * inverse * gain[j] + bias[j]);
        mean[i] = (float) center;
        deviation[i] = (float) inverse;
    }
}

static void
layer_norm_backward(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *gain, const float *mean,
                    const float *deviation, const float *gy, bool add, float *gx, float *ggain, float *gbias)
{
    for (int64_t i = 0; i < rows; i++, x += cols, gy += cols)
    {
        double mean_g = 0;
        double mean_gh = 0;
        for (int64_t j = 0; j < cols; j++)
        {
            double h = ((double) x[j] - mean[i]) * deviation[i];
            mean_g += (double) gy[j] * gain[j] / (double) cols;
            mean_gh += gy[j] * gain[j] * h / (double) cols;
            if (ggain != NULL)
                moe_reference_put(&ggain[j], true, gy[j] * h);
            if (gbias != NULL)
                moe_reference_put(&gbias[j], true, gy[j]);
        }
        for (int64_t j = 0; gx != NULL && j < cols; j++)
        {
            double h = ((double) x[j] - mean[i]) * deviation[i];
            moe_reference_put(&gx[i * cols + j], add, deviation[i] * ((double) gy[j] * gain[j] - mean_g - h * mean_gh));
        }
    }
}

static void
layer_norm_relu(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *gain, const float *bias,
                float rate, uint64_t key, float *y, float *mean, float *deviation)
{
    layer_norm(job, rows, cols, x, gain, bias, y, mean, deviation);
    relu(job, rows * cols, y, y);
    if (rate > 0)
        dropout(job, rows * cols, rate, key, y, false, y);
}

static void
layer_norm_relu_backward(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *gain, const float *mean,
                         const float *deviation, const float *y, float factor, const float *gy, bool add, float *gx,
                         float *ggain, float *gbias)
{
    float *g = moe_alloc(job, rows * cols, sizeof(float));
    if (g == NULL)
        return;
    relu_backward(job, rows * cols, factor, y, gy, false, g);
    layer_norm_backward(job, rows, cols, x, gain, mean, deviation, g, add, gx, ggain, gbias);
    moe_free(job, g);
}

double
moe_reference_softmax_row(const float *x, int64_t cols, float *p)
{
    double high = -INFINITY;
    double total = 0;
    for (int64_t j = 0; j < cols; j++)
        high = fmax(high, x[j]);
    for (int64_t j = 0; j < cols; j++)
        total += exp(x[j] - high);
    for (int64_t j = 0; j < cols; j++)
        p[j] = (float) (exp(x[j] - high) / total);
    return high + log(total);
}

static void
softmax(moe_job *job, int64_t rows, int64_t cols, const float *x, float *y)
{
    for (int64_t i = 0; i < rows; i++)
        moe_reference_softmax_row(x + i * cols, cols, y + i * cols);
}

static void
softmax_backward(moe_job *job, int64_t rows, int64_t cols, const float *y, const float *gy, bool add, float *gx)
{
    for (int64_t i = 0; i < rows; i++, y += cols, gy += cols, gx += cols)
    {
        double dot = 0;
        for (int64_t j = 0; j < cols; j++)
            dot += (double) y[j] * gy[j];
        for (int64_t j = 0; j < cols; j++)
            moe_reference_put(&gx[j], add, y[j] * (gy[j] - dot));
    }
}

/* The sum of entmax with threshold t, which falls as t rises. */
static double
entmax_sum(const float *x, int64_t cols, double t)
{
    double total = 0;
    for (int64_t j = 0; j < cols; j++)
        total += x[j] / 2.0 > t ? (x[j] / 2.0 - t) * (x[j] / 2.0 - t) : 0;
    return total;
}

static void
entmax(moe_job *job, int64_t rows, int64_t cols, const float *x, float *y)
{
    for (int64_t i = 0; i < rows; i++, x += cols, y += cols)
    {
        double high = -INFINITY;
        for (int64_t j = 0; j < cols; j++)
            high = fmax(high, x[j] / 2.0);
        double low = high - 1; /* where the largest number alone gives 1 */
        for (int step = 0; step < 60; step++)
        {
            double middle = (low + high) / 2;
            if (entmax_sum(x, cols, middle) > 1)
                low = middle;
            else
                high = middle;
        }
        for (int64_t j = 0; j < cols; j++)
            y[j] = (float) (x[j] / 2.0 > low ? (x[j] / 2.0 - low) * (x[j] / 2.0 - low) : 0);
    }
}

static void
entmax_backward(moe_job *job, int64_t rows, int64_t cols, const float *y, const float *gy, bool add, float *gx)
{
    for (int64_t i = 0; i < rows; i++, y += cols, gy += cols, gx += cols)
    {
        double dot = 0;
        double total = 0;
        for (int64_t j = 0; j < cols; j++)
        {
            dot += sqrt(y[j]) * gy[j];
            total += sqrt(y[j]);
        }
        for (int64_t j = 0; j < cols; j++)
            moe_reference_put(&gx[j], add, sqrt(y[j]) * (gy[j] - dot / total));
    }
}

static double
weight_of(const float *weight, int64_t rows, int64_t i)
{
    double total = 0;
    for (int64_t k = 0; k < rows; k++)
        total += weight == NULL ? 1 : weight[k];
    return total == 0 ? 0 : (weight == NULL ? 1 : weight[i]) / total;
}

static void
loss(moe_job *job, moe_loss_kind kind, int64_t rows, const float *x, const float *label, const float *weight,
     float *value, float *gradient)
{
    double total = 0;
    for (int64_t i = 0; i < rows; i++)
    {
        double w = weight_of(weight, rows, i);
        double p = 1 / (1 + exp(-(double) x[i]));
        double d = (double) x[i] - label[i];
        switch (kind)
        {
            case MOE_LOSS_LOGISTIC:
                total += w * (log1p(exp(-fabs((double) x[i]))) + fmax(x[i], 0) - (double) x[i] * label[i]);
                gradient[i] = (float) (w * (p - label[i]));
                break;
            case MOE_LOSS_ABSOLUTE:
                total += w * fabs(d);
                gradient[i] = (float) (w * ((d > 0) - (d < 0)));
                break;
            case MOE_LOSS_SQUARED:
                total += w * d * d;
                gradient[i] = (float) (w * 2 * d);
                break;
        }
    }
    *value = (float) total;
}

static void
cross_entropy(moe_job *job, int64_t rows, int64_t classes, const float *logits, const int32_t *label,
              const float *weight, float *value, float *gradient)
{
    double total = 0;
    for (int64_t i = 0; i < rows; i++)
    {
        float *p = gradient + i * classes;
        double w = weight_of(weight, rows, i);
        total += w * (moe_reference_softmax_row(logits + i * classes, classes, p) - logits[i * classes + label[i]]);
        for (int64_t c = 0; c < classes; c++)
            p[c] = (float) (w * (p[c] - (c == label[i])));
    }
    *value = (float) total;
}

static void
square_sum(moe_job *job, int64_t count, const float *x, double *out)
{
    *out = 0;
    for (int64_t i = 0; i < count; i++)
        *out += (double) x[i] * x[i];
}

static void
adam(moe_job *job, int64_t count, const moe_adam_rates *rates, const double *square_sum, float *value, float *gradient,
     float *moment1, float *moment2)
{
    double norm = sqrt(*square_sum);
    double clip = rates->clip_norm > 0 && norm > rates->clip_norm ? rates->clip_norm / norm : 1;
    for (int64_t i = 0; i < count; i++)
    {
        double g = gradient[i] * clip;
        gradient[i] = 0;
        if (!isfinite(*square_sum))
            continue;
        moment1[i] = (float) (rates->beta1 * (double) moment1[i] + (1.0 - rates->beta1) * g);
        moment2[i] = (float) (rates->beta2 * (double) moment2[i] + (1.0 - rates->beta2) * g * g);
        double root = sqrt((double) moment2[i] * rates->correction);
        value[i] = (float) (rates->shrink * (double) value[i] - rates->rate * moment1[i] / (root + rates->epsilon));
    }
}

const moe_backend moe_backend_reference = {
    .name = "reference",
    .linear = linear,
    .linear_input = linear_input,
    .linear_weight = linear_weight,
    .sum = sum,
    .scale = scale,
    .scale_by = scale_by,
    .multiply = multiply,
    .add_row = add_row,
    .column_sum = column_sum,
    .multiply_column = multiply_column,
    .multiply_row = multiply_row,
    .row_dot = row_dot,
    .copy_block = copy_block,
    .relu = relu,
    .relu_backward = relu_backward,
    .dropout = dropout,
    .relu_dropout = relu_dropout,
    .exp = exponential,
    .exp_backward = exponential_backward,
    .layer_norm = layer_norm,
    .layer_norm_backward = layer_norm_backward,
    .layer_norm_relu = layer_norm_relu,
    .layer_norm_relu_backward = layer_norm_relu_backward,
    .softmax = softmax,
    .softmax_backward = softmax_backward,
    .entmax = entmax,
    .entmax_backward = entmax_backward,
    .gather = moe_reference_gather,
    .aggregate = moe_reference_aggregate,
    .aggregate_types = moe_reference_aggregate_types,
    .aggregate_max = moe_reference_aggregate_max,
    .aggregate_max_backward = moe_reference_aggregate_max_backward,
    .edge_dot = moe_reference_edge_dot,
    .segment_softmax = moe_reference_segment_softmax,
    .segment_softmax_backward = moe_reference_segment_softmax_backward,
    .aggregate_parts = moe_reference_aggregate_parts,
    .sum_rows = moe_reference_sum_rows,
    .transpose = moe_reference_transpose,
    .prefix_sum = moe_reference_prefix_sum,
    .prefix_sum_backward = moe_reference_prefix_sum_backward,
    .window_sum = moe_reference_window_sum,
    .window_sum_backward = moe_reference_window_sum_backward,
    .top_k_gate = moe_reference_top_k_gate,
    .top_k = moe_reference_top_k,
    .pick = moe_reference_pick,
    .pick_backward = moe_reference_pick_backward,
    .group = moe_reference_group,
    .grouped_linear = moe_reference_grouped_linear,
    .grouped_linear_input = moe_reference_grouped_linear_input,
    .grouped_linear_weight = moe_reference_grouped_linear_weight,
    .balance_loss = moe_reference_balance_loss,
    .z_loss = moe_reference_z_loss,
    .loss = loss,
    .cross_entropy = cross_entropy,
    .square_sum = square_sum,
    .adam = adam,
};
