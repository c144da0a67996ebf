/*
 * test_buffer.c: what was written reads back, and hostile bytes are refused.
 */
#include "core.h"

#include <math.h>
#include <string.h>

#include "kernels/buffer.h"

static void
put_one_of_each(moe_buffer *buffer)
{
    float floats[3] = {0.5f, -0.0f, 3e38f};
    moe_buffer_init(buffer, buffer->job);
    moe_put_u8(buffer, 200);
    moe_put_i32(buffer, INT32_MIN);
    moe_put_i64(buffer, INT64_MIN + 1);
    moe_put_f32(buffer, -1.25f);
    moe_put_f64(buffer, 1e300);
    moe_put_floats(buffer, floats, 3);
    moe_put_string(buffer, "caf\xc3\xa9");
    moe_put_string(buffer, NULL);
    moe_put_bytes(buffer, "end", 3);
}

static void
values_read_back(void **state)
{
    moe_job *job = start_job(1);
    moe_buffer buffer = {.job = job};
    moe_reader reader;
    float floats[3];
    char bytes[3];
    put_one_of_each(&buffer);
    moe_reader_init(&reader, job, buffer.data, buffer.length);
    assert_int_equal(moe_get_u8(&reader), 200);
    assert_int_equal(moe_get_i32(&reader), INT32_MIN);
    assert_true(moe_get_i64(&reader) == INT64_MIN + 1);
    assert_true(moe_get_f32(&reader) == -1.25f);
    assert_true(moe_get_f64(&reader) == 1e300);
    moe_get_floats(&reader, floats, 3);
    assert_true(floats[0] == 0.5f && floats[1] == 0 && signbit(floats[1]) && floats[2] == 3e38f);
    assert_string_equal(moe_get_string(&reader), "caf\xc3\xa9");
    assert_string_equal(moe_get_string(&reader), "");
    moe_get_bytes(&reader, bytes, 3);
    assert_memory_equal(bytes, "end", 3);
    assert_int_equal(moe_reader_code(&reader), MOE_OK);
    assert_int_equal(reader.position, buffer.length);
    moe_job_destroy(job);
}

static void
integers_are_little_endian(void **state)
{
    moe_job *job = start_job(1);
    moe_buffer buffer;
    moe_buffer_init(&buffer, job);
    moe_put_i32(&buffer, 0x01020304);
    moe_put_f32(&buffer, 1.0f);
    assert_memory_equal(buffer.data, "\x04\x03\x02\x01\x00\x00\x80\x3f", 8);
    moe_buffer_free(&buffer);
    assert_int_equal(moe_job_memory_used(job), 0);
    moe_job_destroy(job);
}

/* Every prefix of a valid run of bytes fails, yields zeros from then on, and touches nothing beyond it. */
static void
truncated_input_is_corrupt(void **state)
{
    moe_job *maker = start_job(1);
    moe_buffer buffer = {.job = maker};
    put_one_of_each(&buffer);
    for (int64_t length = 0; length < buffer.length; length++)
    {
        moe_job *job = start_job(1);
        moe_reader reader;
        float floats[3];
        char bytes[3] = "xyz";
        char *copy = moe_alloc(job, length, 1); /* so that the address sanitizer sees the end */
        memcpy(copy, buffer.data, (size_t) length);
        moe_reader_init(&reader, job, copy, length);
        moe_get_u8(&reader);
        moe_get_i32(&reader);
        moe_get_i64(&reader);
        moe_get_f32(&reader);
        moe_get_f64(&reader);
        moe_get_floats(&reader, floats, 3);
        moe_free(job, moe_get_string(&reader));
        moe_free(job, moe_get_string(&reader));
        moe_get_bytes(&reader, bytes, 3);
        assert_memory_equal(bytes, "\0\0\0", 3);
        assert_int_equal(moe_reader_code(&reader), MOE_CORRUPT);
        assert_int_equal(moe_job_code(job), MOE_CORRUPT);
        assert_int_equal(moe_get_i64(&reader), 0);
        assert_string_equal(moe_get_string(&reader), "");
        moe_job_destroy(job);
    }
    moe_job_destroy(maker);
}

static void
counts_beyond_the_input_are_corrupt(void **state)
{
    int64_t counts[] = {-1, INT64_MIN, INT64_MAX, INT64_MAX / 8, 3};
    for (int i = 0; i < 5; i++)
    {
        moe_job *job = start_job(1);
        moe_buffer buffer;
        moe_reader reader;
        moe_buffer_init(&buffer, job);
        moe_put_i64(&buffer, counts[i]);
        moe_put_i64(&buffer, 0);
        moe_put_i64(&buffer, 0);
        moe_reader_init(&reader, job, buffer.data, buffer.length);
        assert_int_equal(moe_get_count(&reader, 8), 0);
        assert_int_equal(moe_reader_code(&reader), MOE_CORRUPT);

        moe_reader_init(&reader, job, buffer.data, buffer.length);
        assert_int_equal(moe_get_count(&reader, 5), counts[i] == 3 ? 3 : 0);
        moe_reader_init(&reader, job, buffer.data, buffer.length);
        moe_free(job, moe_get_string(&reader));
        moe_job_destroy(job);
    }
}

static void
numbers_that_are_not_finite_are_corrupt(void **state)
{
    float values[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++)
    {
        moe_job *job = start_job(1);
        moe_buffer buffer;
        moe_reader reader;
        float read[3];
        moe_buffer_init(&buffer, job);
        moe_put_f32(&buffer, 1);
        moe_put_f32(&buffer, values[i]);
        moe_put_f32(&buffer, 2);
        moe_reader_init(&reader, job, buffer.data, buffer.length);
        moe_get_floats(&reader, read, 3);
        assert_int_equal(moe_reader_code(&reader), MOE_CORRUPT);
        assert_true(read[0] == 1 && read[1] == 0 && read[2] == 0);
        moe_job_destroy(job);
    }
}

static void
zero_bytes_within_strings_are_corrupt(void **state)
{
    moe_job *job = start_job(1);
    moe_buffer buffer;
    moe_reader reader;
    moe_buffer_init(&buffer, job);
    moe_put_i64(&buffer, 3);
    moe_put_bytes(&buffer, "a\0b", 3);
    moe_reader_init(&reader, job, buffer.data, buffer.length);
    assert_string_equal(moe_get_string(&reader), "");
    assert_int_equal(moe_reader_code(&reader), MOE_CORRUPT);
    moe_job_destroy(job);
}

static void
buffer_over_the_limit_drops_the_put(void **state)
{
    moe_job_config config = {.threads = 1, .memory_limit = 100000};
    moe_job *job;
    moe_buffer buffer;
    assert_int_equal(moe_job_create(&config, &job), MOE_OK);
    moe_buffer_init(&buffer, job);
    for (int i = 0; i < 100000; i++)
        moe_put_i64(&buffer, i);
    assert_int_equal(moe_job_code(job), MOE_LIMIT);
    assert_true(buffer.length <= 100000 && buffer.data[8] == 1);
    moe_job_destroy(job);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_read_back),
        cmocka_unit_test(integers_are_little_endian),
        cmocka_unit_test(truncated_input_is_corrupt),
        cmocka_unit_test(counts_beyond_the_input_are_corrupt),
        cmocka_unit_test(numbers_that_are_not_finite_are_corrupt),
        cmocka_unit_test(zero_bytes_within_strings_are_corrupt),
        cmocka_unit_test(buffer_over_the_limit_drops_the_put),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
