/*
 * pairs.c: forward operations with their backward ones, on small shapes.
 */
#include "gradient.h"

#include <math.h>
#include <string.h>

enum
{
    ROWS = 5,
    COLS = 4,
    N = ROWS * COLS,
    WIDTH = 3
};

#define FORWARD(op) static void forward_##op(ops_run *run, const float *const *x, float *out)
#define BACKWARD(op)                                                                                                   \
    static void backward_##op(ops_run *run, const float *const *x, const float *out, const float *gy, float *const *g)

/* Scratch of a run that no later array needs. */
static float *
scratch(ops_run *run, int64_t n)
{
    return ops_output(run, "scratch", n, false);
}

/* The sparse matrix of the pairs, [ROWS, ROWS]: an empty row, an entry of -1, one twice. */
enum
{
    ENTRIES = 8
};
static const int64_t offsets[ROWS + 1] = {0, 3, 3, 4, 6, ENTRIES};
static const int32_t columns[ENTRIES] = {1, 4, 1, 0, -1, 2, 3, 4};

static moe_sparse
matrix(ops_run *run, const float *weight, moe_reduce reduce)
{
    return (moe_sparse){.rows = ROWS,
                        .entries = ENTRIES,
                        .offset = ops_input(run, OPS_COUNT, ROWS + 1, offsets),
                        .index = ops_input(run, OPS_INDEX, ENTRIES, columns),
                        .weight = weight,
                        .reduce = reduce};
}

/* The transpose of a matrix, by the backend's own operation. */
static moe_sparse
transposed(ops_run *run, const moe_sparse *s, int parts, const int32_t **entry)
{
    int64_t most = s->entries * parts;
    int64_t *offset = ops_other_output(run, "offset", OPS_COUNT, ROWS + 1);
    int32_t *index = ops_other_output(run, "index", OPS_INDEX, most);
    float *weight = scratch(run, most);
    int32_t *number = ops_other_output(run, "entry", OPS_INDEX, most);
    run->backend->transpose(run->job, s, parts, ROWS, offset, index, weight, number);
    if (entry != NULL)
        *entry = number;
    return (moe_sparse){.rows = ROWS, .entries = most, .offset = offset, .index = index, .weight = weight};
}

FORWARD(linear)
{
    run->backend->linear(run->job, ROWS, COLS, WIDTH, x[0], x[1], x[2], out);
}

BACKWARD(linear)
{
    run->backend->linear_input(run->job, ROWS, COLS, WIDTH, gy, x[1], true, g[0]);
    run->backend->linear_weight(run->job, ROWS, COLS, WIDTH, x[0], gy, g[1]);
    run->backend->column_sum(run->job, ROWS, WIDTH, gy, g[2]);
}

FORWARD(scale_by)
{
    run->backend->scale_by(run->job, N, x[1], x[0], false, out);
}

BACKWARD(scale_by)
{
    run->backend->scale_by(run->job, N, x[1], gy, true, g[0]);
    run->backend->row_dot(run->job, 1, N, x[0], gy, true, g[1]);
}

FORWARD(multiply)
{
    run->backend->multiply(run->job, N, x[0], x[1], false, out);
}

BACKWARD(multiply)
{
    run->backend->multiply(run->job, N, gy, x[1], true, g[0]);
    run->backend->multiply(run->job, N, gy, x[0], true, g[1]);
}

FORWARD(add_row)
{
    run->backend->add_row(run->job, ROWS, COLS, x[0], x[1], out);
}

BACKWARD(add_row)
{
    run->backend->scale(run->job, N, 1, gy, true, g[0]);
    run->backend->column_sum(run->job, ROWS, COLS, gy, g[1]);
}

FORWARD(multiply_column)
{
    run->backend->multiply_column(run->job, ROWS, COLS, x[0], x[1], false, out);
}

BACKWARD(multiply_column)
{
    run->backend->multiply_column(run->job, ROWS, COLS, gy, x[1], true, g[0]);
    run->backend->row_dot(run->job, ROWS, COLS, gy, x[0], true, g[1]);
}

