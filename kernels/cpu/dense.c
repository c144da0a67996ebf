/*
 * dense.c: linear maps, through BLAS where they are not narrow, and loops that pair a matrix with a row or a column.
 */
#include <string.h>

#include "kernels/blas.h"
#include "kernels/cpu/cpu.h"

void
moe_cpu_linear(moe_job *job, int64_t n, int64_t k, int64_t m, const float *x, const float *w, const float *b,
               float *out)
{
    if (moe_narrow_fits(k, m))
        moe_narrow_multiply(job, n, k, m, x, w, b, false, out);
    else
        moe_gemm_row(job, n, m, k, x, w, b, out);
}

void
moe_cpu_linear_input(moe_job *job, int64_t n, int64_t k, int64_t m, const float *gy, const float *w, bool add,
                     float *gx)
{
    if (!moe_narrow_fits(m, k))
    {
        moe_gemm(job, false, true, n, k, m, gy, m, w, m, add ? 1 : 0, gx, k);
        return;
    }
    float *transposed = moe_alloc(job, m * k, sizeof(float));
    if (transposed == NULL)
        return;
    moe_narrow_turn(k, m, w, transposed);
    moe_narrow_multiply(job, n, m, k, gy, transposed, NULL, add, gx);
    moe_free(job, transposed);
}

void
moe_cpu_linear_weight(moe_job *job, int64_t n, int64_t k, int64_t m, const float *x, const float *gy, float *gw)
{
    if (moe_narrow_weight_fits(k, m))
        moe_narrow_weight(job, n, k, m, x, gy, gw);
    else
        moe_gemm(job, true, false, k, m, n, x, k, gy, m, 1, gw, m);
}

typedef struct matrix
{
    int64_t cols;
    const float *x;
    int64_t x_stride;
    const float *y; /* a second matrix, a row or a column */
    bool add;
    float *out;
    int64_t out_stride;
    int64_t slab;
} matrix;

static void
add_row_range(int64_t begin, int64_t end, void *arg)
{
    const matrix *m = arg;
    const float *row = m->y;
    for (int64_t i = begin; i < end; i++)
    {
        const float *x = m->x + i * m->cols;
        float *restrict out = m->out + i * m->cols;
        for (int64_t j = 0; j < m->cols; j++)
            out[j] = x[j] + row[j];
    }
}

void
moe_cpu_add_row(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *row, float *out)
{
    matrix m = {.cols = cols, .x = x, .y = row, .out = out};
    moe_parallel(job, rows, moe_row_grain(cols), add_row_range, &m);
}

/* The slab's own sum, into its row of the partial results. */
static void
column_sum_range(int64_t begin, int64_t end, void *arg)
{
    const matrix *m = arg;
    int64_t cols = m->cols;
    float *restrict sum = m->out + begin / m->slab * cols;
    for (int64_t i = begin; i < end; i++)
    {
        const float *x = m->x + i * cols;
        for (int64_t j = 0; j < cols; j++)
            sum[j] += x[j];
    }
}

void
moe_cpu_column_sum(moe_job *job, int64_t rows, int64_t cols, const float *x, float *out)
{
    int64_t slab = moe_slab_rows(rows);
    int64_t slabs = (rows + slab - 1) / slab;
    float *partial = moe_alloc(job, slabs * cols, sizeof(float));
    if (partial == NULL)
        return;
    matrix m = {.cols = cols, .x = x, .out = partial, .slab = slab};
    moe_parallel(job, rows, slab, column_sum_range, &m);
    for (int64_t i = 0; i < slabs; i++)
    {
        for (int64_t j = 0; j < cols; j++)
            out[j] += partial[i * cols + j];
    }
    moe_free(job, partial);
}

static void
multiply_column_range(int64_t begin, int64_t end, void *arg)
{
    const matrix *m = arg;
    bool add = m->add;
    for (int64_t i = begin; i < end; i++)
    {
        const float *x = m->x + i * m->cols;
        float *restrict out = m->out + i * m->cols;
        float c = m->y[i];
        for (int64_t j = 0; j < m->cols; j++)
            out[j] = add ? out[j] + x[j] * c : x[j] * c;
    }
}

void
moe_cpu_multiply_column(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *c, bool add, float *out)
{
    matrix m = {.cols = cols, .x = x, .y = c, .add = add, .out = out};
    moe_parallel(job, rows, moe_row_grain(cols), multiply_column_range, &m);
}

static void
multiply_row_range(int64_t begin, int64_t end, void *arg)
{
    const matrix *m = arg;
    const float *row = m->y;
    bool add = m->add;
    for (int64_t i = begin; i < end; i++)
    {
        const float *x = m->x + i * m->cols;
        float *restrict out = m->out + i * m->cols;
        for (int64_t j = 0; j < m->cols; j++)
            out[j] = add ? out[j] + x[j] * row[j] : x[j] * row[j];
    }
}

void
moe_cpu_multiply_row(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *row, bool add, float *out)
{
    matrix m = {.cols = cols, .x = x, .y = row, .add = add, .out = out};
    moe_parallel(job, rows, moe_row_grain(cols), multiply_row_range, &m);
}

static void
row_dot_range(int64_t begin, int64_t end, void *arg)
{
    const matrix *m = arg;
    for (int64_t i = begin; i < end; i++)
    {
        float sum = moe_row_product(m->x + i * m->cols, m->y + i * m->cols, m->cols);
        m->out[i] = m->add ? m->out[i] + sum : sum;
    }
}

void
moe_cpu_row_dot(moe_job *job, int64_t rows, int64_t cols, const float *a, const float *b, bool add, float *out)
{
    matrix m = {.cols = cols, .x = a, .y = b, .add = add, .out = out};
    moe_parallel(job, rows, moe_row_grain(cols), row_dot_range, &m);
}

static void
copy_block_range(int64_t begin, int64_t end, void *arg)
{
    const matrix *m = arg;
    for (int64_t i = begin; i < end; i++)
    {
        const float *x = m->x + i * m->x_stride;
        float *restrict out = m->out + i * m->out_stride;
        if (!m->add)
            memcpy(out, x, (size_t) m->cols * sizeof(float));
        for (int64_t j = 0; m->add && j < m->cols; j++)
            out[j] += x[j];
    }
}

void
moe_cpu_copy_block(moe_job *job, int64_t rows, int64_t cols, const float *x, int64_t x_stride, bool add, float *out,
                   int64_t out_stride)
{
    if (cols == 0)
        return;
    matrix m = {.cols = cols, .x = x, .x_stride = x_stride, .add = add, .out = out, .out_stride = out_stride};
    moe_parallel(job, rows, moe_row_grain(cols), copy_block_range, &m);
}
