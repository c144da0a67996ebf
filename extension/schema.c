/*
 * schema.c: find the graph of an entity table.
 *
 * Breadth first over foreign keys in both directions. Tables stand by their
 * distance from the entity, then by schema and name; keys by child table and
 * constraint name: the same database gives the same graph.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/varlena.h"

#include "extension/model.h"
#include "extension/moe_ml.h"
#include "extension/schema_internal.h"

/* The state of one discovery. */
typedef struct moe_discovery
{
    const moe_schema_request *request;
    List *keys;   /* all usable foreign keys of the database */
    List *obeyed; /* items of ignored_columns that left out a key */
    List *tables; /* of Oid, in the order of the graph */
    moe_schema *schema;
} moe_discovery;

/* Is a column of the key kept out of the graph: the target, or declared or said to be ignored? */
static bool
key_is_left_out(moe_discovery *discovery, const moe_foreign_key *key)
{
    const moe_schema_request *request = discovery->request;
    bool left_out = false;
    ListCell *cell;

    for (int i = 0; i < key->n_columns; i++)
        left_out |=
            (request->target != 0 && key->child == request->entity && key->child_columns[i] == request->target) ||
            moe_schema_declaration(key->child, key->child_columns[i]).what == MOE_DECLARED_IGNORE;
    foreach (cell, request->ignored_columns)
    {
        if (!moe_schema_ignores_key(key, lfirst(cell)))
            continue;
        left_out = true;
        discovery->obeyed = list_append_unique_ptr(discovery->obeyed, lfirst(cell));
    }
    return left_out;
}

/* The foreign keys of the database that may be edges. */
static List *
usable_keys(moe_discovery *discovery)
{
    List *keys = NIL;
    ListCell *cell;

    foreach (cell, moe_catalog_foreign_keys())
    {
        if (!key_is_left_out(discovery, lfirst(cell)))
            keys = lappend(keys, lfirst(cell));
    }
    return keys;
}

static bool
table_takes_part(const moe_schema_request *request, Oid relid)
{
    if (relid == request->entity)
        return true;
    if (request->using_tables != NIL)
        return list_member_oid(request->using_tables, relid);
    return moe_schema_declaration(relid, 0).what != MOE_DECLARED_IGNORE;
}

/* One end of a key with its name, for sorting a level. */
typedef struct moe_neighbour
{
    Oid relid;
    const char *sort;
} moe_neighbour;

static int
compare_neighbours(const ListCell *a, const ListCell *b)
{
    return strcmp(((moe_neighbour *) lfirst(a))->sort, ((moe_neighbour *) lfirst(b))->sort);
}

static void
add_once(List **level, Oid relid, const char *sort)
{
    ListCell *cell;
    moe_neighbour *neighbour;

    foreach (cell, *level)
    {
        if (((moe_neighbour *) lfirst(cell))->relid == relid)
            return;
    }
    neighbour = palloc(sizeof(*neighbour));
    neighbour->relid = relid;
    neighbour->sort = sort;
    *level = lappend(*level, neighbour);
}

static void
add_neighbour(moe_discovery *discovery, List **level, Oid relid, const char *sort)
{
    if (!list_member_oid(discovery->tables, relid) && table_takes_part(discovery->request, relid))
        add_once(level, relid, sort);
}

/* Fill discovery->tables, level by level. */
static void
reach(moe_discovery *discovery)
{
    List *frontier = list_make1_oid(discovery->request->entity);

    discovery->tables = list_copy(frontier);
    while (frontier != NIL)
    {
        List *level = NIL;
        ListCell *cell;

        foreach (cell, discovery->keys)
        {
            moe_foreign_key *key = lfirst(cell);

            if (list_member_oid(frontier, key->child))
                add_neighbour(discovery, &level, key->parent, key->parent_sort);
            if (list_member_oid(frontier, key->parent))
                add_neighbour(discovery, &level, key->child, key->child_sort);
        }
        list_sort(level, compare_neighbours);
        frontier = NIL;
        foreach (cell, level)
            frontier = lappend_oid(frontier, ((moe_neighbour *) lfirst(cell))->relid);
        discovery->tables = list_concat(discovery->tables, frontier);
    }
}

