/*
 * tape_dense.c: linear maps and elementwise operations on the tape.
 */
#include "kernels/tape_private.h"

static void
linear_backward(moe_tape *tape, moe_op *op)
{
    moe_var *x = op->in[0];
    moe_var *w = op->in[1];
    int64_t n = x->rows, k = x->cols, m = w->cols;
    const float *gy = op->out->gradient;
    bool add;
    float *g = moe_gradient(tape, x, &add);
    if (g != NULL)
        tape->backend->linear_input(tape->job, n, k, m, gy, w->value, add, g);
    g = moe_zeroed_gradient(tape, w);
    if (g != NULL)
        tape->backend->linear_weight(tape->job, n, k, m, x->value, gy, g);
    g = moe_zeroed_gradient(tape, op->in[2]);
    if (g != NULL)
        tape->backend->column_sum(tape->job, n, m, gy, g);
}

moe_var *
moe_linear(moe_tape *tape, moe_var *x, moe_var *w, moe_var *b)
{
    if (!moe_given(tape, "linear", x != NULL && w != NULL))
        return NULL;
    if (x->cols != w->rows)
        return moe_bad_shape(tape, "linear", x, w);
    if (b != NULL && (b->rows != 1 || b->cols != w->cols))
        return moe_bad_shape(tape, "linear", w, b);
    moe_op *op = moe_begin(tape, sizeof(moe_op), linear_backward, x->rows, w->cols, x, w, b);
    if (op == NULL)
        return NULL;
    tape->backend->linear(tape->job, x->rows, x->cols, w->cols, x->value, w->value, b == NULL ? NULL : b->value,
                          op->out->value);
    return moe_finish(tape, op);
}

/* Pass a gradient on unchanged: in place where possible. */
static void
pass_gradient(moe_tape *tape, moe_var *out, moe_var *var)
{
    bool add;
    const float *gy = out->gradient;
    float *g = moe_take_gradient(tape, out, var, &add);
    if (g != NULL && g != gy)
        tape->backend->scale(tape->job, moe_size(var), 1, gy, add, g);
}

/* Pass a copy of a gradient on. */
static void
copy_gradient(moe_tape *tape, const moe_var *out, moe_var *var)
{
    bool add;
    float *g = moe_gradient(tape, var, &add);
    if (g != NULL)
        tape->backend->scale(tape->job, moe_size(var), 1, out->gradient, add, g);
}

typedef struct sum_op
{
    moe_op op;
    moe_var **terms;
    int n;
} sum_op;

static void
sum_backward(moe_tape *tape, moe_op *op)
{
    sum_op *sum = (sum_op *) op;
    for (int i = 1; i < sum->n; i++)
        copy_gradient(tape, op->out, sum->terms[i]);
    pass_gradient(tape, op->out, sum->terms[0]);
}

moe_var *
moe_sum(moe_tape *tape, moe_var **terms, int n)
{
    bool given = n >= 1;
    for (int i = 0; i < n; i++)
        given = given && terms[i] != NULL;
    if (!moe_given(tape, "sum", given))
        return NULL;

    moe_var *needy = terms[0];
    for (int i = 1; i < n; i++)
    {
        if (!moe_same_shape(terms[0], terms[i]))
            return moe_bad_shape(tape, "sum", terms[0], terms[i]);
        needy = terms[i]->needs_gradient ? terms[i] : needy;
    }
    sum_op *sum = moe_begin(tape, sizeof(sum_op), sum_backward, needy->rows, needy->cols, needy, NULL, NULL);
    moe_var **kept = moe_tape_alloc(tape, n, sizeof(moe_var *));
    const float **values = moe_tape_alloc(tape, n, sizeof(float *));
    if (sum == NULL || kept == NULL || values == NULL)
        return NULL;
    for (int i = 0; i < n; i++)
    {
        kept[i] = terms[i];
        values[i] = terms[i]->value;
    }
    sum->terms = kept;
    sum->n = n;
    tape->backend->sum(tape->job, moe_size(needy), values, n, sum->op.out->value);
    return moe_finish(tape, sum);
}

moe_var *
moe_add(moe_tape *tape, moe_var *a, moe_var *b)
{
    moe_var *terms[2] = {a, b};
    return moe_sum(tape, terms, 2);
}

