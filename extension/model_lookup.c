/*
 * model_lookup.c: from a name or a relation to a stored model, and what
 * happens to what is stored when the relation goes.
 *
 * A model's foreign table carries the model's uuid in its option `model`, which
 * the foreign-data wrapper's validator lets no other foreign table have: SELECT on
 * the foreign table is what gives access to the parameters.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/reloptions.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_foreign_table.h"
#include "commands/defrem.h"
#include "commands/event_trigger.h"
#include "executor/spi.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "extension/model_catalog.h"
#include "extension/model_command.h"
#include "extension/moe_ml.h"

MOE_FUNCTION(moe_ml_training_query);
MOE_FUNCTION(moe_ml_forget_dropped_models);

static bool
parse_uuid(const char *text, pg_uuid_t *id)
{
    pg_uuid_t zero = {{0}};
    int digits = 0;

    /* uuid_in raises; what is asked here is a yes or no. */
    *id = zero;
    for (const char *c = text; *c; c++)
    {
        int value = *c >= '0' && *c <= '9'   ? *c - '0'
                    : *c >= 'a' && *c <= 'f' ? *c - 'a' + 10
                    : *c >= 'A' && *c <= 'F' ? *c - 'A' + 10
                                             : -1;

        if (*c == '-' && digits > 0 && digits < 32)
            continue;
        if (value < 0 || digits >= 32)
            return false;
        id->data[digits / 2] |= digits % 2 == 0 ? value << 4 : value;
        digits++;
    }
    return digits == 32;
}

static bool
server_is_ours(Oid serverid)
{
    ForeignServer *server = GetForeignServerExtended(serverid, FSV_MISSING_OK);

    return server != NULL && strcmp(server->servername, "moe_ml") == 0;
}

static bool
id_from_options(List *options, pg_uuid_t *id)
{
    ListCell *lc;

    foreach (lc, options)
    {
        DefElem *option = lfirst(lc);

        if (strcmp(option->defname, "model") == 0)
            return parse_uuid(defGetString(option), id);
    }
    return false;
}

/* A table that another session has dropped meanwhile is no model. */
bool
moe_model_id(Oid relid, pg_uuid_t *id)
{
    HeapTuple tuple;
    bool is_model = false;
    bool null;
    Datum options;

    if (get_rel_relkind(relid) != RELKIND_FOREIGN_TABLE)
        return false;
    tuple = SearchSysCache1(FOREIGNTABLEREL, ObjectIdGetDatum(relid));
    if (!HeapTupleIsValid(tuple))
        return false;
    options = SysCacheGetAttr(FOREIGNTABLEREL, tuple, Anum_pg_foreign_table_ftoptions, &null);
    if (!null && server_is_ours(((Form_pg_foreign_table) GETSTRUCT(tuple))->ftserver))
        is_model = id_from_options(untransformRelOptions(options), id);
    ReleaseSysCache(tuple);
    return is_model;
}

bool
moe_model_is(Oid relid)
{
    pg_uuid_t id;

    return moe_model_id(relid, &id);
}

/* Oids of all models' foreign tables. */
static List *
all_models(void)
{
    Relation rel = table_open(ForeignTableRelationId, AccessShareLock);
    SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
    List *models = NIL;
    HeapTuple tuple;

    while (HeapTupleIsValid(tuple = systable_getnext(scan)))
    {
        Form_pg_foreign_table row = (Form_pg_foreign_table) GETSTRUCT(tuple);

        if (moe_model_is(row->ftrelid))
            models = lappend_oid(models, row->ftrelid);
    }
    systable_endscan(scan);
    table_close(rel, AccessShareLock);
    return models;
}

/* The name to write for a relation: with its schema where search_path does not find it. */
static const char *
name_to_write(Oid relid)
{
    char *name = get_rel_name(relid);

    if (RelationIsVisible(relid))
        return quote_identifier(name);
    return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), name);
}

const char *
moe_model_nearest(const char *name)
{
    List *models = all_models();
    Oid *relids = palloc(sizeof(Oid) * Max(list_length(models), 1));
    const char *nearest;
    const char **names = palloc(sizeof(char *) * Max(list_length(models), 1));
    int n = 0;
    ListCell *lc;

    foreach (lc, models)
    {
        char *relname = get_rel_name(lfirst_oid(lc));

        if (relname != NULL && pg_class_aclcheck(lfirst_oid(lc), GetUserId(), ACL_SELECT) == ACLCHECK_OK)
        {
            relids[n] = lfirst_oid(lc);
            names[n++] = relname;
        }
    }
    nearest = moe_nearest_name(name, names, n);
    for (int i = 0; nearest != NULL && i < n; i++)
    {
        if (strcmp(names[i], nearest) == 0)
            return name_to_write(relids[i]);
    }
    return NULL;
}

void
moe_model_missing(const RangeVar *name)
{
    const char *nearest = moe_model_nearest(name->relname);

    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                    errmsg("model \"%s\" does not exist", NameListToString(moe_model_name_list(name))),
                    nearest ? errhint("Did you mean model %s?", nearest)
                            : errhint("SELECT * FROM moe_ml.models lists the models there are.")));
}

