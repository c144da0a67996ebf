/*
 * test_baseline.c: the predictions that need no model.
 */
#include "test/unit/gnn_fixture.h"

#include <math.h>

#include "gnn/baseline.h"

#define N     400
#define SEEDS 100

typedef struct labels
{
    int32_t row[N];
    int64_t time[N];
    float label[N];
    moe_samples known;
} labels;

static void
make_labels(labels *l, int classes)
{
    for (int i = 0; i < N; i++)
    {
        l->row[i] = (int32_t) (moe_random_bits(1, i) % 15);
        l->time[i] = (int64_t) (moe_random_bits(2, i) % 50);
        l->label[i] = (float) (moe_random_bits(3, i) % classes);
    }
    l->known = (moe_samples){.n = N, .row = l->row, .time = l->time, .label = l->label};
}

static void
constants_are_share_median_and_class_shares(void **state)
{
    moe_job *job = fixture_job(1);
    float binary[] = {1, 0, 0, 1, 1};
    float value[] = {5, 1, 100, 2, 3};
    float class[] = {0, 2, 2, 1, 2};
    int32_t row[5] = {0};
    int64_t time[5] = {0};
    float out[6];
    moe_samples known = {.n = 5, .row = row, .time = time, .label = binary};
    assert_int_equal(moe_baseline_constant(job, MOE_BINARY, 1, &known, 2, out), MOE_OK);
    assert_float_equal(out[1], 0.6, 1e-6);
    known.label = value;
    assert_int_equal(moe_baseline_constant(job, MOE_REGRESSION, 1, &known, 2, out), MOE_OK);
    assert_float_equal(out[1], 3, 1e-6);
    known.n = 4;
    assert_int_equal(moe_baseline_constant(job, MOE_REGRESSION, 1, &known, 1, out), MOE_OK);
    assert_float_equal(out[0], 3.5, 1e-6);
    known.n = 5;
    known.label = class;
    assert_int_equal(moe_baseline_constant(job, MOE_MULTICLASS, 3, &known, 2, out), MOE_OK);
    assert_float_equal(out[3], 0.2, 1e-6);
    assert_float_equal(out[5], 0.6, 1e-6);
    moe_job_destroy(job);
}

/* The entity baseline against its definition, for a task with `classes` label values. */
static void
check_against_definition(moe_task_type task, int k, int classes)
{
    const int64_t window = 7;
    moe_job *job = fixture_job(1);
    labels l;
    int32_t row[SEEDS];
    int64_t time[SEEDS], horizon[SEEDS];
    float out[SEEDS * 3], constant[3];
    int fallbacks = 0;
    make_labels(&l, classes);
    for (int i = 0; i < SEEDS; i++)
    {
        row[i] = (int32_t) (moe_random_bits(4, i) % 17); /* two of them have no label at all */
        time[i] = (int64_t) (moe_random_bits(5, i) % 60);
        horizon[i] = (int64_t) (moe_random_bits(6, i) % 60);
    }
    moe_seeds seeds = {.n = SEEDS, .row = row, .time = time, .horizon = horizon};
    assert_int_equal(moe_baseline_constant(job, task, k, &l.known, 1, constant), MOE_OK);
    assert_int_equal(moe_baseline_entity(job, task, k, &l.known, &l.known, window, &seeds, out), MOE_OK);
    for (int i = 0; i < SEEDS; i++)
        for (int c = 0; c < k; c++)
        {
            double sum = 0, n = 0;
            for (int j = 0; j < N; j++)
                if (l.row[j] == row[i] && l.time[j] + window <= time[i] && l.time[j] + window <= horizon[i])
                {
                    n++;
                    sum += k > 1 ? l.label[j] == c : l.label[j];
                }
            fallbacks += n == 0;
            assert_float_equal(out[i * k + c], n > 0 ? sum / n : constant[c], 1e-5);
        }
    assert_true(fallbacks > 0 && fallbacks < SEEDS * k);
    moe_job_destroy(job);
}

static void
entity_means_use_only_labels_whose_window_has_closed(void **state)
{
    check_against_definition(MOE_BINARY, 1, 2);
    check_against_definition(MOE_REGRESSION, 1, 100);
    check_against_definition(MOE_MULTICLASS, 3, 3);
}

static void
labels_that_do_not_fit_are_refused(void **state)
{
    float bad[] = {NAN};
    float class[] = {3};
    int32_t row = 0;
    int64_t time = 0;
    float out[3];
    moe_samples none = {.n = 0};
    moe_samples nan = {.n = 1, .row = &row, .time = &time, .label = bad};
    moe_samples outside = {.n = 1, .row = &row, .time = &time, .label = class};
    moe_seeds seeds = {.n = 1, .row = &row, .time = &time};
    moe_job *job = fixture_job(1);
    assert_int_equal(moe_baseline_constant(job, MOE_BINARY, 1, &none, 1, out), MOE_INVALID);
    assert_int_equal(moe_baseline_entity(job, MOE_BINARY, 1, &nan, &nan, 1, &seeds, out), MOE_INVALID);
    assert_int_equal(moe_baseline_entity(job, MOE_MULTICLASS, 3, &outside, &outside, 1, &seeds, out), MOE_INVALID);
    moe_job_destroy(job);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(constants_are_share_median_and_class_shares),
        cmocka_unit_test(entity_means_use_only_labels_whose_window_has_closed),
        cmocka_unit_test(labels_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
