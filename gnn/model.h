/*
 * model.h: seeds in, predictions out: the graph expert, hetero temporal message passing with a two-layer head.
 *
 * Row vectors come from a callback, so that gnn/ does not know what a column
 * is. Parameters live in a moe_params under the names "gnn/..." and "head/...".
 */
#ifndef MOE_MODEL_H
#define MOE_MODEL_H

#include "gnn/sampler.h"
#include "kernels/tape.h"

/* Encode n rows of a table to [n, channels]; see embed/encoder.h. */
typedef moe_var *(*moe_encode_fn)(void *encoder, moe_tape *tape, int table, const int32_t *rows, const uint8_t *hidden,
                                  int64_t n);

/*
 * Fill [seeds->n, seed_inputs] with what the caller knows of each seed at its horizon, say its past labels: finite,
 * prepared numbers, a function of each seed alone. Called on the thread that made the job.
 */
typedef moe_code (*moe_seed_inputs_fn)(void *arg, const moe_seeds *seeds, float *out);

typedef enum moe_task_type
{
    MOE_BINARY,
    MOE_REGRESSION,
    MOE_MULTICLASS
} moe_task_type;

/* What a layer makes of its neighbours; see gnn/convolution_*.c. */
typedef enum moe_convolution_kind
{
    MOE_CONV_SAGE, /* sums with fixed weights */
    MOE_CONV_GIN,  /* sums, and a network over them */
    MOE_CONV_PNA,  /* mean, maximum and minimum, scaled by degree */
    MOE_CONV_GAT   /* attention */
} moe_convolution_kind;

/* SAGE: what a list of children is summarised by. */
typedef enum moe_aggregation
{
    MOE_AGGREGATE_WEIGHTED, /* a tamed sum, the mean, and two means that favour the newest, side by side */
    MOE_AGGREGATE_SUM,      /* the tamed sum alone */
    MOE_AGGREGATE_MEAN,
    MOE_AGGREGATE_MAX,
    MOE_AGGREGATE_ALL /* the weighted ones and the maximum */
} moe_aggregation;

typedef struct moe_model_config
{
    moe_task_type task;
    int n_classes; /* MULTICLASS: 2 or more; otherwise 1 */
    int channels;
    int hops;
    int fanout[MOE_MAX_HOPS];
    moe_sampling sampling;
    moe_convolution_kind convolution;
    moe_aggregation aggregation;
    bool composite; /* what children tell is joined with what their other parents tell: a layer takes two hops */
    bool residual;  /* a layer adds to a row's vector what it was before */
    float dropout;
    int seed_inputs;     /* numbers a seed the caller supplies; 0: none */
    float input_dropout; /* of those */
    int64_t staleness;   /* as in sampler.h: the longest any training seed knew (moe_graph_staleness) */
    /* REGRESSION: the target is trained as (y - shift) / scale, and predictions are clamped to [low, high] */
    double shift, scale, low, high;
} moe_model_config;

void moe_model_config_defaults(moe_model_config *config);
void moe_model_config_write(const moe_model_config *config, moe_buffer *buffer);
moe_code moe_model_config_read(moe_reader *reader, moe_model_config *config); /* validates every field */

typedef struct moe_model moe_model;

/* inputs: NULL where the configuration has no seed_inputs. */
moe_code moe_model_create(moe_job *job, const moe_graph *graph, int entity_table, moe_encode_fn encode, void *encoder,
                          moe_seed_inputs_fn inputs, void *inputs_arg, const moe_model_config *config,
                          moe_params *params, moe_model **out);
void moe_model_destroy(moe_model *model);
const moe_model_config *moe_model_config_of(const moe_model *model);

typedef struct moe_outputs
{
    moe_var *logits; /* [n, 1] or [n, K]: raw, before sigmoid / softmax / un-scaling */
} moe_outputs;

/* One forward pass over a sample of seeds. */
moe_code moe_model_forward(moe_model *model, moe_tape *tape, const moe_seeds *seeds, const moe_sample *sample,
                           moe_outputs *out);

/*
 * Predict in batches of fixed size. prediction: BINARY [n] probabilities,
 * REGRESSION [n] values, MULTICLASS [n * K] probabilities. disabled_tables as in
 * sampler.h (what the seeds' inputs were made of is the caller's to disable). key: of the neighbour draws.
 */
moe_code moe_model_predict(moe_model *model, const moe_seeds *seeds, uint64_t key, const bool *disabled_tables,
                           float *prediction);

#endif
