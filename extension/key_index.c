/*
 * key_index.c: from key values to rows.
 *
 * An open-addressing hash table of row numbers over columns of values. A
 * column's hash and equality are its type's defaults, under the column's
 * collation, so that keys equal here are the keys that a foreign key's own
 * check would call equal. Integers skip the function calls.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#include "extension/key_index.h"
#include "extension/moe_ml.h"
#include "kernels/random.h"

StaticAssertDecl(sizeof(Datum) == 8, "keys are kept as 64-bit words");

typedef enum moe_key_form
{
    KEY_INTEGER, /* words are the values */
    KEY_WORD,    /* by value: words are Datums */
    KEY_BYTES,   /* by reference: words are offsets into bytes */
    KEY_TEXT     /* the text form, by reference */
} moe_key_form;

struct moe_key_column
{
    moe_job *job;
    moe_key_form form;
    Oid type; /* of appended Datums */
    Oid collation;
    int16 length; /* typlen of what is stored */
    FmgrInfo output;
    TypeCacheEntry *stored; /* hash and equality; NULL for KEY_INTEGER */
    int64 n;
    int64 capacity;
    uint8 *null;
    uint64 *word;
    char *bytes;
    int64 n_bytes;
    int64 bytes_capacity;
};

struct moe_key_index
{
    moe_job *job;
    int n_columns;
    moe_key_column **columns;
    uint64 mask;
    int32 *slot;  /* [mask + 1] row or -1 */
    uint32 *hash; /* [mask + 1] upper half of the row's hash */
};

static bool
is_integer(Oid type)
{
    return type == INT2OID || type == INT4OID || type == INT8OID;
}

static TypeCacheEntry *
comparison(Oid type)
{
    TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_HASH_PROC_FINFO | TYPECACHE_EQ_OPR_FINFO);

    return OidIsValid(entry->hash_proc) && OidIsValid(entry->eq_opr) ? entry : NULL;
}

Oid
moe_key_common_type(Oid child, Oid parent)
{
    if (child == parent || (is_integer(child) && is_integer(parent)))
        return parent;
    if (can_coerce_type(1, &child, &parent, COERCION_IMPLICIT))
        return parent;
    if (can_coerce_type(1, &parent, &child, COERCION_IMPLICIT))
        return child;
    return TEXTOID;
}

bool
moe_key_needs_cast(Oid from, Oid to)
{
    return from != to && !(is_integer(from) && is_integer(to));
}

moe_key_column *
moe_key_column_create(moe_job *job, Oid type, Oid collation)
{
    moe_key_column *column = palloc0(sizeof(*column));

    column->job = job;
    column->type = type;
    column->collation = collation;
    if (is_integer(type))
    {
        column->form = KEY_INTEGER;
        return column;
    }
    column->stored = type_is_enum(type) ? NULL : comparison(type);
    if (column->stored != NULL)
    {
        column->form = get_typbyval(type) ? KEY_WORD : KEY_BYTES;
        column->length = get_typlen(type);
    }
    else
    {
        Oid function;
        bool varlena;

        getTypeOutputInfo(type, &function, &varlena);
        fmgr_info(function, &column->output);
        column->form = KEY_TEXT;
        column->stored = comparison(TEXTOID);
        column->collation = C_COLLATION_OID;
        column->length = -1;
    }
    return column;
}

/* Make room for one more value. */
static void
reserve_row(moe_key_column *column)
{
    int64 capacity = column->capacity == 0 ? 1024 : column->capacity * 2;

    if (column->n < column->capacity)
        return;
    column->null = moe_check_ptr(column->job, moe_realloc(column->job, column->null, capacity, sizeof(uint8)));
    column->word = moe_check_ptr(column->job, moe_realloc(column->job, column->word, capacity, sizeof(uint64)));
    column->capacity = capacity;
}

