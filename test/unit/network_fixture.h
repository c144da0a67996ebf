/*
 * network_fixture.h: what the experts that are networks over a matrix must do, for the tests of each.
 */
#ifndef MOE_TEST_NETWORK_FIXTURE_H
#define MOE_TEST_NETWORK_FIXTURE_H

#include "core.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "gnn/dense_expert.h"
#include "gnn/metrics.h"
#include "test/unit/fake_device.h"

#define DENSE_WIDTH 7

static const moe_dense_task dense_binary = {.task = MOE_BINARY, .n_classes = 1};
static const moe_dense_task dense_number = {.task = MOE_REGRESSION, .n_classes = 1, .low = -50, .high = 50};
static const moe_dense_task dense_classes = {.task = MOE_MULTICLASS, .n_classes = 3};

/* n rows from N(0, 1), the third column constant, with labels by f; owned by the job. */
static inline moe_dense_rows
dense_rows(moe_job *job, int64_t n, uint64_t key, float (*f)(const float *x))
{
    float *x = normal_floats(job, n * DENSE_WIDTH, key);
    float *label = moe_alloc(job, n, sizeof(float));
    assert_non_null(label);
    for (int64_t i = 0; i < n; i++)
    {
        x[i * DENSE_WIDTH + 2] = 1;
        label[i] = f(x + i * DENSE_WIDTH);
    }
    return (moe_dense_rows){.n = n, .width = DENSE_WIDTH, .x = x, .label = label};
}

static inline float
dense_xor(const float *x)
{
    return (x[0] > 0) != (x[1] > 0);
}

/* Far from zero, of a large scale, and with a term no line has. */
static inline float
dense_curve(const float *x)
{
    return 20 + 4 * x[0] + 4 * fabsf(x[1]);
}

static inline float
dense_class(const float *x)
{
    return x[0] > 0.5f ? 2 : x[1] > 0 ? 1 : 0;
}

static inline float
dense_line(const float *x)
{
    return x[0] + x[3] > 0;
}

static inline void *
dense_fit(moe_job *job, const moe_dense_class *kind, const moe_dense_task *task, const moe_dense_rows *train,
          const moe_dense_rows *valid)
{
    void *state = NULL;
    moe_dense_rows none = {.width = DENSE_WIDTH};
    moe_code code = kind->fit(job, task, train, valid == NULL ? &none : valid, 3, &state);
    if (code != MOE_OK)
        fail_msg("fit: %s", moe_job_error(job));
    assert_non_null(state);
    return state;
}

static inline float *
dense_predict(moe_job *job, const moe_dense_class *kind, void *state, const moe_dense_task *task,
              const moe_dense_rows *rows)
{
    float *prediction = moe_alloc(job, rows->n * task->n_classes, sizeof(float));
    assert_non_null(prediction);
    assert_int_equal(kind->predict(job, state, task, rows, prediction), MOE_OK);
    for (int64_t i = 0; i < rows->n * task->n_classes; i++)
        assert_true(isfinite(prediction[i]));
    return prediction;
}

/* The metric on fresh rows of an expert fitted on n: AUROC, MAE or accuracy. */
static inline double
dense_metric(const moe_dense_class *kind, const moe_dense_task *task, float (*f)(const float *x), int64_t n,
             bool validate)
{
    moe_job *job = start_job(2);
    moe_dense_rows train = dense_rows(job, n, 1, f), valid = dense_rows(job, 300, 2, f);
    moe_dense_rows test = dense_rows(job, 1000, 3, f);
    void *state = dense_fit(job, kind, task, &train, validate ? &valid : NULL);
    float *p = dense_predict(job, kind, state, task, &test);
    double metric = task->task == MOE_BINARY       ? moe_metric_auroc(job, p, test.label, test.n)
                    : task->task == MOE_REGRESSION ? moe_metric_mae(p, test.label, test.n)
                                                   : moe_metric_class_accuracy(p, test.label, test.n, 3);
    kind->destroy(job, state);
    moe_job_destroy(job);
    return metric;
}

