/*
 * mixture.c: sparse gates, the order of rows by expert, and the two router losses.
 *
 * Gates: Shazeer et al. 2017. Balance loss: with f_e the share of rows whose
 * largest gate is e and P_e the mean softmax, E * sum of f_e P_e (Fedus et al.
 * 2021, eq. 4); f counts as a constant. Z-loss: the mean of (log sum exp)^2
 * (Zoph et al. 2022, eq. 5).
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/draws.h"
#include "kernels/cpu/vector.h"

#define SCORES 256 /* made at a time */

typedef struct router
{
    int64_t experts;
    int64_t rows;
    int k;
    float noise;
    uint64_t key;
    const float *logits;
    const float *gates;
    float *out;
    double *partial; /* of each chunk */
    int64_t chunk;
    const double *share; /* f_e */
} router;

/* Replace noisy scores by the softmax over the k largest, ties to the lower expert; NaN if there are none. */
static void
gate_row(float *score, int64_t experts, int k)
{
    float highest = 0;
    float last = INFINITY;
    int64_t last_at = -1;
    int chosen = 0;
    for (; chosen < k; chosen++)
    {
        int64_t best = -1;
        for (int64_t e = 0; e < experts; e++)
        {
            bool after = score[e] < last || (score[e] == last && e > last_at);
            if (after && (best < 0 || score[e] > score[best]))
                best = e;
        }
        if (best < 0)
            break;
        last = score[best];
        last_at = best;
        highest = chosen == 0 ? last : highest;
    }
    float sum = chosen == k ? 0 : NAN;
    for (int64_t e = 0; e < experts; e++)
    {
        bool in = score[e] > last || (score[e] == last && e <= last_at);
        score[e] = in ? expf(score[e] - highest) : 0;
        sum += score[e];
    }
    for (int64_t e = 0; e < experts; e++)
        score[e] /= sum;
}

/* The same of a row in a vector. */
MOE_INLINE moe_lanes
gate_lanes(const float *score, int64_t experts, int k)
{
    const moe_lanes none = (moe_lanes){0} - INFINITY;
    moe_lanes own = moe_load(score);
    moe_whole_lanes before = {0};
    for (int32_t e = 0; e < experts; e++)
    {
        moe_lanes other = (moe_lanes){0} + score[e];
        before -= (other > own) | ((other == own) & (MOE_LANE_NUMBERS > e));
    }
    moe_whole_lanes in = (before < k) & (own == own) & (MOE_LANE_NUMBERS < (int32_t) experts);
    moe_lanes chosen = moe_choose(in, own, none);
    moe_lanes share = moe_exp_lanes(chosen - moe_largest_lane(chosen, MOE_LANES));
    share = moe_choose(in, share, (moe_lanes){0});
    /* Where there are fewer than k, what they leave out is missed here. */
    moe_lanes counted = moe_sum_lanes(moe_choose(in, (moe_lanes){0} + 1, (moe_lanes){0}), MOE_LANES);
    moe_lanes sum = moe_sum_lanes(share, MOE_LANES);
    return share / moe_choose(counted == (float) k, sum, (moe_lanes){0} + NAN);
}

/* The scores of rows [begin, end): logits with noise. */
MOE_INLINE void
make_scores(const router *r, int64_t begin, int64_t end, float *restrict score)
{
    int64_t n = (end - begin) * r->experts;
    const float *logits = r->logits + begin * r->experts;
    if (r->noise > 0)
        moe_fill_normals(r->key, (uint64_t) (begin * r->experts), n, score);
    for (int64_t i = 0; i < n; i++)
        score[i] = r->noise > 0 ? logits[i] + r->noise * score[i] : logits[i];
}

