/*
 * test_params.c: parameters are initialised, updated by Adam, stored and read back.
 */
#include "core.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/params.h"

static void
initial_values_depend_on_seed_and_name_alone(void **state)
{
    moe_job *job = start_job(1);
    moe_params *first = moe_params_create(job, 1);
    moe_params *second = moe_params_create(job, 1);
    moe_params *other_seed = moe_params_create(job, 2);
    float *a = moe_params_add(first, "a", 5, 7, MOE_INIT_UNIFORM)->value;
    float *b = moe_params_add(first, "b", 5, 7, MOE_INIT_UNIFORM)->value;
    float *b2 = moe_params_add(second, "b", 5, 7, MOE_INIT_UNIFORM)->value;
    float *a2 = moe_params_add(second, "a", 5, 7, MOE_INIT_UNIFORM)->value;
    float *a3 = moe_params_add(other_seed, "a", 5, 7, MOE_INIT_UNIFORM)->value;
    assert_memory_equal(a, a2, 35 * sizeof(float));
    assert_memory_equal(b, b2, 35 * sizeof(float));
    assert_memory_not_equal(a, b, 35 * sizeof(float));
    assert_memory_not_equal(a, a3, 35 * sizeof(float));
    moe_params_destroy(first);
    moe_params_destroy(second);
    moe_params_destroy(other_seed);
    assert_int_equal(moe_job_memory_used(job), 0);
    moe_job_destroy(job);
}

static void
initial_values_have_the_stated_spread(void **state)
{
    moe_job *job = start_job(1);
    moe_params *params = moe_params_create(job, 3);
    const float *uniform = moe_params_add(params, "u", 100, 200, MOE_INIT_UNIFORM)->value;
    const float *normal = moe_params_add(params, "n", 100, 200, MOE_INIT_NORMAL)->value;
    const float *one = moe_params_add(params, "1", 1, 9, MOE_INIT_ONE)->value;
    const float *zero = moe_params_add(params, "0", 1, 9, MOE_INIT_ZERO)->value;
    double square = 0, largest = 0;
    for (int i = 0; i < 20000; i++)
    {
        largest = fmax(largest, fabs(uniform[i]));
        square += (double) normal[i] * normal[i] / 20000;
    }
    assert_true(largest <= 0.1 && largest > 0.099);
    assert_true(fabs(sqrt(square) - 0.1) < 0.003);
    assert_true(one[8] == 1 && zero[8] == 0);
    assert_true(moe_params_get(params, 0)->decay && !moe_params_get(params, 2)->decay);
    moe_job_destroy(job);
}

static void
adding_again_returns_what_is_there(void **state)
{
    moe_job *job = start_job(1);
    moe_params *params = moe_params_create(job, 1);
    moe_param *param = moe_params_add(params, "w", 3, 4, MOE_INIT_ZERO);
    param->value[5] = 42;
    assert_ptr_equal(moe_params_add(params, "w", 3, 4, MOE_INIT_ONE), param);
    assert_true(param->value[5] == 42);
    assert_int_equal(moe_params_count(params), 1);
    assert_int_equal(moe_params_size(params), 12);
    assert_null(moe_params_add(params, "w", 4, 3, MOE_INIT_ZERO));
    assert_int_equal(moe_job_code(job), MOE_CORRUPT);
    moe_job_destroy(job);
}

static void
pointers_to_parameters_stay_valid(void **state)
{
    moe_job *job = start_job(1);
    moe_params *params = moe_params_create(job, 1);
    moe_param *first = moe_params_add(params, "first", 1, 1, MOE_INIT_ONE);
    for (int i = 0; i < 500; i++)
    {
        char name[20];
        snprintf(name, sizeof(name), "p%d", i);
        assert_non_null(moe_params_add(params, name, 1, 2, MOE_INIT_ZERO));
    }
    assert_ptr_equal(moe_params_get(params, 0), first);
    assert_string_equal(first->name, "first");
    moe_job_destroy(job);
}

