/*
 * key_index.c: from key values to rows.
 *
 * Single integer keys that lie close together, as serial numbers do, index an
 * array; all others an open-addressing hash table of row numbers, each with
 * half of its hash beside it, so that most probes touch one cache line.
 * Matching a child table asks for the slots of a block of rows before it looks
 * into the first, and runs on the job's threads if no key needs a function of
 * the server to be compared.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "extension/key_index_internal.h"
#include "extension/moe_ml.h"
#include "kernels/random.h"

#define GRAIN        65536
#define BLOCK        32 /* rows whose slots are asked for together */
#define SPREAD       4  /* an array of this many places a row is still worth it */
#define SPREAD_SPARE 1024

typedef struct moe_key_slot
{
    int32 row;   /* or -1 */
    uint32 hash; /* upper half of the row's hash */
} moe_key_slot;

struct moe_key_index
{
    moe_job *job;
    int n_columns;
    moe_key_column **columns;
    bool plain;
    int32 *array; /* [range] row of key low + i or -1; NULL: there are slots */
    int64 low;
    uint64 range;
    uint64 mask;
    moe_key_slot *slots; /* [mask + 1] */
};

/* Hash one stored value; column says how. */
static uint64
hash_value(const moe_key_column *column, Datum value)
{
    const char *bytes;
    int64 length;

    if (!column->plain)
        return DatumGetUInt32(FunctionCall1Coll(&column->stored->hash_proc_finfo, column->collation, value));
    if (!moe_key_by_reference(column))
        return (uint64) value;
    bytes = moe_key_content(column, DatumGetPointer(value), &length);
    return moe_hash_bytes(bytes, length, 0);
}

static bool
equal_values(const moe_key_column *column, Datum a, Datum b)
{
    const char *bytes_a, *bytes_b;
    int64 length_a, length_b;

    if (!column->plain)
        return DatumGetBool(FunctionCall2Coll(&column->stored->eq_opr_finfo, column->collation, a, b));
    if (!moe_key_by_reference(column))
        return a == b;
    bytes_a = moe_key_content(column, DatumGetPointer(a), &length_a);
    bytes_b = moe_key_content(column, DatumGetPointer(b), &length_b);
    return length_a == length_b && memcmp(bytes_a, bytes_b, length_a) == 0;
}

/* Hash of a key given as stored Datums. */
static uint64
hash_key(const moe_key_index *index, const Datum *key)
{
    uint64 hash = 0;

    for (int i = 0; i < index->n_columns; i++)
        hash = moe_key(hash, hash_value(index->columns[i], key[i]));
    return hash;
}

/* Collect a row's key; false if a part is NULL. */
static bool
row_key(int n, moe_key_column *const *columns, int64 row, Datum *key)
{
    for (int i = 0; i < n; i++)
    {
        if (moe_key_column_is_null(columns[i], row))
            return false;
        key[i] = moe_key_stored_at(columns[i], row);
    }
    return true;
}

/* The slot that holds an equal key, or the empty one where it belongs. */
static moe_key_slot *
probe(const moe_key_index *index, const Datum *key, uint64 hash)
{
    uint64 at = hash & index->mask;

    for (; index->slots[at].row >= 0; at = (at + 1) & index->mask)
    {
        bool equal = index->slots[at].hash == (uint32) (hash >> 32);

        for (int i = 0; equal && i < index->n_columns; i++)
            equal = equal_values(index->columns[i], moe_key_stored_at(index->columns[i], index->slots[at].row), key[i]);
        if (equal)
            break;
    }
    return &index->slots[at];
}

/* The row of a key of one integer in the array. */
static inline int32
look_up(const moe_key_index *index, Datum key)
{
    uint64 at = (uint64) key - (uint64) index->low;

    return at < index->range ? index->array[at] : -1;
}

static int32
find(const moe_key_index *index, const Datum *key)
{
    return index->array != NULL ? look_up(index, key[0]) : probe(index, key, hash_key(index, key))->row;
}

/* Whether an array serves: then its range is set. */
static bool
measure_range(moe_key_index *index, int64 n_rows)
{
    const moe_key_column *column = index->columns[0];
    int64 low = PG_INT64_MAX;
    int64 high = PG_INT64_MIN;

    if (index->n_columns != 1 || column->form != KEY_INTEGER)
        return false;
    for (int64 row = 0; row < n_rows; row++)
    {
        int64 value = (int64) column->word[row];

        if (moe_key_column_is_null(column, row))
            continue;
        low = Min(low, value);
        high = Max(high, value);
    }
    if (low > high || (uint64) high - (uint64) low >= (uint64) n_rows * SPREAD + SPREAD_SPARE)
        return false;
    index->low = low;
    index->range = (uint64) high - (uint64) low + 1;
    return true;
}

static void
fill_array(moe_key_index *index, int64 n_rows)
{
    const moe_key_column *column = index->columns[0];

    index->array = moe_check_ptr(index->job, moe_alloc(index->job, (int64) index->range, sizeof(int32)));
    memset(index->array, 0xff, index->range * sizeof(int32));
    for (int64 row = 0; row < n_rows; row++)
    {
        int32 *at = &index->array[column->word[row] - (uint64) index->low];

        if (!moe_key_column_is_null(column, row) && *at < 0)
            *at = (int32) row;
    }
}