static inline void
dense_check_threads(const moe_dense_class *kind)
{
    static const int threads[] = {1, 2, 7};
    float first[400];
    for (int t = 0; t < 3; t++)
    {
        moe_job *job = start_job(threads[t]);
        moe_dense_rows train = dense_rows(job, 700, 1, dense_xor), test = dense_rows(job, 400, 2, dense_xor);
        void *state = dense_fit(job, kind, &dense_binary, &train, &test);
        float *p = dense_predict(job, kind, state, &dense_binary, &test);
        if (t == 0)
            memcpy(first, p, sizeof first);
        assert_memory_equal(first, p, sizeof first);
        moe_job_destroy(job);
    }
}

/* Of an odd number of rows, each alone, in a batch and at another place of one. `width` columns with filler. */
static inline void
dense_check_company(const moe_dense_class *kind, int width)
{
    moe_job *job = start_job(2);
    int64_t n = 301;
    float *x = normal_floats(job, n * width, 5);
    float *label = moe_alloc(job, n, sizeof(float));
    assert_non_null(label);
    for (int64_t i = 0; i < n; i++)
        label[i] = x[i * width] > 0;
    moe_dense_rows rows = {.n = n, .width = width, .x = x, .label = label}, none = {.width = width};
    void *state;
    assert_int_equal(kind->fit(job, &dense_binary, &rows, &none, 3, &state), MOE_OK);
    float *together = dense_predict(job, kind, state, &dense_binary, &rows);
    for (int64_t i = 0; i < n; i += 37)
    {
        moe_dense_rows one = {.n = 1, .width = width, .x = x + i * width};
        moe_dense_rows rest = {.n = n - i, .width = width, .x = x + i * width};
        float *alone = dense_predict(job, kind, state, &dense_binary, &one);
        float *moved = dense_predict(job, kind, state, &dense_binary, &rest);
        assert_memory_equal(alone, together + i, sizeof(float));
        assert_memory_equal(moved, together + i, (size_t) (n - i) * sizeof(float));
    }
    moe_job_destroy(job);
}

/* Rows of weight 0 count for nothing: what they say is the opposite. */
static inline double
dense_weighted_auroc(const moe_dense_class *kind)
{
    moe_job *job = start_job(2);
    moe_dense_rows train = dense_rows(job, 1200, 1, dense_line), test = dense_rows(job, 500, 2, dense_line);
    float *label = (float *) train.label, *weight = moe_alloc(job, train.n, sizeof(float));
    assert_non_null(weight);
    for (int64_t i = 0; i < train.n; i++)
    {
        weight[i] = i % 3 == 0 ? 2 : 0;
        label[i] = i % 3 == 0 ? label[i] : 1 - label[i];
    }
    train.weight = weight;
    void *state = dense_fit(job, kind, &dense_binary, &train, NULL);
    double auroc = moe_metric_auroc(job, dense_predict(job, kind, state, &dense_binary, &test), test.label, test.n);
    moe_job_destroy(job);
    return auroc;
}

/* One row, rows all alike, one class alone, equal numbers: no prediction that is not a number. */
static inline void
dense_check_poor_data(const moe_dense_class *kind)
{
    static const int64_t counts[] = {1, 2, 33};
    const moe_dense_task *tasks[] = {&dense_binary, &dense_number, &dense_classes};
    for (int c = 0; c < 3; c++)
        for (int k = 0; k < 3; k++)
        {
            moe_job *job = start_job(1);
            float x[33 * DENSE_WIDTH], label[33];
            for (int i = 0; i < 33 * DENSE_WIDTH; i++)
                x[i] = i % DENSE_WIDTH == 1 ? 3 : 0;
            for (int i = 0; i < 33; i++)
                label[i] = 1;
            moe_dense_rows rows = {.n = counts[c], .width = DENSE_WIDTH, .x = x, .label = label};
            void *state = dense_fit(job, kind, tasks[k], &rows, counts[c] == 2 ? &rows : NULL);
            float *p = dense_predict(job, kind, state, tasks[k], &rows);
            if (k == 0)
                assert_true(p[0] >= 0.5f && p[0] <= 1);
            moe_job_destroy(job);
        }
}

