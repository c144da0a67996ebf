/*
 * fake_device.h: a device whose memory the host cannot touch, for tests without one.
 *
 * Its memory is a range of addresses that is closed (PROT_NONE) but for the
 * calls of the device itself, and its operations are those of the CPU, which
 * open the range for as long as they run. So a host that reads or writes there
 * dies of it, and an operation handed an array of the host is told by name.
 */
#ifndef MOE_TEST_FAKE_DEVICE_H
#define MOE_TEST_FAKE_DEVICE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "kernels/blas.h"
#include "kernels/device.h"

#define FAKE_BYTES  ((size_t) 1 << 30)
#define FAKE_PIECES 65536

typedef struct fake_piece
{
    size_t at, bytes;
} fake_piece;

typedef struct fake_device
{
    moe_device device;
    moe_job *job;
    char *memory;
    size_t end;         /* of all that was ever given */
    fake_piece *pieces; /* in use, in the order of their places */
    int n_pieces;
    size_t used, peak, limit;
    int64_t downloads; /* each is a wait */
} fake_device;

/* The one that runs now; operations find it here. */
static fake_device *fake_now;

static inline void
fake_protect(fake_device *fake, int protection)
{
    if (fake->end > 0)
        assert_int_equal(mprotect(fake->memory, fake->end, protection), 0);
}

/* Open the memory for an operation, once all its arrays have been found to lie there. */
static inline void
fake_enter(const char *name, const void *const *arrays, size_t n)
{
    for (size_t i = 0; i < n; i++)
    {
        const char *at = arrays[i];
        if (at != NULL && (at < fake_now->memory || at > fake_now->memory + fake_now->end))
            fail_msg("operation %s was given an array of the host (number %d)", name, (int) i);
    }
    fake_protect(fake_now, PROT_READ | PROT_WRITE);
}

static inline void
fake_leave(void)
{
    fake_protect(fake_now, PROT_NONE);
}

