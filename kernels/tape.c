/*
 * tape.c: record operations and run them backward.
 *
 * Operations form a list, last one first, which is the order backward wants.
 * A variable has no gradient until the first operation above it writes one;
 * later ones add. An operation whose result got no gradient is skipped.
 */
#include "kernels/blas.h"
#include "kernels/device.h"
#include "kernels/random.h"
#include "kernels/tape_private.h"

moe_tape *
moe_tape_create(moe_job *job)
{
    static const float one = 1;
    if (moe_job_device(job) == NULL && moe_blas_open(job) != MOE_OK)
        return NULL;
    moe_tape *tape = moe_alloc(job, 1, sizeof(moe_tape));
    if (tape == NULL)
        return NULL;
    *tape = (moe_tape){.job = job, .backend = moe_job_backend(job)};
    tape->records = moe_arena_create(job);
    tape->arrays = moe_job_device(job) == NULL ? tape->records : moe_arena_create_on_device(job);
    tape->one = moe_device_alloc(job, 1, sizeof(float));
    if (tape->records == NULL || tape->arrays == NULL || tape->one == NULL)
    {
        moe_tape_destroy(tape);
        return NULL;
    }
    moe_upload(job, tape->one, &one, sizeof one);
    return tape;
}

void
moe_tape_destroy(moe_tape *tape)
{
    if (tape == NULL)
        return;
    if (tape->arrays != tape->records)
        moe_arena_destroy(tape->arrays);
    moe_arena_destroy(tape->records);
    moe_device_free(tape->job, tape->one);
    moe_free(tape->job, tape);
}

void
moe_tape_reset(moe_tape *tape, bool training, uint64_t seed)
{
    moe_arena_reset(tape->records);
    if (tape->arrays != tape->records)
        moe_arena_reset(tape->arrays);
    tape->last = NULL;
    tape->copies = NULL;
    tape->spare = NULL;
    tape->nodes = NULL;
    tape->training = training;
    tape->ran_backward = false;
    tape->seed = seed;
    tape->keys = 0;
}

bool
moe_tape_training(const moe_tape *tape)
{
    return tape->training;
}

moe_job *
moe_tape_job(const moe_tape *tape)
{
    return tape->job;
}

void *
moe_tape_alloc(moe_tape *tape, int64_t count, size_t size)
{
    return moe_arena_alloc(tape->records, count, size);
}

void *
moe_tape_array(moe_tape *tape, int64_t count, size_t size)
{
    return moe_arena_alloc(tape->arrays, count, size);
}

uint64_t
moe_tape_key(moe_tape *tape)
{
    return moe_key(tape->seed, tape->keys++);
}

void
moe_tape_use_backend(moe_tape *tape, const moe_backend *backend)
{
    tape->backend = backend;
}

/* An array of so many numbers that nothing will read any more. */
struct moe_tape_spare
{
    moe_tape_spare *next;
    float *array;
    int64_t count;
};

/* Without memory for the list the array is left alone; the job has failed then. */
static void
keep_spare(moe_tape *tape, float *array, int64_t count)
{
    moe_tape_spare *node = tape->nodes;
    if (node != NULL)
        tape->nodes = node->next;
    else
        node = moe_tape_alloc(tape, 1, sizeof *node);
    if (node == NULL)
        return;
    *node = (moe_tape_spare){tape->spare, array, count};
    tape->spare = node;
}

/*
 * What an operation computed serves it and those after it, and what came back is with its inputs now: a gradient yet to
 * come takes the memory, which the cache may still hold.
 */
static void
spare_result(moe_tape *tape, moe_op *op)
{
    moe_var *out = op->out;
    if (out->gradient != NULL)
        keep_spare(tape, out->gradient, moe_size(out));
    if (op->in[0] == NULL || out->value != op->in[0]->value)
        keep_spare(tape, out->value, moe_size(out));
    out->gradient = NULL;
    out->value = NULL;
}

/* A spare array of at least count numbers, and not many more; else a new one. */
static float *
gradient_array(moe_tape *tape, int64_t count)
{
    for (moe_tape_spare **link = &tape->spare; *link != NULL; link = &(*link)->next)
    {
        moe_tape_spare *node = *link;
        if (node->count < count || node->count / 4 > count)
            continue;
        *link = node->next;
        node->next = tape->nodes;
        tape->nodes = node;
        return node->array;
    }
    return moe_tape_array(tape, count, sizeof(float));
}

