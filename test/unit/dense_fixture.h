/*
 * dense_fixture.h: what the tests of experts over a matrix share.
 */
#ifndef MOE_DENSE_FIXTURE_H
#define MOE_DENSE_FIXTURE_H

#include "test/unit/core.h"

#include <math.h>
#include <string.h>

#include "gnn/dense_expert.h"
#include "kernels/blas.h"

static const moe_dense_task binary_task = {.task = MOE_BINARY, .n_classes = 1};
static const moe_dense_task regression_task = {.task = MOE_REGRESSION, .n_classes = 1, .low = -1e6, .high = 1e6};
static const moe_dense_task three_classes = {.task = MOE_MULTICLASS, .n_classes = 3};

static inline moe_job *
dense_job(int threads)
{
    moe_job *job = start_job(threads);
    assert_int_equal(moe_blas_open(job), MOE_OK);
    return job;
}

/* Normal inputs, and labels that follow the first three of them with noise of this size. */
static inline moe_dense_rows
dense_rows(moe_job *job, moe_task_type task, int64_t n, int width, double noise, uint64_t key)
{
    float *x = normal_floats(job, n * width, key), *label = moe_alloc(job, n, sizeof(float));
    assert_non_null(label);
    for (int64_t i = 0; i < n; i++)
    {
        const float *row = x + i * width;
        double signal = 2 * row[0] - row[1] + 0.5 * row[2] + noise * moe_random_normal(key + 1000, i);
        if (task == MOE_REGRESSION)
            label[i] = (float) (30 + 10 * signal);
        else if (task == MOE_BINARY)
            label[i] = signal > 0.7;
        else
            label[i] = (float) ((signal > -1) + (signal > 1));
    }
    return (moe_dense_rows){.n = n, .width = width, .x = x, .label = label};
}

static inline moe_dense_rows
part_of(const moe_dense_rows *rows, int64_t first, int64_t n)
{
    moe_dense_rows part = *rows;
    part.n = n;
    part.x += first * rows->width;
    part.label = rows->label == NULL ? NULL : rows->label + first;
    part.weight = rows->weight == NULL ? NULL : rows->weight + first;
    return part;
}

static inline moe_dense_expert *
dense_fit(moe_job *job, moe_dense_kind kind, const moe_dense_task *task, const moe_dense_rows *train,
          const moe_dense_rows *valid)
{
    moe_dense_expert *expert;
    assert_int_equal(moe_dense_expert_fit(job, kind, task, train, valid, 7, &expert), MOE_OK);
    return expert;
}

static inline float *
dense_predict(moe_job *job, moe_dense_expert *expert, const moe_dense_task *task, const moe_dense_rows *rows)
{
    float *out = moe_alloc(job, rows->n * task->n_classes, sizeof(float));
    assert_non_null(out);
    assert_int_equal(moe_dense_expert_predict(expert, rows, out), MOE_OK);
    return out;
}

static inline moe_buffer
dense_bytes(moe_job *job, const moe_dense_expert *expert)
{
    moe_buffer buffer;
    moe_buffer_init(&buffer, job);
    moe_dense_expert_write(expert, &buffer);
    assert_int_equal(moe_job_code(job), MOE_OK);
    return buffer;
}

/* The bytes of an expert fitted by any number of threads, and its predictions, must be the same. */
static inline void
check_threads(moe_dense_kind kind, const moe_dense_task *task, int64_t n, int width)
{
    int threads[] = {1, 2, 7};
    moe_job *jobs[3];
    moe_buffer bytes[3];
    float *out[3];
    for (int t = 0; t < 3; t++)
    {
        moe_job *job = jobs[t] = dense_job(threads[t]);
        moe_dense_rows train = dense_rows(job, task->task, n, width, 1, 3);
        moe_dense_rows valid = dense_rows(job, task->task, 600, width, 1, 4);
        moe_dense_expert *expert = dense_fit(job, kind, task, &train, &valid);
        bytes[t] = dense_bytes(job, expert);
        out[t] = dense_predict(job, expert, task, &valid);
        assert_int_equal(bytes[t].length, bytes[0].length);
        assert_memory_equal(bytes[t].data, bytes[0].data, bytes[0].length);
        assert_memory_equal(out[t], out[0], 600 * task->n_classes * sizeof(float));
    }
    for (int t = 0; t < 3; t++)
        moe_job_destroy(jobs[t]);
}

