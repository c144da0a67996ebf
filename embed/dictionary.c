/*
 * dictionary.c: the distinct values of a column: counting, keeping, finding.
 *
 * Counting is an open-addressing hash table over row numbers, so that its size
 * follows the number of distinct values, not of rows. Its order decides
 * nothing: entries stand in order of first occurrence and dictionaries are
 * sorted by value.
 */
#include "embed/dictionary.h"
#include "embed/spec.h"
#include "kernels/random.h"

#include <stdlib.h>
#include <string.h>

#define POLL_ROWS 65536

const void *
moe_column_bytes(const moe_column *column, int64_t row, double *number, int64_t *length)
{
    if (column->storage == MOE_STORE_STRING)
    {
        *length = column->offset[row + 1] - column->offset[row];
        return *length > 0 ? column->bytes + column->offset[row] : "";
    }
    *number = moe_column_number(column, row) + 0.0; /* -0 and 0 are one value */
    *length = sizeof(double);
    return number;
}

/* The hash table behind a tally: slots hold entry number + 1, 0 where free. */
typedef struct slots
{
    int64_t capacity; /* a power of two; also bounds the tally's arrays at half of it */
    int32_t *entry;
    uint64_t *hash; /* by entry */
} slots;

static bool
same_value(const moe_column *column, int64_t a, int64_t b)
{
    double number_a, number_b;
    int64_t length_a, length_b;
    const void *bytes_a = moe_column_bytes(column, a, &number_a, &length_a);
    const void *bytes_b = moe_column_bytes(column, b, &number_b, &length_b);

    return length_a == length_b && memcmp(bytes_a, bytes_b, length_a) == 0;
}

/* Double the room and put the entries back. */
static moe_code
grow(moe_job *job, moe_tally *tally, slots *slots)
{
    int64_t capacity = slots->capacity ? slots->capacity * 2 : 1024;
    int32_t *entry = moe_alloc(job, capacity, sizeof(*entry));
    void *row, *count, *hash;

    if (!entry)
        return moe_job_code(job);
    for (int64_t i = 0; i < tally->n; i++)
    {
        int64_t at = slots->hash[i] & (capacity - 1);

        while (entry[at])
            at = (at + 1) & (capacity - 1);
        entry[at] = (int32_t) (i + 1);
    }
    moe_free(job, slots->entry);
    slots->entry = entry;
    if (!(row = moe_realloc(job, tally->row, capacity / 2, sizeof(*tally->row))))
        return moe_job_code(job);
    tally->row = row;
    if (!(count = moe_realloc(job, tally->count, capacity / 2, sizeof(*tally->count))))
        return moe_job_code(job);
    tally->count = count;
    if (!(hash = moe_realloc(job, slots->hash, capacity / 2, sizeof(*slots->hash))))
        return moe_job_code(job);
    slots->hash = hash;
    slots->capacity = capacity;
    return MOE_OK;
}

/* Count one row's value. */
static moe_code
count_row(moe_job *job, const moe_column *column, int64_t row, moe_tally *tally, slots *slots)
{
    double number;
    int64_t length, at;
    const void *bytes = moe_column_bytes(column, row, &number, &length);
    uint64_t hash = moe_hash_bytes(bytes, length, 0);

    if (tally->n * 2 >= slots->capacity && grow(job, tally, slots) != MOE_OK)
        return moe_job_code(job);
    at = hash & (slots->capacity - 1);
    for (; slots->entry[at]; at = (at + 1) & (slots->capacity - 1))
    {
        int32_t entry = slots->entry[at] - 1;

        if (slots->hash[entry] == hash && same_value(column, tally->row[entry], row))
        {
            tally->count[entry]++;
            return MOE_OK;
        }
    }
    slots->entry[at] = (int32_t) (tally->n + 1);
    slots->hash[tally->n] = hash;
    tally->row[tally->n] = (int32_t) row;
    tally->count[tally->n] = 1;
    tally->n++;
    return MOE_OK;
}

moe_code
moe_tally_column(moe_job *job, const moe_column *column, int64_t n_rows, int64_t limit, moe_tally *tally)
{
    slots slots = {0};

    *tally = (moe_tally){0};
    for (int64_t row = 0; row < n_rows && !tally->overflow; row++)
    {
        if (row % POLL_ROWS == 0 && moe_job_check(job) != MOE_OK)
            break;
        if (moe_column_missing(column, row))
            continue;
        if (count_row(job, column, row, tally, &slots) != MOE_OK)
            break;
        tally->total++;
        tally->overflow = tally->n > limit;
    }
    tally->rarest = tally->n ? tally->count[0] : 0;
    for (int64_t i = 1; i < tally->n; i++)
        if (tally->count[i] < tally->rarest)
            tally->rarest = tally->count[i];
    moe_free(job, slots.entry);
    moe_free(job, slots.hash);
    if (moe_job_code(job) != MOE_OK)
        moe_tally_free(job, tally);
    return moe_job_code(job);
}

void
moe_tally_free(moe_job *job, moe_tally *tally)
{
    moe_free(job, tally->row);
    moe_free(job, tally->count);
    *tally = (moe_tally){0};
}

/* A value to be sorted. */
typedef struct value
{
    double number;
    const char *bytes;
    int64_t length;
} value;

static int
compare_numbers(const void *a, const void *b)
{
    double x = ((const value *) a)->number;
    double y = ((const value *) b)->number;

    return x < y ? -1 : x > y;
}

static int
compare_bytes(const char *a, int64_t a_length, const char *b, int64_t b_length)
{
    int order = memcmp(a, b, a_length < b_length ? a_length : b_length);

    return order ? order : (a_length > b_length) - (a_length < b_length);
}

