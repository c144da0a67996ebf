/*
 * labelled.c: the rows of a query that gives keys, times and labels, bound to a model's entity.
 *
 * Read through a cursor, in batches, so that a large training table passes
 * through a small memory.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "extension/key.h"
#include "extension/label_query_internal.h"
#include "extension/labelled.h"
#include "extension/moe_ml.h"
#include "extension/schema_sql.h"

#define BATCH      10000
#define MAX_SPLITS 64

typedef struct columns /* of the query, 0-based; -1: none */
{
    int *key;
    int time;
    int label;
    int split;
} columns;

typedef struct row_reader
{
    const moe_predictor *predictor;
    moe_labelled_kind kind;
    const char *split;
    TupleDesc descriptor;
    columns columns;
    moe_labelled *out;
    int64 capacity;
    MemoryContext result;
} row_reader;

/* The query's first column of this name that is not taken, or -1: a key may be called label or split, too. */
static int
column_named(TupleDesc descriptor, const bool *taken, const char *name)
{
    for (int i = 0; i < descriptor->natts; i++)
        if (!taken[i] && strcmp(NameStr(TupleDescAttr(descriptor, i)->attname), name) == 0)
            return i;
    return -1;
}

static Oid
column_type(TupleDesc descriptor, int column)
{
    return getBaseType(TupleDescAttr(descriptor, column)->atttypid);
}

/* Raise for a query without a column that is needed. */
static void
missing_column(const moe_schema *schema, const char *what)
{
    StringInfoData names;

    initStringInfo(&names);
    for (int i = 0; i < schema->n_key; i++)
        appendStringInfo(&names, "%s, ", quote_identifier(schema->tables[0].columns[schema->key[i]].name));
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("the query gives no %s", what),
                    errhint("Write it as SELECT %sas_of, label FROM ...", names.data)));
}

/* The only column that is not taken (and, for times, is one); -1 if there is none, -2 if there are several. */
static int
only_column(TupleDesc descriptor, const bool *taken, bool times)
{
    int found = -1;

    for (int i = 0; i < descriptor->natts; i++)
        if (!taken[i] && (!times || moe_time_convertible(column_type(descriptor, i), TIMESTAMPTZOID)))
            found = found == -1 ? i : -2;
    return found;
}

/* Raise unless labels of this type fit the task. */
static void
check_label_type(const row_reader *reader, Oid type)
{
    const moe_model_info *info = reader->predictor->info;
    bool number = type == INT2OID || type == INT4OID || type == INT8OID || type == FLOAT4OID || type == FLOAT8OID ||
                  type == NUMERICOID;

    if (reader->kind == MOE_LABELLED_PREDICTION || info->task == MOE_MULTICLASS)
        return;
    if (number || (info->task == MOE_BINARY && type == BOOLOID))
        return;
    ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                    errmsg("labels of type %s do not fit model \"%s\"", format_type_be(type),
                           get_rel_name(info->foreign_table)),
                    errhint(info->task == MOE_BINARY ? "Give boolean labels, or 0 and 1." : "Give numeric labels.")));
}

/* Find out which column is which. */
static void
find_columns(row_reader *reader)
{
    const moe_schema *schema = reader->predictor->schema;
    TupleDesc descriptor = reader->descriptor;
    columns *columns = &reader->columns;
    bool *taken = palloc0_array(bool, descriptor->natts + 1);

    columns->key = palloc_array(int, schema->n_key);
    for (int i = 0; i < schema->n_key; i++)
    {
        const char *name = schema->tables[0].columns[schema->key[i]].name;

        columns->key[i] = column_named(descriptor, taken, name);
        if (columns->key[i] < 0)
            missing_column(schema, psprintf("key column \"%s\"", name));
        taken[columns->key[i]] = true;
    }
    columns->time = column_named(descriptor, taken, "as_of");
    if (columns->time < 0)
        columns->time = only_column(descriptor, taken, true);
    if (columns->time < 0 || !moe_time_convertible(column_type(descriptor, columns->time), TIMESTAMPTZOID))
        missing_column(schema, columns->time == -2 ? "column as_of, and has several times" : "time to predict for");
    taken[columns->time] = true;
    columns->label = column_named(descriptor, taken, "label");
    columns->split = column_named(descriptor, taken, "split");
    if (columns->split >= 0 && (columns->label >= 0 || descriptor->natts > schema->n_key + 2))
        taken[columns->split] = true;
    else
        columns->split = -1;
    if (columns->label < 0)
        columns->label = only_column(descriptor, taken, false);
    if (columns->label == -2 || (columns->label < 0 && reader->kind != MOE_LABELLED_PREDICTION))
        missing_column(schema, columns->label == -2 ? "column label, and has several others" : "label");
    if (columns->label >= 0)
        check_label_type(reader, column_type(descriptor, columns->label));
}

