/*
 * model_labels.c: labelled seeds from the training query.
 *
 * The query's rows are (key columns, as_of, label, split) in any order; they
 * become (entity row, time, number) sorted by time, row and label, so that
 * what is trained on does not depend on how PostgreSQL ran the query.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "common/int.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rls.h"
#include "utils/timestamp.h"

#include "extension/model_labels.h"
#include "extension/moe_ml.h"

#define FETCH_ROWS 4096
#define N_SPLITS   3 /* train, validation, test */

typedef struct label_row
{
    int64 time;
    double value; /* MULTICLASS: number of the class */
    int32 row;
    int32 split;
} label_row;

typedef struct class_name
{
    char *text;
    int id; /* in order of appearance */
} class_name;

typedef struct collector
{
    const moe_label_query *query;
    const moe_data *data;
    MemoryContext context; /* of what is kept */
    moe_task_type task;
    Oid label_type;
    Oid label_output; /* MULTICLASS: output function */
    label_row *rows;
    int64 n, capacity;
    class_name classes[MOE_MAX_CLASSES]; /* in byte order */
    int n_classes;
    int64 total, unlabelled, timeless, dangling, invisible, not_finite, not_binary;
    char *dangling_key; /* an example */
} collector;

static int
split_number(const char *name)
{
    if (strcmp(name, "train") == 0)
        return 0;
    if (strcmp(name, "validation") == 0)
        return 1;
    if (strcmp(name, "test") == 0)
        return 2;
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the split of a labelled row is \"%s\"", name),
                    errhint("A split is one of train, validation, test.")));
    return -1;
}

/* The number of a class, entered on first sight. */
static int
class_id(collector *c, const char *text)
{
    int low = 0;
    int high = c->n_classes;

    while (low < high)
    {
        int middle = (low + high) / 2;
        int order = strcmp(c->classes[middle].text, text);

        if (order == 0)
            return c->classes[middle].id;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (c->n_classes == MOE_MAX_CLASSES)
        ereport(ERROR,
                (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("the label has more than %d classes", MOE_MAX_CLASSES),
                 errhint("Predict a number WITH (task = 'regression'), or map rare values to one class.")));
    memmove(&c->classes[low + 1], &c->classes[low], sizeof(class_name) * (c->n_classes - low));
    c->classes[low].text = MemoryContextStrdup(c->context, text);
    c->classes[low].id = c->n_classes++;
    return c->classes[low].id;
}

static bool
is_number(Oid type)
{
    return type == BOOLOID || type == INT2OID || type == INT4OID || type == INT8OID || type == FLOAT4OID ||
           type == FLOAT8OID || type == NUMERICOID;
}

/* The label as a number; false if the row cannot be used (and is counted). */
static bool
read_label(collector *c, Datum datum, double *value)
{
    if (c->task == MOE_MULTICLASS)
    {
        *value = class_id(c, OidOutputFunctionCall(c->label_output, datum));
        return true;
    }
    *value = moe_number_of(c->label_type, datum);
    if (!isfinite(*value) || !isfinite((float) *value))
    {
        c->not_finite++;
        return false;
    }
    if (c->task == MOE_BINARY && !c->query->task_from_values && *value != 0 && *value != 1)
        c->not_binary++;
    return true;
}

static void
append_row(collector *c, int32 row, int64 time, double value, int split)
{
    label_row *out;

    if (c->n == c->capacity)
    {
        c->capacity = Max(c->capacity * 2, 4096);
        c->rows = c->rows ? repalloc_huge(c->rows, c->capacity * sizeof(label_row))
                          : MemoryContextAllocHuge(c->context, c->capacity * sizeof(label_row));
    }
    out = &c->rows[c->n++];
    out->row = row;
    out->time = time;
    out->value = value;
    out->split = split;
}

/* The entity row of the tuple's key, or -1 (and counted). */
static int32
find_entity(collector *c, HeapTuple tuple, TupleDesc desc)
{
    const moe_schema *schema = c->data->schema;
    Datum key[INDEX_MAX_KEYS];
    bool nulls[INDEX_MAX_KEYS];
    int32 row;

    for (int i = 0; i < schema->n_key; i++)
        key[i] = SPI_getbinval(tuple, desc, i + 1, &nulls[i]);
    row = moe_data_find(c->data, key, nulls);
    if (row < 0 && c->dangling++ == 0)
    {
        char *text = SPI_getvalue(tuple, desc, 1);

        c->dangling_key = MemoryContextStrdup(c->context, text ? text : "NULL");
    }
    return row;
}

static void
collect_row(collector *c, HeapTuple tuple, TupleDesc desc)
{
    int n_key = c->data->schema->n_key;
    const int64 *entity_time = c->data->graph_tables[0].time;
    bool no_time, no_label;
    Datum time = SPI_getbinval(tuple, desc, n_key + 1, &no_time);
    Datum label = SPI_getbinval(tuple, desc, n_key + 2, &no_label);
    char *split = SPI_getvalue(tuple, desc, n_key + 3);
    double value;
    int32 row;

    c->total++;
    if (no_label)
    {
        c->unlabelled++;
        return;
    }
    if (no_time || split == NULL)
    {
        c->timeless++;
        return;
    }
    if (TIMESTAMP_NOT_FINITE(DatumGetTimestamp(time)))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a labelled row has an infinite seed time"),
                        errhint("Leave such rows out of the label query.")));
    row = find_entity(c, tuple, desc);
    if (row < 0 || !read_label(c, label, &value))
        return;
    if (entity_time != NULL && entity_time[row] > DatumGetTimestamp(time))
        c->invisible++;
    else
        append_row(c, row, DatumGetTimestamp(time), value, split_number(split));
}

