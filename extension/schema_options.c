/*
 * schema_options.c: the statement's options time_columns and ignored_columns,
 * matched against the tables of the graph.
 */
#include "postgres.h"

#include "access/relation.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/varlena.h"

#include "extension/moe_ml.h"
#include "extension/schema_internal.h"

/* Raise for a table that the graph does not have. */
static void
no_such_table(const moe_schema *schema, const char *name, const char *option)
{
    const char **names = palloc(sizeof(char *) * schema->n_tables);
    const char *near;

    for (int t = 0; t < schema->n_tables; t++)
        names[t] = schema->tables[t].name;
    near = moe_nearest_name(name, names, schema->n_tables);
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
                    errmsg("table \"%s\" of option %s is not part of the graph", name, option),
                    near != NULL ? errhint("Perhaps you meant the table \"%s\".", near)
                                 : errhint("See SELECT * FROM moe_ml.graph('%s').", schema->tables[0].name)));
}

/* The table that [schema.]table names. */
static int
find_table(const moe_schema *schema, const char *namespace, const char *name, const char *option)
{
    int found = -1;

    for (int t = 0; t < schema->n_tables; t++)
    {
        if (strcmp(schema->tables[t].name, name) != 0 ||
            (namespace != NULL && strcmp(schema->tables[t].schema, namespace) != 0))
            continue;
        if (found >= 0)
            ereport(ERROR, (errcode(ERRCODE_AMBIGUOUS_PARAMETER),
                            errmsg("table \"%s\" of option %s is ambiguous", name, option),
                            errhint("Write its schema: '%s.%s.column' or '%s.%s.column'.", schema->tables[found].schema,
                                    name, schema->tables[t].schema, name)));
        found = t;
    }
    if (found < 0)
        no_such_table(schema, name, option);
    return found;
}

/* "[schema.]table.column" cut into its parts. */
static List *
split_column(const char *text, const char *option)
{
    List *parts;

    if (!SplitIdentifierString(pstrdup(text), '.', &parts) || list_length(parts) < 2 || list_length(parts) > 3)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("option %s does not name a column: \"%s\"", option, text),
                        errhint("Write 'table.column' or 'schema.table.column'; several are separated by commas.")));
    return parts;
}

static const char *
schema_part(const List *parts)
{
    return list_length(parts) == 3 ? linitial(parts) : NULL;
}

static const char *
table_part(const List *parts)
{
    return list_nth(parts, list_length(parts) - 2);
}

/* Find the table of a column option; column is what stands last. */
static int
parse_column(const moe_schema *schema, const char *text, const char *option, char **column)
{
    List *parts = split_column(text, option);

    *column = llast(parts);
    return find_table(schema, schema_part(parts), table_part(parts), option);
}

bool
moe_schema_ignores_key(const moe_foreign_key *key, const char *text)
{
    List *parts = split_column(text, "ignored_columns");
    const char *namespace = schema_part(parts);

    if (strcmp(get_rel_name(key->child), table_part(parts)) != 0 ||
        (namespace != NULL && strcmp(get_namespace_name(get_rel_namespace(key->child)), namespace) != 0))
        return false;
    for (int i = 0; i < key->n_columns; i++)
    {
        if (strcmp(get_attname(key->child, key->child_columns[i], false), llast(parts)) == 0)
            return true;
    }
    return false;
}

static void
choose_time_column(const moe_schema *schema, moe_schema_choices *choices, const char *text)
{
    char *name;
    int t = parse_column(schema, text, "time_columns", &name);
    const moe_schema_table *table = &schema->tables[t];
    int column = moe_catalog_column_named(table, name);

    if (column < 0 && strcmp(name, "none") == 0)
    {
        choices[t].timeless = true;
        return;
    }
    if (column < 0)
        moe_schema_no_such_column(table, name);
    if (!moe_rules_is_time(table->columns[column].type))
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                        errmsg("column \"%s\" of table \"%s\" is not a date or timestamp", name, table->name),
                        errhint("A row time is a column of type date, timestamp or timestamptz; '%s.none' says that "
                                "the table has none.",
                                table->name)));
    choices[t].time = column;
}

static void
choose_ignored_column(const moe_schema *schema, moe_schema_choices *choices, const char *text)
{
    char *name;
    int t = parse_column(schema, text, "ignored_columns", &name);
    int column = moe_catalog_column_named(&schema->tables[t], name);

    if (column < 0)
        moe_schema_no_such_column(&schema->tables[t], name);
    choices[t].ignored = bms_add_member(choices[t].ignored, column);
}

moe_schema_choices *
moe_schema_choose(const moe_schema *schema, const moe_schema_request *request, const List *obeyed)
{
    moe_schema_choices *choices = palloc0(sizeof(*choices) * Max(schema->n_tables, 1));
    ListCell *cell;

    for (int t = 0; t < schema->n_tables; t++)
        choices[t].time = -1;
    foreach (cell, request->time_columns)
        choose_time_column(schema, choices, lfirst(cell));
    foreach (cell, request->ignored_columns)
    {
        if (!list_member_ptr(obeyed, lfirst(cell)))
            choose_ignored_column(schema, choices, lfirst(cell));
    }
    if (request->target != 0)
    {
        Relation entity = relation_open(request->entity, AccessShareLock);

        choices[0].derived = moe_catalog_derived(entity, request->target);
        relation_close(entity, NoLock);
    }
    return choices;
}
