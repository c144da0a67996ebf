/*
 * test_ops.c: every operation of the CPU backend against the reference, on odd
 * shapes, and bit for bit the same for 1, 2 and 7 threads.
 *
 * Outputs that an operation must overwrite are filled with NaN beforehand, and
 * those it must add to with numbers.
 */
#include "core.h"

#include <math.h>
#include <string.h>

#include "kernels/blas.h"
#include "kernels/buffer.h"
#include "kernels/ops.h"

/* Where an operation runs, on what shape, and where its results go. */
typedef struct trial
{
    moe_job *job;
    const moe_backend *backend;
    int64_t rows;
    int64_t cols;
    bool add;
    moe_buffer *results;
} trial;

typedef void (*operation)(const trial *t);

/* The same numbers for every trial of one shape. */
static float *
input(const trial *t, int64_t n, uint64_t key)
{
    return normal_floats(t->job, n, key);
}

static float *
output(const trial *t, int64_t n, bool add)
{
    float *out = normal_floats(t->job, n, 1000);
    for (int64_t i = 0; !add && i < n; i++)
        out[i] = NAN;
    return out;
}

static void
result(const trial *t, const float *out, int64_t n)
{
    moe_put_bytes(t->results, out, n * (int64_t) sizeof(float));
}

/* Run on a backend with a number of threads; the results stay in the job's memory. */
static moe_buffer
run_trial(operation op, moe_job *job, const moe_backend *backend, int64_t rows, int64_t cols, bool add)
{
    moe_buffer results;
    moe_buffer_init(&results, job);
    trial t = {job, backend, rows, cols, add, &results};
    op(&t);
    assert_string_equal(moe_job_error(job), "");
    return results;
}

static void
compare(const moe_buffer *got, const moe_buffer *expected)
{
    const float *a = (const float *) got->data;
    const float *b = (const float *) expected->data;
    assert_int_equal(got->length, expected->length);
    for (int64_t i = 0; i < got->length / (int64_t) sizeof(float); i++)
    {
        if (!(fabsf(a[i] - b[i]) <= 2e-4f * (1 + fabsf(b[i]))))
            fail_msg("number %d: %g where the reference has %g", (int) i, a[i], b[i]);
    }
}

static void
check(operation op)
{
    static const int64_t shapes[][2] = {{0, 5},  {1, 1},   {1, 8},     {2, 3},    {7, 9},
                                        {33, 4}, {65, 64}, {1030, 70}, {4500, 17}};
    static const int threads[] = {1, 2, 7};
    for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++)
    {
        for (int add = 0; add < 2; add++)
        {
            moe_buffer first = {0};
            moe_job *reference_job = start_job(1);
            moe_job *jobs[3];
            moe_buffer expected = run_trial(op, reference_job, &moe_backend_reference, shapes[s][0], shapes[s][1], add);
            for (int t = 0; t < 3; t++)
            {
                jobs[t] = start_job(threads[t]);
                assert_int_equal(moe_blas_open(jobs[t]), MOE_OK);
                moe_buffer got = run_trial(op, jobs[t], &moe_backend_cpu, shapes[s][0], shapes[s][1], add);
                compare(&got, &expected);
                first = t == 0 ? got : first;
                if (got.length > 0)
                    assert_memory_equal(got.data, first.data, (size_t) got.length);
            }
            for (int t = 0; t < 3; t++)
                moe_job_destroy(jobs[t]);
            moe_job_destroy(reference_job);
        }
    }
}

static void
run_linear_to(const trial *t, int64_t m)
{
    float *x = input(t, t->rows * t->cols, 1), *w = input(t, t->cols * m, 2), *b = input(t, m, 3);
    float *gy = input(t, t->rows * m, 4);
    float *y = output(t, t->rows * m, false);
    float *gx = output(t, t->rows * t->cols, t->add), *gw = output(t, t->cols * m, true);
    t->backend->linear(t->job, t->rows, t->cols, m, x, w, t->add ? b : NULL, y);
    t->backend->linear_input(t->job, t->rows, t->cols, m, gy, w, t->add, gx);
    t->backend->linear_weight(t->job, t->rows, t->cols, m, x, gy, gw);
    result(t, y, t->rows * m);
    result(t, gx, t->rows * t->cols);
    result(t, gw, t->cols * m);
}

