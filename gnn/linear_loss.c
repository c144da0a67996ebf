/*
 * linear_loss.c: the penalised loss of a linear model, its gradient and its minimum.
 *
 * Rows are floats, everything else is double. The gradient is summed chunk by
 * chunk, each by one thread, and the chunks in order; within a chunk four rows
 * pass together, so that weights and gradient are read once for the four.
 *
 * The loss of a number, d deviations off, is near^2 (sqrt(1 + (d / near)^2) - 1)
 * with near = .1: the absolute distance, but smooth about 0 (Charbonnier 1994).
 *
 * The minimum is sought by L-BFGS about one matrix that stands for the second
 * derivatives of every output,
 *
 *     H = c sum(weights) / m [X 1]^T [X 1] + penalty,
 *
 * with m rows of X, evenly spaced, and c the mean second derivative of the
 * losses before anything is learned (1 for numbers, p (1 - p) otherwise). Where
 * there are more columns than WIDEST or than rows, H costs more than it saves.
 */
#include "gnn/linear_loss.h"
#include "gnn/cholesky.h"
#include "kernels/blas.h"

#include <math.h>
#include <string.h>

#define TILE       4
#define WIDEST     2048
#define GRAM_ROWS  16384
#define GEMM_ROWS  4096 /* of one product, which does not look at the cancel flag */
#define CHUNKS     64
#define LEAST_ROWS 256
#define POLL_ROWS  64
#define STEPS      500
#define NEAR       0.1
#define TOLERANCE  1e-6 /* of the mean loss's gradient */

typedef double lanes __attribute__((vector_size(4 * sizeof(double)), aligned(sizeof(double)), may_alias));
typedef float floats __attribute__((vector_size(4 * sizeof(float)), aligned(sizeof(float)), may_alias));

struct moe_linear_loss
{
    moe_job *job;
    moe_dense_task task;
    const moe_dense_rows *rows;
    double shift;
    double scale;
    int outputs;
    int64_t parameters;
    double total;         /* weight of all rows */
    double *class_weight; /* of each class; BINARY: of 0 and of 1 */
    double curvature;
    double penalty;
    int64_t chunk;      /* rows */
    double *partial;    /* [chunks, 1 + parameters]: loss and gradient */
    double *raw;        /* [chunks, TILE, outputs] */
    const double *at;   /* where the loss is being computed */
    float *gram;        /* [width, width] X^T X over the spaced rows; NULL: no H */
    double *column_sum; /* [width] of the same rows */
    int64_t gram_rows;
    double *factor; /* [width + 1, width + 1] of H */
};

int
moe_linear_outputs(const moe_dense_task *task)
{
    return task->task == MOE_MULTICLASS ? task->n_classes : 1;
}

/* The products of a tile's rows with one output's weights. */
static void
multiply_tile(int width, const float *const x[TILE], const double *w, double out[TILE])
{
    lanes sum[TILE] = {{0}};
    int j = 0;
    for (; j + 4 <= width; j += 4)
        for (int r = 0; r < TILE; r++)
            sum[r] += *(const lanes *) (w + j) * __builtin_convertvector(*(const floats *) (x[r] + j), lanes);
    for (int r = 0; r < TILE; r++)
    {
        out[r] = (sum[r][0] + sum[r][1]) + (sum[r][2] + sum[r][3]) + w[width];
        for (int rest = j; rest < width; rest++)
            out[r] += w[rest] * x[r][rest];
    }
}

/* gradient += the tile's rows times what is left of each, and the intercept's. */
static void
add_tile(int width, const float *const x[TILE], const double left[TILE], double *gradient)
{
    int j = 0;
    for (; j + 4 <= width; j += 4)
    {
        lanes sum = *(const lanes *) (gradient + j);
        for (int r = 0; r < TILE; r++)
            sum += left[r] * __builtin_convertvector(*(const floats *) (x[r] + j), lanes);
        *(lanes *) (gradient + j) = sum;
    }
    for (int r = 0; r < TILE; r++)
    {
        for (int rest = j; rest < width; rest++)
            gradient[rest] += left[r] * x[r][rest];
        gradient[width] += left[r];
    }
}