/* The query's columns must be what label_query.h says. */
static void
check_columns(collector *c, TupleDesc desc)
{
    const moe_schema *schema = c->data->schema;
    bool varlena;

    if (desc->natts != schema->n_key + 3)
        elog(ERROR, "training query has %d columns, expected %d", desc->natts, schema->n_key + 3);
    for (int i = 0; i < schema->n_key; i++)
    {
        const moe_schema_column *key = &schema->tables[0].columns[schema->key[i]];

        if (getBaseType(SPI_gettypeid(desc, i + 1)) != key->type)
            ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                            errmsg("key column \"%s\" of the labels has type %s, but %s in table \"%s\"", key->name,
                                   format_type_be(SPI_gettypeid(desc, i + 1)), format_type_be(key->type),
                                   schema->tables[0].name),
                            errhint("Cast the column in the label query.")));
    }
    if (getBaseType(SPI_gettypeid(desc, schema->n_key + 1)) != schema->time_type)
        elog(ERROR, "training query has as_of of type %u, expected %u", SPI_gettypeid(desc, schema->n_key + 1),
             schema->time_type);
    c->label_type = getBaseType(SPI_gettypeid(desc, schema->n_key + 2));
    if (c->task == MOE_MULTICLASS)
        getTypeOutputInfo(c->label_type, &c->label_output, &varlena);
    else if (!is_number(c->label_type))
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                        errmsg("a label of type %s does not fit a %s task", format_type_be(c->label_type),
                               c->task == MOE_BINARY ? "binary" : "regression"),
                        errhint("Cast the label to boolean or a number, or say WITH (task = 'multiclass').")));
}

