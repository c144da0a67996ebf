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
#include "kernels/random.h"

#define NULL_HASH UINT64_C(0x6e756c6c)

static void
init_text(moe_sink *sink)
{
    Oid element = get_element_type(sink->type);
    Oid function;
    bool varlena;

    sink->text_form = TEXT_OUTPUT;
    if (sink->type == BPCHAROID)
        sink->text_form = TEXT_PADDED;
    else if (IsBinaryCoercible(sink->type, TEXTOID))
        sink->text_form = TEXT_VARLENA;
    else if (OidIsValid(element) && TypeCategory(element) == TYPCATEGORY_STRING)
    {
        sink->text_form = TEXT_ARRAY;
        sink->element = element;
    }
    getTypeOutputInfo(sink->text_form == TEXT_ARRAY ? element : sink->type, &function, &varlena);
    fmgr_info(function, &sink->output);
}

void
moe_sink_init(moe_sink *sink, moe_sink_kind kind, int column, Oid type)
{
    memset(sink, 0, sizeof(*sink));
    sink->kind = kind;
    sink->column = column;
    sink->group = -1;
    sink->type = type;
    if (kind == SINK_STRING)
        init_text(sink);
    if (kind == SINK_VECTOR)
        sink->element = get_element_type(type);
    if (OidIsValid(sink->element))
        get_typlenbyvalalign(sink->element, &sink->element_length, &sink->element_by_value, &sink->element_align);
}

/* Grow an array of the job to `count` items. */
static void *
grow(moe_job *job, void *array, int64 count, size_t size)
{
    return moe_check_ptr(job, moe_realloc(job, array, count, size));
}

void
moe_sink_reserve(moe_sink *sink, moe_job *job, int64 rows)
{
    switch (sink->kind)
    {
        case SINK_KEY:
            return;
        case SINK_ROW_TIME:
        case SINK_KNOWN_AT:
        case SINK_TIME:
            sink->time = grow(job, sink->time, rows, sizeof(int64));
            break;
        case SINK_NUMBER:
            sink->number = grow(job, sink->number, rows, sizeof(double));
            break;
        case SINK_STRING:
        case SINK_VECTOR:
            sink->offset = grow(job, sink->offset, rows + 1, sizeof(int64));
            break;
    }
    sink->null = grow(job, sink->null, rows, sizeof(uint8));
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

static uint64
put_null(moe_sink *sink, int64 row)
{
    sink->null[row] = 1;
    sink->n_nulls++;
    return NULL_HASH;
}

static uint64
put_number(moe_sink *sink, int64 row, Datum value)
{
    double number = moe_number_of(sink->type, value);
    uint64 bits;

    if (!isfinite(number))
    {
        sink->not_finite++;
        sink->number[row] = 0;
        return put_null(sink, row);
    }
    number += 0.0; /* -0 and 0 are one number */
    sink->number[row] = number;
    memcpy(&bits, &number, sizeof(bits));
    return bits;
}

static uint64
put_time(moe_sink *sink, int64 row, Datum value)
{
    int64 time = moe_sql_time(value, sink->type);

    sink->time[row] = time;
    if (sink->kind == SINK_TIME && TIMESTAMP_NOT_FINITE(time))
    {
        sink->not_finite++;
        sink->time[row] = 0;
        return put_null(sink, row);
    }
    return (uint64) time;
}

/* Append text to the sink's bytes, in UTF-8. */
static void
append_text(moe_sink *sink, moe_job *job, const char *text, int64 length)
{
    char *utf8 = pg_server_to_any(text, length, PG_UTF8);

    if (utf8 != text)
        length = strlen(utf8);
    if (sink->length + length > sink->capacity)
    {
        sink->capacity = Max(Max(sink->capacity * 2, 16384), sink->length + length);
        sink->bytes = grow(job, sink->bytes, sink->capacity, 1);
    }
    memcpy(sink->bytes + sink->length, utf8, length);
    sink->length += length;
}

static void
append_text_array(moe_sink *sink, moe_job *job, Datum value)
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
            append_text(sink, job, " ", 1);
        append_text(sink, job, text, strlen(text));
    }
}

static uint64
put_string(moe_sink *sink, moe_job *job, int64 row, Datum value)
{
    int64 begin = sink->length;

    if (sink->text_form == TEXT_ARRAY)
        append_text_array(sink, job, value);
    else if (sink->text_form == TEXT_OUTPUT)
    {
        char *text = OutputFunctionCall(&sink->output, value);

        append_text(sink, job, text, strlen(text));
    }
    else
    {
        text *packed = DatumGetTextPP(value);
        int64 length = VARSIZE_ANY_EXHDR(packed);

        if (sink->text_form == TEXT_PADDED)
            length = bpchartruelen(VARDATA_ANY(packed), length);
        append_text(sink, job, VARDATA_ANY(packed), length);
    }
    sink->offset[row + 1] = sink->length;
    return moe_hash_bytes(sink->bytes + begin, sink->length - begin, 1);
}

