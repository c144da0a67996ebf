/*
 * test_cascade.c: what stopping early costs and saves.
 */
#include "gnn/cascade.h"

#include <math.h>
#include <string.h>

#include "test/unit/core.h"

#define N 3000

typedef struct made
{
    float early[3 * N];
    float full[3 * N];
    float label[N];
} made;

/* Half of the rows are easy for both; of the others the early prediction knows nothing and the full one much. */
static made *
make(moe_job *job, int classes)
{
    int k = classes > 1 ? classes : 1;
    made *m = moe_alloc(job, 1, sizeof *m);
    for (int i = 0; i < N; i++)
    {
        int label = (int) (moe_random_bits(1, i) % (classes > 1 ? classes : 2));
        m->label[i] = (float) label;
        for (int v = 0; v < 2; v++)
        {
            double z[3], total = 0;
            double sharp = i % 2 == 0 ? 6 : 4 * v;
            for (int c = 0; c < 3; c++)
            {
                z[c] = c < (classes > 1 ? classes : 2) ? exp(sharp * (c == label) + moe_random_normal(2 + v, 3 * i + c))
                                                       : 0;
                total += z[c];
            }
            for (int c = 0; c < k; c++)
                (v ? m->full : m->early)[i * k + c] = (float) (classes > 1 ? z[c] / total : z[1] / total);
        }
    }
    return m;
}

static moe_cascade_curve
measure(moe_job *job, const made *m, int classes)
{
    moe_cascade_curve curve;
    assert_int_equal(moe_cascade_measure(job, classes > 1 ? MOE_MULTICLASS : MOE_BINARY, classes, N, m->early, m->full,
                                         m->label, &curve),
                     MOE_OK);
    return curve;
}

/* Plainly: the loss and the share of a threshold. */
static void
check_point(const made *m, int classes, const moe_cascade_point *point)
{
    moe_task_type task = classes > 1 ? MOE_MULTICLASS : MOE_BINARY;
    int k = classes > 1 ? classes : 1;
    double loss = 0, asked = 0;
    for (int i = 0; i < N; i++)
    {
        bool stops = moe_cascade_uncertainty(task, classes, m->early + i * k) <= (float) point->threshold;
        const float *said = (stops ? m->early : m->full) + i * k;
        double p = k > 1 ? said[(int) m->label[i]] : m->label[i] > 0.5f ? said[0] : 1 - (double) said[0];
        loss -= log(p) / N;
        asked += stops ? 0 : 1.0 / N;
    }
    assert_float_equal(point->loss, loss, 1e-6);
    assert_float_equal(point->asked, asked, 1e-9);
}

static void
every_point_is_what_its_threshold_gives(void **state)
{
    int classes[] = {1, 3};
    for (int c = 0; c < 2; c++)
    {
        moe_job *job = start_job(1);
        made *m = make(job, classes[c]);
        moe_cascade_curve curve = measure(job, m, classes[c]);
        assert_true(curve.points > 30 && curve.points <= MOE_CASCADE_POINTS);
        assert_true(curve.point[0].asked == 1 && curve.point[curve.points - 1].asked == 0);
        for (int p = 0; p < curve.points; p++)
        {
            assert_true(p == 0 || curve.point[p].threshold > curve.point[p - 1].threshold);
            check_point(m, classes[c], &curve.point[p]);
        }
        moe_job_destroy(job);
    }
}

static void
easy_rows_are_saved_for_nothing(void **state)
{
    moe_job *job = start_job(1);
    moe_cascade_curve curve = measure(job, make(job, 1), 1);
    int half = moe_cascade_choose(&curve, 0.55), none = moe_cascade_choose(&curve, 0);
    assert_true(curve.point[half].asked <= 0.55 && curve.point[half - 1].asked > 0.55);
    assert_true(curve.point[half].loss < curve.point[0].loss + 0.02);
    assert_true(curve.point[none].asked == 0 && curve.point[none].loss > curve.point[0].loss + 0.1);
    assert_int_equal(moe_cascade_choose(&curve, 1), 0);
    moe_job_destroy(job);
}

static void
rows_of_one_uncertainty_stop_together(void **state)
{
    moe_job *job = start_job(1);
    float same[] = {0.75f, 0.25f, 0.75f, 0.25f}, label[] = {1, 0, 0, 1};
    moe_cascade_curve curve;
    assert_int_equal(moe_cascade_measure(job, MOE_BINARY, 1, 4, same, same, label, &curve), MOE_OK);
    assert_int_equal(curve.points, 2);
    assert_true(curve.point[1].asked == 0);
    assert_int_equal(moe_cascade_measure(job, MOE_REGRESSION, 1, 4, same, same, label, &curve), MOE_INVALID);
    moe_job_destroy(job);
}

static void
uncertainty_is_none_where_a_class_is_sure(void **state)
{
    float sure[] = {0, 1}, even[] = {0.5f, 0.5f};
    assert_true(moe_cascade_uncertainty(MOE_BINARY, 1, &sure[0]) == 0);
    assert_true(moe_cascade_uncertainty(MOE_BINARY, 1, &sure[1]) == 0);
    assert_true(moe_cascade_uncertainty(MOE_BINARY, 1, even) == 1);
    assert_true(moe_cascade_uncertainty(MOE_MULTICLASS, 2, sure) == 0);
    assert_true(moe_cascade_uncertainty(MOE_MULTICLASS, 2, even) == 0.5f);
}

static void
what_is_read_is_what_was_written_or_refused(void **state)
{
    moe_job *job = start_job(1);
    moe_cascade_curve curve = measure(job, make(job, 1), 1), again;
    moe_buffer buffer;
    moe_reader reader;
    moe_buffer_init(&buffer, job);
    moe_cascade_write(&curve, &buffer);
    moe_reader_init(&reader, job, buffer.data, buffer.length);
    assert_int_equal(moe_cascade_read(&reader, &again), MOE_OK);
    assert_int_equal(again.points, curve.points);
    assert_memory_equal(again.point, curve.point, (size_t) curve.points * sizeof *curve.point);
    for (int64_t length = 0; length < buffer.length; length += 7)
    {
        moe_job *other = start_job(1);
        moe_reader_init(&reader, other, buffer.data, length);
        assert_int_equal(moe_cascade_read(&reader, &again), MOE_CORRUPT);
        moe_job_destroy(other);
    }
    buffer.data[4 + 8] ^= 0x80; /* the share of the first point becomes negative or odd */
    buffer.data[4 + 15] ^= 0x80;
    moe_reader_init(&reader, job, buffer.data, buffer.length);
    assert_int_equal(moe_cascade_read(&reader, &again), MOE_CORRUPT);
    moe_job_destroy(job);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_point_is_what_its_threshold_gives),
        cmocka_unit_test(easy_rows_are_saved_for_nothing),
        cmocka_unit_test(rows_of_one_uncertainty_stop_together),
        cmocka_unit_test(uncertainty_is_none_where_a_class_is_sure),
        cmocka_unit_test(what_is_read_is_what_was_written_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
