/*
 * label_query.h: a statement's labels as ordinary SQL.
 *
 * The predictive query (or the user's own query) becomes one SELECT that
 * returns, per labelled seed: the entity's key columns (under their own
 * names), as_of (of schema->time_type), label, and split ('train',
 * 'validation' or 'test'). It is stored with the model and shown to the user.
 */
#ifndef MOE_LABEL_QUERY_H
#define MOE_LABEL_QUERY_H

#include "extension/schema.h"
#include "extension/statement.h"
#include "gnn/model.h"

typedef struct moe_label_options /* from WITH (...) */
{
    bool has_validation_from;
    int64 validation_from;
    bool has_test_from;
    int64 test_from;
    char *split_column; /* user labels: names a column of the query with train / validation (or val, valid) / test */
    char *task;         /* 'binary', 'regression', 'multiclass', or NULL: from the label */
    int seed_times;     /* at most this many training seed times; 0: the default cap */
    int64 label_window; /* user labels: microseconds after as_of until the label is known; 0: the smallest gap between
                           seed times */
} moe_label_options;

typedef struct moe_label_query
{
    char *sql;        /* the training query; no parameters */
    char *population; /* SELECT key columns of the entities that count (WHERE) at as_of = $1; NULL: every visible entity
                       */
    char *population_text; /* the same as people read it */
    char *history; /* as sql, for the seeds $1 - n windows, n from $2 to $3 (int); NULL: of the user's own labels, and
                      of a static column, there is no such query */
    moe_task_type task;
    bool task_from_values; /* integer label: binary if only 0 and 1 occur, else regression */
    Oid label_type;
    int64 window; /* length of the label window, microseconds (a month counts 30 days here); 0: take the smallest gap of
                     seed times */
    bool is_static; /* a static column: no window; split by a hash of the key, all seeds at the newest time */
    int64 validation_from;
    int64 test_from; /* first test seed time, DT_NOEND if there is no test block */
} moe_label_query;

/*
 * Compile. Needs the schema with the statement's entity as tables[0]. Runs
 * small queries (newest row time). Raises with position for: unknown table or
 * column (with the nearest name), no or ambiguous path of foreign keys to the
 * entity, no time column though there is a window, windows on the wrong side
 * of the seed time, a column's type unfit for its aggregate, too little data
 * for one training, one validation and one test window.
 */
moe_label_query *moe_label_query_compile(const moe_statement *statement, const moe_schema *schema,
                                         const moe_label_options *options);

/* The static target's attribute number, or 0: to be kept out of the schema before moe_schema_discover. */
AttrNumber moe_label_query_static_target(const moe_statement *statement, Oid entity);

#endif
