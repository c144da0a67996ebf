/*
 * dense_expert.h: experts over a matrix of inputs, behind one interface.
 *
 * Inputs are prepared (finite, each column about N(0, 1), 0 where unknown), one
 * row a seed. An expert is fitted in one call, which polls the job's cancel
 * flag; what it learned is written and read as bytes. A prediction for a row is
 * the same bits in any company. Each kind is a row of one table
 * (dense_expert.c): adding one is adding a file.
 */
#ifndef MOE_DENSE_EXPERT_H
#define MOE_DENSE_EXPERT_H

#include "gnn/model.h"

typedef enum moe_dense_kind
{
    MOE_DENSE_LINEAR,    /* logistic, median or multinomial regression (linear.c) */
    MOE_DENSE_TABULAR,   /* an ensemble of networks that share parameters (tabular.c) */
    MOE_DENSE_RETRIEVAL, /* the labels of the most similar training seeds (retrieval.c) */
    MOE_DENSE_ARM,       /* exponential neurons with sparse attention, ARM-Net (arm.c) */
    MOE_DENSE_TREES,     /* gradient-boosted decision trees (trees.c) */
    MOE_DENSE_KINDS
} moe_dense_kind;

typedef struct moe_dense_task
{
    moe_task_type task;
    int n_classes;    /* MULTICLASS: 2 or more; otherwise 1 */
    double low, high; /* REGRESSION: predictions are clamped to it */
} moe_dense_task;

typedef struct moe_dense_rows
{
    int64_t n;
    int width;
    const float *x;      /* [n, width] row-major */
    const float *label;  /* [n] 0/1, value, or class number; NULL where there are none */
    const float *weight; /* [n], or NULL: all 1 */
} moe_dense_rows;

typedef struct moe_dense_expert moe_dense_expert;

/*
 * valid: may be NULL or have n = 0; chooses nothing but when to stop, where the kind stops early, and how much a
 * linear one is penalised.
 */
moe_code moe_dense_expert_fit(moe_job *job, moe_dense_kind kind, const moe_dense_task *task,
                              const moe_dense_rows *train, const moe_dense_rows *valid, uint64_t seed,
                              moe_dense_expert **out);
/* BINARY: [n] probabilities; REGRESSION: [n] values; MULTICLASS: [n * K] probabilities. */
moe_code moe_dense_expert_predict(moe_dense_expert *expert, const moe_dense_rows *rows, float *prediction);
/*
 * For each of n training rows the prediction the expert would make without that row: [n] or [n * K]. Kinds that
 * do not look up rows (all but retrieval) give their ordinary predictions.
 */
moe_code moe_dense_expert_predict_self(moe_dense_expert *expert, const moe_dense_rows *train, float *prediction);
void moe_dense_expert_destroy(moe_dense_expert *expert);

moe_dense_kind moe_dense_expert_kind(const moe_dense_expert *expert);
int moe_dense_expert_width(const moe_dense_expert *expert);
/* Of what was read from bytes, to be compared with the task it is to serve. */
const moe_dense_task *moe_dense_expert_task(const moe_dense_expert *expert);
const char *moe_dense_kind_name(moe_dense_kind kind); /* "linear", ... */
int64_t moe_dense_expert_parameters(const moe_dense_expert *expert);

void moe_dense_expert_write(const moe_dense_expert *expert, moe_buffer *buffer);
/* Hostile input is refused with MOE_CORRUPT. */
moe_code moe_dense_expert_read(moe_job *job, moe_reader *reader, moe_dense_expert **out);

/* What a kind provides (dense_expert.c dispatches; `state` is the kind's own). */
typedef struct moe_dense_class
{
    const char *name;
    moe_code (*fit)(moe_job *job, const moe_dense_task *task, const moe_dense_rows *train, const moe_dense_rows *valid,
                    uint64_t seed, void **state);
    moe_code (*predict)(moe_job *job, void *state, const moe_dense_task *task, const moe_dense_rows *rows,
                        float *prediction);
    moe_code (*predict_self)(moe_job *job, void *state, const moe_dense_task *task, const moe_dense_rows *train,
                             float *prediction); /* NULL: predict */
    int64_t (*parameters)(const void *state);
    void (*write)(const void *state, moe_buffer *buffer);
    moe_code (*read)(moe_job *job, moe_reader *reader, const moe_dense_task *task, int width, void **state);
    void (*destroy)(moe_job *job, void *state);
} moe_dense_class;

extern const moe_dense_class moe_dense_linear;
extern const moe_dense_class moe_dense_tabular;
extern const moe_dense_class moe_dense_retrieval;
extern const moe_dense_class moe_dense_arm;
extern const moe_dense_class moe_dense_trees;

#endif
