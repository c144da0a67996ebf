/*
 * model_reach.c: from a model to the steps that its prediction of one row takes, and what they are expected to cost.
 */
#include "postgres.h"

#include <math.h>

#include "access/genam.h"
#include "access/table.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#include "extension/key_index.h"
#include "extension/model_reach.h"
#include "extension/moe_ml.h"

#define MOST_STEPS    200
#define SMALL_TABLE   10000 /* rows that may be searched without an index */
#define LOOK_UP_COST  8     /* of a row, where reading it among all of its table costs 1 */
#define STEP_COST     500   /* of a SELECT, in such rows */
#define NEVER_ANALYZE 1e3   /* rows of a table of which nothing is known */

int moe_setting_index_reads = MOE_INDEX_READS_AUTO;

static const struct config_enum_entry choices[] = {
    {"off", MOE_INDEX_READS_OFF, false}, {"auto", MOE_INDEX_READS_AUTO, false}, {"on", MOE_INDEX_READS_ON, false}, {0}};

void
moe_reach_init(void)
{
    DefineCustomEnumVariable("moe_ml.index_reads", "How a prediction for one key reads its rows.",
                             "auto: through indexes where that is expected to be less work than reading the tables; "
                             "on: wherever it is possible; off: never.",
                             &moe_setting_index_reads, MOE_INDEX_READS_AUTO, choices, PGC_USERSET, 0, NULL, NULL, NULL);
}

/* All neighbours of the rows of a step, `hops` far. */
static void
add_neighbours(const moe_schema *schema, int from, int table, int hops, moe_reach *reach)
{
    for (int e = 0; hops > 0 && e < schema->n_edges && reach->n <= MOST_STEPS; e++)
    {
        const moe_schema_edge *edge = &schema->edges[e];

        if (edge->parent == table)
            add_neighbours(schema, moe_reach_add(reach, MOE_REACH_CHILDREN, from, e, -1), edge->child, hops - 1, reach);
        if (edge->child == table)
            add_neighbours(schema, moe_reach_add(reach, MOE_REACH_PARENT, from, e, -1), edge->parent, hops - 1, reach);
    }
}

bool
moe_reach_of(const moe_schema *schema, int hops, const moe_inputs *inputs, moe_reach *reach)
{
    reach->n = 0;
    add_neighbours(schema, MOE_REACH_SELF, 0, hops, reach);
    moe_inputs_reach(inputs, reach);
    return reach->n <= MOST_STEPS;
}

static double
rows_of(const moe_schema *schema, int table)
{
    return schema->tables[table].rows > 0 ? schema->tables[table].rows : NEVER_ANALYZE;
}

/* Rows and SELECTs that the steps are expected to take. */
static void
estimate(const moe_schema *schema, const moe_reach *reach, double *rows)
{
    double *n = palloc(sizeof(double) * (reach->n + 1));

    *rows = 1;
    for (int s = 0; s < reach->n; s++)
    {
        const moe_reach_step *step = &reach->step[s];
        const moe_schema_edge *edge = &schema->edges[step->kind == MOE_REACH_LATEST ? step->other : step->key];
        double from = step->from < 0 ? 1 : n[step->from];
        double child = rows_of(schema, edge->child), parent = rows_of(schema, edge->parent);

        if (step->kind == MOE_REACH_CHILDREN)
            n[s] = Min(from * Max(child / parent, 1), child);
        else
            n[s] = step->kind == MOE_REACH_PARENT ? Min(from, parent) : 1;
        *rows += n[s];
    }
    pfree(n);
}

/* A valid index over all rows that begins with one of these columns, and finds a value's rows without others'. */
static bool
has_index(Oid relid, int n, const AttrNumber *columns)
{
    Relation rel = table_open(relid, AccessShareLock);
    ListCell *cell;
    bool found = false;

    foreach (cell, RelationGetIndexList(rel))
    {
        Relation index = index_open(lfirst_oid(cell), AccessShareLock);
        bool usable = index->rd_index->indisvalid &&
                      (index->rd_rel->relam == BTREE_AM_OID || index->rd_rel->relam == HASH_AM_OID) &&
                      heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL);

        for (int i = 0; i < n; i++)
            found = found || (usable && index->rd_index->indkey.values[0] == columns[i]);
        index_close(index, AccessShareLock);
    }
    table_close(rel, AccessShareLock);
    return found;
}

/* The columns of a table by which rows are looked for, as a list for people. */
static char *
missing_index(const moe_schema *schema, int t, int n, const int *columns)
{
    const moe_schema_table *table = &schema->tables[t];
    AttrNumber numbers[INDEX_MAX_KEYS];
    StringInfoData sql;

    if (rows_of(schema, t) < SMALL_TABLE)
        return NULL;
    for (int i = 0; i < n; i++)
        numbers[i] = table->columns[columns[i]].attnum;
    if (has_index(table->relid, n, numbers))
        return NULL;
    initStringInfo(&sql);
    appendStringInfo(&sql, "CREATE INDEX ON %s (", moe_schema_qualified(table));
    for (int i = 0; i < n; i++)
        appendStringInfo(&sql, "%s%s", i ? ", " : "", quote_identifier(table->columns[columns[i]].name));
    appendStringInfoString(&sql, ");");
    return sql.data;
}

static List *
add_missing(List *missing, char *index)
{
    ListCell *cell;

    if (index == NULL)
        return missing;
    foreach (cell, missing)
        if (strcmp(lfirst(cell), index) == 0)
            return missing;
    return lappend(missing, index);
}