/* To columns that suit the tiles of narrow.c and to others, from columns that do and do not. */
static void
run_linear(const trial *t)
{
    run_linear_to(t, 13);
    run_linear_to(t, 32);
    run_linear_to(t, 1024);
}

static void
linear_maps(void **state)
{
    check(run_linear);
}

static void
run_elementwise(const trial *t)
{
    int64_t n = t->rows * t->cols;
    const float *terms[] = {input(t, n, 1), input(t, n, 2), input(t, n, 3), input(t, n, 4)};
    for (int k = 1; k <= 4; k++)
    {
        float *sum = output(t, n, false);
        t->backend->sum(t->job, n, terms, k, sum);
        result(t, sum, n);
    }
    float *scaled = output(t, n, t->add), *product = output(t, n, t->add);
    t->backend->scale(t->job, n, -1.5f, terms[0], t->add, scaled);
    t->backend->multiply(t->job, n, terms[0], terms[1], t->add, product);
    result(t, scaled, n);
    result(t, product, n);

    float *y = output(t, n, false), *gx = output(t, n, t->add);
    t->backend->relu(t->job, n, terms[0], y);
    t->backend->relu_backward(t->job, n, 1.25f, y, terms[1], t->add, gx);
    result(t, y, n);
    result(t, gx, n);
}

static void
elementwise_operations(void **state)
{
    check(run_elementwise);
}

/* The outputs that may be the input itself give the same when they are. */
static void
run_in_place(const trial *t)
{
    int64_t n = t->rows * t->cols;
    float *y = input(t, n, 1), *g = input(t, n, 2), *gain = input(t, t->cols, 3);
    float *mean = input(t, t->rows, 4), *deviation = input(t, t->rows, 5);
    float *ggain = output(t, t->cols, true), *gbias = output(t, t->cols, true);
    t->backend->scale(t->job, n, 0.5f, g, t->add, g);
    t->backend->relu_backward(t->job, n, 1, y, g, t->add, g);
    t->backend->dropout(t->job, n, 0.3f, 77, g, t->add, g);
    t->backend->softmax_backward(t->job, t->rows, t->cols, y, g, false, g);
    t->backend->scale(t->job, n, 1 / (1.0f + (float) t->cols), g, false, g);
    result(t, g, n);
    g = input(t, n, 6);
    if (t->backend == &moe_backend_reference)
    {
        float *gx = output(t, n, false);
        t->backend->layer_norm_backward(t->job, t->rows, t->cols, y, gain, mean, deviation, g, false, gx, ggain, gbias);
        g = gx;
    }
    else
        t->backend->layer_norm_backward(t->job, t->rows, t->cols, y, gain, mean, deviation, g, false, g, ggain, gbias);
    result(t, g, n);
}

static void
operations_in_place(void **state)
{
    check(run_in_place);
}

static void
run_rows_and_columns(const trial *t)
{
    int64_t n = t->rows * t->cols;
    float *x = input(t, n, 1), *y = input(t, n, 2), *row = input(t, t->cols, 3), *column = input(t, t->rows, 4);
    float *shifted = output(t, n, false), *sums = output(t, t->cols, true);
    float *scaled = output(t, n, t->add), *dots = output(t, t->rows, t->add);
    t->backend->add_row(t->job, t->rows, t->cols, x, row, shifted);
    t->backend->column_sum(t->job, t->rows, t->cols, x, sums);
    t->backend->multiply_column(t->job, t->rows, t->cols, x, column, t->add, scaled);
    t->backend->row_dot(t->job, t->rows, t->cols, x, y, t->add, dots);
    result(t, shifted, n);
    result(t, sums, t->cols);
    result(t, scaled, n);
    result(t, dots, t->rows);

    /* The middle columns of x to the right of a wider matrix, whose other columns stay. */
    int64_t width = t->cols + 2, part = t->cols / 2;
    float *wide = output(t, t->rows * width, true);
    t->backend->copy_block(t->job, t->rows, part, x + t->cols / 4, t->cols, t->add, wide + 2, width);
    result(t, wide, t->rows * width);
}