/* Kingma and Ba, algorithm 1, with Loshchilov and Hutter's decay and clipping by the global norm, in double. */
static void
adam_follows_its_formula(void **state)
{
    moe_job *job = start_job(2);
    moe_params *params = moe_params_create(job, 1);
    moe_param *w = moe_params_add(params, "w", 40, 500, MOE_INIT_UNIFORM);
    moe_param *b = moe_params_add(params, "b", 1, 3, MOE_INIT_ZERO);
    assert_int_equal(moe_params_train(params), MOE_OK);
    moe_adam adam = {
        .learning_rate = 0.01f, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f, .weight_decay = 0.1f, .clip_norm = 5};
    enum
    {
        N = 20003
    };
    static double value[N], m[N], v[N], g[N];
    for (int i = 0; i < N; i++)
    {
        value[i] = i < 20000 ? w->value[i] : b->value[i - 20000];
        m[i] = v[i] = 0;
    }
    for (int step = 1; step <= 3; step++)
    {
        double norm = 0;
        for (int i = 0; i < N; i++)
        {
            float gradient = (float) (moe_random_normal((uint64_t) step, (uint64_t) i) * (step == 2 ? 0.01 : 1));
            *(i < 20000 ? &w->gradient[i] : &b->gradient[i - 20000]) = gradient;
            g[i] = gradient;
            norm += g[i] * g[i];
        }
        norm = sqrt(norm);
        moe_adam_step(&adam, params);
        for (int i = 0; i < N; i++)
        {
            double clipped = norm > 5 ? g[i] * 5 / norm : g[i];
            m[i] = 0.9 * m[i] + 0.1 * clipped;
            v[i] = 0.999 * v[i] + 0.001 * clipped * clipped;
            double step_size = m[i] / (1 - pow(0.9, step)) / (sqrt(v[i] / (1 - pow(0.999, step))) + 1e-8);
            value[i] -= 0.01 * (step_size + (i < 20000 ? 0.1 * value[i] : 0));
            float got = i < 20000 ? w->value[i] : b->value[i - 20000];
            assert_true(fabs(got - value[i]) < 1e-5);
        }
        assert_true(w->gradient[7] == 0 && b->gradient[2] == 0);
    }
    assert_int_equal(adam.step, 3);
    moe_job_destroy(job);
}

static void
adam_refuses_gradients_that_are_not_finite(void **state)
{
    moe_job *job = start_job(1);
    moe_params *params = moe_params_create(job, 1);
    moe_param *w = moe_params_add(params, "w", 2, 2, MOE_INIT_ONE);
    moe_adam adam = {.learning_rate = 0.1f, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f};
    moe_params_train(params);
    w->gradient[2] = NAN;
    moe_adam_step(&adam, params);
    assert_int_equal(moe_job_code(job), MOE_INVALID);
    for (int i = 0; i < 4; i++)
        assert_true(w->value[i] == 1);
    moe_job_destroy(job);
}

static void
save_and_restore_are_inverse(void **state)
{
    moe_job *job = start_job(1);
    moe_params *params = moe_params_create(job, 1);
    moe_param *a = moe_params_add(params, "a", 2, 3, MOE_INIT_NORMAL);
    moe_param *b = moe_params_add(params, "b", 4, 1, MOE_INIT_NORMAL);
    float saved[10], a_before = a->value[5], b_before = b->value[3];
    moe_params_save(params, saved);
    a->value[5] = b->value[3] = 9;
    moe_params_restore(params, saved);
    assert_true(a->value[5] == a_before && b->value[3] == b_before);
    moe_job_destroy(job);
}

static moe_buffer
stored_params(moe_job *job)
{
    moe_buffer buffer;
    moe_params *params = moe_params_create(job, 1);
    moe_params_add(params, "encoder/weight", 3, 5, MOE_INIT_UNIFORM);
    moe_params_add(params, "empty", 0, 5, MOE_INIT_UNIFORM);
    moe_params_add(params, "head/bias", 1, 5, MOE_INIT_NORMAL);
    moe_buffer_init(&buffer, job);
    moe_params_write(params, &buffer);
    return buffer;
}

