/*
 * schema_catalog.c: what the system catalogs say about tables, keys and privileges.
 *
 * A partition is never a table of the graph: its root is. The copies of a
 * foreign key that partitions inherit (conparentid <> 0) are skipped; one that
 * partitions declare for themselves counts once, for the root.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_seclabel.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "optimizer/optimizer.h"
#include "optimizer/plancat.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "extension/schema_internal.h"

bool
moe_catalog_is_table(char relkind)
{
    return relkind == RELKIND_RELATION || relkind == RELKIND_PARTITIONED_TABLE || relkind == RELKIND_FOREIGN_TABLE ||
           relkind == RELKIND_VIEW || relkind == RELKIND_MATVIEW;
}

Oid
moe_catalog_root(Oid relid)
{
    List *ancestors;

    if (!get_rel_relispartition(relid))
        return relid;
    ancestors = get_partition_ancestors(relid);
    return ancestors == NIL ? relid : llast_oid(ancestors);
}

/* "schema.table", or NULL if the table is gone, the system's, the extension's own, or another session's. */
static char *
sort_name(Oid relid)
{
    char *name = get_rel_name(relid);
    Oid namespace = get_rel_namespace(relid);
    char *schema;

    if (name == NULL || IsCatalogNamespace(namespace) || isOtherTempNamespace(namespace))
        return NULL;
    if (namespace == get_namespace_oid("moe_ml", true))
        return NULL;
    schema = get_namespace_name(namespace);
    if (schema == NULL || strcmp(schema, "information_schema") == 0)
        return NULL;
    return psprintf("%s.%s", schema, name);
}

/* Map column numbers of a partition to those of its root, by name. */
static bool
map_columns(Oid from, Oid to, int n, AttrNumber *columns)
{
    for (int i = 0; from != to && i < n; i++)
    {
        char *name = get_attname(from, columns[i], true);

        columns[i] = name ? get_attnum(to, name) : InvalidAttrNumber;
        if (columns[i] == InvalidAttrNumber)
            return false;
    }
    return true;
}

/* Move a key that hangs on partitions to their roots and name both ends; false if an end is no table of a user. */
static bool
settle_key(moe_foreign_key *key)
{
    Oid child = moe_catalog_root(key->child);
    Oid parent = moe_catalog_root(key->parent);

    if (!map_columns(key->child, child, key->n_columns, key->child_columns) ||
        !map_columns(key->parent, parent, key->n_columns, key->parent_columns))
        return false;
    key->child = child;
    key->parent = parent;
    key->child_sort = sort_name(child);
    key->parent_sort = sort_name(parent);
    return key->child_sort != NULL && key->parent_sort != NULL;
}

static int
compare_keys(const ListCell *a, const ListCell *b)
{
    const moe_foreign_key *x = lfirst(a);
    const moe_foreign_key *y = lfirst(b);
    int order = strcmp(x->child_sort, y->child_sort);

    return order != 0 ? order : strcmp(x->name, y->name);
}

/* Of several keys over the same columns (each partition may declare its own) keep the first by name. */
static List *
without_duplicates(List *keys)
{
    List *kept = NIL;
    ListCell *cell;

    foreach (cell, keys)
    {
        moe_foreign_key *key = lfirst(cell);
        ListCell *other;
        bool duplicate = false;

        foreach (other, kept)
        {
            moe_foreign_key *seen = lfirst(other);
            size_t bytes = key->n_columns * sizeof(AttrNumber);

            duplicate |= seen->child == key->child && seen->parent == key->parent &&
                         seen->n_columns == key->n_columns &&
                         memcmp(seen->child_columns, key->child_columns, bytes) == 0 &&
                         memcmp(seen->parent_columns, key->parent_columns, bytes) == 0;
        }
        if (!duplicate)
            kept = lappend(kept, key);
    }
    return kept;
}