/* The number of the class with this text; -1 where the model has none such. */
static int
class_number(const row_reader *reader, const char *text)
{
    const moe_model_info *info = reader->predictor->info;

    for (int c = 0; c < info->n_classes; c++)
        if (strcmp(info->classes[c], text) == 0)
            return c;
    if (reader->kind == MOE_LABELLED_OWN)
        return -1;
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("label \"%s\" is not a class of model \"%s\"", text, get_rel_name(info->foreign_table)),
                    errhint("Leave such rows out with a WHERE, or train the model on them: REFRESH MODEL.")));
}

/* Convert a label; false (and counted) if the row is to be left out. */
static bool
label_value(row_reader *reader, Datum value, bool null, Oid type, float *out)
{
    const moe_model_info *info = reader->predictor->info;
    double number;

    if (!null && info->task == MOE_MULTICLASS)
    {
        Oid output;
        bool varlena;

        getTypeOutputInfo(type, &output, &varlena);
        *out = class_number(reader, OidOutputFunctionCall(output, value));
        reader->out->unknown_classes += *out < 0;
        return *out >= 0;
    }
    number = null ? NAN : moe_number_of(type, value);
    if (!isfinite(number) || !isfinite((float) number))
    {
        reader->out->unlabelled++;
        return false;
    }
    if (info->task == MOE_BINARY && number != 0 && number != 1)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("label %g is neither 0 nor 1, as model \"%s\" predicts", number,
                               get_rel_name(info->foreign_table)),
                        errhint("Write the label as a condition, such as label > 0.")));
    *out = number;
    return true;
}

/* The number of a split's name. */
static int
split_number(row_reader *reader, const char *name)
{
    moe_labelled *out = reader->out;

    for (int i = 0; i < out->n_splits; i++)
        if (strcmp(out->splits[i], name) == 0)
            return i;
    if (out->n_splits == MAX_SPLITS)
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                 errmsg("column split has more than %d different values", MAX_SPLITS),
                 errhint("Name one split for each group of rows to evaluate, such as 'validation' and 'test'.")));
    out->splits[out->n_splits] = MemoryContextStrdup(reader->result, name);
    return out->n_splits++;
}

/* Make room for one more row. */
static void
grow(row_reader *reader)
{
    moe_labelled *out = reader->out;

    if (out->n < reader->capacity)
        return;
    reader->capacity *= 2;
    out->row = repalloc_huge(out->row, sizeof(*out->row) * reader->capacity);
    out->time = repalloc_huge(out->time, sizeof(*out->time) * reader->capacity);
    out->label = repalloc_huge(out->label, sizeof(*out->label) * reader->capacity);
    out->split = repalloc_huge(out->split, sizeof(*out->split) * reader->capacity);
    out->text = repalloc_huge(out->text, sizeof(*out->text) * reader->capacity);
}

/* The entity row of a result row, or -1. */
static int32
find_row(const row_reader *reader, HeapTuple tuple)
{
    int n = reader->predictor->schema->n_key;
    Datum *values = palloc_array(Datum, n);
    Oid *types = palloc_array(Oid, n);
    bool *nulls = palloc_array(bool, n);

    for (int i = 0; i < n; i++)
    {
        values[i] = SPI_getbinval(tuple, reader->descriptor, reader->columns.key[i] + 1, &nulls[i]);
        types[i] = column_type(reader->descriptor, reader->columns.key[i]);
    }
    return moe_key_find_values(reader->predictor, values, types, nulls);
}