/* The indexes that are missing, as statements. */
static List *
missing_indexes(const moe_schema *schema, const moe_reach *reach)
{
    List *missing = NIL;

    for (int s = 0; s < reach->n; s++)
    {
        const moe_reach_step *step = &reach->step[s];
        const moe_schema_edge *edge = &schema->edges[step->kind == MOE_REACH_LATEST ? step->other : step->key];

        if (step->kind == MOE_REACH_CHILDREN)
            missing = add_missing(missing, missing_index(schema, edge->child, edge->n_columns, edge->child_columns));
        else
            missing = add_missing(missing, missing_index(schema, edge->parent, edge->n_columns, edge->parent_columns));
    }
    for (int t = 0; t < schema->n_tables; t++)
        if (schema->tables[t].time >= 0)
            missing = add_missing(missing, missing_index(schema, t, 1, &schema->tables[t].time));
    return missing;
}

/* Tell of missing indexes, once a session and model. */
static void
tell(const char *model, List *missing)
{
    static List *told = NIL; /* of names */
    StringInfoData all;
    MemoryContext old;
    ListCell *cell;

    foreach (cell, told)
        if (strcmp(lfirst(cell), model) == 0)
            return;
    old = MemoryContextSwitchTo(TopMemoryContext);
    told = lappend(told, pstrdup(model));
    MemoryContextSwitchTo(old);
    initStringInfo(&all);
    foreach (cell, missing)
        appendStringInfo(&all, "%s%s", all.len > 0 ? " " : "", (char *) lfirst(cell));
    if (moe_setting_notices)
        ereport(NOTICE, (errmsg("model \"%s\" reads whole tables to predict for one key", model),
                         errdetail("Looking rows up needs indexes that are missing."), errhint("%s", all.data)));
}

static bool
has_places(Oid relid)
{
    char kind = get_rel_relkind(relid);

    return kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE || kind == RELKIND_MATVIEW;
}

/* Rows have places, those of partitions and other children too, and the user may ask for them. */
static bool
is_plain_table(const moe_schema_table *table)
{
    ListCell *cell;

    if (!has_places(table->relid) || pg_class_aclcheck(table->relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
        return false;
    if (has_subclass(table->relid))
        foreach (cell, find_all_inheritors(table->relid, NoLock, NULL))
            if (!has_places(lfirst_oid(cell)))
                return false;
    return true;
}

/* Equal where the text is, by the operator of pg_catalog. */
static bool
is_plain_type(Oid type)
{
    switch (type)
    {
        case INT2OID:
        case INT4OID:
        case INT8OID:
        case TEXTOID:
        case VARCHAROID:
        case UUIDOID:
        case DATEOID:
        case TIMESTAMPOID:
        case TIMESTAMPTZOID:
            return true;
        default:
            return type_is_enum(type);
    }
}

/* Is equality of two key columns the server's own, of their own types, and of bits where it is of text? */
static bool
is_plain_key(const moe_schema_column *child, const moe_schema_column *parent)
{
    Oid target = moe_key_common_type(child->type, parent->type);

    return !moe_key_needs_cast(child->type, target) && !moe_key_needs_cast(parent->type, target) &&
           is_plain_type(child->type) && is_plain_type(parent->type) && child->collation == parent->collation &&
           (!OidIsValid(child->collation) || get_collation_isdeterministic(child->collation));
}

bool
moe_reach_is_possible(const moe_schema *schema)
{
    if (moe_setting_index_reads == MOE_INDEX_READS_OFF)
        return false;
    for (int t = 0; t < schema->n_tables; t++)
        if (!is_plain_table(&schema->tables[t]))
            return false;
    for (int i = 0; i < schema->n_key; i++)
        if (!is_plain_key(&schema->tables[0].columns[schema->key[i]], &schema->tables[0].columns[schema->key[i]]))
            return false;
    for (int e = 0; e < schema->n_edges; e++)
    {
        const moe_schema_edge *edge = &schema->edges[e];

        for (int i = 0; i < edge->n_columns; i++)
            if (!is_plain_key(&schema->tables[edge->child].columns[edge->child_columns[i]],
                              &schema->tables[edge->parent].columns[edge->parent_columns[i]]))
                return false;
    }
    return true;
}

static double
all_rows(const moe_schema *schema)
{
    double all = 0;

    for (int t = 0; t < schema->n_tables; t++)
        all += rows_of(schema, t);
    return all;
}

bool
moe_reach_is_spent(const moe_schema *schema, int64 looked_up)
{
    return moe_setting_index_reads != MOE_INDEX_READS_ON && (double) looked_up * LOOK_UP_COST > all_rows(schema);
}

int64
moe_reach_most_rows(const moe_schema *schema, const moe_reach *reach, const char *model)
{
    double budget = (all_rows(schema) - (double) STEP_COST * reach->n) / LOOK_UP_COST;
    double expected;
    List *missing;

    if (!moe_reach_is_possible(schema))
        return 0;
    if (moe_setting_index_reads == MOE_INDEX_READS_ON)
        return PG_INT32_MAX;
    estimate(schema, reach, &expected);
    if (expected > budget)
        return 0;
    missing = missing_indexes(schema, reach);
    if (missing == NIL)
        return (int64) budget;
    tell(model, missing);
    return 0;
}
