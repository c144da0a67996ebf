/*
 * narrow.c: products of tall matrices with weights that fit the second-level cache.
 *
 * Most products of a model have thousands of rows and at most some hundred
 * columns. A general library copies both sides into an order of its own
 * first, which costs as much as half the product there. Here nothing is
 * copied: a tile of results (tile.h) stays in registers while the inner
 * dimension passes by. The same tile serves x w and x^T gy, which differ in
 * the strides of the left side alone.
 *
 * Cut by shape only: results are the same for any number of threads. Every
 * result is one sum over the inner dimension in order, whichever tile it is
 * in, so that a row of x w has the same bits whatever stands beside it.
 */
#include "kernels/cpu/tile.h"

#define LARGEST      65536                /* floats of a weight: 256 kB */
#define LEAST_ROWS   (8 * MOE_TILE_ROWS)  /* of a chunk, so that a column of tiles is used often enough */
#define CHUNK_WORK   ((int64_t) 1 << 20)  /* multiply-adds worth one chunk */
#define WEIGHT_ROWS  128                  /* between two visits to a tile of a weight's gradient */
#define WEIGHT_PIECE (11 * MOE_TILE_ROWS) /* rows of the gradient that one thread makes at a time */
#define SUM_GRAIN    2048

typedef struct narrow
{
    moe_job *job;
    int64_t n;
    int64_t k;
    int64_t m;
    const float *x;
    const float *w;     /* the right side: weights, or gy */
    const float *panel; /* the last columns of it, packed; NULL: there are none */
    const float *row;   /* NULL, or what every row starts from */
    bool add;
    float *out;
    int64_t slab;
    int64_t slabs;
} narrow;

bool
moe_narrow_fits(int64_t k, int64_t m)
{
    return k > 0 && m > 0 && m <= LARGEST && k <= LARGEST / m;
}

bool
moe_narrow_weight_fits(int64_t k, int64_t m)
{
    return moe_narrow_fits(k, m) && m % MOE_TILE_COLS == 0;
}

/*
 * The last columns of the right side, fewer than a tile is wide, as a panel
 * with zeros beside them, [depth, MOE_TILE_COLS].
 */
static void
pack_rest(int64_t depth, int64_t m, const float *b, float *panel)
{
    int64_t rest = m % MOE_TILE_COLS;
    for (int64_t d = 0; d < depth; d++)
        memcpy(panel + d * MOE_TILE_COLS, b + d * m + m - rest, (size_t) rest * sizeof(float));
}

/* c [rows, m] += a b, column by column of tiles; a's element (r, d) stands at a[r * down + d * along]. */
static void
add_product(int64_t rows, int64_t m, int64_t depth, const float *a, int64_t down, int64_t along, const float *b,
            const float *panel, float *c)
{
    int64_t tiled = m - m % MOE_TILE_COLS;
    for (int64_t j = 0; j < tiled; j += MOE_TILE_COLS)
        moe_add_panel(rows, MOE_TILE_COLS, depth, a, down, along, b + j, m, c + j, m);
    if (tiled < m)
        moe_add_panel(rows, m - tiled, depth, a, down, along, panel, MOE_TILE_COLS, c + tiled, m);
}

static void
multiply_range(int64_t begin, int64_t end, void *arg)
{
    const narrow *p = arg;
    if (moe_job_cancelled(p->job))
        return;
    float *out = p->out + begin * p->m;
    for (int64_t i = 0; p->row != NULL && i < end - begin; i++)
        memcpy(out + i * p->m, p->row, (size_t) p->m * sizeof(float));
    if (p->row == NULL && !p->add)
        memset(out, 0, (size_t) ((end - begin) * p->m) * sizeof(float));
    if (p->m == 1)
        for (int64_t i = 0; i < end - begin; i++)
            out[i] += moe_row_product(p->x + (begin + i) * p->k, p->w, p->k);
    else
        add_product(end - begin, p->m, p->k, p->x + begin * p->k, p->k, 1, p->w, p->panel, out);
}