/* Refuse what cannot be a table of the graph. */
static void
check_kind(Oid relid)
{
    char *name = get_rel_name(relid);

    if (name == NULL)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", relid)));
    if (!moe_catalog_is_table(get_rel_relkind(relid)))
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is not a table or view", name),
                        errhint("Name a table, a partitioned table, a foreign table or a view.")));
    if (moe_model_is(relid))
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is a model", name),
                        errdetail("Its rows are predictions of today, not known at a seed time."),
                        errhint("Name a table that holds data.")));
    if (moe_catalog_root(relid) != relid)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is a partition", name),
                        errhint("Name the partitioned table \"%s\" instead.", get_rel_name(moe_catalog_root(relid)))));
}

static void
check_using(const moe_discovery *discovery)
{
    ListCell *cell;

    foreach (cell, discovery->request->using_tables)
    {
        Oid relid = lfirst_oid(cell);
        char kind = get_rel_relkind(relid);

        check_kind(relid);
        if (list_member_oid(discovery->tables, relid))
            continue;
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_TABLE_DEFINITION),
                 errmsg("no foreign key connects table \"%s\" to \"%s\"", get_rel_name(relid),
                        get_rel_name(discovery->request->entity)),
                 errdetail("The path may lead only over tables that USING names."),
                 kind == RELKIND_VIEW || kind == RELKIND_MATVIEW || kind == RELKIND_FOREIGN_TABLE
                     ? errhint("It can have no foreign key: declare the column that refers to another table, SELECT "
                               "moe_ml.declare('%s', 'column', 'references table').",
                               get_rel_name(relid))
                     : errhint("Add a foreign key (NOT VALID will do), or the tables in between to USING.")));
    }
}

static int
table_index(const moe_discovery *discovery, Oid relid)
{
    ListCell *cell;

    foreach (cell, discovery->tables)
    {
        if (lfirst_oid(cell) == relid)
            return foreach_current_index(cell);
    }
    return -1;
}

/* Describe the tables and hold them against change until the transaction ends. */
static void
describe_tables(moe_discovery *discovery)
{
    moe_schema *schema = discovery->schema;
    ListCell *cell;

    schema->tables = palloc0(sizeof(moe_schema_table) * Max(list_length(discovery->tables), 1));
    foreach (cell, discovery->tables)
    {
        Relation relation = relation_open(lfirst_oid(cell), AccessShareLock);

        moe_catalog_describe(relation, &schema->tables[schema->n_tables++]);
        relation_close(relation, NoLock);
    }
}

/* Mark the columns of a key that are no keys yet. */
static void
mark_key(moe_schema_table *table, int column, moe_column_role role, char *reason)
{
    if (column < 0 || table->columns[column].role == MOE_ROLE_KEY)
        return;
    table->columns[column].role = role;
    table->columns[column].reason = reason;
}

static void
add_edge(moe_schema *schema, const moe_foreign_key *key, int child, int parent)
{
    moe_schema_edge *edge = &schema->edges[schema->n_edges++];

    edge->name = key->name;
    edge->child = child;
    edge->parent = parent;
    edge->n_columns = key->n_columns;
    edge->child_columns = palloc(sizeof(int) * key->n_columns);
    edge->parent_columns = palloc(sizeof(int) * key->n_columns);
    for (int i = 0; i < key->n_columns; i++)
    {
        edge->child_columns[i] = moe_catalog_column(&schema->tables[child], key->child_columns[i]);
        edge->parent_columns[i] = moe_catalog_column(&schema->tables[parent], key->parent_columns[i]);
    }
}

