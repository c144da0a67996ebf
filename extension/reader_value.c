/*
 * reader_value.c: Datums into arrays.
 *
 * Numbers and times never go through text. What is not finite becomes NULL and
 * is counted: nothing downstream has to expect a NaN.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "parser/parse_coerce.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/cash.h"
#include "utils/date.h"
#include "utils/float.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "extension/moe_ml.h"
#include "extension/reader_internal.h"
#include "extension/schema_sql.h"

/* The form of strings of the sink's type. */
static moe_value_form
string_form(moe_sink *sink)
{
    Oid element = get_element_type(sink->type);
    moe_value_form form = FORM_OUTPUT;
    Oid function;
    bool varlena;

    if (sink->type == BPCHAROID)
        form = FORM_PADDED;
    else if (IsBinaryCoercible(sink->type, TEXTOID))
        form = GetDatabaseEncoding() == PG_UTF8 ? FORM_UTF8 : FORM_VARLENA;
    else if (OidIsValid(element) && TypeCategory(element) == TYPCATEGORY_STRING)
    {
        form = FORM_TEXTS;
        sink->element = element;
    }
    getTypeOutputInfo(form == FORM_TEXTS ? element : sink->type, &function, &varlena);
    fmgr_info(function, &sink->output);
    return form;
}

static moe_value_form
number_form(Oid type)
{
    switch (type)
    {
        case BOOLOID:
            return FORM_BOOL;
        case INT2OID:
            return FORM_INT2;
        case INT4OID:
            return FORM_INT4;
        case INT8OID:
            return FORM_INT8;
        case FLOAT4OID:
            return FORM_FLOAT4;
        case FLOAT8OID:
            return FORM_FLOAT8;
        case NUMERICOID:
            return FORM_NUMERIC;
        default:
            return FORM_NUMBER;
    }
}

void
moe_sink_init(moe_sink *sink, moe_sink_kind kind, int column, Oid type)
{
    memset(sink, 0, sizeof(*sink));
    sink->kind = kind;
    sink->column = column;
    sink->group = -1;
    sink->type = type;
    switch (kind)
    {
        case SINK_ROW_TIME:
        case SINK_KNOWN_AT:
            sink->form = type == DATEOID ? FORM_DATE : FORM_ROW_TIME;
            break;
        case SINK_TIME:
            sink->form = type == DATEOID ? FORM_DATE : FORM_TIMESTAMP;
            break;
        case SINK_NUMBER:
            sink->form = number_form(type);
            break;
        case SINK_STRING:
            sink->form = string_form(sink);
            break;
        case SINK_VECTOR:
            sink->form = FORM_VECTOR;
            sink->element = get_element_type(type);
            break;
        case SINK_KEY:
            sink->form = type == INT4OID ? FORM_KEY_INT4 : type == INT8OID ? FORM_KEY_INT8 : FORM_KEY;
            break;
    }
    if (OidIsValid(sink->element))
        get_typlenbyvalalign(sink->element, &sink->element_length, &sink->element_by_value, &sink->element_align);
}

double
moe_number_of(Oid type, Datum value)
{
    switch (type)
    {
        case BOOLOID:
            return DatumGetBool(value) ? 1 : 0;
        case INT2OID:
            return DatumGetInt16(value);
        case INT4OID:
            return DatumGetInt32(value);
        case INT8OID:
            return (double) DatumGetInt64(value);
        case FLOAT4OID:
            return DatumGetFloat4(value);
        case FLOAT8OID:
            return DatumGetFloat8(value);
        case NUMERICOID:
            return DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, value));
        case TIMEOID:
            return (double) DatumGetTimeADT(value) / USECS_PER_SEC;
        case TIMETZOID:
        {
            TimeTzADT *time = DatumGetTimeTzADTP(value);

            return (double) time->time / USECS_PER_SEC + time->zone;
        }
        case INTERVALOID:
        {
            Interval *interval = DatumGetIntervalP(value);

#if PG_VERSION_NUM >= 170000
            if (INTERVAL_NOT_FINITE(interval))
                return get_float8_nan();
#endif
            return (double) interval->time / USECS_PER_SEC + (double) interval->day * SECS_PER_DAY +
                   (double) interval->month * DAYS_PER_MONTH * SECS_PER_DAY;
        }
        default:
            elog(ERROR, "type %u is not a number", type);
    }
}

/* Mark a row and return its item, which is 0 so far. */
static moe_item *
put_null(moe_sink *sink, moe_job *job, int64 row, int64 capacity)
{
    if (sink->null == NULL)
        sink->null = moe_check_ptr(job, moe_alloc(job, capacity, 1));
    sink->null[row] = 1;
    sink->items[row].word = 0;
    return &sink->items[row];
}

static inline void
put_number(moe_sink *sink, moe_job *job, int64 row, int64 capacity, double number)
{
    if (likely(isfinite(number)))
    {
        sink->items[row].number = number + 0.0; /* -0 and 0 are one number */
        return;
    }
    sink->not_finite++;
    put_null(sink, job, row, capacity);
}

static inline void
put_time(moe_sink *sink, moe_job *job, int64 row, int64 capacity, int64 time)
{
    sink->items[row].time = time;
    if (sink->kind == SINK_TIME && TIMESTAMP_NOT_FINITE(time))
    {
        sink->not_finite++;
        put_null(sink, job, row, capacity);
    }
}

