/*
 * arm.c: exponential neurons over the columns that matter, with sparse attention.
 *
 * ARM-Net (Cai et al., SIGMOD 2021): column j of m has an embedding e_j, of a row
 * x it is x_j e_j, and neuron i of a row is a product of powers of columns, made
 * as a sum of what stands for their logarithms:
 *
 *     y_i = exp(sum over j of z_ij v_ij x_j e_j),   z_i = entmax over j of (x_j q_i . e_j + t_ij),
 *
 * with a query q_i, powers v_i and preferences t_i of its own. The gates z_i are
 * sparse, so that a neuron is a cross feature of few columns, which can be told
 * (arm_report.c). All neurons of a row, normalised, go through one hidden layer,
 * and beside them the columns themselves, in place of the network that the
 * paper's ARM-Net+ has beside ARM-Net.
 *
 * The paper's heads have a bilinear form each between queries and embeddings; a
 * query serves one neuron alone, so the product of the two is learned as one
 * vector, and heads are neurons. t_ij is not in the paper: without it a column
 * near its mean could be neither chosen nor left, as its scores vanish.
 *
 * Columns are those of most relevance to the label (dense_columns.h), each by
 * itself: what matters in company alone is not found among many columns.
 */
#include "gnn/arm_net.h"

#include <string.h>

#include "gnn/dense_columns.h"
#include "kernels/device.h"
#include "kernels/random.h"

#define DROPOUT        0.2f
#define FORMAT_VERSION 1

static moe_code
add_params(moe_dense_net *net)
{
    moe_arm *a = (moe_arm *) net;
    int64_t gates = (int64_t) MOE_ARM_NEURONS * net->width;
    int64_t features = MOE_ARM_NEURONS * MOE_ARM_EMBEDDING;
    a->embedding = moe_params_add(net->params, "embedding", net->width, MOE_ARM_EMBEDDING, MOE_INIT_NORMAL);
    a->query = moe_params_add(net->params, "query", MOE_ARM_NEURONS, MOE_ARM_EMBEDDING, MOE_INIT_NORMAL);
    a->preference = moe_params_add(net->params, "preference", 1, gates, MOE_INIT_NORMAL);
    a->power = moe_params_add(net->params, "power", 1, gates, MOE_INIT_NORMAL);
    a->gain = moe_params_add(net->params, "norm/gain", 1, features, MOE_INIT_ONE);
    a->shift = moe_params_add(net->params, "norm/bias", 1, features, MOE_INIT_ZERO);
    a->weight[0] =
        moe_params_add(net->params, "hidden/weight", features + net->width, MOE_ARM_HIDDEN, MOE_INIT_UNIFORM);
    a->bias[0] = moe_params_add(net->params, "hidden/bias", 1, MOE_ARM_HIDDEN, MOE_INIT_ZERO);
    a->weight[1] = moe_params_add(net->params, "output/weight", MOE_ARM_HIDDEN, net->outputs, MOE_INIT_UNIFORM);
    a->bias[1] = moe_params_add(net->params, "output/bias", 1, net->outputs, MOE_INIT_ZERO);
    return moe_job_code(net->job);
}

/* Every neuron's copy of a row: [n, neurons * columns]. */
static moe_var *
repeat(const moe_arm *a, moe_tape *tape, const float *x, int64_t n)
{
    int64_t m = a->net.width;
    float *copies = moe_tape_alloc(tape, n * MOE_ARM_NEURONS, (size_t) m * sizeof *copies);
    if (copies == NULL)
        return NULL;
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < MOE_ARM_NEURONS; k++)
            memcpy(copies + (i * MOE_ARM_NEURONS + k) * m, x + i * m, (size_t) m * sizeof *copies);
    return moe_constant(tape, n, MOE_ARM_NEURONS * m, copies);
}

/* The gates of a row's neurons, [n * neurons, columns], from every neuron's copy of it. */
static moe_var *
gates_of(const moe_arm *a, moe_tape *tape, moe_var *copies, int64_t n)
{
    int64_t m = a->net.width;
    moe_var *score =
        moe_edge_dot(tape, moe_variable(tape, a->query), moe_variable(tape, a->embedding), a->offset, a->index);
    score = moe_multiply_row(tape, copies, moe_reshape(tape, score, 1, MOE_ARM_NEURONS * m));
    score = moe_add_row(tape, score, moe_variable(tape, a->preference));
    return moe_entmax(tape, moe_reshape(tape, score, n * MOE_ARM_NEURONS, m));
}

