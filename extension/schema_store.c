/*
 * schema_store.c: a schema as bytes of a stored model, and back.
 *
 * Names are stored, not OIDs, so that a dump restored elsewhere, or an upgraded
 * server, finds its tables again. Reading treats the bytes as hostile: every
 * count, index and enum is checked before use.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "extension/moe_ml.h"
#include "extension/schema_internal.h"

#define STORE_VERSION 1

static char *
type_name(const moe_schema_column *column)
{
    return format_type_extended(column->type, -1, FORMAT_TYPE_FORCE_QUALIFY);
}

static void
write_indices(moe_buffer *buffer, int n, const int *indices)
{
    moe_put_i64(buffer, n);
    for (int i = 0; i < n; i++)
        moe_put_i32(buffer, indices[i]);
}

static void
write_table(const moe_schema_table *table, moe_buffer *buffer)
{
    moe_put_string(buffer, table->schema);
    moe_put_string(buffer, table->name);
    moe_put_i32(buffer, table->time);
    moe_put_string(buffer, table->time_reason);
    moe_put_f64(buffer, table->rows);
    moe_put_i64(buffer, table->n_columns);
    for (int i = 0; i < table->n_columns; i++)
    {
        const moe_schema_column *column = &table->columns[i];

        moe_put_string(buffer, column->name);
        moe_put_string(buffer, type_name(column));
        moe_put_u8(buffer, column->role);
        moe_put_u8(buffer, column->storage);
        moe_put_u8(buffer, column->encoding);
        moe_put_i32(buffer, column->known_at);
        moe_put_string(buffer, column->reason);
    }
    write_indices(buffer, table->n_key, table->key);
}

void
moe_schema_write(const moe_schema *schema, moe_buffer *buffer)
{
    moe_put_i32(buffer, STORE_VERSION);
    moe_put_i64(buffer, schema->n_tables);
    for (int t = 0; t < schema->n_tables; t++)
        write_table(&schema->tables[t], buffer);
    moe_put_i64(buffer, schema->n_edges);
    for (int e = 0; e < schema->n_edges; e++)
    {
        const moe_schema_edge *edge = &schema->edges[e];

        moe_put_string(buffer, edge->name);
        moe_put_i32(buffer, edge->child);
        moe_put_i32(buffer, edge->parent);
        moe_put_u8(buffer, edge->gives_time);
        write_indices(buffer, edge->n_columns, edge->child_columns);
        write_indices(buffer, edge->n_columns, edge->parent_columns);
    }
    write_indices(buffer, schema->n_key, schema->key);
}

/* Bytes, and the model that they are of. */
typedef struct source
{
    moe_reader *reader;
    const char *model;
    StringInfo misfits; /* NULL: what does not fit raises an error; otherwise it is listed here */
} source;

/* Stop at bytes that do not read back, or for want of memory to read them. */
static void
check(const source *in, bool sane)
{
    moe_code code = moe_reader_code(in->reader);

    if (sane && code == MOE_OK)
        return;
    if (code != MOE_OK && code != MOE_CORRUPT)
        moe_check(in->reader->job, code);
    ereport(ERROR,
            (errcode(ERRCODE_DATA_CORRUPTED), errmsg("the stored parameters of model \"%s\" are damaged", in->model),
             errdetail("Reading them failed: %s.", code == MOE_OK ? "the graph of tables does not make sense"
                                                                  : pstrdup(moe_job_error(in->reader->job))),
             errhint("REFRESH MODEL %s trains it again.", quote_identifier(in->model))));
}

static int
read_count(source *in, size_t size, int limit)
{
    int64 n = moe_get_count(in->reader, size);

    check(in, n >= 0 && n <= limit);
    return (int) n;
}

static int
read_index(source *in, int lowest, int n)
{
    int index = moe_get_i32(in->reader);

    check(in, index >= lowest && index < n);
    return index;
}

static int *
read_indices(source *in, int *count, int n)
{
    int *indices;

    *count = read_count(in, sizeof(int32), INDEX_MAX_KEYS);
    indices = palloc(sizeof(int) * Max(*count, 1));
    for (int i = 0; i < *count; i++)
        indices[i] = read_index(in, 0, n);
    return indices;
}

static char *
read_string(source *in)
{
    char *string = moe_get_string(in->reader);

    check(in, string != NULL && pg_verifymbstr(string, (int) strlen(string), true));
    return pstrdup(string);
}

static uint8
read_enum(source *in, int last)
{
    uint8 value = moe_get_u8(in->reader);

    check(in, value <= last);
    return value;
}

