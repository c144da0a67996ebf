/*
 * cholesky.c: L L^T = A by panels of columns, looking left.
 *
 * For each panel every row first loses its products with the panels before,
 * then the square on the diagonal is factored, then the rows below it are
 * divided by that. Rows are independent of each other in both long steps, and
 * their chunks depend on the size alone.
 */
#include "gnn/cholesky.h"

#include <math.h>

#define PANEL     64
#define ROWS      8     /* a chunk */
#define SMALLEST  1e-10 /* pivot, as a share of its diagonal element */
#define AT_A_TIME 4

typedef double lanes __attribute__((vector_size(4 * sizeof(double)), aligned(sizeof(double)), may_alias));

typedef struct factoring
{
    moe_job *job;
    int64_t n;
    double *a;
    int64_t first; /* column of the panel */
    int64_t end;
} factoring;

/* out[r] = the product of x with row r of b, over the first `depth` elements. */
static void
multiply_rows(int64_t depth, const double *x, const double *b, int64_t stride, double *out)
{
    lanes sum[AT_A_TIME] = {{0}};
    int64_t k = 0;
    for (; k + 4 <= depth; k += 4)
        for (int r = 0; r < AT_A_TIME; r++)
            sum[r] += *(const lanes *) (x + k) * *(const lanes *) (b + r * stride + k);
    for (int r = 0; r < AT_A_TIME; r++)
    {
        out[r] = (sum[r][0] + sum[r][1]) + (sum[r][2] + sum[r][3]);
        for (int64_t rest = k; rest < depth; rest++)
            out[r] += x[rest] * b[r * stride + rest];
    }
}

/* Rows first + [begin, end): subtract what the columns before the panel stand for. */
static void
look_left(int64_t begin, int64_t end, void *arg)
{
    const factoring *f = arg;
    if (moe_job_cancelled(f->job))
        return;
    for (int64_t i = f->first + begin; i < f->first + end; i++)
        for (int64_t j = f->first; j < f->end; j += AT_A_TIME)
        {
            double product[AT_A_TIME];
            int64_t count = f->end - j < AT_A_TIME ? f->end - j : AT_A_TIME;
            if (count == AT_A_TIME)
                multiply_rows(f->first, f->a + i * f->n, f->a + j * f->n, f->n, product);
            else
                for (int64_t r = 0; r < count; r++)
                {
                    product[r] = 0;
                    for (int64_t k = 0; k < f->first; k++)
                        product[r] += f->a[i * f->n + k] * f->a[(j + r) * f->n + k];
                }
            for (int64_t r = 0; r < count && j + r <= i; r++)
                f->a[i * f->n + j + r] -= product[r];
        }
}

/* Element (i, j) of L but for the division, from the panel's columns before j. */
static double
within_panel(const factoring *f, int64_t i, int64_t j)
{
    double value = f->a[i * f->n + j];
    for (int64_t k = f->first; k < j; k++)
        value -= f->a[i * f->n + k] * f->a[j * f->n + k];
    return value;
}

static void
factor_square(const factoring *f, const double *diagonal)
{
    for (int64_t i = f->first; i < f->end; i++)
    {
        for (int64_t j = f->first; j < i; j++)
            f->a[i * f->n + j] = within_panel(f, i, j) / f->a[j * f->n + j];
        double least = SMALLEST * diagonal[i] > 0 ? SMALLEST * diagonal[i] : SMALLEST;
        double pivot = within_panel(f, i, i);
        f->a[i * f->n + i] = sqrt(pivot > least ? pivot : least);
    }
}

static void
divide_rows(int64_t begin, int64_t end, void *arg)
{
    const factoring *f = arg;
    for (int64_t i = f->end + begin; i < f->end + end; i++)
        for (int64_t j = f->first; j < f->end; j++)
            f->a[i * f->n + j] = within_panel(f, i, j) / f->a[j * f->n + j];
}

moe_code
moe_cholesky(moe_job *job, int64_t n, double *a)
{
    factoring f = {.job = job, .n = n, .a = a};
    double *diagonal = moe_alloc(job, n, sizeof *diagonal);
    for (int64_t i = 0; diagonal != NULL && i < n; i++)
        diagonal[i] = a[i * n + i];
    for (f.first = 0; diagonal != NULL && f.first < n && moe_job_check(job) == MOE_OK; f.first = f.end)
    {
        f.end = f.first + PANEL < n ? f.first + PANEL : n;
        moe_parallel(job, n - f.first, ROWS, look_left, &f);
        factor_square(&f, diagonal);
        moe_parallel(job, n - f.end, ROWS, divide_rows, &f);
    }
    moe_free(job, diagonal);
    return moe_job_check(job);
}

void
moe_cholesky_solve(int64_t n, const double *l, double *x)
{
    for (int64_t i = 0; i < n; i++)
    {
        for (int64_t k = 0; k < i; k++)
            x[i] -= l[i * n + k] * x[k];
        x[i] /= l[i * n + i];
    }
    for (int64_t i = n - 1; i >= 0; i--)
    {
        x[i] /= l[i * n + i];
        for (int64_t k = 0; k < i; k++)
            x[k] -= l[i * n + k] * x[i];
    }
}
