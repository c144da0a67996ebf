/*
 * test_retrieval.c: predictions from the labels of the nearest training rows.
 */
#include "test/unit/dense_fixture.h"

#include "gnn/neighbours.h"

static const moe_dense_task *const tasks[] = {&binary_task, &regression_task, &three_classes};

/* Squared correlation of input j with the label, or the largest with an indicator of a class. */
static double
plain_correlation(const moe_dense_task *task, const moe_dense_rows *rows, int j)
{
    double best = 0;
    for (int o = 0; o < task->n_classes; o++)
    {
        double x1 = 0, x2 = 0, y1 = 0, y2 = 0, xy = 0, n = 0;
        for (int64_t i = 0; i < rows->n; i++)
        {
            double w = rows->weight == NULL ? 1 : rows->weight[i], x = rows->x[i * rows->width + j];
            double y = task->n_classes > 1 ? rows->label[i] == o : rows->label[i];
            n += w;
            x1 += w * x;
            x2 += w * x * x;
            y1 += w * y;
            y2 += w * y * y;
            xy += w * x * y;
        }
        double cov = xy / n - x1 / n * y1 / n;
        best = fmax(best, cov * cov / ((x2 / n - x1 / n * x1 / n) * (y2 / n - y1 / n * y1 / n)));
    }
    return best;
}

/* The prediction of the definition, from the training rows kept, without row `except`. */
static void
plain_prediction(const moe_dense_task *task, const moe_dense_rows *train, const int64_t *kept, int64_t n,
                 const float *x, int64_t except, double *out)
{
    double r2[32], nearest[60] = {0}, median, total = 0;
    int64_t row[60] = {0};
    int found = 0;
    for (int j = 0; j < train->width; j++)
        r2[j] = plain_correlation(task, train, j);
    for (int64_t i = 0; i < n; i++)
    {
        double d = 0;
        for (int j = 0; j < train->width; j++)
            d += r2[j] * pow(train->x[kept[i] * train->width + j] - x[j], 2);
        if (kept[i] == except || (found == 60 && d >= nearest[59]))
            continue;
        int place = found < 60 ? found++ : 59;
        for (; place > 0 && nearest[place - 1] > d; place--)
        {
            nearest[place] = nearest[place - 1];
            row[place] = row[place - 1];
        }
        nearest[place] = d;
        row[place] = kept[i];
    }
    median = (sqrt(nearest[(found - 1) / 2]) + sqrt(nearest[found / 2])) / 2;
    for (int o = 0; o < task->n_classes; o++)
        out[o] = 0;
    for (int k = 0; k < found; k++)
    {
        double w = exp(-nearest[k] / (2 * median * median)) * (train->weight == NULL ? 1 : train->weight[row[k]]);
        total += w;
        for (int o = 0; o < task->n_classes; o++)
            out[o] += w * (task->n_classes > 1 ? train->label[row[k]] == o : train->label[row[k]]);
    }
    for (int o = 0; o < task->n_classes; o++)
        out[o] /= total;
    if (task->task != MOE_REGRESSION)
        return;
    /* The least label up to which there is half of the weight. */
    out[0] = INFINITY;
    for (int k = 0; k < found; k++)
    {
        double below = 0;
        for (int i = 0; i < found; i++)
            if (train->label[row[i]] <= train->label[row[k]])
                below += exp(-nearest[i] / (2 * median * median)) * (train->weight == NULL ? 1 : train->weight[row[i]]);
        if (below >= total / 2)
            out[0] = fmin(out[0], train->label[row[k]]);
    }
}

