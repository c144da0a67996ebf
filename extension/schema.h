/*
 * schema.h: which tables, columns and foreign keys a model sees.
 *
 * Found from the catalog: all tables reachable from the entity table over
 * foreign keys in either direction (or those named in USING), in a
 * deterministic order with the entity first. Every column has one role; what
 * was decided by rule has the rule's reason beside it.
 */
#ifndef MOE_SCHEMA_H
#define MOE_SCHEMA_H

#include "postgres.h"

#include "access/attnum.h"
#include "nodes/pg_list.h"

#include "embed/table.h"
#include "kernels/buffer.h"

typedef enum moe_column_role
{
    MOE_ROLE_KEY,         /* part of the primary key (or of the unique key a foreign key points at) */
    MOE_ROLE_FOREIGN_KEY, /* part of a foreign key */
    MOE_ROLE_TIME,        /* the row time */
    MOE_ROLE_FEATURE,     /* an input */
    MOE_ROLE_IGNORED      /* see reason */
} moe_column_role;

typedef struct moe_schema_column
{
    char *name;
    AttrNumber attnum;
    Oid type; /* base type under domains */
    int32 typmod;
    Oid collation;
    moe_column_role role;
    moe_storage storage;   /* of a FEATURE */
    moe_encoding encoding; /* AUTO or as declared */
    int known_at;          /* column (index) whose time says when the value became known; -1: with the row */
    char *reason; /* for people: "primary key", "declared", "only time column", "type bytea has no encoding", ... */
} moe_schema_column;

typedef struct moe_schema_table
{
    Oid relid;
    char *schema;
    char *name;
    int n_columns;
    moe_schema_column *columns;
    int time; /* column index of the row time, -1: none */
    char *time_reason;
    int n_key; /* primary key columns (indices), 0: none */
    int *key;
    double rows; /* the planner's estimate */
} moe_schema_table;

typedef struct moe_schema_edge /* a foreign key */
{
    char *name; /* the constraint's */
    int child;  /* tables */
    int parent;
    int n_columns;
    int *child_columns; /* indices */
    int *parent_columns;
    /* The child has no time column of its own: its rows are visible since their parent's row time (the latest, over
     * several such edges). */
    bool gives_time;
} moe_schema_edge;

typedef struct moe_schema
{
    int n_tables;
    moe_schema_table *tables; /* the entity is tables[0] */
    int n_edges;
    moe_schema_edge *edges;
    int n_key;     /* the entity's key: primary key, or the column named in FOR EACH table.key */
    int *key;      /* column indices in tables[0] */
    Oid time_type; /* TIMESTAMPTZOID if any row time is one, else TIMESTAMPOID; as_of has this type */
} moe_schema;

typedef struct moe_schema_request
{
    Oid entity;
    const char *entity_key; /* FOR EACH table.key, or NULL: the primary key */
    List *using_tables;     /* of Oid; NIL: all reachable */
    List *time_columns;     /* of char *: "[schema.]table.column"; "table.none" declares a table timeless */
    List *ignored_columns;  /* of char *, the same form */
    AttrNumber
        target; /* static target column of the entity to keep out of the inputs (and what is generated from it), or 0 */
    bool quiet; /* no NOTICE about rules */
} moe_schema_request;

/* Discover. Raises for no key, unknown names, USING tables that no foreign key connects, missing SELECT privilege
 * (names table and column). */
moe_schema *moe_schema_discover(const moe_schema_request *request);

/* Stored form: names, not OIDs. */
void moe_schema_write(const moe_schema *schema, moe_buffer *buffer);
/*
 * Read back and bind to today's catalog. Raises ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE naming the table
 * or column that was dropped, renamed or retyped (HINT: REFRESH MODEL).
 */
moe_schema *moe_schema_read(moe_reader *reader, const char *model);

/* The same; NULL where it does not fit, or the current user may not read of some table. */
moe_schema *moe_schema_read_fitting(const moe_reader *reader, const char *model);

/* What of today's catalog does not fit, a line each, or NULL: for a schema that comes from elsewhere. */
char *moe_schema_misfits(moe_reader *reader, const char *model);

/* "schema"."name", quoted. */
char *moe_schema_qualified(const moe_schema_table *table);

/*
 * The newest row time, not after `not_after`, over all tables with a time;
 * DT_NOBEGIN if there is none. Runs SQL as the current user.
 */
int64 moe_schema_newest(const moe_schema *schema, int64 not_after);

/*
 * SQL text of a table's row time on the schema's common axis (schema->time_type;
 * date and timestamp count as UTC when mixed with timestamptz), e.g. `c."placed_at"`.
 */
char *moe_schema_time_expression(const moe_schema *schema, int table, const char *alias);
/* The same of any date or timestamp column, by its number in the schema's table. */
char *moe_schema_moment_expression(const moe_schema *schema, int table, int column, const char *alias);

/* The row time for people: a column's name, "orders.order_date" where parents give it, or NULL. */
char *moe_schema_time_name(const moe_schema *schema, int table);

#endif
