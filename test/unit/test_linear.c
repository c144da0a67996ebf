/*
 * test_linear.c: logistic, ridge and multinomial regression.
 */
#include "test/unit/dense_fixture.h"

#include "gnn/cholesky.h"
#include "gnn/minimise.h"

/* What is stored of a fitted model. */
typedef struct fitted
{
    double shift;
    double scale;
    double penalty;
    int64_t n;
    double parameters[4096];
} fitted;

static fitted *
stored(moe_job *job, const moe_dense_expert *expert)
{
    moe_buffer bytes = dense_bytes(job, expert);
    fitted *f = moe_alloc(job, 1, sizeof *f);
    moe_reader reader;
    moe_reader_init(&reader, job, bytes.data, bytes.length);
    reader.position = 3 + 4 + 16 + 4;
    f->shift = moe_get_f64(&reader);
    f->scale = moe_get_f64(&reader);
    f->penalty = moe_get_f64(&reader);
    f->n = moe_get_count(&reader, 8);
    assert_true(f->n <= 4096);
    for (int64_t p = 0; p < f->n; p++)
        f->parameters[p] = moe_get_f64(&reader);
    return f;
}

/* The largest component of the penalised loss's gradient at what was fitted, divided by the number of rows. */
static double
slope_at(moe_job *job, const moe_dense_task *task, const moe_dense_rows *rows, const fitted *f)
{
    int outputs = task->n_classes, width = rows->width;
    double *gradient = moe_alloc(job, f->n, sizeof *gradient), most = 0;
    for (int64_t i = 0; i < rows->n; i++)
    {
        double raw[3] = {0}, sum = 0, weight = rows->weight == NULL ? 1 : rows->weight[i];
        for (int o = 0; o < outputs; o++)
        {
            const double *w = f->parameters + o * (width + 1);
            raw[o] = w[width];
            for (int j = 0; j < width; j++)
                raw[o] += w[j] * rows->x[i * width + j];
            sum += exp(raw[o]);
        }
        for (int o = 0; o < outputs; o++)
        {
            double far = raw[o] - (rows->label[i] - f->shift) / f->scale;
            double left = task->task == MOE_REGRESSION ? far / sqrt(1 + far * far / 0.01)
                          : task->task == MOE_BINARY   ? 1 / (1 + exp(-raw[o])) - rows->label[i]
                                                       : exp(raw[o]) / sum - (rows->label[i] == o);
            for (int j = 0; j < width; j++)
                gradient[o * (width + 1) + j] += weight * left * rows->x[i * width + j];
            gradient[o * (width + 1) + width] += weight * left;
        }
    }
    for (int64_t p = 0; p < f->n; p++)
    {
        gradient[p] += p % (width + 1) == width ? 0 : f->penalty * f->parameters[p];
        most = fmax(most, fabs(gradient[p]) / rows->n);
    }
    return most;
}

static const moe_dense_task *const tasks[] = {&binary_task, &regression_task, &three_classes};

static void
a_fit_is_the_minimum_of_the_penalised_loss(void **state)
{
    int64_t sizes[][2] = {{700, 13}, {40, 90}, {9, 1}, {3000, 60}, {300, 0}};
    for (int t = 0; t < 3; t++)
        for (int s = 0; s < 5; s++)
        {
            moe_job *job = dense_job(2);
            moe_dense_rows rows = dense_rows(job, tasks[t]->task, sizes[s][0], 90, 1, 3);
            float *x = moe_alloc(job, rows.n * sizes[s][1], sizeof(float));
            for (int64_t i = 0; i < rows.n * sizes[s][1]; i++)
                x[i] = rows.x[i / sizes[s][1] * 90 + i % sizes[s][1]];
            rows.x = x;
            rows.width = (int) sizes[s][1];
            fitted *f = stored(job, dense_fit(job, MOE_DENSE_LINEAR, tasks[t], &rows, NULL));
            assert_true(slope_at(job, tasks[t], &rows, f) < 2e-6);
            assert_float_equal(f->penalty, (tasks[t] == &regression_task ? 2000 : 500), 1e-9);
            moe_job_destroy(job);
        }
}

