/*
 * model_options.h: the options of CREATE MODEL ... WITH (...).
 */
#ifndef MOE_MODEL_OPTIONS_H
#define MOE_MODEL_OPTIONS_H

#include "postgres.h"

#include "nodes/parsenodes.h"

#include "embed/encoder.h"
#include "extension/label_query.h"
#include "gnn/mixture.h"

/* What the graph expert knows of a seed besides its graph. */
typedef enum moe_graph_sees
{
    MOE_GRAPH_NOTHING,
    MOE_GRAPH_HISTORY, /* the label history */
    MOE_GRAPH_ALL      /* all inputs */
} moe_graph_sees;

typedef struct moe_model_options
{
    int64 seed;
    int ensembles;      /* members of the graph expert */
    unsigned experts;   /* a bit for each moe_expert_kind */
    bool experts_given; /* by the statement */
    int max_columns;    /* of the inputs, before normalisation */
    float budget;       /* share of the rows around entities that may be read */
    bool refit;         /* dense experts learn from the validation rows too, in the end */
    int64 staleness;    /* simulated in training: the longest gap, microseconds; 0: by rule; -1: none */
    int stale_draws;    /* of each training row */
    bool show_experts;  /* as a column */
    moe_router_config router;
    moe_model_config model;
    moe_encoder_config encoder;
    moe_train_config train;
    moe_label_options labels;
    char *validation_from; /* as written, until moe_model_options_times */
    char *test_from;
    char *label_window;
    moe_graph_sees graph_sees;
    char *graph_inputs;
    char *convolution;
    char *aggregation;
    char *composite;
    char *residual;
    char *expert_names;
    char *refit_choice;
    char *routing;
    char *show;
    char *staleness_text;
    char *balance;
    char *sampling;
    char *neighbors;
    char *time_columns;
    char *ignored_columns;
    List *time_column_names; /* of char * */
    List *ignored_column_names;
} moe_model_options;

/* Read the options (of DefElem) over the defaults. Raises for unknown ones (with the list of those there are) and for
 * values that do not fit. */
moe_model_options *moe_model_options_parse(List *definitions);
/* Raise, as parsing does, if there is no option of that name. */
void moe_model_option_require(const DefElem *definition);
/* Read validation_from and test_from on the axis of the schema's times. */
void moe_model_options_times(moe_model_options *options, Oid time_type);
/* What is in effect, as a JSON object. */
char *moe_model_options_json(const moe_model_options *options);

#endif