static void
collect(collector *c)
{
    MemoryContext batch = AllocSetContextCreate(CurrentMemoryContext, "moe_ml labels", ALLOCSET_DEFAULT_SIZES);
    SPIPlanPtr plan;
    Portal portal;

    SPI_connect();
    plan = SPI_prepare(c->query->sql, 0, NULL);
    if (plan == NULL)
        elog(ERROR, "could not prepare the training query: %s", SPI_result_code_string(SPI_result));
    portal = SPI_cursor_open(NULL, plan, NULL, NULL, true);
    check_columns(c, portal->tupDesc);
    for (;;)
    {
        MemoryContext old;

        SPI_cursor_fetch(portal, true, FETCH_ROWS);
        if (SPI_processed == 0)
            break;
        CHECK_FOR_INTERRUPTS();
        old = MemoryContextSwitchTo(batch);
        for (uint64 i = 0; i < SPI_processed; i++)
            collect_row(c, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
        MemoryContextSwitchTo(old);
        MemoryContextReset(batch);
        SPI_freetuptable(SPI_tuptable);
    }
    SPI_cursor_close(portal);
    SPI_finish();
    MemoryContextDelete(batch);
}

static int
compare_rows(const void *a, const void *b)
{
    const label_row *x = a;
    const label_row *y = b;

    if (x->split != y->split)
        return x->split < y->split ? -1 : 1;
    if (x->time != y->time)
        return x->time < y->time ? -1 : 1;
    if (x->row != y->row)
        return x->row < y->row ? -1 : 1;
    return x->value < y->value ? -1 : x->value > y->value;
}

/* What was read but cannot be used: errors first, then notices. */
static void
report_unusable(const collector *c)
{
    const char *entity = c->data->schema->tables[0].name;

    if (c->not_finite > 0)
        ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
                        errmsg(INT64_FORMAT " of " INT64_FORMAT " labels are infinite, NaN or beyond 3.4e38",
                               c->not_finite, c->total),
                        errhint("Leave such rows out with a condition (WHERE or ASSUMING) or in the label query.")));
    if (c->not_binary > 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg(INT64_FORMAT " of " INT64_FORMAT " labels of a binary task are neither 0 nor 1",
                               c->not_binary, c->total),
                        errhint("Compare in the target (as in sum(...) > 0), or say WITH (task = 'regression').")));
    if (c->dangling > 0 && c->n == 0 && c->dangling == c->total - c->unlabelled - c->timeless)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("no key of the labels exists in table \"%s\"", entity),
                        errdetail("One of them is %s.", c->dangling_key),
                        errhint("Let the label query return the key of table \"%s\".", entity)));
    if (c->dangling > 0)
        moe_notice("left out " INT64_FORMAT " labelled rows whose key (such as %s) is not in table \"%s\"", c->dangling,
                   c->dangling_key, entity);
    if (c->invisible > 0)
        moe_notice("left out " INT64_FORMAT " labelled rows whose row of table \"%s\" is newer than the seed time",
                   c->invisible, entity);
    if (c->unlabelled > 0 && c->query->task_from_values)
        moe_notice("left out " INT64_FORMAT " rows whose label is null", c->unlabelled);
    if (c->timeless > 0)
        moe_notice("left out " INT64_FORMAT " labelled rows without a seed time or a split", c->timeless);
}

/* An integer label of zeros and ones is a binary task, any other a regression. */
static void
settle_task(collector *c)
{
    if (!c->query->task_from_values)
        return;
    c->task = MOE_BINARY;
    for (int64 i = 0; i < c->n; i++)
    {
        if (c->rows[i].value != 0 && c->rows[i].value != 1)
            c->task = MOE_REGRESSION;
    }
}

/* Number the classes that training rows have in byte order; rows of other classes are dropped. */
static void
number_classes(collector *c, moe_labels *labels)
{
    bool *seen = palloc0(sizeof(bool) * Max(c->n_classes, 1));
    int *number = palloc(sizeof(int) * Max(c->n_classes, 1));
    int64 kept = 0;

    for (int64 i = 0; i < c->n; i++)
    {
        if (c->rows[i].split == 0)
            seen[(int) c->rows[i].value] = true;
    }
    labels->classes = palloc(sizeof(char *) * Max(c->n_classes, 1));
    labels->n_classes = 0;
    for (int i = 0; i < c->n_classes; i++)
    {
        int id = c->classes[i].id;

        number[id] = seen[id] ? labels->n_classes : -1;
        if (seen[id])
            labels->classes[labels->n_classes++] = c->classes[i].text;
    }
    for (int64 i = 0; i < c->n; i++)
    {
        int id = (int) c->rows[i].value;

        if (number[id] < 0)
            continue;
        c->rows[kept] = c->rows[i];
        c->rows[kept++].value = number[id];
    }
    if (kept < c->n)
        moe_notice("left out " INT64_FORMAT " labelled rows of %d classes that no training row has", c->n - kept,
                   c->n_classes - labels->n_classes);
    c->n = kept;
}