FORWARD(multiply_row)
{
    run->backend->multiply_row(run->job, ROWS, COLS, x[0], x[1], false, out);
}

BACKWARD(multiply_row)
{
    float *product = scratch(run, N);
    run->backend->multiply_row(run->job, ROWS, COLS, gy, x[1], true, g[0]);
    run->backend->multiply(run->job, N, gy, x[0], false, product);
    run->backend->column_sum(run->job, ROWS, COLS, product, g[1]);
}

FORWARD(row_dot)
{
    run->backend->row_dot(run->job, ROWS, COLS, x[0], x[1], false, out);
}

BACKWARD(row_dot)
{
    run->backend->multiply_column(run->job, ROWS, COLS, x[1], gy, true, g[0]);
    run->backend->multiply_column(run->job, ROWS, COLS, x[0], gy, true, g[1]);
}

FORWARD(relu)
{
    run->backend->relu(run->job, N, x[0], out);
}

BACKWARD(relu)
{
    run->backend->relu_backward(run->job, N, 1, out, gy, true, g[0]);
}

FORWARD(relu_dropout)
{
    run->backend->relu_dropout(run->job, N, 0.3f, 9, x[0], out);
}

BACKWARD(relu_dropout)
{
    run->backend->relu_backward(run->job, N, moe_dropout_factor(0.3f), out, gy, true, g[0]);
}

FORWARD(dropout)
{
    run->backend->dropout(run->job, N, 0.3f, 9, x[0], false, out);
}

BACKWARD(dropout)
{
    run->backend->dropout(run->job, N, 0.3f, 9, gy, true, g[0]);
}

FORWARD(exp)
{
    run->backend->exp(run->job, N, x[0], out);
}

BACKWARD(exp)
{
    run->backend->exp_backward(run->job, N, x[0], out, gy, true, g[0]);
}

FORWARD(layer_norm)
{
    run->backend->layer_norm(run->job, ROWS, COLS, x[0], x[1], x[2], out, scratch(run, ROWS), scratch(run, ROWS));
}

BACKWARD(layer_norm)
{
    float *y = scratch(run, N), *mean = scratch(run, ROWS), *deviation = scratch(run, ROWS);
    run->backend->layer_norm(run->job, ROWS, COLS, x[0], x[1], x[2], y, mean, deviation);
    run->backend->layer_norm_backward(run->job, ROWS, COLS, x[0], x[1], mean, deviation, gy, true, g[0], g[1], g[2]);
}

#define RATE 0.25f

FORWARD(layer_norm_relu)
{
    run->backend->layer_norm_relu(run->job, ROWS, COLS, x[0], x[1], x[2], RATE, 5, out, scratch(run, ROWS),
                                  scratch(run, ROWS));
}

BACKWARD(layer_norm_relu)
{
    float *y = scratch(run, N), *mean = scratch(run, ROWS), *deviation = scratch(run, ROWS);
    run->backend->layer_norm_relu(run->job, ROWS, COLS, x[0], x[1], x[2], RATE, 5, y, mean, deviation);
    run->backend->layer_norm_relu_backward(run->job, ROWS, COLS, x[0], x[1], mean, deviation, y,
                                           moe_dropout_factor(RATE), gy, true, g[0], g[1], g[2]);
}

FORWARD(softmax)
{
    run->backend->softmax(run->job, ROWS, COLS, x[0], out);
}

BACKWARD(softmax)
{
    run->backend->softmax_backward(run->job, ROWS, COLS, out, gy, true, g[0]);
}

FORWARD(entmax)
{
    run->backend->entmax(run->job, ROWS, COLS, x[0], out);
}

BACKWARD(entmax)
{
    run->backend->entmax_backward(run->job, ROWS, COLS, out, gy, true, g[0]);
}

FORWARD(gather)
{
    run->backend->gather(run->job, ENTRIES, COLS, ops_input(run, OPS_INDEX, ENTRIES, columns), x[0], false, out);
}

