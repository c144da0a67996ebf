/*
 * grouped.c: rows sorted by group, times the weights of their group (an expert's, say), with the gather fused in.
 *
 * The rows of a group are cut into blocks; a block's rows are copied side by
 * side (where they are gathered), the weights are copied panel by panel of 16
 * columns, and a tile of 6 x 16 results stays in registers while the inner
 * dimension passes by: all operands of a panel stay in the first two levels
 * of cache. Groups need not be of one size and nothing is padded or dropped
 * (Gale et al. 2023), so that the work is that of one product of all rows.
 *
 * Blocks are cut by shape and offsets only: results are the same for any number
 * of threads. Every result of x w is one sum over the inner dimension in order,
 * so that a row has the same bits whatever stands beside it.
 */
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/tile.h"

#define BLOCK_ROWS    96                   /* gathered side by side */
#define BLOCK_DEPTH   256                  /* of the inner dimension at a time */
#define CHUNK_WORK    ((int64_t) 1 << 20)  /* multiply-adds worth one chunk */
#define MOST_ROWS     (64 * BLOCK_ROWS)    /* of a chunk */
#define WORTH_PACKING 12                   /* rows from which copying a panel pays */
#define WORTH_TURNING 8                    /* rows from which w^T is built rather than read by rows */
#define WEIGHT_ROWS   (16 * MOE_TILE_ROWS) /* of a weight's gradient, in one chunk */
#define WEIGHT_COLS   128
#define WEIGHT_DEPTH  128 /* rows of a group at a time */

typedef struct grouped
{
    moe_job *job;
    int groups;
    int64_t k;
    int64_t m;
    const int64_t *offset;
    const int32_t *row;
    const float *x;
    const float *gy;
    const float *w;
    const float *b;
    bool add;
    float *out;
    float *gb;
    int64_t chunk;  /* rows of one */
    int64_t *first; /* [groups + 1] number of each group's first chunk */
} grouped;