/* Pointers to the rows of a tile; the first stands in for those that are not there. */
static void
point_at_tile(int width, const float *x, int64_t count, const float *rows[TILE])
{
    for (int r = 0; r < TILE; r++)
        rows[r] = x + (r < count ? r : 0) * (int64_t) width;
}

void
moe_linear_raw(int width, int outputs, const double *parameters, const float *x, int64_t count, double *raw)
{
    for (int64_t i = 0; i < count; i += TILE)
    {
        const float *rows[TILE];
        point_at_tile(width, x + i * width, count - i, rows);
        for (int o = 0; o < outputs; o++)
        {
            double out[TILE];
            multiply_tile(width, rows, parameters + o * ((int64_t) width + 1), out);
            for (int r = 0; r < TILE && i + r < count; r++)
                raw[(i + r) * outputs + o] = out[r];
        }
    }
}

/* The loss of one row; raw [outputs] becomes its derivative. */
static double
row_loss(const moe_linear_loss *l, double label, double *raw)
{
    if (l->task.task == MOE_REGRESSION)
    {
        double distance = raw[0] - (label - l->shift) / l->scale, root = sqrt(1 + distance * distance / (NEAR * NEAR));
        raw[0] = distance / root;
        return NEAR * NEAR * (root - 1);
    }
    if (l->task.task == MOE_BINARY)
    {
        double z = raw[0], small = exp(-fabs(z));
        raw[0] = (z > 0 ? 1 : small) / (1 + small) - label;
        return (z > 0 ? z : 0) - label * z + log1p(small);
    }
    double most = raw[0], sum = 0, true_raw = raw[(int) label];
    for (int o = 1; o < l->outputs; o++)
        most = fmax(most, raw[o]);
    for (int o = 0; o < l->outputs; o++)
        sum += raw[o] = exp(raw[o] - most);
    for (int o = 0; o < l->outputs; o++)
        raw[o] /= sum;
    raw[(int) label] -= 1;
    return most + log(sum) - true_raw;
}

/* Loss and gradient of up to TILE rows from row i on; raw [TILE, outputs] is room. */
static double
tile_loss(const moe_linear_loss *l, int64_t i, int64_t count, double *raw, double *gradient)
{
    const moe_dense_rows *rows = l->rows;
    const float *x[TILE];
    double loss = 0;
    point_at_tile(rows->width, rows->x + i * rows->width, count, x);
    moe_linear_raw(rows->width, l->outputs, l->at, x[0], count, raw);
    for (int64_t r = 0; r < count; r++)
    {
        double weight = rows->weight == NULL ? 1 : rows->weight[i + r];
        loss += weight * row_loss(l, rows->label[i + r], raw + r * l->outputs);
        for (int o = 0; o < l->outputs; o++)
            raw[r * l->outputs + o] *= weight;
    }
    for (int o = 0; o < l->outputs; o++)
    {
        double left[TILE] = {0};
        for (int64_t r = 0; r < count; r++)
            left[r] = raw[r * l->outputs + o];
        add_tile(rows->width, x, left, gradient + o * ((int64_t) rows->width + 1));
    }
    return loss;
}

static void
chunk_loss(int64_t begin, int64_t end, void *arg)
{
    const moe_linear_loss *l = arg;
    double *partial = l->partial + begin / l->chunk * (1 + l->parameters);
    double *raw = l->raw + begin / l->chunk * TILE * l->outputs;
    memset(partial, 0, (size_t) (1 + l->parameters) * sizeof *partial);
    for (int64_t i = begin; i < end; i += TILE)
    {
        if ((i - begin) % POLL_ROWS == 0 && moe_job_cancelled(l->job))
            return;
        partial[0] += tile_loss(l, i, end - i < TILE ? end - i : TILE, raw, partial + 1);
    }
}

