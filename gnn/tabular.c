/*
 * tabular.c: an ensemble of multilayer perceptrons that share weights.
 *
 * TabM (Gorishniy et al. 2024): member i of k computes a linear map as
 *
 *     l_i(x) = s_i * (W (r_i * x)) + b_i,      * number by number
 *
 * with W shared and r_i, s_i, b_i its own, r_i and s_i beginning as 1. The loss is
 * the mean of the members' losses, the prediction the mean of their predictions.
 * Only the first map is each member's own ("packed"): shared behind random signs,
 * as in the paper, it learns too slowly for the few steps that are made here.
 *
 * The inputs that say most of the label, each by itself, enter a second time, bent:
 * max(0, x - knot) at some knots, so that a member begins with curves of them
 * rather than with lines alone (a piecewise linear embedding; Gorishniy et al. 2022).
 *
 * All members are one pass: states lie side by side, [n, k * hidden], which read
 * as [n * k, hidden] is a row a member, so that one product by W serves all. The
 * output map has no bias but b_i, which begins at the base rate.
 */
#include "gnn/dense_columns.h"
#include "gnn/dense_trainer.h"

#include <stdio.h>
#include <string.h>

#include "kernels/random.h"

#define MEMBERS        8
#define HIDDEN         64
#define DROPOUT        0.4f
#define INPUT_DROPOUT  0.3f
#define BENT_COLUMNS   64
#define KNOTS          3
#define FORMAT_VERSION 1

static const float knots[KNOTS] = {-1, 0, 1};

enum
{
    INPUT,
    MIDDLE,
    OUTPUT,
    LAYERS
};

typedef struct layer
{
    moe_param *weight;
    moe_param *in;  /* r, [1, MEMBERS * inputs]; NULL: of INPUT */
    moe_param *out; /* s, [1, MEMBERS * outputs]; NULL: of INPUT */
    moe_param *bias;
} layer;

typedef struct tabular
{
    moe_dense_net net;
    int n_bent;
    int32_t bent[BENT_COLUMNS]; /* columns, ascending */
    layer layers[LAYERS];
} tabular;

static inline int64_t
inputs_of(const tabular *t)
{
    return t->net.width + (int64_t) t->n_bent * KNOTS;
}

static moe_param *
add_param(tabular *t, int layer, const char *part, int64_t rows, int64_t cols, moe_init init)
{
    static const char *const names[] = {"input", "middle", "output"};
    char name[64];
    snprintf(name, sizeof name, "%s/%s", names[layer], part);
    return moe_params_add(t->net.params, name, rows, cols, init);
}

static moe_code
add_params(moe_dense_net *net)
{
    tabular *t = (tabular *) net;
    int64_t outputs[] = {HIDDEN, HIDDEN, net->outputs};
    for (int l = 0; l < LAYERS; l++)
    {
        layer *to = &t->layers[l];
        if (l == INPUT)
            to->weight = add_param(t, l, "weight", inputs_of(t), MEMBERS * HIDDEN, MOE_INIT_UNIFORM);
        else
        {
            to->in = add_param(t, l, "in", 1, MEMBERS * HIDDEN, MOE_INIT_ONE);
            to->weight = add_param(t, l, "weight", HIDDEN, outputs[l], MOE_INIT_UNIFORM);
            to->out = add_param(t, l, "out", 1, MEMBERS * outputs[l], MOE_INIT_ONE);
        }
        to->bias = add_param(t, l, "bias", 1, MEMBERS * outputs[l], MOE_INIT_ZERO);
    }
    return moe_job_code(net->job);
}

/* Rows with their bent inputs behind them: [n, inputs]. */
static moe_var *
bend(const tabular *t, moe_tape *tape, const float *x, int64_t n)
{
    int64_t inputs = inputs_of(t);
    int64_t width = t->net.width;
    float *out = moe_tape_alloc(tape, n, (size_t) inputs * sizeof *out);
    if (out == NULL)
        return NULL;
    for (int64_t i = 0; i < n; i++)
    {
        float *row = out + i * inputs;
        memcpy(row, x + i * width, (size_t) width * sizeof *row);
        for (int j = 0; j < t->n_bent; j++)
            for (int k = 0; k < KNOTS; k++)
            {
                float above = row[t->bent[j]] - knots[k];
                row[width + j * KNOTS + k] = above > 0 ? above : 0;
            }
    }
    return moe_constant(tape, n, inputs, out);
}

static moe_var *
apply(const layer *l, moe_tape *tape, moe_var *x, int64_t n)
{
    x = moe_multiply_row(tape, x, moe_variable(tape, l->in));
    x = moe_reshape(tape, x, n * MEMBERS, HIDDEN);
    x = moe_linear(tape, x, moe_variable(tape, l->weight), NULL);
    x = moe_reshape(tape, x, n, MEMBERS * l->weight->cols);
    x = moe_multiply_row(tape, x, moe_variable(tape, l->out));
    return moe_add_row(tape, x, moe_variable(tape, l->bias));
}