/* Predictions stay within [low, high], whatever the inputs. */
static inline void
dense_check_limits(const moe_dense_class *kind)
{
    moe_job *job = start_job(2);
    moe_dense_task task = dense_number;
    task.low = 19;
    task.high = 25;
    moe_dense_rows train = dense_rows(job, 600, 1, dense_curve);
    void *state = dense_fit(job, kind, &task, &train, NULL);
    float *x = (float *) train.x;
    for (int64_t i = 0; i < train.n * train.width; i++)
        x[i] *= 30;
    float *p = dense_predict(job, kind, state, &task, &train);
    bool any_low = false, any_high = false;
    for (int64_t i = 0; i < train.n; i++)
    {
        assert_true(p[i] >= 19 && p[i] <= 25);
        any_low = any_low || p[i] == 19;
        any_high = any_high || p[i] == 25;
    }
    assert_true(any_low || any_high);
    moe_job_destroy(job);
}

/* What was read predicts the same bits and writes the same bytes; broken bytes are refused or give numbers. */
static inline void
dense_check_store(const moe_dense_class *kind, const moe_dense_task *task, float (*f)(const float *x))
{
    moe_job *job = start_job(2);
    moe_dense_rows train = dense_rows(job, 200, 1, f);
    void *state = dense_fit(job, kind, task, &train, NULL), *again;
    float *p = dense_predict(job, kind, state, task, &train);
    moe_buffer bytes, second;
    moe_reader reader;
    moe_buffer_init(&bytes, job);
    moe_buffer_init(&second, job);
    kind->write(state, &bytes);
    moe_reader_init(&reader, job, bytes.data, bytes.length);
    assert_int_equal(kind->read(job, &reader, task, DENSE_WIDTH, &again), MOE_OK);
    assert_int_equal(reader.position, bytes.length);
    assert_int_equal(kind->parameters(again), kind->parameters(state));
    assert_memory_equal(dense_predict(job, kind, again, task, &train), p,
                        (size_t) (train.n * task->n_classes) * sizeof(float));
    kind->write(again, &second);
    assert_int_equal(second.length, bytes.length);
    assert_memory_equal(second.data, bytes.data, (size_t) bytes.length);

    moe_dense_rows one = {.n = 1, .width = DENSE_WIDTH, .x = train.x};
    for (int64_t i = 0; i < bytes.length; i += i < 400 ? 1 : 97)
    {
        moe_job *other = start_job(1);
        moe_reader cut;
        void *broken;
        float result[3];
        moe_reader_init(&cut, other, bytes.data, i);
        assert_int_not_equal(kind->read(other, &cut, task, DENSE_WIDTH, &broken), MOE_OK);
        assert_null(broken);
        moe_job_destroy(other);

        other = start_job(1);
        bytes.data[i] ^= (uint8_t) (1 << i % 8);
        moe_reader_init(&cut, other, bytes.data, bytes.length);
        if (kind->read(other, &cut, task, DENSE_WIDTH, &broken) == MOE_OK)
        {
            if (kind->predict(other, broken, task, &one, result) == MOE_OK)
                assert_true(isfinite(result[0]));
        }
        else
            assert_int_equal(moe_job_code(other), MOE_CORRUPT);
        bytes.data[i] ^= (uint8_t) (1 << i % 8);
        moe_job_destroy(other);
    }
    moe_job_destroy(job);
}

/* What was written for other columns or another task is refused. */
static inline void
dense_check_misfit(const moe_dense_class *kind)
{
    moe_job *job = start_job(1);
    moe_dense_rows train = dense_rows(job, 50, 1, dense_line);
    void *state = dense_fit(job, kind, &dense_binary, &train, NULL), *again;
    moe_buffer bytes;
    moe_buffer_init(&bytes, job);
    kind->write(state, &bytes);
    for (int i = 0; i < 2; i++)
    {
        moe_job *other = start_job(1);
        moe_reader reader;
        moe_reader_init(&reader, other, bytes.data, bytes.length);
        assert_int_equal(
            kind->read(other, &reader, i == 0 ? &dense_binary : &dense_classes, i == 0 ? 2 : DENSE_WIDTH, &again),
            MOE_CORRUPT);
        moe_job_destroy(other);
    }
    moe_job_destroy(job);
}

