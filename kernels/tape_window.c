/*
 * tape_window.c: sums over windows of lists of rows, as differences of running
 * sums: one pass over the rows, then two rows read a window.
 */
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
    w->last = moe_tape_upload(tape, w->last, w->n, sizeof *w->last);
    w->before = moe_tape_upload(tape, w->before, w->n, sizeof *w->before);
    w->factor = moe_tape_upload(tape, w->factor, w->n, sizeof *w->factor);
    w->fade = moe_tape_upload(tape, w->fade, w->n, sizeof *w->fade);
    window->sum = moe_tape_array(tape, moe_size(x), sizeof *window->sum);
    if (window->sum == NULL || moe_job_code(tape->job) != MOE_OK)
        return NULL;
    tape->backend->prefix_sum(tape->job, w->lists, w->offset, x->cols, w->decay, x->value, window->sum);
    tape->backend->window_sum(tape->job, w->n, x->cols, w->last, w->before, w->factor, w->fade, window->sum,
                              window->op.out->value);
    return moe_finish(tape, window);
}
