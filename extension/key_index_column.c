/*
 * key_index_column.c: the values of one key column.
 *
 * A column's hash and equality are its type's defaults, under the column's
 * collation, so that keys equal here are the keys that a foreign key's own
 * check would call equal. Where these amount to comparing bits - integers,
 * times, uuids, text under a deterministic collation - the column is plain:
 * no function of the server is called, and any thread may compare.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#include "extension/key_index_internal.h"
#include "extension/moe_ml.h"
#include "kernels/random.h"

StaticAssertDecl(sizeof(Datum) == 8, "keys are kept as 64-bit words");

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

/* Is equality of a type that of its stored bits? */
static bool
equal_by_bits(Oid type, Oid collation)
{
    switch (type)
    {
        case BOOLOID:
        case CHAROID:
        case DATEOID:
        case TIMEOID:
        case TIMESTAMPOID:
        case TIMESTAMPTZOID:
        case CASHOID:
        case UUIDOID:
        case BYTEAOID:
            return true;
        case TEXTOID:
        case VARCHAROID:
            return OidIsValid(collation) && get_collation_isdeterministic(collation);
        default:
            return false;
    }
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
        column->plain = true;
        return column;
    }
    column->stored = type_is_enum(type) ? NULL : comparison(type);
    if (column->stored != NULL)
    {
        column->form = get_typbyval(type) ? KEY_WORD : KEY_BYTES;
        column->length = get_typlen(type);
        column->plain = equal_by_bits(type, collation);
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
        column->plain = true;
    }
    return column;
}

/* Copy bytes to an aligned place and return its offset. */
static uint64
store_bytes(moe_key_column *column, const void *bytes, int64 length)
{
    int64 offset = MAXALIGN64(column->n_bytes);

    if (offset + length > column->bytes_capacity)
    {
        int64 capacity = Max(Max(column->bytes_capacity + column->bytes_capacity / 4, 16384), offset + length);

        column->bytes = moe_check_ptr(column->job, moe_realloc(column->job, column->bytes, capacity, 1));
        column->bytes_capacity = capacity;
    }
    memcpy(column->bytes + offset, bytes, length);
    column->n_bytes = offset + length;
    return (uint64) offset;
}

Datum
moe_key_column_stored(const moe_key_column *column, Datum value)
{
    switch (column->form)
    {
        case KEY_INTEGER:
            return (Datum) (column->type == INT2OID   ? DatumGetInt16(value)
                            : column->type == INT4OID ? DatumGetInt32(value)
                                                      : DatumGetInt64(value));
        case KEY_TEXT:
            return CStringGetTextDatum(OutputFunctionCall(unconstify(FmgrInfo *, &column->output), value));
        case KEY_BYTES:
            return column->length == -1 ? PointerGetDatum(PG_DETOAST_DATUM(value)) : value;
        default:
            return value;
    }
}

uint64
moe_key_column_word(moe_key_column *column, Datum value)
{
    Datum stored = moe_key_column_stored(column, value);

    if (!moe_key_by_reference(column))
        return (uint64) stored;
    return store_bytes(column, DatumGetPointer(stored), datumGetSize(stored, false, column->length));
}

const char *
moe_key_content(const moe_key_column *column, const char *stored, int64 *length)
{
    if (column->length == -1)
    {
        *length = VARSIZE(stored) - VARHDRSZ;
        return VARDATA(stored);
    }
    *length = column->length == -2 ? (int64) strlen(stored) + 1 : column->length;
    return stored;
}

uint64
moe_key_column_hash(const moe_key_column *column, uint64 word)
{
    const char *bytes;
    int64 length;

    if (!moe_key_by_reference(column))
        return word;
    bytes = moe_key_content(column, column->bytes + word, &length);
    return moe_hash_bytes(bytes, length, 0);
}

uint64
moe_key_column_row_hash(const moe_key_column *column, int64 row)
{
    return moe_key_column_is_null(column, row) ? 0 : moe_key_column_hash(column, column->word[row]);
}

void
moe_key_column_set(moe_key_column *column, uint64 *word, uint8 *null)
{
    column->word = word;
    column->null = null;
}

bool
moe_key_column_is_null(const moe_key_column *column, int64 row)
{
    return column->null != NULL && column->null[row] != 0;
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
        return OidInputFunctionCall(function, TextDatumGetCString(moe_key_stored_at(column, row)), parameter, -1);
    }
    return moe_key_stored_at(column, row);
}

void
moe_key_column_free(moe_key_column *column)
{
    moe_free(column->job, column->null);
    moe_free(column->job, column->word);
    moe_free(column->job, column->bytes);
    pfree(column);
}
