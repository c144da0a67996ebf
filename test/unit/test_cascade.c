/*
 * test_cascade.c: what stopping early costs and saves.
 */
#include "gnn/cascade.h"

#include <math.h>
#include <string.h>

#include "gnn/metrics.h"
#include "test/unit/core.h"

#define N 3000

typedef struct made
{
    float prediction[3][3 * N];
    float label[N];
    moe_cascade_rows rows;
} made;

static const double costs[] = {1, 10, 100};

/* Three experts whose probabilities of the truth grow sharper; half of the rows are easy for all of them. */
static made *
make(moe_job *job, moe_task_type task, uint64_t key)
{
    int k = task == MOE_MULTICLASS ? 3 : 1;
    made *m = moe_alloc(job, 1, sizeof *m);
    assert_non_null(m);
    m->rows = (moe_cascade_rows){.n = N, .stages = 3};
    for (int e = 0; e < 3; e++)
        m->rows.prediction[e] = m->prediction[e];
    for (int i = 0; i < N; i++)
    {
        m->label[i] = (float) (moe_random_bits(key, i) % (task == MOE_MULTICLASS ? 3 : 2));
        if (task == MOE_REGRESSION)
            m->label[i] = (float) (10 * moe_random_normal(key, i));
        for (int e = 0; e < 3; e++)
        {
            double sharp = i % 2 == 0 ? 6 : 2 * e; /* hard rows: the cheap expert knows nothing, the dear one much */
            double noise = i % 2 == 0 ? 0.1 : 3 - e;
            double z[3], total = 0;
            for (int c = 0; c < 3; c++)
            {
                z[c] = exp(sharp * (c == (int) m->label[i]) + moe_random_normal(key + 1 + e, 3 * i + c));
                total += z[c];
            }
            for (int c = 0; task == MOE_MULTICLASS && c < 3; c++)
                m->prediction[e][k * i + c] = (float) (z[c] / total);
            if (task == MOE_BINARY)
                m->prediction[e][i] = (float) (z[1] / (z[0] + z[1]));
            if (task == MOE_REGRESSION)
                m->prediction[e][i] = m->label[i] + (float) (noise * moe_random_normal(key + 1 + e, i));
        }
    }
    return m;
}

static void
the_curve_runs_from_all_experts_to_the_first(void **state)
{
    for (int task = MOE_BINARY; task <= MOE_MULTICLASS; task++)
    {
        moe_job *job = start_job(1);
        made *m = make(job, (moe_task_type) task, 1);
        moe_cascade_curve curve;
        assert_int_equal(moe_cascade_measure(job, (moe_task_type) task, 3, &m->rows, costs, m->label, &curve), MOE_OK);
        assert_true(curve.points > 20);
        assert_float_equal(curve.point[0].cost, 111, 1e-9);
        assert_float_equal(curve.point[0].stopped[2], 1, 1e-12);
        /* numbers: one expert does not disagree with itself, so no row stops before the second */
        double least = task == MOE_REGRESSION ? 11 : 1;
        assert_float_equal(curve.point[curve.points - 1].cost, least, 1e-9);
        for (int p = 0; p < curve.points; p++)
        {
            const moe_cascade_point *point = &curve.point[p];
            double cost = 0, total = 0, so_far = 0;
            for (int s = 0; s < 3; s++)
            {
                so_far += costs[s];
                cost += point->stopped[s] * so_far;
                total += point->stopped[s];
            }
            assert_float_equal(total, 1, 1e-9);
            assert_float_equal(point->cost, cost, 1e-9);
            assert_true(p == 0 || (point->threshold > point[-1].threshold && point->cost <= point[-1].cost));
        }
        moe_job_destroy(job);
    }
}

/* The loss at the ends is that of the mean of all experts, and of the first alone. */
static void
losses_are_those_of_running_means(void **state)
{
    moe_job *job = start_job(1);
    made *m = make(job, MOE_BINARY, 2);
    moe_cascade_curve curve;
    float mean[N];
    assert_int_equal(moe_cascade_measure(job, MOE_BINARY, 1, &m->rows, costs, m->label, &curve), MOE_OK);
    for (int i = 0; i < N; i++)
        mean[i] = (m->prediction[0][i] + m->prediction[1][i] + m->prediction[2][i]) / 3;
    assert_float_equal(curve.point[0].loss, moe_metric_log_loss(mean, m->label, N), 1e-5);
    assert_float_equal(curve.point[curve.points - 1].loss, moe_metric_log_loss(m->prediction[0], m->label, N), 1e-5);
    moe_job_destroy(job);
}