moe_code
moe_tape_backward(moe_tape *tape, moe_var *loss)
{
    moe_code code = moe_job_check(tape->job);
    if (code != MOE_OK)
        return code;
    if (loss == NULL || loss->rows != 1 || loss->cols != 1)
        return moe_fail(tape->job, MOE_INVALID, "backward starts from one number, not from a matrix");
    if (tape->ran_backward)
        return moe_fail(tape->job, MOE_INVALID, "backward was already run on this tape");
    tape->ran_backward = true;

    bool add;
    float *gradient = moe_gradient(tape, loss, &add);
    if (gradient != NULL)
        tape->backend->scale(tape->job, 1, 1, tape->one, add, gradient);
    for (moe_op *op = tape->last; op != NULL; op = op->previous)
    {
        if (op->out->gradient != NULL)
            op->backward(tape, op);
        if (op->out != loss)
            spare_result(tape, op);
        code = moe_job_check(tape->job);
        if (code != MOE_OK)
            return code;
    }
    return moe_job_code(tape->job);
}

moe_code
moe_tape_read(moe_tape *tape, const moe_var *var, float *host)
{
    if (moe_job_check(tape->job) == MOE_OK && moe_given(tape, "read", var != NULL && var->value != NULL))
        moe_download(tape->job, host, var->value, (size_t) moe_size(var) * sizeof(float));
    return moe_job_code(tape->job);
}

/* A variable without a value; NULL on failure. */
static moe_var *
new_var(moe_tape *tape, int64_t rows, int64_t cols, bool needs_gradient)
{
    int64_t size;
    if (rows < 0 || cols < 0 || __builtin_mul_overflow(rows, cols, &size))
    {
        moe_fail(tape->job, MOE_LIMIT, "a matrix of %lld rows and %lld columns is more than can be addressed",
                 (long long) rows, (long long) cols);
        return NULL;
    }
    moe_var *var = moe_tape_alloc(tape, 1, sizeof(moe_var));
    if (var != NULL)
        *var = (moe_var){.rows = rows, .cols = cols, .needs_gradient = needs_gradient};
    return var;
}

/* A leaf that needs no gradient. */
static moe_var *
leaf(moe_tape *tape, const char *name, int64_t rows, int64_t cols, const float *values)
{
    if (moe_job_check(tape->job) != MOE_OK || !moe_given(tape, name, values != NULL || rows == 0 || cols == 0))
        return NULL;
    moe_var *var = new_var(tape, rows, cols, false);
    if (var != NULL)
        var->value = (float *) values;
    return var;
}

moe_var *
moe_constant(moe_tape *tape, int64_t rows, int64_t cols, const float *values)
{
    moe_var *var = leaf(tape, "constant", rows, cols, values);
    if (var != NULL)
        var->value = (float *) moe_tape_upload(tape, values, moe_size(var), sizeof(float));
    return moe_job_code(tape->job) == MOE_OK ? var : NULL;
}

moe_var *
moe_resident(moe_tape *tape, int64_t rows, int64_t cols, const float *values)
{
    return leaf(tape, "resident", rows, cols, values);
}

moe_var *
moe_variable(moe_tape *tape, moe_param *param)
{
    if (moe_job_check(tape->job) != MOE_OK || !moe_given(tape, "variable", param != NULL))
        return NULL;
    moe_var *var = new_var(tape, param->rows, param->cols, param->gradient != NULL);
    if (var == NULL)
        return NULL;
    var->value = param->value;
    var->gradient = param->gradient;
    return var;
}

static bool
needs_gradient(const moe_var *var)
{
    return var != NULL && var->needs_gradient;
}

