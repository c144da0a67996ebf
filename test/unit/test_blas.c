/*
 * test_blas.c: dense products of all shapes, their rows in any company, and cancellation.
 */
#include "core.h"

#include <math.h>
#include <string.h>

#include "kernels/blas.h"
#include "kernels/ops.h"

/* C = op(A) op(B) + beta C, plainly. */
static void
check_gemm(moe_job *job, bool ta, bool tb, int64_t m, int64_t n, int64_t k, float beta)
{
    int64_t lda = (ta ? m : k) + 3, ldb = (tb ? k : n) + 1, ldc = n + 2;
    float *a = normal_floats(job, (ta ? k : m) * lda, 1), *b = normal_floats(job, (tb ? n : k) * ldb, 2);
    float *c = normal_floats(job, m * ldc, 3), *before = normal_floats(job, m * ldc, 3);
    if (beta == 0)
    {
        for (int64_t i = 0; i < m * ldc; i++)
            c[i] = i % ldc < n ? NAN : c[i];
    }
    moe_gemm(job, ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc);
    for (int64_t i = 0; i < m; i++)
    {
        for (int64_t j = 0; j < ldc; j++)
        {
            double sum = j < n && beta == 0 ? 0 : (j < n ? beta : 1) * before[i * ldc + j];
            for (int64_t l = 0; j < n && l < k; l++)
                sum += (double) a[ta ? l * lda + i : i * lda + l] * b[tb ? j * ldb + l : l * ldb + j];
            assert_true(fabs(c[i * ldc + j] - sum) < 1e-3);
        }
    }
    moe_free(job, a);
    moe_free(job, b);
    moe_free(job, c);
    moe_free(job, before);
}

static void
products_of_all_shapes(void **state)
{
    static const int64_t sizes[][3] = {{0, 3, 4}, {3, 0, 4},     {3, 4, 0},    {1, 1, 1},
                                       {5, 7, 9}, {300, 33, 17}, {9, 11, 5000}};
    moe_job *job = start_job(3);
    assert_int_equal(moe_blas_open(job), MOE_OK);
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
    {
        for (int kind = 0; kind < 8; kind++)
            check_gemm(job, kind & 1, kind & 2, sizes[s][0], sizes[s][1], sizes[s][2], kind & 4 ? -0.5f : 0);
    }
    assert_memory_equal(moe_blas_version(), "OpenBLAS", 8);
    assert_int_equal(moe_job_code(job), MOE_OK);
    moe_job_destroy(job);
}

/* So that a prediction does not depend on what else is predicted with it. */
static void
a_row_of_a_product_does_not_depend_on_the_others(void **state)
{
    enum
    {
        ROWS = 300,
        WIDEST = 130
    };
    static const int64_t inputs[] = {1, 3, 16, 33, 64, 128, WIDEST}, outputs[] = {1, 5, 8, 16, 30, 64, 128};
    static float a[ROWS * WIDEST], b[WIDEST * WIDEST], whole[ROWS * WIDEST], part[ROWS * WIDEST], bias[WIDEST];
    moe_job *job = start_job(2);
    assert_int_equal(moe_blas_open(job), MOE_OK);
    for (int64_t i = 0; i < ROWS * WIDEST; i++)
        a[i] = (float) moe_random_normal(1, i);
    for (int64_t i = 0; i < WIDEST * WIDEST; i++)
        b[i] = (float) moe_random_normal(2, i);
    for (int64_t i = 0; i < WIDEST; i++)
        bias[i] = (float) moe_random_normal(3, i);
    for (size_t x = 0; x < sizeof inputs / sizeof *inputs; x++)
        for (size_t y = 0; y < sizeof outputs / sizeof *outputs; y++)
        {
            int64_t k = inputs[x], n = outputs[y];
            moe_backend_cpu.linear(job, ROWS, k, n, a, b, bias, whole);
            for (int64_t first = 0; first < ROWS; first += 37)
                for (int64_t rows = 1; first + rows <= ROWS; rows += 1 + rows / 3)
                {
                    moe_backend_cpu.linear(job, rows, k, n, a + first * k, b, bias, part);
                    assert_memory_equal(part, whole + first * n, rows * n * sizeof *part);
                }
        }
    moe_job_destroy(job);
}

static _Atomic int polls;

static bool
cancel_at_third_poll(void *arg)
{
    return ++polls == 3;
}

/* A flag that was seen once counts, though it is down again when the product ends. */
static void
products_stop_when_cancelled(void **state)
{
    moe_job_config config = {.threads = 2, .cancelled = cancel_at_third_poll};
    moe_job *job;
    int64_t rows = 60000, n = 64;
    assert_int_equal(moe_job_create(&config, &job), MOE_OK);
    assert_int_equal(moe_blas_open(job), MOE_OK);
    float *a = moe_alloc(job, rows * n, sizeof(float)), *b = moe_alloc(job, n * n, sizeof(float));
    float *c = moe_alloc(job, rows * n, sizeof(float));
    polls = 0;
    moe_gemm(job, false, false, rows, n, n, a, n, b, n, 0, c, n);
    assert_int_equal(moe_job_code(job), MOE_CANCELLED);
    assert_true(polls <= 4);
    moe_job_destroy(job);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_of_all_shapes),
        cmocka_unit_test(a_row_of_a_product_does_not_depend_on_the_others),
        cmocka_unit_test(products_stop_when_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
