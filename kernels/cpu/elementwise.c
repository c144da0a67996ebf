/*
 * elementwise.c: loops over the numbers of matrices of one shape.
 *
 * All are bound by memory. Where the output may be the input itself, the loop
 * is marked free of dependences between iterations, which holds for exact
 * overlap.
 */
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/random.h"

/* Floats of all terms of a sum that stay in the first-level cache. */
#define SUM_BLOCK 2048
/* Numbers whose draws are made together; a divisor of MOE_GRAIN. */
#define DROPOUT_BLOCK 512

typedef struct elementwise
{
    const float *a;
    const float *b;
    const float *const *terms;
    int n;
    float factor;
    uint64_t key;
    uint32_t threshold;
    bool add;
    float *out;
} elementwise;

MOE_MULTIVERSION static void
sum_range(int64_t begin, int64_t end, void *arg)
{
    const elementwise *e = arg;
    for (int64_t block = begin; block < end; block += SUM_BLOCK)
    {
        int64_t count = end - block < SUM_BLOCK ? end - block : SUM_BLOCK;
        float *restrict out = e->out + block;
        const float *first = e->terms[0] + block;
        const float *second = e->n > 1 ? e->terms[1] + block : NULL;
        for (int64_t i = 0; i < count; i++)
            out[i] = second == NULL ? first[i] : first[i] + second[i];
        for (int t = 2; t < e->n; t++)
        {
            const float *term = e->terms[t] + block;
            for (int64_t i = 0; i < count; i++)
                out[i] += term[i];
        }
    }
}

void
moe_cpu_sum(moe_job *job, int64_t count, const float *const *terms, int n, float *out)
{
    elementwise e = {.terms = terms, .n = n, .out = out};
    moe_parallel(job, count, MOE_GRAIN, sum_range, &e);
}

MOE_MULTIVERSION static void
scale_range(int64_t begin, int64_t end, void *arg)
{
    const elementwise *e = arg;
    const float *a = e->a;
    float *out = e->out;
    float factor = e->factor;
    bool add = e->add;
    MOE_NO_DEPENDENCE
    for (int64_t i = begin; i < end; i++)
        out[i] = add ? out[i] + factor * a[i] : factor * a[i];
}

void
moe_cpu_scale(moe_job *job, int64_t count, float factor, const float *x, bool add, float *out)
{
    elementwise e = {.a = x, .factor = factor, .add = add, .out = out};
    moe_parallel(job, count, MOE_GRAIN, scale_range, &e);
}

MOE_MULTIVERSION static void
multiply_range(int64_t begin, int64_t end, void *arg)
{
    const elementwise *e = arg;
    const float *a = e->a;
    const float *b = e->b;
    float *restrict out = e->out;
    bool add = e->add;
    for (int64_t i = begin; i < end; i++)
        out[i] = add ? out[i] + a[i] * b[i] : a[i] * b[i];
}

void
moe_cpu_multiply(moe_job *job, int64_t count, const float *a, const float *b, bool add, float *out)
{
    elementwise e = {.a = a, .b = b, .add = add, .out = out};
    moe_parallel(job, count, MOE_GRAIN, multiply_range, &e);
}

MOE_MULTIVERSION static void
relu_range(int64_t begin, int64_t end, void *arg)
{
    const elementwise *e = arg;
    const float *a = e->a;
    float *restrict out = e->out;
    /* Written so that NaN stays NaN: a failure must not be hidden. */
    for (int64_t i = begin; i < end; i++)
        out[i] = a[i] <= 0 ? 0 : a[i];
}

void
moe_cpu_relu(moe_job *job, int64_t count, const float *x, float *out)
{
    elementwise e = {.a = x, .out = out};
    moe_parallel(job, count, MOE_GRAIN, relu_range, &e);
}

MOE_MULTIVERSION static void
relu_backward_range(int64_t begin, int64_t end, void *arg)
{
    const elementwise *e = arg;
    const float *y = e->a;
    const float *gy = e->b;
    float *out = e->out;
    bool add = e->add;
    MOE_NO_DEPENDENCE
    for (int64_t i = begin; i < end; i++)
    {
        float g = y[i] > 0 ? gy[i] : 0;
        out[i] = add ? out[i] + g : g;
    }
}

void
moe_cpu_relu_backward(moe_job *job, int64_t count, const float *y, const float *gy, bool add, float *gx)
{
    elementwise e = {.a = y, .b = gy, .add = add, .out = gx};
    moe_parallel(job, count, MOE_GRAIN, relu_backward_range, &e);
}

/* One draw of 64 bits decides over four numbers, by 16 bits each; drawn ahead of the loop that vectorises. */
MOE_MULTIVERSION static void
dropout_range(int64_t begin, int64_t end, void *arg)
{
    const elementwise *e = arg;
    uint32_t threshold = e->threshold;
    float factor = e->factor;
    bool add = e->add;
    uint16_t draw[DROPOUT_BLOCK];
    for (int64_t block = begin; block < end; block += DROPOUT_BLOCK)
    {
        int64_t count = end - block < DROPOUT_BLOCK ? end - block : DROPOUT_BLOCK;
        const float *a = e->a + block;
        float *out = e->out + block;
        for (int64_t i = 0; i < count; i += 4)
        {
            uint64_t bits = moe_random_bits(e->key, (uint64_t) (block + i) / 4);
            for (int k = 0; k < 4; k++)
                draw[i + k] = (uint16_t) (bits >> (16 * k));
        }
        MOE_NO_DEPENDENCE
        for (int64_t i = 0; i < count; i++)
        {
            float kept = draw[i] >= threshold ? a[i] * factor : 0;
            out[i] = add ? out[i] + kept : kept;
        }
    }
}

void
moe_cpu_dropout(moe_job *job, int64_t count, float rate, uint64_t key, const float *x, bool add, float *out)
{
    long threshold = lrintf(rate * 65536.0f);
    threshold = threshold > 65535 ? 65535 : threshold;
    elementwise e = {.a = x,
                     .add = add,
                     .out = out,
                     .key = key,
                     .threshold = (uint32_t) threshold,
                     .factor = 65536.0f / (float) (65536 - threshold)};
    moe_parallel(job, count, MOE_GRAIN, dropout_range, &e);
}
