/*
 * tape_mixture.c: gates of a mixture of experts, and all scalar losses, on the tape.
 *
 * A scalar loss computes its value and its derivative together; backward
 * scales the kept derivative.
 */
#include "kernels/tape_private.h"

moe_var *
moe_top_k_gate(moe_tape *tape, moe_var *logits, int k, float noise)
{
    if (!moe_given(tape, "top_k_gate", logits != NULL))
        return NULL;
    if (k < 1 || !(noise >= 0))
    {
        moe_fail(tape->job, MOE_INVALID, "gates cannot choose %d experts with noise %g", k, (double) noise);
        return NULL;
    }
    int64_t experts = logits->cols;
    moe_op *op = moe_begin(tape, sizeof(moe_op), moe_softmax_backward, logits->rows, experts, logits, NULL, NULL);
    if (op == NULL)
        return NULL;
    noise = tape->training ? noise : 0;
    uint64_t key = noise > 0 ? moe_tape_key(tape) : 0;
    tape->backend->top_k_gate(tape->job, logits->rows, experts, k < experts ? k : (int) experts, noise, key,
                              logits->value, op->out->value);
    return moe_finish(tape, op);
}

typedef struct loss_op
{
    moe_op op;
    float *derivative; /* of the value by the input */
} loss_op;

static void
loss_backward(moe_tape *tape, moe_op *op)
{
    bool add;
    float *g = moe_gradient(tape, op->in[0], &add);
    if (g != NULL)
        tape->backend->scale_by(tape->job, moe_size(op->in[0]), op->out->gradient, ((loss_op *) op)->derivative, add,
                                g);
}

/* Begin a loss of x, with room for its derivative. */
static loss_op *
begin_loss(moe_tape *tape, moe_var *x)
{
    loss_op *loss = moe_begin(tape, sizeof(loss_op), loss_backward, 1, 1, x, NULL, NULL);
    if (loss == NULL)
        return NULL;
    loss->derivative = moe_tape_array(tape, moe_size(x), sizeof(float));
    return loss->derivative == NULL ? NULL : loss;
}

moe_var *
moe_balance_loss(moe_tape *tape, moe_var *logits, moe_var *gates)
{
    if (!moe_given(tape, "balance_loss", logits != NULL && gates != NULL))
        return NULL;
    if (!moe_same_shape(logits, gates))
        return moe_bad_shape(tape, "balance_loss", logits, gates);
    loss_op *loss = begin_loss(tape, logits);
    if (loss == NULL)
        return NULL;
    tape->backend->balance_loss(tape->job, logits->rows, logits->cols, logits->value, gates->value, loss->op.out->value,
                                loss->derivative);
    return moe_finish(tape, loss);
}

moe_var *
moe_z_loss(moe_tape *tape, moe_var *logits)
{
    if (!moe_given(tape, "z_loss", logits != NULL))
        return NULL;
    loss_op *loss = begin_loss(tape, logits);
    if (loss == NULL)
        return NULL;
    tape->backend->z_loss(tape->job, logits->rows, logits->cols, logits->value, loss->op.out->value, loss->derivative);
    return moe_finish(tape, loss);
}

static moe_var *
column_loss(moe_tape *tape, moe_loss_kind kind, const char *name, moe_var *x, const float *label, const float *weight)
{
    if (!moe_given(tape, name, x != NULL && (label != NULL || x->rows == 0)))
        return NULL;
    if (x->cols != 1)
        return moe_bad_shape(tape, name, x, NULL);
    loss_op *loss = begin_loss(tape, x);
    const float *y = moe_tape_upload(tape, label, x->rows, sizeof *label);
    const float *w = moe_tape_upload(tape, weight, x->rows, sizeof *weight);
    if (loss == NULL || moe_job_code(tape->job) != MOE_OK)
        return NULL;
    tape->backend->loss(tape->job, kind, x->rows, x->value, y, w, loss->op.out->value, loss->derivative);
    return moe_finish(tape, loss);
}

moe_var *
moe_loss_logistic(moe_tape *tape, moe_var *logit, const float *label, const float *weight)
{
    return column_loss(tape, MOE_LOSS_LOGISTIC, "loss_logistic", logit, label, weight);
}

moe_var *
moe_loss_absolute(moe_tape *tape, moe_var *x, const float *label, const float *weight)
{
    return column_loss(tape, MOE_LOSS_ABSOLUTE, "loss_absolute", x, label, weight);
}

moe_var *
moe_loss_squared(moe_tape *tape, moe_var *x, const float *label, const float *weight)
{
    return column_loss(tape, MOE_LOSS_SQUARED, "loss_squared", x, label, weight);
}

moe_var *
moe_loss_cross_entropy(moe_tape *tape, moe_var *logits, const int32_t *label, const float *weight)
{
    if (!moe_given(tape, "loss_cross_entropy", logits != NULL && (label != NULL || logits->rows == 0)))
        return NULL;
    for (int64_t i = 0; i < logits->rows; i++)
    {
        if (label[i] >= 0 && label[i] < logits->cols)
            continue;
        moe_fail(tape->job, MOE_INVALID, "a label is class %d of %lld", label[i], (long long) logits->cols);
        return NULL;
    }
    loss_op *loss = begin_loss(tape, logits);
    const int32_t *class = moe_tape_upload(tape, label, logits->rows, sizeof *label);
    const float *w = moe_tape_upload(tape, weight, logits->rows, sizeof *weight);
    if (loss == NULL || moe_job_code(tape->job) != MOE_OK)
        return NULL;
    tape->backend->cross_entropy(tape->job, logits->rows, logits->cols, logits->value, class, w, loss->op.out->value,
                                 loss->derivative);
    return moe_finish(tape, loss);
}
