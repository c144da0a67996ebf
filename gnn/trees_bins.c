/*
 * trees_bins.c: the inputs of rows as numbers of bins, column by column.
 *
 * Bins are filled from the least value on. One is closed when it holds its
 * share of the rows that are left, and before a value that is so common that it
 * fills one by itself: a column that is mostly 0 keeps its other bins for what
 * is not. An edge lies midway between the values on its two sides.
 *
 * Columns pass in blocks of a cache line, on the job's threads.
 */
#include "gnn/trees.h"
#include "kernels/sort.h"

#include <string.h>

#define MOST_ROWS 50000 /* looked at for edges */
#define BLOCK     16    /* columns */
#define POLL_ROWS 16384

typedef struct binning
{
    moe_job *job;
    const moe_dense_rows *rows;
    int64_t sampled;
    int64_t first;  /* column of the block */
    float *sorted;  /* [BLOCK, sampled] */
    float *spare;   /* [BLOCK, sampled] */
    float *edge;    /* [width, MOE_TREE_BINS] */
    int32_t *count; /* [width] bins */
    moe_bins *bins;
} binning;

/* Rows of the value that stands at i of n ascending ones, from i on. */
static int64_t
run_of(const float *sorted, int64_t i, int64_t n)
{
    int64_t end = i + 1;
    while (end < n && sorted[end] == sorted[i])
        end++;
    return end - i;
}

/* Cut n ascending values into bins; returns how many. */
static int
cut(const float *sorted, int64_t n, float *edge)
{
    int bins = 1;
    int64_t held = 0, left = n; /* rows of the open bin; rows that no closed bin has */
    for (int64_t i = 0, next; i < n; i = next)
    {
        int64_t run = run_of(sorted, i, n), share = left / (MOE_TREE_BINS - bins + 1);
        next = i + run;
        if (held > 0 && bins < MOE_TREE_BINS && (held >= share || run >= share))
        {
            float middle = sorted[i - 1] / 2 + sorted[i] / 2;
            edge[bins++ - 1] = middle >= sorted[i] || middle < sorted[i - 1] ? sorted[i - 1] : middle;
            left -= held;
            held = 0;
        }
        held += run;
    }
    return bins;
}

static void
cut_columns(int64_t begin, int64_t end, void *arg)
{
    const binning *b = arg;
    const moe_dense_rows *rows = b->rows;
    for (int64_t c = begin; c < end && !moe_job_cancelled(b->job); c++)
    {
        float *sorted = b->sorted + c * b->sampled;
        for (int64_t i = 0; i < b->sampled; i++)
            sorted[i] = rows->x[i * rows->n / b->sampled * rows->width + b->first + c];
        moe_sort_floats(sorted, b->spare + c * b->sampled, b->sampled);
        b->count[b->first + c] = cut(sorted, b->sampled, b->edge + (b->first + c) * MOE_TREE_BINS);
    }
}

/* The number of a value's bin: how many edges lie below it. */
static uint8_t
bin_of(const float *edge, int bins, float value)
{
    int low = 0;
    for (int high = bins - 1; low < high;)
    {
        int middle = (low + high) / 2;
        if (edge[middle] < value)
            low = middle + 1;
        else
            high = middle;
    }
    return (uint8_t) low;
}

static void
fill_columns(int64_t begin, int64_t end, void *arg)
{
    const binning *b = arg;
    const moe_bins *bins = b->bins;
    const moe_dense_rows *rows = b->rows;
    for (int64_t i = 0; i < rows->n; i++)
    {
        if (i % POLL_ROWS == 0 && moe_job_cancelled(b->job))
            return;
        for (int64_t c = begin; c < end; c++)
            bins->bin[c * bins->n + i] =
                bin_of(bins->edge + c * MOE_TREE_BINS, bins->count[c], rows->x[i * rows->width + bins->column[c]]);
    }
}

/* The columns of more than one bin. */
static moe_code
keep_columns(binning *b)
{
    moe_bins *bins = b->bins;
    int width = b->rows->width;
    for (int j = 0; j < width; j++)
        bins->columns += b->count[j] > 1;
    bins->column = moe_alloc(b->job, bins->columns, sizeof *bins->column);
    bins->count = moe_alloc(b->job, bins->columns, sizeof *bins->count);
    bins->edge = moe_alloc(b->job, bins->columns, MOE_TREE_BINS * sizeof *bins->edge);
    bins->bin = moe_alloc(b->job, bins->n, (size_t) bins->columns * sizeof *bins->bin);
    if (moe_job_code(b->job) != MOE_OK)
        return moe_job_code(b->job);
    for (int j = 0, c = 0; j < width; j++)
        if (b->count[j] > 1)
        {
            bins->column[c] = j;
            bins->count[c] = b->count[j];
            memcpy(bins->edge + (int64_t) c++ * MOE_TREE_BINS, b->edge + (int64_t) j * MOE_TREE_BINS,
                   MOE_TREE_BINS * sizeof *bins->edge);
        }
    return MOE_OK;
}

static moe_code
make_bins(binning *b)
{
    int64_t width = b->rows->width;
    for (b->first = 0; b->first < width && moe_job_check(b->job) == MOE_OK; b->first += BLOCK)
        moe_parallel(b->job, width - b->first < BLOCK ? width - b->first : BLOCK, 1, cut_columns, b);
    moe_code code = moe_job_check(b->job);
    if (code == MOE_OK)
        code = keep_columns(b);
    if (code != MOE_OK)
        return code;
    moe_parallel(b->job, b->bins->columns, BLOCK, fill_columns, b);
    return moe_job_check(b->job);
}

moe_code
moe_bins_create(moe_job *job, const moe_dense_rows *rows, moe_bins **out)
{
    binning b = {.job = job, .rows = rows, .sampled = rows->n < MOST_ROWS ? rows->n : MOST_ROWS};
    *out = NULL;
    b.bins = moe_alloc(job, 1, sizeof *b.bins);
    b.sorted = moe_alloc(job, b.sampled * BLOCK, sizeof *b.sorted);
    b.spare = moe_alloc(job, b.sampled * BLOCK, sizeof *b.spare);
    b.edge = moe_alloc(job, rows->width, MOE_TREE_BINS * sizeof *b.edge);
    b.count = moe_alloc(job, rows->width, sizeof *b.count);
    if (b.bins != NULL)
        *b.bins = (moe_bins){.job = job, .n = rows->n};
    moe_code code = moe_job_check(job);
    if (code == MOE_OK)
        code = make_bins(&b);
    moe_free(job, b.sorted);
    moe_free(job, b.spare);
    moe_free(job, b.edge);
    moe_free(job, b.count);
    if (code == MOE_OK)
        *out = b.bins;
    else
        moe_bins_destroy(b.bins);
    return code;
}

void
moe_bins_destroy(moe_bins *bins)
{
    if (bins == NULL)
        return;
    moe_job *job = bins->job;
    moe_free(job, bins->column);
    moe_free(job, bins->count);
    moe_free(job, bins->edge);
    moe_free(job, bins->bin);
    moe_free(job, bins);
}