/* A gather is the product by a matrix of one entry a row. */
BACKWARD(gather)
{
    moe_sparse s = {.rows = ENTRIES, .entries = ENTRIES, .index = ops_input(run, OPS_INDEX, ENTRIES, columns)};
    moe_sparse t = transposed(run, &s, 1, NULL);
    run->backend->aggregate(run->job, &t, COLS, gy, true, g[0]);
}

/* By the dense matrix and by the entries' weights. */
FORWARD(aggregate)
{
    moe_sparse s = matrix(run, x[1], MOE_SUM);
    run->backend->aggregate(run->job, &s, COLS, x[0], false, out);
}

BACKWARD(aggregate)
{
    moe_sparse s = matrix(run, x[1], MOE_SUM), t = transposed(run, &s, 1, NULL);
    run->backend->aggregate(run->job, &t, COLS, gy, true, g[0]);
    run->backend->edge_dot(run->job, &s, COLS, gy, x[0], true, g[1]);
}

FORWARD(aggregate_types)
{
    moe_sparse s[2] = {matrix(run, NULL, MOE_MEAN), matrix(run, x[2], MOE_MEAN)};
    run->backend->aggregate_types(run->job, 2, s, (const float *[]){x[0], x[1]}, COLS, false, out);
}

BACKWARD(aggregate_types)
{
    moe_sparse s[2] = {matrix(run, NULL, MOE_MEAN), matrix(run, x[2], MOE_MEAN)};
    for (int t = 0; t < 2; t++)
    {
        moe_sparse back = transposed(run, &s[t], 1, NULL);
        run->backend->aggregate(run->job, &back, COLS, gy, true, g[t]);
    }
    /* A mean divides what a weight does by the entries of its row. */
    float share[ROWS];
    for (int i = 0; i < ROWS; i++)
        share[i] = 1 / fmaxf(1, (float) (offsets[i + 1] - offsets[i]));
    float *divided = scratch(run, N);
    run->backend->multiply_column(run->job, ROWS, COLS, gy, ops_input(run, OPS_FLOAT, ROWS, share), false, divided);
    run->backend->edge_dot(run->job, &s[1], COLS, divided, x[1], true, g[2]);
}

/* The weights are numbers, too, but those of a maximum are not derived by. */
static moe_sparse
weighted_matrix(ops_run *run)
{
    static const float weight[ENTRIES] = {1, 2, 0.5f, -1, 3, 1, 1.5f, 1};
    return matrix(run, ops_input(run, OPS_FLOAT, ENTRIES, weight), MOE_SUM);
}

FORWARD(aggregate_max)
{
    moe_sparse s = weighted_matrix(run);
    run->backend->aggregate_max(run->job, &s, COLS, x[0], out, ops_other_output(run, "argmax", OPS_INDEX, N));
}

BACKWARD(aggregate_max)
{
    const int32_t *entry;
    moe_sparse s = weighted_matrix(run), t = transposed(run, &s, 1, &entry);
    int32_t *argmax = ops_other_output(run, "argmax", OPS_INDEX, N);
    run->backend->aggregate_max(run->job, &s, COLS, x[0], scratch(run, N), argmax);
    run->backend->aggregate_max_backward(run->job, &t, entry, COLS, argmax, gy, true, g[0]);
}

FORWARD(edge_dot)
{
    moe_sparse s = matrix(run, NULL, MOE_SUM);
    run->backend->edge_dot(run->job, &s, COLS, x[0], x[1], false, out);
}

BACKWARD(edge_dot)
{
    moe_sparse s = matrix(run, gy, MOE_SUM), t = transposed(run, &s, 1, NULL);
    run->backend->aggregate(run->job, &s, COLS, x[1], true, g[0]);
    run->backend->aggregate(run->job, &t, COLS, x[0], true, g[1]);
}

FORWARD(segment_softmax)
{
    run->backend->segment_softmax(run->job, ROWS, ops_input(run, OPS_COUNT, ROWS + 1, offsets), COLS, x[0], out);
}

BACKWARD(segment_softmax)
{
    run->backend->segment_softmax_backward(run->job, ROWS, ops_input(run, OPS_COUNT, ROWS + 1, offsets), COLS, out, gy,
                                           true, g[0]);
}

