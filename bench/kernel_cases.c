/*
 * kernel_cases.c: one case for each operation of kernels/ops.h: its arrays, its call, what it must move and do.
 *
 * `moves` counts bytes: each input read once and each output written once, but
 * a row named by an index each time it is named. `does` counts additions and
 * multiplications, where they are what an operation is about.
 */
#include <math.h>
#include <string.h>

#include "bench/kernels.h"
#include "kernels/blas.h"
#include "kernels/random.h"

#define PARTS   4
#define CHOICES 2 /* experts of a row */
#define F       ((double) sizeof(float))

static void *
place(bench *b, int slot, int64_t n, size_t size, const void *host)
{
    if (!b->first)
        return b->slot[slot];
    b->slot[slot] = moe_device_alloc(b->job, n, size);
    bench_check(b);
    if (host != NULL)
        moe_upload(b->job, b->slot[slot], host, (size_t) n * size);
    return b->slot[slot];
}

static void *
host_array(bench *b, int64_t n, size_t size)
{
    void *array = moe_alloc(b->job, n, size);
    bench_check(b);
    return array;
}

/* n numbers in [0.1, 1.1), made once. */
static float *
floats(bench *b, int slot, int64_t n)
{
    if (!b->first)
        return b->slot[slot];
    float *host = host_array(b, n, sizeof *host);
    for (int64_t i = 0; i < n; i++)
        host[i] = 0.1f + (float) (moe_random_bits((uint64_t) slot, (uint64_t) i) >> 40) * 0x1p-24f;
    place(b, slot, n, sizeof *host, host);
    moe_free(b->job, host);
    return b->slot[slot];
}

/* The same in [-1, 1). */
static float *
signed_floats(bench *b, int slot, int64_t n)
{
    if (!b->first)
        return b->slot[slot];
    float *host = host_array(b, n, sizeof *host);
    for (int64_t i = 0; i < n; i++)
        host[i] = (float) (moe_random_bits((uint64_t) slot, (uint64_t) i) >> 40) * 0x1p-23f - 1;
    place(b, slot, n, sizeof *host, host);
    moe_free(b->job, host);
    return b->slot[slot];
}

static float *
output(bench *b, int slot, int64_t n)
{
    return place(b, slot, n, sizeof(float), NULL);
}

static double *
doubles(bench *b, int slot, int64_t n)
{
    return place(b, slot, n, sizeof(double), NULL);
}

/* n draws from [0, limit). */
static int32_t *
indices(bench *b, int slot, int64_t n, int64_t limit)
{
    if (!b->first)
        return b->slot[slot];
    int32_t *host = host_array(b, n, sizeof *host);
    for (int64_t i = 0; i < n; i++)
        host[i] = (int32_t) (moe_random_uniform((uint64_t) slot, (uint64_t) i) * (double) limit);
    place(b, slot, n, sizeof *host, host);
    moe_free(b->job, host);
    return b->slot[slot];
}

/* Offsets of lists whose lengths are drawn from [0, 2 * mean], and that hold `rows * mean` entries together. */
static int64_t *
offsets(bench *b, int slot, int64_t rows, int64_t mean)
{
    if (!b->first)
        return b->slot[slot];
    int64_t *host = host_array(b, rows + 1, sizeof *host);
    for (int64_t i = 0; i < rows; i++)
    {
        int64_t length = (int64_t) (moe_random_uniform((uint64_t) slot, (uint64_t) i) * (double) (2 * mean + 1));
        int64_t rest = rows * mean - host[i];
        host[i + 1] = host[i] + (length < rest ? length : rest);
    }
    host[rows] = rows * mean;
    place(b, slot, rows + 1, sizeof *host, host);
    moe_free(b->job, host);
    return b->slot[slot];
}

static void
moves(bench *b, double bytes)
{
    b->bytes = bytes;
}

static void
does(bench *b, double operations)
{
    b->operations = operations;
}

/* What every case starts with: the matrix's shape. */
#define SHAPE                                                                                                          \
    int64_t rows = b->size.rows, cols = b->size.cols, n = rows * cols;                                                 \
    const moe_backend *op = b->backend;                                                                                \
    moe_job *job = b->job;                                                                                             \
    (void) n

/* Dense products: [rows, cols] times [cols, other]. */

static void
count_product(bench *b)
{
    double n = (double) b->size.rows, k = (double) b->size.cols, m = (double) b->size.other;
    moves(b, F * (n * k + k * m + n * m));
    does(b, 2 * n * k * m);
}