/* Take one result row. */
static void
read_row(row_reader *reader, HeapTuple tuple)
{
    TupleDesc descriptor = reader->descriptor;
    const columns *columns = &reader->columns;
    moe_labelled *out = reader->out;
    int32 row = find_row(reader, tuple);
    char *split = columns->split < 0 ? (char *) reader->split : SPI_getvalue(tuple, descriptor, columns->split + 1);
    char *text = NULL;
    float label = 0;
    bool null;
    Datum time = SPI_getbinval(tuple, descriptor, columns->time + 1, &null);

    if (row < 0 || null || split == NULL)
    {
        out->unknown_keys++;
        return;
    }
    if (reader->kind == MOE_LABELLED_PREDICTION)
        text = columns->label < 0 ? NULL : SPI_getvalue(tuple, descriptor, columns->label + 1);
    else
    {
        Datum value = SPI_getbinval(tuple, descriptor, columns->label + 1, &null);

        if (!label_value(reader, value, null, column_type(descriptor, columns->label), &label))
            return;
    }
    grow(reader);
    out->row[out->n] = row;
    out->time[out->n] =
        moe_time_convert(time, column_type(descriptor, columns->time), reader->predictor->schema->time_type);
    out->label[out->n] = label;
    out->text[out->n] = text == NULL ? NULL : MemoryContextStrdup(reader->result, text);
    out->split[out->n] = split_number(reader, split);
    out->n++;
}

static moe_labelled *
make_labelled(row_reader *reader)
{
    moe_labelled *out = palloc0(sizeof(moe_labelled));

    reader->capacity = 1024;
    out->row = palloc(sizeof(*out->row) * reader->capacity);
    out->time = palloc(sizeof(*out->time) * reader->capacity);
    out->label = palloc(sizeof(*out->label) * reader->capacity);
    out->split = palloc(sizeof(*out->split) * reader->capacity);
    out->text = palloc(sizeof(*out->text) * reader->capacity);
    out->splits = palloc(sizeof(*out->splits) * MAX_SPLITS);
    return out;
}

typedef struct position
{
    int64 time;
    int32 row;
    int64 index;
} position;

