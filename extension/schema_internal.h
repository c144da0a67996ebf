/*
 * schema_internal.h: what the schema_*.c files share.
 */
#ifndef MOE_SCHEMA_INTERNAL_H
#define MOE_SCHEMA_INTERNAL_H

#include "extension/schema.h"
#include "lib/stringinfo.h"
#include "nodes/bitmapset.h"
#include "utils/relcache.h"

/* What a security label of provider moe_ml says. */
typedef enum moe_declared
{
    MOE_DECLARED_NOTHING,
    MOE_DECLARED_IGNORE,
    MOE_DECLARED_TIMELESS, /* table */
    MOE_DECLARED_TIME,
    MOE_DECLARED_NUMERIC,
    MOE_DECLARED_CATEGORY,
    MOE_DECLARED_TEXT,
    MOE_DECLARED_KNOWN,
    MOE_DECLARED_KNOWN_AT,  /* column: argument */
    MOE_DECLARED_KEY,       /* column of a view or foreign table */
    MOE_DECLARED_REFERENCES /* column of a view or foreign table: argument is a table name */
} moe_declared;

typedef struct moe_declaration
{
    moe_declared what;
    char *argument;
} moe_declaration;

/* label_provider.c */
/* The declaration on a table (attnum 0) or column. Text that does not parse (labels set without the library) counts as
 * none. */
moe_declaration moe_schema_declaration(Oid relid, AttrNumber attnum);
/* The one or two names (of String) in the argument of 'references'; raises for what is no name of a table. */
List *moe_schema_referenced_name(const char *argument);

/* A foreign key as the catalog (or a declaration) has it, partitions mapped to their root. */
typedef struct moe_foreign_key
{
    char *name;
    Oid child;
    Oid parent;
    char *child_sort; /* "schema.table" for a stable order */
    char *parent_sort;
    int n_columns;
    AttrNumber child_columns[INDEX_MAX_KEYS];
    AttrNumber parent_columns[INDEX_MAX_KEYS];
} moe_foreign_key;

/* schema_catalog.c */
/* All foreign keys of the database between tables of users, sorted by child, constraint name. List of
 * moe_foreign_key *. */
List *moe_catalog_foreign_keys(void);
/* The root of a partition, or the relation itself. */
Oid moe_catalog_root(Oid relid);
/* The planner's idea of the number of rows; 0 where it has none (views). */
double moe_catalog_estimate_rows(Relation relation);
/* Is this a kind of relation that can be read as a table? */
bool moe_catalog_is_table(char relkind);
/* Fill name, columns (no roles yet), key and row estimate of a table. */
void moe_catalog_describe(Relation relation, moe_schema_table *table);
/* The index of a column, or -1. */
int moe_catalog_column(const moe_schema_table *table, AttrNumber attnum);
int moe_catalog_column_named(const moe_schema_table *table, const char *name);
/* Is the column NOT NULL? */
bool moe_catalog_not_null(Oid relid, AttrNumber attnum);
/* Do these columns make up the table's primary key, as an index enforces it? */
bool moe_catalog_is_primary_key(const moe_schema_table *table, int n, const int *columns);
/* Does a single-column unique index cover this column? */
bool moe_catalog_is_unique(Relation relation, AttrNumber attnum);
/* Columns generated from a column, and the column itself: attribute numbers. */
Bitmapset *moe_catalog_derived(Relation relation, AttrNumber attnum);
/* May the current user read at least a column of the table? */
bool moe_catalog_is_visible(Oid relid);
/* Raise if the current user lacks SELECT on a column that would be read. */
void moe_catalog_check_privileges(const moe_schema *schema, const char *model);

/* schema_rules.c */
typedef struct moe_schema_choices /* of one table, from the statement's options */
{
    int time;           /* column index; -1: nothing said */
    bool timeless;      /* said "none" */
    Bitmapset *ignored; /* column indices */
    Bitmapset *derived; /* attribute numbers kept out: the target and what is generated from it */
} moe_schema_choices;

/* Give every column its role, storage, encoding, known_at and reason; choose the row time. Keys and foreign keys are
 * marked already. */
void moe_rules_apply(moe_schema_table *table, const moe_schema_choices *choices);
/* How a type is stored; false with the reason for a type without an encoding. */
bool moe_rules_storage(Oid type, moe_storage *storage, moe_encoding *encoding, char **reason);
bool moe_rules_is_time(Oid type);

/* schema_options.c */
/* Does an item of ignored_columns name a column of this foreign key? */
bool moe_schema_ignores_key(const moe_foreign_key *key, const char *text);
/* obeyed: items of ignored_columns (pointers) that were obeyed by leaving out foreign keys. */
moe_schema_choices *moe_schema_choose(const moe_schema *schema, const moe_schema_request *request, const List *obeyed);

/* schema_sql.c */
/*
 * SQL text of a foreign key's i-th column, as it is compared with the key that it points at: under that one's
 * collation, as the foreign key's own check does.
 */
char *moe_schema_foreign_key_sql(const moe_schema *schema, const moe_schema_edge *edge, int i, const char *alias);
void moe_schema_settle_time_type(moe_schema *schema);

/* schema_time.c */
/* Let tables without a time column take their row times from parents; the entity (if the schema has one) does not. */
void moe_schema_inherit_times(moe_schema *schema, bool has_entity);
/* Does following the edges that give times end at tables with a time column? */
bool moe_schema_times_are_sound(const moe_schema *schema);
/*
 * The row time of alias as SQL of schema->time_type, from the table's own
 * column or from parents; joins gets the LEFT JOINs it needs, whose aliases count on from n_joins. NULL: none.
 */
char *moe_schema_any_time(const moe_schema *schema, int table, const char *alias, StringInfo joins, int *n_joins);

/* schema.c */
/* Every table with a foreign key that the current user may see, without an entity: for the views. */
moe_schema *moe_schema_survey(void);
/* Raise for an unknown column, with the nearest name. */
void moe_schema_no_such_column(const moe_schema_table *table, const char *name) __attribute__((noreturn));
/* Which columns are read at all: not what is ignored, unless a key or a time that others depend on. */
bool moe_schema_column_is_read(const moe_schema *schema, int table, int column);

#endif
