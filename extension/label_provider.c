/*
 * label_provider.c: what people declare about tables and columns.
 *
 * Declarations are security labels of provider moe_ml: they belong to the
 * object, need its ownership, and pg_dump dumps them. SECURITY LABEL accepts a
 * provider only once the library is loaded in the session;
 * moe_ml.declare() loads it by being called and sets the same label.
 *
 * A server with one provider takes SECURITY LABEL without FOR as meant for it.
 * So that preloading the library changes no statement of others, a preloaded
 * library becomes a provider only when a statement names it.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "commands/seclabel.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/varlena.h"

#include "extension/moe_ml.h"
#include "extension/schema_internal.h"

#define PROVIDER "moe_ml"

typedef struct moe_word
{
    const char *text;
    moe_declared what;
    bool on_table;
    bool on_column;
    bool has_argument;
} moe_word;

static const moe_word words[] = {
    {"timeless", MOE_DECLARED_TIMELESS, true, false, false}, {"ignore", MOE_DECLARED_IGNORE, true, true, false},
    {"time", MOE_DECLARED_TIME, false, true, false},         {"numeric", MOE_DECLARED_NUMERIC, false, true, false},
    {"category", MOE_DECLARED_CATEGORY, false, true, false}, {"text", MOE_DECLARED_TEXT, false, true, false},
    {"known", MOE_DECLARED_KNOWN, false, true, false},       {"known at", MOE_DECLARED_KNOWN_AT, false, true, true},
    {"key", MOE_DECLARED_KEY, false, true, false},           {"references", MOE_DECLARED_REFERENCES, false, true, true},
};

/* Parse a label; false if it says nothing that is allowed there. */
static bool
parse_declaration(const char *text, bool on_column, moe_declaration *out)
{
    for (int i = 0; i < lengthof(words); i++)
    {
        size_t length = strlen(words[i].text);

        if (!(on_column ? words[i].on_column : words[i].on_table) || strncmp(text, words[i].text, length) != 0)
            continue;
        if (!words[i].has_argument && text[length] == '\0')
        {
            out->what = words[i].what;
            out->argument = NULL;
            return true;
        }
        if (words[i].has_argument && text[length] == ' ' && text[length + 1] != '\0')
        {
            out->what = words[i].what;
            out->argument = pstrdup(text + length + 1);
            return true;
        }
    }
    return false;
}

List *
moe_schema_referenced_name(const char *argument)
{
    List *names = textToQualifiedNameList(cstring_to_text(argument));

    if (list_length(names) > 2)
        ereport(ERROR,
                (errcode(ERRCODE_SYNTAX_ERROR), errmsg("improper qualified name (too many dotted names): %s", argument),
                 errhint("Write 'references ' and the name of a table, or schema.table.")));
    return names;
}

moe_declaration
moe_schema_declaration(Oid relid, AttrNumber attnum)
{
    ObjectAddress object;
    moe_declaration declaration = {MOE_DECLARED_NOTHING, NULL};
    char *label;

    ObjectAddressSubSet(object, RelationRelationId, relid, attnum);
    label = GetSecurityLabel(&object, PROVIDER);
    if (label != NULL)
        parse_declaration(label, attnum != 0, &declaration);
    return declaration;
}

/* The column that 'known at' names must be a date or timestamp of the same table. */
static void
check_known_at(Oid relid, const char *column)
{
    AttrNumber attnum = get_attnum(relid, column);

    if (attnum == InvalidAttrNumber)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
                        errmsg("column \"%s\" of table \"%s\" does not exist", column, get_rel_name(relid)),
                        errhint("Write 'known at ' and the name of a date or timestamp column of the same table, "
                                "without quotes.")));
    if (!moe_rules_is_time(getBaseType(get_atttype(relid, attnum))))
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                        errmsg("column \"%s\" of table \"%s\" is not a date or timestamp", column, get_rel_name(relid)),
                        errhint("Name the column that says when the value became known.")));
}

/* A row time is a date or timestamp, and a table has one. */
static void
check_time(Oid relid, AttrNumber attnum)
{
    Relation relation = relation_open(relid, AccessShareLock);
    int n = RelationGetNumberOfAttributes(relation);

    relation_close(relation, NoLock);
    if (!moe_rules_is_time(getBaseType(get_atttype(relid, attnum))))
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                        errmsg("column \"%s\" of table \"%s\" is not a date or timestamp",
                               get_attname(relid, attnum, false), get_rel_name(relid)),
                        errhint("A row time is a column of type date, timestamp or timestamptz.")));
    for (AttrNumber other = 1; other <= n; other++)
    {
        if (other == attnum || moe_schema_declaration(relid, other).what != MOE_DECLARED_TIME)
            continue;
        ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT),
                        errmsg("column \"%s\" is already declared as the time of table \"%s\"",
                               get_attname(relid, other, false), get_rel_name(relid)),
                        errhint("Take it back first: SELECT moe_ml.declare('%s', '%s', NULL).", get_rel_name(relid),
                                get_attname(relid, other, false))));
    }
}