static void
predictions_are_those_of_the_definition(void **state)
{
    int64_t sizes[] = {40, 700};
    for (int t = 0; t < 3; t++)
        for (int s = 0; s < 2; s++)
        {
            moe_job *job = dense_job(2);
            moe_dense_rows train = dense_rows(job, tasks[t]->task, sizes[s], 11, 1, 3);
            moe_dense_rows asked = dense_rows(job, tasks[t]->task, 20, 11, 1, 4);
            float *weight = moe_alloc(job, train.n, sizeof *weight);
            int64_t kept[700];
            for (int64_t i = 0; i < train.n; i++)
            {
                kept[i] = i;
                weight[i] = (float) (1 + i % 3);
            }
            train.weight = t == 1 ? weight : NULL;
            moe_dense_expert *expert = dense_fit(job, MOE_DENSE_RETRIEVAL, tasks[t], &train, NULL);
            float *out = dense_predict(job, expert, tasks[t], &asked);
            for (int64_t i = 0; i < asked.n; i++)
            {
                double expected[3];
                plain_prediction(tasks[t], &train, kept, train.n, asked.x + i * 11, -1, expected);
                for (int o = 0; o < tasks[t]->n_classes; o++)
                    assert_float_equal(out[i * tasks[t]->n_classes + o], expected[o], 1e-4);
            }
            moe_job_destroy(job);
        }
}

static void
a_training_row_does_not_see_its_own_label(void **state)
{
    for (int t = 0; t < 3; t++)
    {
        moe_job *job = dense_job(2);
        moe_dense_rows train = dense_rows(job, tasks[t]->task, 300, 6, 1, 3), part = part_of(&train, 100, 50);
        moe_dense_expert *expert = dense_fit(job, MOE_DENSE_RETRIEVAL, tasks[t], &train, NULL);
        static float out[900], some[150];
        int64_t kept[300];
        for (int64_t i = 0; i < 300; i++)
            kept[i] = i;
        assert_int_equal(moe_dense_expert_predict_self(expert, &train, out), MOE_OK);
        assert_int_equal(moe_dense_expert_predict_self(expert, &part, some), MOE_OK);
        assert_memory_equal(some, out + 100 * tasks[t]->n_classes, 50 * tasks[t]->n_classes * sizeof(float));
        for (int64_t i = 0; i < 300; i += 7)
        {
            double expected[3];
            plain_prediction(tasks[t], &train, kept, 300, train.x + i * 6, i, expected);
            for (int o = 0; o < tasks[t]->n_classes; o++)
                assert_float_equal(out[i * tasks[t]->n_classes + o], expected[o], 1e-4);
        }
        moe_job_destroy(job);
    }
}

static void
of_many_rows_an_even_sample_is_kept(void **state)
{
    enum
    {
        ROWS = 20700,
        KEPT = 20000
    };
    static int64_t kept[KEPT];
    moe_job *job = dense_job(2);
    moe_dense_rows train = dense_rows(job, MOE_REGRESSION, ROWS, 3, 1, 3);
    moe_dense_expert *expert = dense_fit(job, MOE_DENSE_RETRIEVAL, &regression_task, &train, NULL);
    assert_int_equal(moe_dense_expert_parameters(expert), KEPT * 4 + 3);
    float *out = moe_alloc(job, ROWS, sizeof *out);
    for (int64_t i = 0; i < KEPT; i++)
    {
        kept[i] = (2 * i + 1) * ROWS / (2 * KEPT);
        assert_true(i == 0 || kept[i] - kept[i - 1] <= 2);
    }
    assert_int_equal(kept[KEPT - 1], ROWS - 1);
    assert_int_equal(moe_dense_expert_predict_self(expert, &train, out), MOE_OK);
    for (int64_t i = 0; i < ROWS; i += 2003)
    {
        double expected;
        plain_prediction(&regression_task, &train, kept, KEPT, train.x + i * 3, i, &expected);
        assert_float_equal(out[i], expected, 1e-3);
    }
    moe_job_destroy(job);
}

