/*
 * tape_window.c: sums over windows of lists of rows, as differences of running
 * sums: one pass over the rows, then two rows read a window.
 */
#include "kernels/device.h"
#include "kernels/tape_sparse.h"

typedef struct window_op
{
    moe_op op;
    moe_windows w;
    double *sum; /* [places, cols]; backward, its gradient */
} window_op;

static void
windows_backward(moe_tape *tape, moe_op *op)
{
    window_op *window = (window_op *) op;
    const moe_windows *w = &window->w;
    moe_var *x = op->in[0];
    bool add;
    float *g = moe_gradient(tape, x, &add);
    if (g == NULL)
        return;
    tape->backend->window_sum_backward(tape->job, w->n, x->cols, x->rows, w->last, w->before, w->factor, w->fade,
                                       op->out->gradient, window->sum);
    tape->backend->prefix_sum_backward(tape->job, w->lists, w->offset, x->cols, w->decay, window->sum, add, g);
}

static bool
check_windows(moe_tape *tape, const moe_windows *w, int64_t places)
{
    const char *name = "prefix_windows";
    return moe_given(tape, name, w->n >= 0 && w->lists >= 0 && w->offset != NULL) &&
           moe_given(tape, name, w->n == 0 || (w->last != NULL && w->before != NULL)) &&
           moe_check_rows(tape, name, w->n) && moe_check_offset(tape, name, w->offset, w->lists) &&
           moe_check_index(tape, name, w->last, w->n, places, NULL) &&
           moe_check_index(tape, name, w->before, w->n, places, NULL);
}

/* Hand the ends of the windows to the device. */
static void
upload_ends(moe_tape *tape, moe_windows *w)
{
    w->last = moe_tape_upload(tape, w->last, w->n, sizeof *w->last);
    w->before = moe_tape_upload(tape, w->before, w->n, sizeof *w->before);
    w->factor = moe_tape_upload(tape, w->factor, w->n, sizeof *w->factor);
    w->fade = moe_tape_upload(tape, w->fade, w->n, sizeof *w->fade);
}

moe_var *
moe_prefix_windows(moe_tape *tape, moe_var *x, const moe_windows *windows)
{
    if (!moe_given(tape, "prefix_windows", x != NULL && windows != NULL) || !check_windows(tape, windows, x->rows))
        return NULL;
    if (windows->offset[windows->lists] != x->rows)
        return moe_bad_shape(tape, "prefix_windows", x, NULL);
    window_op *window = moe_begin(tape, sizeof(window_op), windows_backward, windows->n, x->cols, x, NULL, NULL);
    if (window == NULL)
        return NULL;
    moe_windows *w = &window->w;
    *w = *windows;
    w->offset = moe_tape_upload(tape, w->offset, w->lists + 1, sizeof *w->offset);
    w->decay = moe_tape_upload(tape, w->decay, x->rows, sizeof *w->decay);
    upload_ends(tape, w);
    window->sum = moe_tape_array(tape, moe_size(x), sizeof *window->sum);
    if (window->sum == NULL || moe_job_code(tape->job) != MOE_OK)
        return NULL;
    tape->backend->prefix_sum(tape->job, w->lists, w->offset, x->cols, w->decay, x->value, window->sum);
    tape->backend->window_sum(tape->job, w->n, x->cols, w->last, w->before, w->factor, w->fade, window->sum,
                              window->op.out->value);
    return moe_finish(tape, window);
}

moe_var *
moe_resident_windows(moe_tape *tape, const double *sums, int64_t cols, const moe_windows *windows)
{
    if (!moe_given(tape, "resident_windows", windows != NULL && windows->lists >= 0 && windows->offset != NULL) ||
        !check_windows(tape, windows, windows->offset[windows->lists]) ||
        !moe_given(tape, "resident_windows", sums != NULL || windows->offset[windows->lists] == 0))
        return NULL;
    moe_op *op = moe_begin(tape, sizeof(moe_op), NULL, windows->n, cols, NULL, NULL, NULL);
    moe_windows w = *windows;
    if (op == NULL)
        return NULL;
    upload_ends(tape, &w);
    if (moe_job_code(tape->job) != MOE_OK)
        return NULL;
    tape->backend->window_sum(tape->job, w.n, cols, w.last, w.before, w.factor, w.fade, sums, op->out->value);
    return moe_finish(tape, op);
}

/* A copy of a host array in the memory of the job's device; NULL of NULL, and on failure. */
static void *
device_copy(moe_job *job, const void *host, int64_t count, size_t size)
{
    void *copy = host == NULL ? NULL : moe_device_alloc(job, count, size);
    if (copy != NULL)
        moe_upload(job, copy, host, (size_t) count * size);
    return copy;
}

double *
moe_running_sums(moe_job *job, const moe_windows *lists, const int32_t *row, int64_t rows, int64_t cols, const float *x)
{
    const moe_backend *backend = moe_job_backend(job);
    int64_t places = lists->offset[lists->lists];
    int64_t size, taken;
    if (__builtin_mul_overflow(places, cols, &size) || __builtin_mul_overflow(rows, cols, &taken))
        size = taken = INT64_MAX;
    float *values = device_copy(job, x, taken, sizeof *x);
    float *ordered = row == NULL ? values : moe_device_alloc(job, size, sizeof *ordered);
    int32_t *index = device_copy(job, row, places, sizeof *row);
    int64_t *offset = device_copy(job, lists->offset, lists->lists + 1, sizeof *offset);
    float *decay = device_copy(job, lists->decay, places, sizeof *decay);
    double *sums = moe_device_alloc(job, size, sizeof *sums);
    bool given = moe_job_code(job) == MOE_OK && (values != NULL || size == 0);
    if (given && row != NULL)
        backend->gather(job, places, cols, index, values, false, ordered);
    if (given)
        backend->prefix_sum(job, lists->lists, offset, cols, decay, ordered, sums);
    moe_device_free(job, decay);
    moe_device_free(job, offset);
    moe_device_free(job, index);
    if (ordered != values)
        moe_device_free(job, ordered);
    moe_device_free(job, values);
    if (given && moe_job_check(job) == MOE_OK)
        return sums;
    moe_device_free(job, sums);
    return NULL;
}
