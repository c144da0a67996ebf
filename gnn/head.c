/*
 * head.c: from a seed's vector to its logits: a two-layer network.
 *
 *     logits = W2 dropout(ReLU(W1 h + b1)) + b2
 */
#include "gnn/layers.h"

moe_code
moe_head_create(moe_model *model, moe_params *params)
{
    int64_t channels = model->config.channels;
    model->hidden_weight = moe_params_add(params, "head/hidden_weight", channels, channels, MOE_INIT_UNIFORM);
    model->hidden_bias = moe_params_add(params, "head/hidden_bias", 1, channels, MOE_INIT_ZERO);
    model->head_weight = moe_params_add(params, "head/weight", channels, model->outputs, MOE_INIT_UNIFORM);
    model->head_bias = moe_params_add(params, "head/bias", 1, model->outputs, MOE_INIT_ZERO);
    return moe_job_code(model->job);
}

moe_var *
moe_head_forward(const moe_model *model, moe_tape *tape, moe_var *seeds)
{
    moe_var *x =
        moe_linear(tape, seeds, moe_variable(tape, model->hidden_weight), moe_variable(tape, model->hidden_bias));
    x = moe_relu_dropout(tape, x, model->config.dropout);
    return moe_linear(tape, x, moe_variable(tape, model->head_weight), moe_variable(tape, model->head_bias));
}