static List *
constraint_keys(void)
{
    Relation catalog = table_open(ConstraintRelationId, AccessShareLock);
    SysScanDesc scan = systable_beginscan(catalog, InvalidOid, false, NULL, 0, NULL);
    HeapTuple tuple;
    List *keys = NIL;

    while ((tuple = systable_getnext(scan)) != NULL)
    {
        Form_pg_constraint form = (Form_pg_constraint) GETSTRUCT(tuple);
        moe_foreign_key *key;

        if (form->contype != CONSTRAINT_FOREIGN || OidIsValid(form->conparentid))
            continue;
        key = palloc0(sizeof(*key));
        key->name = pstrdup(NameStr(form->conname));
        key->child = form->conrelid;
        key->parent = form->confrelid;
        DeconstructFkConstraintRow(tuple, &key->n_columns, key->child_columns, key->parent_columns, NULL, NULL, NULL,
                                   NULL, NULL);
        keys = lappend(keys, key);
    }
    systable_endscan(scan);
    table_close(catalog, AccessShareLock);
    return keys;
}

/* The single column that identifies rows: of the primary key, or one declared 'key'; 0 if there is none. */
static AttrNumber
single_key(Oid relid)
{
    Relation relation = try_relation_open(relid, AccessShareLock);
    AttrNumber found = InvalidAttrNumber;
    moe_schema_table table = {0};

    if (relation == NULL)
        return InvalidAttrNumber;
    moe_catalog_describe(relation, &table);
    relation_close(relation, AccessShareLock);
    if (table.n_key == 1)
        found = table.columns[table.key[0]].attnum;
    return found;
}

/* The table that a declaration names, whether or not the caller may see it: another user's must not fail here. */
static Oid
referenced_table(const char *name)
{
    List *names = moe_schema_referenced_name(name);
    Oid schema;

    if (list_length(names) == 1)
        return RelnameGetRelid(strVal(linitial(names)));
    schema = get_namespace_oid(strVal(linitial(names)), true);
    return OidIsValid(schema) ? get_relname_relid(strVal(lsecond(names)), schema) : InvalidOid;
}

/* Links that people declared for relations which cannot have foreign keys: 'references <table>' on a column. */
static List *
declared_keys(void)
{
    Relation catalog = table_open(SecLabelRelationId, AccessShareLock);
    SysScanDesc scan = systable_beginscan(catalog, InvalidOid, false, NULL, 0, NULL);
    HeapTuple tuple;
    List *keys = NIL;

    while ((tuple = systable_getnext(scan)) != NULL)
    {
        FormData_pg_seclabel *form = (FormData_pg_seclabel *) GETSTRUCT(tuple);
        moe_declaration declaration;
        moe_foreign_key *key;
        Oid parent;

        if (form->classoid != RelationRelationId || form->objsubid <= 0)
            continue;
        declaration = moe_schema_declaration(form->objoid, form->objsubid);
        if (declaration.what != MOE_DECLARED_REFERENCES)
            continue;
        parent = referenced_table(declaration.argument);
        if (!OidIsValid(parent))
            continue;
        key = palloc0(sizeof(*key));
        key->name =
            psprintf("%s_%s_declared", get_rel_name(form->objoid), get_attname(form->objoid, form->objsubid, false));
        key->child = form->objoid;
        key->parent = parent;
        key->n_columns = 1;
        key->child_columns[0] = form->objsubid;
        key->parent_columns[0] = single_key(parent);
        if (key->parent_columns[0] != InvalidAttrNumber)
            keys = lappend(keys, key);
    }
    systable_endscan(scan);
    table_close(catalog, AccessShareLock);
    return keys;
}

List *
moe_catalog_foreign_keys(void)
{
    List *keys = NIL;
    ListCell *cell;

    foreach (cell, list_concat(constraint_keys(), declared_keys()))
    {
        if (settle_key(lfirst(cell)))
            keys = lappend(keys, lfirst(cell));
    }
    list_sort(keys, compare_keys);
    return without_duplicates(keys);
}

int
moe_catalog_column(const moe_schema_table *table, AttrNumber attnum)
{
    for (int i = 0; i < table->n_columns; i++)
    {
        if (table->columns[i].attnum == attnum)
            return i;
    }
    return -1;
}

int
moe_catalog_column_named(const moe_schema_table *table, const char *name)
{
    for (int i = 0; i < table->n_columns; i++)
    {
        if (strcmp(table->columns[i].name, name) == 0)
            return i;
    }
    return -1;
}