enum
{
    PARTS = 2
};

static moe_sparse
parted_matrix(ops_run *run)
{
    return matrix(run, ops_floats(run, ENTRIES * PARTS, 3), MOE_SUM);
}

FORWARD(aggregate_parts)
{
    moe_sparse s = parted_matrix(run);
    run->backend->aggregate_parts(run->job, &s, PARTS, COLS, x[0], out);
}

BACKWARD(aggregate_parts)
{
    moe_sparse s = parted_matrix(run), t = transposed(run, &s, PARTS, NULL);
    run->backend->aggregate(run->job, &t, COLS, gy, true, g[0]);
}

FORWARD(sum_rows)
{
    const int32_t *index[2] = {NULL, ops_input(run, OPS_INDEX, ROWS, columns)};
    run->backend->sum_rows(run->job, ROWS, COLS, 2, (const float *[]){x[0], x[1]}, index, out);
}

BACKWARD(sum_rows)
{
    moe_sparse s = {.rows = ROWS, .entries = ROWS, .index = ops_input(run, OPS_INDEX, ROWS, columns)};
    moe_sparse t = transposed(run, &s, 1, NULL);
    run->backend->scale(run->job, N, 1, gy, true, g[0]);
    run->backend->aggregate(run->job, &t, COLS, gy, true, g[1]);
}

static const float decay[ENTRIES] = {9, 0.5f, 0.25f, 9, 9, 0.75f, 9, 0.125f};
static const int32_t window_last[ROWS] = {2, 3, -1, 5, 7}, window_before[ROWS] = {0, -1, -1, 4, 6};
static const float window_factor[ROWS] = {1, 2, 3, 0.5f, -1}, window_fade[ROWS] = {0.5f, 1, 1, 0.75f, 0.25f};

/* A window over running sums, the whole way from rows to windows. */
static void
windows(ops_run *run, const double *sum, float *out)
{
    run->backend->window_sum(run->job, ROWS, COLS, ops_input(run, OPS_INDEX, ROWS, window_last),
                             ops_input(run, OPS_INDEX, ROWS, window_before),
                             ops_input(run, OPS_FLOAT, ROWS, window_factor),
                             ops_input(run, OPS_FLOAT, ROWS, window_fade), sum, out);
}

FORWARD(prefix_sum)
{
    double *sum = ops_other_output(run, "sum", OPS_DOUBLE, ENTRIES * COLS);
    run->backend->prefix_sum(run->job, ROWS, ops_input(run, OPS_COUNT, ROWS + 1, offsets), COLS,
                             ops_input(run, OPS_FLOAT, ENTRIES, decay), x[0], sum);
    windows(run, sum, out);
}

BACKWARD(prefix_sum)
{
    double *sum = ops_other_output(run, "g", OPS_DOUBLE, ENTRIES * COLS);
    run->backend->window_sum_backward(run->job, ROWS, COLS, ENTRIES, ops_input(run, OPS_INDEX, ROWS, window_last),
                                      ops_input(run, OPS_INDEX, ROWS, window_before),
                                      ops_input(run, OPS_FLOAT, ROWS, window_factor),
                                      ops_input(run, OPS_FLOAT, ROWS, window_fade), gy, sum);
    run->backend->prefix_sum_backward(run->job, ROWS, ops_input(run, OPS_COUNT, ROWS + 1, offsets), COLS,
                                      ops_input(run, OPS_FLOAT, ENTRIES, decay), sum, true, g[0]);
}

FORWARD(top_k_gate)
{
    run->backend->top_k_gate(run->job, ROWS, COLS, 2, 0, 5, x[0], out);
}

BACKWARD(top_k_gate)
{
    run->backend->softmax_backward(run->job, ROWS, COLS, out, gy, true, g[0]);
}

static const int32_t picked[ROWS * 2] = {0, 3, 1, 2, 0, 1, 2, 3, 1, 3};

FORWARD(pick)
{
    run->backend->pick(run->job, ROWS, COLS, 2, ops_input(run, OPS_INDEX, ROWS * 2, picked), x[0], out);
}

