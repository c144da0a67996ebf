/*
 * label_query_internal.h: what the parts of the label compiler share.
 *
 * resolve: names and paths of foreign keys, checked -> seeds: the grid of seed
 * times -> sql: the text, in one pass, so that every stretch of it remembers
 * the place in the statement it came from -> check: the server's own parse
 * analysis, whose errors are given that place.
 */
#ifndef MOE_LABEL_QUERY_INTERNAL_H
#define MOE_LABEL_QUERY_INTERNAL_H

#include "postgres.h"

#include "access/attnum.h"
#include "lib/stringinfo.h"
#include "nodes/pg_list.h"

#include "extension/label_query.h"

/* Which way a window may look, and what an absent row means. */
typedef enum moe_label_side
{
    MOE_SIDE_TARGET,
    MOE_SIDE_WHERE,
    MOE_SIDE_ASSUMING
} moe_label_side;

typedef struct moe_label_aggregate
{
    const moe_node *node;
    moe_label_side side;
    int table; /* in the schema */
    int n_steps;
    int *steps;     /* edges, child to parent: from the aggregate's table up to the entity; at least one */
    int time_table; /* whose time is the row time: on the path below the entity, or the parent of time_edge; -1: none */
    int time_step;  /* its place on the path, -1: not on it */
    int time_edge;  /* from the aggregate's table off the path, -1 */
    bool counts;    /* 0, not NULL, over no rows */
    bool presence;  /* a count from -INF of which only matters whether it is 0 */
    const char *name; /* of its common table expression, "a1" */
} moe_label_aggregate;

typedef struct moe_label_context
{
    const moe_statement *statement;
    const moe_schema *schema;
    const moe_label_options *options;
    const moe_schema_table *entity;      /* tables[0] */
    List *aggregates;                    /* of moe_label_aggregate, target's first, then WHERE's, then ASSUMING's */
    const char *static_column;           /* the target's column, if it has no aggregate */
    const moe_column_name *other_column; /* a second, different one */
} moe_label_context;

/* The seed times: three blocks, each `anchor + sign * n * step` for n in [first, last]. */
typedef struct moe_seed_block
{
    const char *split;
    int64 anchor;
    int sign;
    int first;
    int last; /* first - 1: none */
} moe_seed_block;

typedef struct moe_seed_times
{
    int64 step; /* in units */
    moe_unit unit;
    int64 length; /* of a step in microseconds, a month as 30 days */
    moe_seed_block blocks[3];
    int64 validation_from;
    int64 test_from;
} moe_seed_times;

/* SQL text which remembers what part of the statement its stretches came from. */
typedef struct moe_label_mark
{
    int offset;
    int location;
    bool verbatim; /* the text from here on is the statement's own, byte by byte */
} moe_label_mark;

typedef struct moe_label_text
{
    StringInfoData sql;
    moe_label_mark *marks;
    int n_marks;
    int capacity;
} moe_label_text;

/* label_query_resolve.c */
void moe_label_resolve(moe_label_context *context);
/* The entity table's or another table's column by name; raises at location with the nearest name. */
AttrNumber moe_label_column(Oid relid, const char *name, int location);
const moe_label_aggregate *moe_label_aggregate_of(const moe_label_context *context, const moe_node *node);

/* label_query_seeds.c */
void moe_label_seed_times(const moe_label_context *context, moe_seed_times *times);
/* A distance in microseconds, a month as 30 days. Raises at location beyond 10,000 years. */
int64 moe_label_microseconds(int64 count, moe_unit unit, int location);
/* The time `count` units later, by the calendar (UTC). */
int64 moe_label_shift(int64 time, int64 count, moe_unit unit);
/* A query's first column as int64 times, ascending and distinct; NULL and infinite ones left out. */
int64 moe_label_times(const char *sql, int64 **times);
/* "3 days", "1 month": for people. */
char *moe_label_interval_name(int64 count, moe_unit unit);

/* label_query_logic.c */
/* Does the comparison only ask whether its left side, a count, is 0? */
bool moe_label_asks_presence(const moe_node *compare);
/* Is the value NULL wherever the aggregate has no row? */
bool moe_label_null_without(const moe_label_context *context, const moe_node *node, const moe_label_aggregate *absent);
/* Can the condition never be true where the aggregate has no row? */
bool moe_label_false_without(const moe_label_context *context, const moe_node *node, const moe_label_aggregate *absent);
/* May the value be NULL at all? */
bool moe_label_nullable(const moe_label_context *context, const moe_node *node);

/* label_query_text.c */
void moe_label_text_init(moe_label_text *text);
void moe_label_text_mark(moe_label_text *text, int location, bool verbatim);
/* A time as a literal of the schema's time type. */
char *moe_label_time_literal(const moe_schema *schema, int64 time);
/* INTERVAL '30 days'; with timestamptz a day is 24 hours, so that no session's time zone matters. */
char *moe_label_interval(const moe_schema *schema, int64 count, moe_unit unit);
/* `expression` moved by count units. */
char *moe_label_shifted(const moe_schema *schema, const char *expression, int64 count, moe_unit unit);
/*
 * Parse-analyse the text as a single query with the parameter types given.
 * Returns its Query; raises errors at the statement's place they come from.
 */
struct Query *moe_label_text_check(const moe_label_text *text, const Oid *types, int n_types);

/*
 * label_query_deparse.c: the query as SQL that means the same on any search_path that has pg_catalog first. Raises
 * where it calls functions of those who are no superusers.
 */
char *moe_label_deparse(const struct Query *query);

/* label_query_sql.c */
void moe_label_training_sql(const moe_label_context *context, const moe_seed_times *times, moe_label_text *text);
void moe_label_history_sql(const moe_label_context *context, const moe_seed_times *times, moe_label_text *text);
void moe_label_static_sql(const moe_label_context *context, int64 as_of, moe_label_text *text);
void moe_label_population_sql(const moe_label_context *context, moe_label_text *text);
/* 'train' for 8 keys of 10, 'validation' for 1, 'test' for 1, by a hash of the key columns of the alias. */
char *moe_label_hash_bucket(const moe_label_context *context, const char *alias);

/* label_query_user.c */
void moe_label_user_query(const moe_label_context *context, moe_label_query *query);

/* label_query.c */
bool moe_label_is_number(Oid type);
moe_task_type moe_label_task(const moe_label_context *context, Oid type, int location, bool user, bool *from_values);

#endif