static void
linear(bench *b)
{
    SHAPE;
    int64_t m = b->size.other;
    op->linear(job, rows, cols, m, floats(b, 0, n), floats(b, 1, cols * m), floats(b, 2, m), output(b, 3, rows * m));
    count_product(b);
}

static void
linear_input(bench *b)
{
    SHAPE;
    int64_t m = b->size.other;
    op->linear_input(job, rows, cols, m, floats(b, 0, rows * m), floats(b, 1, cols * m), false, output(b, 2, n));
    count_product(b);
}

static void
linear_weight(bench *b)
{
    SHAPE;
    int64_t m = b->size.other;
    op->linear_weight(job, rows, cols, m, signed_floats(b, 0, n), signed_floats(b, 1, rows * m),
                      output(b, 2, cols * m));
    count_product(b);
}

/* The library's product of the same size; a device's backend has no other. */
static void
dense_product(bench *b)
{
    SHAPE;
    int64_t m = b->size.other;
    float *x = floats(b, 0, n), *w = floats(b, 1, cols * m), *out = output(b, 2, rows * m);
    if (moe_job_device(job) != NULL)
        op->linear(job, rows, cols, m, x, w, NULL, out);
    else
        moe_gemm(job, false, false, rows, m, cols, x, cols, w, m, 0, out, m);
    count_product(b);
}

static void
dense_weight_product(bench *b)
{
    SHAPE;
    int64_t m = b->size.other;
    float *x = floats(b, 0, n), *gy = floats(b, 1, rows * m), *out = output(b, 2, cols * m);
    if (moe_job_device(job) != NULL)
        op->linear_weight(job, rows, cols, m, x, gy, out);
    else
        moe_gemm(job, true, false, cols, m, rows, x, cols, gy, m, 1, out, m);
    count_product(b);
}

/* Elementwise, and rows with columns. */

static void
sum(bench *b)
{
    SHAPE;
    const float *terms[] = {floats(b, 0, n), floats(b, 1, n), floats(b, 2, n)};
    op->sum(job, n, terms, 3, output(b, 3, n));
    moves(b, 4 * F * (double) n);
}

static void
scale(bench *b)
{
    SHAPE;
    op->scale(job, n, 1.5f, floats(b, 0, n), false, output(b, 1, n));
    moves(b, 2 * F * (double) n);
}

static void
scale_by(bench *b)
{
    SHAPE;
    op->scale_by(job, n, floats(b, 2, 1), floats(b, 0, n), false, output(b, 1, n));
    moves(b, 2 * F * (double) n);
}

static void
multiply(bench *b)
{
    SHAPE;
    op->multiply(job, n, floats(b, 0, n), floats(b, 1, n), false, output(b, 2, n));
    moves(b, 3 * F * (double) n);
}

static void
add_row(bench *b)
{
    SHAPE;
    op->add_row(job, rows, cols, floats(b, 0, n), floats(b, 1, cols), output(b, 2, n));
    moves(b, 2 * F * (double) n);
}

static void
column_sum(bench *b)
{
    SHAPE;
    op->column_sum(job, rows, cols, floats(b, 0, n), output(b, 1, cols));
    moves(b, F * (double) n);
}

static void
multiply_column(bench *b)
{
    SHAPE;
    op->multiply_column(job, rows, cols, floats(b, 0, n), floats(b, 1, rows), false, output(b, 2, n));
    moves(b, F * (double) (2 * n + rows));
}

static void
multiply_row(bench *b)
{
    SHAPE;
    op->multiply_row(job, rows, cols, floats(b, 0, n), floats(b, 1, cols), false, output(b, 2, n));
    moves(b, 2 * F * (double) n);
}

static void
row_dot(bench *b)
{
    SHAPE;
    op->row_dot(job, rows, cols, floats(b, 0, n), floats(b, 1, n), false, output(b, 2, rows));
    moves(b, F * (double) (2 * n + rows));
}

/* Into every second block of a matrix twice as wide. */
static void
copy_block(bench *b)
{
    SHAPE;
    op->copy_block(job, rows, cols, floats(b, 0, n), cols, false, output(b, 1, 2 * n), 2 * cols);
    moves(b, 2 * F * (double) n);
}

static void
relu(bench *b)
{
    SHAPE;
    op->relu(job, n, signed_floats(b, 0, n), output(b, 1, n));
    moves(b, 2 * F * (double) n);
}

