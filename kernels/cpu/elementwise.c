/*
 * elementwise.c: loops over the numbers of matrices of one shape.
 *
 * All are bound by memory. Where the output may be the input itself, the loop
 * is marked free of dependences between iterations, which holds for exact
 * overlap.
 */
#include <math.h>

#include "kernels/cpu/draws.h"
#include "kernels/cpu/vector.h"

/* Floats of all terms of a sum that stay in the first-level cache. */
#define SUM_BLOCK 2048

_Static_assert(MOE_GRAIN % MOE_DRAW_BLOCK == 0, "a chunk must begin with a block of draws");

typedef struct elementwise
{
    const float *a;
    const float *b;
    const float *c;
    const float *const *terms;
    int n;
    float factor;
    uint64_t key;
    int32_t threshold;
    bool add;
    bool stream;
    float *out;
} elementwise;

static void
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

static void
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

void
moe_cpu_scale_by(moe_job *job, int64_t count, const float *factor, const float *x, bool add, float *out)
{
    moe_cpu_scale(job, count, *factor, x, add, out);
}

static void
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

static void
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

static void
relu_backward_range(int64_t begin, int64_t end, void *arg)
{
    const elementwise *e = arg;
    const float *y = e->a;
    const float *gy = e->b;
    float *out = e->out;
    float factor = e->factor;
    bool add = e->add;
    MOE_NO_DEPENDENCE
    for (int64_t i = begin; i < end; i++)
    {
        /* A choice between constants: between results it would be a branch, and half the time a wrong one. */
        float g = gy[i] * (y[i] > 0 ? factor : 0);
        out[i] = add ? out[i] + g : g;
    }
}

void
moe_cpu_relu_backward(moe_job *job, int64_t count, float factor, const float *y, const float *gy, bool add, float *gx)
{
    elementwise e = {.a = y, .b = gy, .factor = factor, .add = add, .out = gx};
    moe_parallel(job, count, MOE_GRAIN, relu_backward_range, &e);
}

static void
dropout_range(int64_t begin, int64_t end, void *arg)
{
    const elementwise *e = arg;
    int32_t threshold = e->threshold;
    float factor = e->factor;
    bool add = e->add;
    int32_t draw[MOE_DRAW_BLOCK];
    for (int64_t block = begin; block < end; block += MOE_DRAW_BLOCK)
    {
        int64_t count = end - block < MOE_DRAW_BLOCK ? end - block : MOE_DRAW_BLOCK;
        const float *a = e->a + block;
        float *out = e->out + block;
        moe_fill_draws(e->key, block / MOE_DRAW_BLOCK, draw);
        MOE_NO_DEPENDENCE
        for (int64_t i = 0; i < count; i++)
        {
            float kept = a[i] * (draw[i] >= threshold ? factor : 0);
            out[i] = add ? out[i] + kept : kept;
        }
    }
}

/* Numbers [begin, end), a whole number of blocks of draws but for the last; stream is a constant. */
MOE_INLINE void
relu_and_thin(const elementwise *e, int64_t begin, int64_t end, bool stream)
{
    moe_lanes factor = (moe_lanes){0} + e->factor;
    int32_t draw[MOE_DRAW_BLOCK];
    for (int64_t block = begin; block < end; block += MOE_DRAW_BLOCK)
    {
        int64_t stop = end - block < MOE_DRAW_BLOCK ? end : block + MOE_DRAW_BLOCK;
        moe_fill_draws(e->key, block / MOE_DRAW_BLOCK, draw);
        int64_t i = block;
        /* As in relu_range, NaN stays NaN. */
        for (; i + MOE_LANES <= stop; i += MOE_LANES)
        {
            moe_lanes x = moe_load(e->a + i);
            moe_whole_lanes kept = *(const moe_whole_lanes *) (draw + i - block) >= e->threshold;
            x = moe_choose(x <= 0, (moe_lanes){0}, x) * moe_choose(kept, factor, (moe_lanes){0});
            moe_store(e->out + i, x, stream);
        }
        for (; i < stop; i++)
            e->out[i] = (e->a[i] <= 0 ? 0 : e->a[i]) * (draw[i - block] >= e->threshold ? e->factor : 0);
    }
    moe_end_stream(stream);
}

