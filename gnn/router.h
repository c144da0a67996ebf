/*
 * router.h: which experts a prediction uses, row by row.
 *
 * A router decides from cheap inputs alone, before any expert is computed. It
 * is fitted on predictions that the experts made for rows they were not trained
 * on (stacked generalisation, Wolpert 1992), with sparse top-k gates (Shazeer et
 * al. 2017), a load-balancing loss (Fedus et al. 2021) and a z-loss (Zoph et al.
 * 2022). Three candidates of growing freedom stand to choice: equal weights,
 * constant weights, weights by inputs. In cross-validation over blocks of time
 * one must beat each simpler one by more than one standard error of the paired
 * difference, or the simpler one stays. Constant weights are of as few experts
 * as lose nothing on the rows they were fitted on.
 */
#ifndef MOE_ROUTER_H
#define MOE_ROUTER_H

#include "gnn/model.h"

#define MOE_ROUTER_EXPERTS 16
#define MOE_ROUTER_WIDTH   4096 /* most inputs */

typedef enum moe_routing
{
    MOE_ROUTE_TOP_K,        /* each row takes its k best experts */
    MOE_ROUTE_EXPERT_CHOICE /* each expert takes its best rows up to its capacity (Zhou et al. 2022), in training; a
                             * row's gates in prediction are those above the thresholds that this led to */
} moe_routing;

typedef enum moe_router_kind
{
    MOE_ROUTER_EQUAL,    /* every expert of every row, whatever top_k: nothing tells which to leave out */
    MOE_ROUTER_CONSTANT, /* learned weights, the same for all rows; their top_k are the same experts everywhere */
    MOE_ROUTER_INPUTS,   /* weights by a row's inputs */
    MOE_ROUTER_KINDS
} moe_router_kind;

typedef struct moe_router_config
{
    int experts; /* 1..MOE_ROUTER_EXPERTS */
    int shared;  /* expert that every row uses, or -1 */
    int top_k;   /* experts a row uses besides, 1..experts; expert choice: on average */
    moe_routing routing;
    float temperature; /* of the gates' softmax, .001..1000 */
    float balance_weight;
    float z_weight;
    uint64_t seed;
} moe_router_config;

/* All experts for every row, top-k, temperature 1. */
void moe_router_config_defaults(moe_router_config *config, int experts);

/* Held-out rows: cheap inputs (finite), what each expert said, and what was true. */
typedef struct moe_router_rows
{
    int64_t n;
    int width;                                   /* 0..MOE_ROUTER_WIDTH */
    const float *x;                              /* [n, width]; NULL where width is 0 */
    const int64_t *time;                         /* [n] seed times: blocks of cross-validation do not split one */
    const float *label;                          /* [n] */
    const float *prediction[MOE_ROUTER_EXPERTS]; /* [n] or [n * K] each, as moe_model_predict gives them */
} moe_router_rows;

typedef struct moe_router moe_router;

/*
 * What the choice was made by, for people. Losses are log loss, absolute error or cross-entropy, all over the same
 * held-out rows; a loss or error is NaN where it was not measured (fewer than 200 rows, one expert).
 */
typedef struct moe_router_report
{
    moe_router_kind kind;            /* the candidate that is used */
    bool learned;                    /* it is not equal weights */
    double equal_loss;               /* of equal weights */
    double constant_loss;            /* of constant weights, cross-validated */
    double learned_loss;             /* of weights by inputs, cross-validated */
    double constant_error;           /* standard error of equal_loss - constant_loss */
    double error;                    /* standard error of equal_loss - learned_loss */
    double step_error;               /* standard error of constant_loss - learned_loss */
    double load[MOE_ROUTER_EXPERTS]; /* mean gate over the held-out rows; sums to 1 */
} moe_router_report;

/* report may be NULL. */
moe_code moe_router_fit(moe_job *job, const moe_router_config *config, moe_task_type task, int n_classes,
                        const moe_router_rows *rows, moe_router **out, moe_router_report *report);
/* gates [n, experts]: each row's sum to 1; 0: the expert is not needed for the row. x [n, width], finite. */
moe_code moe_router_gates(moe_router *router, int64_t n, const float *x, float *gates);
void moe_router_destroy(moe_router *router);
int moe_router_experts(const moe_router *router);
int moe_router_width(const moe_router *router);
moe_router_kind moe_router_kind_of(const moe_router *router);

/*
 * out [n * k]: the mean of predictions, each [n * k], weighted by gates [n, experts]. What a gate of 0 points at is
 * not read, so that it need not have been computed.
 */
void moe_router_mix(int experts, int k, int64_t n, const float *const *prediction, const float *gates, float *out);

void moe_router_write(const moe_router *router, moe_buffer *buffer);
moe_code moe_router_read(moe_job *job, moe_reader *reader, moe_router **out);

#endif
