/*
 * key.c: values given by a query as keys and times of a model.
 *
 * A key may come with another type than the column's: an int4 literal for a
 * bigint key, numeric, text, ROW(...). What cannot be any row's key (out of
 * range, 42.5 for an integer key) finds no row; what is of the wrong kind is
 * an error that shows how to write it.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_cast.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/fmgroids.h"
#include "utils/typcache.h"

#include "extension/key.h"
#include "extension/moe_ml.h"

static bool
is_integer(Oid type)
{
    return type == INT2OID || type == INT4OID || type == INT8OID;
}

static bool
is_time(Oid type)
{
    return type == DATEOID || type == TIMESTAMPOID || type == TIMESTAMPTZOID;
}

/* An integer of any width as int64. */
static int64
integer_value(Datum value, Oid type)
{
    if (type == INT2OID)
        return DatumGetInt16(value);
    return type == INT4OID ? DatumGetInt32(value) : DatumGetInt64(value);
}

/* An int64 as an integer of some width; false if it does not fit. */
static bool
integer_datum(int64 value, Oid type, Datum *out)
{
    if (type == INT2OID)
        *out = Int16GetDatum((int16) value);
    else if (type == INT4OID)
        *out = Int32GetDatum((int32) value);
    else
        *out = Int64GetDatum(value);
    return integer_value(*out, type) == value;
}

bool
moe_key_convertible(Oid from, Oid to)
{
    return from == to || (is_integer(from) && is_integer(to)) || IsBinaryCoercible(from, to);
}

bool
moe_key_convert(Datum value, Oid from, Oid to, Datum *out)
{
    if (from != to && is_integer(from) && is_integer(to))
        return integer_datum(integer_value(value, from), to, out);
    *out = value;
    return true;
}

bool
moe_time_convertible(Oid from, Oid to)
{
    return is_time(from) && is_time(to);
}

/* Raise for a moment at infinity, at which nothing can be predicted. */
static int64
finite_time(int64 time)
{
    if (TIMESTAMP_NOT_FINITE(time))
        ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("as_of must be a finite time"),
                        errhint("Leave out as_of to predict as of the newest row time.")));
    return time;
}

int64
moe_time_convert(Datum value, Oid from, Oid to)
{
    if (from == DATEOID && to == TIMESTAMPOID)
        value = DirectFunctionCall1(date_timestamp, value);
    else if (from == DATEOID && to == TIMESTAMPTZOID)
        value = DirectFunctionCall1(date_timestamptz, value);
    else if (from == TIMESTAMPOID && to == TIMESTAMPTZOID)
        value = DirectFunctionCall1(timestamp_timestamptz, value);
    else if (from == TIMESTAMPTZOID && to == TIMESTAMPOID)
        value = DirectFunctionCall1(timestamptz_timestamp, value);
    return finite_time(DatumGetTimestamp(value));
}

/* Raise for a key of the wrong kind, showing the right one. */
static void
wrong_key(const moe_predictor *predictor, const char *given)
{
    const moe_schema *schema = predictor->schema;
    const moe_schema_table *entity = &schema->tables[0];
    StringInfoData names, types;

    initStringInfo(&names);
    initStringInfo(&types);
    for (int i = 0; i < schema->n_key; i++)
    {
        const moe_schema_column *column = &entity->columns[schema->key[i]];

        appendStringInfo(&names, "%s%s", i ? ", " : "", column->name);
        appendStringInfo(&types, "%s%s", i ? ", " : "", format_type_be(column->type));
    }
    if (schema->n_key == 1)
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                        errmsg("a key of table \"%s\" cannot be of type %s", entity->name, given),
                        errhint("Give a value of type %s, as column \"%s\" has.", types.data, names.data)));
    ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                    errmsg("a key of table \"%s\" has %d columns and cannot be of type %s", entity->name, schema->n_key,
                           given),
                    errhint("Give ROW(%s), of types %s.", names.data, types.data)));
}