static void
stored_parameters_read_back(void **state)
{
    moe_job *job = start_job(1);
    moe_buffer buffer = stored_params(job);
    moe_reader reader;
    moe_params *read = moe_params_create(job, 99);
    moe_reader_init(&reader, job, buffer.data, buffer.length);
    assert_int_equal(moe_params_read(read, &reader), MOE_OK);
    assert_int_equal(reader.position, buffer.length);
    assert_int_equal(moe_params_count(read), 3);

    moe_params *original = moe_params_create(job, 1);
    moe_param *expected = moe_params_add(original, "encoder/weight", 3, 5, MOE_INIT_UNIFORM);
    moe_param *got = moe_params_add(read, "encoder/weight", 3, 5, MOE_INIT_UNIFORM);
    assert_memory_equal(got->value, expected->value, 15 * sizeof(float));
    assert_int_equal(moe_params_count(read), 3);
    moe_job_destroy(job);
}

/* A warm start adds what is new to the model and keeps what was learned. */
static void
reading_over_existing_parameters_replaces_their_values(void **state)
{
    moe_job *job = start_job(1);
    moe_buffer buffer = stored_params(job);
    moe_reader reader;
    moe_params *warm = moe_params_create(job, 7);
    moe_param *bias = moe_params_add(warm, "head/bias", 1, 5, MOE_INIT_ZERO);
    moe_param *fresh = moe_params_add(warm, "fresh", 1, 1, MOE_INIT_ONE);
    moe_params_train(warm);
    moe_reader_init(&reader, job, buffer.data, buffer.length);
    assert_int_equal(moe_params_read(warm, &reader), MOE_OK);
    assert_int_equal(moe_params_count(warm), 4);
    assert_true(bias->value[0] != 0 && fresh->value[0] == 1);
    assert_non_null(moe_params_get(warm, 3)->gradient);
    moe_job_destroy(job);
}

static void
corrupted_parameters_are_refused(void **state)
{
    moe_job *maker = start_job(1);
    moe_buffer buffer = stored_params(maker);
    for (int64_t length = 0; length < buffer.length; length++)
    {
        moe_job *job = start_job(1);
        moe_reader reader;
        moe_reader_init(&reader, job, buffer.data, length);
        assert_int_equal(moe_params_read(moe_params_create(job, 1), &reader), MOE_CORRUPT);
        moe_job_destroy(job);
    }
    /* Any one byte changed: refused or read, but without harm and without huge allocations. */
    for (int64_t at = 0; at < buffer.length; at++)
    {
        moe_job_config config = {.threads = 1, .memory_limit = 1 << 20};
        moe_job *job;
        moe_reader reader;
        uint8_t before = buffer.data[at];
        assert_int_equal(moe_job_create(&config, &job), MOE_OK);
        buffer.data[at] ^= 0xff;
        moe_reader_init(&reader, job, buffer.data, buffer.length);
        moe_code code = moe_params_read(moe_params_create(job, 1), &reader);
        assert_true(code == MOE_OK || code == MOE_CORRUPT);
        buffer.data[at] = before;
        moe_job_destroy(job);
    }
    moe_job_destroy(maker);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(initial_values_depend_on_seed_and_name_alone),
        cmocka_unit_test(initial_values_have_the_stated_spread),
        cmocka_unit_test(adding_again_returns_what_is_there),
        cmocka_unit_test(pointers_to_parameters_stay_valid),
        cmocka_unit_test(adam_follows_its_formula),
        cmocka_unit_test(adam_refuses_gradients_that_are_not_finite),
        cmocka_unit_test(save_and_restore_are_inverse),
        cmocka_unit_test(stored_parameters_read_back),
        cmocka_unit_test(reading_over_existing_parameters_replaces_their_values),
        cmocka_unit_test(corrupted_parameters_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