static void
relu_backward(bench *b)
{
    SHAPE;
    op->relu_backward(job, n, 1, signed_floats(b, 0, n), floats(b, 1, n), false, output(b, 2, n));
    moves(b, 3 * F * (double) n);
}

static void
dropout(bench *b)
{
    SHAPE;
    op->dropout(job, n, 0.2f, 7, floats(b, 0, n), false, output(b, 1, n));
    moves(b, 2 * F * (double) n);
}

static void
relu_dropout(bench *b)
{
    SHAPE;
    op->relu_dropout(job, n, 0.2f, 7, signed_floats(b, 0, n), output(b, 1, n));
    moves(b, 2 * F * (double) n);
}

static void
exponential(bench *b)
{
    SHAPE;
    op->exp(job, n, signed_floats(b, 0, n), output(b, 1, n));
    moves(b, 2 * F * (double) n);
}

static void
exp_backward(bench *b)
{
    SHAPE;
    op->exp_backward(job, n, signed_floats(b, 0, n), floats(b, 1, n), floats(b, 2, n), false, output(b, 3, n));
    moves(b, 4 * F * (double) n);
}

/* Rows. */

static void
layer_norm(bench *b)
{
    SHAPE;
    op->layer_norm(job, rows, cols, floats(b, 0, n), floats(b, 1, cols), floats(b, 2, cols), output(b, 3, n),
                   output(b, 4, rows), output(b, 5, rows));
    moves(b, F * (double) (2 * n + 2 * rows));
}

static void
layer_norm_backward(bench *b)
{
    SHAPE;
    op->layer_norm_backward(job, rows, cols, floats(b, 0, n), floats(b, 1, cols), floats(b, 2, rows),
                            floats(b, 3, rows), floats(b, 4, n), false, output(b, 5, n), output(b, 6, cols),
                            output(b, 7, cols));
    moves(b, F * (double) (3 * n + 2 * rows));
}

static void
layer_norm_relu(bench *b)
{
    SHAPE;
    op->layer_norm_relu(job, rows, cols, floats(b, 0, n), floats(b, 1, cols), signed_floats(b, 2, cols), 0.2f, 7,
                        output(b, 3, n), output(b, 4, rows), output(b, 5, rows));
    moves(b, F * (double) (2 * n + 2 * rows));
}

static void
layer_norm_relu_backward(bench *b)
{
    SHAPE;
    op->layer_norm_relu_backward(job, rows, cols, floats(b, 0, n), floats(b, 1, cols), floats(b, 2, rows),
                                 floats(b, 3, rows), signed_floats(b, 8, n), 1.25f, floats(b, 4, n), false,
                                 output(b, 5, n), output(b, 6, cols), output(b, 7, cols));
    moves(b, F * (double) (4 * n + 2 * rows));
}

static void
softmax(bench *b)
{
    SHAPE;
    op->softmax(job, rows, cols, floats(b, 0, n), output(b, 1, n));
    moves(b, 2 * F * (double) n);
}

static void
softmax_backward(bench *b)
{
    SHAPE;
    op->softmax_backward(job, rows, cols, floats(b, 0, n), floats(b, 1, n), false, output(b, 2, n));
    moves(b, 3 * F * (double) n);
}

static void
entmax(bench *b)
{
    SHAPE;
    op->entmax(job, rows, cols, signed_floats(b, 0, n), output(b, 1, n));
    moves(b, 2 * F * (double) n);
}

static void
entmax_backward(bench *b)
{
    SHAPE;
    op->entmax_backward(job, rows, cols, floats(b, 0, n), floats(b, 1, n), false, output(b, 2, n));
    moves(b, 3 * F * (double) n);
}

/*
 * Sparse: `rows` lists of `other` entries on average (between none and twice as many) that name rows of a matrix
 * four times as tall as there are lists.
 */
#define SOURCES (4 * rows)

static moe_sparse
lists(bench *b, int slot)
{
    int64_t rows = b->size.rows, entries = rows * b->size.other;
    return (moe_sparse){.rows = rows,
                        .entries = entries,
                        .offset = offsets(b, slot, rows, b->size.other),
                        .index = indices(b, slot + 1, entries, SOURCES)};
}

/* Bytes of one pass over the lists: offsets, indices and the rows they name. */
static double
list_bytes(const moe_sparse *s, int64_t cols)
{
    return 8 * (double) s->rows + (double) s->entries * (4 + F * (double) cols);
}

