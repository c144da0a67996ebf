/*
 * aggregates_store.c: a plan as bytes, and back.
 *
 * Stored is what was fitted; streams, parts, columns and names are derived
 * again. Stored bytes are not trusted: every count, range, kind and code that
 * the rest relies on is checked here.
 */
#include "embed/aggregates_plan.h"

#define FORMAT 1

static void
write_field(const moe_agg_field *field, moe_buffer *buffer)
{
    moe_put_string(buffer, field->name);
    moe_put_u8(buffer, field->storage);
    moe_put_u8(buffer, (uint8_t) (field->hidden_bit + 1));
    moe_put_u8(buffer, (uint8_t) field->kinds);
    if (field->kinds >> MOE_AGG_CODE & 1)
        moe_dictionary_write(&field->codes, field->storage == MOE_STORE_STRING, buffer);
}

void
moe_aggregates_write(const moe_aggregates *a, moe_buffer *buffer)
{
    moe_put_i32(buffer, FORMAT);
    moe_put_i32(buffer, a->entity);
    moe_put_i64(buffer, a->window);
    moe_put_i32(buffer, a->max_columns);
    moe_put_i64(buffer, a->n_tables);
    moe_put_i64(buffer, a->n_keys);
    for (int t = 0; t < a->n_tables; t++)
    {
        const moe_agg_table *table = &a->tables[t];

        moe_put_string(buffer, table->name);
        moe_put_u8(buffer, (uint8_t) (table->timed | table->filled << 1));
        moe_put_i64(buffer, table->n_fields);
        for (int f = 0; f < table->n_fields; f++)
            write_field(&table->fields[f], buffer);
    }
    for (int k = 0; k < a->n_keys; k++)
    {
        moe_put_string(buffer, a->keys[k].name);
        moe_put_i32(buffer, a->keys[k].child);
        moe_put_i32(buffer, a->keys[k].parent);
    }
}

static bool
require(moe_reader *reader, bool valid)
{
    if (!valid)
        moe_fail(reader->job, MOE_CORRUPT, "stored aggregates do not read back");
    return valid && moe_job_code(reader->job) == MOE_OK;
}

/* The kinds that fitting makes of a storage. */
static int
possible_kinds(moe_storage storage)
{
    int missing = 1 << MOE_AGG_MISSING;

    switch (storage)
    {
        case MOE_STORE_NUMBER:
            return missing | 1 << MOE_AGG_NUMBER | 1 << MOE_AGG_CODE;
        case MOE_STORE_BOOL:
            return missing | 1 << MOE_AGG_NUMBER;
        case MOE_STORE_TIME:
            return missing | 1 << MOE_AGG_DAYS | 1 << MOE_AGG_DATE;
        case MOE_STORE_STRING:
            return missing | 1 << MOE_AGG_CODE;
        default:
            return missing;
    }
}

static void
read_field(moe_reader *reader, moe_agg_field *field)
{
    int storage, bit, kinds;

    field->name = moe_get_string(reader);
    storage = moe_get_u8(reader);
    bit = (int) moe_get_u8(reader) - 1;
    kinds = moe_get_u8(reader);
    if (!require(reader, storage <= MOE_STORE_VECTOR && bit < MOE_HIDDEN_MAX) ||
        !require(reader, (kinds & ~possible_kinds((moe_storage) storage)) == 0))
        return;
    field->storage = (moe_storage) storage;
    field->hidden_bit = bit;
    field->kinds = kinds;
    if (!(kinds >> MOE_AGG_CODE & 1))
        return;
    moe_dictionary_read(reader, storage == MOE_STORE_STRING, &field->codes);
    require(reader, field->codes.n >= 1 && field->codes.n <= MOE_AGG_CODES);
}

static void
read_table(moe_reader *reader, moe_agg_table *table)
{
    int flags;
    int64_t n;

    table->name = moe_get_string(reader);
    flags = moe_get_u8(reader);
    n = moe_get_count(reader, sizeof(int64_t) + 3); /* a column takes as much */
    if (!require(reader, flags <= 3 && n <= INT16_MAX) ||
        !(table->fields = moe_alloc(reader->job, n, sizeof(*table->fields))))
        return;
    table->timed = flags & 1;
    table->filled = flags >> 1;
    table->n_fields = (int) n;
    for (int f = 0; f < n && moe_job_code(reader->job) == MOE_OK; f++)
        read_field(reader, &table->fields[f]);
}

static void
read_key(moe_reader *reader, int n_tables, moe_agg_key *key)
{
    key->name = moe_get_string(reader);
    key->child = moe_get_i32(reader);
    key->parent = moe_get_i32(reader);
    require(reader, key->child >= 0 && key->child < n_tables && key->parent >= 0 && key->parent < n_tables);
}

moe_code
moe_aggregates_read(moe_job *job, moe_reader *reader, moe_aggregates **out)
{
    moe_aggregates *a;
    int entity, max_columns;
    int64_t window, n_tables, n_keys;

    *out = NULL;
    require(reader, moe_get_i32(reader) == FORMAT);
    entity = moe_get_i32(reader);
    window = moe_get_i64(reader);
    max_columns = moe_get_i32(reader);
    n_tables = moe_get_count(reader, 2 * sizeof(int64_t) + 1);
    n_keys = moe_get_count(reader, 2 * sizeof(int64_t));
    require(reader, n_tables <= INT16_MAX && n_keys <= MOE_AGG_KEYS_MAX && entity >= 0 && entity < n_tables);
    if (!require(reader, window > 0 && max_columns >= 0 && max_columns <= INT16_MAX) ||
        !(a = moe_agg_create(job, (int) n_tables, (int) n_keys)))
        return moe_job_code(job);
    a->entity = entity;
    a->window = window;
    a->max_columns = max_columns;
    for (int t = 0; t < n_tables && moe_job_code(job) == MOE_OK; t++)
        read_table(reader, &a->tables[t]);
    for (int k = 0; k < n_keys && moe_job_code(job) == MOE_OK; k++)
        read_key(reader, a->n_tables, &a->keys[k]);
    if (moe_job_code(job) == MOE_OK && moe_agg_layout(a) == MOE_OK)
        *out = a;
    else
        moe_aggregates_destroy(a);
    return moe_job_code(job);
}