BACKWARD(pick)
{
    run->backend->pick_backward(run->job, ROWS, COLS, 2, ops_input(run, OPS_INDEX, ROWS * 2, picked), gy, true, g[0]);
}

/* Three groups over ENTRIES places, the second empty; places take rows of x, some twice. */
enum
{
    GROUPS = 3
};
static const int64_t group_offset[GROUPS + 1] = {0, 3, 3, ENTRIES};
static const int32_t group_row[ENTRIES] = {1, 4, 1, 0, 3, 2, 3, 4};

FORWARD(grouped_linear)
{
    run->backend->grouped_linear(run->job, GROUPS, ENTRIES, COLS, WIDTH,
                                 ops_input(run, OPS_COUNT, GROUPS + 1, group_offset),
                                 ops_input(run, OPS_INDEX, ENTRIES, group_row), x[0], x[1], x[2], out);
}

BACKWARD(grouped_linear)
{
    const int64_t *offset = ops_input(run, OPS_COUNT, GROUPS + 1, group_offset);
    const int32_t *row = ops_input(run, OPS_INDEX, ENTRIES, group_row);
    float *gathered = scratch(run, ENTRIES * COLS);
    run->backend->grouped_linear_input(run->job, GROUPS, ENTRIES, COLS, WIDTH, offset, gy, x[1], false, gathered);
    moe_sparse s = {.rows = ENTRIES, .entries = ENTRIES, .index = row};
    moe_sparse t = transposed(run, &s, 1, NULL);
    run->backend->aggregate(run->job, &t, COLS, gathered, true, g[0]);
    run->backend->grouped_linear_weight(run->job, GROUPS, ENTRIES, COLS, WIDTH, offset, row, x[0], gy, g[1], g[2]);
}

/* A loss gives its gradient with its value. */
static float *
value_only(ops_run *run)
{
    return scratch(run, 1);
}

static const float fixed_gates[N] = {1, 0, 0, 0, 0, 0.7f, 0.3f, 0, 1, 0, 0, 0, 0, 0.2f, 0, 0.8f, 0, 1, 0, 0};

FORWARD(balance_loss)
{
    run->backend->balance_loss(run->job, ROWS, COLS, x[0], ops_input(run, OPS_FLOAT, N, fixed_gates), out,
                               scratch(run, N));
}

BACKWARD(balance_loss)
{
    run->backend->balance_loss(run->job, ROWS, COLS, x[0], ops_input(run, OPS_FLOAT, N, fixed_gates), value_only(run),
                               g[0]);
}

FORWARD(z_loss)
{
    run->backend->z_loss(run->job, ROWS, COLS, x[0], out, scratch(run, N));
}

BACKWARD(z_loss)
{
    run->backend->z_loss(run->job, ROWS, COLS, x[0], value_only(run), g[0]);
}

static const float label_weight[ROWS] = {1, 0.5f, 2, 0, 3};

static void
loss_of(ops_run *run, moe_loss_kind kind, const float *x, float *value, float *gradient)
{
    static const float binary[ROWS] = {1, 0, 0, 1, 1}, number[ROWS] = {9, -9, 0, 5, -3};
    run->backend->loss(run->job, kind, ROWS, x,
                       ops_input(run, OPS_FLOAT, ROWS, kind == MOE_LOSS_LOGISTIC ? binary : number),
                       ops_input(run, OPS_FLOAT, ROWS, label_weight), value, gradient);
}

FORWARD(logistic)
{
    loss_of(run, MOE_LOSS_LOGISTIC, x[0], out, scratch(run, ROWS));
}

BACKWARD(logistic)
{
    loss_of(run, MOE_LOSS_LOGISTIC, x[0], value_only(run), g[0]);
}

FORWARD(absolute)
{
    loss_of(run, MOE_LOSS_ABSOLUTE, x[0], out, scratch(run, ROWS));
}

BACKWARD(absolute)
{
    loss_of(run, MOE_LOSS_ABSOLUTE, x[0], value_only(run), g[0]);
}

FORWARD(squared)
{
    loss_of(run, MOE_LOSS_SQUARED, x[0], out, scratch(run, ROWS));
}