/* A row has the same bits alone and in any batch, before and after the expert is stored. */
static inline void
check_company(moe_dense_kind kind, const moe_dense_task *task, int64_t n, int width)
{
    moe_job *job = dense_job(2);
    moe_dense_rows train = dense_rows(job, task->task, n, width, 1, 3);
    moe_dense_rows asked = dense_rows(job, task->task, 203, width, 1, 5);
    moe_dense_expert *expert = dense_fit(job, kind, task, &train, NULL), *again;
    float *all = dense_predict(job, expert, task, &asked);
    moe_buffer bytes = dense_bytes(job, expert);
    moe_reader reader;
    moe_reader_init(&reader, job, bytes.data, bytes.length);
    assert_int_equal(moe_dense_expert_read(job, &reader, &again), MOE_OK);
    assert_int_equal(reader.position, bytes.length);
    assert_int_equal(moe_dense_expert_parameters(again), moe_dense_expert_parameters(expert));
    for (int64_t first = 0; first < asked.n; first += 17)
        for (int64_t rows = 1; first + rows <= asked.n; rows += 1 + rows / 2)
        {
            moe_dense_rows part = part_of(&asked, first, rows);
            float *some = dense_predict(job, again, task, &part);
            assert_memory_equal(some, all + first * task->n_classes, rows * task->n_classes * sizeof(float));
        }
    moe_job_destroy(job);
}

/* Read a copy of exactly this length, so that reading past it is seen by the sanitizer. */
static inline moe_code
read_dense_bytes(const uint8_t *bytes, int64_t length)
{
    float x[64] = {1, -3, 1e30f}, out[64];
    moe_job *job = dense_job(1);
    uint8_t *copy = moe_alloc(job, length, 1);
    moe_dense_expert *expert;
    moe_reader reader;
    memcpy(copy, bytes, length);
    moe_reader_init(&reader, job, copy, length);
    moe_code code = moe_dense_expert_read(job, &reader, &expert);
    if (code == MOE_OK && moe_dense_expert_width(expert) <= 64 && moe_dense_expert_task(expert)->n_classes <= 64)
    {
        moe_dense_rows row = {.n = 1, .width = moe_dense_expert_width(expert), .x = x};
        assert_int_equal(moe_dense_expert_predict(expert, &row, out), MOE_OK);
    }
    moe_dense_expert_destroy(expert);
    moe_job_destroy(job);
    return code;
}

static inline void
check_hostile(moe_dense_kind kind, const moe_dense_task *task, int64_t n, int width)
{
    moe_job *job = dense_job(1);
    moe_dense_rows train = dense_rows(job, task->task, n, width, 1, 3);
    moe_buffer bytes = dense_bytes(job, dense_fit(job, kind, task, &train, NULL));
    for (int64_t length = 0; length < bytes.length; length++)
        assert_int_equal(read_dense_bytes(bytes.data, length), MOE_CORRUPT);
    for (int64_t bit = 8 * 2; bit < 8 * bytes.length; bit++) /* the kind stays */
    {
        bytes.data[bit / 8] ^= (uint8_t) (1 << bit % 8);
        moe_code code = read_dense_bytes(bytes.data, bytes.length);
        assert_true(code == MOE_OK || code == MOE_CORRUPT);
        bytes.data[bit / 8] ^= (uint8_t) (1 << bit % 8);
    }
    moe_job_destroy(job);
}

#endif
