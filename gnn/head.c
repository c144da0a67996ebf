/*
 * head.c: from a seed's vector h, and what the caller supplies of it, x, to logits: a two-layer network.
 *
 *     logits = W2 dropout(ReLU(W1 [h, u] + b1)) + b2,    u = ReLU(W0 dropout(x) + b0)
 *
 * x is brought to the width of h first, so that many inputs do not drown what the graph says at the start. It is
 * prepared (each number about N(0, 1)), so that u needs no normalisation, which would forget how much there is.
 */
#include "gnn/layers.h"

moe_code
moe_head_create(moe_model *model, moe_params *params)
{
    int64_t channels = model->config.channels;
    int64_t inputs = model->config.seed_inputs;
    int64_t width = channels;
    if (inputs > 0)
    {
        model->input_weight = moe_params_add(params, "head/input_weight", inputs, channels, MOE_INIT_UNIFORM);
        model->input_bias = moe_params_add(params, "head/input_bias", 1, channels, MOE_INIT_ZERO);
        width += channels;
    }
    model->hidden_weight = moe_params_add(params, "head/hidden_weight", width, channels, MOE_INIT_UNIFORM);
    model->hidden_bias = moe_params_add(params, "head/hidden_bias", 1, channels, MOE_INIT_ZERO);
    model->head_weight = moe_params_add(params, "head/weight", channels, model->outputs, MOE_INIT_UNIFORM);
    model->head_bias = moe_params_add(params, "head/bias", 1, model->outputs, MOE_INIT_ZERO);
    return moe_job_code(model->job);
}

static moe_var *
join_inputs(const moe_model *model, moe_tape *tape, moe_var *seeds, const float *inputs)
{
    if (seeds == NULL || model->input_weight == NULL)
        return seeds;
    moe_var *x = moe_constant(tape, seeds->rows, model->config.seed_inputs, inputs);
    x = moe_dropout(tape, x, model->config.input_dropout);
    x = moe_linear(tape, x, moe_variable(tape, model->input_weight), moe_variable(tape, model->input_bias));
    moe_var *both[] = {seeds, moe_relu(tape, x)};
    return moe_concat(tape, both, 2);
}

moe_var *
moe_head_forward(const moe_model *model, moe_tape *tape, moe_var *seeds, const float *inputs)
{
    moe_var *x = join_inputs(model, tape, seeds, inputs);
    x = moe_linear(tape, x, moe_variable(tape, model->hidden_weight), moe_variable(tape, model->hidden_bias));
    x = moe_relu_dropout(tape, x, model->config.dropout);
    return moe_linear(tape, x, moe_variable(tape, model->head_weight), moe_variable(tape, model->head_bias));
}
