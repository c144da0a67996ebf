/*
 * buffer.h: a growing run of bytes, and a checked reader over one.
 *
 * Stored models are written and read with these. Integers are little-endian.
 * The reader treats its bytes as hostile: every read is bounds-checked, a
 * failed read records MOE_CORRUPT once and then yields zeros, so that callers
 * may check once at the end; counts must be checked against what remains
 * (moe_reader_count) before anything is allocated for them.
 */
#ifndef MOE_BUFFER_H
#define MOE_BUFFER_H

#include "kernels/job.h"

typedef struct moe_buffer
{
    moe_job *job;
    uint8_t *data;
    int64_t length;
    int64_t capacity;
} moe_buffer;

typedef struct moe_reader
{
    moe_job *job;
    const uint8_t *data;
    int64_t length;
    int64_t position;
} moe_reader;

void moe_buffer_init(moe_buffer *buffer, moe_job *job);
void moe_buffer_free(moe_buffer *buffer);
/* On out-of-memory the job carries the failure and the put is dropped. */
void moe_put_bytes(moe_buffer *buffer, const void *bytes, int64_t length);
void moe_put_u8(moe_buffer *buffer, uint8_t value);
void moe_put_i32(moe_buffer *buffer, int32_t value);
void moe_put_i64(moe_buffer *buffer, int64_t value);
void moe_put_f32(moe_buffer *buffer, float value);
void moe_put_f64(moe_buffer *buffer, double value);
void moe_put_floats(moe_buffer *buffer, const float *values, int64_t n);
void moe_put_string(moe_buffer *buffer, const char *string); /* NULL reads back as "" */

void moe_reader_init(moe_reader *reader, moe_job *job, const void *data, int64_t length);
moe_code moe_reader_code(const moe_reader *reader); /* MOE_OK or the recorded failure */
void moe_get_bytes(moe_reader *reader, void *bytes, int64_t length);
uint8_t moe_get_u8(moe_reader *reader);
int32_t moe_get_i32(moe_reader *reader);
int64_t moe_get_i64(moe_reader *reader);
float moe_get_f32(moe_reader *reader);
double moe_get_f64(moe_reader *reader);
void moe_get_floats(moe_reader *reader, float *values, int64_t n); /* NaN and infinity are corrupt */
char *moe_get_string(moe_reader *reader);                          /* allocated from the job; "" on failure */
/* A count of items of at least `size` bytes each that must still follow: 0 and MOE_CORRUPT if they cannot. */
int64_t moe_get_count(moe_reader *reader, size_t size);

#endif