static void
add_row_backward(moe_tape *tape, moe_op *op)
{
    float *g = moe_zeroed_gradient(tape, op->in[1]);
    if (g != NULL)
        tape->backend->column_sum(tape->job, op->out->rows, op->out->cols, op->out->gradient, g);
    pass_gradient(tape, op->out, op->in[0]);
}

moe_var *
moe_add_row(moe_tape *tape, moe_var *x, moe_var *row)
{
    if (!moe_given(tape, "add_row", x != NULL && row != NULL))
        return NULL;
    if (row->rows != 1 || row->cols != x->cols)
        return moe_bad_shape(tape, "add_row", x, row);
    moe_op *op = moe_begin(tape, sizeof(moe_op), add_row_backward, x->rows, x->cols, x, row, NULL);
    if (op == NULL)
        return NULL;
    tape->backend->add_row(tape->job, x->rows, x->cols, x->value, row->value, op->out->value);
    return moe_finish(tape, op);
}

typedef struct scale_op
{
    moe_op op;
    float factor;
} scale_op;

static void
scale_backward(moe_tape *tape, moe_op *op)
{
    bool add;
    const float *gy = op->out->gradient;
    float *g = moe_take_gradient(tape, op->out, op->in[0], &add);
    if (g != NULL)
        tape->backend->scale(tape->job, moe_size(op->out), ((scale_op *) op)->factor, gy, add, g);
}

moe_var *
moe_scale(moe_tape *tape, moe_var *x, float factor)
{
    if (!moe_given(tape, "scale", x != NULL))
        return NULL;
    scale_op *scale = moe_begin(tape, sizeof(scale_op), scale_backward, x->rows, x->cols, x, NULL, NULL);
    if (scale == NULL)
        return NULL;
    scale->factor = factor;
    tape->backend->scale(tape->job, moe_size(x), factor, x->value, false, scale->op.out->value);
    return moe_finish(tape, scale);
}

static void
multiply_backward(moe_tape *tape, moe_op *op)
{
    for (int i = 0; i < 2; i++)
    {
        bool add;
        float *g = moe_gradient(tape, op->in[i], &add);
        if (g != NULL)
            tape->backend->multiply(tape->job, moe_size(op->out), op->out->gradient, op->in[1 - i]->value, add, g);
    }
}

moe_var *
moe_multiply(moe_tape *tape, moe_var *a, moe_var *b)
{
    if (!moe_given(tape, "multiply", a != NULL && b != NULL))
        return NULL;
    if (!moe_same_shape(a, b))
        return moe_bad_shape(tape, "multiply", a, b);
    moe_op *op = moe_begin(tape, sizeof(moe_op), multiply_backward, a->rows, a->cols, a, b, NULL);
    if (op == NULL)
        return NULL;
    tape->backend->multiply(tape->job, moe_size(a), a->value, b->value, false, op->out->value);
    return moe_finish(tape, op);
}

static void
multiply_column_backward(moe_tape *tape, moe_op *op)
{
    moe_var *x = op->in[0];
    moe_var *c = op->in[1];
    const float *gy = op->out->gradient;
    bool add;
    float *g = moe_gradient(tape, x, &add);
    if (g != NULL)
        tape->backend->multiply_column(tape->job, x->rows, x->cols, gy, c->value, add, g);
    g = moe_gradient(tape, c, &add);
    if (g != NULL)
        tape->backend->row_dot(tape->job, x->rows, x->cols, gy, x->value, add, g);
}

moe_var *
moe_multiply_column(moe_tape *tape, moe_var *x, moe_var *c)
{
    if (!moe_given(tape, "multiply_column", x != NULL && c != NULL))
        return NULL;
    if (c->cols != 1 || c->rows != x->rows)
        return moe_bad_shape(tape, "multiply_column", x, c);
    moe_op *op = moe_begin(tape, sizeof(moe_op), multiply_column_backward, x->rows, x->cols, x, c, NULL);
    if (op == NULL)
        return NULL;
    tape->backend->multiply_column(tape->job, x->rows, x->cols, x->value, c->value, false, op->out->value);
    return moe_finish(tape, op);
}

