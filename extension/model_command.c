/*
 * model_command.c: CREATE, ALTER, REFRESH and DROP MODEL.
 *
 * A model is a foreign table, so everything but the training is the server's
 * own DDL, run through ProcessUtility with trees made here: privileges, locks,
 * dependencies and event triggers are those of foreign tables. All happens in
 * the caller's transaction.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_class.h"
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
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/uuid.h"

#include "extension/model_command.h"
#include "extension/model_worker.h"
#include "extension/moe_ml.h"
#include "extension/progress.h"
#include "extension/schema_sql.h"

/* Run a utility statement made here. */
static void
run_utility(Node *node, const char *text)
{
    PlannedStmt *wrapper = makeNode(PlannedStmt);

    wrapper->commandType = CMD_UTILITY;
    wrapper->canSetTag = false;
    wrapper->utilityStmt = node;
    wrapper->stmt_location = -1;
    ProcessUtility(wrapper, text, false, PROCESS_UTILITY_QUERY, NULL, NULL, None_Receiver, NULL);
    CommandCounterIncrement();
}

static RangeVar *
relation_name(Oid relid)
{
    return makeRangeVar(get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid), -1);
}

static bool
owns_relation(Oid relid)
{
#if PG_VERSION_NUM >= 160000
    return object_ownercheck(RelationRelationId, relid, GetUserId());
#else
    return pg_class_ownercheck(relid, GetUserId());
#endif
}

static void
require_owner(Oid relid)
{
    if (!owns_relation(relid))
        ereport(ERROR,
                (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be owner of model %s", get_rel_name(relid)),
                 errhint("Models are replaced, refreshed, altered and dropped by their owners.")));
}

/* Before a lock is taken: only a model's owner may lock it. */
static void
owned_model_callback(const RangeVar *name, Oid relid, Oid old_relid, void *arg)
{
    if (!OidIsValid(relid))
        return;
    moe_model_require(relid, name);
    require_owner(relid);
}

Oid
moe_model_owned(const RangeVar *name, LOCKMODE lock, bool missing_ok)
{
    Oid relid = RangeVarGetRelidExtended(name, lock, RVR_MISSING_OK, owned_model_callback, NULL);

    if (!OidIsValid(relid))
    {
        if (!missing_ok)
            moe_model_missing(name);
        ereport(NOTICE, (errmsg("model \"%s\" does not exist, skipping", NameListToString(moe_model_name_list(name)))));
    }
    return relid;
}

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
        own = lappend(own, makeColumnDef("experts", JSONBOID, -1, InvalidOid));
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
    run_utility((Node *) create, text);
    return get_relname_relid(name, schema);
}

static void
drop_models(List *relids, DropBehavior behavior, const char *text)
{
    DropStmt *drop = makeNode(DropStmt);
    List *ids = NIL;
    ListCell *lc;

    drop->removeType = OBJECT_FOREIGN_TABLE;
    drop->behavior = behavior;
    foreach (lc, relids)
    {
        pg_uuid_t *id = palloc(sizeof(pg_uuid_t));

        drop->objects = lappend(drop->objects, moe_model_name_list(relation_name(lfirst_oid(lc))));
        if (moe_model_id(lfirst_oid(lc), id))
            ids = lappend(ids, id);
    }
    run_utility((Node *) drop, text);
    /* The event trigger has done this already, where event triggers are on. */
    foreach (lc, ids)
        moe_catalog_delete(lfirst(lc));
}

Oid
moe_model_install(moe_training *training, Oid existing, Oid schema, const RangeVar *name, const char *text)
{
    moe_model_info *info = &training->record.info;
    List *columns = model_columns(training->schema, info->task, training->record.show_experts);
    Oid relid = existing;

    if (OidIsValid(existing) && !has_columns(existing, columns))
    {
        drop_models(list_make1_oid(existing), DROP_RESTRICT, text);
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
    return relid;
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

static void
create_model(moe_statement *statement)
{
    RangeVar *name = statement->name;
    moe_training *training;
    Oid schema = moe_model_claim_name(name);
    Oid existing = get_relname_relid(name->relname, schema);

    if (OidIsValid(existing) && statement->if_exists)
    {
        ereport(NOTICE,
                (errcode(ERRCODE_DUPLICATE_TABLE), errmsg("relation \"%s\" already exists, skipping", name->relname)));
        return;
    }
    if (OidIsValid(existing) && !statement->or_replace)
        ereport(ERROR,
                (errcode(ERRCODE_DUPLICATE_TABLE), errmsg("relation \"%s\" already exists", name->relname),
                 moe_model_is(existing) ? errhint("CREATE OR REPLACE MODEL replaces it, REFRESH MODEL trains it again.")
                                        : errhint("Choose another name.")));
    if (OidIsValid(existing) && !moe_model_is(existing))
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is not a model", name->relname),
                        errhint("CREATE OR REPLACE MODEL replaces models only. Choose another name.")));
    if (OidIsValid(existing))
        existing = moe_model_owned(makeRangeVar(get_namespace_name(schema), name->relname, -1),
                                   ShareUpdateExclusiveLock, false);
    moe_model_require_server();
    moe_progress_begin(name->relname);
    training = moe_model_train_on_device(statement, name->relname, InvalidOid);
    moe_progress_phase(MOE_PHASE_STORING, NULL);
    training->record.created_at = training->record.trained_at;
    moe_model_install(training, existing, schema, name, statement->text);
    moe_progress_end();
    MemoryContextDelete(training->context);
}