/* What the stored model saw is not so: note it and go on, or raise an error. */
static void
changed(const source *in, const moe_schema_table *table, const char *detail)
{
    if (in->misfits != NULL)
    {
        appendStringInfo(in->misfits, "%s%s: %s.", in->misfits->len > 0 ? "\n" : "", moe_schema_qualified(table),
                         detail);
        return;
    }
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("table \"%s\" has changed since model \"%s\" was trained", table->name, in->model),
                    errdetail("%s.", detail),
                    errhint("REFRESH MODEL %s learns the tables as they are now.", quote_identifier(in->model))));
}

/* A type's name as people write it. */
static const char *
plain(const char *type)
{
    const char *prefix = "pg_catalog.";

    return strncmp(type, prefix, strlen(prefix)) == 0 ? type + strlen(prefix) : type;
}

/* Find today's column of a stored one. */
static void
bind_column(const source *in, const moe_schema_table *table, Relation relation, moe_schema_column *column,
            const char *type)
{
    AttrNumber attnum = relation == NULL ? InvalidAttrNumber : get_attnum(table->relid, column->name);
    Form_pg_attribute attribute;

    if (relation == NULL)
        return;
    if (attnum <= 0)
    {
        /* What was ignored may go. */
        if (column->role == MOE_ROLE_IGNORED)
            return;
        changed(in, table, psprintf("Column \"%s\" no longer exists", column->name));
        return;
    }
    attribute = TupleDescAttr(RelationGetDescr(relation), attnum - 1);
    column->attnum = attnum;
    column->typmod = attribute->atttypmod;
    column->type = getBaseTypeAndTypmod(attribute->atttypid, &column->typmod);
    column->collation = attribute->attcollation;
    if (column->role == MOE_ROLE_IGNORED || strcmp(type_name(column), type) == 0)
        return;
    changed(in, table,
            psprintf("The type of column \"%s\" was %s and is now %s", column->name, plain(type),
                     plain(type_name(column))));
    column->attnum = InvalidAttrNumber; /* not one to look at further */
}

static void
read_column(source *in, const moe_schema_table *table, Relation relation, moe_schema_column *column)
{
    char *type;

    column->name = read_string(in);
    type = read_string(in);
    column->role = read_enum(in, MOE_ROLE_IGNORED);
    column->storage = read_enum(in, MOE_STORE_VECTOR);
    column->encoding = read_enum(in, MOE_ENCODE_VECTOR);
    column->known_at = read_index(in, -1, table->n_columns);
    column->reason = read_string(in);
    bind_column(in, table, relation, column, type);
}

static Relation
open_table(const source *in, const moe_schema_table *table)
{
    Oid namespace = get_namespace_oid(table->schema, true);
    Oid relid = OidIsValid(namespace) ? get_relname_relid(table->name, namespace) : InvalidOid;
    Relation relation = OidIsValid(relid) ? try_relation_open(relid, AccessShareLock) : NULL;

    if (relation == NULL && in->misfits != NULL)
    {
        changed(in, table, "There is no such table");
        return NULL;
    }
    if (relation == NULL)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("table \"%s\" of model \"%s\" no longer exists", table->name, in->model),
                        errdetail("The model was trained with %s.", moe_schema_qualified(table)),
                        errhint("Restore the table, or REFRESH MODEL %s to learn the tables as they are now.",
                                quote_identifier(in->model))));
    if (!moe_catalog_is_table(relation->rd_rel->relkind))
        changed(in, table, "It is no longer a table or view");
    return relation;
}

/* A column that does not fit, of a schema whose misfits are listed. */
static bool
is_listed(const source *in, const moe_schema_column *column)
{
    return in->misfits != NULL && column->attnum == InvalidAttrNumber;
}

/* The stored storage must still be what the type gives: the reader trusts it. */
static void
check_columns(source *in, const moe_schema_table *table)
{
    check(in, table->time < 0 || is_listed(in, &table->columns[table->time]) ||
                  moe_rules_is_time(table->columns[table->time].type));
    for (int i = 0; i < table->n_columns; i++)
    {
        const moe_schema_column *column = &table->columns[i];
        moe_storage storage;
        moe_encoding encoding;
        char *reason;
        bool encodable;

        if (column->role != MOE_ROLE_FEATURE || is_listed(in, column))
            continue;
        encodable = moe_rules_storage(column->type, &storage, &encoding, &reason);
        check(in, column->storage == MOE_STORE_STRING || (encodable && column->storage == storage) ||
                      (encodable && column->storage == MOE_STORE_NUMBER && storage == MOE_STORE_BOOL));
        if (column->known_at < 0)
            continue;
        if (!is_listed(in, &table->columns[column->known_at]) &&
            !moe_rules_is_time(table->columns[column->known_at].type))
            changed(in, table,
                    psprintf("Column \"%s\" no longer says when other columns became known",
                             table->columns[column->known_at].name));
    }
}

