/*
 * layers.h: what the parts of the model share; not for other folders.
 *
 * config.c  the model's options
 * plan.c    which tables and edge types matter at which layer, and their parameters
 * states.c  a sampled tree, with equal subtrees merged and its times turned into numbers
 * sage.c    message passing over the states
 * head.c    from the seeds' vectors to logits
 */
#ifndef MOE_LAYERS_H
#define MOE_LAYERS_H

#include "gnn/model.h"

/* Means a list of children is summarised by; only the first two if the child table has no time. */
#define MOE_MEANS 4

/* Columns of the time features. */
#define MOE_DECAYS       8 /* exp(-age / tau), tau = 4096, 1024, ... days */
#define MOE_SELF_TIME    (2 + MOE_DECAYS)
#define MOE_CHILD_TIME   (4 + MOE_DECAYS)
#define MOE_CHILD_PLAIN  2
#define MOE_PARENT_TIME  (2 + MOE_DECAYS)
#define MOE_PARENT_PLAIN 1

/* Seeds of one batch of predictions. */
#define MOE_PREDICT_BATCH 1024

typedef struct moe_edge_plan
{
    int source;
    int destination;
    bool to_children; /* messages come from a list of children; otherwise from the one parent */
    bool timed;       /* the source table has a time */
    bool relative;    /* the message depends on the seed time, not on the rows alone */
    int column;       /* of its time features in the destination's */
} moe_edge_plan;

typedef struct moe_table_plan
{
    bool timed;
    bool reached[MOE_MAX_HOPS + 1]; /* occurs at this depth of some tree */
    int width;                      /* time features of a row: its own age first, then one block an edge type */
} moe_table_plan;

/* Parameters of one layer for one destination table; NULL where the layer has no use for the table. */
typedef struct moe_table_layer
{
    moe_param *self;
    moe_param *time;
    moe_param *bias;
    moe_param *norm_gain;
    moe_param *norm_bias;
} moe_table_layer;

struct moe_model
{
    moe_job *job;
    const moe_graph *graph;
    int entity;
    moe_encode_fn encode;
    void *encoder;
    moe_seed_inputs_fn inputs;
    void *inputs_arg;
    moe_model_config config;
    int outputs;
    int n_tables;
    int n_edges;
    moe_table_plan *tables; /* [n_tables] */
    moe_edge_plan *edges;   /* [n_edges] */
    moe_table_layer *layer; /* [hops * n_tables] */
    moe_param **weight;     /* [hops * n_edges]: [MOE_MEANS * C, C], [2 C, C] or [C, C] */

    /* head */
    moe_param *input_weight; /* NULL without seed inputs */
    moe_param *input_bias;
    moe_param *hidden_weight;
    moe_param *hidden_bias;
    moe_param *head_weight;
    moe_param *head_bias;

    moe_tape *tape;        /* of predictions */
    moe_arena *arena;      /* of their samples */
    float *logits;         /* [MOE_PREDICT_BATCH, outputs] of the last batch, on the device */
    float *raw;            /* [MOE_PREDICT_BATCH, outputs] its logits, on the host */
    double encode_seconds; /* spent in the encode callback so far */
};

/* One edge type into the states of a table at one depth. All arrays live on the tape. */
typedef struct moe_state_edges
{
    int64_t *offset; /* [n + 1]; NULL: no message. For parents: NULL always */
    int32_t *source; /* to_children: [messages] states one depth down; parents: [n], -1 for none */
    int32_t *unique; /* as source, but indices of unique rows: what layer 1 reads */
    float *weight;   /* [messages * means]: MOE_MEANS, or 2 if the children have no time */
} moe_state_edges;

/* The distinct states of one table at one depth: at the last depth the unique rows, at depth 0 the seeds. */
typedef struct moe_state_level
{
    int64_t n;
    int32_t *unique; /* [n] its row; NULL at the last depth: itself */
    float *time;     /* [n, width] */
} moe_state_level;

typedef struct moe_states
{
    moe_state_level *levels; /* [(hops + 1) * n_tables] */
    moe_state_edges *edges;  /* [hops * n_edges] */
    float *inputs;           /* [seeds, seed_inputs]; NULL without any */
} moe_states;

/* MOE_INVALID, naming the option, if a configuration makes no sense. */
moe_code moe_model_config_check(moe_job *job, const moe_model_config *config);

moe_code moe_plan(moe_model *model, moe_params *params);
moe_code moe_states_build(const moe_model *model, moe_tape *tape, const moe_sample *sample, moe_states *out);
/* Seeds' vectors [n, C] after the last layer; encoded: per table [unique rows, C] or NULL. */
moe_var *moe_sage_forward(const moe_model *model, moe_tape *tape, const moe_states *states, moe_var **encoded);

moe_code moe_head_create(moe_model *model, moe_params *params);
/* Logits [n, outputs] of seeds' vectors [n, C] and inputs [n, seed_inputs]. */
moe_var *moe_head_forward(const moe_model *model, moe_tape *tape, moe_var *seeds, const float *inputs);

/* The two halves of moe_model_forward: what the host does alone, and what it has the device do. */
moe_code moe_model_prepare(const moe_model *model, moe_tape *tape, const moe_seeds *seeds, const moe_sample *sample,
                           moe_states *out);
moe_code moe_model_run(moe_model *model, moe_tape *tape, const moe_sample *sample, const moe_states *states,
                       moe_outputs *out);

/* Seconds of a clock that never runs backwards. */
double moe_clock(void);
double moe_model_encode_seconds(const moe_model *model);

#endif