/* Names that the definition has and the tables no longer have are mended in the definition. */
static void
name_definition(void *name)
{
    if (ERRCODE_TO_CATEGORY(geterrcode()) == ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION)
        errcontext("definition of model \"%s\", which CREATE OR REPLACE MODEL can change", (const char *) name);
}

/* Parse a stored definition and train it, names being looked up as they were when it was made. */
static moe_training *
train_again(Oid relid, const moe_model_record *record)
{
    const char *definition = record->info.definition;
    ErrorContextCallback context = {error_context_stack, name_definition, get_rel_name(relid)};
    int level = moe_sql_begin_model(record->info.search_path);
    moe_statement *statement;
    moe_training *training;

    error_context_stack = &context;
    statement = moe_statement_parse(definition, 0, (int) strlen(definition));
    if (statement->kind != MOE_CREATE_MODEL)
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                        errmsg("the stored definition of model \"%s\" is no CREATE MODEL", get_rel_name(relid)),
                        errhint("Drop the model and create it again.")));
    training = moe_model_train_on_device(statement, get_rel_name(relid), relid);
    moe_sql_end(level);
    error_context_stack = context.previous;
    return training;
}

static void
refresh_model(const moe_statement *statement)
{
    Oid relid = moe_model_owned(statement->name, ShareUpdateExclusiveLock, false);
    Snapshot snapshot = moe_catalog_snapshot();
    moe_model_record *record = moe_model_load_record(relid, snapshot);
    moe_training *training;

    UnregisterSnapshot(snapshot);
    moe_progress_begin(get_rel_name(relid));
    training = train_again(relid, record);
    moe_progress_phase(MOE_PHASE_STORING, NULL);
    if (!has_columns(relid, model_columns(training->schema, training->record.info.task, training->record.show_experts)))
        ereport(
            ERROR,
            (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
             errmsg("the columns of model \"%s\" would change", get_rel_name(relid)),
             errdetail("The labels now make a %s task, the key of table %s has changed, or they were changed by hand.",
                       moe_model_task_name(training->record.info.task), training->record.entity),
             errhint("CREATE OR REPLACE MODEL makes it anew.")));
    training->record.info.id = record->info.id;
    training->record.created_at = record->created_at;
    depend_on_entity(relid, training->schema->tables[0].relid);
    moe_catalog_store(&training->record, &training->parameters, training->epochs, training->experts);
    moe_progress_end();
    MemoryContextDelete(training->context);
}

static void
drop_model(const moe_statement *statement)
{
    List *relids = NIL;
    ListCell *lc;

    foreach (lc, statement->names)
    {
        Oid relid = moe_model_owned(lfirst(lc), AccessExclusiveLock, statement->if_exists);

        if (OidIsValid(relid))
            relids = list_append_unique_oid(relids, relid);
    }
    if (relids != NIL)
        drop_models(relids, statement->cascade ? DROP_CASCADE : DROP_RESTRICT, statement->text);
}

/* ALTER MODEL as the ALTER FOREIGN TABLE that it stands for. */
static void
alter_model(const moe_statement *statement)
{
    Oid relid = moe_model_owned(statement->name, AccessExclusiveLock, statement->if_exists);
    Node *node;

    if (!OidIsValid(relid))
        return;
    if (statement->kind == MOE_RENAME_MODEL)
    {
        RenameStmt *rename = makeNode(RenameStmt);

        rename->renameType = OBJECT_FOREIGN_TABLE;
        rename->relation = relation_name(relid);
        rename->newname = statement->new_name;
        node = (Node *) rename;
    }
    else if (statement->kind == MOE_SCHEMA_MODEL)
    {
        AlterObjectSchemaStmt *move = makeNode(AlterObjectSchemaStmt);

        move->objectType = OBJECT_FOREIGN_TABLE;
        move->relation = relation_name(relid);
        move->newschema = statement->new_name;
        node = (Node *) move;
    }
    else
    {
        AlterTableStmt *alter = makeNode(AlterTableStmt);
        AlterTableCmd *cmd = makeNode(AlterTableCmd);

        cmd->subtype = AT_ChangeOwner;
        cmd->newowner = statement->new_owner;
        alter->relation = relation_name(relid);
        alter->cmds = list_make1(cmd);
        alter->objtype = OBJECT_FOREIGN_TABLE;
        node = (Node *) alter;
    }
    run_utility(node, statement->text);
}

static const char *
tag_of(moe_statement_kind kind)
{
    switch (kind)
    {
        case MOE_CREATE_MODEL:
            return "CREATE MODEL";
        case MOE_DROP_MODEL:
            return "DROP MODEL";
        case MOE_REFRESH_MODEL:
            return "REFRESH MODEL";
        case MOE_RENAME_MODEL:
        case MOE_OWNER_MODEL:
        case MOE_SCHEMA_MODEL:
            break;
    }
    return "ALTER MODEL";
}

const char *
moe_statement_execute(moe_statement *statement)
{
    const char *tag = tag_of(statement->kind);

    PreventCommandIfReadOnly(tag);
    PreventCommandIfParallelMode(tag);
    PreventCommandDuringRecovery(tag);
    switch (statement->kind)
    {
        case MOE_CREATE_MODEL:
            create_model(statement);
            break;
        case MOE_DROP_MODEL:
            drop_model(statement);
            break;
        case MOE_REFRESH_MODEL:
            refresh_model(statement);
            break;
        case MOE_RENAME_MODEL:
        case MOE_OWNER_MODEL:
        case MOE_SCHEMA_MODEL:
            alter_model(statement);
            break;
    }
    return tag;
}
