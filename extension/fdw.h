/*
 * fdw.h: a model as a relation: what planner, executor and the scalar functions share.
 *
 * A model's foreign table has its entity's key columns, then as_of, then the
 * outputs of its task. as_of is an input: an equality on it says when to
 * predict for.
 */
#ifndef MOE_FDW_H
#define MOE_FDW_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "commands/explain.h"
#include "foreign/fdwapi.h"
#include "nodes/execnodes.h"
#include "nodes/pathnodes.h"

#if PG_VERSION_NUM >= 180000
#include "commands/explain_state.h"
#endif

#include "extension/model.h"

#define MOE_SERVER_NAME "moe_ml"

/* The columns of a model's foreign table, by position. */
typedef struct moe_shape
{
    int n_key;         /* columns 1..n_key */
    AttrNumber as_of;  /* n_key + 1 */
    AttrNumber output; /* first output column */
    int n_outputs;
    AttrNumber experts; /* the column with the weights of the experts as jsonb, behind all others; 0: none */
    Oid *type;          /* [n_key + 1] base types of the key columns and as_of */
} moe_shape;

/* Derive the shape from the task. Raises if the foreign table's columns were changed by hand. */
moe_shape *moe_shape_of(Oid relid, const moe_model_info *info);
/* Raise unless the shape fits the entity's key and the time type. */
void moe_shape_check(const moe_shape *shape, const moe_predictor *predictor);

/* An equality on a key column or on as_of that is served by the scan itself. */
typedef struct moe_pushed
{
    AttrNumber column;
    bool array;     /* column = ANY (value) */
    Oid value_type; /* base type of value, or of its elements */
    Expr *value;
} moe_pushed;

/* Of the restrictions (a list of RestrictInfo), those on as_of and, if all key columns are there, on the key. */
List *moe_fdw_pushed(PlannerInfo *root, Index relid, const moe_shape *shape, List *restrictions);

/* May a parallel worker make all of the scan? The plan depends on what that rests on. */
bool moe_fdw_is_parallel_safe(PlannerInfo *root, RelOptInfo *rel, RangeTblEntry *entry);
void moe_fdw_rel_size(PlannerInfo *root, RelOptInfo *rel, Oid relid);
void moe_fdw_paths(PlannerInfo *root, RelOptInfo *rel, Oid relid);
ForeignScan *moe_fdw_plan(PlannerInfo *root, RelOptInfo *rel, Oid relid, ForeignPath *path, List *tlist, List *clauses,
                          Plan *outer_plan);

void moe_fdw_begin(ForeignScanState *node, int eflags);
TupleTableSlot *moe_fdw_iterate(ForeignScanState *node);
void moe_fdw_rescan(ForeignScanState *node);
void moe_fdw_end(ForeignScanState *node);
void moe_fdw_explain(ForeignScanState *node, ExplainState *es);

/* Plan-time facts the executor needs, as the plan's fdw_private: one list each, in the order of fdw_exprs. */
enum
{
    MOE_PRIVATE_COLUMNS,
    MOE_PRIVATE_ARRAYS,
    MOE_PRIVATE_TYPES
};

/* Seeds of one moment, scored chunk by chunk. */
typedef struct moe_scan
{
    Oid user;          /* as whom the tables are read */
    bool planned_safe; /* for a parallel worker */
    const moe_model_info *info;
    moe_shape *shape;
    moe_predictor *predictor; /* opened by the first fetch */

    List *values;      /* of ExprState, beside these lists from the plan */
    List *columns;     /* ints */
    List *arrays;      /* ints, 0 or 1 */
    List *types;       /* OIDs */
    bool key_is_given; /* the plan gives every key column */
    bool time_is_given;

    MemoryContext context;      /* of this rescan's rows */
    struct moe_value_set *sets; /* [as_of] the values given, by column */
    bool started;
    int64 *times;
    int n_times;
    int time; /* index */
    int32 *candidates;
    int64 n_candidates;
    int32 *rows; /* seeds at times[time], ascending */
    int64 n_rows;
    int64 next;  /* first row not yet returned */
    int64 first; /* rows [first, last) are scored */
    int64 last;
    int64 chunk; /* seeds to score at once, growing */
    float *prediction;
    float *gates;
    float *lower, *upper; /* REGRESSION */

    int64 scored; /* for EXPLAIN */
    double *load;
    double score_seconds;
} moe_scan;

/* fdw_seeds.c: evaluate what the plan gives. */
void moe_scan_evaluate(moe_scan *scan, ExprContext *econtext);
/* Is nothing asked about: a key or a time without a value? */
bool moe_scan_is_empty(const moe_scan *scan);
/* What is asked about, all entities where it is not one key; false if it is several times. */
bool moe_scan_asked(const moe_scan *scan, moe_asked *asked);
/* Row numbers for it, once the predictor is open. Fills times and candidates. */
void moe_scan_resolve(moe_scan *scan);

#endif