/* Copy bytes to an aligned place and return its offset. */
static uint64
store_bytes(moe_key_column *column, const void *bytes, int64 length)
{
    int64 offset = MAXALIGN64(column->n_bytes);

    if (offset + length > column->bytes_capacity)
    {
        int64 capacity = Max(Max(column->bytes_capacity * 2, 16384), offset + length);

        column->bytes = moe_check_ptr(column->job, moe_realloc(column->job, column->bytes, capacity, 1));
        column->bytes_capacity = capacity;
    }
    memcpy(column->bytes + offset, bytes, length);
    column->n_bytes = offset + length;
    return (uint64) offset;
}

/* A value in the form that is stored: a word, or a pointer to detoasted bytes. */
static uint64
to_word(const moe_key_column *column, Datum value)
{
    switch (column->form)
    {
        case KEY_INTEGER:
            return (uint64) (column->type == INT2OID   ? DatumGetInt16(value)
                             : column->type == INT4OID ? DatumGetInt32(value)
                                                       : DatumGetInt64(value));
        case KEY_WORD:
            return (uint64) value;
        case KEY_TEXT:
            value = CStringGetTextDatum(OutputFunctionCall(unconstify(FmgrInfo *, &column->output), value));
            break;
        case KEY_BYTES:
            if (column->length == -1)
                value = PointerGetDatum(PG_DETOAST_DATUM(value));
            break;
    }
    return (uint64) value;
}

static bool
by_reference(const moe_key_column *column)
{
    return column->form == KEY_BYTES || column->form == KEY_TEXT;
}

uint64
moe_key_column_append(moe_key_column *column, Datum value, bool null)
{
    uint64 word;
    uint64 hash;

    reserve_row(column);
    column->null[column->n] = null;
    if (null)
    {
        column->word[column->n++] = 0;
        return 0;
    }
    word = to_word(column, value);
    hash = word;
    if (by_reference(column))
    {
        const char *bytes = DatumGetPointer((Datum) word);
        int64 length = datumGetSize((Datum) word, false, column->length);

        hash = column->length == -1 ? moe_hash_bytes(VARDATA(bytes), VARSIZE(bytes) - VARHDRSZ, 0)
                                    : moe_hash_bytes(bytes, length, 0);
        word = store_bytes(column, bytes, length);
    }
    column->word[column->n++] = word;
    return hash;
}

void
moe_key_column_permute(moe_key_column *column, const int32 *order, int64 n)
{
    uint64 *word = moe_check_ptr(column->job, moe_alloc(column->job, n, sizeof(uint64)));
    uint8 *null = moe_check_ptr(column->job, moe_alloc(column->job, n, sizeof(uint8)));

    for (int64 i = 0; i < n; i++)
    {
        word[i] = column->word[order[i]];
        null[i] = column->null[order[i]];
    }
    moe_free(column->job, column->word);
    moe_free(column->job, column->null);
    column->word = word;
    column->null = null;
    column->capacity = n;
}

bool
moe_key_column_is_null(const moe_key_column *column, int64 row)
{
    return column->null[row] != 0;
}

/* A stored value as the Datum that hash and equality take. */
static Datum
stored_datum(const moe_key_column *column, int64 row)
{
    if (by_reference(column))
        return PointerGetDatum(column->bytes + column->word[row]);
    return (Datum) column->word[row];
}

Datum
moe_key_column_get(const moe_key_column *column, int64 row, bool *null)
{
    *null = moe_key_column_is_null(column, row);
    if (*null)
        return (Datum) 0;
    if (column->form == KEY_INTEGER)
    {
        int64 value = (int64) column->word[row];

        return column->type == INT2OID   ? Int16GetDatum((int16) value)
               : column->type == INT4OID ? Int32GetDatum((int32) value)
                                         : Int64GetDatum(value);
    }
    if (column->form == KEY_TEXT)
    {
        Oid function;
        Oid parameter;

        getTypeInputInfo(column->type, &function, &parameter);
        return OidInputFunctionCall(function, TextDatumGetCString(stored_datum(column, row)), parameter, -1);
    }
    return stored_datum(column, row);
}

