/*
 * neighbours.c: exact nearest neighbours by blocked products.
 *
 * |a - b|^2 = |a|^2 - 2 (a.b - |b|^2 / 2): the nearest rows are those of the
 * largest a.b - |b|^2 / 2, one product of the rows asked with a block of rows,
 * transposed and small enough for the narrow product, which gives a row the same bits in
 * any company (kernels/cpu/narrow.c). Each row asked keeps its k best in a heap.
 * Rounding in the product may decide who comes last; the distances of those
 * found are computed anew, as sums of squares.
 */
#include "gnn/neighbours.h"
#include "kernels/ops.h"

#include <string.h>

#define BLOCK 256  /* rows of one product */
#define BATCH 2048 /* rows asked together */
#define ASKED 32   /* a chunk of them */

struct moe_neighbours
{
    moe_job *job;
    int64_t n;
    int columns;
    const float *rows;
    float *block; /* [blocks, columns, BLOCK] rows, transposed */
    float *half;  /* [blocks, BLOCK] -|row|^2 / 2 */
};

typedef struct scored
{
    float score;
    int32_t row;
} scored;

typedef struct finding
{
    const moe_neighbours *in;
    int64_t count; /* of this batch */
    const float *asked;
    const int32_t *except;
    int k;
    int64_t first;   /* row of the block */
    float *score;    /* [BATCH, BLOCK] */
    scored *heap;    /* [BATCH, k] the worst on top */
    int32_t *filled; /* [BATCH] */
    moe_neighbour *found;
} finding;

static void
transpose_rows(int64_t begin, int64_t end, void *arg)
{
    moe_neighbours *in = arg;
    for (int64_t i = begin; i < end; i++)
    {
        float square = 0;
        float *block = in->block + i / BLOCK * in->columns * BLOCK + i % BLOCK;
        for (int c = 0; c < in->columns; c++)
        {
            float value = in->rows[i * in->columns + c];
            square += value * value;
            block[(int64_t) c * BLOCK] = value;
        }
        in->half[i] = -square / 2;
    }
}

moe_code
moe_neighbours_create(moe_job *job, int64_t n, int columns, const float *rows, moe_neighbours **out)
{
    *out = NULL;
    if (n < 1 || n > INT32_MAX || columns < 1 || columns > MOE_NEIGHBOUR_COLUMNS)
        return moe_fail(job, MOE_INVALID, "no neighbours among %lld rows of %d columns", (long long) n, columns);
    moe_neighbours *in = moe_alloc(job, 1, sizeof *in);
    if (in == NULL)
        return moe_job_code(job);
    *in = (moe_neighbours){.job = job, .n = n, .columns = columns, .rows = rows};
    int64_t blocks = (n + BLOCK - 1) / BLOCK;
    in->block = moe_alloc(job, blocks * columns, BLOCK * sizeof *in->block);
    in->half = moe_alloc(job, blocks, BLOCK * sizeof *in->half);
    if (in->block == NULL || in->half == NULL)
    {
        moe_neighbours_destroy(in);
        return moe_job_code(job);
    }
    moe_parallel(job, n, BLOCK, transpose_rows, in);
    *out = in;
    return MOE_OK;
}

void
moe_neighbours_destroy(moe_neighbours *neighbours)
{
    if (neighbours == NULL)
        return;
    moe_free(neighbours->job, neighbours->block);
    moe_free(neighbours->job, neighbours->half);
    moe_free(neighbours->job, neighbours);
}

static bool
worse(scored a, scored b)
{
    return a.score < b.score || (a.score == b.score && a.row > b.row);
}