static void
multiply_row_backward(moe_tape *tape, moe_op *op)
{
    moe_var *x = op->in[0];
    moe_var *row = op->in[1];
    const float *gy = op->out->gradient;
    bool add;
    float *g = moe_zeroed_gradient(tape, row);
    float *product = g == NULL ? NULL : moe_tape_array(tape, moe_size(x), sizeof(float));
    if (product != NULL)
    {
        tape->backend->multiply(tape->job, moe_size(x), gy, x->value, false, product);
        tape->backend->column_sum(tape->job, x->rows, x->cols, product, g);
    }
    g = moe_gradient(tape, x, &add);
    if (g != NULL)
        tape->backend->multiply_row(tape->job, x->rows, x->cols, gy, row->value, add, g);
}

moe_var *
moe_multiply_row(moe_tape *tape, moe_var *x, moe_var *row)
{
    if (!moe_given(tape, "multiply_row", x != NULL && row != NULL))
        return NULL;
    if (row->rows != 1 || row->cols != x->cols)
        return moe_bad_shape(tape, "multiply_row", x, row);
    moe_op *op = moe_begin(tape, sizeof(moe_op), multiply_row_backward, x->rows, x->cols, x, row, NULL);
    if (op == NULL)
        return NULL;
    tape->backend->multiply_row(tape->job, x->rows, x->cols, x->value, row->value, false, op->out->value);
    return moe_finish(tape, op);
}

static void
reshape_backward(moe_tape *tape, moe_op *op)
{
    pass_gradient(tape, op->out, op->in[0]);
}

moe_var *
moe_reshape(moe_tape *tape, moe_var *x, int64_t rows, int64_t cols)
{
    int64_t size;
    if (!moe_given(tape, "reshape", x != NULL))
        return NULL;
    if (rows < 0 || cols < 0 || __builtin_mul_overflow(rows, cols, &size) || size != moe_size(x))
        return moe_bad_shape(tape, "reshape", x, NULL);
    moe_op *op = moe_begin_view(tape, sizeof(moe_op), reshape_backward, rows, cols, x);
    return op == NULL ? NULL : moe_finish(tape, op);
}

static void
exp_backward(moe_tape *tape, moe_op *op)
{
    moe_var *x = op->in[0];
    bool add;
    const float *gy = op->out->gradient;
    float *g = moe_take_gradient(tape, op->out, x, &add);
    if (g != NULL)
        tape->backend->exp_backward(tape->job, moe_size(x), x->value, op->out->value, gy, add, g);
}

moe_var *
moe_exp(moe_tape *tape, moe_var *x)
{
    if (!moe_given(tape, "exp", x != NULL))
        return NULL;
    moe_op *op = moe_begin(tape, sizeof(moe_op), exp_backward, x->rows, x->cols, x, NULL, NULL);
    if (op == NULL)
        return NULL;
    tape->backend->exp(tape->job, moe_size(x), x->value, op->out->value);
    return moe_finish(tape, op);
}

typedef struct concat_op
{
    moe_op op;
    moe_var **parts;
    int n;
} concat_op;

static void
concat_backward(moe_tape *tape, moe_op *op)
{
    concat_op *concat = (concat_op *) op;
    const float *gy = op->out->gradient;
    for (int i = 0; i < concat->n; i++)
    {
        moe_var *part = concat->parts[i];
        bool add;
        float *g = moe_gradient(tape, part, &add);
        if (g != NULL)
            tape->backend->copy_block(tape->job, part->rows, part->cols, gy, op->out->cols, add, g, part->cols);
        gy += part->cols;
    }
}