static void
gather(bench *b)
{
    SHAPE;
    op->gather(job, rows, cols, indices(b, 0, rows, rows), floats(b, 1, n), false, output(b, 2, n));
    moves(b, F * (double) (2 * n + rows));
}

static void
aggregate(bench *b)
{
    SHAPE;
    moe_sparse s = lists(b, 0);
    op->aggregate(job, &s, cols, floats(b, 2, SOURCES * cols), false, output(b, 3, n));
    moves(b, list_bytes(&s, cols) + F * (double) n);
    does(b, (double) (s.entries * cols));
}

static void
aggregate_weighted(bench *b)
{
    SHAPE;
    moe_sparse s = lists(b, 0);
    s.weight = floats(b, 4, s.entries);
    op->aggregate(job, &s, cols, floats(b, 2, SOURCES * cols), false, output(b, 3, n));
    moves(b, list_bytes(&s, cols) + F * (double) (n + s.entries));
    does(b, 2.0 * (double) (s.entries * cols));
}

static void
aggregate_types(bench *b)
{
    SHAPE;
    moe_sparse s[] = {lists(b, 0), lists(b, 2)};
    const float *x[] = {floats(b, 4, SOURCES * cols), floats(b, 5, SOURCES * cols)};
    op->aggregate_types(job, 2, s, x, cols, false, output(b, 6, n));
    moves(b, 2 * list_bytes(&s[0], cols) + F * (double) n);
    does(b, 2.0 * (double) (s[0].entries * cols));
}

static void
aggregate_max(bench *b)
{
    SHAPE;
    moe_sparse s = lists(b, 0);
    op->aggregate_max(job, &s, cols, signed_floats(b, 2, SOURCES * cols), output(b, 3, n),
                      place(b, 4, n, sizeof(int32_t), NULL));
    moves(b, list_bytes(&s, cols) + 2 * F * (double) n);
}

/* From the transpose of what aggregate_max was given; moved: both matrices once for every entry of their row. */
static void
aggregate_max_backward(bench *b)
{
    SHAPE;
    moe_sparse s = lists(b, 0);
    int32_t *argmax = place(b, 4, n, sizeof(int32_t), NULL);
    int64_t *offset = place(b, 5, SOURCES + 1, sizeof(int64_t), NULL);
    int32_t *index = place(b, 6, s.entries, sizeof(int32_t), NULL);
    int32_t *entry = place(b, 7, s.entries, sizeof(int32_t), NULL);
    if (b->first)
    {
        op->aggregate_max(job, &s, cols, signed_floats(b, 2, SOURCES * cols), output(b, 3, n), argmax);
        op->transpose(job, &s, 1, SOURCES, offset, index, NULL, entry);
    }
    moe_sparse t = {.rows = SOURCES, .entries = s.entries, .offset = offset, .index = index};
    op->aggregate_max_backward(job, &t, entry, cols, argmax, b->slot[3], false, output(b, 8, SOURCES * cols));
    moves(b, 8 * (double) SOURCES + (double) s.entries * (8 + 2 * F * (double) cols) + F * (double) (SOURCES * cols));
}

static void
edge_dot(bench *b)
{
    SHAPE;
    moe_sparse s = lists(b, 0);
    op->edge_dot(job, &s, cols, floats(b, 2, n), floats(b, 3, SOURCES * cols), false, output(b, 4, s.entries));
    moves(b, list_bytes(&s, cols) + F * (double) (n + s.entries));
    does(b, 2.0 * (double) (s.entries * cols));
}

static void
aggregate_parts(bench *b)
{
    SHAPE;
    moe_sparse s = lists(b, 0);
    s.weight = floats(b, 4, PARTS * s.entries);
    op->aggregate_parts(job, &s, PARTS, cols, floats(b, 2, SOURCES * cols), output(b, 3, PARTS * n));
    moves(b, list_bytes(&s, cols) + PARTS * F * (double) (n + s.entries));
    does(b, 2.0 * PARTS * (double) (s.entries * cols));
}

static void
sum_rows(bench *b)
{
    SHAPE;
    const float *x[] = {floats(b, 0, n), floats(b, 1, n), floats(b, 2, n)};
    const int32_t *index[] = {NULL, indices(b, 3, rows, rows), indices(b, 4, rows, rows)};
    op->sum_rows(job, rows, cols, 3, x, index, output(b, 5, n));
    moves(b, F * (double) (4 * n + 2 * rows));
}