static void
relu_dropout_range(int64_t begin, int64_t end, void *arg)
{
    const elementwise *e = arg;
    if (e->stream)
        relu_and_thin(e, begin, end, true);
    else
        relu_and_thin(e, begin, end, false);
}

void
moe_cpu_dropout(moe_job *job, int64_t count, float rate, uint64_t key, const float *x, bool add, float *out)
{
    elementwise e = {.a = x,
                     .key = key,
                     .threshold = (int32_t) moe_dropped_draws(rate),
                     .factor = moe_dropout_factor(rate),
                     .add = add,
                     .out = out};
    moe_parallel(job, count, MOE_GRAIN, dropout_range, &e);
}

void
moe_cpu_relu_dropout(moe_job *job, int64_t count, float rate, uint64_t key, const float *x, float *out)
{
    elementwise e = {.a = x,
                     .key = key,
                     .threshold = (int32_t) moe_dropped_draws(rate),
                     .factor = moe_dropout_factor(rate),
                     .stream = moe_streams(out, count, MOE_LANES),
                     .out = out};
    moe_parallel(job, count, MOE_GRAIN, relu_dropout_range, &e);
}

/* Written so that NaN stays NaN. */
MOE_INLINE moe_lanes
limited_exp(moe_lanes x)
{
    const moe_lanes limit = (moe_lanes){0} + MOE_EXP_LIMIT;
    x = moe_choose(x > limit, limit, x);
    return moe_exp_lanes(moe_choose(x < -limit, -limit, x));
}

/* Numbers [begin, end); stream is a constant. */
MOE_INLINE void
limited_exps(const elementwise *e, int64_t begin, int64_t end, bool stream)
{
    const float *a = e->a;
    float *restrict out = e->out;
    int64_t i = begin;
    for (; i + MOE_LANES <= end; i += MOE_LANES)
    {
        __builtin_prefetch(a + i + MOE_FETCH_AHEAD);
        moe_store(out + i, limited_exp(moe_load(a + i)), stream);
    }
    moe_lanes rest = limited_exp(moe_load_some(a + i, end - i, 0));
    memcpy(out + i, &rest, (size_t) (end - i) * sizeof(float));
    moe_end_stream(stream);
}

static void
exp_range(int64_t begin, int64_t end, void *arg)
{
    const elementwise *e = arg;
    if (e->stream)
        limited_exps(e, begin, end, true);
    else
        limited_exps(e, begin, end, false);
}

void
moe_cpu_exp(moe_job *job, int64_t count, const float *x, float *out)
{
    elementwise e = {.a = x, .stream = moe_streams(out, count, MOE_LANES), .out = out};
    moe_parallel(job, count, MOE_GRAIN / 4, exp_range, &e);
}

/* gx may be gy. */
MOE_INLINE void
exp_gradients(const elementwise *e, int64_t begin, int64_t end, bool stream)
{
    int64_t i = begin;
    for (; i + MOE_LANES <= end; i += MOE_LANES)
    {
        moe_lanes x = moe_load(e->a + i);
        moe_lanes g = moe_load(e->c + i);
        g *= moe_choose((x >= MOE_EXP_LIMIT) | (x <= -MOE_EXP_LIMIT), (moe_lanes){0}, moe_load(e->b + i));
        if (e->add)
            g += moe_load(e->out + i);
        moe_store(e->out + i, g, stream);
    }
    for (; i < end; i++)
    {
        float g = e->c[i] * (fabsf(e->a[i]) >= MOE_EXP_LIMIT ? 0 : e->b[i]);
        e->out[i] = e->add ? e->out[i] + g : g;
    }
    moe_end_stream(stream);
}

static void
exp_backward_range(int64_t begin, int64_t end, void *arg)
{
    const elementwise *e = arg;
    if (e->stream)
        exp_gradients(e, begin, end, true);
    else
        exp_gradients(e, begin, end, false);
}

void
moe_cpu_exp_backward(moe_job *job, int64_t count, const float *x, const float *y, const float *gy, bool add, float *gx)
{
    elementwise e = {.a = x,
                     .b = y,
                     .c = gy,
                     .add = add,
                     .stream = !add && gx != gy && moe_streams(gx, count, MOE_LANES),
                     .out = gx};
    moe_parallel(job, count, MOE_GRAIN, exp_backward_range, &e);
}
