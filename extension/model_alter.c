/*
 * model_alter.c: ALTER MODEL.
 *
 * Name, schema and owner are the foreign table's, and changed as such. Options
 * are part of the definition: SET and RESET write it anew, and the next REFRESH
 * MODEL trains with it. What the model has learned, and what is told of its
 * training, stays as it is until then; only `show` counts at once, as a column.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "extension/model_command.h"
#include "extension/model_make.h"
#include "extension/model_options.h"
#include "extension/model_worker.h"

#define SHOW "show" /* the one option that counts when predicting */

void
moe_model_alter_relation(const moe_statement *statement)
{
    Oid relid = moe_model_owned(statement->name, AccessExclusiveLock, statement->if_exists);
    Node *node;

    if (!OidIsValid(relid))
        return;
    if (statement->kind == MOE_RENAME_MODEL)
    {
        RenameStmt *rename = makeNode(RenameStmt);

        rename->renameType = OBJECT_FOREIGN_TABLE;
        rename->relation = moe_model_range_var(relid);
        rename->newname = statement->new_name;
        node = (Node *) rename;
    }
    else if (statement->kind == MOE_SCHEMA_MODEL)
    {
        AlterObjectSchemaStmt *move = makeNode(AlterObjectSchemaStmt);

        move->objectType = OBJECT_FOREIGN_TABLE;
        move->relation = moe_model_range_var(relid);
        move->newschema = statement->new_name;
        node = (Node *) move;
    }
    else
    {
        AlterTableStmt *alter = makeNode(AlterTableStmt);
        AlterTableCmd *cmd = makeNode(AlterTableCmd);

        cmd->subtype = AT_ChangeOwner;
        cmd->newowner = statement->new_owner;
        alter->relation = moe_model_range_var(relid);
        alter->cmds = list_make1(cmd);
        alter->objtype = OBJECT_FOREIGN_TABLE;
        node = (Node *) alter;
    }
    moe_model_run_utility(node, statement->text);
}

/* Raise for what is no option of a model, or one that it keeps for life. */
static void
check_changeable(const DefElem *option)
{
    if (strcmp(option->defname, "background") == 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("option \"background\" is a statement's, not a model's"),
                        errhint("Write it where it is to count: REFRESH MODEL ... WITH (background)."),
                        moe_statement_position(option->location)));
    if (strcmp(option->defname, "task") == 0)
        ereport(ERROR,
                (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("model option \"task\" cannot be changed"),
                 errdetail("The columns of the model follow from it."),
                 errhint("CREATE OR REPLACE MODEL makes the model anew."), moe_statement_position(option->location)));
}

static DefElem *
find_option(List *options, const char *name)
{
    ListCell *cell;

    foreach (cell, options)
        if (strcmp(lfirst_node(DefElem, cell)->defname, name) == 0)
            return lfirst(cell);
    return NULL;
}

/* A definition's options with those of the statement put in, or taken out. They have no place in one text any more. */
static List *
changed_options(List *defined, const moe_statement *statement)
{
    List *options = NIL;
    ListCell *cell;

    foreach (cell, defined)
    {
        const DefElem *option = lfirst(cell);
        const DefElem *changed = find_option(statement->options, option->defname);

        if (changed == NULL || changed->arg != NULL)
            options = lappend(options, makeDefElem(option->defname, changed ? changed->arg : option->arg, -1));
    }
    foreach (cell, statement->options)
    {
        const DefElem *option = lfirst(cell);

        if (option->arg != NULL && find_option(defined, option->defname) == NULL)
            options = lappend(options, makeDefElem(option->defname, option->arg, -1));
    }
    return options;
}

/* Each by itself, and with its place in the statement. */
static void
check_options(const moe_statement *statement)
{
    ListCell *cell;

    foreach (cell, statement->options)
        check_changeable(lfirst(cell));
    if (statement->kind == MOE_SET_MODEL)
        (void) moe_model_options_parse(statement->options);
    else
        foreach (cell, statement->options)
            moe_model_option_require(lfirst(cell));
}

/* Is the option given that tells which columns to show? others: is any besides it? */
static bool
gives_show(const moe_statement *statement, bool *others)
{
    bool show = find_option(statement->options, SHOW) != NULL;

    *others = list_length(statement->options) > show;
    return show;
}

/* Add the column with the experts' weights to the model's relation, or drop it, where it is not as is asked for. */
static void
set_show(Oid relid, bool experts, const char *text)
{
    AlterTableStmt *alter = makeNode(AlterTableStmt);
    AlterTableCmd *cmd = makeNode(AlterTableCmd);
    AttrNumber column = get_attnum(relid, MOE_EXPERTS_COLUMN);

    if (experts == (column != InvalidAttrNumber && get_atttype(relid, column) == JSONBOID))
        return;
    cmd->subtype = experts ? AT_AddColumn : AT_DropColumn;
    cmd->name = pstrdup(MOE_EXPERTS_COLUMN);
    cmd->behavior = DROP_RESTRICT;
    if (experts)
        cmd->def = (Node *) makeColumnDef(MOE_EXPERTS_COLUMN, JSONBOID, -1, InvalidOid);
    alter->relation = moe_model_range_var(relid);
    alter->cmds = list_make1(cmd);
    alter->objtype = OBJECT_FOREIGN_TABLE;
    moe_model_run_utility((Node *) alter, text);
}

void
moe_model_alter_options(moe_statement *statement)
{
    bool train;
    bool show = gives_show(statement, &train);
    moe_model_options *options;
    moe_statement *changed;
    moe_making making;
    char *text;

    check_options(statement);
    if (!moe_making_begin_stored(&making, statement, show ? AccessExclusiveLock : ShareUpdateExclusiveLock))
        return;
    moe_making_enter(&making);
    text = moe_statement_with_options(making.definition, changed_options(making.definition->options, statement));
    changed = moe_statement_parse(text, 0, (int) strlen(text));
    options = moe_model_options_parse(changed->options);
    if (train)
    {
        moe_schema *schema;

        (void) moe_model_check(changed, &schema);
    }
    moe_making_leave(&making);
    if (show)
        set_show(making.existing, options->show_experts, statement->text);
    moe_catalog_set_definition(&making.record->info.id, text, show ? options->show : NULL);
    if (train)
        ereport(NOTICE, (errmsg("the next REFRESH MODEL of \"%s\" trains with these options", making.name)));
}
