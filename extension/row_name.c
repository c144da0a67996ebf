/*
 * row_name.c: a row's name for people, from its key and its time.
 *
 * Keys that nothing points at are no inputs, so that they are not read with the
 * rest. They are read when a row is first to be named, the whole table's, in the
 * same order.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "extension/key_index.h"
#include "extension/model_predictor_internal.h"
#include "extension/moe_ml.h"
#include "extension/row_name.h"
#include "extension/schema_sql.h"
#include "extension/subject.h"

typedef struct moe_row_names
{
    bool read;
    bool key; /* the columns are the primary key */
    int n;
    int *column; /* [n] of the schema's table */
    moe_key_column **values;
} moe_row_names;

/* May the user read these columns? */
static bool
are_readable(const moe_schema_table *table, int n, const int *columns)
{
    if (pg_class_aclcheck(table->relid, GetUserId(), ACL_SELECT) == ACLCHECK_OK)
        return true;
    for (int i = 0; i < n; i++)
        if (pg_attribute_aclcheck(table->relid, table->columns[columns[i]].attnum, GetUserId(), ACL_SELECT) !=
            ACLCHECK_OK)
            return false;
    return true;
}

/* The columns of all foreign keys of a table, once each. */
static void
find_foreign_keys(const moe_schema *schema, int t, moe_row_names *names)
{
    bool *is_key = palloc0_array(bool, schema->tables[t].n_columns + 1);

    for (int e = 0; e < schema->n_edges; e++)
        for (int i = 0; schema->edges[e].child == t && i < schema->edges[e].n_columns; i++)
            is_key[schema->edges[e].child_columns[i]] = true;
    names->column = palloc_array(int, schema->tables[t].n_columns + 1);
    for (int c = 0; c < schema->tables[t].n_columns; c++)
        if (is_key[c])
            names->column[names->n++] = c;
    pfree(is_key);
}

static void
read_names(const moe_predictor *predictor, int t, moe_row_names *names)
{
    const moe_schema *schema = predictor->schema;
    const moe_schema_table *table = &schema->tables[t];
    int n_key = t == 0 ? schema->n_key : table->n_key;
    int *key = t == 0 ? schema->key : table->key;

    names->n = 0;
    names->key = n_key > 0 && are_readable(table, n_key, key);
    if (names->key)
    {
        names->n = n_key;
        names->column = key;
    }
    else
        find_foreign_keys(schema, t, names);
    if (names->n > 0)
        names->values = moe_data_read_columns(predictor->data, t, names->n, names->column);
    names->read = true;
}

/* A key's value as text, NULL for NULL. */
static char *
value_text(const moe_predictor *predictor, int t, const moe_row_names *names, int i, int32 row)
{
    Oid type = predictor->schema->tables[t].columns[names->column[i]].type;
    Oid function;
    bool varlena, null;
    Datum value = moe_key_column_get(names->values[i], row, &null);

    if (null)
        return NULL;
    getTypeOutputInfo(type, &function, &varlena);
    return OidOutputFunctionCall(function, value);
}

/* " 4711", " (4711,2)" or " of customer_id 7, page_id 3". */
static void
append_key(StringInfo out, const moe_predictor *predictor, int t, const moe_row_names *names, int32 row)
{
    int n = 0;

    for (int i = 0; i < names->n; i++)
    {
        const char *column = predictor->schema->tables[t].columns[names->column[i]].name;
        const char *text = value_text(predictor, t, names, i, row);

        if (names->key)
            appendStringInfo(out, "%s%s", i > 0 ? "," : names->n > 1 ? " (" : " ", text != NULL ? text : "");
        else if (text != NULL)
            appendStringInfo(out, "%s%s %s", n++ > 0 ? ", " : " of ", quote_identifier(column), text);
    }
    if (names->key && names->n > 1)
        appendStringInfoChar(out, ')');
}

/* " (2024-03-02)" beside a key, else with the time of day. */
static void
append_time(StringInfo out, const moe_predictor *predictor, int t, bool day, int32 row)
{
    const int64 *time = predictor->data->graph_tables[t].time;
    Datum utc;

    if (time == NULL || time[row] == MOE_TIME_ALWAYS)
        return;
    utc = TimestampGetDatum(time[row]);
    appendStringInfo(out, " (%s)",
                     day ? DatumGetCString(DirectFunctionCall1(date_out, DirectFunctionCall1(timestamp_date, utc)))
                         : DatumGetCString(DirectFunctionCall1(timestamp_out, utc)));
}

char *
moe_row_name(moe_predictor *predictor, int table, int32 row)
{
    struct moe_predictor_parts *parts = predictor->parts;
    StringInfoData out;
    int level;

    if (parts->names == NULL || !parts->names[table].read)
    {
        MemoryContext old = MemoryContextSwitchTo(parts->rows);

        if (parts->names == NULL)
            parts->names = palloc0_array(moe_row_names, predictor->data->n_tables);
        read_names(predictor, table, &parts->names[table]);
        MemoryContextSwitchTo(old);
    }
    initStringInfo(&out);
    appendStringInfoString(&out, moe_subject_table(predictor->schema, table));
    level = moe_sql_begin(); /* whatever the session's DateStyle and TimeZone */
    append_key(&out, predictor, table, &parts->names[table], row);
    append_time(&out, predictor, table, parts->names[table].key, row);
    moe_sql_end(level);
    return out.data;
}