moe_var *
moe_arm_gates(const moe_arm *a, moe_tape *tape, const float *x, int64_t n)
{
    return gates_of(a, tape, repeat(a, tape, x, n), n);
}

static moe_var *
forward(const moe_dense_net *net, moe_tape *tape, const float *x, int64_t n)
{
    const moe_arm *a = (const moe_arm *) net;
    int64_t m = net->width;
    moe_var *copies = repeat(a, tape, x, n);
    moe_var *gates = moe_reshape(tape, gates_of(a, tape, copies, n), n, MOE_ARM_NEURONS * m);
    moe_var *h = moe_multiply(tape, gates, copies);
    h = moe_multiply_row(tape, h, moe_variable(tape, a->power));
    h = moe_reshape(tape, h, n * MOE_ARM_NEURONS, m);
    h = moe_exp(tape, moe_linear(tape, h, moe_variable(tape, a->embedding), NULL));
    h = moe_reshape(tape, h, n, MOE_ARM_NEURONS * MOE_ARM_EMBEDDING);
    h = moe_layer_norm(tape, h, moe_variable(tape, a->gain), moe_variable(tape, a->shift));
    h = moe_concat(tape, (moe_var *[]){h, moe_constant(tape, n, m, x)}, 2);
    h = moe_linear(tape, h, moe_variable(tape, a->weight[0]), moe_variable(tape, a->bias[0]));
    h = moe_relu_dropout(tape, h, DROPOUT);
    return moe_linear(tape, h, moe_variable(tape, a->weight[1]), moe_variable(tape, a->bias[1]));
}

static void
destroy(moe_job *job, void *state)
{
    moe_arm *a = state;
    if (a == NULL)
        return;
    moe_params_destroy(a->net.params);
    moe_free(job, a->column);
    moe_free(job, a->offset);
    moe_free(job, a->index);
    moe_free(job, a);
}

/* An expert of n columns of `width`, which are still to be named. */
static moe_arm *
create(moe_job *job, const moe_dense_task *task, int width, int n, uint64_t seed)
{
    moe_arm *a = moe_alloc(job, 1, sizeof *a);
    if (a == NULL)
        return NULL;
    a->width = width;
    a->net = (moe_dense_net){.job = job,
                             .task = *task,
                             .width = n,
                             .outputs = task->task == MOE_MULTICLASS ? task->n_classes : 1,
                             .copies = 1,
                             .scale = 1,
                             .add = add_params,
                             .forward = forward};
    a->net.params = moe_params_create(job, seed);
    a->column = moe_alloc(job, n, sizeof *a->column);
    a->offset = moe_alloc(job, MOE_ARM_NEURONS + 1, sizeof *a->offset);
    a->index = moe_alloc(job, (int64_t) MOE_ARM_NEURONS * n, sizeof *a->index);
    if (a->net.params == NULL || a->column == NULL || a->offset == NULL || a->index == NULL)
    {
        destroy(job, a);
        return NULL;
    }
    for (int k = 0; k < MOE_ARM_NEURONS; k++)
    {
        a->offset[k + 1] = (int64_t) (k + 1) * n;
        for (int j = 0; j < n; j++)
            a->index[k * n + j] = j;
    }
    return a;
}

/* Enlarge what was drawn from N(0, 1) / 10. */
static void
enlarge(moe_arm *a, moe_param *param, float factor, float *room)
{
    moe_param_download(a->net.params, param, room);
    for (int64_t i = 0; i < param->rows * param->cols; i++)
        room[i] *= factor;
    moe_param_upload(a->net.params, param, room);
}

/*
 * Outputs begin at the base rate, and gates nearly even: neurons that began with few columns, drawn by chance, kept
 * them, and what they tell would be the draw.
 */
static moe_code
initialise(moe_arm *a, const moe_dense_rows *train)
{
    moe_dense_net *net = &a->net;
    float *room = moe_alloc(net->job, moe_params_size(net->params), sizeof *room);
    if (room == NULL || moe_dense_net_base(net, train, room) != MOE_OK)
        return moe_job_code(net->job);
    moe_param_upload(net->params, a->bias[1], room);
    enlarge(a, a->embedding, 5, room);
    enlarge(a, a->power, 5, room);
    moe_free(net->job, room);
    return moe_job_code(net->job);
}

