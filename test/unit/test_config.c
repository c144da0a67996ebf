/*
 * test_config.c: options of the model, stored and read back.
 */
#include "test/unit/gnn_fixture.h"

#include <float.h>
#include <math.h>

#include "gnn/layers.h"

static moe_model_config
small_config(int hops)
{
    moe_model_config config;
    moe_model_config_defaults(&config);
    config.channels = 8;
    config.hops = hops;
    config.dropout = 0;
    config.seed_inputs = 5;
    for (int h = 0; h < MOE_MAX_HOPS; h++)
        config.fanout[h] = 3;
    return config;
}

static void
options_read_back_as_written(void **state)
{
    moe_job *job = fixture_job(1);
    moe_buffer buffer;
    moe_reader reader;
    moe_model_config config = small_config(3), back;
    config.task = MOE_MULTICLASS;
    config.n_classes = 12;
    config.shift = -3.5;
    config.convolution = MOE_CONV_PNA;
    config.aggregation = MOE_AGGREGATE_ALL;
    config.hops = 4;
    config.composite = true;
    config.residual = true;
    moe_buffer_init(&buffer, job);
    moe_model_config_write(&config, &buffer);
    moe_reader_init(&reader, job, buffer.data, buffer.length);
    memset(&back, 0, sizeof back);
    assert_int_equal(moe_model_config_read(&reader, &back), MOE_OK);
    assert_int_equal(reader.position, buffer.length);
    assert_int_equal(back.n_classes, 12);
    assert_int_equal(back.hops, 4);
    assert_int_equal(back.fanout[2], 3);
    assert_int_equal(back.convolution, MOE_CONV_PNA);
    assert_int_equal(back.aggregation, MOE_AGGREGATE_ALL);
    assert_true(back.residual && back.composite);
    assert_int_equal(back.seed_inputs, 5);
    assert_float_equal(back.input_dropout, 0.3f, 0);
    assert_float_equal(back.shift, -3.5, 0);
    assert_float_equal(back.high, DBL_MAX, 0);
    moe_job_destroy(job);
}

/* Write a configuration made wrong by one change and see it refused. */
static void
refuse(void (*spoil)(moe_model_config *))
{
    moe_job *job = fixture_job(1);
    moe_buffer buffer;
    moe_reader reader;
    moe_model_config config = small_config(2), back;
    spoil(&config);
    moe_buffer_init(&buffer, job);
    moe_model_config_write(&config, &buffer);
    moe_reader_init(&reader, job, buffer.data, buffer.length);
    assert_int_equal(moe_model_config_read(&reader, &back), MOE_CORRUPT);
    moe_job_destroy(job);
}

#define SPOIL(name, ...)                                                                                               \
    static void name(moe_model_config *c)                                                                              \
    {                                                                                                                  \
        __VA_ARGS__;                                                                                                   \
    }
SPOIL(spoil_task, c->task = (moe_task_type) 9)
SPOIL(spoil_classes, c->n_classes = 1 << 30)
SPOIL(spoil_channels, c->channels = -1)
SPOIL(spoil_huge_channels, c->channels = INT32_MAX)
SPOIL(spoil_hops, c->hops = 99)
SPOIL(spoil_fanout, c->fanout[1] = 1 << 20)
SPOIL(spoil_sampling, c->sampling = (moe_sampling) -4)
SPOIL(spoil_dropout, c->dropout = NAN)
SPOIL(spoil_convolution, c->convolution = (moe_convolution_kind) 4)
SPOIL(spoil_aggregation, c->aggregation = (moe_aggregation) -1)
SPOIL(spoil_heads, c->convolution = MOE_CONV_GAT, c->channels = 6)
SPOIL(spoil_composite, c->composite = true, c->hops = 3)
SPOIL(spoil_inputs, c->seed_inputs = -1)
SPOIL(spoil_many_inputs, c->seed_inputs = INT32_MAX)
SPOIL(spoil_input_dropout, c->input_dropout = 1)
SPOIL(spoil_scale, c->scale = 0)
SPOIL(spoil_bounds, c->low = NAN)

static void
hostile_options_are_refused(void **state)
{
    void (*const spoilers[])(moe_model_config *) = {
        spoil_task,     spoil_classes,     spoil_channels,      spoil_huge_channels, spoil_hops,  spoil_fanout,
        spoil_sampling, spoil_dropout,     spoil_convolution,   spoil_aggregation,   spoil_heads, spoil_composite,
        spoil_inputs,   spoil_many_inputs, spoil_input_dropout, spoil_scale,         spoil_bounds};
    for (size_t i = 0; i < sizeof spoilers / sizeof *spoilers; i++)
        refuse(spoilers[i]);
}

static void
cut_off_options_are_refused_and_damaged_ones_read_or_refused(void **state)
{
    moe_job *maker = fixture_job(1);
    moe_buffer buffer;
    moe_model_config config = small_config(2), back;
    moe_buffer_init(&buffer, maker);
    moe_model_config_write(&config, &buffer);
    for (int64_t length = 0; length < buffer.length; length++)
    {
        moe_job *job = fixture_job(1);
        moe_reader reader;
        moe_reader_init(&reader, job, buffer.data, length);
        assert_int_equal(moe_model_config_read(&reader, &back), MOE_CORRUPT);
        moe_job_destroy(job);
    }
    for (int64_t bit = 0; bit < 8 * buffer.length; bit++)
    {
        moe_job *job = fixture_job(1);
        moe_reader reader;
        buffer.data[bit / 8] ^= (uint8_t) (1 << bit % 8);
        moe_reader_init(&reader, job, buffer.data, buffer.length);
        moe_code code = moe_model_config_read(&reader, &back);
        assert_true(code == MOE_CORRUPT || (code == MOE_OK && moe_model_config_check(job, &back) == MOE_OK));
        buffer.data[bit / 8] ^= (uint8_t) (1 << bit % 8);
        moe_job_destroy(job);
    }
    moe_job_destroy(maker);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_read_back_as_written),
        cmocka_unit_test(hostile_options_are_refused),
        cmocka_unit_test(cut_off_options_are_refused_and_damaged_ones_read_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
