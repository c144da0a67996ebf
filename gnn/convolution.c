/*
 * convolution.c: hetero temporal message passing over states (RelBench's reference network, and others).
 *
 *     h_i <- ReLU(LayerNorm(R h_i + V time_i + b + sum over edge types e of messages_e(i)))     [+ h_i]
 *
 * where the message of a parent is W_e h_parent, and those of a list of
 * children are what the kind of convolution makes of them (convolution_*.c).
 * Products are done on the smaller side: a parent is multiplied first, once a
 * distinct parent row, and gathered after. Layer 1 reads the encoded rows,
 * which are shared by all depths, so its products are too.
 */
#include "gnn/convolution.h"

const moe_convolution *
moe_convolution_of(const moe_model *model)
{
    switch (model->config.convolution)
    {
        case MOE_CONV_GIN:
            return &moe_convolution_gin;
        case MOE_CONV_PNA:
            return &moe_convolution_pna;
        case MOE_CONV_GAT:
            return &moe_convolution_gat;
        default:
            return &moe_convolution_sage;
    }
}

moe_var *
moe_pass_times(moe_pass *p, moe_var *x, moe_param *weight)
{
    bool encoded = false;
    if (x == NULL)
        return NULL;
    for (int t = 0; t < p->model->n_tables; t++)
        encoded = encoded || p->encoded[t] == x;
    for (int i = 0; encoded && i < p->n_products; i++)
        if (p->products[i].x == x && p->products[i].weight == weight)
            return p->products[i].result;
    moe_var *result = moe_linear(p->tape, x, moe_variable(p->tape, weight), NULL);
    if (encoded)
        p->products[p->n_products++] = (moe_product){.x = x, .weight = weight, .result = result};
    return result;
}

moe_var *
moe_pass_source(const moe_pass *p, int depth, int e, const int32_t **index)
{
    const moe_state_edges *edges = &p->states->edges[depth * p->model->n_edges + e];
    int source = p->model->edges[e].source;
    *index = p->layer > 0 ? edges->source : edges->unique;
    return p->layer > 0 ? p->below[(depth + 1) * p->model->n_tables + source] : p->encoded[source];
}

moe_var *
moe_pass_own(const moe_pass *p, int depth, int t, const int32_t **index)
{
    int64_t level = depth * p->model->n_tables + t;
    *index = p->layer > 0 ? NULL : p->states->levels[level].unique;
    return p->layer > 0 ? p->below[level] : p->encoded[t];
}

void
moe_pass_add(moe_pass *p, moe_var *term, const int32_t *index)
{
    p->terms[p->n_terms] = term;
    p->index[p->n_terms++] = index;
}

/* The row's own share: R h_i, or what the convolution has instead. */
static void
add_own(moe_pass *p, int t)
{
    const moe_convolution *convolution = moe_convolution_of(p->model);
    const int32_t *index;
    moe_var *x = moe_pass_own(p, p->depth, t, &index);
    if (x == NULL)
        return;
    moe_param *weight = p->model->layer[p->layer * p->model->n_tables + t].self;
    moe_pass_add(p, convolution->own != NULL ? convolution->own(p, t, x) : moe_pass_times(p, x, weight), index);
}

static void
add_messages(moe_pass *p, int t)
{
    const moe_model *model = p->model;
    const moe_convolution *convolution = moe_convolution_of(model);
    for (int e = 0; e < model->n_edges; e++)
    {
        const moe_state_edges *edges = &p->states->edges[p->depth * model->n_edges + e];
        const int32_t *index;
        if (model->edges[e].destination != t || edges->source == NULL)
            continue;
        moe_var *source = moe_pass_source(p, p->depth, e, &index);
        if (model->edges[e].to_children && moe_composite_applies(model, e))
            convolution->children(p, e, moe_composite_source(p, e), edges, edges->source);
        else if (model->edges[e].to_children)
            convolution->children(p, e, source, edges, index);
        else
            moe_pass_add(p, moe_pass_times(p, source, model->weight[p->layer * model->n_edges + e].weight), index);
    }
}

/* x plus the row's own vector as it was. */
static moe_var *
add_residual(moe_pass *p, int t, moe_var *x, int64_t n)
{
    moe_var *terms[2] = {x, NULL};
    const int32_t *index[2] = {NULL, NULL};
    terms[1] = moe_pass_own(p, p->depth, t, &index[1]);
    return terms[1] == NULL ? x : moe_sum_rows(p->tape, terms, index, 2, n);
}

/* One layer for one table at one depth: [n, C]. */
static moe_var *
update(moe_pass *p, int t)
{
    const moe_model *model = p->model;
    moe_tape *tape = p->tape;
    const moe_state_level *level = &p->states->levels[p->depth * model->n_tables + t];
    const moe_table_layer *layer = &model->layer[p->layer * model->n_tables + t];
    const moe_convolution *convolution = moe_convolution_of(model);
    int64_t most = (int64_t) model->n_edges * MOE_EDGE_TERMS + 2;
    p->terms = moe_tape_alloc(tape, most, sizeof(moe_var *));
    p->index = moe_tape_alloc(tape, most, sizeof(int32_t *));
    if (p->terms == NULL || p->index == NULL)
        return NULL;
    p->n_terms = 0;
    moe_pass_add(p,
                 moe_linear(tape, moe_constant(tape, level->n, model->tables[t].width, level->time),
                            moe_variable(tape, layer->time), moe_variable(tape, layer->bias)),
                 NULL);
    add_own(p, t);
    add_messages(p, t);
    moe_var *x = moe_sum_rows(tape, p->terms, p->index, p->n_terms, level->n);
    if (convolution->combine != NULL)
        x = convolution->combine(p, t, x);
    x = moe_layer_norm_relu(tape, x, moe_variable(tape, layer->norm_gain), moe_variable(tape, layer->norm_bias),
                            model->config.dropout);
    return model->config.residual ? add_residual(p, t, x, level->n) : x;
}

moe_var *
moe_convolve(const moe_model *model, moe_tape *tape, const moe_states *states, moe_var **encoded)
{
    int64_t n_levels = (int64_t) (model->config.hops + 1) * model->n_tables;
    int64_t edge_products = MOE_EDGE_PRODUCTS + 1 + model->n_edges / 2;
    moe_pass p = {.model = model, .tape = tape, .states = states, .encoded = encoded};
    p.products = moe_tape_alloc(tape, model->n_tables + model->n_edges * edge_products, sizeof *p.products);
    p.below = moe_tape_alloc(tape, n_levels, sizeof *p.below);
    moe_var **next = moe_tape_alloc(tape, n_levels, sizeof *next);
    if (next == NULL || p.below == NULL || p.products == NULL)
        return NULL;
    for (int64_t i = 0; i < n_levels; i++)
        p.below[i] = next[i] = NULL;

    for (p.layer = 0; p.layer < model->layers; p.layer++)
    {
        for (p.depth = 0; p.depth <= moe_deepest(model, p.layer); p.depth++)
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