static void
columns_that_repeat_each_other_do_no_harm(void **state)
{
    moe_job *job = dense_job(2);
    moe_dense_rows rows = dense_rows(job, MOE_BINARY, 2000, 3, 1, 3);
    float *x = moe_alloc(job, 2000 * 30, sizeof(float));
    for (int64_t i = 0; i < 2000 * 30; i++)
        x[i] = rows.x[i / 30 * 3 + i % 3];
    rows.x = x;
    rows.width = 30;
    fitted *f = stored(job, dense_fit(job, MOE_DENSE_LINEAR, &binary_task, &rows, NULL));
    assert_true(slope_at(job, &binary_task, &rows, f) < 2e-6);
    assert_float_equal(f->parameters[0], f->parameters[27], 1e-5);
    moe_job_destroy(job);
}

static void
a_weight_of_two_is_a_row_twice_and_of_none_no_row(void **state)
{
    for (int t = 0; t < 3; t++)
    {
        moe_job *job = dense_job(2);
        moe_dense_rows rows = dense_rows(job, tasks[t]->task, 600, 5, 1, 3), repeated = rows;
        float *x = moe_alloc(job, 600 * 5, sizeof(float)), *label = moe_alloc(job, 600, sizeof(float));
        float *weight = moe_alloc(job, 600, sizeof(float));
        int64_t n = 0;
        for (int64_t i = 0; i < 600; i++)
        {
            weight[i] = (float) (i % 3 == 0 ? 2 : i % 3 == 1 ? 0 : 1);
            for (int copy = 0; copy < weight[i]; copy++)
            {
                memcpy(x + n * 5, rows.x + i * 5, 5 * sizeof(float));
                label[n++] = rows.label[i];
            }
        }
        rows.weight = weight;
        repeated.x = x;
        repeated.label = label;
        repeated.n = n;
        float *a = dense_predict(job, dense_fit(job, MOE_DENSE_LINEAR, tasks[t], &rows, NULL), tasks[t], &rows);
        float *b = dense_predict(job, dense_fit(job, MOE_DENSE_LINEAR, tasks[t], &repeated, NULL), tasks[t], &rows);
        for (int64_t i = 0; i < 600 * tasks[t]->n_classes; i++)
            assert_float_equal(a[i], b[i], 1e-4);
        moe_job_destroy(job);
    }
}

/* Weights with which the penalty does not matter, though there are few columns. */
static float *
many(moe_job *job, int64_t n)
{
    float *weight = moe_alloc(job, n, sizeof(float));
    assert_non_null(weight);
    for (int64_t i = 0; i < n; i++)
        weight[i] = 100;
    return weight;
}

static void
predictions_follow_the_labels(void **state)
{
    moe_job *job = dense_job(2);
    for (int t = 0; t < 3; t++)
    {
        moe_dense_rows train = dense_rows(job, tasks[t]->task, 5000, 8, 0.5, 3);
        moe_dense_rows test = dense_rows(job, tasks[t]->task, 1000, 8, 0.5, 4);
        train.weight = many(job, train.n);
        float *out = dense_predict(job, dense_fit(job, MOE_DENSE_LINEAR, tasks[t], &train, NULL), tasks[t], &test);
        double good = 0;
        for (int64_t i = 0; i < 1000; i++)
            if (tasks[t]->task == MOE_REGRESSION)
                good += fabs(out[i] - test.label[i]) < 15;
            else if (tasks[t]->task == MOE_BINARY)
                good += (out[i] > 0.5) == (test.label[i] > 0);
            else
            {
                const float *p = out + 3 * i;
                good += p[(int) test.label[i]] >= fmaxf(fmaxf(p[0], p[1]), p[2]);
                assert_float_equal(p[0] + p[1] + p[2], 1, 1e-5);
            }
        assert_true(good > 750);
    }
    moe_job_destroy(job);
}

