/*
 * large.c: operations on matrices of more than 2^31 numbers.
 *
 * The matrix is address space of which a few pages are touched: its first rows
 * and those beyond the 2^31st number, which 32 bits of index arithmetic miss.
 */
#include "ops.h"

#include <string.h>
#include <sys/mman.h>

#define COLS 64
#define LAST ((INT64_C(1) << 31) / COLS + 5) /* this row begins beyond 2^31 numbers */
#define ROWS (LAST + 1)

typedef struct matrices
{
    float *x;    /* [ROWS, COLS] */
    double *sum; /* the same */
} matrices;

static void *
reserve(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

/* What the numbers at row LAST and row 1 are; all others are zero. */
static float
far_number(int64_t j)
{
    return (float) (j + 1);
}

static float
near_number(int64_t j)
{
    return (float) (1000 - j);
}

static bool
make_matrices(matrices *m)
{
    m->x = reserve((size_t) ROWS * COLS * sizeof(float));
    m->sum = reserve((size_t) ROWS * COLS * sizeof(double));
    for (int64_t j = 0; m->x != NULL && m->sum != NULL && j < COLS; j++)
    {
        m->x[LAST * COLS + j] = far_number(j);
        m->x[COLS + j] = near_number(j);
        m->sum[LAST * COLS + j] = far_number(j);
        m->sum[COLS + j] = near_number(j);
    }
    return m->x != NULL && m->sum != NULL;
}

static void
free_matrices(matrices *m)
{
    if (m->x != NULL)
        munmap(m->x, (size_t) ROWS * COLS * sizeof(float));
    if (m->sum != NULL)
        munmap(m->sum, (size_t) ROWS * COLS * sizeof(double));
}

static void
expect(const moe_backend *backend, const char *operation, float got, float expected)
{
    if (got != expected)
        fail_msg("%s on %s, beyond 2^31 numbers: %g instead of %g", operation, backend->name, got, expected);
}

static void
check_rows(moe_job *job, const moe_backend *backend, const matrices *m)
{
    static const int32_t index[2] = {(int32_t) LAST, 1};
    const int32_t *both[2] = {index, NULL};
    float out[2 * COLS];
    backend->gather(job, 2, COLS, index, m->x, false, out);
    expect(backend, "gather", out[7], far_number(7));
    expect(backend, "gather", out[COLS + 7], near_number(7));
    const float *terms[2] = {m->x, m->x};
    backend->sum_rows(job, 2, COLS, 2, terms, both, out);
    expect(backend, "sum_rows", out[7], far_number(7));
    expect(backend, "sum_rows", out[COLS + 7], 2 * near_number(7));
    float wide[2] = {0, 0};
    backend->copy_block(job, 2, 1, m->x + COLS, (LAST - 1) * COLS, false, wide, 1);
    expect(backend, "copy_block", wide[0], near_number(0));
    expect(backend, "copy_block", wide[1], far_number(0));
}

static void
check_sparse(moe_job *job, const moe_backend *backend, const matrices *m)
{
    static const int32_t index[2] = {(int32_t) LAST, 1};
    static const int64_t offset[2] = {0, 2};
    static const float weight[4] = {1, 10, 1, 100};
    moe_sparse s = {.rows = 1, .entries = 2, .offset = offset, .index = index};
    float out[2 * COLS], dots[2], ones[COLS];
    int32_t argmax[COLS];
    const float *x[1] = {m->x};
    backend->aggregate(job, &s, COLS, m->x, false, out);
    expect(backend, "aggregate", out[7], far_number(7) + near_number(7));
    backend->aggregate_types(job, 1, &s, x, COLS, false, out);
    expect(backend, "aggregate_types", out[7], far_number(7) + near_number(7));
    backend->aggregate_max(job, &s, COLS, m->x, out, argmax);
    expect(backend, "aggregate_max", out[7], near_number(7));
    for (int j = 0; j < COLS; j++)
        ones[j] = 1;
    backend->edge_dot(job, &s, COLS, ones, m->x, false, dots);
    expect(backend, "edge_dot", dots[0], COLS * (COLS + 1) / 2);
    s.weight = weight;
    backend->aggregate_parts(job, &s, 2, COLS, m->x, out);
    expect(backend, "aggregate_parts", out[7], far_number(7) + near_number(7));
    expect(backend, "aggregate_parts", out[COLS + 7], 10 * far_number(7) + 100 * near_number(7));
}

static void
check_others(moe_job *job, const moe_backend *backend, const matrices *m)
{
    static const int32_t last[1] = {(int32_t) LAST}, before[1] = {1};
    static const int64_t offset[2] = {0, 1};
    float out[COLS], w[COLS];
    backend->window_sum(job, 1, COLS, last, before, NULL, NULL, m->sum, out);
    expect(backend, "window_sum", out[7], far_number(7) - near_number(7));
    for (int j = 0; j < COLS; j++)
        w[j] = 1;
    backend->grouped_linear(job, 1, 1, COLS, 1, offset, last, m->x, w, NULL, out);
    expect(backend, "grouped_linear", out[0], COLS * (COLS + 1) / 2);
}

bool
ops_check_large(moe_job *job, const moe_backend *backend)
{
    matrices m;
    bool made = make_matrices(&m);
    if (made)
    {
        check_rows(job, backend, &m);
        check_sparse(job, backend, &m);
        check_others(job, backend, &m);
        assert_int_equal(moe_job_code(job), MOE_OK);
    }
    free_matrices(&m);
    return made;
}