void
moe_model_require(Oid relid, const RangeVar *name)
{
    if (!moe_model_is(relid))
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                        errmsg("\"%s\" is not a model", NameListToString(moe_model_name_list(name))),
                        errhint("SELECT * FROM moe_ml.models lists the models there are.")));
}

List *
moe_model_name_list(const RangeVar *name)
{
    List *names = NIL;

    if (name->catalogname)
        names = lappend(names, makeString(name->catalogname));
    if (name->schemaname)
        names = lappend(names, makeString(name->schemaname));
    return lappend(names, makeString(name->relname));
}

Oid
moe_model_lookup(text *name)
{
    RangeVar *rv = makeRangeVarFromNameList(textToQualifiedNameList(name));
    Oid relid = RangeVarGetRelid(rv, AccessShareLock, true);
    AclResult acl;

    if (!OidIsValid(relid))
        moe_model_missing(rv);
    moe_model_require(relid, rv);
    acl = pg_class_aclcheck(relid, GetUserId(), ACL_SELECT);
    if (acl != ACLCHECK_OK)
        aclcheck_error(acl, OBJECT_FOREIGN_TABLE, get_rel_name(relid));
    return relid;
}

/* The table that a model's entity is today, by its stored name; InvalidOid if there is none. */
static Oid
find_entity(const char *qualified)
{
    List *names;
    Oid schema;

    if (!SplitIdentifierString(pstrdup(qualified), '.', &names) || list_length(names) != 2)
        return InvalidOid;
    schema = get_namespace_oid(linitial(names), true);
    return OidIsValid(schema) ? get_relname_relid(lsecond(names), schema) : InvalidOid;
}

/* Errors of the server's own functions, which know of no model. */
static void
name_stored_row(void *name)
{
    errcontext("stored row of model \"%s\"", (const char *) name);
}

moe_model_record *
moe_model_load_record(Oid relid, Snapshot snapshot)
{
    ErrorContextCallback context = {error_context_stack, name_stored_row, get_rel_name(relid)};
    moe_model_record *record = NULL;
    pg_uuid_t id;

    if (!moe_model_id(relid, &id))
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is not a model", get_rel_name(relid)),
                        errhint("Make models with CREATE MODEL.")));
    error_context_stack = &context;
    record = moe_catalog_read(&id, get_rel_name(relid), snapshot);
    error_context_stack = context.previous;
    if (record == NULL)
        ereport(ERROR,
                (errcode(ERRCODE_UNDEFINED_OBJECT),
                 errmsg("what model \"%s\" learned is not stored", get_rel_name(relid)),
                 errdetail("The table moe_ml.model has no row for it."),
                 errhint("Restore the data of schema moe_ml, or DROP FOREIGN TABLE %s and create the model again.",
                         quote_identifier(get_rel_name(relid)))));
    record->info.foreign_table = relid;
    record->info.entity = find_entity(record->entity);
    return record;
}

moe_model_info *
moe_model_load(Oid relid)
{
    return &moe_model_load_record(relid, NULL)->info;
}

Datum
moe_ml_training_query(PG_FUNCTION_ARGS)
{
    Oid relid = moe_model_lookup(PG_GETARG_TEXT_PP(0));

    PG_RETURN_TEXT_P(cstring_to_text(moe_model_load(relid)->training_query));
}

/* Whether the command that an event trigger was called for dropped a foreign table of ours. Our server's name is
 * gone with the table, so any foreign table counts. */
static bool
foreign_table_dropped(void)
{
    bool dropped;

    SPI_connect();
    if (SPI_execute("SELECT FROM pg_catalog.pg_event_trigger_dropped_objects() d"
                    " WHERE d.object_type OPERATOR(pg_catalog.=) 'foreign table' LIMIT 1",
                    true, 1) != SPI_OK_SELECT)
        elog(ERROR, "could not list dropped objects");
    dropped = SPI_processed > 0;
    SPI_finish();
    return dropped;
}

static bool
contains_id(List *ids, const pg_uuid_t *id)
{
    ListCell *lc;

    foreach (lc, ids)
    {
        if (memcmp(lfirst(lc), id, sizeof(pg_uuid_t)) == 0)
            return true;
    }
    return false;
}

/* Event trigger on sql_drop: delete the rows of models that no foreign table carries any more. */
Datum
moe_ml_forget_dropped_models(PG_FUNCTION_ARGS)
{
    List *carried = NIL;
    List *stored;
    ListCell *lc;

    if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("%s must be called as an event trigger", "moe_ml.forget_dropped_models()")));
    /* Without the server, be it renamed or gone, no foreign table is known for a model, and all would be forgotten. */
    if (!foreign_table_dropped() || GetForeignServerByName("moe_ml", true) == NULL)
        PG_RETURN_NULL();
    stored = moe_catalog_list(); /* before the relations: what is created meanwhile is in neither list */
    foreach (lc, all_models())
    {
        pg_uuid_t *id = palloc(sizeof(pg_uuid_t));

        if (moe_model_id(lfirst_oid(lc), id))
            carried = lappend(carried, id);
    }
    foreach (lc, stored)
    {
        if (!contains_id(carried, lfirst(lc)))
            moe_catalog_delete(lfirst(lc));
    }
    PG_RETURN_NULL();
}