moe_var *
moe_concat(moe_tape *tape, moe_var **parts, int n)
{
    bool given = n >= 1;
    for (int i = 0; i < n; i++)
        given = given && parts[i] != NULL;
    if (!moe_given(tape, "concat", given))
        return NULL;

    moe_var *needy = parts[0];
    int64_t cols = 0;
    for (int i = 0; i < n; i++)
    {
        if (parts[i]->rows != parts[0]->rows || __builtin_add_overflow(cols, parts[i]->cols, &cols))
            return moe_bad_shape(tape, "concat", parts[0], parts[i]);
        needy = parts[i]->needs_gradient ? parts[i] : needy;
    }
    concat_op *concat = moe_begin(tape, sizeof(concat_op), concat_backward, needy->rows, cols, needy, NULL, NULL);
    moe_var **kept = moe_tape_alloc(tape, n, sizeof(moe_var *));
    if (concat == NULL || kept == NULL)
        return NULL;
    float *out = concat->op.out->value;
    for (int i = 0; i < n; i++)
    {
        kept[i] = parts[i];
        tape->backend->copy_block(tape->job, parts[i]->rows, parts[i]->cols, parts[i]->value, parts[i]->cols, false,
                                  out, cols);
        out += parts[i]->cols;
    }
    concat->parts = kept;
    concat->n = n;
    return moe_finish(tape, concat);
}

static void
relu_backward(moe_tape *tape, moe_op *op)
{
    bool add;
    const float *gy = op->out->gradient;
    float *g = moe_take_gradient(tape, op->out, op->in[0], &add);
    if (g != NULL)
        tape->backend->relu_backward(tape->job, moe_size(op->out), 1, op->out->value, gy, add, g);
}

moe_var *
moe_relu(moe_tape *tape, moe_var *x)
{
    if (!moe_given(tape, "relu", x != NULL))
        return NULL;
    moe_op *op = moe_begin(tape, sizeof(moe_op), relu_backward, x->rows, x->cols, x, NULL, NULL);
    if (op == NULL)
        return NULL;
    tape->backend->relu(tape->job, moe_size(x), x->value, op->out->value);
    return moe_finish(tape, op);
}

typedef struct dropout_op
{
    moe_op op;
    float rate;
    uint64_t key;
} dropout_op;

static void
dropout_backward(moe_tape *tape, moe_op *op)
{
    dropout_op *dropout = (dropout_op *) op;
    bool add;
    const float *gy = op->out->gradient;
    float *g = moe_take_gradient(tape, op->out, op->in[0], &add);
    if (g != NULL)
        tape->backend->dropout(tape->job, moe_size(op->out), dropout->rate, dropout->key, gy, add, g);
}

bool
moe_check_rate(moe_tape *tape, float rate)
{
    if (rate >= 0 && rate < 1)
        return true;
    moe_fail(tape->job, MOE_INVALID, "a dropout rate of %g is not in [0, 1)", (double) rate);
    return false;
}

moe_var *
moe_dropout(moe_tape *tape, moe_var *x, float rate)
{
    if (!moe_given(tape, "dropout", x != NULL) || !moe_check_rate(tape, rate))
        return NULL;
    if (!tape->training || rate == 0)
        return moe_job_check(tape->job) == MOE_OK ? x : NULL;
    dropout_op *dropout = moe_begin(tape, sizeof(dropout_op), dropout_backward, x->rows, x->cols, x, NULL, NULL);
    if (dropout == NULL)
        return NULL;
    dropout->rate = rate;
    dropout->key = moe_tape_key(tape);
    tape->backend->dropout(tape->job, moe_size(x), rate, dropout->key, x->value, false, dropout->op.out->value);
    return moe_finish(tape, dropout);
}

static void
relu_dropout_backward(moe_tape *tape, moe_op *op)
{
    bool add;
    float factor = moe_dropout_factor(((dropout_op *) op)->rate);
    const float *gy = op->out->gradient;
    float *g = moe_take_gradient(tape, op->out, op->in[0], &add);
    if (g != NULL)
        tape->backend->relu_backward(tape->job, moe_size(op->out), factor, op->out->value, gy, add, g);
}

moe_var *
moe_relu_dropout(moe_tape *tape, moe_var *x, float rate)
{
    if (!moe_given(tape, "relu_dropout", x != NULL) || !moe_check_rate(tape, rate))
        return NULL;
    if (!tape->training || rate == 0)
        return moe_relu(tape, x);
    dropout_op *dropout = moe_begin(tape, sizeof(dropout_op), relu_dropout_backward, x->rows, x->cols, x, NULL, NULL);
    if (dropout == NULL)
        return NULL;
    dropout->rate = rate;
    tape->backend->relu_dropout(tape->job, moe_size(x), rate, moe_tape_key(tape), x->value, dropout->op.out->value);
    return moe_finish(tape, dropout);
}