double
moe_catalog_estimate_rows(Relation relation)
{
    double tuples = 0;

    if (relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
    {
        ListCell *cell;

        foreach (cell, find_all_inheritors(RelationGetRelid(relation), AccessShareLock, NULL))
        {
            Relation child;

            if (lfirst_oid(cell) == RelationGetRelid(relation))
                continue;
            child = relation_open(lfirst_oid(cell), NoLock);
            if (child->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
                tuples += moe_catalog_estimate_rows(child);
            relation_close(child, NoLock);
        }
    }
    else if (RELKIND_HAS_STORAGE(relation->rd_rel->relkind))
    {
        BlockNumber pages;
        double visible;

        estimate_rel_size(relation, NULL, &pages, &tuples, &visible);
    }
    else if (relation->rd_rel->reltuples > 0)
        tuples = relation->rd_rel->reltuples;
    return tuples;
}

static void
describe_columns(Relation relation, moe_schema_table *table)
{
    TupleDesc descriptor = RelationGetDescr(relation);

    table->columns = palloc0(sizeof(moe_schema_column) * Max(descriptor->natts, 1));
    for (int i = 0; i < descriptor->natts; i++)
    {
        Form_pg_attribute attribute = TupleDescAttr(descriptor, i);
        moe_schema_column *column = &table->columns[table->n_columns];

        if (attribute->attisdropped)
            continue;
        column->name = pstrdup(NameStr(attribute->attname));
        column->attnum = attribute->attnum;
        column->typmod = attribute->atttypmod;
        column->type = getBaseTypeAndTypmod(attribute->atttypid, &column->typmod);
        column->collation = attribute->attcollation;
        column->role = MOE_ROLE_FEATURE;
        column->known_at = -1;
        table->n_columns++;
    }
}

/* The primary key, in key order; for a relation that cannot have one, the column declared 'key'. */
static void
describe_key(Relation relation, moe_schema_table *table)
{
    Oid index = InvalidOid;

    table->key = palloc0(sizeof(int) * INDEX_MAX_KEYS);
    if (relation->rd_rel->relhasindex)
    {
#if PG_VERSION_NUM >= 180000
        index = RelationGetPrimaryKeyIndex(relation, false);
#else
        index = RelationGetPrimaryKeyIndex(relation);
#endif
    }
    if (OidIsValid(index))
    {
        Relation key = index_open(index, AccessShareLock);

        for (int i = 0; i < key->rd_index->indnkeyatts; i++)
            table->key[table->n_key++] = moe_catalog_column(table, key->rd_index->indkey.values[i]);
        index_close(key, AccessShareLock);
        return;
    }
    for (int i = 0; i < table->n_columns; i++)
    {
        if (moe_schema_declaration(table->relid, table->columns[i].attnum).what == MOE_DECLARED_KEY)
        {
            table->key[0] = i;
            table->n_key = 1;
            return;
        }
    }
}

void
moe_catalog_describe(Relation relation, moe_schema_table *table)
{
    table->relid = RelationGetRelid(relation);
    table->schema = get_namespace_name(RelationGetNamespace(relation));
    table->name = pstrdup(RelationGetRelationName(relation));
    table->time = -1;
    table->rows = moe_catalog_estimate_rows(relation);
    describe_columns(relation, table);
    describe_key(relation, table);
}

bool
moe_catalog_not_null(Oid relid, AttrNumber attnum)
{
    HeapTuple tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relid), Int16GetDatum(attnum));
    bool not_null;

    if (!HeapTupleIsValid(tuple))
        return false;
    not_null = ((Form_pg_attribute) GETSTRUCT(tuple))->attnotnull;
    ReleaseSysCache(tuple);
    return not_null;
}

/* By an index, not by declaration. */
static bool
has_primary_key(Oid relid)
{
    Bitmapset *columns;
    Oid constraint;

    columns = get_primary_key_attnos(relid, false, &constraint);
    return columns != NULL;
}

bool
moe_catalog_is_primary_key(const moe_schema_table *table, int n, const int *columns)
{
    int found = 0;

    if (n != table->n_key || !has_primary_key(table->relid))
        return false;
    for (int i = 0; i < n; i++)
    {
        for (int k = 0; k < table->n_key; k++)
            found += table->key[k] == columns[i];
    }
    return found == n;
}