static void
top_k_gate_range(int64_t begin, int64_t end, void *arg)
{
    const router *r = arg;
    int64_t experts = r->experts;
    float score[SCORES + MOE_LANES] = {0};
    for (int64_t i = begin; i < end && experts > MOE_LANES; i++)
    {
        make_scores(r, i, i + 1, r->out + i * experts);
        gate_row(r->out + i * experts, experts, r->k);
    }
    int64_t step = SCORES / experts;
    for (int64_t i = begin; i < end && experts <= MOE_LANES; i += step)
    {
        int64_t stop = end - i < step ? end : i + step;
        make_scores(r, i, stop, score);
        for (int64_t row = i; row < stop; row++)
            moe_store_narrow(r->out, row * experts, experts, end * experts,
                             gate_lanes(score + (row - i) * experts, experts, r->k));
    }
}

void
moe_cpu_top_k_gate(moe_job *job, int64_t rows, int64_t experts, int k, float noise, uint64_t key, const float *logits,
                   float *gates)
{
    router r = {.experts = experts, .k = k, .noise = noise, .key = key, .logits = logits, .out = gates};
    moe_parallel(job, experts == 0 ? 0 : rows, moe_row_grain(experts * 16), top_k_gate_range, &r);
}

/* The rows' choices, and where they go. */
typedef struct choice
{
    int64_t cols;
    int k;
    int groups;
    const float *x;
    const int32_t *chosen;
    bool add;
    float *out;
    int32_t *to;    /* chosen, as a result; or the place of each choice */
    int32_t *row;   /* of each place */
    int64_t *count; /* [slabs, groups]: choices, then the next place */
    int64_t slab;
} choice;

#define FEW_COLS 64

/* A number as an integer of the same order; NaN is the smallest, and zeros are equal. */
MOE_INLINE int32_t
order_of(float x)
{
    int32_t bits;
    x += 0.0f;
    memcpy(&bits, &x, sizeof bits);
    bits ^= (bits >> 31) & INT32_MAX;
    return isnan(x) ? INT32_MIN : bits;
}

/* The columns of the k largest of a row, ascending: those which fewer than k come before. */
MOE_INLINE void
choose_of_few(const float *x, int64_t cols, int k, int32_t *chosen)
{
    int32_t order[FEW_COLS];
    int32_t before[FEW_COLS] = {0};
    int32_t list[FEW_COLS + 1];
    int n = 0;
    for (int32_t c = 0; c < cols; c++)
        order[c] = order_of(x[c]);
    for (int32_t other = 0; other < cols; other++)
        for (int32_t c = 0; c < cols; c++)
            before[c] += order[other] > order[c] || (order[other] == order[c] && other < c);
    for (int32_t c = 0; c < cols; c++)
    {
        list[n] = c;
        n += before[c] < k;
    }
    memcpy(chosen, list, (size_t) k * sizeof *chosen);
}

/* The same for any number of columns, by a sorted list of the largest so far. */
static void
choose_of_many(const float *x, int64_t cols, int k, int32_t *chosen)
{
    int n = 0;
    for (int32_t c = 0; c < cols; c++)
    {
        if (n == k && order_of(x[c]) <= order_of(x[chosen[k - 1]]))
            continue;
        int at = n < k ? n++ : k - 1;
        for (; at > 0 && order_of(x[c]) > order_of(x[chosen[at - 1]]); at--)
            chosen[at] = chosen[at - 1];
        chosen[at] = c;
    }
    for (int i = 1; i < n; i++)
    {
        int32_t c = chosen[i];
        int at = i;
        for (; at > 0 && chosen[at - 1] > c; at--)
            chosen[at] = chosen[at - 1];
        chosen[at] = c;
    }
}

static void
top_k_range(int64_t begin, int64_t end, void *arg)
{
    const choice *p = arg;
    for (int64_t i = begin; i < end; i++)
    {
        if (p->cols <= FEW_COLS)
            choose_of_few(p->x + i * p->cols, p->cols, p->k, p->to + i * p->k);
        else
            choose_of_many(p->x + i * p->cols, p->cols, p->k, p->to + i * p->k);
    }
}

