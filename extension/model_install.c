/*
 * model_install.c: the foreign table that a model is, and a training's result put under its name.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "commands/tablecmds.h"
#include "common/hashfn.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/uuid.h"

#include "extension/model_command.h"
#include "extension/model_train.h"

void
moe_model_require_server(void)
{
    ForeignServer *server = GetForeignServerByName("moe_ml", true);
    AclResult acl;

    if (server == NULL)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("foreign server \"moe_ml\" does not exist"),
                        errhint("Create the extension anew: DROP EXTENSION moe_ml; CREATE EXTENSION moe_ml.")));
#if PG_VERSION_NUM >= 160000
    acl = object_aclcheck(ForeignServerRelationId, server->serverid, GetUserId(), ACL_USAGE);
#else
    acl = pg_foreign_server_aclcheck(server->serverid, GetUserId(), ACL_USAGE);
#endif
    if (acl != ACLCHECK_OK)
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied to create models"),
                        errhint("Ask for GRANT USAGE ON FOREIGN SERVER moe_ml TO %s.",
                                quote_identifier(GetUserNameFromId(GetUserId(), false)))));
}

/*
 * Let no other session make a model of this name until the transaction ends: the second is to learn that the name is
 * taken before it trains, not after. Two names of one hash merely wait for each other.
 */
static void
lock_name(Oid schema, const char *name)
{
    uint32 hash = hash_bytes((const unsigned char *) name, (int) strlen(name));

    LockDatabaseObject(NamespaceRelationId, schema, (uint16) (hash % 65535 + 1), ExclusiveLock);
}

Oid
moe_model_claim_name(RangeVar *name)
{
    Oid schema = RangeVarGetAndCheckCreationNamespace(name, NoLock, NULL);

    if (name->relpersistence == RELPERSISTENCE_TEMP || isTempNamespace(schema))
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("a model cannot be temporary"),
                        errhint("Create it in another schema; a transaction that is rolled back leaves nothing.")));
    lock_name(schema, name->relname);
    return schema;
}

/* The foreign table's columns (of ColumnDef): key, as_of, then the prediction's by task. */
static List *
model_columns(const moe_schema *schema, moe_task_type task, bool experts)
{
    const moe_schema_table *entity = &schema->tables[0];
    List *own = list_make1(makeColumnDef("as_of", schema->time_type, -1, InvalidOid));
    List *columns = NIL;
    ListCell *lc;

    if (task == MOE_MULTICLASS)
    {
        own = lappend(own, makeColumnDef("class", TEXTOID, -1, DEFAULT_COLLATION_OID));
        own = lappend(own, makeColumnDef("score", FLOAT8OID, -1, InvalidOid));
    }
    else
        own = lappend(own, makeColumnDef("prediction", task == MOE_BINARY ? BOOLOID : FLOAT8OID, -1, InvalidOid));
    if (task == MOE_BINARY)
        own = lappend(own, makeColumnDef("probability", FLOAT8OID, -1, InvalidOid));
    if (task == MOE_REGRESSION)
    {
        own = lappend(own, makeColumnDef("lower", FLOAT8OID, -1, InvalidOid));
        own = lappend(own, makeColumnDef("upper", FLOAT8OID, -1, InvalidOid));
    }
    if (experts)
        own = lappend(own, makeColumnDef(MOE_EXPERTS_COLUMN, JSONBOID, -1, InvalidOid));
    for (int i = 0; i < schema->n_key; i++)
    {
        const moe_schema_column *key = &entity->columns[schema->key[i]];

        foreach (lc, own)
        {
            if (strcmp(((ColumnDef *) lfirst(lc))->colname, key->name) == 0)
                ereport(ERROR, (errcode(ERRCODE_DUPLICATE_COLUMN),
                                errmsg("key column \"%s\" of table \"%s\" is named like a column of the model",
                                       key->name, entity->name),
                                errhint("Rename it, or choose another unique column: FOR EACH %s.column.",
                                        quote_identifier(entity->name))));
        }
        columns = lappend(columns, makeColumnDef(key->name, key->type, key->typmod, key->collation));
    }
    return list_concat(columns, own);
}

