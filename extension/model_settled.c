/*
 * model_settled.c: whether what is read depends on rows, settings and the user alone.
 *
 * Only then may what one statement read serve another that sees the same rows:
 * not with views (which may call now()), foreign tables, or row-level security, nor where
 * a query calls what is volatile, tells the time or reads text as a time
 * ('today').
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/syscache.h"

#include "extension/model_predictor_internal.h"
#include "extension/schema_sql.h"

/* A relation whose rows are its own, and seen by all alike. */
static bool
is_settled_relation(Oid relid)
{
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
    Form_pg_class form;
    bool settled;

    if (!HeapTupleIsValid(tuple))
        return false;
    form = (Form_pg_class) GETSTRUCT(tuple);
    settled = (form->relkind == RELKIND_RELATION || form->relkind == RELKIND_PARTITIONED_TABLE ||
               form->relkind == RELKIND_MATVIEW) &&
              !form->relrowsecurity;
    ReleaseSysCache(tuple);
    return settled;
}

/* The same of a relation and all that inherit from it. */
static bool
is_settled(Oid relid)
{
    ListCell *cell;

    if (!is_settled_relation(relid))
        return false;
    if (!has_subclass(relid))
        return true;
    foreach (cell, find_all_inheritors(relid, NoLock, NULL))
        if (!is_settled_relation(lfirst_oid(cell)))
            return false;
    return true;
}

bool
moe_settled_tables(const moe_schema *schema)
{
    for (int t = 0; t < schema->n_tables; t++)
        if (!is_settled(schema->tables[t].relid))
            return false;
    return true;
}

/* Types whose values mean the same whenever they are read. */
static bool
is_plain_type(Oid type)
{
    switch (type)
    {
        case BOOLOID:
        case INT2OID:
        case INT4OID:
        case INT8OID:
        case FLOAT4OID:
        case FLOAT8OID:
        case NUMERICOID:
        case DATEOID:
        case TIMEOID:
        case TIMETZOID:
        case TIMESTAMPOID:
        case TIMESTAMPTZOID:
        case INTERVALOID:
            return true;
        default:
            return false;
    }
}

/* Immutable, or stable in the time zone alone: arithmetic of times. */
static bool
is_unsettled_function(Oid function, void *context)
{
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    Form_pg_proc form;
    bool settled;

    if (!HeapTupleIsValid(tuple))
        return true;
    form = (Form_pg_proc) GETSTRUCT(tuple);
    settled = form->provolatile == PROVOLATILE_IMMUTABLE;
    if (form->provolatile == PROVOLATILE_STABLE && function < FirstGenbkiObjectId && form->pronargs > 0 &&
        is_plain_type(form->prorettype))
    {
        settled = !(form->pronargs == 1 && strcmp(NameStr(form->proname), "age") == 0); /* counts from today */
        for (int i = 0; i < form->pronargs; i++)
            settled = settled && is_plain_type(form->proargtypes.values[i]);
    }
    ReleaseSysCache(tuple);
    return !settled;
}

/* True for the first node that is not settled. */
static bool
find_unsettled(Node *node, void *context)
{
    if (node == NULL)
        return false;
    if (IsA(node, SQLValueFunction) || IsA(node, NextValueExpr))
        return true;
    if (IsA(node, CoerceViaIO) && is_plain_type(((CoerceViaIO *) node)->resulttype))
        return true;
    if (IsA(node, RangeTblEntry))
        return ((RangeTblEntry *) node)->rtekind == RTE_RELATION && !is_settled(((RangeTblEntry *) node)->relid);
    if (IsA(node, Query))
        return query_tree_walker((Query *) node, find_unsettled, context, QTW_EXAMINE_RTES_BEFORE);
    return check_functions_in_node(node, is_unsettled_function, context) ||
           expression_tree_walker(node, find_unsettled, context);
}

bool
moe_settled_query(const char *sql, int n_types, Oid *types, const char *search_path)
{
    bool settled = true;
    ListCell *source, *query;
    SPIPlanPtr plan;
    int level = moe_sql_begin_model(search_path);

    SPI_connect();
    plan = SPI_prepare(sql, n_types, types);
    if (plan == NULL)
        elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
    foreach (source, SPI_plan_get_plan_sources(plan))
        foreach (query, ((CachedPlanSource *) lfirst(source))->query_list)
            settled = settled && !find_unsettled(lfirst(query), NULL);
    SPI_finish();
    moe_sql_end(level);
    return settled;
}