static void
transpose(bench *b)
{
    SHAPE;
    moe_sparse s = lists(b, 0);
    s.weight = floats(b, 2, s.entries);
    op->transpose(job, &s, 1, SOURCES, place(b, 3, SOURCES + 1, sizeof(int64_t), NULL),
                  place(b, 4, s.entries, sizeof(int32_t), NULL), output(b, 5, s.entries),
                  place(b, 6, s.entries, sizeof(int32_t), NULL));
    moves(b, 8.0 * (double) (rows + SOURCES) + 20.0 * (double) s.entries);
    (void) cols;
}

/* Segments and lists in the order of time: `other` of the rows each, on average. */

static int64_t *
segments(bench *b, int slot)
{
    return offsets(b, slot, b->size.rows / b->size.other, b->size.other);
}

static void
segment_softmax(bench *b)
{
    SHAPE;
    op->segment_softmax(job, rows / b->size.other, segments(b, 0), cols, floats(b, 1, n), output(b, 2, n));
    moves(b, 2 * F * (double) n);
}

static void
segment_softmax_backward(bench *b)
{
    SHAPE;
    op->segment_softmax_backward(job, rows / b->size.other, segments(b, 0), cols, floats(b, 1, n), floats(b, 2, n),
                                 false, output(b, 3, n));
    moves(b, 3 * F * (double) n);
}

static void
prefix_sum(bench *b)
{
    SHAPE;
    op->prefix_sum(job, rows / b->size.other, segments(b, 0), cols, floats(b, 1, rows), floats(b, 2, n),
                   doubles(b, 3, n));
    moves(b, F * (double) (3 * n + rows));
}

static void
prefix_sum_backward(bench *b)
{
    SHAPE;
    op->prefix_sum_backward(job, rows / b->size.other, segments(b, 0), cols, floats(b, 1, rows), doubles(b, 2, n),
                            false, output(b, 3, n));
    moves(b, F * (double) (3 * n + rows));
}

static void
window_sum(bench *b)
{
    SHAPE;
    op->window_sum(job, rows, cols, indices(b, 0, rows, rows), indices(b, 1, rows, rows), floats(b, 2, rows),
                   floats(b, 3, rows), doubles(b, 4, n), output(b, 5, n));
    moves(b, F * (double) (5 * n + 4 * rows));
}

static void
window_sum_backward(bench *b)
{
    SHAPE;
    op->window_sum_backward(job, rows, cols, rows, indices(b, 0, rows, rows), indices(b, 1, rows, rows),
                            floats(b, 2, rows), floats(b, 3, rows), floats(b, 4, n), doubles(b, 5, n));
    moves(b, F * (double) (2 * n + 2 * n + 4 * rows));
}

/* The mixture: rows by experts; products of [rows, cols] with one [cols, other] an expert. */
#define EXPERTS 8

static void
top_k_gate(bench *b)
{
    SHAPE;
    op->top_k_gate(job, rows, cols, CHOICES, 0.5f, 7, signed_floats(b, 0, n), output(b, 1, n));
    moves(b, 2 * F * (double) n);
}

static void
top_k(bench *b)
{
    SHAPE;
    op->top_k(job, rows, cols, CHOICES, signed_floats(b, 0, n), place(b, 1, rows * CHOICES, sizeof(int32_t), NULL));
    moves(b, F * (double) (n + CHOICES * rows));
}

/* Which experts the rows choose, made once. */
static int32_t *
chosen(bench *b, int slot, int64_t experts)
{
    int64_t rows = b->size.rows;
    int32_t *array = place(b, slot, rows * CHOICES, sizeof(int32_t), NULL);
    if (b->first)
    {
        float *logits = signed_floats(b, slot + 1, rows * experts);
        b->backend->top_k(b->job, rows, experts, CHOICES, logits, array);
    }
    return array;
}

static void
pick(bench *b)
{
    SHAPE;
    op->pick(job, rows, cols, CHOICES, chosen(b, 0, cols), floats(b, 2, n), output(b, 3, rows * CHOICES));
    moves(b, 3 * F * (double) (CHOICES * rows));
}

static void
pick_backward(bench *b)
{
    SHAPE;
    op->pick_backward(job, rows, cols, CHOICES, chosen(b, 0, cols), floats(b, 2, rows * CHOICES), false,
                      output(b, 3, n));
    moves(b, F * (double) (2 * CHOICES * rows + n));
}

