/*
 * reader.c: read all tables of a schema and join them along foreign keys.
 *
 * Keys are matched here rather than by SQL joins: each table is read once,
 * whatever the number of keys, and rows that the caller may not see
 * (row-level security) simply are not there to be found.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "extension/key_index.h"
#include "extension/moe_ml.h"
#include "extension/reader_internal.h"
#include "extension/schema_sql.h"
#include "kernels/random.h"

/* The key read for a column compared as a type, made if there is none. */
static moe_key_read *
want_key(List **reads, int table, int column, Oid target)
{
    ListCell *cell;
    moe_key_read *read;

    foreach (cell, *reads)
    {
        read = lfirst(cell);
        if (read->table == table && read->column == column && !moe_key_needs_cast(read->target, target))
            return read;
    }
    read = palloc0(sizeof(*read));
    read->table = table;
    read->column = column;
    read->target = target;
    *reads = lappend(*reads, read);
    return read;
}

static moe_link *
plan_links(const moe_schema *schema, List **reads)
{
    moe_link *links = palloc0(sizeof(moe_link) * Max(schema->n_edges, 1));

    for (int e = 0; e < schema->n_edges; e++)
    {
        const moe_schema_edge *edge = &schema->edges[e];

        for (int i = 0; i < edge->n_columns; i++)
        {
            int child = edge->child_columns[i];
            int parent = edge->parent_columns[i];
            Oid target = moe_key_common_type(schema->tables[edge->child].columns[child].type,
                                             schema->tables[edge->parent].columns[parent].type);

            links[e].child[i] = want_key(reads, edge->child, child, target);
            links[e].parent[i] = want_key(reads, edge->parent, parent, target);
        }
    }
    return links;
}

static void
collect(moe_key_read *const *reads, int n, moe_key_column **columns)
{
    for (int i = 0; i < n; i++)
        columns[i] = reads[i]->values;
}

/* Do two edges look up the same columns of the same parent? */
static bool
same_parent(const moe_schema_edge *a, const moe_link *x, const moe_schema_edge *b, const moe_link *y)
{
    return a->parent == b->parent && a->n_columns == b->n_columns &&
           memcmp(x->parent, y->parent, sizeof(moe_key_read *) * a->n_columns) == 0;
}

/* Find each child row's parent over one edge. */
static void
resolve_edge(moe_data *data, int e, const moe_link *link, const moe_key_index *index)
{
    const moe_schema_edge *edge = &data->schema->edges[e];
    moe_edge_report *report = &data->reports[e];
    int64 n = data->tables[edge->child].n_rows;
    int32 *parent_of = moe_check_ptr(data->job, moe_alloc(data->job, n, sizeof(int32)));
    moe_key_column *columns[INDEX_MAX_KEYS];

    collect(link->child, edge->n_columns, columns);
    moe_key_index_match(index, columns, n, parent_of, &report->nulls, &report->dangling);
    report->rows = n;
    data->graph_keys[e].name = edge->name;
    data->graph_keys[e].child = edge->child;
    data->graph_keys[e].parent = edge->parent;
    data->graph_keys[e].parent_of = parent_of;
}

/* Resolve every edge, sharing the index of edges into the same key. */
static void
resolve_edges(moe_data *data, const moe_link *links)
{
    const moe_schema *schema = data->schema;
    bool *done = palloc0(sizeof(bool) * Max(schema->n_edges, 1));

    for (int e = 0; e < schema->n_edges; e++)
    {
        const moe_schema_edge *edge = &schema->edges[e];
        moe_key_column *columns[INDEX_MAX_KEYS];
        moe_key_index *index;

        if (done[e])
            continue;
        collect(links[e].parent, edge->n_columns, columns);
        index = moe_key_index_create(data->job, columns, edge->n_columns, data->tables[edge->parent].n_rows);
        for (int other = e; other < schema->n_edges; other++)
        {
            if (!same_parent(edge, &links[e], &schema->edges[other], &links[other]))
                continue;
            resolve_edge(data, other, &links[other], index);
            done[other] = true;
        }
        moe_key_index_free(index);
    }
}

static moe_data *
make_data(const moe_schema *schema, moe_job *job)
{
    moe_data *data = palloc0(sizeof(*data));

    data->schema = schema;
    data->job = job;
    data->n_tables = schema->n_tables;
    data->tables = palloc0(sizeof(moe_table) * schema->n_tables);
    data->graph_tables = palloc0(sizeof(moe_graph_table) * schema->n_tables);
    data->n_edges = schema->n_edges;
    data->graph_keys = palloc0(sizeof(moe_graph_key) * Max(schema->n_edges, 1));
    data->reports = palloc0(sizeof(moe_edge_report) * Max(schema->n_edges, 1));
    data->not_finite = palloc0(sizeof(int64) * schema->n_tables);
    return data;
}

/* Random draws know an entity row by its key. */
static void
identify_entities(moe_data *data)
{
    int64 n = data->tables[0].n_rows;
    uint64 *identity = moe_check_ptr(data->job, moe_alloc(data->job, n, sizeof(uint64)));

    for (int i = 0; i < data->schema->n_key; i++)
    {
        const moe_key_column *column = moe_key_index_column(data->entity_keys, i);

        for (int64 row = 0; row < n; row++)
            identity[row] = moe_key(identity[row], moe_key_column_row_hash(column, row));
    }
    data->graph_tables[0].identity = identity;
}