static int
compare_strings(const void *a, const void *b)
{
    const value *x = a;
    const value *y = b;

    return compare_bytes(x->bytes, x->length, y->bytes, y->length);
}

/* Copy sorted values into the dictionary's own memory. */
static moe_code
copy_values(moe_job *job, const value *values, int64_t n, bool strings, moe_dictionary *dictionary)
{
    int64_t length = 0;

    dictionary->n = n;
    if (!strings)
    {
        if (!(dictionary->number = moe_alloc(job, n, sizeof(double))))
            return moe_job_code(job);
        for (int64_t i = 0; i < n; i++)
            dictionary->number[i] = values[i].number;
        return MOE_OK;
    }
    for (int64_t i = 0; i < n; i++)
        length += values[i].length;
    dictionary->bytes = moe_alloc(job, length, 1);
    dictionary->offset = moe_alloc(job, n + 1, sizeof(int64_t));
    if (!dictionary->bytes || !dictionary->offset)
        return moe_job_code(job);
    for (int64_t i = 0; i < n; i++)
    {
        memcpy(dictionary->bytes + dictionary->offset[i], values[i].bytes, values[i].length);
        dictionary->offset[i + 1] = dictionary->offset[i] + values[i].length;
    }
    return MOE_OK;
}

moe_code
moe_dictionary_build(moe_job *job, const moe_column *column, const moe_tally *tally, int64_t min_count,
                     moe_dictionary *dictionary)
{
    bool strings = column->storage == MOE_STORE_STRING;
    value *values = moe_alloc(job, tally->n, sizeof(*values));
    int64_t n = 0;
    moe_code code;

    if (!values)
        return moe_job_code(job);
    for (int64_t i = 0; i < tally->n; i++)
        if (tally->count[i] >= min_count)
        {
            value *v = &values[n++];

            v->bytes = moe_column_bytes(column, tally->row[i], &v->number, &v->length);
        }
    qsort(values, n, sizeof(*values), strings ? compare_strings : compare_numbers);
    code = copy_values(job, values, n, strings, dictionary);
    moe_free(job, values);
    return code;
}

void
moe_dictionary_free(moe_job *job, moe_dictionary *dictionary)
{
    moe_free(job, dictionary->number);
    moe_free(job, dictionary->bytes);
    moe_free(job, dictionary->offset);
    *dictionary = (moe_dictionary){0};
}

int64_t
moe_dictionary_find(const moe_dictionary *dictionary, const moe_column *column, int64_t row)
{
    value wanted = {0};
    int64_t low = 0, high = dictionary->n;

    wanted.bytes = moe_column_bytes(column, row, &wanted.number, &wanted.length);
    while (low < high)
    {
        int64_t middle = low + (high - low) / 2;
        int order;

        if (dictionary->number)
            order = (dictionary->number[middle] > wanted.number) - (dictionary->number[middle] < wanted.number);
        else
            order =
                compare_bytes(dictionary->bytes + dictionary->offset[middle],
                              dictionary->offset[middle + 1] - dictionary->offset[middle], wanted.bytes, wanted.length);
        if (order == 0)
            return middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

void
moe_dictionary_write(const moe_dictionary *dictionary, bool strings, moe_buffer *buffer)
{
    moe_put_i64(buffer, dictionary->n);
    for (int64_t i = 0; i < dictionary->n; i++)
        if (strings)
        {
            int64_t length = dictionary->offset[i + 1] - dictionary->offset[i];

            moe_put_i64(buffer, length);
            moe_put_bytes(buffer, dictionary->bytes + dictionary->offset[i], length);
        }
        else
            moe_put_f64(buffer, dictionary->number[i]);
}

/* Read n strings: lengths are checked against what remains before room is made. */
static void
read_strings(moe_reader *reader, moe_dictionary *dictionary)
{
    moe_job *job = reader->job;
    int64_t start = reader->position;
    int64_t total = 0;

    for (int64_t i = 0; i < dictionary->n && moe_job_code(reader->job) == MOE_OK; i++)
    {
        int64_t length = moe_get_count(reader, 1);

        total += length;
        reader->position += length;
    }
    if (moe_job_code(reader->job) != MOE_OK)
        return;
    reader->position = start;
    dictionary->bytes = moe_alloc(job, total, 1);
    dictionary->offset = moe_alloc(job, dictionary->n + 1, sizeof(int64_t));
    if (!dictionary->bytes || !dictionary->offset)
        return;
    for (int64_t i = 0; i < dictionary->n; i++)
    {
        int64_t at = dictionary->offset[i];
        int64_t length = moe_get_count(reader, 1);

        moe_get_bytes(reader, dictionary->bytes + at, length);
        dictionary->offset[i + 1] = at + length;
        if (i > 0 && compare_bytes(dictionary->bytes + dictionary->offset[i - 1], at - dictionary->offset[i - 1],
                                   dictionary->bytes + at, length) >= 0)
            moe_fail(job, MOE_CORRUPT, "stored category values are out of order");
    }
}

void
moe_dictionary_read(moe_reader *reader, bool strings, moe_dictionary *dictionary)
{
    dictionary->n = moe_get_count(reader, sizeof(double)); /* a string's length takes as much */
    if (strings)
    {
        read_strings(reader, dictionary);
        return;
    }
    if (!(dictionary->number = moe_alloc(reader->job, dictionary->n, sizeof(double))))
        return;
    for (int64_t i = 0; i < dictionary->n; i++)
    {
        dictionary->number[i] = moe_get_f64(reader);
        if (!(dictionary->number[i] - dictionary->number[i] == 0) ||
            (i > 0 && dictionary->number[i - 1] >= dictionary->number[i]))
        {
            moe_fail(reader->job, MOE_CORRUPT, "stored category values are out of order");
            return;
        }
    }
}