/* The group a chunk belongs to: the last one that starts at or before it and has any. */
static int
group_of(const grouped *p, int64_t chunk)
{
    int low = 0;
    int high = p->groups;
    while (high - low > 1)
    {
        int middle = low + (high - low) / 2;
        if (p->first[middle] <= chunk)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* panel [depth, MOE_TILE_COLS] = b [depth, cols] of row stride m, with zeros beside it. */
MOE_INLINE void
pack_panel(int64_t depth, int64_t cols, const float *b, int64_t m, float *panel)
{
    if (cols == MOE_TILE_COLS)
    {
        for (int64_t d = 0; d < depth; d++)
            memcpy(panel + d * MOE_TILE_COLS, b + d * m, MOE_TILE_COLS * sizeof(float));
        return;
    }
    for (int64_t d = 0; d < depth; d++)
        for (int64_t j = 0; j < MOE_TILE_COLS; j++)
            panel[d * MOE_TILE_COLS + j] = j < cols ? b[d * m + j] : 0;
}

/* The same of the transpose: panel[d, j] = b[j, d]. */
MOE_INLINE void
pack_turned(int64_t depth, int64_t cols, const float *b, int64_t m, float *panel)
{
    int64_t j = 0;
    for (; j + MOE_TURN <= cols; j += MOE_TURN)
    {
        int64_t d = 0;
        for (; d + MOE_TURN <= depth; d += MOE_TURN)
            moe_turn(b + j * m + d, m, panel + d * MOE_TILE_COLS + j, MOE_TILE_COLS);
        for (; d < depth; d++)
            for (int64_t i = j; i < j + MOE_TURN; i++)
                panel[d * MOE_TILE_COLS + i] = b[i * m + d];
    }
    for (; j < MOE_TILE_COLS; j++)
        for (int64_t d = 0; d < depth; d++)
            panel[d * MOE_TILE_COLS + j] = j < cols ? b[j * m + d] : 0;
}

/* Copy `cols` numbers from column `from` on of the rows at places [begin, begin + rows) side by side. */
MOE_INLINE void
gather_rows(const int32_t *row, int64_t begin, int64_t rows, const float *x, int64_t stride, int64_t from, int64_t cols,
            float *out, int64_t out_stride)
{
    for (int64_t i = 0; i < rows; i++)
    {
        int64_t source = row == NULL ? begin + i : row[begin + i];
        memcpy(out + i * out_stride, x + source * stride + from, (size_t) cols * sizeof(float));
    }
}

/* out [rows, columns] += a [rows, inner] times w_g or, turned, its transpose; all of a group. */
MOE_INLINE void
multiply_block(const grouped *p, int group, int64_t begin, int64_t rows, const float *a, int64_t inner, int64_t columns,
               bool turned)
{
    float gathered[BLOCK_ROWS * BLOCK_DEPTH];
    float panel[BLOCK_DEPTH * MOE_TILE_COLS];
    const float *w = p->w + group * p->k * p->m;
    float *out = p->out + begin * columns;
    for (int64_t d = 0; d < inner; d += BLOCK_DEPTH)
    {
        int64_t depth = inner - d < BLOCK_DEPTH ? inner - d : BLOCK_DEPTH;
        const float *left = a + begin * inner + d;
        int64_t down = inner;
        if (p->row != NULL)
        {
            gather_rows(p->row, begin, rows, a, inner, d, depth, gathered, depth);
            left = gathered;
            down = depth;
        }
        for (int64_t j = 0; j < columns; j += MOE_TILE_COLS)
        {
            int64_t cols = columns - j < MOE_TILE_COLS ? columns - j : MOE_TILE_COLS;
            const float *b = panel;
            int64_t b_stride = MOE_TILE_COLS;
            if (turned)
                pack_turned(depth, cols, w + j * p->m + d, p->m, panel);
            else if (rows >= WORTH_PACKING || cols < MOE_TILE_COLS)
            {
                /* The next panel's lines lie far apart; they arrive while this one is used. */
                for (int64_t i = d; j + cols < columns && i < d + depth; i++)
                    __builtin_prefetch(w + i * p->m + j + cols);
                pack_panel(depth, cols, w + d * p->m + j, p->m, panel);
            }
            else
            {
                b = w + d * p->m + j;
                b_stride = p->m;
            }
            moe_add_panel(rows, cols, depth, left, down, 1, b, b_stride, out + j, columns);
        }
    }
}

/* Places [begin, end) of a group. */
static void
multiply_rows(const grouped *p, int group, int64_t begin, int64_t end)
{
    const float *bias = p->b == NULL ? NULL : p->b + group * p->m;
    if (p->m == 1)
    {
        for (int64_t i = begin; i < end; i++)
        {
            const float *x = p->x + (p->row == NULL ? i : p->row[i]) * p->k;
            p->out[i] = (bias == NULL ? 0 : *bias) + moe_row_product(x, p->w + group * p->k, p->k);
        }
        return;
    }
    for (int64_t i = begin; i < end; i++)
    {
        if (bias == NULL)
            memset(p->out + i * p->m, 0, (size_t) p->m * sizeof(float));
        else
            memcpy(p->out + i * p->m, bias, (size_t) p->m * sizeof(float));
    }
    for (int64_t i = begin; i < end && !moe_job_cancelled(p->job); i += BLOCK_ROWS)
        multiply_block(p, group, i, end - i < BLOCK_ROWS ? end - i : BLOCK_ROWS, p->x, p->k, p->m, false);
}

/* The same for gx = gy w^T. */
static void
multiply_rows_turned(const grouped *p, int group, int64_t begin, int64_t end)
{
    bool few = end - begin < WORTH_TURNING;
    for (int64_t i = begin; few && i < end; i++)
    {
        for (int64_t l = 0; l < p->k; l++)
        {
            float sum = moe_row_product(p->gy + i * p->m, p->w + (group * p->k + l) * p->m, p->m);
            p->out[i * p->k + l] = p->add ? p->out[i * p->k + l] + sum : sum;
        }
    }
    if (few)
        return;
    if (!p->add)
        memset(p->out + begin * p->k, 0, (size_t) ((end - begin) * p->k) * sizeof(float));
    for (int64_t i = begin; i < end && !moe_job_cancelled(p->job); i += BLOCK_ROWS)
        multiply_block(p, group, i, end - i < BLOCK_ROWS ? end - i : BLOCK_ROWS, p->gy, p->m, p->k, true);
}

static void
multiply_chunks(const grouped *p, int64_t begin, int64_t end,
                void (*multiply)(const grouped *p, int group, int64_t begin, int64_t end))
{
    for (int64_t c = begin; c < end; c++)
    {
        int group = group_of(p, c);
        int64_t from = p->offset[group] + (c - p->first[group]) * p->chunk;
        int64_t to = from + p->chunk < p->offset[group + 1] ? from + p->chunk : p->offset[group + 1];
        if (moe_job_cancelled(p->job))
            return;
        multiply(p, group, from, to);
    }
}

static void
linear_chunks(int64_t begin, int64_t end, void *arg)
{
    multiply_chunks(arg, begin, end, multiply_rows);
}

static void
input_chunks(int64_t begin, int64_t end, void *arg)
{
    multiply_chunks(arg, begin, end, multiply_rows_turned);
}

/* Cut each group into chunks of rows and run them. */
static void
run_rows(grouped *p, moe_range_fn chunks)
{
    int64_t work = p->k * p->m;
    p->chunk = CHUNK_WORK / (work < 1 ? 1 : work) / BLOCK_ROWS * BLOCK_ROWS;
    p->chunk = p->chunk < BLOCK_ROWS ? BLOCK_ROWS : p->chunk > MOST_ROWS ? MOST_ROWS : p->chunk;
    p->first = moe_alloc(p->job, p->groups + 1, sizeof *p->first);
    if (p->first == NULL)
        return;
    for (int g = 0; g < p->groups; g++)
        p->first[g + 1] = p->first[g] + (p->offset[g + 1] - p->offset[g] + p->chunk - 1) / p->chunk;
    moe_parallel(p->job, p->first[p->groups], 1, chunks, p);
    moe_free(p->job, p->first);
    moe_job_check(p->job);
}

void
moe_cpu_grouped_linear(moe_job *job, int groups, int64_t n, int64_t k, int64_t m, const int64_t *offset,
                       const int32_t *row, const float *x, const float *w, const float *b, float *out)
{
    grouped p = {
        .job = job, .groups = groups, .k = k, .m = m, .offset = offset, .row = row, .x = x, .w = w, .b = b, .out = out};
    if (n > 0 && m > 0)
        run_rows(&p, linear_chunks);
}

void
moe_cpu_grouped_linear_input(moe_job *job, int groups, int64_t n, int64_t k, int64_t m, const int64_t *offset,
                             const float *gy, const float *w, bool add, float *gx)
{
    grouped p = {
        .job = job, .groups = groups, .k = k, .m = m, .offset = offset, .gy = gy, .w = w, .add = add, .out = gx};
    if (n > 0 && k > 0)
        run_rows(&p, input_chunks);
}

/* gb[j] += the sum of gy[p, j] over the group, for columns [j, j + cols). */
MOE_INLINE void
add_bias(const grouped *p, int group, int64_t j, int64_t cols)
{
    float *out = p->gb + group * p->m + j;
    for (int64_t i = p->offset[group]; i < p->offset[group + 1]; i += WEIGHT_DEPTH)
    {
        float sum[WEIGHT_COLS] = {0};
        for (int64_t d = i; d < i + WEIGHT_DEPTH && d < p->offset[group + 1]; d++)
            for (int64_t c = 0; c < cols; c++)
                sum[c] += p->gy[d * p->m + j + c];
        for (int64_t c = 0; c < cols; c++)
            out[c] += sum[c];
    }
}

/* Columns [l, l + rows) of the x of `depth` places, in tiles [rows / MOE_TILE_ROWS][WEIGHT_DEPTH][MOE_TILE_ROWS]. */
MOE_INLINE void
pack_tiles(const grouped *p, int64_t begin, int64_t depth, int64_t l, int64_t rows, float *tiles)
{
    for (int64_t d = 0; d < depth; d++)
    {
        const float *x = p->x + (p->row == NULL ? begin + d : p->row[begin + d]) * p->k + l;
        float *out = tiles + d * MOE_TILE_ROWS;
        int64_t r = 0;
        for (; r + MOE_TILE_ROWS <= rows; r += MOE_TILE_ROWS)
            memcpy(out + r * WEIGHT_DEPTH, x + r, MOE_TILE_ROWS * sizeof(float));
        for (int64_t i = 0; r + i < rows; i++)
            out[r * WEIGHT_DEPTH + i] = x[r + i];
    }
}

/* gw_g[l, j] += the sum of x[row[p], l] gy[p, j] over the group, for a block of l and j. */
static void
add_weight(const grouped *p, int group, int64_t l, int64_t rows, int64_t j, int64_t cols)
{
    float tiles[WEIGHT_DEPTH * WEIGHT_ROWS];
    float panel[WEIGHT_DEPTH * MOE_TILE_COLS];
    float *out = p->out + (group * p->k + l) * p->m + j;
    for (int64_t i = p->offset[group]; i < p->offset[group + 1] && !moe_job_cancelled(p->job); i += WEIGHT_DEPTH)
    {
        int64_t depth = p->offset[group + 1] - i < WEIGHT_DEPTH ? p->offset[group + 1] - i : WEIGHT_DEPTH;
        pack_tiles(p, i, depth, l, rows, tiles);
        for (int64_t c = 0; c < cols; c += MOE_TILE_COLS)
        {
            int64_t width = cols - c < MOE_TILE_COLS ? cols - c : MOE_TILE_COLS;
            pack_panel(depth, width, p->gy + i * p->m + j + c, p->m, panel);
            for (int64_t r = 0; r < rows; r += MOE_TILE_ROWS)
                moe_add_panel(rows - r < MOE_TILE_ROWS ? rows - r : MOE_TILE_ROWS, width, depth,
                              tiles + r * WEIGHT_DEPTH, 1, MOE_TILE_ROWS, panel, MOE_TILE_COLS, out + r * p->m + c,
                              p->m);
        }
    }
}

/* The same for m = 1, where a weight's gradient is a weighted sum of rows. */
static void
add_weight_column(const grouped *p, int group, int64_t l, int64_t rows)
{
    float sum[WEIGHT_ROWS];
    float *out = p->out + group * p->k + l;
    for (int64_t i = p->offset[group]; i < p->offset[group + 1] && !moe_job_cancelled(p->job); i += WEIGHT_DEPTH)
    {
        memset(sum, 0, sizeof sum);
        for (int64_t d = i; d < i + WEIGHT_DEPTH && d < p->offset[group + 1]; d++)
        {
            const float *x = p->x + (p->row == NULL ? d : p->row[d]) * p->k + l;
            float g = p->gy[d];
            for (int64_t c = 0; c < rows; c++)
                sum[c] += g * x[c];
        }
        for (int64_t c = 0; c < rows; c++)
            out[c] += sum[c];
    }
}

/* Blocks of rows of a weight; without any there is still a bias. */
static int64_t
blocks_down(int64_t k)
{
    return k == 0 ? 1 : (k + WEIGHT_ROWS - 1) / WEIGHT_ROWS;
}

static void
weight_chunks(int64_t begin, int64_t end, void *arg)
{
    const grouped *p = arg;
    int64_t across = (p->m + WEIGHT_COLS - 1) / WEIGHT_COLS;
    int64_t down = blocks_down(p->k);
    int64_t height = ((p->k + down - 1) / down + MOE_TILE_ROWS - 1) / MOE_TILE_ROWS * MOE_TILE_ROWS;
    for (int64_t c = begin; c < end; c++)
    {
        int group = (int) (c / (down * across));
        int64_t l = c / across % down * height;
        int64_t j = c % across * WEIGHT_COLS;
        int64_t rows = p->k - l < height ? p->k - l : height;
        int64_t cols = p->m - j < WEIGHT_COLS ? p->m - j : WEIGHT_COLS;
        if (moe_job_cancelled(p->job))
            return;
        if (p->m == 1)
            add_weight_column(p, group, l, rows);
        else
            add_weight(p, group, l, rows, j, cols);
        if (p->gb != NULL && l == 0)
            add_bias(p, group, j, cols);
    }
}

void
moe_cpu_grouped_linear_weight(moe_job *job, int groups, int64_t n, int64_t k, int64_t m, const int64_t *offset,
                              const int32_t *row, const float *x, const float *gy, float *gw, float *gb)
{
    grouped p = {.job = job,
                 .groups = groups,
                 .k = k,
                 .m = m,
                 .offset = offset,
                 .row = row,
                 .x = x,
                 .gy = gy,
                 .out = gw,
                 .gb = gb};
    int64_t across = (m + WEIGHT_COLS - 1) / WEIGHT_COLS;
    if (n > 0)
        moe_parallel(job, groups * blocks_down(k) * across, 1, weight_chunks, &p);
    moe_job_check(job);
}
