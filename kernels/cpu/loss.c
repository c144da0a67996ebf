/*
 * loss.c: weighted means of losses over rows, each with its derivative.
 *
 * Sums are in double and by slabs whose partial results are added in order.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

typedef struct loss
{
    moe_loss_kind kind;
    int64_t classes;
    const float *x;
    const float *label;
    const int32_t *class;
    const float *weight;
    double total_weight;
    float *gradient;
    double partial[MOE_MOST_SLABS];
    int64_t slab;
} loss;

/* The loss of one row, and its derivative by x. */
static double
row_loss(moe_loss_kind kind, double x, double label, double *derivative)
{
    double d = x - label;
    switch (kind)
    {
        case MOE_LOSS_LOGISTIC:
            /* log(1 + e^x) - label * x, without overflow. */
            *derivative = 1 / (1 + exp(-x)) - label;
            return (x > 0 ? x : 0) + log1p(exp(-fabs(x))) - label * x;
        case MOE_LOSS_ABSOLUTE:
            *derivative = d > 0 ? 1 : d < 0 ? -1 : 0;
            return fabs(d);
        case MOE_LOSS_SQUARED:
            break;
    }
    *derivative = 2 * d;
    return d * d;
}

static double
total_weight(const float *weight, int64_t rows)
{
    double total = weight == NULL ? (double) rows : 0;
    for (int64_t i = 0; weight != NULL && i < rows; i++)
        total += weight[i];
    return total;
}

static double
sum_partials(const loss *l)
{
    double sum = 0;
    for (int i = 0; i < MOE_MOST_SLABS; i++)
        sum += l->partial[i];
    return sum;
}

static void
loss_range(int64_t begin, int64_t end, void *arg)
{
    loss *l = arg;
    double sum = 0;
    for (int64_t i = begin; i < end; i++)
    {
        double w = (l->weight == NULL ? 1 : l->weight[i]) / l->total_weight;
        double derivative;
        sum += w * row_loss(l->kind, l->x[i], l->label[i], &derivative);
        l->gradient[i] = (float) (w * derivative);
    }
    l->partial[begin / l->slab] = sum;
}

void
moe_cpu_loss(moe_job *job, moe_loss_kind kind, int64_t rows, const float *x, const float *label, const float *weight,
             float *value, float *gradient)
{
    loss l = {.kind = kind,
              .x = x,
              .label = label,
              .weight = weight,
              .total_weight = total_weight(weight, rows),
              .gradient = gradient,
              .slab = moe_slab_rows(rows)};
    if (l.total_weight == 0)
    {
        memset(gradient, 0, (size_t) rows * sizeof(float));
        *value = 0;
        return;
    }
    moe_parallel(job, rows, l.slab, loss_range, &l);
    *value = (float) sum_partials(&l);
}

static void
cross_entropy_range(int64_t begin, int64_t end, void *arg)
{
    loss *l = arg;
    double sum = 0;
    for (int64_t i = begin; i < end; i++)
    {
        const float *x = l->x + i * l->classes;
        float *gradient = l->gradient + i * l->classes;
        double w = (l->weight == NULL ? 1 : l->weight[i]) / l->total_weight;
        double high = x[0];
        for (int64_t c = 1; c < l->classes; c++)
            high = x[c] > high ? x[c] : high;
        double total = 0;
        for (int64_t c = 0; c < l->classes; c++)
            total += exp(x[c] - high);
        for (int64_t c = 0; c < l->classes; c++)
            gradient[c] = (float) (w * (exp(x[c] - high) / total - (c == l->class[i])));
        sum += w * (high + log(total) - x[l->class[i]]);
    }
    l->partial[begin / l->slab] = sum;
}

void
moe_cpu_cross_entropy(moe_job *job, int64_t rows, int64_t classes, const float *logits, const int32_t *label,
                      const float *weight, float *value, float *gradient)
{
    loss l = {.classes = classes,
              .x = logits,
              .class = label,
              .weight = weight,
              .total_weight = total_weight(weight, rows),
              .gradient = gradient,
              .slab = moe_slab_rows(rows)};
    if (l.total_weight == 0)
    {
        memset(gradient, 0, (size_t) (rows * classes) * sizeof(float));
        *value = 0;
        return;
    }
    moe_parallel(job, rows, l.slab, cross_entropy_range, &l);
    *value = (float) sum_partials(&l);
}
