/*
 * label_query_user.c: labels from a query of the user's own.
 *
 *   PREDICT label FOR EACH table AT time AS SELECT key, time, label ...
 *
 * The query stays as written, as a subquery; around it stand the key columns,
 * the time on the model's axis, and the split. Without options the split goes
 * by time: of the distinct seed times the last fifth, half of it validation
 * and half test. With one seed time keys are drawn by their hash.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "extension/label_query_internal.h"
#include "extension/moe_ml.h"

/* The user's query, analysed by itself: errors are shown where they stand in the statement. */
static Query *
check_query(const moe_label_context *context)
{
    const moe_statement *statement = context->statement;
    moe_label_text text;
    Query *query;

    moe_label_text_init(&text);
    moe_label_text_mark(&text, statement->label_query_location, true);
    appendStringInfoString(&text.sql, statement->label_query);
    query = moe_label_text_check(&text, NULL, 0);
    if (query->commandType != CMD_SELECT || query->utilityStmt || query->hasModifyingCTE || query->rowMarks != NIL)
        ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("the labels must come from a query that only reads"),
                        errhint("Write a SELECT after AS."), moe_statement_position(statement->label_query_location)));
    return query;
}

/* The names of the query's columns, for hints. */
static char *
list_columns(const Query *query)
{
    StringInfoData names;
    ListCell *cell;

    initStringInfo(&names);
    foreach (cell, query->targetList)
    {
        const TargetEntry *entry = lfirst(cell);

        if (!entry->resjunk)
            appendStringInfo(&names, "%s%s", names.len ? ", " : "", entry->resname);
    }
    return names.data;
}

/* The type of the query's column of that name; raises, saying what it is for, where there is none. */
static Oid
column_type(const moe_label_context *context, const Query *query, const char *name, const char *purpose)
{
    ListCell *cell;
    Oid type = InvalidOid;

    foreach (cell, query->targetList)
    {
        const TargetEntry *entry = lfirst(cell);

        if (entry->resjunk || strcmp(entry->resname, name) != 0)
            continue;
        if (OidIsValid(type))
            ereport(ERROR,
                    (errcode(ERRCODE_AMBIGUOUS_COLUMN), errmsg("the query has more than one column \"%s\"", name),
                     errhint("Give them different names with AS."),
                     moe_statement_position(context->statement->label_query_location)));
        type = exprType((Node *) entry->expr);
    }
    if (!OidIsValid(type))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
                        errmsg("the query has no column \"%s\", which is %s", name, purpose),
                        errdetail("Its columns are: %s.", list_columns(query)),
                        errhint("Name one of them so: SELECT ... AS %s.", quote_identifier(name)),
                        moe_statement_position(context->statement->label_query_location)));
    return type;
}

/* q.time on the model's axis: without a zone it counts as UTC. */
static char *
time_expression(const moe_label_context *context, const Query *query)
{
    const char *name = context->statement->label_time;
    Oid type = getBaseType(column_type(context, query, name, "the time of the label"));
    char *column = psprintf("q.%s", quote_identifier(name));
    bool zoned = context->schema->time_type == TIMESTAMPTZOID;

    switch (type)
    {
        case TIMESTAMPTZOID:
            return zoned ? column : psprintf("%s AT TIME ZONE 'UTC'", column);
        case TIMESTAMPOID:
            return zoned ? psprintf("%s AT TIME ZONE 'UTC'", column) : column;
        case DATEOID:
            column = psprintf("CAST(%s AS pg_catalog.timestamp)", column);
            return zoned ? psprintf("%s AT TIME ZONE 'UTC'", column) : column;
        default:
            ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                            errmsg("the label's time \"%s\" is of type %s", name, format_type_be(type)),
                            errhint("It must be a date or a timestamp: cast it in the query."),
                            moe_statement_position(context->statement->label_query_location)));
    }
    return NULL;
}

/* The entity's key columns, cast to the types they have in the entity table. */
static char *
key_list(const moe_label_context *context, const Query *query)
{
    const moe_schema *schema = context->schema;
    StringInfoData list;

    initStringInfo(&list);
    for (int i = 0; i < schema->n_key; i++)
    {
        const moe_schema_column *key = &context->entity->columns[schema->key[i]];
        Oid type = column_type(context, query, key->name, psprintf("a key column of \"%s\"", context->entity->name));
        const char *name = quote_identifier(key->name);

        if (getBaseType(type) == key->type)
            appendStringInfo(&list, "q.%s, ", name);
        else
            appendStringInfo(&list, "CAST(q.%s AS %s) AS %s, ", name, format_type_be_qualified(key->type), name);
    }
    return list.data;
}

/* CASE over the user's own words for the blocks; any other word passes, for the reader to complain about by name. */
static char *
split_by_column(const moe_label_context *context, const Query *query)
{
    const char *name = context->options->split_column;
    char *column;

    column_type(context, query, name, "named by split_column");
    column = psprintf("CAST(q.%s AS pg_catalog.text)", quote_identifier(name));
    return psprintf("CASE pg_catalog.lower(%s)"
                    "\n           WHEN 'training' THEN 'train'"
                    "\n           WHEN 'val' THEN 'validation'"
                    "\n           WHEN 'valid' THEN 'validation'"
                    "\n           ELSE pg_catalog.lower(%s)"
                    "\n       END",
                    column, column);
}