static void
only_the_best_columns_count(void **state)
{
    moe_job *job = dense_job(1);
    moe_dense_rows train = dense_rows(job, MOE_BINARY, 400, 200, 0.1, 3), asked = part_of(&train, 0, 3);
    moe_dense_expert *expert = dense_fit(job, MOE_DENSE_RETRIEVAL, &binary_task, &train, NULL);
    float *before = dense_predict(job, expert, &binary_task, &asked), x[600], worst = 1;
    int column = 0;
    assert_int_equal(moe_dense_expert_parameters(expert), 400 * 151 + 150);
    for (int j = 0; j < 200; j++)
        if (plain_correlation(&binary_task, &train, j) < worst)
        {
            worst = (float) plain_correlation(&binary_task, &train, j);
            column = j;
        }
    memcpy(x, asked.x, sizeof x);
    for (int i = 0; i < 3; i++)
        x[200 * i + column] = 1000;
    asked.x = x;
    assert_memory_equal(dense_predict(job, expert, &binary_task, &asked), before, 3 * sizeof(float));
    x[0] = 1000;
    assert_true(dense_predict(job, expert, &binary_task, &asked)[0] != before[0]);
    moe_job_destroy(job);
}

static void
equal_distances_give_the_mean_of_the_first_rows(void **state)
{
    moe_job *job = dense_job(1);
    float x[400], label[400], asked[3] = {0, 1, 3}, sum[3] = {0}, n[3] = {0};
    for (int i = 0; i < 400; i++)
    {
        x[i] = (float) (moe_random_bits(1, i) % 2);
        label[i] = (float) (moe_random_bits(2, i) % 10) + 5 * x[i] > 7;
        for (int a = 0; a < 3; a++)
            if (x[i] == fminf(asked[a], 1) && n[a] < 60)
            {
                sum[a] += label[i];
                n[a]++;
            }
    }
    moe_dense_rows train = {400, 1, x, label, NULL}, rows = {3, 1, asked, NULL, NULL};
    moe_dense_expert *expert = dense_fit(job, MOE_DENSE_RETRIEVAL, &binary_task, &train, NULL);
    float *out = dense_predict(job, expert, &binary_task, &rows);
    for (int a = 0; a < 3; a++)
        assert_float_equal(out[a], sum[a] / n[a], 1e-5);
    moe_job_destroy(job);
}

static void
without_a_column_that_counts_the_mean_is_predicted(void **state)
{
    moe_job *job = dense_job(1);
    float x[8] = {1, 2, 3, 4, 5, 6, 7, 8}, same[4] = {1, 1, 1, 1}, label[4] = {2, 0, 1, 2};
    moe_dense_rows constant_label = {4, 2, x, same, NULL}, no_inputs = {4, 0, x, label, NULL};
    moe_dense_expert *expert = dense_fit(job, MOE_DENSE_RETRIEVAL, &binary_task, &constant_label, NULL);
    assert_float_equal(dense_predict(job, expert, &binary_task, &constant_label)[3], 1, 0);
    expert = dense_fit(job, MOE_DENSE_RETRIEVAL, &three_classes, &no_inputs, NULL);
    float *out = dense_predict(job, expert, &three_classes, &no_inputs);
    assert_float_equal(out[0], 0.25, 1e-6);
    assert_float_equal(out[2], 0.5, 1e-6);
    moe_job_destroy(job);
}

static void
a_regression_stays_within_its_bounds(void **state)
{
    moe_job *job = dense_job(1);
    moe_dense_task narrow = {.task = MOE_REGRESSION, .n_classes = 1, .low = 25, .high = 35};
    moe_dense_rows train = dense_rows(job, MOE_REGRESSION, 500, 4, 1, 3);
    float *out = dense_predict(job, dense_fit(job, MOE_DENSE_RETRIEVAL, &narrow, &train, NULL), &narrow, &train);
    float least = 100, most = 0;
    for (int64_t i = 0; i < train.n; i++)
    {
        least = fminf(least, out[i]);
        most = fmaxf(most, out[i]);
    }
    assert_true(least == 25 && most == 35);
    moe_job_destroy(job);
}

