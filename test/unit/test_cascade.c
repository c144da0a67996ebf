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
    float expected[N];
    float reading[N];
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
        m->expected[i] = 1 + (float) moe_random_uniform(7, i);
        m->reading[i] = (float) (moe_random_bits(8, i) % 3);
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
    moe_cascade_rows rows = {N, m->early, m->full, m->label, m->expected, m->reading};
    moe_cascade_curve curve;
    assert_int_equal(moe_cascade_measure(job, classes > 1 ? MOE_MULTICLASS : MOE_BINARY, classes, &rows, 1, &curve),
                     MOE_OK);
    return curve;
}

/* Plainly: the loss and the shares of a threshold. */
static void
check_point(const made *m, int classes, const moe_cascade_point *point)
{
    moe_task_type task = classes > 1 ? MOE_MULTICLASS : MOE_BINARY;
    int k = classes > 1 ? classes : 1;
    double loss = 0, asked = 0, read = 0, all = 0;
    bool stopped[N];
    for (int i = 0; i < N; i++)
    {
        bool stops = stopped[i] =
            moe_cascade_worth(task, classes, m->early + i * k, m->expected[i]) <= (float) point->threshold;
        const float *said = (stops ? m->early : m->full) + i * k;
        double p = k > 1 ? said[(int) m->label[i]] : m->label[i] > 0.5f ? said[0] : 1 - (double) said[0];
        loss -= log(p) / N;
        asked += stops ? 0 : 1.0 / N;
        read += stops ? 0 : m->reading[i];
        all += m->reading[i];
    }
    assert_float_equal(point->loss, loss, 1e-6);
    assert_float_equal(point->asked, asked, 1e-9);
    assert_float_equal(point->reads, read / all, 1e-9);
    assert_float_equal(moe_cascade_reads(N, m->reading, stopped), read / all, 1e-9);
}

static void
reading_that_is_not_known_or_nothing_is_left_out_of_its_share(void **state)
{
    bool stops[] = {true, false, false, true};
    float some[] = {3, NAN, 1, 0}, nothing[] = {0, 0, NAN, 0}, unknown[] = {NAN, NAN, NAN, NAN};
    assert_float_equal(moe_cascade_reads(4, some, stops), 0.25, 0);
    assert_float_equal(moe_cascade_reads(4, nothing, stops), 1.0 / 3, 1e-12);
    assert_true(isnan(moe_cascade_reads(4, unknown, stops)) && isnan(moe_cascade_reads(0, NULL, NULL)));
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
        assert_true(curve.point[0].reads == 1 && curve.point[curve.points - 1].reads == 0);
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
    assert_true(curve.point[half].reads <= 0.55 && curve.point[half - 1].reads > 0.55);
    assert_true(curve.point[half].loss < curve.point[0].loss + 0.02);
    assert_true(curve.point[none].asked == 0 && curve.point[none].loss > curve.point[0].loss + 0.1);
    assert_int_equal(moe_cascade_choose(&curve, 1), 0);
    moe_job_destroy(job);
}

/* Where one row in twenty has most of what there is to read, leaving these alone saves most of it. */
static void
rows_with_much_to_read_stop_first(void **state)
{
    moe_job *job = start_job(1);
    made *m = make(job, 1);
    for (int i = 0; i < N; i++)
        m->reading[i] = m->expected[i] = i % 20 == 1 ? 60 : 1;
    moe_cascade_curve curve = measure(job, m, 1);
    const moe_cascade_point *half = &curve.point[moe_cascade_choose(&curve, 0.5)];
    assert_true(half->reads <= 0.5 && half->asked > 0.6);
    assert_true(half->loss < curve.point[0].loss + 0.05);
    /* One row that has half of it all: a step of many points. */
    m->reading[1] = m->expected[1] = 60 * N;
    curve = measure(job, m, 1);
    for (int p = 1; p < curve.points; p++)
        assert_true(curve.point[p].threshold > curve.point[p - 1].threshold);
    moe_job_destroy(job);
}

