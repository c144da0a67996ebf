/*
 * tape_private.h: how operations are recorded; shared by the tape_*.c files.
 *
 * An operation file holds, for each operation, a function that checks shapes,
 * computes and records, and a static one that runs it backward. In backward,
 * op->out->gradient is complete and dies afterwards, so that it may be handed
 * on to an input in place (moe_take_gradient).
 */
#ifndef MOE_TAPE_PRIVATE_H
#define MOE_TAPE_PRIVATE_H

#include "kernels/ops.h"

typedef struct moe_op moe_op;
typedef struct moe_tape_copy moe_tape_copy;
typedef struct moe_tape_spare moe_tape_spare;
typedef void (*moe_backward_fn)(moe_tape *tape, moe_op *op);

/* The head of every recorded operation; those that keep more embed it as first member. */
struct moe_op
{
    moe_op *previous;
    moe_backward_fn backward;
    moe_var *out;
    moe_var *in[3];
};

struct moe_tape
{
    moe_job *job;
    moe_arena *records; /* of the host */
    moe_arena *arrays;  /* of the device; the same one where that is the host */
    float *one;         /* [1], on the device: 1 */
    const moe_backend *backend;
    moe_op *last;
    moe_tape_copy *copies; /* of arrays of the host, on the device */
    moe_tape_spare *spare; /* arrays that backward has done with, the last first */
    moe_tape_spare *nodes; /* of that list, unused */
    bool training;
    bool ran_backward;
    uint64_t seed;
    uint64_t keys; /* handed out since the reset */
};

/*
 * A zeroed operation of `size` bytes with inputs a, b and c (NULL: none) and
 * an uninitialised [rows, cols] result, recorded if an input needs a gradient.
 * NULL if the job has failed or was cancelled or memory ran out.
 */
void *moe_begin(moe_tape *tape, size_t size, moe_backward_fn backward, int64_t rows, int64_t cols, moe_var *a,
                moe_var *b, moe_var *c);
/* The same, where the result is the numbers of x themselves. */
void *moe_begin_view(moe_tape *tape, size_t size, moe_backward_fn backward, int64_t rows, int64_t cols, moe_var *x);
/* The operation's result if nothing failed since, else NULL. */
moe_var *moe_finish(moe_tape *tape, void *op);
/* Whether no input is missing; if not, a failure is recorded. */
bool moe_given(moe_tape *tape, const char *name, bool inputs);
/* Whether a dropout rate makes sense; if not, the failure is recorded. */
bool moe_check_rate(moe_tape *tape, float rate);
/* Record that shapes (b may be NULL) do not fit an operation; returns NULL. */
moe_var *moe_bad_shape(moe_tape *tape, const char *name, const moe_var *a, const moe_var *b);

/*
 * Where to put an input's gradient: NULL if it needs none (or memory ran
 * out); *add says whether there is something to add to.
 */
float *moe_gradient(moe_tape *tape, moe_var *var, bool *add);
/* The same for an operation that always adds: what is new is zero. */
float *moe_zeroed_gradient(moe_tape *tape, moe_var *var);
/* As moe_gradient, but where there is nothing yet, out's own gradient is given to it and out has none any more. */
float *moe_take_gradient(moe_tape *tape, moe_var *out, moe_var *var, bool *add);

/* As moe_tape_alloc, but memory of the device: for what operations compute. */
void *moe_tape_array(moe_tape *tape, int64_t count, size_t size);
/*
 * What the job's device can read of a host array of count * size bytes: the array itself on the host, else a copy in
 * memory that lives until the reset, made once however often it is asked for. NULL on failure, and of NULL.
 */
const void *moe_tape_upload(moe_tape *tape, const void *host, int64_t count, size_t size);

/* Backward of softmax and of whatever is a softmax over some of a row and zero elsewhere. */
void moe_softmax_backward(moe_tape *tape, moe_op *op);

static inline int64_t
moe_size(const moe_var *var)
{
    return var->rows * var->cols;
}

static inline bool
moe_same_shape(const moe_var *a, const moe_var *b)
{
    return a->rows == b->rows && a->cols == b->cols;
}

#endif
