/*
 * test_cuda.c: the CUDA module around its operations: what it says where there is no device, its memory, what a
 * failed call leads to, and that a model trains on it as on the host.
 *
 * MOE_CUDA_MODULE is the module's folder: test/unit/run gives the emulated one, test/check-gpu the real one. What
 * needs other devices than there are runs on the emulation alone.
 */
#include "test/unit/core.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/device.h"

#define MEGABYTE ((size_t) 1 << 20)

static const char *
folder(void)
{
    const char *given = getenv("MOE_CUDA_MODULE");
    return given == NULL ? "." : given;
}

static moe_job *
device_job(size_t limit)
{
    char reason[512] = "";
    moe_job *job = start_job(1);
    if (!moe_device_open_cuda(job, folder(), limit, reason, sizeof reason))
        fail_msg("no device: %s", reason);
    return job;
}

/* Set the environment of the emulation, anew for each call of a test that fails by it. */
static void
set(const char *name, const char *value)
{
    if (value == NULL)
        unsetenv(name);
    else
        setenv(name, value, 1);
}

static void
reasons_are_sentences(void **state)
{
    static const struct
    {
        const char *name, *value, *reason;
    } cases[] = {
        {"MOE_EMULATED_DEVICES", "0", "The NVIDIA driver finds no device."},
        {"MOE_EMULATED_DEVICES", "driver",
         "The NVIDIA driver serves CUDA up to version 12.4, and the device module needs 13.0."},
        {"MOE_EMULATED_CAPABILITY", "6",
         "The device \"emulated device 0\" has compute capability 6.0, and 7.5 is the "
         "least."},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    {
        char reason[512] = "";
        moe_job *job = start_job(1);
        set(cases[i].name, cases[i].value);
        assert_false(moe_device_open_cuda(job, folder(), 0, reason, sizeof reason));
        assert_string_equal(reason, cases[i].reason);
        assert_int_equal(moe_job_code(job), MOE_OK);
        assert_null(moe_job_device(job));
        set(cases[i].name, NULL);
        moe_job_destroy(job);
    }
}

static void
devices_are_listed(void **state)
{
    moe_device_report reports[4];
    char reason[512] = "";
    set("MOE_EMULATED_DEVICES", "2");
    assert_int_equal(moe_device_list_cuda(folder(), reports, 4, reason, sizeof reason), 2);
    assert_int_equal(moe_device_list_cuda(folder(), reports, 1, reason, sizeof reason), 1);
    set("MOE_EMULATED_DEVICES", NULL);
    assert_true(reports[1].usable && reports[1].ordinal == 1);
    assert_string_equal(reports[1].name, "emulated device 1");
    assert_true(reports[1].memory_free > 0 && reports[1].memory_free < reports[1].memory_total);
    assert_int_equal(reports[1].driver_version, 13000);
}

/* More than the ring of staging memory holds, from an array that is changed at once. */
static void
uploads_may_be_reused_at_once(void **state)
{
    moe_job *job = device_job(0);
    int64_t n = 7 * (int64_t) MEGABYTE / 4 + 13;
    float *host = moe_alloc(job, n, sizeof(float)), *back = moe_alloc(job, n, sizeof(float));
    float *a = moe_device_alloc(job, n, sizeof(float)), *b = moe_device_alloc(job, n, sizeof(float));
    for (int round = 0; round < 3; round++)
    {
        for (int64_t i = 0; i < n; i++)
            host[i] = (float) (i % 8191 + round);
        moe_upload(job, a, host, (size_t) n * sizeof(float));
        memset(host, 0, (size_t) n * sizeof(float));
        moe_device_copy(job, b, a, (size_t) n * sizeof(float));
        moe_device_zero(job, a, (size_t) n * sizeof(float));
        moe_download(job, back, b, (size_t) n * sizeof(float));
        for (int64_t i = 0; i < n; i++)
            assert_true(back[i] == (float) (i % 8191 + round));
    }
    assert_int_equal(moe_job_code(job), MOE_OK);
    moe_job_destroy(job);
}

/* Blocks come and go in an order that makes the table of blocks grow and move its entries. */
static void
memory_is_counted_and_limited(void **state)
{
    void *blocks[1000];
    moe_job *job = device_job(64 * MEGABYTE);
    moe_device *device = moe_job_device(job);
    size_t before = device->used(device), used = before;
    for (int i = 0; i < 1000; i++)
    {
        blocks[i] = device->alloc(device, (size_t) i + 1, true);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t) blocks[i] % 256, 0);
        used += (size_t) i + 1;
    }
    for (int i = 0; i < 1000; i++)
    {
        int k = i * 377 % 1000;
        device->release(device, blocks[k]);
        used -= (size_t) k + 1;
        assert_int_equal(device->used(device), used);
    }
    assert_int_equal(device->used(device), before);
    assert_true(device->peak(device) == before + 500500);
    assert_null(device->alloc(device, 65 * MEGABYTE, false));
    assert_int_equal(moe_job_code(job), MOE_OK);
    assert_null(device->alloc(device, 65 * MEGABYTE, true));
    assert_int_equal(moe_job_code(job), MOE_LIMIT);
    assert_false(device->broken);
    moe_job_destroy(job);
}