/* The penalised loss at a point, and its gradient. */
static double
evaluate(void *arg, const double *at, double *gradient)
{
    moe_linear_loss *l = arg;
    int64_t chunks = (l->rows->n + l->chunk - 1) / l->chunk, width = l->rows->width;
    double loss = 0;
    l->at = at;
    moe_parallel(l->job, l->rows->n, l->chunk, chunk_loss, l);
    memset(gradient, 0, (size_t) l->parameters * sizeof *gradient);
    for (int64_t c = 0; c < chunks; c++)
    {
        const double *partial = l->partial + c * (1 + l->parameters);
        loss += partial[0];
        for (int64_t p = 0; p < l->parameters; p++)
            gradient[p] += partial[1 + p];
    }
    for (int64_t p = 0; p < l->parameters; p++)
        if (p % (width + 1) != width)
        {
            loss += l->penalty / 2 * at[p] * at[p];
            gradient[p] += l->penalty * at[p];
        }
    return loss;
}

typedef struct solving
{
    const moe_linear_loss *loss;
    double *vector;
} solving;

static void
solve_outputs(int64_t begin, int64_t end, void *arg)
{
    const solving *s = arg;
    int64_t n = s->loss->rows->width + 1;
    for (int64_t o = begin; o < end && !moe_job_cancelled(s->loss->job); o++)
        moe_cholesky_solve(n, s->loss->factor, s->vector + o * n);
}

static void
precondition(void *arg, double *vector)
{
    moe_linear_loss *l = arg;
    solving s = {l, vector};
    moe_parallel(l->job, l->outputs, 1, solve_outputs, &s);
}

/* X^T X and X^T 1 over evenly spaced rows. */
static moe_code
make_gram(moe_linear_loss *l)
{
    const moe_dense_rows *rows = l->rows;
    int64_t width = rows->width, apart = (rows->n + GRAM_ROWS - 1) / GRAM_ROWS;
    l->gram_rows = (rows->n + apart - 1) / apart;
    l->gram = moe_alloc(l->job, width * width, sizeof(float));
    l->factor = moe_alloc(l->job, (width + 1) * (width + 1), sizeof(double));
    l->column_sum = moe_alloc(l->job, width, sizeof(double));
    if (l->gram == NULL || l->factor == NULL || l->column_sum == NULL)
        return moe_job_code(l->job);
    for (int64_t i = 0; i < l->gram_rows && moe_job_code(l->job) == MOE_OK; i += GEMM_ROWS)
    {
        const float *x = rows->x + i * apart * width;
        int64_t count = l->gram_rows - i < GEMM_ROWS ? l->gram_rows - i : GEMM_ROWS;
        moe_gemm(l->job, true, false, width, width, count, x, apart * width, x, apart * width, i > 0, l->gram, width);
    }
    for (int64_t i = 0; i < l->gram_rows; i++)
        for (int64_t j = 0; j < width; j++)
            l->column_sum[j] += rows->x[i * apart * width + j];
    return moe_job_check(l->job);
}

/* Factor H. */
static moe_code
factor_curvature(moe_linear_loss *l)
{
    int64_t width = l->rows->width, n = width + 1;
    double scale = l->curvature * l->total / (double) l->gram_rows;
    for (int64_t i = 0; i < width; i++)
    {
        for (int64_t j = 0; j <= i; j++)
            l->factor[i * n + j] = scale * l->gram[i * width + j];
        l->factor[i * n + i] += l->penalty;
        l->factor[width * n + i] = scale * l->column_sum[i];
    }
    l->factor[width * n + width] = l->curvature * l->total;
    return moe_cholesky(l->job, n, l->factor);
}