BACKWARD(squared)
{
    loss_of(run, MOE_LOSS_SQUARED, x[0], value_only(run), g[0]);
}

static void
entropy_of(ops_run *run, const float *x, float *value, float *gradient)
{
    static const int32_t class[ROWS] = {0, 3, 1, 1, 2};
    run->backend->cross_entropy(run->job, ROWS, COLS, x, ops_input(run, OPS_INDEX, ROWS, class),
                                ops_input(run, OPS_FLOAT, ROWS, label_weight), value, gradient);
}

FORWARD(cross_entropy)
{
    entropy_of(run, x[0], out, scratch(run, N));
}

BACKWARD(cross_entropy)
{
    entropy_of(run, x[0], value_only(run), g[0]);
}

#define PAIR(id, out_n, ...)                                                                                           \
    {                                                                                                                  \
        .name = #id, .forward = forward_##id, .backward = backward_##id, .outputs = out_n, __VA_ARGS__                 \
    }

const ops_pair ops_pairs[] = {
    PAIR(linear, ROWS *WIDTH, .inputs = 3, .size = {N, COLS *WIDTH, WIDTH}),
    PAIR(scale_by, N, .inputs = 2, .size = {N, 1}),
    PAIR(multiply, N, .inputs = 2, .size = {N, N}),
    PAIR(add_row, N, .inputs = 2, .size = {N, COLS}),
    PAIR(multiply_column, N, .inputs = 2, .size = {N, ROWS}),
    PAIR(multiply_row, N, .inputs = 2, .size = {N, COLS}),
    PAIR(row_dot, ROWS, .inputs = 2, .size = {N, N}),
    PAIR(relu, N, .inputs = 1, .size = {N}),
    PAIR(relu_dropout, N, .inputs = 1, .size = {N}),
    PAIR(dropout, N, .inputs = 1, .size = {N}),
    PAIR(exp, N, .inputs = 1, .size = {N}),
    PAIR(layer_norm, N, .inputs = 3, .size = {N, COLS, COLS}),
    PAIR(layer_norm_relu, N, .inputs = 3, .size = {N, COLS, COLS}),
    PAIR(softmax, N, .inputs = 1, .size = {N}),
    PAIR(entmax, N, .inputs = 1, .size = {N}),
    PAIR(gather, ENTRIES *COLS, .inputs = 1, .size = {N}),
    PAIR(aggregate, N, .inputs = 2, .size = {N, ENTRIES}),
    PAIR(aggregate_types, N, .inputs = 3, .size = {N, N, ENTRIES}),
    PAIR(aggregate_max, N, .inputs = 1, .size = {N}, .grid = true),
    PAIR(edge_dot, ENTRIES, .inputs = 2, .size = {N, N}),
    PAIR(segment_softmax, ENTRIES *COLS, .inputs = 1, .size = {ENTRIES * COLS}),
    PAIR(aggregate_parts, N *PARTS, .inputs = 1, .size = {N}),
    PAIR(sum_rows, N, .inputs = 2, .size = {N, N}),
    PAIR(prefix_sum, N, .inputs = 1, .size = {ENTRIES * COLS}),
    PAIR(top_k_gate, N, .inputs = 1, .size = {N}, .grid = true),
    PAIR(pick, ROWS * 2, .inputs = 1, .size = {N}),
    PAIR(grouped_linear, ENTRIES *WIDTH, .inputs = 3, .size = {N, GROUPS *COLS *WIDTH, GROUPS *WIDTH}),
    PAIR(balance_loss, 1, .inputs = 1, .size = {N}),
    PAIR(z_loss, 1, .inputs = 1, .size = {N}),
    PAIR(logistic, 1, .inputs = 1, .size = {ROWS}),
    PAIR(absolute, 1, .inputs = 1, .size = {ROWS}),
    PAIR(squared, 1, .inputs = 1, .size = {ROWS}),
    PAIR(cross_entropy, 1, .inputs = 1, .size = {N}),
};
const int ops_pair_count = sizeof(ops_pairs) / sizeof(*ops_pairs);
