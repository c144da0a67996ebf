/*
 * reference_mixture.c: gates, router losses and grouped products in their plainest form.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/reference.h"
#include "kernels/random.h"

void
moe_reference_top_k_gate(moe_job *job, int64_t rows, int64_t experts, int k, float noise, uint64_t key,
                         const float *logits, float *gates)
{
    for (int64_t i = 0; i < rows; i++, gates += experts)
    {
        float score[experts];
        bool chosen[experts];
        for (int64_t e = 0; e < experts; e++)
        {
            uint64_t counter = (uint64_t) (i * experts + e);
            score[e] = logits[counter] + (noise > 0 ? noise * (float) moe_random_normal(key, counter) : 0);
            chosen[e] = false;
        }
        double total = 0;
        for (int n = 0; n < k; n++)
        {
            int64_t best = -1;
            for (int64_t e = 0; e < experts; e++)
            {
                if (!chosen[e] && (best < 0 || score[e] > score[best]))
                    best = e;
            }
            chosen[best] = true;
            total += exp(score[best]);
        }
        for (int64_t e = 0; e < experts; e++)
            gates[e] = chosen[e] ? (float) (exp(score[e]) / total) : 0;
    }
}

/* Whether column a comes before column b: the larger number, the lower column of equals, NaN last. */
static bool
comes_before(const float *x, int64_t a, int64_t b)
{
    if (isnan(x[a]) || isnan(x[b]))
        return isnan(x[a]) == isnan(x[b]) ? a < b : isnan(x[b]);
    return x[a] > x[b] || (x[a] == x[b] && a < b);
}

/* A column is chosen if fewer than k come before it. */
void
moe_reference_top_k(moe_job *job, int64_t rows, int64_t cols, int k, const float *x, int32_t *chosen)
{
    for (int64_t i = 0; i < rows; i++, x += cols)
    {
        for (int64_t c = 0; c < cols; c++)
        {
            int before = 0;
            for (int64_t other = 0; other < cols; other++)
                before += comes_before(x, other, c);
            if (before < k)
                *chosen++ = (int32_t) c;
        }
    }
}

void
moe_reference_pick(moe_job *job, int64_t rows, int64_t cols, int k, const int32_t *chosen, const float *x, float *out)
{
    for (int64_t i = 0; i < rows * k; i++)
        out[i] = x[i / k * cols + chosen[i]];
}

void
moe_reference_pick_backward(moe_job *job, int64_t rows, int64_t cols, int k, const int32_t *chosen, const float *gy,
                            bool add, float *gx)
{
    for (int64_t i = 0; !add && i < rows * cols; i++)
        gx[i] = 0;
    for (int64_t i = 0; i < rows * k; i++)
        gx[i / k * cols + chosen[i]] += gy[i];
}

void
moe_reference_group(moe_job *job, int64_t rows, int k, int groups, const int32_t *chosen, int64_t *offset, int32_t *row,
                    int32_t *place)
{
    int64_t next = 0;
    for (int g = 0; g < groups; g++)
    {
        offset[g] = next;
        for (int64_t i = 0; i < rows * k; i++)
        {
            if (chosen[i] != g)
                continue;
            row[next] = (int32_t) (i / k);
            place[i] = (int32_t) next++;
        }
    }
    offset[groups] = next;
}

void
moe_reference_balance_loss(moe_job *job, int64_t rows, int64_t experts, const float *logits, const float *gates,
                           float *value, float *gradient)
{
    double loss = 0;
    double share[experts];
    memset(share, 0, sizeof(share));
    for (int64_t i = 0; i < rows; i++)
    {
        int64_t best = 0;
        for (int64_t e = 0; e < experts; e++)
            best = gates[i * experts + e] > gates[i * experts + best] ? e : best;
        share[best] += 1.0 / (double) rows;
    }
    for (int64_t i = 0; experts > 0 && i < rows; i++)
        moe_reference_softmax_row(logits + i * experts, experts, gradient + i * experts);
    for (int64_t i = 0; i < rows; i++)
    {
        float *p = gradient + i * experts;
        double expected = 0;
        for (int64_t e = 0; e < experts; e++)
            expected += share[e] * p[e];
        loss += expected * (double) experts / (double) rows;
        for (int64_t e = 0; e < experts; e++)
            p[e] = (float) (p[e] * (share[e] - expected) * (double) experts / (double) rows);
    }
    *value = (float) loss;
}

void
moe_reference_z_loss(moe_job *job, int64_t rows, int64_t experts, const float *logits, float *value, float *gradient)
{
    double loss = 0;
    for (int64_t i = 0; experts > 0 && i < rows; i++)
    {
        double z = moe_reference_softmax_row(logits + i * experts, experts, gradient + i * experts);
        loss += z * z / (double) rows;
        for (int64_t e = 0; e < experts; e++)
            gradient[i * experts + e] *= (float) (2 * z / (double) rows);
    }
    *value = (float) loss;
}

void
moe_reference_grouped_linear(moe_job *job, int groups, int64_t n, int64_t k, int64_t m, const int64_t *offset,
                             const int32_t *row, const float *x, const float *w, const float *b, float *out)
{
    for (int g = 0; g < groups; g++)
    {
        for (int64_t p = offset[g]; p < offset[g + 1]; p++)
        {
            for (int64_t j = 0; j < m; j++)
            {
                double sum = b == NULL ? 0 : b[g * m + j];
                for (int64_t l = 0; l < k; l++)
                    sum += (double) x[(row == NULL ? p : row[p]) * k + l] * w[(g * k + l) * m + j];
                out[p * m + j] = (float) sum;
            }
        }
    }
}

void
moe_reference_grouped_linear_input(moe_job *job, int groups, int64_t n, int64_t k, int64_t m, const int64_t *offset,
                                   const float *gy, const float *w, bool add, float *gx)
{
    for (int g = 0; g < groups; g++)
    {
        for (int64_t p = offset[g]; p < offset[g + 1]; p++)
        {
            for (int64_t l = 0; l < k; l++)
            {
                double sum = 0;
                for (int64_t j = 0; j < m; j++)
                    sum += (double) gy[p * m + j] * w[(g * k + l) * m + j];
                moe_reference_put(&gx[p * k + l], add, sum);
            }
        }
    }
}

void
moe_reference_grouped_linear_weight(moe_job *job, int groups, int64_t n, int64_t k, int64_t m, const int64_t *offset,
                                    const int32_t *row, const float *x, const float *gy, float *gw, float *gb)
{
    for (int g = 0; g < groups; g++)
    {
        for (int64_t j = 0; j < m; j++)
        {
            for (int64_t l = 0; l < k; l++)
            {
                double sum = 0;
                for (int64_t p = offset[g]; p < offset[g + 1]; p++)
                    sum += (double) x[(row == NULL ? p : row[p]) * k + l] * gy[p * m + j];
                moe_reference_put(&gw[(g * k + l) * m + j], true, sum);
            }
            double sum = 0;
            for (int64_t p = offset[g]; p < offset[g + 1]; p++)
                sum += gy[p * m + j];
            if (gb != NULL)
                moe_reference_put(&gb[g * m + j], true, sum);
        }
    }
}
