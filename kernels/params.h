/*
 * params.h: the trainable parameters of one model, by name, and Adam.
 *
 * Every parameter is a row-major matrix with its gradient and Adam's two
 * moments beside it, all in the memory of the job's device (device.h): on a job
 * that has one, the host reads and writes them by the calls below alone. From
 * moe_params_train on, all values lie in one piece of memory, and so do all
 * gradients and moments, those subject to weight decay first.
 */
#ifndef MOE_PARAMS_H
#define MOE_PARAMS_H

#include "kernels/buffer.h"
#include "kernels/job.h"

typedef struct moe_param
{
    char *name;
    int64_t rows;
    int64_t cols;
    int64_t place;   /* of its first number in what moe_params_train lays out; -1: nothing is laid out yet */
    float *value;    /* moves in moe_params_train (so does what follows), where parameters were added since the last */
    float *gradient; /* NULL until moe_params_train */
    float *moment1;
    float *moment2;
    bool decay; /* subject to weight decay: set for MOE_INIT_UNIFORM, the caller may change it */
} moe_param;

typedef struct moe_params moe_params;

typedef enum moe_init
{
    MOE_INIT_ZERO,
    MOE_INIT_ONE,
    MOE_INIT_UNIFORM, /* U(-1/sqrt(rows), 1/sqrt(rows)): for weights [inputs, outputs] */
    MOE_INIT_NORMAL   /* N(0, 1) * 0.1: for embeddings */
} moe_init;

moe_params *moe_params_create(moe_job *job, uint64_t seed);
void moe_params_destroy(moe_params *params);
moe_job *moe_params_job(const moe_params *params);
/*
 * Add a parameter, initialised from (seed, name): the order of calls does not
 * matter. Where one of this name and shape exists (read back by
 * moe_params_read, or for a warm start) it is returned as it is; of another
 * shape: MOE_CORRUPT recorded, NULL.
 */
moe_param *moe_params_add(moe_params *params, const char *name, int64_t rows, int64_t cols, moe_init init);
/* The same for the weights of several maps in one matrix [groups * inputs, cols], each initialised as if alone. */
moe_param *moe_params_add_groups(moe_params *params, const char *name, int64_t groups, int64_t inputs, int64_t cols,
                                 moe_init init);
int moe_params_count(const moe_params *params);
moe_param *moe_params_get(const moe_params *params, int i);
int64_t moe_params_size(const moe_params *params); /* number of floats */

/* Copy one parameter's values to or from an array of the host. */
void moe_param_download(const moe_params *params, const moe_param *param, float *host);
void moe_param_upload(moe_params *params, moe_param *param, const float *host);

/* Allocate gradients and moments (zero), and lay everything out. Cheap where nothing was added since the last call. */
moe_code moe_params_train(moe_params *params);
void moe_params_zero_gradients(moe_params *params);

/* Parameters that lie one after another and are alike in `decay`; the few numbers between them are zeros. */
typedef struct moe_param_range
{
    int64_t count;
    bool decay;
    float *value;
    float *gradient;
    float *moment1;
    float *moment2;
} moe_param_range;

/*
 * All that was laid out, as *n ranges (two, unless the caller changed some decay since), valid until the next call.
 * The ranges' gradients follow one another without gaps: those of all start at the first's, moe_params_laid_out of
 * them.
 */
const moe_param_range *moe_params_ranges(moe_params *params, int *n);
int64_t moe_params_laid_out(const moe_params *params);
/* A number on the device, for the sum of all gradients' squares. */
double *moe_params_square_sum(const moe_params *params);

typedef struct moe_adam
{
    float learning_rate;
    float beta1;        /* 0.9 */
    float beta2;        /* 0.999 */
    float epsilon;      /* 1e-8 */
    float weight_decay; /* decoupled (AdamW); 0: none */
    float clip_norm;    /* clip the global gradient norm; 0: no clipping */
    int64_t step;       /* steps made so far */
} moe_adam;

/*
 * One Adam step (Kingma and Ba 2015; Loshchilov and Hutter 2019) on all
 * parameters; zeroes the gradients. A gradient that is not finite leaves the
 * parameters as they are and is recorded as MOE_INVALID: at once on the host,
 * by the next moe_adam_check on a device, where the step is only queued.
 */
void moe_adam_step(moe_adam *adam, moe_params *params);
/* Wait for the last step, and record its failure if it was one. */
moe_code moe_adam_check(const moe_adam *adam, const moe_params *params);

/* Copy values out to / back from a flat array of the host, moe_params_size floats. */
void moe_params_save(const moe_params *params, float *values);
void moe_params_restore(moe_params *params, const float *values);
/* Keep a copy of all values where they are (those of the best epoch) / go back to the last one kept. For training. */
moe_code moe_params_keep(moe_params *params);
moe_code moe_params_recall(moe_params *params);

void moe_params_write(const moe_params *params, moe_buffer *buffer);
/* Values only; hostile input is refused with MOE_CORRUPT. */
moe_code moe_params_read(moe_params *params, moe_reader *reader);

#endif