static char *
split_by_hash(const moe_label_context *context)
{
    return psprintf("CASE %s WHEN 8 THEN 'validation' WHEN 9 THEN 'test' ELSE 'train' END",
                    moe_label_hash_bucket(context, "q"));
}

/* CASE over the two moments; a block whose moment is DT_NOEND is left out. */
static char *
split_by_time(const moe_label_context *context, const moe_label_query *query, const char *time)
{
    const moe_schema *schema = context->schema;
    StringInfoData split;

    initStringInfo(&split);
    appendStringInfoString(&split, "CASE");
    if (query->test_from != DT_NOEND)
        appendStringInfo(&split, "\n           WHEN %s >= %s THEN 'test'", time,
                         moe_label_time_literal(schema, query->test_from));
    if (query->validation_from != DT_NOEND)
        appendStringInfo(&split, "\n           WHEN %s >= %s THEN 'validation'", time,
                         moe_label_time_literal(schema, query->validation_from));
    appendStringInfoString(&split, "\n           ELSE 'train'\n       END");
    return split.data;
}

/* First index of sorted times that is not before a moment. */
static int64
index_of(const int64 *times, int64 n, int64 moment)
{
    int64 i = 0;

    while (i < n && times[i] < moment)
        i++;
    return i;
}

/*
 * Choose the moments the user did not give from the distinct seed times.
 * Returns false where time cannot tell the blocks apart: then keys do.
 */
static bool
choose_moments(const moe_label_context *context, moe_label_query *query, const char *time)
{
    const moe_label_options *options = context->options;
    const moe_statement *statement = context->statement;
    int64 *times;
    int64 n;
    int64 held;
    int64 validation;
    int64 test;

    query->validation_from = options->has_validation_from ? options->validation_from : DT_NOEND;
    query->test_from = options->has_test_from ? options->test_from : DT_NOEND;
    if (options->has_validation_from && options->has_test_from)
        return true;

    n = moe_label_times(psprintf("SELECT DISTINCT %s FROM (\n%s\n) AS q WHERE q.%s IS NOT NULL ORDER BY 1", time,
                                 statement->label_query, quote_identifier(statement->label)),
                        &times);
    if (n == 0)
        ereport(
            ERROR,
            (errcode(ERRCODE_NO_DATA_FOUND), errmsg("the query returns no labels"),
             errhint("Run it alone: it must return rows whose \"%s\" is not NULL and whose \"%s\" is a finite time.",
                     statement->label, statement->label_time)));
    if (!options->has_validation_from && !options->has_test_from && n < 3)
        return false;

    held = Max(2, n / 5);
    test = options->has_test_from ? index_of(times, n, options->test_from) : n - held / 2;
    if (options->has_validation_from)
    {
        /* The later half of what follows is test. */
        validation = index_of(times, n, options->validation_from);
        test = validation + (n - validation + 1) / 2;
    }
    else
        validation = options->has_test_from ? test - Max(1, test / 10) : n - held;
    if (validation < 1 || validation >= test || test >= n)
        ereport(ERROR, (errcode(ERRCODE_NO_DATA_FOUND),
                        errmsg("too little data: training, validation and test need a seed time each"),
                        errdetail("The query has " INT64_FORMAT " different times.", n),
                        errhint("Set validation_from and test_from between them, or give split_column.")));
    query->validation_from = options->has_validation_from ? options->validation_from : times[validation];
    query->test_from = options->has_test_from ? options->test_from : times[test];
    return true;
}

static char *
split_expression(const moe_label_context *context, const Query *checked, moe_label_query *query, const char *time)
{
    query->validation_from = DT_NOEND;
    query->test_from = DT_NOEND;
    if (context->options->split_column)
        return split_by_column(context, checked);
    if (!choose_moments(context, query, time))
        return split_by_hash(context);
    if (query->test_from <= query->validation_from)
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("test_from must be later than validation_from"),
                 errhint("Training data comes first, then validation, then test.")));
    return split_by_time(context, query, time);
}

/* Compile PREDICT label FOR EACH table AT time AS query. */
void
moe_label_user_query(const moe_label_context *context, moe_label_query *query)
{
    const moe_statement *statement = context->statement;
    Query *checked = check_query(context);
    Oid type = getBaseType(column_type(context, checked, statement->label, "the label"));
    char *keys = key_list(context, checked);
    char *time = time_expression(context, checked);
    char *split;
    moe_label_text text;

    query->label_type = type;
    query->task = moe_label_task(context, type, statement->label_query_location, true, &query->task_from_values);
    query->window = context->options->label_window;
    if (statement->where || statement->assuming)
        ereport(ERROR,
                (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("WHERE and ASSUMING belong to predictive queries"),
                 errhint("Put the condition into the query after AS.")));
    split = split_expression(context, checked, query, time);

    moe_label_text_init(&text);
    appendStringInfo(&text.sql, "SELECT %s%s AS as_of, q.%s AS label,\n       %s AS split\nFROM (\n", keys, time,
                     quote_identifier(statement->label), split);
    moe_label_text_mark(&text, statement->label_query_location, true);
    appendStringInfoString(&text.sql, statement->label_query);
    moe_label_text_mark(&text, statement->label_query_location, false);
    appendStringInfo(&text.sql, "\n) AS q\nWHERE q.%s IS NOT NULL AND q.%s IS NOT NULL",
                     quote_identifier(statement->label), quote_identifier(statement->label_time));
    moe_label_text_check(&text, NULL, 0);
    query->sql = text.sql.data;
}