static void
row_and_column_operations(void **state)
{
    check(run_rows_and_columns);
}

static void
run_layer_norm(const trial *t)
{
    int64_t n = t->rows * t->cols;
    float *x = input(t, n, 1), *gain = input(t, t->cols, 2), *bias = input(t, t->cols, 3), *gy = input(t, n, 4);
    float *y = output(t, n, false), *mean = output(t, t->rows, false), *deviation = output(t, t->rows, false);
    float *gx = output(t, n, t->add), *ggain = output(t, t->cols, true), *gbias = output(t, t->cols, true);
    /* A row of equal numbers has no variance; rows of three or more keep it moderate. */
    for (int64_t j = 0; t->rows > 5 && j < t->cols; j++)
        x[3 * t->cols + j] = 2;
    t->backend->layer_norm(t->job, t->rows, t->cols, x, gain, bias, y, mean, deviation);
    t->backend->layer_norm_backward(t->job, t->rows, t->cols, x, gain, mean, deviation, gy, t->add, gx, ggain, gbias);
    result(t, y, n);
    result(t, mean, t->rows);
    result(t, gx, n);
    result(t, ggain, t->cols);
    result(t, gbias, t->cols);

    float *only_bias = output(t, t->cols, true);
    t->backend->layer_norm_backward(t->job, t->rows, t->cols, x, gain, mean, deviation, gy, t->add, NULL, NULL,
                                    only_bias);
    result(t, only_bias, t->cols);
}

static void
layer_norm(void **state)
{
    check(run_layer_norm);
}

static void
run_softmax(const trial *t)
{
    int64_t n = t->rows * t->cols;
    float *x = input(t, n, 1), *gy = input(t, n, 2), *y = output(t, n, false), *gx = output(t, n, t->add);
    for (int64_t i = 0; i < n; i++)
        x[i] *= 40;
    t->backend->softmax(t->job, t->rows, t->cols, x, y);
    t->backend->softmax_backward(t->job, t->rows, t->cols, y, gy, t->add, gx);
    result(t, y, n);
    result(t, gx, n);
}

static void
softmax(void **state)
{
    check(run_softmax);
}

static void
run_dropout(const trial *t)
{
    int64_t n = t->rows * t->cols;
    float rates[] = {0.1f, 0.5f, 0.999999f, 1e-7f};
    for (int i = 0; i < 4; i++)
    {
        float *x = input(t, n, 1), *y = output(t, n, t->add);
        float *active = output(t, n, false);
        t->backend->dropout(t->job, n, rates[i], 42, x, t->add, y);
        t->backend->relu_dropout(t->job, n, rates[i], 42, x, active);
        result(t, y, n);
        result(t, active, n);
    }
}

static void
dropout(void **state)
{
    check(run_dropout);
}

/* Indices in [-1, limit), some rows many times. */
static int32_t *
indices(const trial *t, int64_t n, int64_t limit, uint64_t key)
{
    int32_t *index = moe_alloc(t->job, n, sizeof(int32_t));
    for (int64_t i = 0; i < n; i++)
    {
        double u = moe_random_uniform(key, (uint64_t) i);
        index[i] = limit == 0 ? -1 : (int32_t) floor(u * u * (double) (limit + 1)) - 1;
    }
    return index;
}

/* Row lengths 0, 1, 2, ... 6, 0, ... */
static int64_t *
offsets(const trial *t, int64_t n)
{
    int64_t *offset = moe_alloc(t->job, n + 1, sizeof(int64_t));
    for (int64_t i = 0; i < n; i++)
        offset[i + 1] = offset[i] + i % 7;
    return offset;
}