static void
mark_roles(moe_discovery *discovery, const moe_foreign_key *key, int child, int parent)
{
    moe_schema *schema = discovery->schema;

    for (int i = 0; i < key->n_columns; i++)
    {
        if (parent >= 0)
            mark_key(&schema->tables[parent], moe_catalog_column(&schema->tables[parent], key->parent_columns[i]),
                     MOE_ROLE_KEY, "key of a reference");
        if (child >= 0)
            mark_key(&schema->tables[child], moe_catalog_column(&schema->tables[child], key->child_columns[i]),
                     MOE_ROLE_FOREIGN_KEY,
                     parent >= 0 ? psprintf("references %s", schema->tables[parent].name)
                                 : psprintf("references %s, outside the graph", key->parent_sort));
    }
}

static void
link_tables(moe_discovery *discovery)
{
    moe_schema *schema = discovery->schema;
    ListCell *cell;

    for (int t = 0; t < schema->n_tables; t++)
    {
        for (int i = 0; i < schema->tables[t].n_key; i++)
            mark_key(&schema->tables[t], schema->tables[t].key[i], MOE_ROLE_KEY, "primary key");
    }
    schema->edges = palloc0(sizeof(moe_schema_edge) * Max(list_length(discovery->keys), 1));
    foreach (cell, discovery->keys)
    {
        moe_foreign_key *key = lfirst(cell);
        int child = table_index(discovery, key->child);
        int parent = table_index(discovery, key->parent);

        mark_roles(discovery, key, child, parent);
        if (child >= 0 && parent >= 0)
            add_edge(schema, key, child, parent);
    }
}

/* The entity's key: FOR EACH table.key, or the primary key. */
static void
settle_entity_key(moe_schema *schema, const moe_schema_request *request)
{
    moe_schema_table *entity = &schema->tables[0];
    Relation relation;
    bool unique;
    int column;

    schema->n_key = entity->n_key;
    schema->key = entity->key;
    if (request->entity_key == NULL)
    {
        if (schema->n_key == 0)
            ereport(ERROR,
                    (errcode(ERRCODE_INVALID_TABLE_DEFINITION), errmsg("table \"%s\" has no primary key", entity->name),
                     errhint("Name a unique column: FOR EACH %s.column.", quote_identifier(entity->name))));
        return;
    }
    column = moe_catalog_column_named(entity, request->entity_key);
    if (column < 0)
        moe_schema_no_such_column(entity, request->entity_key);
    if (entity->n_key == 1 && entity->key[0] == column)
        return;
    relation = relation_open(entity->relid, AccessShareLock);
    unique = moe_catalog_is_unique(relation, entity->columns[column].attnum);
    relation_close(relation, NoLock);
    if (!unique)
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_TABLE_DEFINITION),
                 errmsg("column \"%s\" of table \"%s\" is not unique", request->entity_key, entity->name),
                 errdetail("One prediction is made for each row, found by its key."),
                 errhint("Name the primary key, or create a unique index on the column. For a view or a foreign table: "
                         "SELECT moe_ml.declare('%s', '%s', 'key').",
                         entity->name, request->entity_key)));
    schema->n_key = 1;
    schema->key = palloc(sizeof(int));
    schema->key[0] = column;
    mark_key(entity, column, MOE_ROLE_KEY, "the entity's key");
}

static void
refuse_target_in_key(const moe_schema *schema, AttrNumber target)
{
    for (int i = 0; target != 0 && i < schema->n_key; i++)
    {
        if (schema->tables[0].columns[schema->key[i]].attnum == target)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                            errmsg("the target \"%s\" is part of the key of table \"%s\"",
                                   schema->tables[0].columns[schema->key[i]].name, schema->tables[0].name),
                            errhint("Predict another column.")));
    }
}

void
moe_schema_no_such_column(const moe_schema_table *table, const char *name)
{
    const char **names = palloc(sizeof(char *) * Max(table->n_columns, 1));
    const char *near;

    for (int i = 0; i < table->n_columns; i++)
        names[i] = table->columns[i].name;
    near = moe_nearest_name(name, names, table->n_columns);
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
                    errmsg("column \"%s\" of table \"%s\" does not exist", name, table->name),
                    near != NULL ? errhint("Perhaps you meant the column \"%s\".", near)
                                 : errhint("See \\d %s for its columns.", table->name)));
}

