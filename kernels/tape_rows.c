/*
 * tape_rows.c: operations on the tape that treat each row as a whole.
 */
#include "kernels/tape_private.h"

typedef struct layer_norm_op
{
    moe_op op;
    float *mean;
    float *deviation;
    float factor; /* of layer_norm_relu: on what dropout kept */
} layer_norm_op;

static void
layer_norm_backward(moe_tape *tape, moe_op *op)
{
    layer_norm_op *norm = (layer_norm_op *) op;
    moe_var *x = op->in[0];
    const float *gy = op->out->gradient;
    float *ggain = moe_zeroed_gradient(tape, op->in[1]);
    float *gbias = moe_zeroed_gradient(tape, op->in[2]);
    bool add;
    float *gx = moe_take_gradient(tape, op->out, x, &add);
    tape->backend->layer_norm_backward(tape->job, x->rows, x->cols, x->value, op->in[1]->value, norm->mean,
                                       norm->deviation, gy, add, gx, ggain, gbias);
}

/* Begin a normalisation, with room for each row's mean and deviation. */
static layer_norm_op *
begin_norm(moe_tape *tape, const char *name, moe_backward_fn backward, moe_var *x, moe_var *gain, moe_var *bias)
{
    if (!moe_given(tape, name, x != NULL && gain != NULL && bias != NULL))
        return NULL;
    if (gain->rows != 1 || gain->cols != x->cols || bias->rows != 1 || bias->cols != x->cols)
    {
        moe_bad_shape(tape, name, x, gain->rows != 1 || gain->cols != x->cols ? gain : bias);
        return NULL;
    }
    layer_norm_op *norm = moe_begin(tape, sizeof(layer_norm_op), backward, x->rows, x->cols, x, gain, bias);
    if (norm == NULL)
        return NULL;
    norm->mean = moe_tape_array(tape, x->rows, sizeof(float));
    norm->deviation = moe_tape_array(tape, x->rows, sizeof(float));
    return norm->mean == NULL || norm->deviation == NULL ? NULL : norm;
}

moe_var *
moe_layer_norm(moe_tape *tape, moe_var *x, moe_var *gain, moe_var *bias)
{
    layer_norm_op *norm = begin_norm(tape, "layer_norm", layer_norm_backward, x, gain, bias);
    if (norm == NULL)
        return NULL;
    tape->backend->layer_norm(tape->job, x->rows, x->cols, x->value, gain->value, bias->value, norm->op.out->value,
                              norm->mean, norm->deviation);
    return moe_finish(tape, norm);
}

static void
layer_norm_relu_backward(moe_tape *tape, moe_op *op)
{
    layer_norm_op *norm = (layer_norm_op *) op;
    moe_var *x = op->in[0];
    const float *gy = op->out->gradient;
    float *ggain = moe_zeroed_gradient(tape, op->in[1]);
    float *gbias = moe_zeroed_gradient(tape, op->in[2]);
    bool add;
    float *gx = moe_take_gradient(tape, op->out, x, &add);
    tape->backend->layer_norm_relu_backward(tape->job, x->rows, x->cols, x->value, op->in[1]->value, norm->mean,
                                            norm->deviation, op->out->value, norm->factor, gy, add, gx, ggain, gbias);
}

moe_var *
moe_layer_norm_relu(moe_tape *tape, moe_var *x, moe_var *gain, moe_var *bias, float rate)
{
    if (!moe_check_rate(tape, rate))
        return NULL;
    layer_norm_op *norm = begin_norm(tape, "layer_norm_relu", layer_norm_relu_backward, x, gain, bias);
    if (norm == NULL)
        return NULL;
    rate = tape->training ? rate : 0;
    norm->factor = moe_dropout_factor(rate);
    tape->backend->layer_norm_relu(tape->job, x->rows, x->cols, x->value, gain->value, bias->value, rate,
                                   rate > 0 ? moe_tape_key(tape) : 0, norm->op.out->value, norm->mean, norm->deviation);
    return moe_finish(tape, norm);
}

void
moe_softmax_backward(moe_tape *tape, moe_op *op)
{
    bool add;
    const float *gy = op->out->gradient;
    float *g = moe_take_gradient(tape, op->out, op->in[0], &add);
    if (g != NULL)
        tape->backend->softmax_backward(tape->job, op->out->rows, op->out->cols, op->out->value, gy, add, g);
}

moe_var *
moe_softmax(moe_tape *tape, moe_var *x)
{
    if (!moe_given(tape, "softmax", x != NULL))
        return NULL;
    moe_op *op = moe_begin(tape, sizeof(moe_op), moe_softmax_backward, x->rows, x->cols, x, NULL, NULL);
    if (op == NULL)
        return NULL;
    tape->backend->softmax(tape->job, x->rows, x->cols, x->value, op->out->value);
    return moe_finish(tape, op);
}

static void
entmax_backward(moe_tape *tape, moe_op *op)
{
    bool add;
    const float *gy = op->out->gradient;
    float *g = moe_take_gradient(tape, op->out, op->in[0], &add);
    if (g != NULL)
        tape->backend->entmax_backward(tape->job, op->out->rows, op->out->cols, op->out->value, gy, add, g);
}

moe_var *
moe_entmax(moe_tape *tape, moe_var *x)
{
    if (!moe_given(tape, "entmax", x != NULL))
        return NULL;
    moe_op *op = moe_begin(tape, sizeof(moe_op), entmax_backward, x->rows, x->cols, x, NULL, NULL);
    if (op == NULL)
        return NULL;
    tape->backend->entmax(tape->job, x->rows, x->cols, x->value, op->out->value);
    return moe_finish(tape, op);
}
