/*
 * dictionary.c: the distinct values of a column: counting, keeping, finding.
 *
 * Counting is an open-addressing hash table over row numbers for every chunk
 * of rows, on the job's threads; the chunks' tables are merged in order, so that
 * the result is that of one pass. A column of more values than any dictionary
 * takes is only asked how many they are: their hashes are counted, in a large
 * table those of every sixteenth value, which says as much.
 */
#include "embed/dictionary.h"
#include "embed/spec.h"
#include "kernels/random.h"

#include <stdlib.h>
#include <string.h>

#define POLL_ROWS 65536
#define SLOTS     (2 * MOE_TALLY_MAX)
#define CHUNKS    64 /* at most */
#define CHUNK_MIN 65536
#define COUNT_ALL (1 << 20) /* rows up to which all distinct values are counted */
#define SAMPLED   16        /* of more rows, the values whose hash is divisible by it */

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

static bool
same_value(const moe_column *column, int64_t a, int64_t b)
{
    double number_a, number_b;
    int64_t length_a, length_b;
    const void *bytes_a = moe_column_bytes(column, a, &number_a, &length_a);
    const void *bytes_b = moe_column_bytes(column, b, &number_b, &length_b);

    return length_a == length_b && memcmp(bytes_a, bytes_b, length_a) == 0;
}

/* The values of one chunk of rows, in the order of their first occurrence; slots hold entry number + 1, 0 where free.
 */
typedef struct partial
{
    int32_t n;
    bool overflow;
    int32_t slot[SLOTS];
    uint64_t hash[MOE_TALLY_MAX];
    int32_t row[MOE_TALLY_MAX];
    int64_t count[MOE_TALLY_MAX];
} partial;

typedef struct tallying
{
    const moe_column *column;
    int64_t limit;
    int64_t chunk;    /* rows */
    partial *parts;   /* [chunks] */
    uint64_t sampled; /* values whose hash has one of these bits are left out */
    uint64_t *hashes; /* of the others */
    int64_t *at;      /* [chunks] how many there are, then where they go */
} tallying;

/* Count `times` more occurrences of a row's value. */
static void
count_value(const moe_column *column, int64_t row, uint64_t hash, int64_t times, int64_t limit, partial *part)
{
    int64_t at = hash % SLOTS;

    for (; part->slot[at]; at = (at + 1) % SLOTS)
    {
        int32_t entry = part->slot[at] - 1;

        if (part->hash[entry] == hash && same_value(column, part->row[entry], row))
        {
            part->count[entry] += times;
            return;
        }
    }
    part->overflow = part->n == limit;
    if (part->overflow)
        return;
    part->slot[at] = part->n + 1;
    part->hash[part->n] = hash;
    part->row[part->n] = (int32_t) row;
    part->count[part->n++] = times;
}

static uint64_t
hash_value(const moe_column *column, int64_t row)
{
    double number;
    int64_t length;
    const void *bytes = moe_column_bytes(column, row, &number, &length);

    return moe_hash_bytes(bytes, length, 0);
}

static void
tally_rows(int64_t begin, int64_t end, void *arg)
{
    const tallying *t = arg;
    partial *part = &t->parts[begin / t->chunk];

    for (int64_t row = begin; row < end && !part->overflow; row++)
        if (!moe_column_missing(t->column, row))
            count_value(t->column, row, hash_value(t->column, row), 1, t->limit, part);
}

/* Add the other parts to the first, in order: so values stay in the order of their first occurrence. */
static void
merge_parts(const tallying *t, int64_t n_chunks)
{
    partial *all = &t->parts[0];

    for (int64_t c = 1; c < n_chunks && !all->overflow; c++)
    {
        const partial *part = &t->parts[c];

        for (int32_t i = 0; i < part->n && !all->overflow; i++)
            count_value(t->column, part->row[i], part->hash[i], part->count[i], t->limit, all);
        all->overflow |= part->overflow;
    }
}

/* What was counted, as the caller's. */
static moe_code
deliver(moe_job *job, const partial *all, moe_tally *tally)
{
    tally->overflow = all->overflow;
    tally->n = all->n;
    tally->row = moe_alloc(job, all->n, sizeof(*tally->row));
    tally->count = moe_alloc(job, all->n, sizeof(*tally->count));
    if (!tally->row || !tally->count)
        return moe_job_code(job);
    memcpy(tally->row, all->row, all->n * sizeof(*tally->row));
    memcpy(tally->count, all->count, all->n * sizeof(*tally->count));
    tally->rarest = all->n ? all->count[0] : 0;
    for (int64_t i = 0; i < all->n; i++)
    {
        tally->total += all->count[i];
        tally->rarest = all->count[i] < tally->rarest ? all->count[i] : tally->rarest;
    }
    return MOE_OK;
}