static void
fill_slots(moe_key_index *index, int64 n_rows)
{
    Datum key[INDEX_MAX_KEYS];
    uint64 size = 16;

    while (size < (uint64) n_rows * 2)
        size *= 2;
    index->mask = size - 1;
    index->slots = moe_check_ptr(index->job, moe_alloc(index->job, (int64) size, sizeof(moe_key_slot)));
    memset(index->slots, 0xff, size * sizeof(moe_key_slot));
    for (int64 row = 0; row < n_rows; row++)
    {
        uint64 hash;
        moe_key_slot *slot;

        if (row % GRAIN == 0)
            CHECK_FOR_INTERRUPTS();
        if (!row_key(index->n_columns, index->columns, row, key))
            continue;
        hash = hash_key(index, key);
        slot = probe(index, key, hash);
        if (slot->row >= 0)
            continue;
        slot->row = (int32) row;
        slot->hash = (uint32) (hash >> 32);
    }
}

moe_key_index *
moe_key_index_create(moe_job *job, moe_key_column *const *columns, int n, int64 n_rows)
{
    moe_key_index *index = palloc0(sizeof(*index));

    index->job = job;
    index->n_columns = n;
    index->columns = palloc(sizeof(moe_key_column *) * n);
    memcpy(index->columns, columns, sizeof(moe_key_column *) * n);
    index->plain = true;
    for (int i = 0; i < n; i++)
        index->plain = index->plain && columns[i]->plain;
    if (measure_range(index, n_rows))
        fill_array(index, n_rows);
    else
        fill_slots(index, n_rows);
    return index;
}

void
moe_key_index_free(moe_key_index *index)
{
    moe_free(index->job, index->array);
    moe_free(index->job, index->slots);
    pfree(index->columns);
    pfree(index);
}

/* One call of moe_key_index_match. */
typedef struct matching
{
    const moe_key_index *index;
    moe_key_column *const *columns;
    int32 *rows;
    _Atomic int64 nulls;
    _Atomic int64 dangling;
} matching;

static void
match_array(int64 begin, int64 end, void *arg)
{
    matching *m = arg;
    const moe_key_column *column = m->columns[0];
    int64 nulls = 0;
    int64 missing = 0;

    for (int64 row = begin; row < end; row++)
    {
        bool null = moe_key_column_is_null(column, row);

        m->rows[row] = null ? -1 : look_up(m->index, (Datum) column->word[row]);
        nulls += null;
        missing += m->rows[row] < 0;
    }
    m->nulls += nulls;
    m->dangling += missing - nulls;
}

/* The block's hashes, and a word to memory that its slots will be wanted. A row with a NULL has none. */
static void
ask(const matching *m, int64 begin, int n, uint64 *hash, bool *null)
{
    Datum key[INDEX_MAX_KEYS];

    for (int i = 0; i < n; i++)
    {
        null[i] = !row_key(m->index->n_columns, m->columns, begin + i, key);
        hash[i] = null[i] ? 0 : hash_key(m->index, key);
        __builtin_prefetch(&m->index->slots[hash[i] & m->index->mask]);
    }
}

static void
match_slots(int64 begin, int64 end, void *arg)
{
    matching *m = arg;
    uint64 hash[BLOCK];
    bool null[BLOCK];
    Datum key[INDEX_MAX_KEYS];
    int64 nulls = 0;
    int64 dangling = 0;

    for (int64 block = begin; block < end; block += BLOCK)
    {
        int n = (int) Min(end - block, BLOCK);

        ask(m, block, n, hash, null);
        for (int i = 0; i < n; i++)
        {
            m->rows[block + i] = -1;
            if (!null[i] && row_key(m->index->n_columns, m->columns, block + i, key))
                m->rows[block + i] = probe(m->index, key, hash[i])->row;
            nulls += null[i];
            dangling += !null[i] && m->rows[block + i] < 0;
        }
    }
    m->nulls += nulls;
    m->dangling += dangling;
}

void
moe_key_index_match(const moe_key_index *index, moe_key_column *const *columns, int64 n_rows, int32 *rows, int64 *nulls,
                    int64 *dangling)
{
    matching m = {.index = index, .columns = columns, .rows = rows};

    if (index->plain)
    {
        moe_parallel(index->job, n_rows, GRAIN, index->array != NULL ? match_array : match_slots, &m);
        moe_check(index->job, moe_job_check(index->job));
    }
    for (int64 row = 0; !index->plain && row < n_rows; row += BLOCK)
    {
        if (row % GRAIN == 0)
            CHECK_FOR_INTERRUPTS();
        match_slots(row, Min(row + BLOCK, n_rows), &m);
    }
    *nulls = m.nulls;
    *dangling = m.dangling;
}

int32
moe_key_index_find_values(const moe_key_index *index, const Datum *key, const bool *nulls)
{
    Datum stored[INDEX_MAX_KEYS];

    for (int i = 0; i < index->n_columns; i++)
    {
        if (nulls != NULL && nulls[i])
            return -1;
        stored[i] = moe_key_column_stored(index->columns[i], key[i]);
    }
    return find(index, stored);
}

moe_key_column *
moe_key_index_column(const moe_key_index *index, int i)
{
    return index->columns[i];
}