static moe_samples
samples_of(const label_row *rows, int64 n)
{
    int32 *row = MemoryContextAllocHuge(CurrentMemoryContext, Max(n, 1) * sizeof(int32));
    int64 *time = MemoryContextAllocHuge(CurrentMemoryContext, Max(n, 1) * sizeof(int64));
    float *label = MemoryContextAllocHuge(CurrentMemoryContext, Max(n, 1) * sizeof(float));
    moe_samples samples = {n, row, time, label};

    for (int64 i = 0; i < n; i++)
    {
        row[i] = rows[i].row;
        time[i] = rows[i].time;
        label[i] = (float) rows[i].value;
    }
    return samples;
}

static bool
one_class(const moe_samples *samples)
{
    for (int64 i = 1; i < samples->n; i++)
    {
        if (samples->label[i] != samples->label[0])
            return false;
    }
    return true;
}

/* Raise for an entity table without a row that its user sees. */
static void
check_entity(const collector *c)
{
    const moe_schema_table *entity = &c->data->schema->tables[0];

    if (c->data->graph_tables[0].n_rows > 0)
        return;
    ereport(ERROR,
            (errcode(ERRCODE_NO_DATA_FOUND), errmsg("table \"%s\" has no rows", entity->name),
             check_enable_rls(entity->relid, InvalidOid, true) == RLS_ENABLED
                 ? errhint("Row-level security hides rows from \"%s\": ask the owner for a policy that shows them.",
                           GetUserNameFromId(GetUserId(), false))
                 : errhint("Load the table first.")));
}

static void
append_count(StringInfo text, int64 n, const char *what)
{
    if (n > 0)
        appendStringInfo(text, ", " INT64_FORMAT " %s", n, what);
}

/* Raise for a training without a row, saying what the rows there were lack. */
static void
no_training_labels(const collector *c, const moe_labels *labels)
{
    const char *entity = c->data->schema->tables[0].name;
    StringInfoData detail;

    initStringInfo(&detail);
    appendStringInfo(&detail, "The training query gave " INT64_FORMAT " %s", c->total, c->total == 1 ? "row" : "rows");
    append_count(&detail, c->unlabelled, "without a label");
    append_count(&detail, c->timeless, "without a time or a split");
    append_count(&detail, c->dangling, psprintf("whose key is not in table \"%s\"", entity));
    append_count(&detail, c->invisible, psprintf("whose row of table \"%s\" is newer", entity));
    append_count(&detail, labels->rows[1], "for validation");
    append_count(&detail, labels->rows[2], "for the test");
    ereport(ERROR,
            (errcode(ERRCODE_NO_DATA_FOUND), errmsg("there are no training labels"), errdetail("%s.", detail.data),
             c->query->is_static    ? errhint("The target must have values in more rows of table \"%s\".", entity)
             : c->query->window > 0 ? errhint("Widen the target's window, loosen WHERE or ASSUMING, or set "
                                              "validation_from and test_from later.")
                                    : errhint("Let the label query return more rows, or set validation_from and "
                                              "test_from later.")));
}

static void
check_training_labels(const collector *c, moe_labels *labels)
{
    if (labels->train.n == 0)
        no_training_labels(c, labels);
    if (labels->task != MOE_REGRESSION && one_class(&labels->train))
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                 errmsg("all " INT64_FORMAT " training labels are the same: %s", labels->train.n,
                        labels->task == MOE_MULTICLASS ? labels->classes[0]
                        : labels->train.label[0]       ? "true"
                                                       : "false"),
                 errhint("Change the target so that both outcomes occur; moe_ml.notices tells the rows per split.")));
    if (labels->validation.n == 0)
        moe_notice("there are no validation labels: all epochs are run, and the last one is kept");
    else if (labels->task == MOE_BINARY && one_class(&labels->validation))
    {
        moe_notice("the validation labels are of one class only: all epochs are run, and the last one is kept");
        labels->validation.n = 0;
    }
}