static int
compare_positions(const void *a, const void *b)
{
    const position *x = a, *y = b;

    if (x->time != y->time)
        return x->time < y->time ? -1 : 1;
    if (x->row != y->row)
        return x->row < y->row ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

/* Permute an array of n items of a size. */
static void *
permuted(const void *items, size_t size, const position *order, int64 n)
{
    char *out = MemoryContextAllocHuge(CurrentMemoryContext, Max(n, 1) * size);

    for (int64 i = 0; i < n; i++)
        memcpy(out + i * size, (const char *) items + order[i].index * size, size);
    return out;
}

/* Put rows in order of time and entity, so that no sum depends on the order in which a plan gave them. */
static void
sort_rows(moe_labelled *out)
{
    position *order = MemoryContextAllocHuge(CurrentMemoryContext, Max(out->n, 1) * sizeof(position));

    for (int64 i = 0; i < out->n; i++)
        order[i] = (position){out->time[i], out->row[i], i};
    qsort(order, out->n, sizeof(position), compare_positions);
    out->row = permuted(out->row, sizeof(*out->row), order, out->n);
    out->time = permuted(out->time, sizeof(*out->time), order, out->n);
    out->label = permuted(out->label, sizeof(*out->label), order, out->n);
    out->text = permuted(out->text, sizeof(*out->text), order, out->n);
    out->split = permuted(out->split, sizeof(*out->split), order, out->n);
    pfree(order);
}

/*
 * A model's own training query as it may be run by others than its maker: a predictive query calls none of its maker's
 * functions. One of the maker's own words is theirs to answer for.
 */
static const char *
own_query(const moe_model_info *info, const char *query)
{
    moe_statement *statement = moe_statement_parse(info->definition, 0, (int) strlen(info->definition));
    moe_label_text text;

    if (statement->kind == MOE_CREATE_MODEL && statement->target == NULL)
        return query;
    moe_label_text_init(&text);
    appendStringInfoString(&text.sql, query);
    return moe_label_deparse(moe_label_text_check(&text, NULL, 0));
}

/* Read a query with the parameters that moe_labelled_history gives, or none. */
static moe_labelled *
read_query(const moe_predictor *predictor, const char *query, moe_labelled_kind kind, const char *split, int n_values,
           Datum *values)
{
    Oid types[3 + INDEX_MAX_KEYS] = {predictor->schema->time_type, INT4OID, INT4OID};
    row_reader reader = {.predictor = predictor, .kind = kind, .split = split, .result = CurrentMemoryContext};
    MemoryContext batch, old;
    moe_read_only scope;
    SPIPlanPtr plan;
    Portal portal;
    int level = 0;

    moe_key_types(predictor->schema, types + 3);
    moe_read_only_begin(&scope);
    reader.out = make_labelled(&reader);
    if (kind == MOE_LABELLED_OWN)
    {
        level = moe_sql_begin_model(predictor->info->search_path);
        if (n_values == 0)
            query = own_query(predictor->info, query);
    }
    SPI_connect();
    plan = SPI_prepare(query, n_values, types);
    if (plan == NULL)
        elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
    if (!SPI_is_cursor_plan(plan))
        ereport(ERROR, (errcode(ERRCODE_INVALID_CURSOR_DEFINITION), errmsg("not one query that returns rows"),
                        errhint("Give a single SELECT.")));
    portal = SPI_cursor_open(NULL, plan, values, NULL, true);
    reader.descriptor = portal->tupDesc;
    find_columns(&reader);
    batch = AllocSetContextCreate(CurrentMemoryContext, "moe_ml labelled rows", ALLOCSET_DEFAULT_SIZES);
    for (;;)
    {
        SPI_cursor_fetch(portal, true, BATCH);
        if (SPI_processed == 0)
            break;
        old = MemoryContextSwitchTo(batch);
        for (uint64 i = 0; i < SPI_processed; i++)
            read_row(&reader, SPI_tuptable->vals[i]);
        MemoryContextSwitchTo(old);
        MemoryContextReset(batch);
        SPI_freetuptable(SPI_tuptable);
        CHECK_FOR_INTERRUPTS();
    }
    SPI_cursor_close(portal);
    SPI_finish();
    if (kind == MOE_LABELLED_OWN)
        moe_sql_end(level);
    moe_read_only_end(&scope);
    sort_rows(reader.out);
    return reader.out;
}

moe_labelled *
moe_labelled_read(const moe_predictor *predictor, const char *query, moe_labelled_kind kind, const char *split)
{
    return read_query(predictor, query, kind, split, 0, NULL);
}

moe_labelled *
moe_labelled_history(const moe_predictor *predictor, const Datum *key, int64 anchor, int first, int last)
{
    Datum values[3 + INDEX_MAX_KEYS] = {TimestampGetDatum(anchor), Int32GetDatum(first), Int32GetDatum(last)};
    int n = 3;
    char *query = moe_key_restrict(predictor->schema, key, predictor->info->history_query, values, &n);

    return read_query(predictor, query, MOE_LABELLED_OWN, "past", n, values);
}

void
moe_labelled_report(const moe_labelled *labelled)
{
    int64 left_out = labelled->unknown_keys + labelled->unlabelled + labelled->unknown_classes;

    if (left_out > 0)
        moe_notice("left out " INT64_FORMAT " rows: " INT64_FORMAT " without a known key or time, " INT64_FORMAT
                   " without a label, " INT64_FORMAT " of a class the model does not know",
                   left_out, labelled->unknown_keys, labelled->unlabelled, labelled->unknown_classes);
}