/* The weight of each class and of all, and the second derivative of the loss that follows from them. */
static moe_code
weigh_labels(moe_linear_loss *l)
{
    double square = 0;
    int classes = l->task.task == MOE_BINARY ? 2 : l->outputs;
    double *weight = moe_alloc(l->job, classes, sizeof *weight);
    if (weight == NULL)
        return moe_job_code(l->job);
    for (int64_t i = 0; i < l->rows->n; i++)
    {
        double w = l->rows->weight == NULL ? 1 : l->rows->weight[i];
        l->total += w;
        if (l->task.task != MOE_REGRESSION)
            weight[(int) l->rows->label[i]] += w;
    }
    for (int c = 0; c < classes; c++)
        square += weight[c] / l->total * (weight[c] / l->total);
    l->curvature = l->task.task == MOE_REGRESSION ? 1 : fmax((1 - square) / classes, 1e-3);
    l->class_weight = weight;
    return MOE_OK;
}

moe_code
moe_linear_loss_create(moe_job *job, const moe_dense_task *task, const moe_dense_rows *rows, double shift, double scale,
                       moe_linear_loss **out)
{
    *out = NULL;
    moe_linear_loss *l = moe_alloc(job, 1, sizeof *l);
    if (l == NULL)
        return moe_job_code(job);
    *l = (moe_linear_loss){.job = job, .task = *task, .rows = rows, .shift = shift, .scale = scale};
    l->outputs = moe_linear_outputs(task);
    l->parameters = l->outputs * ((int64_t) rows->width + 1);
    l->chunk = (rows->n + CHUNKS - 1) / CHUNKS;
    l->chunk = l->chunk < LEAST_ROWS ? LEAST_ROWS : (l->chunk + TILE - 1) / TILE * TILE;
    int64_t chunks = (rows->n + l->chunk - 1) / l->chunk;
    l->partial = moe_alloc(job, chunks * (1 + l->parameters), sizeof *l->partial);
    l->raw = moe_alloc(job, chunks * TILE * l->outputs, sizeof *l->raw);
    moe_code code = l->partial == NULL || l->raw == NULL ? moe_job_code(job) : weigh_labels(l);
    if (code == MOE_OK && rows->width > 0 && rows->width <= WIDEST && rows->width <= rows->n)
        code = make_gram(l);
    if (code == MOE_OK)
        *out = l;
    else
        moe_linear_loss_destroy(l);
    return code;
}

void
moe_linear_loss_destroy(moe_linear_loss *loss)
{
    if (loss == NULL)
        return;
    moe_free(loss->job, loss->partial);
    moe_free(loss->job, loss->raw);
    moe_free(loss->job, loss->class_weight);
    moe_free(loss->job, loss->gram);
    moe_free(loss->job, loss->column_sum);
    moe_free(loss->job, loss->factor);
    moe_free(loss->job, loss);
}

void
moe_linear_loss_start(const moe_linear_loss *loss, double *parameters)
{
    int width = loss->rows->width;
    const double *weight = loss->class_weight;
    memset(parameters, 0, (size_t) loss->parameters * sizeof *parameters);
    if (loss->task.task == MOE_BINARY)
        parameters[width] = log((weight[1] + 0.5) / (weight[0] + 0.5));
    else if (loss->task.task == MOE_MULTICLASS)
        for (int o = 0; o < loss->outputs; o++)
            parameters[o * ((int64_t) width + 1) + width] = log((weight[o] + 0.5) / loss->total);
}

moe_code
moe_linear_loss_minimise(moe_linear_loss *loss, double penalty, double *parameters)
{
    moe_smooth function = {loss->parameters, evaluate, loss->gram == NULL ? NULL : precondition, loss};
    loss->penalty = penalty;
    moe_code code = loss->gram == NULL ? MOE_OK : factor_curvature(loss);
    if (code == MOE_OK)
        code = moe_minimise(loss->job, &function, TOLERANCE * loss->total, STEPS, parameters);
    return code;
}
