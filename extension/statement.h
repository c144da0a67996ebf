/*
 * statement.h: the statements of the language as trees.
 *
 * Lexical rules are PostgreSQL's own: the scanner is the server's core
 * scanner, the grammar is extension/statement_gram.y.
 */
#ifndef MOE_STATEMENT_H
#define MOE_STATEMENT_H

#include "postgres.h"

#include "nodes/parsenodes.h"
#include "nodes/primnodes.h"

typedef enum moe_statement_kind
{
    MOE_CREATE_MODEL,
    MOE_DROP_MODEL,
    MOE_REFRESH_MODEL,
    MOE_RENAME_MODEL,
    MOE_OWNER_MODEL,
    MOE_SCHEMA_MODEL,
    MOE_SET_MODEL,
    MOE_RESET_MODEL
} moe_statement_kind;

typedef enum moe_aggregate_kind
{
    MOE_AGG_SUM,
    MOE_AGG_AVG,
    MOE_AGG_MIN,
    MOE_AGG_MAX,
    MOE_AGG_COUNT,
    MOE_AGG_COUNT_DISTINCT,
    MOE_AGG_FIRST,
    MOE_AGG_LAST,
    MOE_AGG_LIST_DISTINCT
} moe_aggregate_kind;

typedef enum moe_unit
{
    MOE_UNIT_DAYS,
    MOE_UNIT_HOURS,
    MOE_UNIT_MINUTES,
    MOE_UNIT_MONTHS
} moe_unit;

/* A dotted column name: [[schema.]table.]column; column NULL stands for `*`; schema and table NULL where not written.
 */
typedef struct moe_column_name
{
    char *schema;
    char *table;
    char *column;
    int location; /* byte offset in the source text */
} moe_column_name;

typedef enum moe_node_kind
{
    MOE_NODE_AGGREGATE,
    MOE_NODE_COLUMN,
    MOE_NODE_CONSTANT,
    MOE_NODE_COMPARE, /* left `op` right */
    MOE_NODE_NULL_TEST,
    MOE_NODE_IN,
    MOE_NODE_LIKE,
    MOE_NODE_BETWEEN,
    MOE_NODE_AND,
    MOE_NODE_OR,
    MOE_NODE_NOT
} moe_node_kind;

typedef struct moe_node moe_node;
struct moe_node
{
    moe_node_kind kind;
    int location;
    bool negated; /* IS NOT NULL, NOT IN, NOT LIKE, NOT BETWEEN */

    /* AGGREGATE */
    moe_aggregate_kind aggregate;
    moe_column_name *column; /* also COLUMN */
    moe_node *filter;        /* row-level condition, or NULL */
    bool has_window;
    bool start_infinite; /* -INF */
    int64 start;
    int64 end;
    moe_unit unit;

    /* CONSTANT: SQL text, quoted as PostgreSQL needs it ('abc', 42, -1.5, true, NULL, DATE '2020-01-01') */
    char *constant;

    char *op;        /* COMPARE: one of = <> < <= > >= ; LIKE: LIKE or ILIKE */
    moe_node *left;  /* also the only operand of NOT, NULL_TEST, IN, LIKE, BETWEEN */
    moe_node *right; /* COMPARE, AND, OR, LIKE */
    List *list;      /* IN: of moe_node constants; BETWEEN: low, high */
};

typedef struct moe_statement
{
    moe_statement_kind kind;
    RangeVar *name;
    bool or_replace;
    bool if_exists; /* IF NOT EXISTS of CREATE, IF EXISTS of DROP and ALTER */
    bool cascade;   /* DROP ... CASCADE */
    List *names;    /* DROP MODEL a, b: of RangeVar */
    char *new_name; /* RENAME TO, SET SCHEMA */
    RoleSpec *new_owner;

    moe_node *target;  /* PREDICT ... ; NULL with user labels */
    char *label;       /* user labels: the label's column in the query */
    char *label_time;  /* AT column */
    char *label_query; /* AS query, verbatim */
    int label_query_location;
    RangeVar *entity;
    char *entity_key;   /* FOR EACH table.key, or NULL */
    moe_node *where;    /* who counts: looks into the past */
    moe_node *assuming; /* taken as true: looks into the future */
    List *using_tables; /* of RangeVar */
    List *options;   /* of DefElem; values String, Integer, Float, Boolean, List; a bare name is true, NULL in RESET */
    bool background; /* the option of that name, which is none of the model's and not among the options */

    char *text;   /* this statement's own text, trimmed, without the semicolon */
    int location; /* where it begins in the source */

    /* Where WITH (...) stands in text, from WITH to behind the parenthesis: before and after the user's query. */
    int n_with;
    int with_begin[2], with_end[2];
} moe_statement;

/*
 * Parse one statement: bytes [offset, offset + length) of source (a trailing
 * semicolon is allowed). Raises syntax errors with a position in source.
 * FORECAST, RANK, CLASSIFY and list_distinct raise
 * ERRCODE_FEATURE_NOT_SUPPORTED with the feature's name.
 */
moe_statement *moe_statement_parse(const char *source, int offset, int length);

/*
 * Error position for a byte offset within the source of the statement being
 * executed: errposition when the source is the client's own query string,
 * internal position and query otherwise (the function and DO doors). For use
 * inside ereport().
 */
int moe_statement_position(int location);

/*
 * The text of a CREATE MODEL with these options (of DefElem) in place of its own; palloc'd. What else it says stays as
 * it was written.
 */
char *moe_statement_with_options(const moe_statement *statement, List *options);

/* Run a parsed statement (model_command.c). Returns the command tag, e.g. "CREATE MODEL". */
const char *moe_statement_execute(moe_statement *statement);

#endif
