/*
 * statement_door.c: the doors that need no preloading: moe_ml.execute() and
 * the language moe_ml, and what they share with the bare statement.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/proclang.h"
#include "funcapi.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "extension/moe_ml.h"
#include "extension/statement_internal.h"

/* Each statement sees what those before it did, and runs on a snapshot of its own. */
static const char *
parse_and_execute(const char *source, int offset, int length)
{
    const char *tag;

    CommandCounterIncrement();
    PushActiveSnapshot(GetTransactionSnapshot());
    tag = moe_statement_execute(moe_statement_parse(source, offset, length));
    PopActiveSnapshot();
    CommandCounterIncrement();
    return tag;
}

const char *
moe_statement_run(const char *source, int offset, int length, bool client)
{
    moe_source previous = moe_statement_set_source((moe_source){source, client});
    const char *volatile tag = NULL;

    PG_TRY();
    {
        tag = parse_and_execute(source, offset, length);
    }
    PG_FINALLY();
    {
        moe_statement_set_source(previous);
    }
    PG_END_TRY();
    return tag;
}

static void
run_all(const char *source, bool check_only)
{
    ListCell *cell;

    foreach (cell, moe_statement_split(moe_tokens_scan(source, 0, strlen(source))))
    {
        moe_span *span = lfirst(cell);

        if (check_only)
            (void) moe_statement_parse_syntax(source, span->offset, span->length);
        else
            (void) moe_statement_run(source, span->offset, span->length, false);
    }
}

void
moe_statement_run_all(const char *source, bool check_only)
{
    moe_source previous = moe_statement_set_source((moe_source){source, false});

    PG_TRY();
    {
        run_all(source, check_only);
    }
    PG_FINALLY();
    {
        moe_statement_set_source(previous);
    }
    PG_END_TRY();
}

/* moe_ml.execute(statement text) returns text: the command tag. */
MOE_FUNCTION(moe_statement_sql_execute);
Datum
moe_statement_sql_execute(PG_FUNCTION_ARGS)
{
    char *source = text_to_cstring(PG_GETARG_TEXT_PP(0));

    PG_RETURN_TEXT_P(cstring_to_text(moe_statement_run(source, 0, strlen(source), false)));
}

/* DO LANGUAGE moe_ml, and the bare statement. */
MOE_FUNCTION(moe_statement_language_inline);
Datum
moe_statement_language_inline(PG_FUNCTION_ARGS)
{
    InlineCodeBlock *block = castNode(InlineCodeBlock, DatumGetPointer(PG_GETARG_DATUM(0)));
    const char *source;
    int offset;

    if (moe_statement_take_bare(block->source_text, &source, &offset))
        moe_statement_run(source, offset, strlen(block->source_text), true);
    else
        moe_statement_run_all(block->source_text, false);
    PG_RETURN_VOID();
}

static char *
function_source(HeapTuple tuple)
{
    bool null;
    Datum source = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &null);

    if (null)
        elog(ERROR, "null prosrc");
    return TextDatumGetCString(source);
}

/* A function or procedure of the language: its body's statements, one after another. */
MOE_FUNCTION(moe_statement_language_call);
Datum
moe_statement_language_call(PG_FUNCTION_ARGS)
{
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(fcinfo->flinfo->fn_oid));
    char *source;

    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for function %u", fcinfo->flinfo->fn_oid);
    source = function_source(tuple);
    ReleaseSysCache(tuple);
    moe_statement_run_all(source, false);
    PG_RETURN_VOID();
}

MOE_FUNCTION(moe_statement_language_validate);
Datum
moe_statement_language_validate(PG_FUNCTION_ARGS)
{
    Oid function = PG_GETARG_OID(0);
    HeapTuple tuple;
    Form_pg_proc form;
    char *source;

    if (!CheckFunctionValidatorAccess(fcinfo->flinfo->fn_oid, function))
        PG_RETURN_VOID();
    tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for function %u", function);
    form = (Form_pg_proc) GETSTRUCT(tuple);
    if (form->pronargs > 0 || form->prorettype != VOIDOID)
        ereport(ERROR, errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
                errmsg("a routine in language moe_ml has no parameters and no result"),
                errhint("Use a PL/pgSQL function that calls moe_ml.execute(format(...))."));
    source = function_source(tuple);
    ReleaseSysCache(tuple);
    if (check_function_bodies)
        moe_statement_run_all(source, true);
    PG_RETURN_VOID();
}