static void
check_numeric(Oid relid, AttrNumber attnum)
{
    moe_storage storage;
    moe_encoding encoding;
    char *reason;

    if (moe_rules_storage(getBaseType(get_atttype(relid, attnum)), &storage, &encoding, &reason) &&
        (storage == MOE_STORE_NUMBER || storage == MOE_STORE_BOOL))
        return;
    ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                    errmsg("column \"%s\" of table \"%s\" is not a number", get_attname(relid, attnum, false),
                           get_rel_name(relid)),
                    errhint("Declare it 'category' or 'text', or let a generated column turn it into a number.")));
}

/* Refuse a label that this module would not understand. */
static void
check_label(const ObjectAddress *object, const char *label)
{
    moe_declaration declaration;
    bool on_column = object->objectSubId != 0;

    if (object->classId != RelationRelationId || !moe_catalog_is_table(get_rel_relkind(object->objectId)))
        ereport(ERROR,
                (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("moe_ml labels only tables, views and their columns")));
    if (label == NULL)
        return;
    if (!parse_declaration(label, on_column, &declaration))
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("moe_ml does not know the declaration \"%s\"", label),
                 on_column ? errhint("On a column write 'time', 'ignore', 'numeric', 'category', 'text', 'known', "
                                     "'known at <column>', 'key' or 'references <table>'.")
                           : errhint("On a table write 'timeless' or 'ignore'.")));
    if (declaration.what == MOE_DECLARED_KNOWN_AT)
        check_known_at(object->objectId, declaration.argument);
    if (declaration.what == MOE_DECLARED_REFERENCES)
        (void) moe_schema_referenced_name(declaration.argument);
    if (declaration.what == MOE_DECLARED_TIME)
        check_time(object->objectId, object->objectSubId);
    if (declaration.what == MOE_DECLARED_NUMERIC)
        check_numeric(object->objectId, object->objectSubId);
}

static ProcessUtility_hook_type next_process_utility;

static void
become_provider(void)
{
    static bool done = false;

    if (!done)
        register_label_provider(PROVIDER, check_label);
    done = true;
}

/* Become a provider before a SECURITY LABEL FOR moe_ml. */
static void
process_utility(PlannedStmt *statement, const char *source, bool read_only_tree, ProcessUtilityContext context,
                ParamListInfo parameters, QueryEnvironment *environment, DestReceiver *destination,
                QueryCompletion *completion)
{
    ProcessUtility_hook_type next = next_process_utility ? next_process_utility : standard_ProcessUtility;

    if (IsA(statement->utilityStmt, SecLabelStmt))
    {
        const char *provider = ((SecLabelStmt *) statement->utilityStmt)->provider;

        if (provider && strcmp(provider, PROVIDER) == 0)
            become_provider();
    }
    next(statement, source, read_only_tree, context, parameters, environment, destination, completion);
}

void
moe_schema_init(void)
{
    if (!process_shared_preload_libraries_in_progress)
    {
        become_provider();
        return;
    }
    next_process_utility = ProcessUtility_hook;
    ProcessUtility_hook = process_utility;
}

/*
 * moe_ml.declare(table regclass, column name, declaration text): set the
 * label; a NULL column means the table, a NULL declaration takes it back.
 */
MOE_FUNCTION(moe_graph_declare);
Datum
moe_graph_declare(PG_FUNCTION_ARGS)
{
    ObjectAddress object;
    Oid relid;
    char *label = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
    AttrNumber attnum = 0;

    PreventCommandIfReadOnly("moe_ml.declare()");
    if (PG_ARGISNULL(0))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the table must not be NULL"),
                        errhint("Write moe_ml.declare('table', 'column', 'time').")));
    relid = PG_GETARG_OID(0);
    if (get_rel_name(relid) == NULL)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", relid)));
#if PG_VERSION_NUM >= 160000
    if (!object_ownercheck(RelationRelationId, relid, GetUserId()))
#else
    if (!pg_class_ownercheck(relid, GetUserId()))
#endif
        aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(get_rel_relkind(relid)), get_rel_name(relid));
    if (!PG_ARGISNULL(1))
    {
        attnum = get_attnum(relid, NameStr(*PG_GETARG_NAME(1)));
        if (attnum <= 0)
            ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
                            errmsg("column \"%s\" of table \"%s\" does not exist", NameStr(*PG_GETARG_NAME(1)),
                                   get_rel_name(relid)),
                            errhint("Pass NULL as the column to declare something about the table itself.")));
    }
    ObjectAddressSubSet(object, RelationRelationId, relid, attnum);
    check_label(&object, label);
    SetSecurityLabel(&object, PROVIDER, label);
    PG_RETURN_VOID();
}
