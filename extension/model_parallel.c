/*
 * model_parallel.c: whether a parallel worker may predict with a model.
 *
 * What a prediction for all entities runs is known before: the SELECTs of its
 * tables, of who counts and of past labels. They are analysed and rewritten, so
 * that views and row-level security show what they call, and a worker may run
 * them if the server would let it run each as a whole: no function that is not
 * PARALLEL SAFE, no temporary or foreign table among those read or their
 * children. Types count with the functions that the reader calls itself.
 *
 * Plans depend on all of that, and are made anew where it changes. A plan that
 * was on its way already is caught by the worker, which judges again under the
 * locks that analysis takes.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "optimizer/clauses.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "extension/model_catalog.h"
#include "extension/model_parallel.h"
#include "extension/model_store.h"
#include "extension/moe_ml.h"
#include "extension/schema_sql.h"

typedef struct kept_verdict
{
    moe_parallel_verdict verdict;
    MemoryContext context; /* of the verdict's lists */
    Oid relid;
    Oid user;
    bool row_security;
    uint64 version; /* of what is stored of the model */
    bool valid;
} kept_verdict;

static List *kept = NIL;

/* A table's catalog entry has changed, or any may have. */
static void
forget_relation(Datum arg, Oid relid)
{
    ListCell *cell;

    foreach (cell, kept)
    {
        kept_verdict *k = lfirst(cell);

        if (!OidIsValid(relid) || relid == k->relid || list_member_oid(k->verdict.relations, relid))
            k->valid = false;
    }
}

/* Functions, types, operators, schemas or roles have changed, which is rare. */
static void
forget_all(Datum arg, int cache, uint32 hash)
{
    forget_relation(arg, InvalidOid);
}

static void
listen(void)
{
    static const int caches[] = {PROCOID, TYPEOID, OPEROID, AMOPOPID, NAMESPACEOID, AUTHOID, AUTHMEMROLEMEM};
    static bool listening = false;

    if (listening)
        return;
    CacheRegisterRelcacheCallback(forget_relation, (Datum) 0);
    for (int i = 0; i < lengthof(caches); i++)
        CacheRegisterSyscacheCallback(caches[i], forget_all, (Datum) 0);
    listening = true;
}

/* A relation whose rows a worker can read. A view stands among what its query reads, and is no reading of its own. */
static bool
is_safe_relation(Oid relid)
{
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
    Form_pg_class form;
    bool safe;

    if (!HeapTupleIsValid(tuple))
        return false;
    form = (Form_pg_class) GETSTRUCT(tuple);
    safe = form->relpersistence != RELPERSISTENCE_TEMP &&
           (form->relkind == RELKIND_RELATION || form->relkind == RELKIND_PARTITIONED_TABLE ||
            form->relkind == RELKIND_MATVIEW || form->relkind == RELKIND_VIEW);
    ReleaseSysCache(tuple);
    return safe;
}

/* The same of all that inherit from it, which the verdict then rests on as well. */
static bool
is_safe_family(moe_parallel_verdict *verdict, Oid relid)
{
    bool safe = true;
    ListCell *cell;
    List *family;

    if (!has_subclass(relid))
        return is_safe_relation(relid);
    family = find_all_inheritors(relid, NoLock, NULL);
    foreach (cell, family)
        safe = safe && is_safe_relation(lfirst_oid(cell));
    verdict->relations = list_concat_unique_oid(verdict->relations, family);
    return safe;
}

/* True for the first thing read that a worker can not. */
static bool
find_unsafe_reading(Node *node, void *context)
{
    RangeTblEntry *entry = (RangeTblEntry *) node;

    if (node == NULL)
        return false;
    if (IsA(node, Query))
        return query_tree_walker((Query *) node, find_unsafe_reading, context, QTW_EXAMINE_RTES_BEFORE);
    if (!IsA(node, RangeTblEntry))
        return expression_tree_walker(node, find_unsafe_reading, context);
    if (entry->rtekind == RTE_TABLEFUNC || entry->rtekind == RTE_NAMEDTUPLESTORE || entry->tablesample != NULL)
        return true;
    return entry->rtekind == RTE_RELATION && !is_safe_family(context, entry->relid);
}

static bool
is_safe_function(Oid function)
{
    return !OidIsValid(function) || func_parallel(function) == PROPARALLEL_SAFE;
}

/* Are a type's own functions for text, equality and hashes? */
static bool
is_safe_type(Oid type)
{
    Oid element = get_element_type(getBaseType(type));
    Oid input, output, parameter;
    TypeCacheEntry *entry;
    bool varlena;

    if (OidIsValid(element))
        return is_safe_type(element);
    type = getBaseType(type);
    if (type_is_enum(type))
        return true;
    if (get_typtype(type) != TYPTYPE_BASE)
        return false; /* made of others */
    getTypeInputInfo(type, &input, &parameter);
    getTypeOutputInfo(type, &output, &varlena);
    entry = lookup_type_cache(type, TYPECACHE_EQ_OPR | TYPECACHE_HASH_PROC);
    return is_safe_function(input) && is_safe_function(output) && is_safe_function(entry->hash_proc) &&
           (!OidIsValid(entry->eq_opr) || is_safe_function(get_opcode(entry->eq_opr)));
}