static void
run_sparse(const trial *t)
{
    int64_t sources = t->rows % 301;
    int64_t *offset = offsets(t, t->rows);
    int32_t *index = indices(t, offset[t->rows], sources, 9);
    int32_t *one = indices(t, t->rows, sources, 10);
    float *weight = input(t, offset[t->rows], 2), *x = input(t, sources * t->cols, 1);
    float *gathered = output(t, t->rows * t->cols, t->add);
    t->backend->gather(t->job, t->rows, t->cols, one, x, t->add, gathered);
    result(t, gathered, t->rows * t->cols);

    for (int kind = 0; kind < 4; kind++)
    {
        moe_sparse s = {.rows = t->rows,
                        .entries = offset[t->rows],
                        .offset = offset,
                        .index = index,
                        .weight = kind % 2 ? weight : NULL,
                        .reduce = kind / 2 ? MOE_MEAN : MOE_SUM};
        float *out = output(t, t->rows * t->cols, t->add);
        t->backend->aggregate(t->job, &s, t->cols, x, t->add, out);
        result(t, out, t->rows * t->cols);
    }

    for (int parts = 1; parts < 7; parts++)
    {
        moe_sparse s = {.rows = t->rows,
                        .entries = offset[t->rows],
                        .offset = offset,
                        .index = index,
                        .weight = input(t, offset[t->rows] * parts, 3)};
        float *out = output(t, t->rows * parts * t->cols, false);
        t->backend->aggregate_parts(t->job, &s, parts, t->cols, x, out);
        result(t, out, t->rows * parts * t->cols);
    }

    const float *terms[] = {x, input(t, t->rows * t->cols, 4), x};
    const int32_t *rows[] = {one, NULL, indices(t, t->rows, sources, 11)};
    for (int n = 1; n <= 3; n++)
    {
        float *out = output(t, t->rows * t->cols, false);
        t->backend->sum_rows(t->job, t->rows, t->cols, n, terms, rows, out);
        result(t, out, t->rows * t->cols);
    }
}

static void
sparse_products(void **state)
{
    check(run_sparse);
}

static void
run_transpose(const trial *t)
{
    int64_t columns = t->rows % 301;
    int64_t *offset = offsets(t, t->rows);
    for (int kind = 0; kind < 6; kind++)
    {
        int parts = kind == 5 ? 3 : 1;
        bool single = kind == 4;
        int64_t entries = single ? t->rows : offset[t->rows];
        moe_sparse s = {.rows = t->rows,
                        .entries = entries,
                        .offset = single ? NULL : offset,
                        .index = indices(t, entries, columns, 9),
                        .weight = kind % 2 ? input(t, entries * parts, 2) : NULL,
                        .reduce = kind / 2 == 1 ? MOE_MEAN : MOE_SUM};
        bool weighted = kind != 0 && kind != 4;
        int64_t *to = moe_alloc(t->job, columns + 1, sizeof(int64_t));
        int32_t *index = moe_alloc(t->job, entries * parts, sizeof(int32_t));
        float *weight = weighted ? moe_alloc(t->job, entries * parts, sizeof(float)) : NULL;
        t->backend->transpose(t->job, &s, parts, columns, to, index, weight, NULL);
        for (int64_t c = 0; c <= columns; c++)
            result(t, &(float){(float) to[c]}, 1);
        for (int64_t k = 0; k < to[columns]; k++)
            result(t, (float[]){(float) index[k], weighted ? weight[k] : 0}, 2);
    }
}

static void
transposes(void **state)
{
    check(run_transpose);
}

static void
run_mixture(const trial *t)
{
    int64_t n = t->rows * t->cols;
    float *logits = input(t, n, 1);
    for (int64_t i = 0; i < n; i += 5)
        logits[i] = 0.25f; /* ties */
    for (int k = 1; k <= t->cols && k < 4; k++)
    {
        float *gates = output(t, n, false), *noisy = output(t, n, false), *gradient = output(t, n, false);
        t->backend->top_k_gate(t->job, t->rows, t->cols, k, 0, 5, logits, gates);
        t->backend->top_k_gate(t->job, t->rows, t->cols, k, 0.5f, 5, logits, noisy);
        float balance;
        t->backend->balance_loss(t->job, t->rows, t->cols, logits, gates, &balance, gradient);
        result(t, gates, n);
        result(t, noisy, n);
        result(t, gradient, n);
        result(t, &balance, 1);
    }
    float *gradient = output(t, n, false);
    float z;
    t->backend->z_loss(t->job, t->rows, t->cols, logits, &z, gradient);
    result(t, gradient, n);
    result(t, &z, 1);
}

