/*
 * layers.h: what the parts of the model share; not for other folders.
 *
 * config.c  the model's options
 * plan.c    which tables and edge types matter at which layer, and their parameters
 * states.c  a sampled tree, with equal subtrees merged and its times turned into numbers
 * head.c    from the seeds' vectors to logits
 *
 * convolution.h has what message passing shares beyond that.
 */
#ifndef MOE_LAYERS_H
#define MOE_LAYERS_H

#include "gnn/model.h"

/* Weights a list of children may be summed with; only the first two if the child table has no time. */
#define MOE_MEANS 4
/* Heads of attention. */
#define MOE_HEADS 4
/* Scalers of PNA. */
#define MOE_SCALERS 3

/* Columns of the time features. */
#define MOE_DECAYS       8 /* exp(-age / tau), tau = 4096, 1024, ... days */
#define MOE_SELF_TIME    (2 + MOE_DECAYS)
#define MOE_CHILD_TIME   (4 + MOE_DECAYS)
#define MOE_CHILD_PLAIN  2
#define MOE_PARENT_TIME  (2 + MOE_DECAYS)
#define MOE_PARENT_PLAIN 1
#define MOE_EDGE_TIME    (4 + MOE_DECAYS) /* of one child: its age, and two decays by its place from the newest */

/* Seeds of one batch of predictions. */
#define MOE_PREDICT_BATCH 1024

typedef struct moe_edge_plan
{
    int source;
    int destination;
    bool to_children;  /* messages come from a list of children; otherwise from the one parent */
    bool timed;        /* the source table has a time */
    bool relative;     /* the message depends on the seed time, not on the rows alone */
    int column;        /* of its time features in the destination's */
    int first_part;    /* of MOE_MEANS: the weights that sums of children are made with, */
    int parts;         /* and how many of them */
    moe_param *delta;  /* PNA, to_children: where its mean degree is stored */
    float mean_degree; /* mean of log(1 + visible children) in training; 0: not measured */
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
    /* GIN, instead of self */
    moe_param *epsilon;
    moe_param *mlp1;
    moe_param *mlp1_bias;
    moe_param *mlp_gain;
    moe_param *mlp_shift;
    moe_param *mlp2;
    moe_param *mlp2_bias;
} moe_table_layer;

/* Parameters of one layer for one edge type; NULL for what its convolution has no use for. */
typedef struct moe_edge_layer
{
    moe_param *weight;              /* [C, C], or of several sums side by side */
    moe_param *max;                 /* of the maximum */
    moe_param *scaled[MOE_SCALERS]; /* PNA: of all aggregators [3 C, C], for each scaler */
    moe_param *query[MOE_HEADS];    /* GAT: [C, C / MOE_HEADS] */
    moe_param *key[MOE_HEADS];
    moe_param *value[MOE_HEADS];
    moe_param *age[MOE_HEADS]; /* [MOE_EDGE_TIME, 1]; NULL without times */
    /* Composite messages; NULL where the children have no other parents. */
    moe_param *fuse_own;
    moe_param *fuse_bias;
    moe_param **fuse; /* [keys]: of the parents over each other key of the children */
} moe_edge_layer;

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
    int layers;
    int stride;             /* hops that a layer takes */
    moe_table_layer *layer; /* [layers * n_tables] */
    moe_edge_layer *weight; /* [layers * n_edges] */
    moe_param **fuse;       /* [layers * n_edges * keys] what theirs point into; NULL without composite messages */

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
    int64_t n;       /* destinations */
    int64_t *offset; /* [n + 1]; NULL: no message. For parents: NULL always */
    int32_t *source; /* to_children: [messages] states one depth down; parents: [n], -1 for none */
    int32_t *unique; /* as source, but indices of unique rows: what layer 1 reads */
    float *weight;   /* [messages * parts] */
    float *degree;   /* PNA: [n] log(1 + visible children) */
    float *time;     /* GAT: [messages, MOE_EDGE_TIME]; NULL if the children have no time */
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

/* The deepest rows that a layer (from 0) computes: nothing reads the others. */
static inline int
moe_deepest(const moe_model *model, int layer)
{
    return model->config.hops - model->stride * (layer + 1);
}

/* MOE_INVALID, naming the option, if a configuration makes no sense. */
moe_code moe_model_config_check(moe_job *job, const moe_model_config *config);

moe_code moe_plan(moe_model *model, moe_params *params);
moe_code moe_states_build(const moe_model *model, moe_tape *tape, const moe_sample *sample, moe_states *out);

/* Seeds' vectors [n, C] after the last layer; encoded: per table [unique rows, C] or NULL. */
moe_var *moe_convolve(const moe_model *model, moe_tape *tape, const moe_states *states, moe_var **encoded);
/* Measure what the convolution needs to know of the lists that training seeds see, and store it in the parameters. */
moe_code moe_model_measure(moe_model *model, moe_params *params, const moe_seeds *seeds, uint64_t key);
/* How the model's configuration has trees sampled. */
moe_sampler_config moe_model_sampler(const moe_model *model, uint64_t key);

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
