/*
 * label_query_deparse.c: SQL that means the same whoever runs it.
 *
 * Who asks a model runs its queries with their own rights, and their names
 * are looked up in schemas of the maker's. A bare operator would then be
 * whatever the maker has put there, perhaps later: `varchar = 'x'` has no
 * operator of its own in pg_catalog, so one made for varchar would be taken.
 * So the analysed query is written back as the server writes views: every
 * cast spelt out, every name outside pg_catalog qualified. With pg_catalog
 * searched first (moe_sql_begin_model) it reads back as the same query. What it
 * calls outside pg_catalog must belong to a superuser, as extensions' types do.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "extension/label_query_internal.h"
#include "extension/schema_sql.h"

static bool
is_foreign(Oid function, void *context)
{
    HeapTuple tuple;
    Oid owner;

    if (function < FirstNormalObjectId)
        return false;
    tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for function %u", function);
    owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
    ReleaseSysCache(tuple);
    if (superuser_arg(owner))
        return false;
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                    errmsg("the model would call function %s of role \"%s\"", format_procedure(function),
                           GetUserNameFromId(owner, false)),
                    errdetail("Whoever asks the model would run it with their own rights."),
                    errhint("Take schema \"%s\" out of search_path, or compare with other types.",
                            get_namespace_name(get_func_namespace(function)))));
    return true;
}

/* Raise for the first function that is neither the system's nor a superuser's. */
static bool
check_functions(Node *node, void *context)
{
    if (node == NULL)
        return false;
    if (IsA(node, Query))
        return query_tree_walker((Query *) node, check_functions, context, 0);
    return check_functions_in_node(node, is_foreign, context) || expression_tree_walker(node, check_functions, context);
}

char *
moe_label_deparse(const Query *query)
{
    Query *copy = copyObject((Query *) query);
    int level = moe_sql_begin();
    char *sql;

    check_functions((Node *) copy, NULL);
    sql = pg_get_querydef(copy, true);
    moe_sql_end(level);
    return sql;
}
