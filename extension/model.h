/*
 * model.h: models as stored objects, and predictors: a stored model opened
 * over today's tables.
 *
 * A model is a foreign table of server moe_ml whose option `model` holds a
 * uuid; parameters and history are rows of tables in schema moe_ml under that
 * uuid. The rows are read and written here, by table access from C after an
 * ownership check, and are granted to nobody.
 */
#ifndef MOE_MODEL_OBJECT_H
#define MOE_MODEL_OBJECT_H

#include "postgres.h"

#include "utils/uuid.h"

#include "embed/history.h"
#include "extension/label_query.h"
#include "extension/reader.h"
#include "gnn/mixture.h"

typedef struct moe_model_info /* row of moe_ml.model */
{
    pg_uuid_t id;
    Oid foreign_table;
    Oid entity;       /* the table of FOR EACH as it is today; InvalidOid if it is gone */
    char *definition; /* the statement's text */
    char *training_query;
    char *population;    /* or NULL */
    char *history_query; /* or NULL: label_query.h */
    char *search_path;   /* that the names in these were looked up in */
    moe_task_type task;
    int n_classes;
    char **classes; /* MULTICLASS: the labels as text, by class number */
    Oid label_type;
    int64 window;          /* microseconds */
    int64 validation_from; /* DT_NOEND: none */
    int64 test_from;       /* DT_NOEND: none */
    bool is_static;
    int ensembles;
    int experts;
} moe_model_info;

/* Is this foreign table a model? */
bool moe_model_is(Oid relid);
/* Look up by name ("churn", "app.churn", quoted as in SQL). Raises for what is not a model (with the nearest model's
 * name). Checks SELECT on it. */
Oid moe_model_lookup(text *name);
/* Load the catalog row. Raises if the rows are missing. */
moe_model_info *moe_model_load(Oid relid);

/*
 * A predictor lives in a memory context of its own and holds the model's
 * parameters, the data read from the tables, and the graph. It is used again
 * while the same would be read (model_cache.c).
 */
typedef struct moe_predictor
{
    const moe_model_info *info;
    const moe_schema *schema;
    const moe_data *data;
    moe_job *job;
    MemoryContext context;
    const Datum *only; /* the key of the one entity row that what was read is around; NULL: whole tables were read */
    bool early;        /* what was read are entity rows alone: only moe_predictor_score_early may be asked */
    bool kept;         /* opened by an earlier statement; this one has read nothing */
    int64 *rows_read;  /* [schema->n_tables] by this statement */
    int64 looked_up;   /* rows of these that were looked up for one key or another */
    double read_seconds, build_seconds, score_seconds;
    int64 seeds_scored;
    const moe_mixture *mixture;
    struct moe_inputs *inputs;
    struct moe_predictor_parts *parts;
} moe_predictor;

/* The predictor stays valid as long as the memory context current at the call, or longer. */
moe_predictor *moe_predictor_open(Oid relid);

/* What predictions are wanted for: all entities or one, at one moment. */
typedef struct moe_asked
{
    int n_key;  /* 0: all */
    Datum *key; /* of the entity's key columns' types; not NULL */
    bool has_time;
    int64 time;
    bool early; /* what stops early will do, if the model has a budget */
} moe_asked;

/*
 * The same for what is asked about alone (NULL: everything). Of one row, what is read may be the rows around it, where
 * that is less work; of what stops early, the entity rows. Such a predictor knows no other row and no other time; it is
 * the scan's own, which may turn it to another row, or to those that do not stop early. Turning reads whole tables once
 * looking up has become the greater work.
 */
moe_predictor *moe_predictor_open_around(Oid relid, const moe_asked *asked);
void moe_predictor_turn(moe_predictor *predictor, const moe_asked *asked);

/*
 * Keep a predictor until `context` is reset or deleted as well: a scan holds its predictor in the executor's
 * context, so that neither another statement's opening nor the end of the transaction frees it underneath.
 */
void moe_predictor_hold(moe_predictor *predictor, MemoryContext context);

/* The time that predictions without as_of are made for: the newest row time not after now(). */
int64 moe_predictor_default_time(moe_predictor *predictor);

/*
 * Score n seeds: rows of the entity table (each visible at its horizon),
 * times, horizons (NULL: the times). out: as of moe_mixture_predict. disabled:
 * NULL or one flag a table and a last one for the label history. Checks for
 * interrupts.
 */
void moe_predictor_score(moe_predictor *predictor, int64 n, const int32 *row, const int64 *time, const int64 *horizon,
                         const bool *disabled, const moe_mixture_answer *out);

/* Score n seeds as far as they stop early: stops [n]; of the others out and gates (or NULL) mean nothing. */
void moe_predictor_score_early(moe_predictor *predictor, int64 n, const int32 *row, const int64 *time,
                               const int64 *horizon, float *out, float *gates, bool *stops);

/* Predict by another point of the curve that a budget is chosen from, until it is set back: others may use this one. */
void moe_predictor_use_point(moe_predictor *predictor, int point);

/*
 * Have the predictor's inputs know the past labels that the first of these seeds may know; returns how many of them,
 * one after another, are served by the same. Scoring does it by itself. Reads as the user that the predictor was opened
 * as.
 */
int64 moe_predictor_recall(moe_predictor *predictor, const moe_seeds *seeds);

/*
 * Labels that count as known from now on, where their windows have closed, besides those of the model's own query:
 * for the evaluation of a model on rows of a query. Arrays must live as long as the predictor is held.
 */
void moe_predictor_tell(moe_predictor *predictor, const moe_past_labels *labels);

/*
 * The rows of the population (all visible entities, or those that the model's
 * WHERE counts) at a time, ascending; palloc'd. candidates: NULL, or rows to
 * restrict to.
 */
int64 moe_predictor_population(moe_predictor *predictor, int64 time, const int32 *candidates, int64 n_candidates,
                               int32 **rows);

#endif