static void
group(bench *b)
{
    SHAPE;
    int64_t choices = rows * CHOICES;
    op->group(job, rows, CHOICES, (int) cols, chosen(b, 0, cols), place(b, 2, cols + 1, sizeof(int64_t), NULL),
              place(b, 3, choices, sizeof(int32_t), NULL), place(b, 4, choices, sizeof(int32_t), NULL));
    moves(b, 3 * F * (double) choices);
}

/* The rows of the product, `rows` in all, chosen from half as many, by expert. */
static const int64_t *
groups_of(bench *b, const int32_t **row)
{
    bench half = *b;
    half.size.rows = b->size.rows / CHOICES;
    int32_t *choices = chosen(&half, 8, EXPERTS);
    memcpy(b->slot + 8, half.slot + 8, 2 * sizeof *b->slot);
    int64_t *offset = place(b, 10, EXPERTS + 1, sizeof(int64_t), NULL);
    int32_t *rows = place(b, 11, b->size.rows, sizeof(int32_t), NULL);
    int32_t *places = place(b, 12, b->size.rows, sizeof(int32_t), NULL);
    if (b->first)
        b->backend->group(b->job, half.size.rows, CHOICES, EXPERTS, choices, offset, rows, places);
    *row = rows;
    return offset;
}

static void
grouped_linear(bench *b)
{
    SHAPE;
    int64_t m = b->size.other;
    const int32_t *row;
    const int64_t *offset = groups_of(b, &row);
    op->grouped_linear(job, EXPERTS, rows, cols, m, offset, row, floats(b, 0, n / CHOICES),
                       floats(b, 1, EXPERTS * cols * m), floats(b, 2, EXPERTS * m), output(b, 3, rows * m));
    count_product(b);
}

static void
grouped_linear_input(bench *b)
{
    SHAPE;
    int64_t m = b->size.other;
    const int32_t *row;
    const int64_t *offset = groups_of(b, &row);
    op->grouped_linear_input(job, EXPERTS, rows, cols, m, offset, floats(b, 0, rows * m),
                             floats(b, 1, EXPERTS * cols * m), false, output(b, 2, n));
    count_product(b);
}

static void
grouped_linear_weight(bench *b)
{
    SHAPE;
    int64_t m = b->size.other;
    const int32_t *row;
    const int64_t *offset = groups_of(b, &row);
    op->grouped_linear_weight(job, EXPERTS, rows, cols, m, offset, row, signed_floats(b, 0, n / CHOICES),
                              signed_floats(b, 1, rows * m), output(b, 2, EXPERTS * cols * m),
                              output(b, 3, EXPERTS * m));
    count_product(b);
}

static void
balance_loss(bench *b)
{
    SHAPE;
    op->balance_loss(job, rows, cols, signed_floats(b, 0, n), floats(b, 1, n), output(b, 2, 1), output(b, 3, n));
    moves(b, 3 * F * (double) n);
}

static void
z_loss(bench *b)
{
    SHAPE;
    op->z_loss(job, rows, cols, signed_floats(b, 0, n), output(b, 1, 1), output(b, 2, n));
    moves(b, 2 * F * (double) n);
}

/* Losses and the optimiser. */

static void
loss(bench *b)
{
    SHAPE;
    op->loss(job, MOE_LOSS_LOGISTIC, n, signed_floats(b, 0, n), floats(b, 1, n), floats(b, 2, n), output(b, 3, 1),
             output(b, 4, n));
    moves(b, 4 * F * (double) n);
}

static void
cross_entropy(bench *b)
{
    SHAPE;
    op->cross_entropy(job, rows, cols, signed_floats(b, 0, n), indices(b, 1, rows, cols), floats(b, 2, rows),
                      output(b, 3, 1), output(b, 4, n));
    moves(b, F * (double) (2 * n + 2 * rows));
}

static void
square_sum(bench *b)
{
    SHAPE;
    op->square_sum(job, n, floats(b, 0, n), doubles(b, 1, 1));
    moves(b, F * (double) n);
}

/* Rates near 1, so that the moments stay numbers of common size over thousands of calls. */
static void
adam(bench *b)
{
    SHAPE;
    moe_adam_rates rates = {.beta1 = 0.99999f,
                            .beta2 = 0.99999f,
                            .rate = 1e-6f,
                            .correction = 1,
                            .epsilon = 1e-8f,
                            .shrink = 1,
                            .clip_norm = 1};
    op->adam(job, n, &rates, doubles(b, 4, 1), floats(b, 0, n), floats(b, 1, n), floats(b, 2, n), floats(b, 3, n));
    moves(b, 8 * F * (double) n);
}

