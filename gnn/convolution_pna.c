/*
 * convolution_pna.c: several aggregators, scaled by degree (principal neighbourhood aggregation, Corso et al. 2020).
 *
 *     messages_e(i) = W_e a + s W'_e a + W''_e a / s,    a = [mean, max, min of h_j],    s = log(1 + m) / delta_e
 *
 * m is the number of visible children, and delta_e the mean of log(1 + m) over
 * the lists that training seeds see. It is measured once, before training, and
 * kept among the parameters ("gnn/edge<e>/delta", which has no gradient): a
 * row added later must not move it. The minimum stands for the paper's
 * standard deviation: it tells of spread without a root, whose slope is infinite at lists of equal rows.
 */
#include "gnn/convolution.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define MEASURED 1024 /* training seeds */

static const char *const scalers[MOE_SCALERS] = {"identity", "amplify", "attenuate"};

static void
add_edge(moe_model *model, moe_params *params, int layer, int e)
{
    int64_t channels = model->config.channels;
    char name[96];
    for (int s = 0; s < MOE_SCALERS; s++)
    {
        snprintf(name, sizeof name, "gnn/%d/edge%d/%s", layer + 1, e, scalers[s]);
        model->weight[layer * model->n_edges + e].scaled[s] =
            moe_params_add(params, name, 3 * channels, channels, MOE_INIT_UNIFORM);
    }
    snprintf(name, sizeof name, "gnn/edge%d/delta", e);
    moe_param *delta = model->edges[e].delta = moe_params_add(params, name, 1, 1, MOE_INIT_ZERO);
    if (delta == NULL)
        return;
    moe_param_download(params, delta, &model->edges[e].mean_degree);
    if (!(model->edges[e].mean_degree >= 0 && model->edges[e].mean_degree <= 64))
        moe_fail(model->job, MOE_CORRUPT, "stored degree of edge type %d is damaged", e);
}

/* Mean, maximum and minimum side by side: [n, 3 C]. */
static moe_var *
aggregate(moe_tape *tape, moe_var *source, const moe_state_edges *edges, const int32_t *index)
{
    moe_var *negative = moe_scale(tape, source, -1);
    moe_var *parts[] = {
        moe_aggregate(tape, source, edges->offset, index, NULL, edges->n, MOE_MEAN),
        moe_aggregate_max(tape, source, edges->offset, index, NULL, edges->n),
        moe_scale(tape, moe_aggregate_max(tape, negative, edges->offset, index, NULL, edges->n), -1),
    };
    return moe_concat(tape, parts, 3);
}

/* A column that multiplies rows by s, or divides them by it. */
static moe_var *
scaler(moe_pass *p, int e, const moe_state_edges *edges, bool divide)
{
    float delta = p->model->edges[e].mean_degree > 0 ? p->model->edges[e].mean_degree : 1;
    float *column = moe_tape_alloc(p->tape, edges->n, sizeof *column);
    if (column == NULL)
        return NULL;
    for (int64_t i = 0; i < edges->n; i++)
    {
        float s = edges->degree[i] / delta;
        column[i] = !divide ? s : s > 0 ? 1 / s : 0;
    }
    return moe_constant(p->tape, edges->n, 1, column);
}

static void
add_children(moe_pass *p, int e, moe_var *source, const moe_state_edges *edges, const int32_t *index)
{
    moe_param *const *weights = p->model->weight[p->layer * p->model->n_edges + e].scaled;
    moe_var *all = aggregate(p->tape, source, edges, index);
    for (int s = 0; s < MOE_SCALERS; s++)
    {
        moe_var *x = moe_linear(p->tape, all, moe_variable(p->tape, weights[s]), NULL);
        moe_pass_add(p, s == 0 ? x : moe_multiply_column(p->tape, x, scaler(p, e, edges, s == 2)), NULL);
    }
}

const moe_convolution moe_convolution_pna = {
    .add_edge = add_edge,
    .children = add_children,
};

/* Store the mean of log(1 + visible children) over all lists of a sample. */
static void
measure_edge(moe_model *model, moe_params *params, const moe_sample *sample, int e)
{
    moe_edge_plan *edge = &model->edges[e];
    double sum = 0;
    int64_t lists = 0;
    for (int d = 0; d < sample->hops; d++)
    {
        const moe_hop_edges *edges = &sample->edges[(int64_t) d * model->n_edges + e];
        int64_t n = edges->offset == NULL ? 0 : sample->levels[(int64_t) d * model->n_tables + edge->destination].n;
        for (int64_t i = 0; i < n; i++)
            sum += log1p(edges->visible[i]);
        lists += n;
    }
    if (lists == 0 || edge->delta == NULL || edge->mean_degree > 0)
        return;
    edge->mean_degree = (float) (sum / (double) lists);
    moe_param_upload(params, edge->delta, &edge->mean_degree);
}

moe_code
moe_model_measure(moe_model *model, moe_params *params, const moe_seeds *seeds, uint64_t key)
{
    if (model->config.convolution != MOE_CONV_PNA)
        return MOE_OK;
    moe_sampler_config sampler = moe_model_sampler(model, key);
    int64_t n = seeds->n < MEASURED ? seeds->n : MEASURED;
    moe_seeds some = {.table = seeds->table, .n = n};
    moe_sample *sample;
    moe_arena_reset(model->arena);
    int32_t *row = moe_arena_alloc(model->arena, n, sizeof *row);
    int64_t *time = moe_arena_alloc(model->arena, n, sizeof *time);
    if (row == NULL || time == NULL)
        return moe_job_code(model->job);
    for (int64_t i = 0; i < n; i++)
    {
        row[i] = seeds->row[i * seeds->n / n];
        time[i] = seeds->time[i * seeds->n / n];
    }
    some.row = row;
    some.time = time;
    moe_code code = moe_sample_trees(model->arena, model->graph, &some, &sampler, &sample);
    for (int e = 0; e < model->n_edges && code == MOE_OK; e++)
        if (model->edges[e].to_children)
            measure_edge(model, params, sample, e);
    return code == MOE_OK ? moe_job_check(model->job) : code;
}