static bool
has_columns(Oid relid, List *columns)
{
    Relation rel = relation_open(relid, NoLock);
    TupleDesc desc = RelationGetDescr(rel);
    bool same = true;
    int at = 0;

    for (int i = 0; i < desc->natts; i++)
    {
        Form_pg_attribute attribute = TupleDescAttr(desc, i);
        ColumnDef *column = at < list_length(columns) ? list_nth(columns, at) : NULL;

        if (attribute->attisdropped)
            continue;
        at++;
        same = same && column != NULL && strcmp(NameStr(attribute->attname), column->colname) == 0 &&
               attribute->atttypid == column->typeName->typeOid;
    }
    relation_close(rel, NoLock);
    return same && at == list_length(columns);
}

/* Dropping the entity table is to name the model, and to take it along with CASCADE. */
static void
depend_on_entity(Oid relid, Oid entity)
{
    ObjectAddress model = {RelationRelationId, relid, 0};
    ObjectAddress table = {RelationRelationId, entity, 0};

    deleteDependencyRecordsForClass(RelationRelationId, relid, RelationRelationId, DEPENDENCY_NORMAL);
    recordDependencyOn(&model, &table, DEPENDENCY_NORMAL);
}

static pg_uuid_t
new_id(void)
{
    return *DatumGetUUIDP(DirectFunctionCall1(gen_random_uuid, (Datum) 0));
}

static Oid
create_foreign_table(Oid schema, const char *name, List *columns, const pg_uuid_t *id, const char *text)
{
    CreateForeignTableStmt *create = makeNode(CreateForeignTableStmt);
    char *id_text = DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));

    create->base.relation = makeRangeVar(get_namespace_name(schema), pstrdup(name), -1);
    create->base.tableElts = columns;
    create->base.oncommit = ONCOMMIT_NOOP;
    create->servername = "moe_ml";
    create->options = list_make1(makeDefElem("model", (Node *) makeString(id_text), -1));
    moe_model_run_utility((Node *) create, text);
    return get_relname_relid(name, schema);
}

Oid
moe_model_install(moe_training *training, Oid existing, Oid schema, const RangeVar *name, const char *text)
{
    moe_model_info *info = &training->record.info;
    List *columns = model_columns(training->schema, info->task, training->record.show_experts);
    Oid relid = existing;

    if (OidIsValid(existing) && !has_columns(existing, columns))
    {
        moe_model_drop(list_make1_oid(existing), DROP_RESTRICT, text);
        relid = InvalidOid;
    }
    if (OidIsValid(relid))
        moe_model_id(relid, &info->id);
    else
    {
        info->id = new_id();
        relid = create_foreign_table(schema, name->relname, columns, &info->id, text);
    }
    depend_on_entity(relid, training->schema->tables[0].relid);
    moe_catalog_store(&training->record, &training->parameters, training->epochs, training->experts);
    CacheInvalidateRelcacheByRelid(relid);
    return relid;
}

void
moe_model_reinstall(moe_training *training, Oid relid, const moe_model_record *before)
{
    moe_model_record *record = &training->record;

    if (!has_columns(relid, model_columns(training->schema, record->info.task, record->show_experts)))
        ereport(
            ERROR,
            (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
             errmsg("the columns of model \"%s\" would change", get_rel_name(relid)),
             errdetail("The labels now make a %s task, the key of table %s has changed, or they were changed by hand.",
                       moe_model_task_name(record->info.task), record->entity),
             errhint("CREATE OR REPLACE MODEL makes it anew.")));
    record->info.id = before->info.id;
    record->created_at = before->created_at;
    depend_on_entity(relid, training->schema->tables[0].relid);
    moe_catalog_store(record, &training->parameters, training->epochs, training->experts);
    CacheInvalidateRelcacheByRelid(relid); /* plans that were made for what the old model reads */
}
