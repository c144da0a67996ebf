/*
 * buffer.c: write and read stored models byte by byte.
 *
 * A reader that has failed stands at position -1 and yields zeros from then on.
 * Numbers are assembled from bytes, so the format does not depend on the machine.
 */
#include <math.h>
#include <string.h>

#include "kernels/buffer.h"
#include "kernels/memory.h"

#define SMALLEST_CAPACITY 1024

void
moe_buffer_init(moe_buffer *buffer, moe_job *job)
{
    *buffer = (moe_buffer){.job = job};
}

void
moe_buffer_free(moe_buffer *buffer)
{
    moe_free(buffer->job, buffer->data);
    moe_buffer_init(buffer, buffer->job);
}

/* Make room for `more` bytes and count them as written; NULL on failure. */
static uint8_t *
extend(moe_buffer *buffer, int64_t more)
{
    int64_t needed;
    if (more < 0 || __builtin_add_overflow(buffer->length, more, &needed))
    {
        moe_fail(buffer->job, MOE_LIMIT, "a buffer of %lld more bytes is larger than can be addressed",
                 (long long) more);
        return NULL;
    }
    if (needed > buffer->capacity)
    {
        int64_t capacity = buffer->capacity > INT64_MAX / 2 ? needed : buffer->capacity * 2;
        capacity = capacity < needed ? needed : capacity;
        capacity = capacity < SMALLEST_CAPACITY ? SMALLEST_CAPACITY : capacity;
        uint8_t *data = moe_realloc(buffer->job, buffer->data, capacity, 1);
        if (data == NULL)
            return NULL;
        buffer->data = data;
        buffer->capacity = capacity;
    }
    uint8_t *end = buffer->data + buffer->length;
    buffer->length = needed;
    return end;
}

void
moe_put_bytes(moe_buffer *buffer, const void *bytes, int64_t length)
{
    uint8_t *end = extend(buffer, length);
    if (end != NULL && length > 0)
        memcpy(end, bytes, (size_t) length);
}

static void
store_word(uint8_t *bytes, uint64_t value, int size)
{
    for (int i = 0; i < size; i++)
        bytes[i] = (uint8_t) (value >> (8 * i));
}

static void
put_little_endian(moe_buffer *buffer, uint64_t value, int size)
{
    uint8_t *end = extend(buffer, size);
    if (end != NULL)
        store_word(end, value, size);
}

void
moe_put_u8(moe_buffer *buffer, uint8_t value)
{
    put_little_endian(buffer, value, 1);
}

void
moe_put_i32(moe_buffer *buffer, int32_t value)
{
    put_little_endian(buffer, (uint32_t) value, 4);
}

void
moe_put_i64(moe_buffer *buffer, int64_t value)
{
    put_little_endian(buffer, (uint64_t) value, 8);
}

void
moe_put_f32(moe_buffer *buffer, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    put_little_endian(buffer, bits, 4);
}

void
moe_put_f64(moe_buffer *buffer, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    put_little_endian(buffer, bits, 8);
}

void
moe_put_floats(moe_buffer *buffer, const float *values, int64_t n)
{
    uint8_t *end = extend(buffer, n > INT64_MAX / 4 ? INT64_MAX : 4 * n);
    for (int64_t i = 0; end != NULL && i < n; i++)
    {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof(bits));
        store_word(end + 4 * i, bits, 4);
    }
}

void
moe_put_string(moe_buffer *buffer, const char *string)
{
    int64_t length = string == NULL ? 0 : (int64_t) strlen(string);
    moe_put_i64(buffer, length);
    moe_put_bytes(buffer, string, length);
}

void
moe_reader_init(moe_reader *reader, moe_job *job, const void *data, int64_t length)
{
    *reader = (moe_reader){.job = job, .data = data, .length = length < 0 ? 0 : length};
}

moe_code
moe_reader_code(const moe_reader *reader)
{
    return reader->position < 0 ? moe_job_code(reader->job) : MOE_OK;
}

static void
reader_fail(moe_reader *reader, const char *reason)
{
    if (reader->position >= 0)
        moe_fail(reader->job, MOE_CORRUPT, "stored bytes do not read back: %s at byte %lld of %lld", reason,
                 (long long) reader->position, (long long) reader->length);
    reader->position = -1;
}

/* Step over the next bytes; NULL if the reader has failed or fewer are left. */
static const uint8_t *
take(moe_reader *reader, int64_t length)
{
    if (reader->position < 0)
        return NULL;
    if (length < 0 || length > reader->length - reader->position)
    {
        reader_fail(reader, "unexpected end");
        return NULL;
    }
    const uint8_t *bytes = reader->data + reader->position;
    reader->position += length;
    return bytes;
}

void
moe_get_bytes(moe_reader *reader, void *bytes, int64_t length)
{
    const uint8_t *from = take(reader, length);
    if (length <= 0)
        return;
    if (from != NULL)
        memcpy(bytes, from, (size_t) length);
    else
        memset(bytes, 0, (size_t) length);
}

static uint64_t
load_word(const uint8_t *bytes, int size)
{
    uint64_t value = 0;
    for (int i = 0; i < size; i++)
        value |= (uint64_t) bytes[i] << (8 * i);
    return value;
}

static uint64_t
get_little_endian(moe_reader *reader, int size)
{
    const uint8_t *bytes = take(reader, size);
    return bytes == NULL ? 0 : load_word(bytes, size);
}

uint8_t
moe_get_u8(moe_reader *reader)
{
    return (uint8_t) get_little_endian(reader, 1);
}

int32_t
moe_get_i32(moe_reader *reader)
{
    return (int32_t) (uint32_t) get_little_endian(reader, 4);
}

int64_t
moe_get_i64(moe_reader *reader)
{
    return (int64_t) get_little_endian(reader, 8);
}

float
moe_get_f32(moe_reader *reader)
{
    uint32_t bits = (uint32_t) get_little_endian(reader, 4);
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

double
moe_get_f64(moe_reader *reader)
{
    uint64_t bits = get_little_endian(reader, 8);
    double value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

void
moe_get_floats(moe_reader *reader, float *values, int64_t n)
{
    const uint8_t *bytes = take(reader, n > INT64_MAX / 4 ? INT64_MAX : 4 * n);
    for (int64_t i = 0; i < n; i++)
    {
        uint32_t bits = bytes == NULL ? 0 : (uint32_t) load_word(bytes + 4 * i, 4);
        memcpy(&values[i], &bits, sizeof(bits));
        if (isfinite(values[i]))
            continue;
        reader_fail(reader, "a number that is not finite");
        bytes = NULL;
        values[i] = 0;
    }
}

char *
moe_get_string(moe_reader *reader)
{
    int64_t length = moe_get_count(reader, 1);
    const uint8_t *bytes = take(reader, length);
    if (bytes == NULL)
        return moe_empty_string();
    if (length > 0 && memchr(bytes, 0, (size_t) length) != NULL)
    {
        reader_fail(reader, "a zero byte inside a string");
        return moe_empty_string();
    }
    char *string = moe_alloc(reader->job, length + 1, 1);
    if (string == NULL)
    {
        reader->position = -1;
        return moe_empty_string();
    }
    if (length > 0)
        memcpy(string, bytes, (size_t) length);
    return string;
}

int64_t
moe_get_count(moe_reader *reader, size_t size)
{
    int64_t count = moe_get_i64(reader);
    if (reader->position < 0)
        return 0;
    if (count >= 0 && (uint64_t) count <= (uint64_t) (reader->length - reader->position) / (size > 0 ? size : 1))
        return count;
    reader_fail(reader, "a count larger than what follows");
    return 0;
}
