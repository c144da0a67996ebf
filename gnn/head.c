/*
 * head.c: a sparse mixture of experts on the seeds' vectors (Shazeer et al. 2017).
 *
 *     logits = b + shared(h) + sum over the k chosen experts e of gate_e * expert_e(h)
 *
 * Experts are two-layer networks, whose weights stand one below the other. An
 * expert is computed only for the rows routed to it: rows are sorted by expert,
 * multiplied by groups, and brought back with the gates as weights. The router
 * decides before any message passing, from the seed's own encoded row and the
 * time features of its lists of children, so that a choice costs next to nothing.
 */
#include "gnn/layers.h"

#include <stdio.h>

static void
add_experts(moe_model *model, moe_params *params, const char *of, int n, moe_param **expert)
{
    int64_t channels = model->config.channels;
    char name[96];
    snprintf(name, sizeof name, "head/%s/hidden_weight", of);
    expert[0] = moe_params_add_groups(params, name, n, channels, channels, MOE_INIT_UNIFORM);
    snprintf(name, sizeof name, "head/%s/hidden_bias", of);
    expert[1] = moe_params_add(params, name, n, channels, MOE_INIT_ZERO);
    snprintf(name, sizeof name, "head/%s/weight", of);
    expert[2] = moe_params_add_groups(params, name, n, channels, model->outputs, MOE_INIT_UNIFORM);
    snprintf(name, sizeof name, "head/%s/bias", of);
    expert[3] = moe_params_add(params, name, n, model->outputs, MOE_INIT_ZERO);
}

moe_code
moe_head_create(moe_model *model, moe_params *params)
{
    int experts = model->config.experts;
    int64_t facts = model->config.channels + model->tables[model->entity].width;
    add_experts(model, params, "experts", experts, model->experts);
    add_experts(model, params, "shared", 1, model->shared);
    model->router_weight = moe_params_add(params, "head/router/weight", facts, experts, MOE_INIT_UNIFORM);
    model->router_bias = moe_params_add(params, "head/router/bias", 1, experts, MOE_INIT_ZERO);
    model->head_bias = moe_params_add(params, "head/bias", 1, model->outputs, MOE_INIT_ZERO);
    return moe_job_code(model->job);
}

static moe_var *
run_shared_expert(const moe_model *model, moe_tape *tape, moe_var *x)
{
    moe_param *const *expert = model->shared;
    x = moe_linear(tape, x, moe_variable(tape, expert[0]), moe_variable(tape, expert[1]));
    x = moe_relu_dropout(tape, x, model->config.dropout);
    return moe_linear(tape, x, moe_variable(tape, expert[2]), moe_variable(tape, expert[3]));
}

/* The sum over the chosen experts e of gate_e * expert_e: [n, outputs]. */
static moe_var *
run_experts(const moe_model *model, moe_tape *tape, moe_var *x, moe_var *gates)
{
    moe_param *const *expert = model->experts;
    const moe_route *route = moe_top_k_route(tape, gates, model->config.top_k);
    x = moe_route_linear(tape, route, x, moe_variable(tape, expert[0]), moe_variable(tape, expert[1]));
    x = moe_relu_dropout(tape, x, model->config.dropout);
    x = moe_grouped_linear(tape, route, x, moe_variable(tape, expert[2]), moe_variable(tape, expert[3]));
    return moe_combine(tape, route, x, moe_pick(tape, route, gates));
}

moe_code
moe_head_forward(const moe_model *model, moe_tape *tape, moe_var *seeds, moe_var *router_input, moe_outputs *out)
{
    const moe_model_config *config = &model->config;
    moe_var *logits = moe_linear(tape, router_input, moe_variable(tape, model->router_weight),
                                 moe_variable(tape, model->router_bias));
    moe_var *gates = moe_top_k_gate(tape, logits, config->top_k, config->gate_noise);
    moe_var *experts[] = {run_shared_expert(model, tape, seeds), run_experts(model, tape, seeds, gates)};
    out->logits = moe_add_row(tape, moe_sum(tape, experts, 2), moe_variable(tape, model->head_bias));
    moe_var *penalties[] = {moe_scale(tape, moe_balance_loss(tape, logits, gates), config->balance_weight),
                            moe_scale(tape, moe_z_loss(tape, logits), config->z_weight)};
    out->penalty = moe_sum(tape, penalties, 2);
    out->gates = gates;
    return moe_job_code(model->job);
}