static void
mixture_operations(void **state)
{
    check(run_mixture);
}

static void
run_losses(const trial *t)
{
    float *x = input(t, t->rows, 1), *number = input(t, t->rows, 2), *weight = input(t, t->rows, 3);
    float *binary = input(t, t->rows, 2), *logits = input(t, t->rows * t->cols, 4);
    int32_t *class = moe_alloc(t->job, t->rows, sizeof(int32_t));
    for (int64_t i = 0; i < t->rows; i++)
    {
        binary[i] = binary[i] > 0;
        weight[i] = fabsf(weight[i]);
        class[i] = (int32_t) (i * 7 % t->cols);
    }
    for (moe_loss_kind kind = MOE_LOSS_LOGISTIC; kind <= MOE_LOSS_SQUARED; kind++)
    {
        float *gradient = output(t, t->rows, false);
        float loss;
        t->backend->loss(t->job, kind, t->rows, x, kind == MOE_LOSS_LOGISTIC ? binary : number, t->add ? weight : NULL,
                         &loss, gradient);
        result(t, gradient, t->rows);
        result(t, &loss, 1);
    }
    float *gradient = output(t, t->rows * t->cols, false);
    float loss;
    t->backend->cross_entropy(t->job, t->rows, t->cols, logits, class, t->add ? weight : NULL, &loss, gradient);
    result(t, gradient, t->rows * t->cols);
    result(t, &loss, 1);
}

static void
losses(void **state)
{
    check(run_losses);
}

static void
losses_without_weight_are_zero(void **state)
{
    moe_job *job = start_job(1);
    float x[2] = {3, 4}, label[2] = {0, 1}, weight[2] = {0, 0}, gradient[2] = {NAN, NAN};
    float loss;
    moe_backend_cpu.loss(job, MOE_LOSS_SQUARED, 2, x, label, weight, &loss, gradient);
    assert_true(loss == 0);
    assert_true(gradient[0] == 0 && gradient[1] == 0);
    moe_job_destroy(job);
}

static void
logistic_loss_does_not_overflow(void **state)
{
    moe_job *job = start_job(1);
    float x[4] = {1000, -1000, 1000, -1000}, label[4] = {1, 0, 0, 1}, gradient[4];
    float loss;
    moe_backend_cpu.loss(job, MOE_LOSS_LOGISTIC, 4, x, label, NULL, &loss, gradient);
    assert_true(fabsf(loss - 500) < 1e-3f);
    assert_true(gradient[0] == 0 && gradient[2] == 0.25f && gradient[3] == -0.25f);
    moe_job_destroy(job);
}

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

static _Atomic int polls;

static bool
cancel_at_third_poll(void *arg)
{
    return ++polls == 3;
}

/* A flag that was seen once counts, though it is down again when the product ends. */
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
        cmocka_unit_test(linear_maps),
        cmocka_unit_test(elementwise_operations),
        cmocka_unit_test(operations_in_place),
        cmocka_unit_test(row_and_column_operations),
        cmocka_unit_test(layer_norm),
        cmocka_unit_test(softmax),
        cmocka_unit_test(dropout),
        cmocka_unit_test(sparse_products),
        cmocka_unit_test(transposes),
        cmocka_unit_test(mixture_operations),
        cmocka_unit_test(losses),
        cmocka_unit_test(losses_without_weight_are_zero),
        cmocka_unit_test(logistic_loss_does_not_overflow),
        cmocka_unit_test(products_of_all_shapes),
        cmocka_unit_test(a_row_of_a_product_does_not_depend_on_the_others),
        cmocka_unit_test(products_stop_when_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