static moe_var *
forward(const moe_dense_net *net, moe_tape *tape, const float *x, int64_t n)
{
    const tabular *t = (const tabular *) net;
    const layer *first = &t->layers[INPUT];
    moe_var *h = moe_dropout(tape, bend(t, tape, x, n), INPUT_DROPOUT);
    h = moe_linear(tape, h, moe_variable(tape, first->weight), moe_variable(tape, first->bias));
    h = moe_relu_dropout(tape, h, DROPOUT);
    h = moe_relu_dropout(tape, apply(&t->layers[MIDDLE], tape, h, n), DROPOUT);
    h = apply(&t->layers[OUTPUT], tape, h, n);
    return moe_reshape(tape, h, n * MEMBERS, net->outputs);
}

static tabular *
create(moe_job *job, const moe_dense_task *task, int width, uint64_t seed)
{
    tabular *t = moe_alloc(job, 1, sizeof *t);
    moe_params *params = moe_params_create(job, seed);
    if (t == NULL || params == NULL)
    {
        moe_params_destroy(params);
        moe_free(job, t);
        return NULL;
    }
    t->net = (moe_dense_net){.job = job,
                             .task = *task,
                             .width = width,
                             .outputs = task->task == MOE_MULTICLASS ? task->n_classes : 1,
                             .copies = MEMBERS,
                             .scale = 1,
                             .params = params,
                             .add = add_params,
                             .forward = forward};
    return t;
}

static void
destroy(moe_job *job, void *state)
{
    tabular *t = state;
    if (t == NULL)
        return;
    moe_params_destroy(t->net.params);
    moe_free(job, t);
}

/* The members' outputs begin at the base rate. */
static moe_code
initialise(tabular *t, const moe_dense_rows *train)
{
    moe_dense_net *net = &t->net;
    int outputs = net->outputs;
    float *bias = moe_alloc(net->job, (int64_t) MEMBERS * outputs, sizeof *bias);
    if (bias == NULL || moe_dense_net_base(net, train, bias) != MOE_OK)
        return moe_job_code(net->job);
    for (int i = outputs; i < MEMBERS * outputs; i++)
        bias[i] = bias[i % outputs];
    moe_param_upload(net->params, t->layers[OUTPUT].bias, bias);
    moe_free(net->job, bias);
    return moe_job_code(net->job);
}

static moe_code
choose_bent(tabular *t, const moe_dense_rows *train)
{
    t->n_bent = train->width < BENT_COLUMNS ? train->width : BENT_COLUMNS;
    return moe_dense_net_columns(&t->net, train, t->n_bent, t->bent);
}

static moe_code
fit(moe_job *job, const moe_dense_task *task, const moe_dense_rows *train, const moe_dense_rows *valid, uint64_t seed,
    void **state)
{
    *state = NULL;
    moe_code code = moe_dense_check(job, task, train, false);
    if (code == MOE_OK)
        code = moe_dense_check(job, task, valid, true);
    tabular *t = code == MOE_OK ? create(job, task, train->width, seed) : NULL;
    if (t == NULL)
        return moe_job_code(job);
    moe_dense_training training = moe_dense_training_for(train->n);
    if ((code = moe_dense_net_scale(&t->net, train)) != MOE_OK || (code = choose_bent(t, train)) != MOE_OK ||
        (code = add_params(&t->net)) != MOE_OK || (code = initialise(t, train)) != MOE_OK ||
        (code = moe_dense_net_train(&t->net, &training, train, valid, moe_key(seed, 1))) != MOE_OK)
    {
        destroy(job, t);
        return code;
    }
    *state = t;
    return MOE_OK;
}

static moe_code
predict(moe_job *job, void *state, const moe_dense_task *task, const moe_dense_rows *rows, float *prediction)
{
    const tabular *t = state;
    if (rows->width != t->net.width)
        return moe_fail(job, MOE_INVALID, "an expert of %d columns was given %d", t->net.width, rows->width);
    return moe_dense_net_predict(&t->net, rows, prediction);
}

static int64_t
parameters(const void *state)
{
    return moe_params_size(((const tabular *) state)->net.params);
}

static void
write(const void *state, moe_buffer *buffer)
{
    const tabular *t = state;
    moe_put_u8(buffer, FORMAT_VERSION);
    moe_dense_put_columns(buffer, t->bent, t->n_bent);
    moe_dense_net_write(&t->net, buffer);
}

static moe_code
read(moe_job *job, moe_reader *reader, const moe_dense_task *task, int width, void **state)
{
    *state = NULL;
    uint8_t version = moe_get_u8(reader);
    moe_code code = moe_reader_code(reader);
    if (code == MOE_OK && version != FORMAT_VERSION)
        code = moe_fail(job, MOE_CORRUPT, "a stored tabular expert has format version %d", version);
    tabular *t = code == MOE_OK ? create(job, task, width, 0) : NULL;
    if (t == NULL)
        return moe_job_code(job);
    if ((code = moe_dense_get_columns(reader, width, BENT_COLUMNS, t->bent, &t->n_bent)) != MOE_OK ||
        (code = moe_dense_net_read(&t->net, reader)) != MOE_OK)
    {
        destroy(job, t);
        return code;
    }
    *state = t;
    return MOE_OK;
}

const moe_dense_class moe_dense_tabular = {.name = "tabular",
                                           .fit = fit,
                                           .predict = predict,
                                           .parameters = parameters,
                                           .write = write,
                                           .read = read,
                                           .destroy = destroy};
