/*
 * plan.c: which tables and edge types a layer serves, and their parameters.
 *
 * Layers are trimmed: layer l (from 1) computes only rows at depth <= hops - l
 * (of composite messages, hops - 2 l), since nothing reads the others. What can be reached at which depth follows from
 * the foreign keys alone, so parameters are made for just that, by number:
 * "gnn/<layer>/table<t>/..." and "gnn/<layer>/edge<e>/...", e as in graph.h.
 */
#include "gnn/convolution.h"

#include <stdio.h>

/* Which of the weighted sums of children the convolution makes. */
static void
plan_parts(const moe_model_config *config, moe_edge_plan *edge)
{
    if (config->convolution != MOE_CONV_SAGE || config->aggregation == MOE_AGGREGATE_MAX)
        return;
    bool one = config->aggregation == MOE_AGGREGATE_SUM || config->aggregation == MOE_AGGREGATE_MEAN;
    edge->first_part = config->aggregation == MOE_AGGREGATE_MEAN ? 1 : 0;
    edge->parts = one ? 1 : edge->timed ? MOE_MEANS : 2;
}

static void
plan_edges(moe_model *model)
{
    for (int e = 0; e < model->n_edges; e++)
    {
        const moe_graph_key *key = moe_graph_key_at(model->graph, e / 2);
        moe_edge_plan *edge = &model->edges[e];
        edge->to_children = e % 2 == 0;
        edge->source = edge->to_children ? key->child : key->parent;
        edge->destination = edge->to_children ? key->parent : key->child;
        edge->timed = moe_graph_table_at(model->graph, edge->source)->time != NULL;
        /* A parent is dated from its child if that has a time: the same for every seed. */
        edge->relative =
            edge->timed && (edge->to_children || moe_graph_table_at(model->graph, edge->destination)->time == NULL);
        plan_parts(&model->config, edge);
    }
}

static int
edge_width(const moe_edge_plan *edge)
{
    if (edge->to_children)
        return edge->timed ? MOE_CHILD_TIME : MOE_CHILD_PLAIN;
    return edge->timed ? MOE_PARENT_TIME : MOE_PARENT_PLAIN;
}

static void
plan_tables(moe_model *model)
{
    for (int t = 0; t < model->n_tables; t++)
    {
        moe_table_plan *table = &model->tables[t];
        table->timed = moe_graph_table_at(model->graph, t)->time != NULL;
        table->width = MOE_SELF_TIME;
        for (int e = 0; e < model->n_edges; e++)
            if (model->edges[e].destination == t)
            {
                model->edges[e].column = table->width;
                table->width += edge_width(&model->edges[e]);
            }
    }
    model->tables[model->entity].reached[0] = true;
    for (int d = 0; d < model->config.hops; d++)
        for (int e = 0; e < model->n_edges; e++)
            if (model->tables[model->edges[e].destination].reached[d])
                model->tables[model->edges[e].source].reached[d + 1] = true;
}

/* Whether a layer computes rows of a table. */
static bool
layer_needs(const moe_model *model, int layer, int table)
{
    for (int d = 0; d <= moe_deepest(model, layer); d++)
        if (model->tables[table].reached[d])
            return true;
    return false;
}

static void
add_table(moe_model *model, moe_params *params, int layer, int t)
{
    moe_table_layer *out = &model->layer[layer * model->n_tables + t];
    int64_t channels = model->config.channels;
    char name[96];
    snprintf(name, sizeof name, "gnn/%d/table%d/self", layer + 1, t);
    if (moe_convolution_of(model)->own == NULL)
        out->self = moe_params_add(params, name, channels, channels, MOE_INIT_UNIFORM);
    snprintf(name, sizeof name, "gnn/%d/table%d/time", layer + 1, t);
    out->time = moe_params_add(params, name, model->tables[t].width, channels, MOE_INIT_UNIFORM);
    snprintf(name, sizeof name, "gnn/%d/table%d/bias", layer + 1, t);
    out->bias = moe_params_add(params, name, 1, channels, MOE_INIT_ZERO);
    snprintf(name, sizeof name, "gnn/%d/table%d/norm_gain", layer + 1, t);
    out->norm_gain = moe_params_add(params, name, 1, channels, MOE_INIT_ONE);
    snprintf(name, sizeof name, "gnn/%d/table%d/norm_bias", layer + 1, t);
    out->norm_bias = moe_params_add(params, name, 1, channels, MOE_INIT_ZERO);
    if (moe_convolution_of(model)->add_table != NULL)
        moe_convolution_of(model)->add_table(model, params, layer, t);
}

static void
add_edge(moe_model *model, moe_params *params, int layer, int e)
{
    int64_t channels = model->config.channels;
    char name[96];
    if (model->edges[e].to_children)
    {
        moe_convolution_of(model)->add_edge(model, params, layer, e);
        if (moe_composite_applies(model, e))
            moe_composite_add(model, params, layer, e);
        return;
    }
    snprintf(name, sizeof name, "gnn/%d/edge%d/weight", layer + 1, e);
    model->weight[layer * model->n_edges + e].weight =
        moe_params_add(params, name, channels, channels, MOE_INIT_UNIFORM);
}

moe_code
moe_plan(moe_model *model, moe_params *params)
{
    moe_job *job = model->job;
    model->stride = model->config.composite ? 2 : 1;
    model->layers = model->config.hops / model->stride;
    model->n_tables = moe_graph_tables(model->graph);
    model->n_edges = 2 * moe_graph_keys(model->graph);
    model->tables = moe_alloc(job, model->n_tables, sizeof *model->tables);
    model->edges = moe_alloc(job, model->n_edges, sizeof *model->edges);
    model->layer = moe_alloc(job, (int64_t) model->layers * model->n_tables, sizeof *model->layer);
    model->weight = moe_alloc(job, (int64_t) model->layers * model->n_edges, sizeof *model->weight);
    if (model->config.composite)
        model->fuse =
            moe_alloc(job, (int64_t) model->layers * model->n_edges, model->n_edges / 2 * sizeof *model->fuse);
    if (moe_job_code(job) != MOE_OK || model->tables == NULL || model->edges == NULL || model->layer == NULL ||
        model->weight == NULL)
        return moe_job_code(job);
    plan_edges(model);
    plan_tables(model);
    for (int l = 0; l < model->layers; l++)
    {
        for (int t = 0; t < model->n_tables; t++)
            if (layer_needs(model, l, t))
                add_table(model, params, l, t);
        for (int e = 0; e < model->n_edges; e++)
            if (layer_needs(model, l, model->edges[e].destination))
                add_edge(model, params, l, e);
    }
    return moe_job_code(job);
}