/* Convert a numeric to an integer key; false for what no integer equals. */
static bool
numeric_to_integer(Datum value, Oid to, Datum *out)
{
    Datum whole = DirectFunctionCall2(numeric_trunc, value, Int32GetDatum(0));
    char *digits;
    char *end;
    int64 number;

    if (!DatumGetBool(DirectFunctionCall2(numeric_eq, whole, value)))
        return false;
    digits = DatumGetCString(DirectFunctionCall1(numeric_out, whole));
    errno = 0;
    number = strtoll(digits, &end, 10);
    if (errno != 0 || *end != '\0')
        return false;
    return integer_datum(number, to, out);
}

/* Convert a floating-point number to an integer key; false for what no integer equals. */
static bool
float_to_integer(double number, Oid to, Datum *out)
{
    /* 2^63 itself is beyond; NaN compares false. */
    if (!(number >= -9223372036854775808.0 && number < 9223372036854775808.0) || number != floor(number))
        return false;
    return integer_datum((int64) number, to, out);
}

/* Convert one value to a key column's type as SQL would without an explicit cast. */
static bool
convert_value(const moe_predictor *predictor, Datum value, Oid type, const moe_schema_column *column, Datum *out)
{
    Oid from = getBaseType(type);
    Oid function;
    bool varlena;

    if (moe_key_convertible(from, column->type))
        return moe_key_convert(value, from, column->type, out);
    if (from == NUMERICOID && is_integer(column->type))
        return numeric_to_integer(value, column->type, out);
    if (from == FLOAT8OID && is_integer(column->type))
        return float_to_integer(DatumGetFloat8(value), column->type, out);
    if (from == FLOAT4OID && is_integer(column->type))
        return float_to_integer(DatumGetFloat4(value), column->type, out);
    if (from == TEXTOID || from == VARCHAROID || from == UNKNOWNOID)
    {
        Oid input, parameter;
        char *string = from == UNKNOWNOID ? DatumGetCString(value) : TextDatumGetCString(value);

        getTypeInputInfo(column->type, &input, &parameter);
        *out = OidInputFunctionCall(input, string, parameter, -1);
        return true;
    }
    switch (find_coercion_pathway(column->type, from, COERCION_ASSIGNMENT, &function))
    {
        case COERCION_PATH_RELABELTYPE:
            *out = value;
            return true;
        case COERCION_PATH_FUNC:
            *out = get_func_nargs(function) == 1
                       ? OidFunctionCall1(function, value)
                       : OidFunctionCall3(function, value, Int32GetDatum(-1), BoolGetDatum(false));
            return true;
        case COERCION_PATH_COERCEVIAIO:
            getTypeOutputInfo(from, &function, &varlena);
            *out = CStringGetTextDatum(OidOutputFunctionCall(function, value));
            if (column->type == TEXTOID || column->type == VARCHAROID)
                return true;
            break;
        default:
            break;
    }
    wrong_key(predictor, format_type_be(type));
    return false;
}

int32
moe_key_find_values(const moe_predictor *predictor, const Datum *values, const Oid *types, const bool *nulls)
{
    const moe_schema *schema = predictor->schema;
    Datum *key = palloc_array(Datum, schema->n_key);

    for (int i = 0; i < schema->n_key; i++)
        if (nulls[i] ||
            !convert_value(predictor, values[i], types[i], &schema->tables[0].columns[schema->key[i]], &key[i]))
            return -1;
    return moe_data_find(predictor->data, key, nulls);
}