/* Append bytes to the sink's. */
static inline void
append(moe_sink *sink, moe_job *job, const void *bytes, int64 length)
{
    if (sink->n_bytes + length > sink->bytes_capacity)
    {
        sink->bytes_capacity = Max(sink->bytes_capacity + sink->bytes_capacity / 4, sink->n_bytes + length);
        sink->bytes_capacity = Max(sink->bytes_capacity, 4096);
        sink->bytes = moe_check_ptr(job, moe_realloc(job, sink->bytes, sink->bytes_capacity, 1));
    }
    memcpy(sink->bytes + sink->n_bytes, bytes, length);
    sink->n_bytes += length;
}

/* Append text in UTF-8. */
static void
append_text(moe_sink *sink, moe_job *job, const char *text, int64 length)
{
    char *utf8 = pg_server_to_any(text, length, PG_UTF8);

    append(sink, job, utf8, utf8 == text ? length : (int64) strlen(utf8));
}

static void
append_texts(moe_sink *sink, moe_job *job, Datum value)
{
    Datum *elements;
    bool *nulls;
    int n;

    deconstruct_array(DatumGetArrayTypeP(value), sink->element, sink->element_length, sink->element_by_value,
                      sink->element_align, &elements, &nulls, &n);
    for (int i = 0; i < n; i++)
    {
        char *text;

        if (nulls[i])
            continue;
        text = OutputFunctionCall(&sink->output, elements[i]);
        if (i > 0)
            append(sink, job, " ", 1);
        append_text(sink, job, text, strlen(text));
    }
}

/* An array of numbers, of any dimensions, in storage order; elements that are NULL or not finite count as 0. */
static void
append_vector(moe_sink *sink, moe_job *job, Datum value)
{
    Datum *elements;
    bool *nulls;
    int n;

    deconstruct_array(DatumGetArrayTypeP(value), sink->element, sink->element_length, sink->element_by_value,
                      sink->element_align, &elements, &nulls, &n);
    for (int i = 0; i < n; i++)
    {
        float item = nulls[i] ? 0 : (float) moe_number_of(sink->element, elements[i]);

        if (!isfinite(item))
        {
            sink->not_finite++;
            item = 0;
        }
        item += 0.0f;
        append(sink, job, &item, sizeof(item));
    }
}

static void
put_bytes(moe_sink *sink, moe_job *job, int64 row, Datum value)
{
    char *text;
    struct varlena *packed;

    switch (sink->form)
    {
        case FORM_UTF8:
            packed = PG_DETOAST_DATUM_PACKED(value);
            append(sink, job, VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed));
            break;
        case FORM_VARLENA:
            packed = PG_DETOAST_DATUM_PACKED(value);
            append_text(sink, job, VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed));
            break;
        case FORM_PADDED:
            packed = PG_DETOAST_DATUM_PACKED(value);
            append_text(sink, job, VARDATA_ANY(packed),
                        bpchartruelen(VARDATA_ANY(packed), (int) VARSIZE_ANY_EXHDR(packed)));
            break;
        case FORM_TEXTS:
            append_texts(sink, job, value);
            break;
        case FORM_VECTOR:
            append_vector(sink, job, value);
            break;
        default:
            text = OutputFunctionCall(&sink->output, value);
            append_text(sink, job, text, strlen(text));
            break;
    }
    sink->items[row + 1].end = sink->n_bytes;
}

/* NULL: a row without a time is always visible; a value without a time is not yet known. */
static void
put_missing(moe_sink *sink, moe_job *job, int64 row, int64 capacity)
{
    int64 end = sink->items[row].end;
    moe_item *item = put_null(sink, job, row, capacity);

    if (sink->kind == SINK_ROW_TIME)
        item->time = MOE_TIME_ALWAYS;
    else if (sink->kind == SINK_KNOWN_AT)
        item->time = MOE_TIME_NEVER;
    else if (sink->kind == SINK_STRING || sink->kind == SINK_VECTOR)
        item[0].end = item[1].end = end;
}

void
moe_sink_put(moe_sink *sink, moe_job *job, int64 row, int64 capacity, Datum value, bool null)
{
    if (null)
    {
        put_missing(sink, job, row, capacity);
        return;
    }
    switch (sink->form)
    {
        case FORM_BOOL:
            sink->items[row].number = DatumGetBool(value) ? 1 : 0;
            break;
        case FORM_INT2:
            sink->items[row].number = DatumGetInt16(value);
            break;
        case FORM_INT4:
            sink->items[row].number = DatumGetInt32(value);
            break;
        case FORM_INT8:
            sink->items[row].number = (double) DatumGetInt64(value);
            break;
        case FORM_FLOAT4:
            put_number(sink, job, row, capacity, DatumGetFloat4(value));
            break;
        case FORM_FLOAT8:
            put_number(sink, job, row, capacity, DatumGetFloat8(value));
            break;
        case FORM_NUMERIC:
            put_number(sink, job, row, capacity, moe_number_of(sink->type, value));
            break;
        case FORM_NUMBER:
            put_number(sink, job, row, capacity, moe_number_of(sink->type, value));
            break;
        case FORM_ROW_TIME:
        case FORM_TIMESTAMP:
            put_time(sink, job, row, capacity, DatumGetTimestamp(value));
            break;
        case FORM_DATE:
            put_time(sink, job, row, capacity, moe_sql_time(value, sink->type));
            break;
        case FORM_KEY_INT4:
        case FORM_KEY_INT8:
        case FORM_KEY:
            sink->items[row].word = moe_key_column_word(sink->key, value);
            break;
        default:
            put_bytes(sink, job, row, value);
            break;
    }
}
