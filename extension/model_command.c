/*
 * model_command.c: CREATE, ALTER, REFRESH and DROP MODEL.
 *
 * A model is a foreign table, so everything but the training is the server's
 * own DDL, run through ProcessUtility with trees made here: privileges, locks,
 * dependencies and event triggers are those of foreign tables. All happens in
 * the caller's transaction, but for a training in the background, which begins
 * when that commits.
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

#include "extension/background.h"
#include "extension/model_command.h"
#include "extension/model_make.h"
#include "extension/model_worker.h"
#include "extension/moe_ml.h"
#include "extension/progress.h"
#include "extension/schema_sql.h"

void
moe_model_run_utility(Node *node, const char *text)
{
    PlannedStmt *wrapper = makeNode(PlannedStmt);

    wrapper->commandType = CMD_UTILITY;
    wrapper->canSetTag = false;
    wrapper->utilityStmt = node;
    wrapper->stmt_location = -1;
    ProcessUtility(wrapper, text, false, PROCESS_UTILITY_QUERY, NULL, NULL, None_Receiver, NULL);
    CommandCounterIncrement();
}

RangeVar *
moe_model_range_var(Oid relid)
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
moe_model_drop(List *relids, DropBehavior behavior, const char *text)
{
    DropStmt *drop = makeNode(DropStmt);
    List *ids = NIL;
    ListCell *lc;

    drop->removeType = OBJECT_FOREIGN_TABLE;
    drop->behavior = behavior;
    foreach (lc, relids)
    {
        pg_uuid_t *id = palloc(sizeof(pg_uuid_t));

        drop->objects = lappend(drop->objects, moe_model_name_list(moe_model_range_var(lfirst_oid(lc))));
        if (moe_model_id(lfirst_oid(lc), id))
            ids = lappend(ids, id);
    }
    moe_model_run_utility((Node *) drop, text);
    /* The event trigger has done this already, where event triggers are on. */
    foreach (lc, ids)
        moe_catalog_delete(lfirst(lc));
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
        moe_model_drop(relids, statement->cascade ? DROP_CASCADE : DROP_RESTRICT, statement->text);
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
        case MOE_SET_MODEL:
        case MOE_RESET_MODEL:
            break;
    }
    return "ALTER MODEL";
}

static void
make_model(moe_statement *statement)
{
    moe_making making;
    moe_training *training;

    if (!moe_making_begin(&making, statement))
        return;
    if (statement->background)
    {
        moe_background_ask(&making);
        return;
    }
    moe_progress_begin(making.name);
    moe_making_enter(&making);
    training = moe_model_train_on_device(making.definition, making.name, making.record ? making.existing : InvalidOid);
    moe_making_leave(&making);
    moe_progress_phase(MOE_PHASE_STORING, NULL);
    moe_making_store(&making, training);
    moe_progress_end();
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
        case MOE_REFRESH_MODEL:
            make_model(statement);
            break;
        case MOE_DROP_MODEL:
            drop_model(statement);
            break;
        case MOE_RENAME_MODEL:
        case MOE_OWNER_MODEL:
        case MOE_SCHEMA_MODEL:
            moe_model_alter_relation(statement);
            break;
        case MOE_SET_MODEL:
        case MOE_RESET_MODEL:
            moe_model_alter_options(statement);
            break;
    }
    return tag;
}
