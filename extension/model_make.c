/*
 * model_make.c: CREATE MODEL and REFRESH MODEL, before and after the training.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "extension/model_command.h"
#include "extension/model_make.h"
#include "extension/model_store.h"
#include "extension/schema_sql.h"

/* Names that the definition has and the tables no longer have are mended in the definition. */
static void
name_definition(void *name)
{
    if (ERRCODE_TO_CATEGORY(geterrcode()) == ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION)
        errcontext("definition of model \"%s\", which CREATE OR REPLACE MODEL can change", (const char *) name);
}

void
moe_making_enter(moe_making *making)
{
    if (making->record == NULL)
        return;
    making->level = moe_sql_begin_model(making->record->info.search_path);
    making->context = (ErrorContextCallback){error_context_stack, name_definition, making->name};
    error_context_stack = &making->context;
}

void
moe_making_leave(moe_making *making)
{
    if (making->record == NULL)
        return;
    error_context_stack = making->context.previous;
    moe_sql_end(making->level);
}

static bool
begin_create(moe_making *making)
{
    const moe_statement *statement = making->statement;
    RangeVar *name = statement->name;

    making->definition = statement;
    making->name = name->relname;
    making->schema = moe_model_claim_name(name);
    making->existing = get_relname_relid(name->relname, making->schema);
    if (OidIsValid(making->existing) && statement->if_exists)
    {
        ereport(NOTICE,
                (errcode(ERRCODE_DUPLICATE_TABLE), errmsg("relation \"%s\" already exists, skipping", name->relname)));
        return false;
    }
    if (OidIsValid(making->existing) && !statement->or_replace)
        ereport(ERROR, (errcode(ERRCODE_DUPLICATE_TABLE), errmsg("relation \"%s\" already exists", name->relname),
                        moe_model_is(making->existing)
                            ? errhint("CREATE OR REPLACE MODEL replaces it, REFRESH MODEL trains it again.")
                            : errhint("Choose another name.")));
    if (OidIsValid(making->existing) && !moe_model_is(making->existing))
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is not a model", name->relname),
                        errhint("CREATE OR REPLACE MODEL replaces models only. Choose another name.")));
    if (OidIsValid(making->existing))
        making->existing = moe_model_owned(makeRangeVar(get_namespace_name(making->schema), name->relname, -1),
                                           ShareUpdateExclusiveLock, false);
    moe_model_require_server();
    return true;
}

bool
moe_making_begin_stored(moe_making *making, moe_statement *statement, LOCKMODE lock)
{
    Oid relid = moe_model_owned(statement->name, lock, statement->if_exists);
    Snapshot snapshot;
    const char *text;

    *making = (moe_making){.statement = statement};
    if (!OidIsValid(relid))
        return false;
    snapshot = moe_catalog_snapshot();
    making->existing = relid;
    making->name = get_rel_name(relid);
    making->schema = get_rel_namespace(relid);
    making->record = moe_model_load_record(relid, snapshot);
    UnregisterSnapshot(snapshot);
    text = making->record->info.definition;
    moe_making_enter(making);
    making->definition = moe_statement_parse(text, 0, (int) strlen(text));
    if (making->definition->kind != MOE_CREATE_MODEL)
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                        errmsg("the stored definition of model \"%s\" is no CREATE MODEL", making->name),
                        errhint("Drop the model and create it again.")));
    moe_making_leave(making);
    return true;
}

bool
moe_making_begin(moe_making *making, moe_statement *statement)
{
    if (statement->kind != MOE_CREATE_MODEL)
        return moe_making_begin_stored(making, statement, ShareUpdateExclusiveLock);
    *making = (moe_making){.statement = statement};
    return begin_create(making);
}

void
moe_making_recheck(moe_making *making, moe_training *training)
{
    uint64 before = moe_store_signature(training->schema);
    moe_schema *schema;
    int level;

    moe_making_enter(making);
    level = moe_sql_begin_model(NULL);
    schema = moe_model_discover(making->definition, moe_model_options_parse(making->definition->options), true);
    moe_sql_end(level);
    moe_making_leave(making);
    if (moe_store_signature(schema) != before)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("the tables of model \"%s\" were changed while it was trained", making->name),
                        errdetail("Tables, columns or foreign keys are others than those that were read."),
                        errhint("Repeat the statement.")));
    training->schema = schema;
}

void
moe_making_store(moe_making *making, moe_training *training)
{
    if (making->record != NULL)
        moe_model_reinstall(training, making->existing, making->record);
    else
    {
        training->record.created_at = training->record.trained_at;
        moe_model_install(training, making->existing, making->schema, making->statement->name, making->statement->text);
    }
    MemoryContextDelete(training->context);
}