static void
tell_times(const moe_schema *schema)
{
    for (int t = 0; t < schema->n_tables; t++)
    {
        const moe_schema_table *table = &schema->tables[t];

        if (strncmp(table->time_reason, "by rule", 7) != 0)
            continue;
        if (table->time < 0 && moe_schema_time_name(schema, t) != NULL)
            moe_notice("time of \"%s\": %s (%s)", table->name, moe_schema_time_name(schema, t), table->time_reason);
        else if (table->time >= 0)
            moe_notice("time column of \"%s\": \"%s\" (%s)", table->name, table->columns[table->time].name,
                       table->time_reason);
        else
            moe_notice("no time column of \"%s\": its rows are always visible (%s)", table->name, table->time_reason);
    }
}

/* Choose roles and times of described tables, and link them. */
static void
settle(moe_discovery *discovery)
{
    const moe_schema_request *request = discovery->request;
    moe_schema *schema = discovery->schema;
    moe_schema_choices *choices = moe_schema_choose(schema, request, discovery->obeyed);

    link_tables(discovery);
    if (OidIsValid(request->entity))
    {
        settle_entity_key(schema, request);
        refuse_target_in_key(schema, request->target);
    }
    for (int t = 0; t < schema->n_tables; t++)
        moe_rules_apply(&schema->tables[t], &choices[t]);
    moe_schema_inherit_times(schema, OidIsValid(request->entity));
    moe_schema_settle_time_type(schema);
}

moe_schema *
moe_schema_discover(const moe_schema_request *request)
{
    moe_discovery discovery = {.request = request};

    check_kind(request->entity);
    discovery.keys = usable_keys(&discovery);
    discovery.schema = palloc0(sizeof(moe_schema));
    reach(&discovery);
    check_using(&discovery);
    describe_tables(&discovery);
    settle(&discovery);
    moe_catalog_check_privileges(discovery.schema, NULL);
    if (!request->quiet)
        tell_times(discovery.schema);
    return discovery.schema;
}

/* Tables that have a foreign key in or out and that the current user may at least partly read. */
static List *
visible_tables(List *keys)
{
    List *tables = NIL;
    ListCell *cell;

    foreach (cell, keys)
    {
        moe_foreign_key *key = lfirst(cell);

        if (moe_catalog_is_visible(key->child))
            add_once(&tables, key->child, key->child_sort);
        if (moe_catalog_is_visible(key->parent))
            add_once(&tables, key->parent, key->parent_sort);
    }
    list_sort(tables, compare_neighbours);
    return tables;
}

moe_schema *
moe_schema_survey(void)
{
    moe_schema_request request = {.quiet = true};
    moe_discovery discovery = {.request = &request};
    ListCell *cell;

    discovery.keys = usable_keys(&discovery);
    foreach (cell, visible_tables(discovery.keys))
        discovery.tables = lappend_oid(discovery.tables, ((moe_neighbour *) lfirst(cell))->relid);
    discovery.schema = palloc0(sizeof(moe_schema));
    describe_tables(&discovery);
    settle(&discovery);
    return discovery.schema;
}

static bool
contains(int n, const int *indices, int column)
{
    for (int i = 0; i < n; i++)
    {
        if (indices[i] == column)
            return true;
    }
    return false;
}

bool
moe_schema_column_is_read(const moe_schema *schema, int table, int column)
{
    const moe_schema_table *t = &schema->tables[table];

    if (t->columns[column].role == MOE_ROLE_FEATURE || t->columns[column].role == MOE_ROLE_TIME)
        return true;
    for (int i = 0; i < t->n_columns; i++)
    {
        if (t->columns[i].role == MOE_ROLE_FEATURE && t->columns[i].known_at == column)
            return true;
    }
    if (table == 0 && contains(schema->n_key, schema->key, column))
        return true;
    for (int e = 0; e < schema->n_edges; e++)
    {
        const moe_schema_edge *edge = &schema->edges[e];

        if ((edge->child == table && contains(edge->n_columns, edge->child_columns, column)) ||
            (edge->parent == table && contains(edge->n_columns, edge->parent_columns, column)))
            return true;
    }
    return false;
}