static void
a_regression_stays_within_its_bounds(void **state)
{
    moe_job *job = dense_job(1);
    moe_dense_task narrow = {.task = MOE_REGRESSION, .n_classes = 1, .low = 20, .high = 40};
    moe_dense_rows train = dense_rows(job, MOE_REGRESSION, 3000, 4, 1, 3);
    train.weight = many(job, train.n);
    float *out = dense_predict(job, dense_fit(job, MOE_DENSE_LINEAR, &narrow, &train, NULL), &narrow, &train);
    bool low = false, high = false;
    for (int64_t i = 0; i < train.n; i++)
    {
        assert_true(out[i] >= 20 && out[i] <= 40);
        low = low || out[i] == 20;
        high = high || out[i] == 40;
    }
    assert_true(low && high);
    moe_job_destroy(job);
}

static void
labels_of_one_kind_give_finite_predictions(void **state)
{
    moe_job *job = dense_job(1);
    for (int t = 0; t < 3; t++)
    {
        moe_dense_rows train = dense_rows(job, tasks[t]->task, 300, 4, 1, 3);
        float same[300];
        for (int i = 0; i < 300; i++)
            same[i] = 1;
        train.label = same;
        float *out = dense_predict(job, dense_fit(job, MOE_DENSE_LINEAR, tasks[t], &train, NULL), tasks[t], &train);
        for (int64_t i = 0; i < 300; i++)
            assert_float_equal(out[i * tasks[t]->n_classes + (t == 2)], 1, 1e-3);
    }
    moe_job_destroy(job);
}

static double
chosen(int64_t train_rows, int64_t valid_rows, double noise)
{
    moe_job *job = dense_job(2);
    moe_dense_rows train = dense_rows(job, MOE_BINARY, train_rows, 4, noise, 3);
    moe_dense_rows valid = dense_rows(job, MOE_BINARY, valid_rows, 4, noise, 4);
    double penalty = stored(job, dense_fit(job, MOE_DENSE_LINEAR, &binary_task, &train, &valid))->penalty;
    moe_job_destroy(job);
    return penalty;
}

static void
another_penalty_is_taken_only_where_it_is_clearly_better(void **state)
{
    assert_float_equal(chosen(1000, 500, 0.1), 100, 1e-9);
    assert_float_equal(chosen(1000, 499, 0.1), 500, 1e-9);
    /* With 30,000 rows and much noise none of the three differs by anything that shows. */
    assert_float_equal(chosen(30000, 600, 30), 500, 1e-9);
}

static void
any_number_of_threads_gives_the_same_bits(void **state)
{
    for (int t = 0; t < 3; t++)
    {
        check_threads(MOE_DENSE_LINEAR, tasks[t], 3001, 37);
        check_threads(MOE_DENSE_LINEAR, tasks[t], 30, 37);
    }
}

static void
a_row_is_predicted_alike_in_any_company(void **state)
{
    for (int t = 0; t < 3; t++)
        check_company(MOE_DENSE_LINEAR, tasks[t], 500, 37);
}

static void
hostile_bytes_are_refused_or_harmless(void **state)
{
    for (int t = 0; t < 3; t++)
        check_hostile(MOE_DENSE_LINEAR, tasks[t], 50, 5);
}

static void
inputs_that_are_not_finite_are_refused(void **state)
{
    moe_job *job = dense_job(1);
    moe_dense_rows train = dense_rows(job, MOE_BINARY, 300, 4, 1, 3);
    moe_dense_expert *expert;
    ((float *) train.x)[77] = INFINITY;
    assert_int_equal(moe_dense_expert_fit(job, MOE_DENSE_LINEAR, &binary_task, &train, NULL, 1, &expert), MOE_INVALID);
    assert_null(expert);
    moe_job_destroy(job);
}

static _Atomic int polls;

static bool
cancel_at_fortieth_poll(void *arg)
{
    return ++polls >= 40;
}