/* Let the element at `at` rise to where none below it is worse than it. */
static void
sift_down(scored *heap, int n, int at)
{
    scored moving = heap[at];
    for (int child = 2 * at + 1; child < n; child = 2 * at + 1)
    {
        if (child + 1 < n && worse(heap[child + 1], heap[child]))
            child++;
        if (!worse(heap[child], moving))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moving;
}

static void
sift_up(scored *heap, int at)
{
    scored moving = heap[at];
    for (int parent; at > 0 && worse(moving, heap[parent = (at - 1) / 2]); at = parent)
        heap[at] = heap[parent];
    heap[at] = moving;
}

/* Offer a block's rows to the heaps of rows asked [begin, end). */
static void
offer_block(int64_t begin, int64_t end, void *arg)
{
    const finding *f = arg;
    int64_t rows = f->in->n - f->first < BLOCK ? f->in->n - f->first : BLOCK;
    if (moe_job_cancelled(f->in->job))
        return;
    for (int64_t i = begin; i < end; i++)
    {
        const float *score = f->score + i * BLOCK;
        scored *heap = f->heap + i * f->k;
        int32_t except = f->except == NULL ? -1 : f->except[i], filled = f->filled[i];
        for (int64_t b = 0; b < rows; b++)
        {
            scored offered = {score[b], (int32_t) (f->first + b)};
            if ((filled == f->k && !(offered.score > heap[0].score)) || offered.row == except)
                continue;
            if (filled < f->k)
            {
                heap[filled] = offered;
                sift_up(heap, filled++);
                continue;
            }
            heap[0] = offered;
            sift_down(heap, filled, 0);
        }
        f->filled[i] = filled;
    }
}

static float
square_distance(int columns, const float *a, const float *b)
{
    float sum[8] = {0}, rest = 0;
    int c = 0;
    for (; c + 8 <= columns; c += 8)
        for (int l = 0; l < 8; l++)
            sum[l] += (a[c + l] - b[c + l]) * (a[c + l] - b[c + l]);
    for (; c < columns; c++)
        rest += (a[c] - b[c]) * (a[c] - b[c]);
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7])) + rest;
}

/* The heaps' rows with their distances, nearest first. */
static void
order_found(int64_t begin, int64_t end, void *arg)
{
    const finding *f = arg;
    int columns = f->in->columns;
    for (int64_t i = begin; i < end; i++)
    {
        moe_neighbour *found = f->found + i * f->k;
        for (int h = 0; h < f->k; h++)
        {
            moe_neighbour this = {-1, 0};
            int place = h;
            if (h < f->filled[i])
            {
                this.row = f->heap[i * f->k + h].row;
                this.square =
                    square_distance(columns, f->asked + i * columns, f->in->rows + (int64_t) this.row * columns);
                for (; place > 0 && (found[place - 1].square > this.square ||
                                     (found[place - 1].square == this.square && found[place - 1].row > this.row));
                     place--)
                    found[place] = found[place - 1];
            }
            found[place] = this;
        }
    }
}

static moe_code
find_batch(finding *f)
{
    const moe_neighbours *in = f->in;
    memset(f->filled, 0, (size_t) f->count * sizeof *f->filled);
    for (f->first = 0; f->first < in->n && moe_job_check(in->job) == MOE_OK; f->first += BLOCK)
    {
        moe_backend_cpu.linear(in->job, f->count, in->columns, BLOCK, f->asked, in->block + f->first * in->columns,
                               in->half + f->first, f->score);
        moe_parallel(in->job, f->count, ASKED, offer_block, f);
    }
    moe_parallel(in->job, f->count, ASKED, order_found, f);
    return moe_job_check(in->job);
}

moe_code
moe_neighbours_find(moe_neighbours *neighbours, int64_t count, const float *asked, const int32_t *except, int k,
                    moe_neighbour *found)
{
    moe_job *job = neighbours->job;
    finding f = {.in = neighbours, .k = k};
    int64_t batch = count < BATCH ? count : BATCH;
    f.score = moe_alloc(job, batch, BLOCK * sizeof *f.score);
    f.heap = moe_alloc(job, batch * k, sizeof *f.heap);
    f.filled = moe_alloc(job, batch, sizeof *f.filled);
    bool there = f.score != NULL && f.heap != NULL && f.filled != NULL;
    for (int64_t i = 0; there && i < count && moe_job_code(job) == MOE_OK; i += BATCH)
    {
        f.count = count - i < BATCH ? count - i : BATCH;
        f.asked = asked + i * neighbours->columns;
        f.except = except == NULL ? NULL : except + i;
        f.found = found + i * k;
        find_batch(&f);
    }
    moe_free(job, f.score);
    moe_free(job, f.heap);
    moe_free(job, f.filled);
    return moe_job_code(job);
}
