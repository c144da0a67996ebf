/*
 * sage.c: hetero temporal message passing (GraphSAGE, Hamilton et al. 2017; RelBench's reference).
 *
 *     h_i <- ReLU(LayerNorm(R h_i + V time_i + b + sum over edge types e of W_e [weighted sums of h_j]))
 *
 * with the several weighted sums of states.c side by side where the
 * neighbours are children, and the one parent itself where they are not.
 * Products are done on the smaller side: a list of children is summed first
 * and multiplied after, once a destination; a parent is multiplied first,
 * once a distinct parent row, and gathered after. Layer 1 reads the encoded
 * rows, which are shared by all depths, so its products are too.
 */
#include "gnn/layers.h"

typedef struct pass
{
    const moe_model *model;
    moe_tape *tape;
    const moe_states *states;
    moe_var **encoded; /* [n_tables] */
    moe_var **below;   /* [(hops + 1) * n_tables] the layer before, by depth; layer 1: unused */
    moe_var **own;     /* [n_tables] layer 1: encoded rows times the self weight */
    moe_var **parent;  /* [n_edges] layer 1: encoded rows times the weight of a parent edge */
    int layer;         /* from 0 */
    int depth;
} pass;

static moe_var *
weigh(pass *p, moe_var *x, moe_param *weight)
{
    return moe_linear(p->tape, x, moe_variable(p->tape, weight), NULL);
}

/* Messages from lists of children: [n, C]. */
static moe_var *
from_children(pass *p, int e, const moe_state_edges *edges, int64_t n)
{
    const moe_edge_plan *edge = &p->model->edges[e];
    moe_var *source =
        p->layer == 0 ? p->encoded[edge->source] : p->below[(p->depth + 1) * p->model->n_tables + edge->source];
    const int32_t *index = p->layer == 0 ? edges->unique : edges->source;
    moe_var *sums =
        moe_aggregate_parts(p->tape, source, edges->offset, index, edges->weight, edge->timed ? MOE_MEANS : 2, n);
    return weigh(p, sums, p->model->weight[p->layer * p->model->n_edges + e]);
}

/* What the one parent's row gives, once a distinct row, and which row each of the n takes: *index. */
static moe_var *
from_parent(pass *p, int e, const moe_state_edges *edges, const int32_t **index)
{
    int source = p->model->edges[e].source;
    moe_param *weight = p->model->weight[p->layer * p->model->n_edges + e];
    *index = p->layer > 0 ? edges->source : edges->unique;
    if (p->layer > 0)
        return weigh(p, p->below[(p->depth + 1) * p->model->n_tables + source], weight);
    if (p->parent[e] == NULL)
        p->parent[e] = weigh(p, p->encoded[source], weight);
    return p->parent[e];
}

/* The row's own share, in the same form; NULL where no row of the table may be seen. */
static moe_var *
from_self(pass *p, int t, const moe_state_level *level, const int32_t **index)
{
    moe_param *weight = p->model->layer[p->layer * p->model->n_tables + t].self;
    *index = p->layer > 0 ? NULL : level->unique;
    if (p->layer > 0)
        return weigh(p, p->below[p->depth * p->model->n_tables + t], weight);
    if (p->own[t] == NULL && p->encoded[t] != NULL)
        p->own[t] = weigh(p, p->encoded[t], weight);
    return p->own[t];
}

/* One layer for one table at one depth: [n, C]. */
static moe_var *
update(pass *p, int t)
{
    const moe_model *model = p->model;
    moe_tape *tape = p->tape;
    const moe_state_level *level = &p->states->levels[p->depth * model->n_tables + t];
    const moe_table_layer *layer = &model->layer[p->layer * model->n_tables + t];
    moe_var **terms = moe_tape_alloc(tape, model->n_edges + 2, sizeof *terms);
    const int32_t **index = moe_tape_alloc(tape, model->n_edges + 2, sizeof *index);
    if (terms == NULL || index == NULL)
        return NULL;
    int n_terms = 0;
    index[n_terms] = NULL;
    terms[n_terms++] = moe_linear(tape, moe_constant(tape, level->n, model->tables[t].width, level->time),
                                  moe_variable(tape, layer->time), moe_variable(tape, layer->bias));
    moe_var *self = from_self(p, t, level, &index[n_terms]);
    if (self != NULL)
        terms[n_terms++] = self;
    for (int e = 0; e < model->n_edges; e++)
    {
        const moe_state_edges *edges = &p->states->edges[p->depth * model->n_edges + e];
        if (model->edges[e].destination != t || edges->source == NULL)
            continue;
        index[n_terms] = NULL;
        if (model->edges[e].to_children)
            terms[n_terms] = from_children(p, e, edges, level->n);
        else
            terms[n_terms] = from_parent(p, e, edges, &index[n_terms]);
        n_terms++;
    }
    return moe_layer_norm_relu(tape, moe_sum_rows(tape, terms, index, n_terms, level->n),
                               moe_variable(tape, layer->norm_gain), moe_variable(tape, layer->norm_bias),
                               model->config.dropout);
}

moe_var *
moe_sage_forward(const moe_model *model, moe_tape *tape, const moe_states *states, moe_var **encoded)
{
    int hops = model->config.hops;
    int64_t n_levels = (int64_t) (hops + 1) * model->n_tables;
    pass p = {.model = model, .tape = tape, .states = states, .encoded = encoded};
    moe_var **next = moe_tape_alloc(tape, n_levels, sizeof *next);
    p.below = moe_tape_alloc(tape, n_levels, sizeof *p.below);
    p.own = moe_tape_alloc(tape, model->n_tables, sizeof *p.own);
    p.parent = moe_tape_alloc(tape, model->n_edges, sizeof *p.parent);
    if (next == NULL || p.below == NULL || p.own == NULL || p.parent == NULL)
        return NULL;
    for (int64_t i = 0; i < n_levels; i++)
        p.below[i] = next[i] = NULL;
    for (int t = 0; t < model->n_tables; t++)
        p.own[t] = NULL;
    for (int e = 0; e < model->n_edges; e++)
        p.parent[e] = NULL;

    for (p.layer = 0; p.layer < hops; p.layer++)
    {
        for (p.depth = 0; p.depth < hops - p.layer; p.depth++)
            for (int t = 0; t < model->n_tables; t++)
                if (states->levels[p.depth * model->n_tables + t].n > 0)
                    if ((next[p.depth * model->n_tables + t] = update(&p, t)) == NULL)
                        return NULL;
        moe_var **swap = p.below;
        p.below = next;
        next = swap;
    }
    return p.below[model->entity];
}
