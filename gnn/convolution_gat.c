/*
 * convolution_gat.c: attention over children (Velickovic et al. 2018), with scores that depend on the pair.
 *
 *     head k of messages_e(i) = sum over children j of softmax_j(s_ij) V_k h_j
 *     s_ij = (Q_k h_i) . (K_k h_j) / sqrt(d) + a_k . age_ij
 *
 * side by side for MOE_HEADS heads of d = C / MOE_HEADS columns. Which child
 * ranks first depends on the parent, as Brody et al. (2022) ask for; a scaled
 * product does it without an array of C numbers an edge. age_ij are the time
 * features of the edge (states.c): decays of the child's age and of its place
 * from the newest, so that attention starts near what it cannot order and can
 * become a mean over a window. Counts are in the destination's time features.
 */
#include "gnn/convolution.h"

#include <math.h>
#include <stdio.h>

static moe_param *
add_head(moe_model *model, moe_params *params, int layer, int e, const char *what, int head, int64_t rows, int64_t cols)
{
    char name[96];
    snprintf(name, sizeof name, "gnn/%d/edge%d/%s%d", layer + 1, e, what, head + 1);
    return moe_params_add(params, name, rows, cols, MOE_INIT_UNIFORM);
}

static void
add_edge(moe_model *model, moe_params *params, int layer, int e)
{
    moe_edge_layer *out = &model->weight[layer * model->n_edges + e];
    int64_t channels = model->config.channels;
    int64_t width = channels / MOE_HEADS;
    for (int k = 0; k < MOE_HEADS; k++)
    {
        out->query[k] = add_head(model, params, layer, e, "query", k, channels, width);
        out->key[k] = add_head(model, params, layer, e, "key", k, channels, width);
        out->value[k] = add_head(model, params, layer, e, "value", k, channels, width);
        if (model->edges[e].timed)
            out->age[k] = add_head(model, params, layer, e, "age", k, MOE_EDGE_TIME, 1);
    }
}

/* Scores of all edges [messages, 1]; NULL where nothing tells the children apart (or on failure). */
static moe_var *
score(moe_pass *p, int e, int head, moe_var *source, const moe_state_edges *edges, const int32_t *index, moe_var *ages)
{
    const moe_edge_layer *layer = &p->model->weight[p->layer * p->model->n_edges + e];
    moe_tape *tape = p->tape;
    const int32_t *row;
    moe_var *terms[2];
    int n = 0;
    moe_var *query =
        moe_pass_times(p, moe_pass_own(p, p->depth, p->model->edges[e].destination, &row), layer->query[head]);
    if (query != NULL)
    {
        moe_var *key = moe_pass_times(p, source, layer->key[head]);
        query = moe_scale(tape, row == NULL ? query : moe_gather(tape, query, row, edges->n),
                          1 / sqrtf((float) (p->model->config.channels / MOE_HEADS)));
        terms[n++] = moe_edge_dot(tape, query, key, edges->offset, index);
    }
    if (ages != NULL)
        terms[n++] = moe_linear(tape, ages, moe_variable(tape, layer->age[head]), NULL);
    return n == 0 ? NULL : moe_sum(tape, terms, n);
}

static void
add_children(moe_pass *p, int e, moe_var *source, const moe_state_edges *edges, const int32_t *index)
{
    const moe_edge_layer *layer = &p->model->weight[p->layer * p->model->n_edges + e];
    int64_t messages = edges->offset[edges->n];
    moe_var *ages = edges->time == NULL ? NULL : moe_constant(p->tape, messages, MOE_EDGE_TIME, edges->time);
    moe_var *heads[MOE_HEADS];
    for (int k = 0; k < MOE_HEADS; k++)
    {
        moe_var *value = moe_pass_times(p, source, layer->value[k]);
        moe_var *scores = score(p, e, k, source, edges, index, ages);
        heads[k] =
            scores == NULL
                ? moe_aggregate(p->tape, value, edges->offset, index, NULL, edges->n, MOE_MEAN)
                : moe_aggregate_weighted(p->tape, value, moe_segment_softmax(p->tape, scores, edges->offset, edges->n),
                                         edges->offset, index, edges->n);
    }
    moe_pass_add(p, moe_concat(p->tape, heads, MOE_HEADS), NULL);
}

const moe_convolution moe_convolution_gat = {
    .add_edge = add_edge,
    .children = add_children,
};