void
moe_narrow_multiply(moe_job *job, int64_t n, int64_t k, int64_t m, const float *x, const float *w, const float *row,
                    bool add, float *out)
{
    narrow p = {.job = job, .k = k, .m = m, .x = x, .w = w, .row = row, .add = add, .out = out};
    if (m > 1 && m % MOE_TILE_COLS != 0)
    {
        float *panel = moe_alloc(job, k * MOE_TILE_COLS, sizeof(float));
        if (panel == NULL)
            return;
        pack_rest(k, m, w, panel);
        p.panel = panel;
    }
    int64_t rows = CHUNK_WORK / (k * m) / MOE_TILE_ROWS * MOE_TILE_ROWS;
    rows = rows < LEAST_ROWS ? LEAST_ROWS : rows;
    moe_parallel(job, n, rows, multiply_range, &p);
    moe_free(job, (float *) p.panel);
    moe_job_check(job);
}

void
moe_narrow_turn(int64_t k, int64_t m, const float *w, float *turned)
{
    for (int64_t i = 0; i < k; i += MOE_TURN)
        for (int64_t j = 0; j < m; j += MOE_TURN)
        {
            if (i + MOE_TURN <= k && j + MOE_TURN <= m)
            {
                moe_turn(w + i * m + j, m, turned + j * k + i, k);
                continue;
            }
            for (int64_t l = i; l < i + MOE_TURN && l < k; l++)
                for (int64_t c = j; c < j + MOE_TURN && c < m; c++)
                    turned[c * k + l] = w[l * m + c];
        }
}

/* A slab's own x^T gy, added to its partial result: piece by piece of WEIGHT_PIECE of the gradient's rows. */
static void
weight_range(int64_t begin, int64_t end, void *arg)
{
    const narrow *p = arg;
    int64_t pieces = (p->k + WEIGHT_PIECE - 1) / WEIGHT_PIECE;
    for (int64_t c = begin; c < end && !moe_job_cancelled(p->job); c++)
    {
        int64_t from = c % pieces * WEIGHT_PIECE, first = c / pieces * p->slab;
        int64_t rows = p->k - from < WEIGHT_PIECE ? p->k - from : WEIGHT_PIECE;
        int64_t last = p->n - first < p->slab ? p->n : first + p->slab;
        float *out = p->out + (c / pieces * p->k + from) * p->m;
        for (int64_t i = first; i < last; i += WEIGHT_ROWS)
        {
            int64_t depth = last - i < WEIGHT_ROWS ? last - i : WEIGHT_ROWS;
            add_product(rows, p->m, depth, p->x + i * p->k + from, 1, p->k, p->w + i * p->m, NULL, out);
        }
    }
}

/* Add the slabs' results, in their order, to numbers [begin, end) of the gradient. */
static void
add_slabs_range(int64_t begin, int64_t end, void *arg)
{
    const narrow *p = arg;
    for (int64_t i = 0; i < p->slabs; i++)
    {
        const float *partial = p->w + i * p->k * p->m;
        for (int64_t j = begin; j < end; j++)
            p->out[j] += partial[j];
    }
}

void
moe_narrow_weight(moe_job *job, int64_t n, int64_t k, int64_t m, const float *x, const float *gy, float *gw)
{
    /* A slab's result is made, and read again: it must be worth that. */
    int64_t slab = moe_slab_rows(n) > k * m / 16 ? moe_slab_rows(n) : k * m / 16;
    int64_t slabs = (n + slab - 1) / slab;
    float *partial = moe_alloc(job, slabs * k * m, sizeof(float));
    if (partial == NULL)
        return;
    narrow p = {.job = job, .n = n, .k = k, .m = m, .x = x, .w = gy, .out = partial, .slab = slab};
    moe_parallel(job, slabs * ((k + WEIGHT_PIECE - 1) / WEIGHT_PIECE), 1, weight_range, &p);
    narrow sum = {.k = k, .m = m, .w = partial, .out = gw, .slabs = slabs};
    moe_parallel(job, k * m, SUM_GRAIN, add_slabs_range, &sum);
    moe_free(job, partial);
    moe_job_check(job);
}