/* Inputs on a grid, so that many distances are equal. */
static void
neighbours_are_exact_and_ordered(void **state)
{
    moe_job *job = dense_job(3);
    int64_t sizes[] = {1, 5, 255, 256, 257, 1500};
    for (int s = 0; s < 6; s++)
    {
        int64_t n = sizes[s];
        int columns = 3 + s, k = 12;
        float *rows = moe_alloc(job, n * columns, sizeof *rows), asked[40 * 8];
        int32_t except[40];
        moe_neighbour found[40 * 12];
        moe_neighbours *in;
        for (int64_t i = 0; i < n * columns; i++)
            rows[i] = (float) (moe_random_bits(1, i) % 4);
        for (int i = 0; i < 40 * columns; i++)
            asked[i] = (float) (moe_random_bits(2, i) % 4);
        for (int i = 0; i < 40; i++)
            except[i] = (int32_t) (moe_random_bits(3, i) % n) - (i % 2 ? 0 : INT32_MAX);
        assert_int_equal(moe_neighbours_create(job, n, columns, rows, &in), MOE_OK);
        assert_int_equal(moe_neighbours_find(in, 40, asked, except, k, found), MOE_OK);
        for (int i = 0; i < 40; i++)
        {
            int64_t last = -1;
            double last_square = -1;
            for (int place = 0; place < k; place++)
            {
                /* The first of what is left, by distance and then by row. */
                int64_t best = -1;
                double best_square = 1e30;
                for (int64_t r = 0; r < n; r++)
                {
                    double d = 0;
                    for (int c = 0; c < columns; c++)
                        d += pow(rows[r * columns + c] - asked[i * columns + c], 2);
                    bool left = r != except[i] && (d > last_square || (d == last_square && r > last));
                    if (left && d < best_square)
                    {
                        best = r;
                        best_square = d;
                    }
                }
                assert_int_equal(found[i * k + place].row, best);
                if (best < 0)
                    continue;
                assert_float_equal(found[i * k + place].square, best_square, 1e-6);
                last = best;
                last_square = best_square;
            }
        }
        moe_neighbours_destroy(in);
    }
    moe_job_destroy(job);
}

static void
any_number_of_threads_gives_the_same_bits(void **state)
{
    for (int t = 0; t < 3; t++)
        check_threads(MOE_DENSE_RETRIEVAL, tasks[t], 1001, 37);
}

static void
a_row_is_predicted_alike_in_any_company(void **state)
{
    for (int t = 0; t < 3; t++)
        check_company(MOE_DENSE_RETRIEVAL, tasks[t], 500, 163);
}

static void
hostile_bytes_are_refused_or_harmless(void **state)
{
    for (int t = 0; t < 3; t++)
        check_hostile(MOE_DENSE_RETRIEVAL, tasks[t], 30, 5);
}

static bool
always(void *arg)
{
    return true;
}

static void
a_cancelled_fit_stops(void **state)
{
    moe_job_config config = {.threads = 2, .cancelled = always};
    moe_job *job;
    moe_dense_expert *expert;
    assert_int_equal(moe_job_create(&config, &job), MOE_OK);
    moe_dense_rows train = dense_rows(job, MOE_BINARY, 400, 4, 1, 3);
    assert_int_equal(moe_dense_expert_fit(job, MOE_DENSE_RETRIEVAL, &binary_task, &train, NULL, 1, &expert),
                     MOE_CANCELLED);
    assert_null(expert);
    moe_job_destroy(job);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(predictions_are_those_of_the_definition),
        cmocka_unit_test(a_training_row_does_not_see_its_own_label),
        cmocka_unit_test(of_many_rows_an_even_sample_is_kept),
        cmocka_unit_test(only_the_best_columns_count),
        cmocka_unit_test(equal_distances_give_the_mean_of_the_first_rows),
        cmocka_unit_test(without_a_column_that_counts_the_mean_is_predicted),
        cmocka_unit_test(a_regression_stays_within_its_bounds),
        cmocka_unit_test(neighbours_are_exact_and_ordered),
        cmocka_unit_test(any_number_of_threads_gives_the_same_bits),
        cmocka_unit_test(a_row_is_predicted_alike_in_any_company),
        cmocka_unit_test(hostile_bytes_are_refused_or_harmless),
        cmocka_unit_test(a_cancelled_fit_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