static int
compare_doubles(const void *a, const void *b)
{
    double x = *(const double *) a;
    double y = *(const double *) b;

    return x < y ? -1 : x > y;
}

static double
quantile(const double *sorted, int64 n, double q)
{
    double at = q * (double) (n - 1);
    int64 below = (int64) at;
    double part = at - (double) below;

    return below + 1 < n ? sorted[below] + part * (sorted[below + 1] - sorted[below]) : sorted[n - 1];
}

/*
 * Shift by the median and scale by the mean distance from it, so that the
 * absolute error of the best constant is 1; clamp to the 2nd and 98th percentile.
 */
static void
measure_regression(moe_labels *labels)
{
    int64 n = labels->train.n;
    double *sorted = MemoryContextAllocHuge(CurrentMemoryContext, n * sizeof(double));
    double distance = 0;

    for (int64 i = 0; i < n; i++)
        sorted[i] = labels->train.label[i];
    qsort(sorted, n, sizeof(double), compare_doubles);
    labels->shift = quantile(sorted, n, 0.5);
    labels->low = quantile(sorted, n, 0);
    labels->high = quantile(sorted, n, 1);
    for (int64 i = 0; i < n; i++)
        distance += fabs(sorted[i] - labels->shift) / (double) n;
    labels->scale = distance > 0 ? distance : 1;
    pfree(sorted);
}

static int
compare_times(const void *a, const void *b)
{
    int64 x = *(const int64 *) a;
    int64 y = *(const int64 *) b;

    return x < y ? -1 : x > y;
}

/* The smallest distance between seed times, over all splits. */
static int64
smallest_gap(const collector *c)
{
    int64 *times = MemoryContextAllocHuge(CurrentMemoryContext, Max(c->n, 1) * sizeof(int64));
    int64 gap = 0;

    for (int64 i = 0; i < c->n; i++)
        times[i] = c->rows[i].time;
    qsort(times, c->n, sizeof(int64), compare_times);
    for (int64 i = 1; i < c->n; i++)
    {
        int64 step;

        if (times[i] != times[i - 1] && !pg_sub_s64_overflow(times[i], times[i - 1], &step) && (gap == 0 || step < gap))
            gap = step;
    }
    pfree(times);
    return gap;
}

static void
split_rows(collector *c, moe_labels *labels)
{
    int64 at = 0;

    qsort(c->rows, c->n, sizeof(label_row), compare_rows);
    for (int split = 0; split < N_SPLITS; split++)
    {
        int64 begin = at;

        while (at < c->n && c->rows[at].split == split)
            at++;
        labels->rows[split] = at - begin;
        if (split == 0)
            labels->train = samples_of(c->rows + begin, at - begin);
        else if (split == 1)
            labels->validation = samples_of(c->rows + begin, at - begin);
    }
}

moe_labels *
moe_labels_read(const moe_label_query *query, const moe_data *data)
{
    moe_labels *labels = palloc0(sizeof(moe_labels));
    collector *c = palloc0(sizeof(collector));

    c->query = query;
    c->data = data;
    c->context = CurrentMemoryContext;
    c->task = query->task_from_values ? MOE_BINARY : query->task;
    collect(c);
    check_entity(c);
    report_unusable(c);
    settle_task(c);
    labels->task = c->task;
    labels->label_type = c->label_type;
    labels->n_classes = 1;
    if (c->task == MOE_MULTICLASS)
        number_classes(c, labels);
    labels->window = query->window > 0 || query->is_static ? query->window : smallest_gap(c);
    split_rows(c, labels);
    check_training_labels(c, labels);
    labels->last_train_time = labels->train.time[labels->train.n - 1];
    if (labels->task == MOE_REGRESSION)
        measure_regression(labels);
    if (c->rows)
        pfree(c->rows);
    return labels;
}
