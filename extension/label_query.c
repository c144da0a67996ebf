/*
 * label_query.c: from a statement to its training query, its population, and
 * the kind of task.
 *
 * A predictive query is resolved, given seed times, written as SQL, and
 * analysed by the server before anything runs, so that its type errors are
 * shown in the statement's own words. Labels from a query of the user's own
 * are compiled in label_query_user.c.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "extension/label_query_internal.h"
#include "extension/moe_ml.h"

static bool
is_integer(Oid type)
{
    return type == INT2OID || type == INT4OID || type == INT8OID;
}

bool
moe_label_is_number(Oid type)
{
    return is_integer(type) || type == FLOAT4OID || type == FLOAT8OID || type == NUMERICOID;
}

static bool
is_category(Oid type)
{
    return type == TEXTOID || type == VARCHAROID || type == BPCHAROID || type_is_enum(type);
}

/* What WITH (task = ...) asks for; checked against the label's type. */
static moe_task_type
asked_task(const char *task, Oid type, int location)
{
    moe_task_type asked;
    bool fits;

    if (pg_strcasecmp(task, "binary") == 0)
    {
        asked = MOE_BINARY;
        fits = type == BOOLOID || is_integer(type);
    }
    else if (pg_strcasecmp(task, "regression") == 0)
    {
        asked = MOE_REGRESSION;
        fits = moe_label_is_number(type);
    }
    else if (pg_strcasecmp(task, "multiclass") == 0)
    {
        asked = MOE_MULTICLASS;
        fits = type == BOOLOID || is_integer(type) || is_category(type);
    }
    else
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown task \"%s\"", task),
                        errhint("The tasks are binary, regression and multiclass.")));
    if (!fits)
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                        errmsg("a label of type %s does not fit task \"%s\"", format_type_be(type), task),
                        errhint("binary takes true and false (or 0 and 1), regression numbers, multiclass text, enums "
                                "and integers. Leave the option out to let the label decide."),
                        moe_statement_position(location)));
    return asked;
}

/*
 * The task for labels of a type, or an error at location for a type that
 * cannot be one. Integers of the user's own may turn out to be 0 and 1: then
 * *from_values is set.
 */
moe_task_type
moe_label_task(const moe_label_context *context, Oid type, int location, bool user, bool *from_values)
{
    *from_values = false;
    if (type != BOOLOID && !moe_label_is_number(type) && !is_category(type))
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                        errmsg("values of type %s cannot be predicted", format_type_be(type)),
                        errhint("Predict a number, true or false, text or an enum: compare the value with a constant, "
                                "or cast it in a query of your own."),
                        moe_statement_position(location)));
    if (context->options->task)
        return asked_task(context->options->task, type, location);
    *from_values = user && is_integer(type);
    if (type == BOOLOID)
        return MOE_BINARY;
    return moe_label_is_number(type) ? MOE_REGRESSION : MOE_MULTICLASS;
}

/* The label column of an analysed training query: keys, as_of, label, split. */
static Oid
label_type(const moe_label_context *context, const Query *query)
{
    const TargetEntry *entry = list_nth(query->targetList, context->schema->n_key + 1);

    return getBaseType(exprType((Node *) entry->expr));
}

static void
compile_static(const moe_label_context *context, moe_label_query *query, moe_label_text *text)
{
    int64 newest = moe_schema_newest(context->schema, GetCurrentTransactionStartTimestamp());

    /* Without any row time, any moment will do; a fixed one gives the same query every day. */
    if (newest == DT_NOBEGIN)
        newest = 0;
    moe_label_static_sql(context, newest, text);
    query->is_static = true;
    query->window = 0;
    query->validation_from = DT_NOEND;
    query->test_from = DT_NOEND;
}

static char *
compile_history(const moe_label_context *context, const moe_seed_times *times)
{
    Oid types[] = {context->schema->time_type, INT4OID, INT4OID};
    moe_label_text text;

    moe_label_text_init(&text);
    moe_label_history_sql(context, times, &text);
    return moe_label_deparse(moe_label_text_check(&text, types, lengthof(types)));
}

static void
compile_windows(const moe_label_context *context, moe_label_query *query, moe_label_text *text)
{
    moe_seed_times times;

    moe_label_seed_times(context, &times);
    moe_label_training_sql(context, &times, text);
    query->history = compile_history(context, &times);
    query->window = times.length;
    query->validation_from = times.validation_from;
    query->test_from = times.test_from;
}

static void
compile_predictive_query(moe_label_context *context, moe_label_query *query)
{
    const moe_statement *statement = context->statement;
    moe_label_text text;
    Query *checked;

    if (context->options->split_column)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("split_column is for labels from a query of your own"),
                        errhint("Use validation_from and test_from.")));
    moe_label_resolve(context);
    moe_label_text_init(&text);
    if (context->static_column)
        compile_static(context, query, &text);
    else
        compile_windows(context, query, &text);
    checked = moe_label_text_check(&text, NULL, 0);
    query->sql = text.sql.data;
    query->label_type = label_type(context, checked);
    query->task =
        moe_label_task(context, query->label_type, statement->target->location, false, &query->task_from_values);

    if (statement->where || context->static_column)
    {
        moe_label_text_init(&text);
        moe_label_population_sql(context, &text);
        query->population = moe_label_deparse(moe_label_text_check(&text, &context->schema->time_type, 1));
        query->population_text = text.sql.data;
    }
}

/* See label_query.h. */
moe_label_query *
moe_label_query_compile(const moe_statement *statement, const moe_schema *schema, const moe_label_options *options)
{
    moe_label_query *query = palloc0(sizeof(moe_label_query));
    moe_label_context context = {0};

    context.statement = statement;
    context.schema = schema;
    context.options = options;
    context.entity = &schema->tables[0];
    if (statement->target)
        compile_predictive_query(&context, query);
    else
        moe_label_user_query(&context, query);
    return query;
}
