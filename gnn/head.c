/*
 * head.c: a sparse mixture of experts on the seeds' vectors (Shazeer et al. 2017).
 *
 *     logits = b + shared(h) + sum over the k chosen experts e of gate_e * expert_e(h)
 *
 * Experts are two-layer networks. An expert is computed only for the rows
 * routed to it: gather, network, times gate, scatter. The router decides
 * before any message passing, from the seed's own encoded row and the time
 * features of its lists of children, so that a choice costs next to nothing.
 */
#include "gnn/layers.h"

#include <stdio.h>

static void
add_expert(moe_model *model, moe_params *params, int e)
{
    int64_t channels = model->config.channels;
    moe_param **expert = &model->expert[4 * e];
    char name[96];
    char of[32] = "shared";
    if (e < model->config.experts)
        snprintf(of, sizeof of, "expert%d", e);
    snprintf(name, sizeof name, "head/%s/hidden_weight", of);
    expert[0] = moe_params_add(params, name, channels, channels, MOE_INIT_UNIFORM);
    snprintf(name, sizeof name, "head/%s/hidden_bias", of);
    expert[1] = moe_params_add(params, name, 1, channels, MOE_INIT_ZERO);
    snprintf(name, sizeof name, "head/%s/weight", of);
    expert[2] = moe_params_add(params, name, channels, model->outputs, MOE_INIT_UNIFORM);
    snprintf(name, sizeof name, "head/%s/bias", of);
    expert[3] = moe_params_add(params, name, 1, model->outputs, MOE_INIT_ZERO);
}

moe_code
moe_head_create(moe_model *model, moe_params *params)
{
    int experts = model->config.experts;
    int64_t facts = model->config.channels + model->tables[model->entity].width;
    model->expert = moe_alloc(model->job, 4 * (int64_t) (experts + 1), sizeof *model->expert);
    if (model->expert == NULL)
        return moe_job_code(model->job);
    for (int e = 0; e <= experts; e++)
        add_expert(model, params, e);
    model->router_weight = moe_params_add(params, "head/router/weight", facts, experts, MOE_INIT_UNIFORM);
    model->router_bias = moe_params_add(params, "head/router/bias", 1, experts, MOE_INIT_ZERO);
    model->head_bias = moe_params_add(params, "head/bias", 1, model->outputs, MOE_INIT_ZERO);
    return moe_job_code(model->job);
}

static moe_var *
run_expert(const moe_model *model, moe_tape *tape, int e, moe_var *x)
{
    moe_param **expert = &model->expert[4 * e];
    x = moe_linear(tape, x, moe_variable(tape, expert[0]), moe_variable(tape, expert[1]));
    x = moe_relu_dropout(tape, x, model->config.dropout);
    return moe_linear(tape, x, moe_variable(tape, expert[2]), moe_variable(tape, expert[3]));
}

/* gate_e * expert_e over the rows that chose expert e, zero elsewhere: [n, outputs]; *failed if it could not be. */
static moe_var *
routed_expert(const moe_model *model, moe_tape *tape, int e, moe_var *x, moe_var *gates, bool *failed)
{
    int experts = model->config.experts;
    int32_t *index = moe_tape_alloc(tape, x->rows, sizeof *index);
    float *one_hot = moe_tape_alloc(tape, experts, sizeof *one_hot);
    *failed = index == NULL || one_hot == NULL;
    if (*failed)
        return NULL;
    int64_t n = 0;
    for (int64_t i = 0; i < x->rows; i++)
        if (gates->value[i * experts + e] > 0)
            index[n++] = (int32_t) i;
    if (n == 0)
        return NULL;
    for (int i = 0; i < experts; i++)
        one_hot[i] = i == e;
    moe_var *chosen = moe_gather(tape, gates, index, n);
    moe_var *gate = moe_linear(tape, chosen, moe_constant(tape, experts, 1, one_hot), NULL);
    moe_var *y = run_expert(model, tape, e, moe_gather(tape, x, index, n));
    y = moe_scatter(tape, moe_multiply_column(tape, y, gate), index, x->rows);
    *failed = y == NULL;
    return y;
}

moe_code
moe_head_forward(const moe_model *model, moe_tape *tape, moe_var *seeds, moe_var *router_input, moe_outputs *out)
{
    const moe_model_config *config = &model->config;
    moe_var *logits = moe_linear(tape, router_input, moe_variable(tape, model->router_weight),
                                 moe_variable(tape, model->router_bias));
    moe_var *gates = moe_top_k_gate(tape, logits, config->top_k, config->gate_noise);
    moe_var **terms = moe_tape_alloc(tape, config->experts + 1, sizeof *terms);
    if (gates == NULL || seeds == NULL || terms == NULL)
        return moe_job_code(model->job);
    int n_terms = 0;
    terms[n_terms++] = run_expert(model, tape, config->experts, seeds);
    for (int e = 0; e < config->experts; e++)
    {
        bool failed;
        moe_var *term = routed_expert(model, tape, e, seeds, gates, &failed);
        if (failed)
            return moe_job_code(model->job);
        if (term != NULL)
            terms[n_terms++] = term;
    }
    out->logits = moe_add_row(tape, moe_sum(tape, terms, n_terms), moe_variable(tape, model->head_bias));
    moe_var *penalties[] = {moe_scale(tape, moe_balance_loss(tape, logits, gates), config->balance_weight),
                            moe_scale(tape, moe_z_loss(tape, logits), config->z_weight)};
    out->penalty = moe_sum(tape, penalties, 2);
    out->gates = gates;
    return moe_job_code(model->job);
}
