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
 * first map is a sum of products by blocks of inputs, each narrow enough for the
 * products of kernels/cpu/narrow.c, which give a row the same bits in any company.
 * The output map has no bias but b_i, which begins at the base rate.
 */
#include "gnn/dense_columns.h"
#include "gnn/dense_trainer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/random.h"

#define MEMBERS        8
#define HIDDEN         64
#define DROPOUT        0.4f
#define INPUT_DROPOUT  0.3f
#define FEW_COLUMNS    64 /* of so many, input dropout is half of that: few inputs do not stand for each other */
#define BENT_COLUMNS   64
#define KNOTS          3
#define BLOCK          128
#define LAYER_PARAMS   4
#define FORMAT_VERSION 1

static const float knots[KNOTS] = {-1, 0, 1};

enum
{
    MIDDLE,
    OUTPUT,
    LAYERS
};

typedef struct layer
{
    moe_param *weight;
    moe_param *in;   /* r, [1, MEMBERS * HIDDEN] */
    moe_param *out;  /* s, [1, MEMBERS * outputs] */
    moe_param *bias; /* b, likewise */
} layer;

typedef struct tabular
{
    moe_dense_net net;
    int n_bent;
    int32_t bent[BENT_COLUMNS]; /* columns, ascending */
    int blocks;                 /* of inputs: first the columns, BLOCK of them each, then the bent ones, a knot each */
    moe_param **block;          /* [blocks] weights [inputs, MEMBERS * HIDDEN] */
    moe_param *bias;            /* of the first map, [1, MEMBERS * HIDDEN] */
    layer layers[LAYERS];
} tabular;

static inline int
plain_blocks(const tabular *t)
{
    return (t->net.width + BLOCK - 1) / BLOCK;
}

/* Inputs of a block. */
static inline int
block_inputs(const tabular *t, int b)
{
    if (b >= plain_blocks(t))
        return t->n_bent;
    return t->net.width - b * BLOCK < BLOCK ? t->net.width - b * BLOCK : BLOCK;
}

static void
add_layer(tabular *t, const char *of, int outputs, layer *l)
{
    moe_params *params = t->net.params;
    char name[LAYER_PARAMS][32];
    static const char *const parts[] = {"in", "weight", "out", "bias"};
    for (int i = 0; i < LAYER_PARAMS; i++)
        snprintf(name[i], sizeof name[i], "%s/%s", of, parts[i]);
    l->in = moe_params_add(params, name[0], 1, MEMBERS * HIDDEN, MOE_INIT_ONE);
    l->weight = moe_params_add(params, name[1], HIDDEN, outputs, MOE_INIT_UNIFORM);
    l->out = moe_params_add(params, name[2], 1, (int64_t) MEMBERS * outputs, MOE_INIT_ONE);
    l->bias = moe_params_add(params, name[3], 1, (int64_t) MEMBERS * outputs, MOE_INIT_ZERO);
}

static moe_code
add_params(moe_dense_net *net)
{
    tabular *t = (tabular *) net;
    char name[32];
    int stored = moe_params_count(net->params);
    t->blocks = plain_blocks(t) + KNOTS;
    if (stored > 0 && stored != t->blocks + 1 + LAYERS * LAYER_PARAMS) /* before any memory goes to what is not there */
        return moe_fail(net->job, MOE_CORRUPT, "a stored expert has %d parameters", stored);
    t->block = moe_alloc(net->job, t->blocks, sizeof(moe_param *));
    if (t->block == NULL)
        return moe_job_code(net->job);
    for (int b = 0; b < t->blocks; b++)
    {
        snprintf(name, sizeof name, "input/weight/%d", b);
        t->block[b] = moe_params_add(net->params, name, block_inputs(t, b), MEMBERS * HIDDEN, MOE_INIT_UNIFORM);
        if (t->block[b] == NULL)
            return moe_job_code(net->job);
    }
    t->bias = moe_params_add(net->params, "input/bias", 1, MEMBERS * HIDDEN, MOE_INIT_ZERO);
    add_layer(t, "middle", HIDDEN, &t->layers[MIDDLE]);
    add_layer(t, "output", net->outputs, &t->layers[OUTPUT]);
    return moe_job_code(net->job);
}

/* The inputs of a block, of rows x: [n, inputs]. */
static moe_var *
inputs_of(const tabular *t, moe_tape *tape, int b, const float *x, int64_t n)
{
    int plain = plain_blocks(t);
    int64_t inputs = block_inputs(t, b);
    float *out = moe_tape_alloc(tape, n, (size_t) inputs * sizeof *out);
    if (out == NULL)
        return NULL;
    for (int64_t i = 0; i < n; i++)
    {
        const float *row = x + i * t->net.width;
        float *to = out + i * inputs;
        if (b < plain)
            memcpy(to, row + (int64_t) b * BLOCK, (size_t) inputs * sizeof *to);
        for (int64_t j = 0; b >= plain && j < inputs; j++)
        {
            float above = row[t->bent[j]] - knots[b - plain];
            to[j] = above > 0 ? above : 0;
        }
    }
    return moe_constant(tape, n, inputs, out);
}

/* The first map: [n, MEMBERS * HIDDEN]. */
static moe_var *
apply_input(const tabular *t, moe_tape *tape, const float *x, int64_t n)
{
    float rate = INPUT_DROPOUT * (float) t->net.width / (float) (t->net.width + FEW_COLUMNS);
    moe_var **terms = moe_tape_alloc(tape, t->blocks, sizeof(moe_var *));
    if (terms == NULL)
        return NULL;
    for (int b = 0; b < t->blocks; b++)
    {
        moe_var *inputs = moe_dropout(tape, inputs_of(t, tape, b, x, n), rate);
        terms[b] =
            moe_linear(tape, inputs, moe_variable(tape, t->block[b]), b == 0 ? moe_variable(tape, t->bias) : NULL);
        if (terms[b] == NULL)
            return NULL;
    }
    return moe_sum(tape, terms, t->blocks);
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
    moe_var *h = apply_input(t, tape, x, n);
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
    moe_free(job, t->block);
    moe_free(job, t);
}

/* The weights of a block were drawn as if its inputs were all; draw them closer by what they are of them. */
static moe_code
shrink_blocks(tabular *t)
{
    moe_params *params = t->net.params;
    float *room = moe_alloc(t->net.job, BLOCK * MEMBERS * HIDDEN, sizeof *room);
    if (room == NULL)
        return moe_job_code(t->net.job);
    for (int b = 0; b < t->blocks; b++)
    {
        int64_t size = t->block[b]->rows * t->block[b]->cols;
        float factor = sqrtf((float) t->block[b]->rows / (float) (t->net.width + t->n_bent * KNOTS));
        moe_param_download(params, t->block[b], room);
        for (int64_t i = 0; i < size; i++)
            room[i] *= factor;
        moe_param_upload(params, t->block[b], room);
    }
    moe_free(t->net.job, room);
    return moe_job_code(t->net.job);
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
    moe_dense_training training = moe_dense_training_for(train->n, train->width);
    if ((code = moe_dense_net_scale(&t->net, train)) != MOE_OK || (code = choose_bent(t, train)) != MOE_OK ||
        (code = add_params(&t->net)) != MOE_OK || (code = shrink_blocks(t)) != MOE_OK ||
        (code = initialise(t, train)) != MOE_OK ||
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