/* An array of numbers, of any dimensions, in storage order; elements that are NULL or not finite count as 0. */
static uint64
put_vector(moe_sink *sink, moe_job *job, int64 row, Datum value)
{
    int64 begin = sink->length;
    Datum *elements;
    bool *nulls;
    int n;

    deconstruct_array(DatumGetArrayTypeP(value), sink->element, sink->element_length, sink->element_by_value,
                      sink->element_align, &elements, &nulls, &n);
    if (sink->length + n > sink->capacity)
    {
        sink->capacity = Max(Max(sink->capacity * 2, 4096), sink->length + n);
        sink->items = grow(job, sink->items, sink->capacity, sizeof(float));
    }
    for (int i = 0; i < n; i++)
    {
        float item = nulls[i] ? 0 : (float) moe_number_of(sink->element, elements[i]);

        if (!isfinite(item))
        {
            sink->not_finite++;
            item = 0;
        }
        sink->items[sink->length++] = item + 0.0f;
    }
    sink->offset[row + 1] = sink->length;
    return n == 0 ? 2 : moe_hash_bytes(sink->items + begin, n * sizeof(float), 2);
}

/* NULL: a row without a time is always visible; a value without a time is not yet known. */
static uint64
put_missing(moe_sink *sink, int64 row)
{
    if (sink->kind == SINK_ROW_TIME)
        sink->time[row] = MOE_TIME_ALWAYS;
    else if (sink->kind == SINK_KNOWN_AT)
        sink->time[row] = MOE_TIME_NEVER;
    else if (sink->kind == SINK_STRING || sink->kind == SINK_VECTOR)
        sink->offset[row + 1] = sink->length;
    return put_null(sink, row);
}

uint64
moe_sink_put(moe_sink *sink, moe_job *job, int64 row, Datum value, bool null)
{
    if (sink->kind == SINK_KEY)
        return moe_key_column_append(sink->key, value, null);
    sink->null[row] = 0;
    if (null)
        return put_missing(sink, row);
    switch (sink->kind)
    {
        case SINK_NUMBER:
            return put_number(sink, row, value);
        case SINK_STRING:
            return put_string(sink, job, row, value);
        case SINK_VECTOR:
            return put_vector(sink, job, row, value);
        default:
            return put_time(sink, row, value);
    }
}

/* Gather fixed-size items; the old array is freed. */
static void *
gather(moe_job *job, void *array, size_t size, const int32 *order, int64 n)
{
    char *sorted = moe_check_ptr(job, moe_alloc(job, n, size));
    const char *from = array;

    if (size == 1)
    {
        for (int64 i = 0; i < n; i++)
            sorted[i] = from[order[i]];
    }
    else
    {
        for (int64 i = 0; i < n; i++)
            ((int64 *) sorted)[i] = ((const int64 *) from)[order[i]];
    }
    moe_free(job, array);
    return sorted;
}

/* Gather runs of items of `size` bytes each, bounded by offset. */
static void *
gather_runs(moe_sink *sink, moe_job *job, void *items, size_t size, const int32 *order, int64 n)
{
    char *sorted = moe_check_ptr(job, moe_alloc(job, sink->length, size));
    int64 *offset = moe_check_ptr(job, moe_alloc(job, n + 1, sizeof(int64)));

    for (int64 i = 0; i < n; i++)
    {
        int64 begin = sink->offset[order[i]];
        int64 length = sink->offset[order[i] + 1] - begin;

        if (length > 0)
            memcpy(sorted + offset[i] * size, (const char *) items + begin * size, length * size);
        offset[i + 1] = offset[i] + length;
    }
    moe_free(job, sink->offset);
    moe_free(job, items);
    sink->offset = offset;
    return sorted;
}

void
moe_sink_finish(moe_sink *sink, moe_job *job, const int32 *order, int64 n)
{
    if (sink->kind == SINK_KEY)
    {
        moe_key_column_permute(sink->key, order, n);
        return;
    }
    if (sink->number != NULL)
        sink->number = gather(job, sink->number, sizeof(double), order, n);
    if (sink->time != NULL)
        sink->time = gather(job, sink->time, sizeof(int64), order, n);
    if (sink->kind == SINK_STRING)
        sink->bytes = gather_runs(sink, job, sink->bytes, 1, order, n);
    if (sink->kind == SINK_VECTOR)
        sink->items = gather_runs(sink, job, sink->items, sizeof(float), order, n);
    if (sink->n_nulls > 0)
        sink->null = gather(job, sink->null, 1, order, n);
    else
    {
        moe_free(job, sink->null);
        sink->null = NULL;
    }
}