/* Half of the rows are easy: half the cost buys nearly the whole gain, where rows stopped at random would lose half. */
static void
deferring_by_uncertainty_beats_deferring_at_random(void **state)
{
    for (int task = MOE_BINARY; task <= MOE_MULTICLASS; task++)
    {
        moe_job *job = start_job(1);
        made *m = make(job, (moe_task_type) task, 3);
        moe_cascade_curve curve;
        assert_int_equal(moe_cascade_measure(job, (moe_task_type) task, 3, &m->rows, costs, m->label, &curve), MOE_OK);
        const moe_cascade_point *all = &curve.point[0];
        const moe_cascade_point *first = &curve.point[curve.points - 1];
        const moe_cascade_point *half = &curve.point[moe_cascade_choose(&curve, 62)];
        double share = (half->cost - first->cost) / (all->cost - first->cost);
        double random = share * all->loss + (1 - share) * first->loss;
        assert_true(half->cost <= 62);
        assert_true(first->loss > all->loss);
        assert_true(half->loss < all->loss + 0.7 * (random - all->loss));
        moe_job_destroy(job);
    }
}

static void
the_best_point_within_the_budget_is_chosen(void **state)
{
    moe_cascade_curve curve = {.stages = 1,
                               .points = 4,
                               .point = {{.threshold = -1, .cost = 9, .loss = 0.30},
                                         {.threshold = 0, .cost = 6, .loss = 0.28},
                                         {.threshold = 1, .cost = 4, .loss = 0.35},
                                         {.threshold = 2, .cost = 2, .loss = 0.35}}};
    assert_int_equal(moe_cascade_choose(&curve, INFINITY), 1);
    assert_int_equal(moe_cascade_choose(&curve, 6), 1);
    assert_int_equal(moe_cascade_choose(&curve, 5), 3); /* of equal losses the cheaper */
    assert_int_equal(moe_cascade_choose(&curve, 1), 3); /* nothing fits: the cheapest */
}

static void
uncertainties_are_as_defined(void **state)
{
    float p[] = {0.5f, 0.9f, 0.0f}, out[3], doubt[3];
    moe_cascade_rows binary = {.n = 3, .stages = 1, .prediction = {p}};
    moe_cascade_stage(MOE_BINARY, 1, &binary, 0, out, doubt);
    assert_float_equal(doubt[0], 1, 1e-6);
    assert_float_equal(doubt[1], 0.2, 1e-6);
    assert_float_equal(doubt[2], 0, 1e-6);
    float classes[] = {.2f, .5f, .3f};
    moe_cascade_rows multiclass = {.n = 1, .stages = 1, .prediction = {classes}};
    moe_cascade_stage(MOE_MULTICLASS, 3, &multiclass, 0, out, doubt);
    assert_float_equal(doubt[0], 0.5, 1e-6);
    float one[] = {1}, two[] = {3}, width[] = {7}, unknown[] = {NAN};
    moe_cascade_rows numbers = {.n = 1, .stages = 2, .prediction = {one, two}};
    moe_cascade_stage(MOE_REGRESSION, 1, &numbers, 0, out, doubt);
    assert_true(isinf(doubt[0]));
    moe_cascade_stage(MOE_REGRESSION, 1, &numbers, 1, out, doubt);
    assert_float_equal(out[0], 2, 1e-6);
    assert_float_equal(doubt[0], 1, 1e-6);
    numbers.width[0] = width;
    numbers.width[1] = unknown;
    moe_cascade_stage(MOE_REGRESSION, 1, &numbers, 0, out, doubt);
    assert_float_equal(doubt[0], 7, 1e-6);
    moe_cascade_stage(MOE_REGRESSION, 1, &numbers, 1, out, doubt);
    assert_true(isinf(doubt[0]));
}