static void
a_fit_stops_when_cancelled(void **state)
{
    moe_job_config config = {.threads = 2, .cancelled = cancel_at_fortieth_poll};
    moe_job *job;
    moe_dense_expert *expert;
    assert_int_equal(moe_job_create(&config, &job), MOE_OK);
    polls = 0;
    moe_dense_rows train = dense_rows(job, MOE_BINARY, 4000, 400, 1, 3);
    assert_int_equal(moe_blas_open(job), MOE_OK);
    assert_int_equal(moe_dense_expert_fit(job, MOE_DENSE_LINEAR, &binary_task, &train, NULL, 1, &expert),
                     MOE_CANCELLED);
    assert_null(expert);
    moe_job_destroy(job);
}

static void
cholesky_solves_systems_of_any_size(void **state)
{
    int64_t sizes[] = {1, 2, 5, 63, 64, 65, 130, 201};
    moe_job *job = dense_job(3);
    for (int s = 0; s < 8; s++)
    {
        int64_t n = sizes[s];
        float *b = normal_floats(job, n * n, 1);
        double *a = moe_alloc(job, n * n, sizeof *a), *l = moe_alloc(job, n * n, sizeof *l);
        double *x = moe_alloc(job, n, sizeof *x);
        for (int64_t i = 0; i < n; i++)
        {
            x[i] = (double) i - 3;
            for (int64_t j = 0; j < n; j++)
            {
                a[i * n + j] = i == j;
                for (int64_t k = 0; k < n; k++)
                    a[i * n + j] += (double) b[i * n + k] * b[j * n + k];
                l[i * n + j] = j <= i ? a[i * n + j] : NAN; /* not looked at */
            }
        }
        assert_int_equal(moe_cholesky(job, n, l), MOE_OK);
        moe_cholesky_solve(n, l, x);
        for (int64_t i = 0; i < n; i++)
        {
            double product = 0;
            for (int64_t j = 0; j < n; j++)
                product += a[i * n + j] * x[j];
            assert_float_equal(product, (double) i - 3, 1e-8 * n);
        }
    }
    moe_job_destroy(job);
}

/* Rosenbrock's valley is not convex, but its minimum must be found. */
static double
valley(void *arg, const double *at, double *gradient)
{
    double across = at[1] - at[0] * at[0], along = 1 - at[0];
    gradient[0] = -400 * at[0] * across - 2 * along;
    gradient[1] = 200 * across;
    return 100 * across * across + along * along;
}

static void
a_minimum_is_found_without_knowing_curvature(void **state)
{
    moe_job *job = dense_job(1);
    moe_smooth function = {2, valley, NULL, NULL};
    double at[2] = {-1.2, 1};
    assert_int_equal(moe_minimise(job, &function, 1e-8, 200, at), MOE_OK);
    assert_float_equal(at[0], 1, 1e-6);
    assert_float_equal(at[1], 1, 1e-6);
    moe_job_destroy(job);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fit_is_the_minimum_of_the_penalised_loss),
        cmocka_unit_test(columns_that_repeat_each_other_do_no_harm),
        cmocka_unit_test(a_weight_of_two_is_a_row_twice_and_of_none_no_row),
        cmocka_unit_test(predictions_follow_the_labels),
        cmocka_unit_test(a_regression_stays_within_its_bounds),
        cmocka_unit_test(labels_of_one_kind_give_finite_predictions),
        cmocka_unit_test(another_penalty_is_taken_only_where_it_is_clearly_better),
        cmocka_unit_test(any_number_of_threads_gives_the_same_bits),
        cmocka_unit_test(a_row_is_predicted_alike_in_any_company),
        cmocka_unit_test(hostile_bytes_are_refused_or_harmless),
        cmocka_unit_test(inputs_that_are_not_finite_are_refused),
        cmocka_unit_test(a_fit_stops_when_cancelled),
        cmocka_unit_test(cholesky_solves_systems_of_any_size),
        cmocka_unit_test(a_minimum_is_found_without_knowing_curvature),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
