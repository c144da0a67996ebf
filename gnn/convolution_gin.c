/*
 * convolution_gin.c: sums and a network over them (graph isomorphism network, Xu et al. 2019).
 *
 *     h_i <- ReLU(LayerNorm(MLP((1 + epsilon) h_i + V time_i + b + sum over edge types e of W_e sum of h_j)))
 *     MLP(z) = W2 ReLU(LayerNorm(W1 z + b1)) + b2
 *
 * A plain sum tells lists apart that a mean does not. It runs over the sampled
 * children, so that it is bounded by the fanout however old the database; the
 * network's LayerNorm tames it. epsilon is one number a table and layer, 0 at
 * first.
 */
#include "gnn/convolution.h"

#include <stdio.h>

static void
add_table(moe_model *model, moe_params *params, int layer, int t)
{
    moe_table_layer *out = &model->layer[layer * model->n_tables + t];
    int64_t channels = model->config.channels;
    char name[96];
    snprintf(name, sizeof name, "gnn/%d/table%d/epsilon", layer + 1, t);
    out->epsilon = moe_params_add(params, name, 1, 1, MOE_INIT_ZERO);
    snprintf(name, sizeof name, "gnn/%d/table%d/mlp1", layer + 1, t);
    out->mlp1 = moe_params_add(params, name, channels, channels, MOE_INIT_UNIFORM);
    snprintf(name, sizeof name, "gnn/%d/table%d/mlp1_bias", layer + 1, t);
    out->mlp1_bias = moe_params_add(params, name, 1, channels, MOE_INIT_ZERO);
    snprintf(name, sizeof name, "gnn/%d/table%d/mlp_gain", layer + 1, t);
    out->mlp_gain = moe_params_add(params, name, 1, channels, MOE_INIT_ONE);
    snprintf(name, sizeof name, "gnn/%d/table%d/mlp_shift", layer + 1, t);
    out->mlp_shift = moe_params_add(params, name, 1, channels, MOE_INIT_ZERO);
    snprintf(name, sizeof name, "gnn/%d/table%d/mlp2", layer + 1, t);
    out->mlp2 = moe_params_add(params, name, channels, channels, MOE_INIT_UNIFORM);
    snprintf(name, sizeof name, "gnn/%d/table%d/mlp2_bias", layer + 1, t);
    out->mlp2_bias = moe_params_add(params, name, 1, channels, MOE_INIT_ZERO);
}

static void
add_edge(moe_model *model, moe_params *params, int layer, int e)
{
    int64_t channels = model->config.channels;
    char name[96];
    snprintf(name, sizeof name, "gnn/%d/edge%d/weight", layer + 1, e);
    model->weight[layer * model->n_edges + e].weight =
        moe_params_add(params, name, channels, channels, MOE_INIT_UNIFORM);
}

/* (1 + epsilon) x. */
static moe_var *
scaled_own(moe_pass *p, int t, moe_var *x)
{
    const moe_table_layer *layer = &p->model->layer[p->layer * p->model->n_tables + t];
    float *ones = moe_tape_alloc(p->tape, x->rows, sizeof *ones);
    if (ones == NULL)
        return NULL;
    for (int64_t i = 0; i < x->rows; i++)
        ones[i] = 1;
    moe_var *epsilon =
        moe_linear(p->tape, moe_constant(p->tape, x->rows, 1, ones), moe_variable(p->tape, layer->epsilon), NULL);
    return moe_add(p->tape, x, moe_multiply_column(p->tape, x, epsilon));
}

static void
add_children(moe_pass *p, int e, moe_var *source, const moe_state_edges *edges, const int32_t *index)
{
    moe_param *weight = p->model->weight[p->layer * p->model->n_edges + e].weight;
    moe_var *sum = moe_aggregate(p->tape, source, edges->offset, index, NULL, edges->n, MOE_SUM);
    moe_pass_add(p, moe_linear(p->tape, sum, moe_variable(p->tape, weight), NULL), NULL);
}

static moe_var *
run_network(moe_pass *p, int t, moe_var *x)
{
    const moe_table_layer *layer = &p->model->layer[p->layer * p->model->n_tables + t];
    moe_tape *tape = p->tape;
    x = moe_linear(tape, x, moe_variable(tape, layer->mlp1), moe_variable(tape, layer->mlp1_bias));
    x = moe_layer_norm_relu(tape, x, moe_variable(tape, layer->mlp_gain), moe_variable(tape, layer->mlp_shift), 0);
    return moe_linear(tape, x, moe_variable(tape, layer->mlp2), moe_variable(tape, layer->mlp2_bias));
}

const moe_convolution moe_convolution_gin = {
    .add_table = add_table,
    .add_edge = add_edge,
    .own = scaled_own,
    .children = add_children,
    .combine = run_network,
};