void
moe_cpu_top_k(moe_job *job, int64_t rows, int64_t cols, int k, const float *x, int32_t *chosen)
{
    choice p = {.cols = cols, .k = k, .x = x, .to = chosen};
    moe_parallel(job, k < 1 ? 0 : rows, moe_row_grain(cols * 4), top_k_range, &p);
}

static void
pick_range(int64_t begin, int64_t end, void *arg)
{
    const choice *p = arg;
    for (int64_t i = begin; i < end; i++)
        for (int j = 0; j < p->k; j++)
            p->out[i * p->k + j] = p->x[i * p->cols + p->chosen[i * p->k + j]];
}

void
moe_cpu_pick(moe_job *job, int64_t rows, int64_t cols, int k, const int32_t *chosen, const float *x, float *out)
{
    choice p = {.cols = cols, .k = k, .x = x, .chosen = chosen, .out = out};
    moe_parallel(job, rows, moe_row_grain(cols), pick_range, &p);
}

static void
pick_backward_range(int64_t begin, int64_t end, void *arg)
{
    const choice *p = arg;
    if (!p->add)
        memset(p->out + begin * p->cols, 0, (size_t) ((end - begin) * p->cols) * sizeof(float));
    for (int64_t i = begin; i < end; i++)
        for (int j = 0; j < p->k; j++)
            p->out[i * p->cols + p->chosen[i * p->k + j]] += p->x[i * p->k + j];
}

void
moe_cpu_pick_backward(moe_job *job, int64_t rows, int64_t cols, int k, const int32_t *chosen, const float *gy, bool add,
                      float *gx)
{
    choice p = {.cols = cols, .k = k, .x = gy, .chosen = chosen, .add = add, .out = gx};
    moe_parallel(job, rows, moe_row_grain(cols), pick_backward_range, &p);
}

static void
count_range(int64_t begin, int64_t end, void *arg)
{
    const choice *p = arg;
    int64_t *count = p->count + begin / p->slab * p->groups;
    for (int64_t i = begin * p->k; i < end * p->k; i++)
        count[p->chosen[i]]++;
}

static void
place_range(int64_t begin, int64_t end, void *arg)
{
    const choice *p = arg;
    int64_t *next = p->count + begin / p->slab * p->groups;
    for (int64_t i = begin; i < end; i++)
    {
        for (int64_t j = i * p->k; j < (i + 1) * p->k; j++)
        {
            int64_t place = next[p->chosen[j]]++;
            p->row[place] = (int32_t) i;
            p->to[j] = (int32_t) place;
        }
    }
}

/* A counting sort: slabs of rows count for themselves, and then know where their rows go. */
void
moe_cpu_group(moe_job *job, int64_t rows, int k, int groups, const int32_t *chosen, int64_t *offset, int32_t *row,
              int32_t *place)
{
    int64_t slab = moe_slab_rows(rows);
    int64_t slabs = (rows + slab - 1) / slab;
    choice p = {.k = k, .groups = groups, .chosen = chosen, .to = place, .row = row, .slab = slab};
    p.count = moe_alloc(job, slabs * groups, sizeof *p.count);
    if (p.count == NULL)
        return;
    moe_parallel(job, rows, slab, count_range, &p);
    int64_t next = 0;
    for (int g = 0; g < groups; g++)
    {
        offset[g] = next;
        for (int64_t s = 0; s < slabs; s++)
        {
            int64_t n = p.count[s * groups + g];
            p.count[s * groups + g] = next;
            next += n;
        }
    }
    offset[groups] = next;
    moe_parallel(job, rows, slab, place_range, &p);
    moe_free(job, p.count);
}

/* Softmax of one row in double: returns log sum exp, and the probabilities into p. */
static double
softmax_row(const float *x, int64_t n, float *p)
{
    double high = x[0];
    for (int64_t j = 1; j < n; j++)
        high = x[j] > high ? x[j] : high;
    double sum = 0;
    for (int64_t j = 0; j < n; j++)
        sum += exp(x[j] - high);
    for (int64_t j = 0; j < n; j++)
        p[j] = (float) (exp(x[j] - high) / sum);
    return high + log(sum);
}