static const bench_size products[] = {
    {16384, 128, 128}, {16384, 256, 256}, {4096, 64, 64}, {65536, 64, 32}, {16384, 128, 1}, {4096, 512, 512}, {0}};
static const bench_size grouped_products[] = {{16384, 128, 128}, {16384, 256, 256}, {4096, 64, 64}, {0}};
static const bench_size matrices[] = {{64, 128}, {8192, 128}, {262144, 128, 0, true}, {0}};
static const bench_size narrow_matrices[] = {{1024, 8}, {131072, 8}, {4194304, 8, 0, true}, {0}};
static const bench_size sparse_matrices[] = {{4096, 128, 16}, {65536, 128, 16, true}, {262144, 128, 16, true}, {0}};
static const bench_size segment_matrices[] = {{8192, 64, 16}, {262144, 64, 16, true}, {0}};

#define CASE(name, sizes)                                                                                              \
    {                                                                                                                  \
#name, name, sizes, offsetof(moe_backend, name)                                                                \
    }
#define CASE_AGAINST(name, sizes, by)                                                                                  \
    {                                                                                                                  \
#name, name, sizes, offsetof(moe_backend, name), by                                                            \
    }

const bench_case bench_cases[] = {
    CASE_AGAINST(linear, products, dense_product),
    CASE_AGAINST(linear_input, products, dense_product),
    CASE_AGAINST(linear_weight, products, dense_weight_product),
    CASE(sum, matrices),
    CASE(scale, matrices),
    CASE(scale_by, matrices),
    CASE(multiply, matrices),
    CASE(add_row, matrices),
    CASE(column_sum, matrices),
    CASE(multiply_column, matrices),
    CASE(multiply_row, matrices),
    CASE(row_dot, matrices),
    CASE(copy_block, matrices),
    CASE(relu, matrices),
    CASE(relu_backward, matrices),
    CASE(dropout, matrices),
    CASE(relu_dropout, matrices),
    {"exp", exponential, matrices, offsetof(moe_backend, exp)},
    CASE(exp_backward, matrices),
    CASE(layer_norm, matrices),
    CASE(layer_norm_backward, matrices),
    CASE(layer_norm_relu, matrices),
    CASE(layer_norm_relu_backward, matrices),
    CASE(softmax, narrow_matrices),
    CASE(softmax_backward, narrow_matrices),
    CASE(entmax, matrices),
    CASE(entmax_backward, matrices),
    CASE(gather, matrices),
    CASE(aggregate, sparse_matrices),
    {"aggregate_weighted", aggregate_weighted, sparse_matrices, offsetof(moe_backend, aggregate)},
    CASE(aggregate_types, sparse_matrices),
    CASE(aggregate_max, sparse_matrices),
    CASE(aggregate_max_backward, sparse_matrices),
    CASE(edge_dot, sparse_matrices),
    CASE(segment_softmax, segment_matrices),
    CASE(segment_softmax_backward, segment_matrices),
    CASE(aggregate_parts, sparse_matrices),
    CASE(sum_rows, matrices),
    CASE(transpose, sparse_matrices),
    CASE(prefix_sum, segment_matrices),
    CASE(prefix_sum_backward, segment_matrices),
    CASE(window_sum, segment_matrices),
    CASE(window_sum_backward, segment_matrices),
    CASE(top_k_gate, narrow_matrices),
    CASE(top_k, narrow_matrices),
    CASE(pick, narrow_matrices),
    CASE(pick_backward, narrow_matrices),
    CASE(group, narrow_matrices),
    CASE_AGAINST(grouped_linear, grouped_products, dense_product),
    CASE_AGAINST(grouped_linear_input, grouped_products, dense_product),
    CASE_AGAINST(grouped_linear_weight, grouped_products, dense_weight_product),
    CASE(balance_loss, narrow_matrices),
    CASE(z_loss, narrow_matrices),
    CASE(loss, narrow_matrices),
    CASE(cross_entropy, narrow_matrices),
    CASE(square_sum, matrices),
    CASE(adam, matrices),
};
const int bench_case_count = sizeof bench_cases / sizeof *bench_cases;