static inline double
dense_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double) now.tv_sec + (double) now.tv_nsec * 1e-9;
}

static double dense_cancel_at;

static inline bool
dense_cancelled(void *arg)
{
    return dense_clock() > dense_cancel_at;
}

/* A fit that would take much longer ends soon after it was cancelled. */
static inline void
dense_check_cancel(const moe_dense_class *kind)
{
    moe_job_config config = {.threads = 2, .cancelled = dense_cancelled};
    moe_job *job;
    dense_cancel_at = dense_clock() + 3600;
    assert_int_equal(moe_job_create(&config, &job), MOE_OK);
    moe_dense_rows train = dense_rows(job, 60000, 1, dense_xor), none = {.width = DENSE_WIDTH};
    void *state;
    dense_cancel_at = dense_clock() + 0.02;
    assert_int_equal(kind->fit(job, &dense_binary, &train, &none, 3, &state), MOE_CANCELLED);
    assert_true(dense_clock() - dense_cancel_at < 0.5); /* 0.1 where the machine has nothing else to do */
    assert_null(state);
    moe_job_destroy(job);
}

/* On a device, whose memory the host must not touch, it learns and predicts what it does on the host. */
static inline void
dense_check_device(const moe_dense_class *kind)
{
    float *p[2];
    moe_job *jobs[2];
    for (int i = 0; i < 2; i++)
    {
        moe_job *job = jobs[i] = start_job(2);
        assert_int_equal(moe_blas_open(job), MOE_OK);
        if (i == 1)
            fake_open(job, 0);
        moe_dense_rows train = dense_rows(job, 500, 1, dense_class), test = dense_rows(job, 100, 2, dense_class);
        void *state = dense_fit(job, kind, &dense_classes, &train, &test), *again;
        moe_buffer bytes;
        moe_reader reader;
        moe_buffer_init(&bytes, job);
        kind->write(state, &bytes);
        moe_reader_init(&reader, job, bytes.data, bytes.length);
        assert_int_equal(kind->read(job, &reader, &dense_classes, DENSE_WIDTH, &again), MOE_OK);
        p[i] = dense_predict(job, kind, again, &dense_classes, &test);
        kind->destroy(job, state);
        kind->destroy(job, again);
    }
    for (int i = 0; i < 300; i++)
        assert_true(fabsf(p[0][i] - p[1][i]) < 1e-5f);
    moe_job_destroy(jobs[0]);
    moe_job_destroy(jobs[1]);
}

/* Labels that do not fit, weights that are none, and other columns are refused. */
static inline void
dense_check_refusals(const moe_dense_class *kind)
{
    static const float labels[][2] = {{0, 0.5f}, {0, NAN}, {0, 3}, {0, 1}, {0, 1}, {1, -1}};
    static const float weights[][2] = {{1, 1}, {1, 1}, {1, 1}, {0, 0}, {1, -1}, {1, 1}};
    const moe_dense_task *tasks[] = {&dense_binary, &dense_number, &dense_classes,
                                     &dense_binary, &dense_binary, &dense_classes};
    float x[2 * DENSE_WIDTH] = {0};
    void *state;
    for (int i = 0; i < 6; i++)
    {
        moe_job *job = start_job(1);
        moe_dense_rows rows = {2, DENSE_WIDTH, x, labels[i], weights[i]}, none = {.width = DENSE_WIDTH};
        assert_int_equal(kind->fit(job, tasks[i], &rows, &none, 1, &state), MOE_INVALID);
        assert_null(state);
        moe_job_destroy(job);
    }
    moe_job *job = start_job(1);
    moe_dense_rows rows = {2, DENSE_WIDTH, x, labels[3], NULL}, none = {.width = DENSE_WIDTH};
    assert_int_equal(kind->fit(job, &dense_binary, &rows, &none, 1, &state), MOE_OK);
    rows.width = DENSE_WIDTH - 1;
    assert_int_equal(kind->predict(job, state, &dense_binary, &rows, x), MOE_INVALID);
    moe_job_destroy(job);
}

#endif