static void
where_there_is_nothing_to_read_rows_count(void **state)
{
    moe_job *job = start_job(1);
    made *m = make(job, 1);
    memset(m->reading, 0, sizeof m->reading);
    moe_cascade_curve curve = measure(job, m, 1);
    for (int p = 0; p < curve.points; p++)
        assert_float_equal(curve.point[p].reads, curve.point[p].asked, 1e-9);
    moe_job_destroy(job);
}

static void
rows_whose_reading_is_not_known_do_not_count(void **state)
{
    moe_job *job = start_job(1);
    made *m = make(job, 1);
    int known = 0;
    for (int i = 0; i < N; i++)
        if (i % 3 != 0)
        {
            m->early[known] = m->early[i];
            m->full[known] = m->full[i];
            m->label[known] = m->label[i];
            m->expected[known] = m->expected[i];
            m->reading[known++] = m->reading[i];
        }
    moe_cascade_rows rows = {known, m->early, m->full, m->label, m->expected, m->reading};
    moe_cascade_curve alone, among;
    assert_int_equal(moe_cascade_measure(job, MOE_BINARY, 1, &rows, 1, &alone), MOE_OK);
    for (int i = known; i < N; i++)
        m->reading[i] = NAN;
    rows.n = N;
    assert_int_equal(moe_cascade_measure(job, MOE_BINARY, 1, &rows, known, &among), MOE_OK);
    assert_memory_equal(&among, &alone, sizeof alone);
    assert_int_equal(moe_cascade_measure(job, MOE_BINARY, 1, &rows, known + 1, &among), MOE_OK);
    assert_int_equal(among.points, 0);
    moe_job_destroy(job);
}

static void
rows_of_one_worth_stop_together(void **state)
{
    moe_job *job = start_job(1);
    float same[] = {0.75f, 0.25f, 0.75f, 0.25f}, label[] = {1, 0, 0, 1}, one[] = {1, 1, 1, 1};
    moe_cascade_rows rows = {4, same, same, label, one, one};
    moe_cascade_curve curve;
    assert_int_equal(moe_cascade_measure(job, MOE_BINARY, 1, &rows, 1, &curve), MOE_OK);
    assert_int_equal(curve.points, 2);
    assert_true(curve.point[1].asked == 0);
    assert_int_equal(moe_cascade_measure(job, MOE_REGRESSION, 1, &rows, 1, &curve), MOE_INVALID);
    moe_job_destroy(job);
}

static void
worth_is_entropy_for_each_row_to_read(void **state)
{
    float sure[] = {0, 1}, even[] = {0.5f, 0.5f};
    assert_true(moe_cascade_worth(MOE_BINARY, 1, &sure[0], 1) == 0);
    assert_true(moe_cascade_worth(MOE_BINARY, 1, &sure[1], 1) == 0);
    assert_float_equal(moe_cascade_worth(MOE_BINARY, 1, even, 1), log(2), 1e-6);
    assert_float_equal(moe_cascade_worth(MOE_BINARY, 1, even, 10), log(2) / 10, 1e-7);
    assert_true(moe_cascade_worth(MOE_MULTICLASS, 2, sure, 1) == 0);
    assert_float_equal(moe_cascade_worth(MOE_MULTICLASS, 2, even, 1), log(2), 1e-6);
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
        cmocka_unit_test(reading_that_is_not_known_or_nothing_is_left_out_of_its_share),
        cmocka_unit_test(easy_rows_are_saved_for_nothing),
        cmocka_unit_test(rows_with_much_to_read_stop_first),
        cmocka_unit_test(where_there_is_nothing_to_read_rows_count),
        cmocka_unit_test(rows_whose_reading_is_not_known_do_not_count),
        cmocka_unit_test(rows_of_one_worth_stop_together),
        cmocka_unit_test(worth_is_entropy_for_each_row_to_read),
        cmocka_unit_test(what_is_read_is_what_was_written_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