/* moe_begin with the memory of its result; NULL: its own. */
static void *
begin_in(moe_tape *tape, float *value, size_t size, moe_backward_fn backward, int64_t rows, int64_t cols, moe_var *a,
         moe_var *b, moe_var *c)
{
    if (moe_job_check(tape->job) != MOE_OK)
        return NULL;
    moe_op *op = moe_arena_zalloc(tape->records, 1, size);
    moe_var *out = new_var(tape, rows, cols, needs_gradient(a) || needs_gradient(b) || needs_gradient(c));
    if (op == NULL || out == NULL)
        return NULL;
    out->value = value != NULL ? value : moe_tape_array(tape, moe_size(out), sizeof(float));
    if (out->value == NULL)
        return NULL;
    op->backward = backward;
    op->out = out;
    op->in[0] = a;
    op->in[1] = b;
    op->in[2] = c;
    if (out->needs_gradient)
    {
        op->previous = tape->last;
        tape->last = op;
    }
    return op;
}

void *
moe_begin(moe_tape *tape, size_t size, moe_backward_fn backward, int64_t rows, int64_t cols, moe_var *a, moe_var *b,
          moe_var *c)
{
    return begin_in(tape, NULL, size, backward, rows, cols, a, b, c);
}

void *
moe_begin_view(moe_tape *tape, size_t size, moe_backward_fn backward, int64_t rows, int64_t cols, moe_var *x)
{
    return begin_in(tape, x->value, size, backward, rows, cols, x, NULL, NULL);
}

moe_var *
moe_finish(moe_tape *tape, void *op)
{
    return moe_job_check(tape->job) == MOE_OK ? ((moe_op *) op)->out : NULL;
}

bool
moe_given(moe_tape *tape, const char *name, bool inputs)
{
    if (!inputs)
        moe_fail(tape->job, MOE_INVALID, "operation %s lacks an input", name);
    return inputs;
}

moe_var *
moe_bad_shape(moe_tape *tape, const char *name, const moe_var *a, const moe_var *b)
{
    if (b == NULL)
        moe_fail(tape->job, MOE_INVALID, "operation %s does not take a matrix of shape [%lld, %lld]", name,
                 (long long) a->rows, (long long) a->cols);
    else
        moe_fail(tape->job, MOE_INVALID, "operation %s does not take shapes [%lld, %lld] and [%lld, %lld]", name,
                 (long long) a->rows, (long long) a->cols, (long long) b->rows, (long long) b->cols);
    return NULL;
}

float *
moe_gradient(moe_tape *tape, moe_var *var, bool *add)
{
    *add = var != NULL && var->gradient != NULL;
    if (needs_gradient(var) && var->gradient == NULL)
        var->gradient = gradient_array(tape, moe_size(var));
    return needs_gradient(var) ? var->gradient : NULL;
}

float *
moe_zeroed_gradient(moe_tape *tape, moe_var *var)
{
    bool add;
    float *gradient = moe_gradient(tape, var, &add);
    if (gradient != NULL && !add)
        moe_device_zero(tape->job, gradient, (size_t) moe_size(var) * sizeof(float));
    return gradient;
}

float *
moe_take_gradient(moe_tape *tape, moe_var *out, moe_var *var, bool *add)
{
    if (!needs_gradient(var) || var->gradient != NULL)
        return moe_gradient(tape, var, add);
    *add = false;
    var->gradient = out->gradient;
    out->gradient = NULL;
    return var->gradient;
}

/* What was uploaded since the reset: the same arrays serve several layers. */
struct moe_tape_copy
{
    moe_tape_copy *next;
    const void *host;
    void *device;
    size_t bytes;
};

const void *
moe_tape_upload(moe_tape *tape, const void *host, int64_t count, size_t size)
{
    size_t bytes = (size_t) count * size;
    if (host == NULL || moe_job_device(tape->job) == NULL)
        return host;
    for (moe_tape_copy *copy = tape->copies; copy != NULL; copy = copy->next)
        if (copy->host == host && copy->bytes == bytes)
            return copy->device;
    moe_tape_copy *copy = moe_tape_alloc(tape, 1, sizeof(moe_tape_copy));
    void *device = moe_tape_array(tape, count, size);
    if (copy == NULL || device == NULL)
        return NULL;
    moe_upload(tape->job, device, host, bytes);
    *copy = (moe_tape_copy){.next = tape->copies, .host = host, .device = device, .bytes = bytes};
    tape->copies = copy;
    return device;
}