static void
read_table(source *in, moe_schema_table *table)
{
    Relation relation;

    table->schema = read_string(in);
    table->name = read_string(in);
    table->time = moe_get_i32(in->reader);
    table->time_reason = read_string(in);
    table->rows = moe_get_f64(in->reader);
    table->n_columns = read_count(in, 1, MaxHeapAttributeNumber);
    check(in, table->time >= -1 && table->time < table->n_columns);
    table->columns = palloc0(sizeof(moe_schema_column) * Max(table->n_columns, 1));
    relation = open_table(in, table);
    if (relation != NULL)
    {
        table->relid = RelationGetRelid(relation);
        table->rows = moe_catalog_estimate_rows(relation);
    }
    for (int i = 0; i < table->n_columns; i++)
        read_column(in, table, relation, &table->columns[i]);
    if (relation != NULL)
        relation_close(relation, NoLock);
    table->key = read_indices(in, &table->n_key, table->n_columns);
    check_columns(in, table);
}

static void
read_edge(source *in, const moe_schema *schema, moe_schema_edge *edge)
{
    int n_parent;

    edge->name = read_string(in);
    edge->child = read_index(in, 0, schema->n_tables);
    edge->parent = read_index(in, 0, schema->n_tables);
    edge->gives_time = read_enum(in, 1) != 0;
    edge->child_columns = read_indices(in, &edge->n_columns, schema->tables[edge->child].n_columns);
    edge->parent_columns = read_indices(in, &n_parent, schema->tables[edge->parent].n_columns);
    check(in, edge->n_columns > 0 && n_parent == edge->n_columns);
    for (int i = 0; i < n_parent; i++)
        check(in, schema->tables[edge->child].columns[edge->child_columns[i]].attnum != 0 &&
                      schema->tables[edge->parent].columns[edge->parent_columns[i]].attnum != 0);
}

/* A stored schema, bound to today's catalog whoever asks. */
static moe_schema *
read_schema(source *in)
{
    moe_schema *schema = palloc0(sizeof(moe_schema));

    check(in, moe_get_i32(in->reader) == STORE_VERSION);
    schema->n_tables = read_count(in, 1, INT_MAX);
    check(in, schema->n_tables > 0);
    schema->tables =
        palloc_extended(mul_size(sizeof(moe_schema_table), schema->n_tables), MCXT_ALLOC_ZERO | MCXT_ALLOC_HUGE);
    for (int t = 0; t < schema->n_tables; t++)
        read_table(in, &schema->tables[t]);
    schema->n_edges = read_count(in, 1, INT_MAX);
    schema->edges =
        palloc_extended(mul_size(sizeof(moe_schema_edge), Max(schema->n_edges, 1)), MCXT_ALLOC_ZERO | MCXT_ALLOC_HUGE);
    for (int e = 0; e < schema->n_edges; e++)
        read_edge(in, schema, &schema->edges[e]);
    check(in, moe_schema_times_are_sound(schema));
    schema->key = read_indices(in, &schema->n_key, schema->tables[0].n_columns);
    check(in, schema->n_key > 0);
    for (int i = 0; i < schema->n_key; i++)
        check(in, schema->tables[0].columns[schema->key[i]].attnum != 0);
    moe_schema_settle_time_type(schema);
    return schema;
}

moe_schema *
moe_schema_read(moe_reader *reader, const char *model)
{
    source in = {reader, model, NULL};
    moe_schema *schema = read_schema(&in);

    moe_catalog_check_privileges(schema, model);
    return schema;
}

moe_schema *
moe_schema_read_fitting(const moe_reader *reader, const char *model)
{
    moe_reader again[2] = {*reader, *reader};
    source in = {&again[1], model, NULL};
    moe_schema *schema;

    if (moe_schema_misfits(&again[0], model) != NULL)
        return NULL;
    schema = read_schema(&in);
    for (int t = 0; t < schema->n_tables; t++)
        if (!moe_catalog_is_visible(schema->tables[t].relid))
            return NULL;
    return schema;
}

char *
moe_schema_misfits(moe_reader *reader, const char *model)
{
    StringInfoData misfits;
    source in = {reader, model, &misfits};
    int n_tables;

    initStringInfo(&misfits);
    check(&in, moe_get_i32(reader) == STORE_VERSION);
    n_tables = read_count(&in, 1, INT_MAX);
    for (int t = 0; t < n_tables; t++)
    {
        moe_schema_table table = {0};

        CHECK_FOR_INTERRUPTS();
        read_table(&in, &table);
    }
    return misfits.len > 0 ? misfits.data : NULL;
}