/* PARAMETERS and ARGUMENTS of an operation in parentheses, then its arrays. */
#define FAKE_OP(name, PARAMETERS, ARGUMENTS, ...)                                                                      \
    static void fake_##name PARAMETERS                                                                                 \
    {                                                                                                                  \
        const void *const arrays[] = {__VA_ARGS__};                                                                    \
        fake_enter(#name, arrays, sizeof arrays / sizeof *arrays);                                                     \
        moe_backend_cpu.name ARGUMENTS;                                                                                \
        fake_leave();                                                                                                  \
    }
#define FAKE_SPARSE(s) (s)->offset, (s)->index, (s)->weight

static inline void
fake_check(const char *name, const void *array)
{
    fake_enter(name, &array, 1);
    fake_leave();
}

static void
fake_sum(moe_job *job, int64_t count, const float *const *terms, int n, float *out)
{
    for (int i = 0; i < n; i++)
        fake_check("sum", terms[i]);
    fake_enter("sum", (const void *const[]){out}, 1);
    moe_backend_cpu.sum(job, count, terms, n, out);
    fake_leave();
}

static void
fake_sum_rows(moe_job *job, int64_t n, int64_t cols, int terms, const float *const *x, const int32_t *const *index,
              float *out)
{
    for (int i = 0; i < terms; i++)
    {
        fake_check("sum_rows", x[i]);
        fake_check("sum_rows", index[i]);
    }
    fake_enter("sum_rows", (const void *const[]){out}, 1);
    moe_backend_cpu.sum_rows(job, n, cols, terms, x, index, out);
    fake_leave();
}

static void
fake_aggregate_types(moe_job *job, int terms, const moe_sparse *s, const float *const *x, int64_t cols, bool add,
                     float *out)
{
    for (int i = 0; i < terms; i++)
    {
        fake_check("aggregate_types", x[i]);
        fake_check("aggregate_types", s[i].offset);
        fake_check("aggregate_types", s[i].index);
        fake_check("aggregate_types", s[i].weight);
    }
    fake_enter("aggregate_types", (const void *const[]){out}, 1);
    moe_backend_cpu.aggregate_types(job, terms, s, x, cols, add, out);
    fake_leave();
}

FAKE_OP(linear,
        (moe_job * job, int64_t n, int64_t k, int64_t m, const float *x, const float *w, const float *b, float *out),
        (job, n, k, m, x, w, b, out), x, w, b, out)
FAKE_OP(linear_input,
        (moe_job * job, int64_t n, int64_t k, int64_t m, const float *gy, const float *w, bool add, float *gx),
        (job, n, k, m, gy, w, add, gx), gy, w, gx)
FAKE_OP(linear_weight, (moe_job * job, int64_t n, int64_t k, int64_t m, const float *x, const float *gy, float *gw),
        (job, n, k, m, x, gy, gw), x, gy, gw)
FAKE_OP(scale, (moe_job * job, int64_t count, float factor, const float *x, bool add, float *out),
        (job, count, factor, x, add, out), x, out)
FAKE_OP(scale_by, (moe_job * job, int64_t count, const float *factor, const float *x, bool add, float *out),
        (job, count, factor, x, add, out), factor, x, out)
FAKE_OP(multiply, (moe_job * job, int64_t count, const float *a, const float *b, bool add, float *out),
        (job, count, a, b, add, out), a, b, out)
FAKE_OP(add_row, (moe_job * job, int64_t rows, int64_t cols, const float *x, const float *row, float *out),
        (job, rows, cols, x, row, out), x, row, out)
FAKE_OP(column_sum, (moe_job * job, int64_t rows, int64_t cols, const float *x, float *out), (job, rows, cols, x, out),
        x, out)
FAKE_OP(multiply_column,
        (moe_job * job, int64_t rows, int64_t cols, const float *x, const float *c, bool add, float *out),
        (job, rows, cols, x, c, add, out), x, c, out)
FAKE_OP(multiply_row,
        (moe_job * job, int64_t rows, int64_t cols, const float *x, const float *row, bool add, float *out),
        (job, rows, cols, x, row, add, out), x, row, out)
FAKE_OP(row_dot, (moe_job * job, int64_t rows, int64_t cols, const float *a, const float *b, bool add, float *out),
        (job, rows, cols, a, b, add, out), a, b, out)
FAKE_OP(copy_block,
        (moe_job * job, int64_t rows, int64_t cols, const float *x, int64_t x_stride, bool add, float *out,
         int64_t out_stride),
        (job, rows, cols, x, x_stride, add, out, out_stride), x, out)
FAKE_OP(relu, (moe_job * job, int64_t count, const float *x, float *out), (job, count, x, out), x, out)
FAKE_OP(relu_backward,
        (moe_job * job, int64_t count, float factor, const float *y, const float *gy, bool add, float *gx),
        (job, count, factor, y, gy, add, gx), y, gy, gx)
FAKE_OP(dropout, (moe_job * job, int64_t count, float rate, uint64_t key, const float *x, bool add, float *out),
        (job, count, rate, key, x, add, out), x, out)
FAKE_OP(relu_dropout, (moe_job * job, int64_t count, float rate, uint64_t key, const float *x, float *out),
        (job, count, rate, key, x, out), x, out)
FAKE_OP(exp, (moe_job * job, int64_t count, const float *x, float *out), (job, count, x, out), x, out)
FAKE_OP(exp_backward,
        (moe_job * job, int64_t count, const float *x, const float *y, const float *gy, bool add, float *gx),
        (job, count, x, y, gy, add, gx), x, y, gy, gx)
FAKE_OP(layer_norm,
        (moe_job * job, int64_t rows, int64_t cols, const float *x, const float *gain, const float *bias, float *y,
         float *mean, float *deviation),
        (job, rows, cols, x, gain, bias, y, mean, deviation), x, gain, bias, y, mean, deviation)
FAKE_OP(layer_norm_backward,
        (moe_job * job, int64_t rows, int64_t cols, const float *x, const float *gain, const float *mean,
         const float *deviation, const float *gy, bool add, float *gx, float *ggain, float *gbias),
        (job, rows, cols, x, gain, mean, deviation, gy, add, gx, ggain, gbias), x, gain, mean, deviation, gy, gx, ggain,
        gbias)
FAKE_OP(layer_norm_relu,
        (moe_job * job, int64_t rows, int64_t cols, const float *x, const float *gain, const float *bias, float rate,
         uint64_t key, float *y, float *mean, float *deviation),
        (job, rows, cols, x, gain, bias, rate, key, y, mean, deviation), x, gain, bias, y, mean, deviation)
FAKE_OP(layer_norm_relu_backward,
        (moe_job * job, int64_t rows, int64_t cols, const float *x, const float *gain, const float *mean,
         const float *deviation, const float *y, float factor, const float *gy, bool add, float *gx, float *ggain,
         float *gbias),
        (job, rows, cols, x, gain, mean, deviation, y, factor, gy, add, gx, ggain, gbias), x, gain, mean, deviation, y,
        gy, gx, ggain, gbias)
FAKE_OP(softmax, (moe_job * job, int64_t rows, int64_t cols, const float *x, float *y), (job, rows, cols, x, y), x, y)
FAKE_OP(softmax_backward,
        (moe_job * job, int64_t rows, int64_t cols, const float *y, const float *gy, bool add, float *gx),
        (job, rows, cols, y, gy, add, gx), y, gy, gx)
FAKE_OP(entmax, (moe_job * job, int64_t rows, int64_t cols, const float *x, float *y), (job, rows, cols, x, y), x, y)
FAKE_OP(entmax_backward,
        (moe_job * job, int64_t rows, int64_t cols, const float *y, const float *gy, bool add, float *gx),
        (job, rows, cols, y, gy, add, gx), y, gy, gx)
FAKE_OP(gather, (moe_job * job, int64_t n, int64_t cols, const int32_t *index, const float *x, bool add, float *out),
        (job, n, cols, index, x, add, out), index, x, out)
FAKE_OP(aggregate, (moe_job * job, const moe_sparse *s, int64_t cols, const float *x, bool add, float *out),
        (job, s, cols, x, add, out), FAKE_SPARSE(s), x, out)
FAKE_OP(aggregate_max, (moe_job * job, const moe_sparse *s, int64_t cols, const float *x, float *out, int32_t *argmax),
        (job, s, cols, x, out, argmax), FAKE_SPARSE(s), x, out, argmax)
FAKE_OP(aggregate_max_backward,
        (moe_job * job, const moe_sparse *t, const int32_t *entry, int64_t cols, const int32_t *argmax, const float *gy,
         bool add, float *gx),
        (job, t, entry, cols, argmax, gy, add, gx), FAKE_SPARSE(t), entry, argmax, gy, gx)
FAKE_OP(edge_dot,
        (moe_job * job, const moe_sparse *s, int64_t cols, const float *a, const float *b, bool add, float *out),
        (job, s, cols, a, b, add, out), FAKE_SPARSE(s), a, b, out)
FAKE_OP(segment_softmax, (moe_job * job, int64_t rows, const int64_t *offset, int64_t cols, const float *x, float *y),
        (job, rows, offset, cols, x, y), offset, x, y)
FAKE_OP(segment_softmax_backward,
        (moe_job * job, int64_t rows, const int64_t *offset, int64_t cols, const float *y, const float *gy, bool add,
         float *gx),
        (job, rows, offset, cols, y, gy, add, gx), offset, y, gy, gx)
FAKE_OP(aggregate_parts, (moe_job * job, const moe_sparse *s, int parts, int64_t cols, const float *x, float *out),
        (job, s, parts, cols, x, out), FAKE_SPARSE(s), x, out)
FAKE_OP(transpose,
        (moe_job * job, const moe_sparse *s, int parts, int64_t columns, int64_t *offset, int32_t *index, float *weight,
         int32_t *entry),
        (job, s, parts, columns, offset, index, weight, entry), FAKE_SPARSE(s), offset, index, weight, entry)
FAKE_OP(prefix_sum,
        (moe_job * job, int64_t lists, const int64_t *offset, int64_t cols, const float *decay, const float *x,
         double *out),
        (job, lists, offset, cols, decay, x, out), offset, decay, x, out)
FAKE_OP(prefix_sum_backward,
        (moe_job * job, int64_t lists, const int64_t *offset, int64_t cols, const float *decay, const double *g,
         bool add, float *gx),
        (job, lists, offset, cols, decay, g, add, gx), offset, decay, g, gx)
FAKE_OP(window_sum,
        (moe_job * job, int64_t n, int64_t cols, const int32_t *last, const int32_t *before, const float *factor,
         const float *fade, const double *sum, float *out),
        (job, n, cols, last, before, factor, fade, sum, out), last, before, factor, fade, sum, out)
FAKE_OP(window_sum_backward,
        (moe_job * job, int64_t n, int64_t cols, int64_t places, const int32_t *last, const int32_t *before,
         const float *factor, const float *fade, const float *gy, double *g),
        (job, n, cols, places, last, before, factor, fade, gy, g), last, before, factor, fade, gy, g)
FAKE_OP(top_k_gate,
        (moe_job * job, int64_t rows, int64_t experts, int k, float noise, uint64_t key, const float *logits,
         float *gates),
        (job, rows, experts, k, noise, key, logits, gates), logits, gates)
FAKE_OP(top_k, (moe_job * job, int64_t rows, int64_t cols, int k, const float *x, int32_t *chosen),
        (job, rows, cols, k, x, chosen), x, chosen)
FAKE_OP(pick, (moe_job * job, int64_t rows, int64_t cols, int k, const int32_t *chosen, const float *x, float *out),
        (job, rows, cols, k, chosen, x, out), chosen, x, out)
FAKE_OP(pick_backward,
        (moe_job * job, int64_t rows, int64_t cols, int k, const int32_t *chosen, const float *gy, bool add, float *gx),
        (job, rows, cols, k, chosen, gy, add, gx), chosen, gy, gx)
FAKE_OP(group,
        (moe_job * job, int64_t rows, int k, int groups, const int32_t *chosen, int64_t *offset, int32_t *row,
         int32_t *place),
        (job, rows, k, groups, chosen, offset, row, place), chosen, offset, row, place)
FAKE_OP(grouped_linear,
        (moe_job * job, int groups, int64_t n, int64_t k, int64_t m, const int64_t *offset, const int32_t *row,
         const float *x, const float *w, const float *b, float *out),
        (job, groups, n, k, m, offset, row, x, w, b, out), offset, row, x, w, b, out)
FAKE_OP(grouped_linear_input,
        (moe_job * job, int groups, int64_t n, int64_t k, int64_t m, const int64_t *offset, const float *gy,
         const float *w, bool add, float *gx),
        (job, groups, n, k, m, offset, gy, w, add, gx), offset, gy, w, gx)
FAKE_OP(grouped_linear_weight,
        (moe_job * job, int groups, int64_t n, int64_t k, int64_t m, const int64_t *offset, const int32_t *row,
         const float *x, const float *gy, float *gw, float *gb),
        (job, groups, n, k, m, offset, row, x, gy, gw, gb), offset, row, x, gy, gw, gb)
FAKE_OP(balance_loss,
        (moe_job * job, int64_t rows, int64_t experts, const float *logits, const float *gates, float *value,
         float *gradient),
        (job, rows, experts, logits, gates, value, gradient), logits, gates, value, gradient)
FAKE_OP(z_loss, (moe_job * job, int64_t rows, int64_t experts, const float *logits, float *value, float *gradient),
        (job, rows, experts, logits, value, gradient), logits, value, gradient)
FAKE_OP(loss,
        (moe_job * job, moe_loss_kind kind, int64_t rows, const float *x, const float *label, const float *weight,
         float *value, float *gradient),
        (job, kind, rows, x, label, weight, value, gradient), x, label, weight, value, gradient)
FAKE_OP(cross_entropy,
        (moe_job * job, int64_t rows, int64_t classes, const float *logits, const int32_t *label, const float *weight,
         float *value, float *gradient),
        (job, rows, classes, logits, label, weight, value, gradient), logits, label, weight, value, gradient)
FAKE_OP(square_sum, (moe_job * job, int64_t count, const float *x, double *out), (job, count, x, out), x, out)
FAKE_OP(adam,
        (moe_job * job, int64_t count, const moe_adam_rates *rates, const double *square_sum, float *value,
         float *gradient, float *moment1, float *moment2),
        (job, count, rates, square_sum, value, gradient, moment1, moment2), square_sum, value, gradient, moment1,
        moment2)

static const moe_backend fake_backend = {
    .name = "fake",
    .linear = fake_linear,
    .linear_input = fake_linear_input,
    .linear_weight = fake_linear_weight,
    .sum = fake_sum,
    .scale = fake_scale,
    .scale_by = fake_scale_by,
    .multiply = fake_multiply,
    .add_row = fake_add_row,
    .column_sum = fake_column_sum,
    .multiply_column = fake_multiply_column,
    .multiply_row = fake_multiply_row,
    .row_dot = fake_row_dot,
    .copy_block = fake_copy_block,
    .relu = fake_relu,
    .relu_backward = fake_relu_backward,
    .dropout = fake_dropout,
    .relu_dropout = fake_relu_dropout,
    .exp = fake_exp,
    .exp_backward = fake_exp_backward,
    .layer_norm = fake_layer_norm,
    .layer_norm_backward = fake_layer_norm_backward,
    .layer_norm_relu = fake_layer_norm_relu,
    .layer_norm_relu_backward = fake_layer_norm_relu_backward,
    .softmax = fake_softmax,
    .softmax_backward = fake_softmax_backward,
    .entmax = fake_entmax,
    .entmax_backward = fake_entmax_backward,
    .gather = fake_gather,
    .aggregate = fake_aggregate,
    .aggregate_types = fake_aggregate_types,
    .aggregate_max = fake_aggregate_max,
    .aggregate_max_backward = fake_aggregate_max_backward,
    .edge_dot = fake_edge_dot,
    .segment_softmax = fake_segment_softmax,
    .segment_softmax_backward = fake_segment_softmax_backward,
    .aggregate_parts = fake_aggregate_parts,
    .sum_rows = fake_sum_rows,
    .transpose = fake_transpose,
    .prefix_sum = fake_prefix_sum,
    .prefix_sum_backward = fake_prefix_sum_backward,
    .window_sum = fake_window_sum,
    .window_sum_backward = fake_window_sum_backward,
    .top_k_gate = fake_top_k_gate,
    .top_k = fake_top_k,
    .pick = fake_pick,
    .pick_backward = fake_pick_backward,
    .group = fake_group,
    .grouped_linear = fake_grouped_linear,
    .grouped_linear_input = fake_grouped_linear_input,
    .grouped_linear_weight = fake_grouped_linear_weight,
    .balance_loss = fake_balance_loss,
    .z_loss = fake_z_loss,
    .loss = fake_loss,
    .cross_entropy = fake_cross_entropy,
    .square_sum = fake_square_sum,
    .adam = fake_adam,
};

/* The first gap that is large enough. */
static void *
fake_alloc(moe_device *device, size_t bytes, bool must)
{
    fake_device *fake = (fake_device *) device;
    size_t at = 0;
    int place = 0;
    bytes = (bytes + 255) & ~(size_t) 255;
    while (place < fake->n_pieces && fake->pieces[place].at - at < bytes)
    {
        at = fake->pieces[place].at + fake->pieces[place].bytes;
        place++;
    }
    if (at + bytes > FAKE_BYTES || fake->n_pieces == FAKE_PIECES ||
        (fake->limit > 0 && fake->used + bytes > fake->limit))
    {
        if (must)
            moe_fail(fake->job, MOE_LIMIT, "the fake device is full");
        return NULL;
    }
    memmove(fake->pieces + place + 1, fake->pieces + place, (size_t) (fake->n_pieces - place) * sizeof(fake_piece));
    fake->pieces[place] = (fake_piece){.at = at, .bytes = bytes};
    fake->n_pieces++;
    fake->end = at + bytes > fake->end ? at + bytes : fake->end;
    fake->used += bytes;
    fake->peak = fake->used > fake->peak ? fake->used : fake->peak;
    /* Its content is anything. */
    fake_protect(fake, PROT_READ | PROT_WRITE);
    memset(fake->memory + at, 0xa5, bytes);
    fake_protect(fake, PROT_NONE);
    return fake->memory + at;
}

static void
fake_release(moe_device *device, void *memory)
{
    fake_device *fake = (fake_device *) device;
    size_t at = (size_t) ((char *) memory - fake->memory);
    int place = 0;
    while (place < fake->n_pieces && fake->pieces[place].at != at)
        place++;
    if (place == fake->n_pieces)
        fail_msg("what was released is no piece of the device's memory");
    fake->used -= fake->pieces[place].bytes;
    fake->n_pieces--;
    memmove(fake->pieces + place, fake->pieces + place + 1, (size_t) (fake->n_pieces - place) * sizeof(fake_piece));
}

static void
fake_zero(moe_device *device, void *memory, size_t bytes)
{
    fake_enter("zero", (const void *const[]){memory}, 1);
    memset(memory, 0, bytes);
    fake_leave();
}

static void
fake_copy(moe_device *device, void *to, const void *from, size_t bytes)
{
    fake_enter("copy", (const void *const[]){to, from}, 2);
    memcpy(to, from, bytes);
    fake_leave();
}

static void
fake_upload(moe_device *device, void *to, const void *from, size_t bytes)
{
    fake_enter("upload", (const void *const[]){to}, 1);
    memcpy(to, from, bytes);
    fake_leave();
}

static void
fake_download(moe_device *device, void *to, const void *from, size_t bytes)
{
    fake_now->downloads++;
    fake_enter("download", (const void *const[]){from}, 1);
    memcpy(to, from, bytes);
    fake_leave();
}

static size_t
fake_used(const moe_device *device)
{
    return ((const fake_device *) device)->used;
}

static size_t
fake_peak(const moe_device *device)
{
    return ((const fake_device *) device)->peak;
}

static void
fake_close(moe_device *device)
{
    fake_device *fake = (fake_device *) device;
    fake_now = fake_now == fake ? NULL : fake_now;
    munmap(fake->memory, FAKE_BYTES);
    free(fake->pieces);
    free(fake);
}

/* Give a job a fake device of `limit` bytes (0: as many as there are); the one at work is the last. */
static inline fake_device *
fake_open(moe_job *job, size_t limit)
{
    fake_device *fake = calloc(1, sizeof *fake);
    assert_non_null(fake);
    fake->memory = mmap(NULL, FAKE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(fake->memory != MAP_FAILED);
    fake->pieces = calloc(FAKE_PIECES, sizeof *fake->pieces);
    assert_non_null(fake->pieces);
    fake->job = job;
    fake->limit = limit;
    fake->device = (moe_device){.backend = &fake_backend,
                                .name = "fake",
                                .alloc = fake_alloc,
                                .release = fake_release,
                                .zero = fake_zero,
                                .copy = fake_copy,
                                .upload = fake_upload,
                                .download = fake_download,
                                .used = fake_used,
                                .peak = fake_peak,
                                .close = fake_close};
    assert_int_equal(moe_blas_open(job), MOE_OK);
    moe_job_use_device(job, &fake->device);
    fake_now = fake;
    return fake;
}

#endif