/* Free the key columns that only the links needed. */
static void
forget_keys(List *reads, moe_key_read *const *kept, int n_kept)
{
    ListCell *cell;

    foreach (cell, reads)
    {
        moe_key_read *read = lfirst(cell);
        bool keep = false;

        for (int i = 0; i < n_kept; i++)
            keep |= kept[i] == read;
        if (!keep)
            moe_key_column_free(read->values);
    }
}

/* All key reads: those of the entity's key, and of the links. */
static moe_link *
plan_reads(const moe_schema *schema, List **reads, moe_key_read **entity)
{
    for (int i = 0; i < schema->n_key; i++)
        entity[i] = want_key(reads, 0, schema->key[i], schema->tables[0].columns[schema->key[i]].type);
    return plan_links(schema, reads);
}

/* Read all rows of the first n_read tables, or those around one: NULL if these were too many. */
static moe_data *
read_rows(const moe_schema *schema, moe_job *job, int n_read, const moe_around *around)
{
    moe_data *data = make_data(schema, job);
    MemoryContext context = CurrentMemoryContext;
    moe_key_read *entity[INDEX_MAX_KEYS];
    moe_key_column *columns[INDEX_MAX_KEYS];
    List *reads = NIL;
    bool whole = true;
    moe_link *links;
    double start;
    int level;

    links = plan_reads(schema, &reads, entity);
    level = moe_sql_begin();
    SPI_connect();
    if (around != NULL)
        whole = moe_read_around(data, reads, links, around, context);
    for (int t = 0; around == NULL && t < schema->n_tables; t++)
        moe_read_table(data, t, reads, t < n_read, context);
    SPI_finish();
    moe_sql_end(level);
    if (!whole)
        return NULL;

    start = moe_seconds();
    resolve_edges(data, links);
    data->link_seconds = moe_seconds() - start;
    collect(entity, schema->n_key, columns);
    data->entity_keys = moe_key_index_create(job, columns, schema->n_key, data->tables[0].n_rows);
    identify_entities(data);
    forget_keys(reads, entity, schema->n_key);
    return data;
}

moe_data *
moe_data_read(const moe_schema *schema, moe_job *job)
{
    return read_rows(schema, job, schema->n_tables, NULL);
}

moe_data *
moe_data_read_around(const moe_schema *schema, moe_job *job, const moe_around *around)
{
    return read_rows(schema, job, 0, around);
}

moe_data *
moe_data_read_entities(const moe_schema *schema, moe_job *job)
{
    return read_rows(schema, job, 1, NULL);
}

/* Free what a table was read for besides keys. */
static void
forget_columns(moe_data *data, int t)
{
    const moe_table *table = &data->tables[t];
    const moe_graph_table *times = &data->graph_tables[t];

    for (int c = 0; c < table->n_columns; c++)
    {
        const moe_column *column = &table->columns[c];

        moe_free(data->job, unconstify(uint8_t *, column->null));
        moe_free(data->job, unconstify(double *, column->number));
        moe_free(data->job, unconstify(int64_t *, column->time));
        moe_free(data->job, unconstify(char *, column->bytes));
        moe_free(data->job, unconstify(float *, column->items));
        moe_free(data->job, unconstify(int64_t *, column->offset));
    }
    moe_free(data->job, unconstify(int64_t *, times->time));
    for (int g = 0; g < times->n_hidden; g++)
        moe_free(data->job, unconstify(int64_t *, times->known_at[g]));
}

/* Free the key columns of a table that nobody asked for. */
static void
forget_others(List *reads, int t, moe_key_read *const *kept, int n_kept)
{
    List *of_table = NIL;
    ListCell *cell;

    foreach (cell, reads)
        if (((moe_key_read *) lfirst(cell))->table == t)
            of_table = lappend(of_table, lfirst(cell));
    forget_keys(of_table, kept, n_kept);
}

moe_key_column **
moe_data_read_columns(const moe_data *data, int t, int n, const int *columns)
{
    const moe_schema *schema = data->schema;
    moe_data *again = make_data(schema, data->job);
    MemoryContext context = CurrentMemoryContext;
    moe_key_column **values = palloc_array(moe_key_column *, Max(n, 1));
    moe_key_read **wanted = palloc_array(moe_key_read *, Max(n, 1));
    moe_key_read *entity[INDEX_MAX_KEYS];
    List *reads = NIL;
    int level, n_reads;

    plan_reads(schema, &reads, entity);
    n_reads = list_length(reads);
    for (int i = 0; i < n; i++)
    {
        wanted[i] = want_key(&reads, t, columns[i], schema->tables[t].columns[columns[i]].type);
        wanted[i]->beside = list_length(reads) > n_reads && llast(reads) == wanted[i];
    }
    level = moe_sql_begin();
    SPI_connect();
    moe_read_table(again, t, reads, true, context);
    SPI_finish();
    moe_sql_end(level);
    if (again->tables[t].n_rows != data->tables[t].n_rows)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("table \"%s\" gives other rows each time it is read", schema->tables[t].name),
                        errhint("Leave it out with USING if it is a view over functions that are volatile.")));
    for (int i = 0; i < n; i++)
        values[i] = wanted[i]->values;
    forget_others(reads, t, wanted, n);
    forget_columns(again, t);
    return values;
}

int32
moe_data_find(const moe_data *data, const Datum *key, const bool *nulls)
{
    return moe_key_index_find_values(data->entity_keys, key, nulls);
}

void
moe_data_key(const moe_data *data, int32 row, Datum *key, bool *nulls)
{
    for (int i = 0; i < data->schema->n_key; i++)
        key[i] = moe_key_column_get(moe_key_index_column(data->entity_keys, i), row, &nulls[i]);
}