/* The expert's columns of rows; *x is to be freed. */
static moe_code
take(const moe_arm *a, const moe_dense_rows *rows, moe_dense_rows *out, float **x)
{
    *out = *rows;
    *x = moe_alloc(a->net.job, rows->n, (size_t) a->net.width * sizeof **x);
    if (*x == NULL)
        return moe_job_code(a->net.job);
    moe_dense_take_columns(a->net.job, rows, a->column, a->net.width, *x);
    out->x = *x;
    out->width = a->net.width;
    return MOE_OK;
}

static moe_code
train_on(moe_arm *a, const moe_dense_rows *train, const moe_dense_rows *valid, uint64_t seed)
{
    moe_dense_rows columns[2];
    float *x[2] = {NULL};
    moe_dense_training training = moe_dense_training_for(train->n, MOE_ARM_COLUMNS);
    moe_code code = take(a, train, &columns[0], &x[0]);
    if (code == MOE_OK)
        code = take(a, valid, &columns[1], &x[1]);
    if (code == MOE_OK)
        code = moe_dense_net_train(&a->net, &training, &columns[0], &columns[1], seed);
    moe_free(a->net.job, x[0]);
    moe_free(a->net.job, x[1]);
    return code;
}

static moe_code
fit(moe_job *job, const moe_dense_task *task, const moe_dense_rows *train, const moe_dense_rows *valid, uint64_t seed,
    void **state)
{
    *state = NULL;
    moe_code code = moe_dense_check(job, task, train, false);
    if (code == MOE_OK)
        code = moe_dense_check(job, task, valid, true);
    int n = train->width < MOE_ARM_COLUMNS ? train->width : MOE_ARM_COLUMNS;
    moe_arm *a = code == MOE_OK ? create(job, task, train->width, n, seed) : NULL;
    if (a == NULL)
        return moe_job_code(job);
    if ((code = moe_dense_net_scale(&a->net, train)) != MOE_OK ||
        (code = moe_dense_net_columns(&a->net, train, n, a->column)) != MOE_OK ||
        (code = add_params(&a->net)) != MOE_OK || (code = initialise(a, train)) != MOE_OK ||
        (code = train_on(a, train, valid, moe_key(seed, 2))) != MOE_OK)
    {
        destroy(job, a);
        return code;
    }
    *state = a;
    return MOE_OK;
}

moe_code
moe_arm_take(const moe_arm *a, const moe_dense_rows *rows, moe_dense_rows *out, float **x)
{
    *x = NULL;
    if (rows->width != a->width)
        return moe_fail(a->net.job, MOE_INVALID, "an expert of %d columns was given %d", a->width, rows->width);
    return take(a, rows, out, x);
}

static moe_code
predict(moe_job *job, void *state, const moe_dense_task *task, const moe_dense_rows *rows, float *prediction)
{
    const moe_arm *a = state;
    moe_dense_rows columns;
    float *x;
    moe_code code = moe_arm_take(a, rows, &columns, &x);
    if (code == MOE_OK)
        code = moe_dense_net_predict(&a->net, &columns, prediction);
    moe_free(job, x);
    return code;
}

static int64_t
parameters(const void *state)
{
    return moe_params_size(((const moe_arm *) state)->net.params);
}

static void
write(const void *state, moe_buffer *buffer)
{
    const moe_arm *a = state;
    moe_put_u8(buffer, FORMAT_VERSION);
    moe_dense_put_columns(buffer, a->column, a->net.width);
    moe_dense_net_write(&a->net, buffer);
}

static moe_code
read(moe_job *job, moe_reader *reader, const moe_dense_task *task, int width, void **state)
{
    *state = NULL;
    int n;
    int32_t column[MOE_ARM_COLUMNS];
    uint8_t version = moe_get_u8(reader);
    moe_code code = moe_reader_code(reader);
    if (code == MOE_OK && version != FORMAT_VERSION)
        code = moe_fail(job, MOE_CORRUPT, "a stored expert of kind arm has format version %d", version);
    if (code == MOE_OK)
        code = moe_dense_get_columns(reader, width, MOE_ARM_COLUMNS, column, &n);
    moe_arm *a = code == MOE_OK ? create(job, task, width, n, 0) : NULL;
    if (a == NULL)
        return moe_job_code(job);
    memcpy(a->column, column, (size_t) n * sizeof *column);
    if ((code = moe_dense_net_read(&a->net, reader)) != MOE_OK)
    {
        destroy(job, a);
        return code;
    }
    *state = a;
    return MOE_OK;
}

const moe_dense_class moe_dense_arm = {.name = "arm",
                                       .fit = fit,
                                       .predict = predict,
                                       .parameters = parameters,
                                       .write = write,
                                       .read = read,
                                       .destroy = destroy};