bool
moe_catalog_is_unique(Relation relation, AttrNumber attnum)
{
    ListCell *cell;
    bool unique = false;

    foreach (cell, RelationGetIndexList(relation))
    {
        Relation index = index_open(lfirst_oid(cell), AccessShareLock);

        unique |= index->rd_index->indisunique && index->rd_index->indisvalid && index->rd_index->indnkeyatts == 1 &&
                  index->rd_index->indkey.values[0] == attnum && RelationGetIndexPredicate(index) == NIL;
        index_close(index, AccessShareLock);
    }
    return unique;
}

Bitmapset *
moe_catalog_derived(Relation relation, AttrNumber attnum)
{
    TupleDesc descriptor = RelationGetDescr(relation);
    Bitmapset *derived = bms_make_singleton(attnum);

    for (int i = 0; descriptor->constr != NULL && i < descriptor->constr->num_defval; i++)
    {
        AttrDefault *value = &descriptor->constr->defval[i];
        Bitmapset *used = NULL;

        if (!TupleDescAttr(descriptor, value->adnum - 1)->attgenerated)
            continue;
        pull_varattnos(stringToNode(value->adbin), 1, &used);
        if (bms_is_member(attnum - FirstLowInvalidHeapAttributeNumber, used) ||
            bms_is_member(0 - FirstLowInvalidHeapAttributeNumber, used))
            derived = bms_add_member(derived, value->adnum);
    }
    return derived;
}

static void
check_table_privileges(const moe_schema *schema, int t, const char *model)
{
    const moe_schema_table *table = &schema->tables[t];

    if (pg_class_aclcheck(table->relid, GetUserId(), ACL_SELECT) == ACLCHECK_OK)
        return;
    for (int i = 0; i < table->n_columns; i++)
    {
        if (!moe_schema_column_is_read(schema, t, i) ||
            pg_attribute_aclcheck(table->relid, table->columns[i].attnum, GetUserId(), ACL_SELECT) == ACLCHECK_OK)
            continue;
        ereport(ERROR,
                (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                 errmsg("permission denied for column \"%s\" of table \"%s\"", table->columns[i].name, table->name),
                 model ? errdetail("Predictions of model \"%s\" read it as whoever asks.", model)
                       : errdetail("A model may learn only from what its user may SELECT."),
                 model ? errhint("Ask the owner for GRANT SELECT ON %s TO %s.", moe_schema_qualified(table),
                                 quote_identifier(GetUserNameFromId(GetUserId(), false)))
                       : errhint("Ask the owner for GRANT SELECT, or leave it out: list the tables to use in "
                                 "USING (...), or name the column in the option ignored_columns.")));
    }
}

static AclResult
schema_usage(Oid relid)
{
    Oid namespace = get_rel_namespace(relid);

#if PG_VERSION_NUM >= 160000
    return object_aclcheck(NamespaceRelationId, namespace, GetUserId(), ACL_USAGE);
#else
    return pg_namespace_aclcheck(namespace, GetUserId(), ACL_USAGE);
#endif
}

bool
moe_catalog_is_visible(Oid relid)
{
    return schema_usage(relid) == ACLCHECK_OK &&
           (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) == ACLCHECK_OK ||
            pg_attribute_aclcheck_all(relid, GetUserId(), ACL_SELECT, ACLMASK_ANY) == ACLCHECK_OK);
}

void
moe_catalog_check_privileges(const moe_schema *schema, const char *model)
{
    for (int t = 0; t < schema->n_tables; t++)
    {
        const moe_schema_table *table = &schema->tables[t];

        if (schema_usage(table->relid) != ACLCHECK_OK)
            ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                            errmsg("permission denied for schema \"%s\" of table \"%s\"", table->schema, table->name),
                            model ? errhint("Ask its owner for GRANT USAGE ON SCHEMA %s TO %s.",
                                            quote_identifier(table->schema),
                                            quote_identifier(GetUserNameFromId(GetUserId(), false)))
                                  : errhint("Ask its owner for GRANT USAGE ON SCHEMA, or list the tables to use in "
                                            "USING (...).")));
        check_table_privileges(schema, t, model);
    }
}