void
moe_key_column_free(moe_key_column *column)
{
    moe_free(column->job, column->null);
    moe_free(column->job, column->word);
    moe_free(column->job, column->bytes);
    pfree(column);
}

/* Hash one stored value; other holds it, column says how. */
static uint64
hash_value(const moe_key_column *column, Datum value)
{
    if (column->form == KEY_INTEGER)
        return (uint64) value;
    return DatumGetUInt32(FunctionCall1Coll(&column->stored->hash_proc_finfo, column->collation, value));
}

static bool
equal_values(const moe_key_column *column, Datum a, Datum b)
{
    if (column->form == KEY_INTEGER)
        return a == b;
    return DatumGetBool(FunctionCall2Coll(&column->stored->eq_opr_finfo, column->collation, a, b));
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
        if (columns[i]->null[row])
            return false;
        key[i] = stored_datum(columns[i], row);
    }
    return true;
}

/* The slot that holds an equal key, or the empty one where it belongs. */
static uint64
probe(const moe_key_index *index, const Datum *key, uint64 hash)
{
    uint64 at = hash & index->mask;

    for (; index->slot[at] >= 0; at = (at + 1) & index->mask)
    {
        bool equal = index->hash[at] == (uint32) (hash >> 32);

        for (int i = 0; equal && i < index->n_columns; i++)
            equal = equal_values(index->columns[i], stored_datum(index->columns[i], index->slot[at]), key[i]);
        if (equal)
            break;
    }
    return at;
}

moe_key_index *
moe_key_index_create(moe_job *job, moe_key_column *const *columns, int n, int64 n_rows)
{
    moe_key_index *index = palloc0(sizeof(*index));
    Datum key[INDEX_MAX_KEYS];
    uint64 size = 16;

    while (size < (uint64) n_rows * 2)
        size *= 2;
    index->job = job;
    index->n_columns = n;
    index->columns = palloc(sizeof(moe_key_column *) * n);
    memcpy(index->columns, columns, sizeof(moe_key_column *) * n);
    index->mask = size - 1;
    index->slot = moe_check_ptr(job, moe_alloc(job, size, sizeof(int32)));
    index->hash = moe_check_ptr(job, moe_alloc(job, size, sizeof(uint32)));
    memset(index->slot, 0xff, size * sizeof(int32));
    for (int64 row = 0; row < n_rows; row++)
    {
        uint64 hash;
        uint64 at;

        if (row % 65536 == 0)
            CHECK_FOR_INTERRUPTS();
        if (!row_key(n, columns, row, key))
            continue;
        hash = hash_key(index, key);
        at = probe(index, key, hash);
        if (index->slot[at] >= 0)
            continue;
        index->slot[at] = (int32) row;
        index->hash[at] = (uint32) (hash >> 32);
    }
    return index;
}

void
moe_key_index_free(moe_key_index *index)
{
    moe_free(index->job, index->slot);
    moe_free(index->job, index->hash);
    pfree(index->columns);
    pfree(index);
}

int32
moe_key_index_find(const moe_key_index *index, moe_key_column *const *columns, int64 row)
{
    Datum key[INDEX_MAX_KEYS];

    if (!row_key(index->n_columns, columns, row, key))
        return -1;
    return index->slot[probe(index, key, hash_key(index, key))];
}

int32
moe_key_index_find_values(const moe_key_index *index, const Datum *key, const bool *nulls)
{
    Datum stored[INDEX_MAX_KEYS];

    for (int i = 0; i < index->n_columns; i++)
    {
        if (nulls != NULL && nulls[i])
            return -1;
        stored[i] = (Datum) to_word(index->columns[i], key[i]);
    }
    return index->slot[probe(index, stored, hash_key(index, stored))];
}

moe_key_column *
moe_key_index_column(const moe_key_index *index, int i)
{
    return index->columns[i];
}