/* In a process of its own, since a failing call stays counted in the module. */
static int
fail_in_child(const char *call)
{
    pid_t child = fork();
    if (child == 0)
    {
        char reason[512] = "";
        char expected[128];
        float x[4] = {1, 2, 3, 4};
        moe_job *job = start_job(1);
        set("MOE_EMULATED_FAIL", call);
        snprintf(expected, sizeof expected, "%s failed: an illegal memory access was encountered", call);
        if (!moe_device_open_cuda(job, folder(), 0, reason, sizeof reason))
        {
            strcat(expected, ".");
            _exit(strcmp(reason, expected) == 0 && moe_job_code(job) == MOE_OK ? 0 : 1);
        }
        float *a = moe_device_alloc(job, 4, sizeof(float));
        for (int i = 0; a != NULL && i < 3; i++)
        {
            moe_device_zero(job, a, sizeof x);
            moe_upload(job, a, x, sizeof x);
            moe_job_backend(job)->scale(job, 4, 2, a, false, a);
            moe_download(job, x, a, sizeof x);
        }
        bool told = moe_job_code(job) == MOE_DEVICE_FAILED && strcmp(moe_job_error(job), expected) == 0;
        bool ended = moe_job_device(job)->broken && moe_device_alloc(job, 1, 1) == NULL;
        moe_job_destroy(job);
        _exit(told && ended ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void
failures_carry_the_name_of_the_call(void **state)
{
    static const char *calls[] = {"cudaMallocFromPoolAsync", "cudaMemcpyAsync", "cudaMemsetAsync",
                                  "cudaStreamSynchronize", "cudaGetLastError"};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
    {
        if (fail_in_child(calls[i]) != 0)
            fail_msg("a failure of %s is not told", calls[i]);
    }
}

static void
devices_without_pools_serve(void **state)
{
    set("MOE_EMULATED_NO_POOLS", "1");
    moe_job *job = device_job(0);
    set("MOE_EMULATED_NO_POOLS", NULL);
    float x[3] = {1, 2, 3};
    float *a = moe_device_alloc(job, 3, sizeof(float));
    moe_upload(job, a, x, sizeof x);
    moe_job_backend(job)->scale(job, 3, 3, a, false, a);
    moe_download(job, x, a, sizeof x);
    assert_true(x[0] == 3 && x[1] == 6 && x[2] == 9);
    moe_job_destroy(job); /* with a block that was not released */
}

#define ROWS    60
#define INPUTS  7
#define CHANNEL 12
#define STEPS   25

/* Losses of a network that drops, normalises and aggregates, step by step. */
static void
train(moe_job *job, float *losses)
{
    moe_params *params = moe_params_create(job, 1);
    moe_param *w1 = moe_params_add(params, "w1", INPUTS, CHANNEL, MOE_INIT_UNIFORM);
    moe_param *w2 = moe_params_add(params, "w2", CHANNEL, 1, MOE_INIT_UNIFORM);
    moe_param *gain = moe_params_add(params, "gain", 1, CHANNEL, MOE_INIT_ONE);
    moe_param *bias = moe_params_add(params, "bias", 1, CHANNEL, MOE_INIT_ZERO);
    moe_tape *tape = moe_tape_create(job);
    moe_adam adam = {.learning_rate = 0.03f, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f, .clip_norm = 5};
    float *x = normal_floats(job, ROWS * INPUTS, 3), *label = moe_alloc(job, ROWS, sizeof(float));
    int64_t *offset = moe_alloc(job, ROWS + 1, sizeof(int64_t));
    int32_t *index = moe_alloc(job, ROWS * 3, sizeof(int32_t));
    for (int64_t i = 0; i < ROWS; i++)
    {
        label[i] = x[i * INPUTS] + x[i * INPUTS + 1] > 0;
        offset[i + 1] = offset[i] + 3;
        for (int64_t k = 0; k < 3; k++)
            index[i * 3 + k] = (int32_t) ((i * k + i) % ROWS);
    }
    for (int step = 0; step < STEPS; step++)
    {
        moe_tape_reset(tape, true, (uint64_t) step);
        moe_var *h = moe_linear(tape, moe_constant(tape, ROWS, INPUTS, x), moe_variable(tape, w1), NULL);
        h = moe_layer_norm(tape, h, moe_variable(tape, gain), moe_variable(tape, bias));
        h = moe_relu_dropout(tape, h, 0.2f);
        moe_var *terms[] = {h, moe_aggregate(tape, h, offset, index, NULL, ROWS, MOE_MEAN)};
        moe_var *out = moe_linear(tape, moe_sum(tape, terms, 2), moe_variable(tape, w2), NULL);
        moe_var *loss = moe_loss_logistic(tape, out, label, NULL);
        moe_tape_backward(tape, loss);
        moe_tape_read(tape, loss, &losses[step]);
        moe_adam_step(&adam, params);
    }
    assert_string_equal(moe_job_error(job), "");
    moe_tape_destroy(tape);
    moe_params_destroy(params);
}

static void
a_network_trains_as_on_the_host(void **state)
{
    float host[STEPS], device[STEPS];
    moe_job *jobs[] = {start_job(2), device_job(0)};
    train(jobs[0], host);
    train(jobs[1], device);
    for (int step = 0; step < STEPS; step++)
        assert_true(fabsf(host[step] - device[step]) < 1e-4f);
    assert_true(device[STEPS - 1] < 0.7f * device[0]);
    moe_job_destroy(jobs[0]);
    moe_job_destroy(jobs[1]);
}

int
main(void)
{
    const struct CMUnitTest anywhere[] = {
        cmocka_unit_test(uploads_may_be_reused_at_once),
        cmocka_unit_test(memory_is_counted_and_limited),
        cmocka_unit_test(a_network_trains_as_on_the_host),
    };
    const struct CMUnitTest emulated[] = {
        cmocka_unit_test(reasons_are_sentences),
        cmocka_unit_test(devices_are_listed),
        cmocka_unit_test(failures_carry_the_name_of_the_call),
        cmocka_unit_test(devices_without_pools_serve),
    };
    char reason[512] = "";
    moe_job *job = start_job(1);
    if (!moe_device_open_cuda(job, folder(), 0, reason, sizeof reason))
    {
        print_message("not checked: cuda: %s\n", reason);
        moe_job_destroy(job);
        return getenv("MOE_CUDA_MODULE") != NULL;
    }
    bool emulation = strncmp(moe_job_device(job)->name, "emulated", 8) == 0;
    moe_job_destroy(job);
    int failed = cmocka_run_group_tests(anywhere, NULL, NULL);
    return emulation ? failed + cmocka_run_group_tests(emulated, NULL, NULL) : failed;
}
