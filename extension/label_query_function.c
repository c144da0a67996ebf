/*
 * label_query_function.c: moe_ml.compile(), which shows what a CREATE MODEL
 * statement would learn, without learning it.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "extension/label_query.h"
#include "extension/model_train.h"
#include "extension/moe_ml.h"
#include "extension/schema_sql.h"
#include "extension/statement_internal.h"

static moe_label_query *
compile(const char *source)
{
    moe_statement *statement = moe_statement_parse(source, 0, strlen(source));
    moe_model_options *options;
    moe_label_query *query;
    moe_schema *schema;
    int level;

    if (statement->kind != MOE_CREATE_MODEL)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("only CREATE MODEL can be compiled"),
                        errhint("Pass the whole statement as text: moe_ml.compile('CREATE MODEL ...').")));
    level = moe_sql_begin_model(NULL); /* as in training */
    options = moe_model_options_parse(statement->options);
    schema = moe_model_discover(statement, options, true);
    moe_model_options_times(options, schema->time_type);
    query = moe_label_query_compile(statement, schema, &options->labels);
    moe_sql_end(level);
    return query;
}

/* moe_ml.compile(statement text, population boolean) returns text. */
MOE_FUNCTION(moe_label_query_sql_compile);
Datum
moe_label_query_sql_compile(PG_FUNCTION_ARGS)
{
    char *source = text_to_cstring(PG_GETARG_TEXT_PP(0));
    bool population = PG_GETARG_BOOL(1);
    moe_source previous = moe_statement_set_source((moe_source){source, false});
    moe_label_query *volatile query = NULL;
    moe_read_only reading;
    const char *sql;

    moe_read_only_begin(&reading);
    PG_TRY();
    {
        query = compile(source);
    }
    PG_FINALLY();
    {
        moe_statement_set_source(previous);
    }
    PG_END_TRY();
    moe_read_only_end(&reading);

    sql = population ? query->population_text : query->sql;
    if (sql == NULL)
        PG_RETURN_NULL();
    PG_RETURN_TEXT_P(cstring_to_text(sql));
}