/* Chunks depend on the number of rows alone; returns how many. */
static int64_t
cut(tallying *t, int64_t n_rows)
{
    t->chunk = n_rows / CHUNKS + 1 > CHUNK_MIN ? n_rows / CHUNKS + 1 : CHUNK_MIN;
    return (n_rows + t->chunk - 1) / t->chunk;
}

moe_code
moe_tally_column(moe_job *job, const moe_column *column, int64_t n_rows, int64_t limit, moe_tally *tally)
{
    tallying t = {.column = column, .limit = limit < MOE_TALLY_MAX ? limit : MOE_TALLY_MAX};
    int64_t n_chunks = cut(&t, n_rows);

    *tally = (moe_tally){0};
    if (!(t.parts = moe_alloc(job, n_chunks + 1, sizeof(*t.parts))))
        return moe_job_code(job);
    moe_parallel(job, n_rows, t.chunk, tally_rows, &t);
    merge_parts(&t, n_chunks);
    if (moe_job_check(job) == MOE_OK)
        deliver(job, &t.parts[0], tally);
    moe_free(job, t.parts);
    if (moe_job_code(job) != MOE_OK)
        moe_tally_free(job, tally);
    return moe_job_code(job);
}

static void
count_hashes(int64_t begin, int64_t end, void *arg)
{
    const tallying *t = arg;

    for (int64_t row = begin; row < end; row++)
        if (!moe_column_missing(t->column, row))
            t->at[begin / t->chunk] += !(hash_value(t->column, row) & t->sampled);
}

static void
take_hashes(int64_t begin, int64_t end, void *arg)
{
    const tallying *t = arg;
    int64_t at = t->at[begin / t->chunk];

    for (int64_t row = begin; row < end; row++)
    {
        uint64_t hash;

        if (moe_column_missing(t->column, row))
            continue;
        hash = hash_value(t->column, row);
        if (!(hash & t->sampled))
            t->hashes[at++] = hash;
    }
}

/* The number of different hashes among n; -1 on failure. */
static int64_t
count_different(moe_job *job, const uint64_t *hashes, int64_t n)
{
    int64_t capacity = 1024;
    int64_t different = 0;
    uint64_t *slot;

    while (capacity < 2 * n)
        capacity *= 2;
    if (!(slot = moe_alloc(job, capacity, sizeof(*slot))))
        return -1;
    for (int64_t i = 0; i < n; i++)
    {
        uint64_t hash = hashes[i] ? hashes[i] : 1; /* 0 is a free slot */
        uint64_t at = (hash >> 8) & (capacity - 1);

        while (slot[at] && slot[at] != hash)
            at = (at + 1) & (capacity - 1);
        different += !slot[at];
        slot[at] = hash;
        if (i % POLL_ROWS == 0 && moe_job_check(job) != MOE_OK)
            break;
    }
    moe_free(job, slot);
    return different;
}

moe_code
moe_count_distinct(moe_job *job, const moe_column *column, int64_t n_rows, int64_t *total, int64_t *distinct)
{
    tallying t = {.column = column, .sampled = n_rows > COUNT_ALL ? SAMPLED - 1 : 0};
    int64_t n_chunks = cut(&t, n_rows);
    int64_t n = 0;

    *total = *distinct = 0;
    if (!(t.at = moe_alloc(job, n_chunks, sizeof(*t.at))))
        return moe_job_code(job);
    moe_parallel(job, n_rows, t.chunk, count_hashes, &t);
    for (int64_t c = 0; c < n_chunks; c++)
    {
        int64_t count = t.at[c];

        t.at[c] = n;
        n += count;
    }
    if (moe_job_check(job) == MOE_OK && (t.hashes = moe_alloc(job, n, sizeof(*t.hashes))))
    {
        moe_parallel(job, n_rows, t.chunk, take_hashes, &t);
        *total = n * (int64_t) (t.sampled + 1);
        *distinct = count_different(job, t.hashes, n) * (int64_t) (t.sampled + 1);
    }
    moe_free(job, t.hashes);
    moe_free(job, t.at);
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
