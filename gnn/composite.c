/*
 * composite.c: messages from two hops at once (RelGNN, Chen et al. 2025).
 *
 * A row of a table with several foreign keys ties its parents together: a
 * message into one of them is joined with what the others say,
 *     c_j = ReLU(U h_j + b + sum over the other keys k of j's table of W_k h_parent_k(j)),
 * before the convolution sums or attends over the children j. A layer so takes
 * two hops, and half as many layers see as far; children without other
 * parents send what they would send anyway.
 */
#include "gnn/convolution.h"

#include <stdio.h>

/* Whether key k is another key of the children over an edge type. */
static bool
is_other_key(const moe_model *model, int e, int k)
{
    return k != e / 2 && moe_graph_key_at(model->graph, k)->child == model->edges[e].source;
}

bool
moe_composite_applies(const moe_model *model, int e)
{
    bool applies = false;
    for (int k = 0; model->config.composite && model->edges[e].to_children && k < model->n_edges / 2; k++)
        applies = applies || is_other_key(model, e, k);
    return applies;
}

void
moe_composite_add(moe_model *model, moe_params *params, int layer, int e)
{
    moe_edge_layer *out = &model->weight[layer * model->n_edges + e];
    int n_keys = model->n_edges / 2;
    int64_t channels = model->config.channels;
    char name[96];
    out->fuse = model->fuse + ((int64_t) layer * model->n_edges + e) * n_keys;
    snprintf(name, sizeof name, "gnn/%d/edge%d/fuse", layer + 1, e);
    out->fuse_own = moe_params_add(params, name, channels, channels, MOE_INIT_UNIFORM);
    snprintf(name, sizeof name, "gnn/%d/edge%d/fuse_bias", layer + 1, e);
    out->fuse_bias = moe_params_add(params, name, 1, channels, MOE_INIT_ZERO);
    for (int k = 0; k < n_keys; k++)
    {
        snprintf(name, sizeof name, "gnn/%d/edge%d/fuse%d", layer + 1, e, k);
        if (is_other_key(model, e, k))
            out->fuse[k] = moe_params_add(params, name, channels, channels, MOE_INIT_UNIFORM);
    }
}

moe_var *
moe_composite_source(moe_pass *p, int e)
{
    const moe_model *model = p->model;
    const moe_edge_layer *layer = &model->weight[p->layer * model->n_edges + e];
    int table = model->edges[e].source;
    int depth = p->depth + 1;
    int n_keys = model->n_edges / 2;
    int n = 0;
    moe_var **terms = moe_tape_alloc(p->tape, n_keys + 1, sizeof *terms);
    const int32_t **index = moe_tape_alloc(p->tape, n_keys + 1, sizeof *index);
    if (terms == NULL || index == NULL)
        return NULL;
    moe_var *own = moe_pass_own(p, depth, table, &index[n]);
    terms[n++] = moe_pass_times(p, own, layer->fuse_own);
    for (int k = 0; k < n_keys; k++)
    {
        int to_parent = 2 * k + 1;
        if (layer->fuse[k] == NULL || p->states->edges[depth * model->n_edges + to_parent].source == NULL)
            continue;
        moe_var *parents = moe_pass_source(p, depth, to_parent, &index[n]);
        terms[n++] = moe_pass_times(p, parents, layer->fuse[k]);
    }
    moe_var *x = moe_sum_rows(p->tape, terms, index, n, p->states->levels[depth * model->n_tables + table].n);
    return moe_relu(p->tape, moe_add_row(p->tape, x, moe_variable(p->tape, layer->fuse_bias)));
}
