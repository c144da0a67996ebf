/*
 * router_net.h: what the files of the router share: its network, and what it is trained on.
 *
 * logit_e = (b_e + sum_j w_je z_j) / temperature over standardised inputs z,
 * clipped at 3 so that rows far from the held-out ones stay tame. Weights start
 * at zero, which is equal weights.
 */
#ifndef MOE_ROUTER_NET_H
#define MOE_ROUTER_NET_H

#include "gnn/router.h"

struct moe_router
{
    moe_job *job;
    moe_router_config config;
    moe_router_kind kind;
    int width;    /* inputs of a row */
    int inputs;   /* inputs that the gates depend on: width or 0 */
    double *mean; /* [inputs] */
    double *scale;
    double *weight;                       /* [inputs + 1, experts], the last row b; NULL where kind is EQUAL */
    double threshold[MOE_ROUTER_EXPERTS]; /* expert choice: least score (softmax over all) of what an expert takes; 0:
                                             all */
};

/*
 * What the experts said, reduced to what their mixture's loss needs. Probabilities: said is the probability of what
 * was true, the loss -log(sum_e g_e said_e). Numbers: the loss is |sum_e g_e said_e - truth|, in units of the loss
 * of equal weights.
 */
typedef struct moe_router_evidence
{
    bool probabilities;
    int experts;
    int width;
    const float *x; /* [n, width] */
    float *said;    /* [n, experts] */
    float *truth;   /* [n]; numbers only */
} moe_router_evidence;

#define MOE_ROUTER_WEIGHT 1e6 /* the largest; its opposite drops an expert */

/* What is wrong with a configuration, or NULL. */
const char *moe_router_config_problem(const moe_router_config *config);
moe_code moe_router_create(moe_job *job, const moe_router_config *config, moe_router_kind kind, int width,
                           moe_router **out);
/* Every row uses every expert. */
static inline bool
moe_router_is_dense(const moe_router_config *config)
{
    return config->top_k >= config->experts - (config->shared >= 0);
}

void moe_router_logits(const moe_router *router, const float *x, double *logits);
/* Input j of a row, standardised and clipped. */
double moe_router_input(const moe_router *router, int j, float x);
void moe_router_row_gates(const moe_router *router, const double *threshold, const double *logits, double *gates);
/* Softmax over all experts. */
void moe_router_scores(int experts, const double *logits, double *scores);
/* Thresholds by which each expert takes its capacity of n rows with these logits [n, experts]. */
moe_code moe_router_thresholds(const moe_router *router, int64_t n, const double *logits, double *threshold);
/* The loss of one row's mixture; derivative (or NULL) [experts] by the logits that the gates came from. */
double moe_router_row_loss(const moe_router_evidence *evidence, int64_t row, const double *gates, double *derivative);

/*
 * Mean loss over n of the evidence's rows plus balance and z losses and a ridge as for n_fitted rows; *loss and
 * gradient [(inputs + 1) * experts]. dense: all experts take part, as in the first half of training.
 */
moe_code moe_router_objective(const moe_router *router, const moe_router_evidence *evidence, const int64_t *row,
                              int64_t n, int64_t n_fitted, bool dense, double *loss, double *gradient);
/* Train on n of the evidence's rows, from zero. */
moe_code moe_router_train(moe_router *router, const moe_router_evidence *evidence, const int64_t *row, int64_t n);

#endif
