/*
 * convolution_sage.c: lists of children by sums with fixed weights (GraphSAGE, Hamilton et al. 2017).
 *
 *     messages_e(i) = W_e [weighted sums of h_j, side by side] + M_e max of h_j
 *
 * with the weights of states.c, all or one of them, and the maximum where the
 * configuration asks for it. A list is summed first and multiplied after, once
 * a destination.
 */
#include "gnn/convolution.h"

#include <stdio.h>

static void
add_edge(moe_model *model, moe_params *params, int layer, int e)
{
    moe_edge_layer *out = &model->weight[layer * model->n_edges + e];
    int64_t channels = model->config.channels;
    int parts = model->edges[e].parts;
    char name[96];
    snprintf(name, sizeof name, "gnn/%d/edge%d/weight", layer + 1, e);
    if (parts > 0)
        out->weight = moe_params_add(params, name, parts * channels, channels, MOE_INIT_UNIFORM);
    snprintf(name, sizeof name, "gnn/%d/edge%d/max", layer + 1, e);
    if (model->config.aggregation == MOE_AGGREGATE_MAX || model->config.aggregation == MOE_AGGREGATE_ALL)
        out->max = moe_params_add(params, name, channels, channels, MOE_INIT_UNIFORM);
}

static void
add_children(moe_pass *p, int e, moe_var *source, const moe_state_edges *edges, const int32_t *index)
{
    const moe_edge_layer *layer = &p->model->weight[p->layer * p->model->n_edges + e];
    int parts = p->model->edges[e].parts;
    if (layer->weight != NULL)
    {
        moe_var *sums = moe_aggregate_parts(p->tape, source, edges->offset, index, edges->weight, parts, edges->n);
        moe_pass_add(p, moe_linear(p->tape, sums, moe_variable(p->tape, layer->weight), NULL), NULL);
    }
    if (layer->max != NULL)
    {
        moe_var *max = moe_aggregate_max(p->tape, source, edges->offset, index, NULL, edges->n);
        moe_pass_add(p, moe_linear(p->tape, max, moe_variable(p->tape, layer->max), NULL), NULL);
    }
}

const moe_convolution moe_convolution_sage = {
    .add_edge = add_edge,
    .children = add_children,
};