/* The row whose key is the fields of a ROW(...). */
static int32
find_record(const moe_predictor *predictor, Datum value)
{
    int n_key = predictor->schema->n_key;
    HeapTupleHeader header = DatumGetHeapTupleHeader(value);
    TupleDesc descriptor =
        lookup_rowtype_tupdesc_copy(HeapTupleHeaderGetTypeId(header), HeapTupleHeaderGetTypMod(header));
    HeapTupleData tuple;
    Datum *values = palloc_array(Datum, n_key);
    Oid *types = palloc_array(Oid, n_key);
    bool *nulls = palloc_array(bool, n_key);

    if (descriptor->natts != n_key)
        wrong_key(predictor, psprintf("record of %d fields", descriptor->natts));
    tuple.t_len = HeapTupleHeaderGetDatumLength(header);
    ItemPointerSetInvalid(&tuple.t_self);
    tuple.t_tableOid = InvalidOid;
    tuple.t_data = header;
    for (int i = 0; i < n_key; i++)
    {
        values[i] = heap_getattr(&tuple, i + 1, descriptor, &nulls[i]);
        types[i] = TupleDescAttr(descriptor, i)->atttypid;
    }
    return moe_key_find_values(predictor, values, types, nulls);
}

int32
moe_key_find(const moe_predictor *predictor, Datum value, Oid type)
{
    const moe_schema *schema = predictor->schema;
    const moe_schema_column *column = &schema->tables[0].columns[schema->key[0]];
    Datum key;
    bool null = false;

    if (type_is_rowtype(type) && !(schema->n_key == 1 && getBaseType(type) == column->type))
        return find_record(predictor, value);
    if (schema->n_key != 1)
        wrong_key(predictor, format_type_be(type));
    if (!convert_value(predictor, value, type, column, &key))
        return -1;
    return moe_data_find(predictor->data, &key, &null);
}

/* The key columns as the type of a ROW(...). */
static TupleDesc
key_descriptor(const moe_schema *schema)
{
    TupleDesc descriptor = CreateTemplateTupleDesc(schema->n_key);

    for (int i = 0; i < schema->n_key; i++)
    {
        const moe_schema_column *column = &schema->tables[0].columns[schema->key[i]];

        TupleDescInitEntry(descriptor, i + 1, column->name, column->type, -1, 0);
    }
    return BlessTupleDesc(descriptor);
}

int32
moe_key_find_text(const moe_predictor *predictor, const char *value)
{
    Datum record;

    if (predictor->schema->n_key == 1 || value[0] != '(')
        return moe_key_find(predictor, CStringGetTextDatum(value), TEXTOID);
    record = OidInputFunctionCall(F_RECORD_IN, pstrdup(value), RECORDOID, key_descriptor(predictor->schema)->tdtypmod);
    return find_record(predictor, record);
}

void
moe_key_types(const moe_schema *schema, Oid *types)
{
    for (int i = 0; i < schema->n_key; i++)
        types[i] = schema->tables[0].columns[schema->key[i]].type;
}

char *
moe_key_restrict(const moe_schema *schema, const Datum *key, const char *query, Datum *values, int *n)
{
    StringInfoData sql;

    if (key == NULL)
        return pstrdup(query);
    initStringInfo(&sql);
    appendStringInfo(&sql, "SELECT * FROM (%s\n) AS q WHERE ", query);
    for (int i = 0; i < schema->n_key; i++)
    {
        values[*n] = key[i];
        appendStringInfo(&sql, "%sq.%s = $%d", i ? " AND " : "",
                         quote_identifier(schema->tables[0].columns[schema->key[i]].name), ++*n);
    }
    return sql.data;
}

char *
moe_key_text(const moe_predictor *predictor, int32 row)
{
    const moe_schema *schema = predictor->schema;
    Datum *key = palloc(sizeof(Datum) * schema->n_key);
    bool *nulls = palloc0(sizeof(bool) * schema->n_key);
    TupleDesc descriptor;
    Oid output;
    bool varlena;

    moe_data_key(predictor->data, row, key, nulls);
    if (schema->n_key == 1)
    {
        getTypeOutputInfo(schema->tables[0].columns[schema->key[0]].type, &output, &varlena);
        return nulls[0] ? pstrdup("") : OidOutputFunctionCall(output, key[0]);
    }
    descriptor = key_descriptor(schema);
    return DatumGetCString(
        OidFunctionCall1(F_RECORD_OUT, heap_copy_tuple_as_datum(heap_form_tuple(descriptor, key, nulls), descriptor)));
}