static int64_t
largest(const float *x, int64_t n)
{
    int64_t best = 0;
    for (int64_t j = 1; j < n; j++)
        best = x[j] > x[best] ? j : best;
    return best;
}

/* Softmax of each row to out; the chunk's counts of largest gates and sums of softmax to its partial result. */
static void
balance_count_range(int64_t begin, int64_t end, void *arg)
{
    const router *r = arg;
    double *count = r->partial + begin / r->chunk * 2 * r->experts;
    double *mean = count + r->experts;
    for (int64_t i = begin; i < end; i++)
    {
        float *p = r->out + i * r->experts;
        softmax_row(r->logits + i * r->experts, r->experts, p);
        count[largest(r->gates + i * r->experts, r->experts)]++;
        for (int64_t e = 0; e < r->experts; e++)
            mean[e] += p[e];
    }
}

/* out holds the softmax p; replace it by p * (f - sum of f p) * E / n. */
static void
balance_gradient_range(int64_t begin, int64_t end, void *arg)
{
    const router *r = arg;
    double factor = (double) r->experts / (double) r->rows;
    for (int64_t i = begin; i < end; i++)
    {
        float *p = r->out + i * r->experts;
        double expected = 0;
        for (int64_t e = 0; e < r->experts; e++)
            expected += r->share[e] * p[e];
        for (int64_t e = 0; e < r->experts; e++)
            p[e] = (float) (factor * p[e] * (r->share[e] - expected));
    }
}

void
moe_cpu_balance_loss(moe_job *job, int64_t rows, int64_t experts, const float *logits, const float *gates, float *value,
                     float *gradient)
{
    *value = 0;
    if (rows == 0 || experts == 0)
        return;
    int64_t chunk = moe_slab_rows(rows);
    int64_t chunks = (rows + chunk - 1) / chunk;
    double *partial = moe_alloc(job, chunks * 2 * experts, sizeof(double));
    if (partial == NULL)
        return;
    router r = {.experts = experts,
                .rows = rows,
                .logits = logits,
                .gates = gates,
                .out = gradient,
                .partial = partial,
                .chunk = chunk,
                .share = partial};
    moe_parallel(job, rows, chunk, balance_count_range, &r);

    /* The first chunk's partial result becomes the total. */
    for (int64_t i = 1; i < chunks; i++)
    {
        for (int64_t e = 0; e < 2 * experts; e++)
            partial[e] += partial[i * 2 * experts + e];
    }
    double loss = 0;
    for (int64_t e = 0; e < experts; e++)
    {
        partial[e] /= (double) rows;
        loss += partial[e] * partial[experts + e] / (double) rows;
    }
    moe_parallel(job, rows, chunk, balance_gradient_range, &r);
    moe_free(job, partial);
    *value = (float) (loss * (double) experts);
}

static void
z_loss_range(int64_t begin, int64_t end, void *arg)
{
    const router *r = arg;
    double *sum = r->partial + begin / r->chunk;
    for (int64_t i = begin; i < end; i++)
    {
        float *p = r->out + i * r->experts;
        double z = softmax_row(r->logits + i * r->experts, r->experts, p);
        *sum += z * z;
        for (int64_t e = 0; e < r->experts; e++)
            p[e] = (float) (2 * z * p[e] / (double) r->rows);
    }
}

void
moe_cpu_z_loss(moe_job *job, int64_t rows, int64_t experts, const float *logits, float *value, float *gradient)
{
    *value = 0;
    if (rows == 0 || experts == 0)
        return;
    double partial[MOE_MOST_SLABS] = {0};
    router r = {.experts = experts,
                .rows = rows,
                .logits = logits,
                .out = gradient,
                .partial = partial,
                .chunk = moe_slab_rows(rows)};
    moe_parallel(job, rows, r.chunk, z_loss_range, &r);
    double sum = 0;
    for (int i = 0; i < MOE_MOST_SLABS; i++)
        sum += partial[i];
    *value = (float) (sum / (double) rows);
}