/* A row without the first expert goes on, at no cost; the others' gates are renormalised over the experts so far. */
static void
gates_weigh_and_leave_out_experts(void **state)
{
    moe_job *job = start_job(1);
    float first[] = {0.1f, NAN}, second[] = {0.4f, 0.8f}, last[] = {0.9f, 0.2f};
    float gates[] = {0.25f, 0.5f, 0.25f, 0, 0.5f, 0.5f};
    float label[] = {0, 1}, out[2], doubt[2];
    moe_cascade_rows rows = {.n = 2, .stages = 3, .prediction = {first, second, last}, .gates = gates};
    moe_cascade_curve curve;
    moe_cascade_stage(MOE_BINARY, 1, &rows, 0, out, doubt);
    assert_float_equal(out[0], 0.1, 1e-6);
    assert_true(isnan(out[1]) && isinf(doubt[1]));
    moe_cascade_stage(MOE_BINARY, 1, &rows, 1, out, doubt);
    assert_float_equal(out[0], 0.3, 1e-6);
    assert_float_equal(out[1], 0.8, 1e-6);
    assert_int_equal(moe_cascade_measure(job, MOE_BINARY, 1, &rows, costs, label, &curve), MOE_OK);
    assert_float_equal(curve.point[0].cost, (111 + 110) / 2.0, 1e-9);
    moe_job_destroy(job);
}

static void
what_makes_no_sense_is_refused(void **state)
{
    for (int c = 0; c < 5; c++)
    {
        moe_job *job = start_job(1);
        made *m = make(job, MOE_BINARY, 4);
        double cost[] = {1, 2, c == 0 ? -1 : 3};
        float *none = moe_alloc(job, 3 * N, sizeof *none);
        moe_cascade_curve curve;
        if (c == 1)
            m->label[5] = NAN;
        if (c == 2)
            m->prediction[1][5] = NAN;
        if (c == 3)
            m->rows.gates = none;
        if (c == 4)
            m->rows.stages = MOE_CASCADE_STAGES + 1;
        assert_int_equal(moe_cascade_measure(job, MOE_BINARY, 1, &m->rows, cost, m->label, &curve), MOE_INVALID);
        moe_job_destroy(job);
    }
}

static bool
always(void *arg)
{
    return true;
}

static void
a_cancelled_measurement_stops(void **state)
{
    moe_job_config settings = {.threads = 1, .cancelled = always};
    moe_cascade_curve curve;
    moe_job *maker = start_job(1), *job;
    made *m = make(maker, MOE_BINARY, 5);
    assert_int_equal(moe_job_create(&settings, &job), MOE_OK);
    assert_int_equal(moe_cascade_measure(job, MOE_BINARY, 1, &m->rows, costs, m->label, &curve), MOE_CANCELLED);
    moe_job_destroy(job);
    moe_job_destroy(maker);
}

static void
a_stored_curve_reads_back_and_damage_is_refused_or_sound(void **state)
{
    moe_job *maker = start_job(1);
    made *m = make(maker, MOE_BINARY, 6);
    moe_cascade_curve curve, back;
    moe_buffer bytes;
    moe_reader reader;
    m->rows.n = 6; /* few points */
    assert_int_equal(moe_cascade_measure(maker, MOE_BINARY, 1, &m->rows, costs, m->label, &curve), MOE_OK);
    moe_buffer_init(&bytes, maker);
    moe_cascade_write(&curve, &bytes);
    moe_reader_init(&reader, maker, bytes.data, bytes.length);
    assert_int_equal(moe_cascade_read(&reader, &back), MOE_OK);
    assert_memory_equal(&back, &curve, sizeof curve);
    for (int64_t at = 0; at < bytes.length; at++)
        for (int bit = -1; bit < 8; bit++) /* -1: cut off there */
        {
            moe_job *job = start_job(1);
            uint8_t kept = bytes.data[at];
            bytes.data[at] ^= bit < 0 ? 0 : (uint8_t) (1 << bit);
            moe_reader_init(&reader, job, bytes.data, bit < 0 ? at : bytes.length);
            moe_code code = moe_cascade_read(&reader, &back);
            assert_true(code == MOE_CORRUPT || (bit >= 0 && code == MOE_OK));
            assert_true(code != MOE_OK || moe_cascade_choose(&back, 50) < back.points);
            bytes.data[at] = kept;
            moe_job_destroy(job);
        }
    moe_job_destroy(maker);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_curve_runs_from_all_experts_to_the_first),
        cmocka_unit_test(losses_are_those_of_running_means),
        cmocka_unit_test(deferring_by_uncertainty_beats_deferring_at_random),
        cmocka_unit_test(the_best_point_within_the_budget_is_chosen),
        cmocka_unit_test(uncertainties_are_as_defined),
        cmocka_unit_test(gates_weigh_and_leave_out_experts),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(a_cancelled_measurement_stops),
        cmocka_unit_test(a_stored_curve_reads_back_and_damage_is_refused_or_sound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