/* Judge one query; what it rests on is added to the verdict, whose context is given. */
static void
judge_query(moe_parallel_verdict *verdict, MemoryContext context, const char *sql, int n_types, Oid *types)
{
    SPIPlanPtr plan = SPI_prepare(sql, n_types, types);
    ListCell *cell, *query;

    if (plan == NULL)
        elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
    foreach (cell, SPI_plan_get_plan_sources(plan))
    {
        CachedPlanSource *source = lfirst(cell);
        MemoryContext old = MemoryContextSwitchTo(context);

        verdict->of_user |= source->dependsOnRLS;
        verdict->relations = list_concat_unique_oid(verdict->relations, source->relationOids);
        verdict->invalidated = list_concat(verdict->invalidated, copyObject(source->invalItems));
        foreach (query, source->query_list)
            verdict->safe = verdict->safe && lfirst_node(Query, query)->commandType == CMD_SELECT &&
                            max_parallel_hazard(lfirst(query)) == PROPARALLEL_SAFE &&
                            !find_unsafe_reading(lfirst(query), verdict);
        MemoryContextSwitchTo(old);
    }
    SPI_freeplan(plan);
}

/* The SELECTs of the model's tables, and the types of what they give. */
static void
judge_tables(moe_parallel_verdict *verdict, MemoryContext context, const moe_schema *schema)
{
    List *types;
    List *selects = moe_data_selects(schema, &types);
    int level = moe_sql_begin();
    ListCell *cell;

    foreach (cell, types)
        verdict->safe = verdict->safe && is_safe_type(lfirst_oid(cell));
    SPI_connect();
    foreach (cell, selects)
        if (verdict->safe)
            judge_query(verdict, context, lfirst(cell), 0, NULL);
    SPI_finish();
    moe_sql_end(level);
}

/* Who counts, and past labels. */
static void
judge_definition(moe_parallel_verdict *verdict, MemoryContext context, const moe_model_info *info, Oid time_type)
{
    Oid types[] = {time_type, INT4OID, INT4OID};
    int level = moe_sql_begin_model(info->search_path);

    SPI_connect();
    if (verdict->safe && info->population != NULL)
        judge_query(verdict, context, info->population, 1, types);
    if (verdict->safe && info->history_query != NULL)
        judge_query(verdict, context, info->history_query, 3, types);
    SPI_finish();
    moe_sql_end(level);
}

/* Judge a model whose row and parameters a snapshot sees; false where it cannot be asked, as the scan will say. */
static bool
judge(moe_parallel_verdict *verdict, MemoryContext context, Oid relid, Snapshot snapshot)
{
    moe_model_info *info = &moe_model_load_record(relid, snapshot)->info;
    const char *name = get_rel_name(relid);
    moe_job *job = moe_job_of_threads(CurrentMemoryContext, 1);
    moe_reader reader;
    moe_schema *schema;
    int64 length;
    uint8 *bytes = moe_catalog_read_first_parameters(&info->id, snapshot, &length);

    if (!moe_store_schema(job, bytes, length, &reader) || (schema = moe_schema_read_fitting(&reader, name)) == NULL)
        return false;
    verdict->safe = true;
    judge_tables(verdict, context, schema);
    judge_definition(verdict, context, info, schema->time_type);
    return true;
}

static void
forget(kept_verdict *k)
{
    kept = list_delete_ptr(kept, k);
    MemoryContextDelete(k->context);
    pfree(k);
}

/* The verdict kept for the user and a model of this version, or NULL; others of the model go. */
static kept_verdict *
find_kept(Oid relid, uint64 version)
{
    kept_verdict *found = NULL;

    for (int i = list_length(kept) - 1; i >= 0; i--)
    {
        kept_verdict *k = list_nth(kept, i);

        if (!k->valid || (k->relid == relid && k->version != version))
            forget(k);
        else if (k->relid == relid && k->user == GetUserId() && k->row_security == row_security)
            found = k;
    }
    return found;
}

/* Judge, and keep the verdict. An error, or a change while it is judged, leaves what is kept invalid. */
static kept_verdict *
judge_anew(Oid relid, uint64 version, Snapshot snapshot)
{
    kept_verdict *k = MemoryContextAllocZero(TopMemoryContext, sizeof(kept_verdict));
    MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
    bool fits;

    k->context = AllocSetContextCreate(TopMemoryContext, "moe_ml parallel", ALLOCSET_SMALL_SIZES);
    kept = lappend(kept, k);
    MemoryContextSwitchTo(old);
    k->relid = relid;
    k->version = version;
    k->user = GetUserId();
    k->row_security = row_security;
    k->valid = true;
    PG_TRY();
    {
        fits = judge(&k->verdict, k->context, relid, snapshot);
    }
    PG_CATCH();
    {
        k->valid = false;
        PG_RE_THROW();
    }
    PG_END_TRY();
    k->valid = k->valid && fits;
    return k;
}

const moe_parallel_verdict *
moe_parallel_judge(Oid relid)
{
    MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "moe_ml judging", ALLOCSET_DEFAULT_SIZES);
    MemoryContext old = MemoryContextSwitchTo(scratch);
    Snapshot snapshot = moe_catalog_snapshot();
    kept_verdict *k;
    pg_uuid_t id = {{0}};
    uint64 version;

    listen();
    moe_model_id(relid, &id);
    version = moe_catalog_version(&id, snapshot);
    k = find_kept(relid, version);
    if (k == NULL)
        k = judge_anew(relid, version, snapshot);
    UnregisterSnapshot(snapshot);
    MemoryContextSwitchTo(old);
    MemoryContextDelete(scratch);
    return &k->verdict;
}

void
moe_parallel_require(Oid relid)
{
    if (!moe_parallel_judge(relid)->safe)
        ereport(ERROR,
                (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                 errmsg("what model \"%s\" reads may no longer be read by a parallel worker", get_rel_name(relid)),
                 errdetail("Its tables, their policies or functions changed after the statement was planned."),
                 errhint("Run the statement again, or SET max_parallel_workers_per_gather = 0.")));
}
