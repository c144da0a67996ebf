/*
 * mixture_private.h: what the files of a mixture share.
 *
 * mixture.c          experts, router and calibration fitted
 * mixture_predict.c  seeds answered, batch by batch
 * mixture_early.c    rows that the glance expert answers alone
 * mixture_path.c     one row's way through it, followed with other inputs
 * mixture_store.c    all of it as bytes
 */
#ifndef MOE_MIXTURE_PRIVATE_H
#define MOE_MIXTURE_PRIVATE_H

#include "gnn/mixture.h"

#define MOE_MIXTURE_WIDTH 65536 /* inputs at most */

typedef struct moe_mixture_expert
{
    moe_expert_kind kind;
    moe_dense_expert *dense; /* NULL for the graph, and until fitted */
    moe_dense_expert *stale; /* answers for stale seeds; NULL: dense does */
} moe_mixture_expert;

struct moe_mixture
{
    moe_job *job;
    moe_dense_task task;
    double shift, scale; /* of the bending */
    int outputs;
    int width;
    uint8_t *role; /* [width] */
    int n_history; /* inputs with that role */
    int n_cheap;
    int n_glance;
    int n;
    moe_mixture_expert experts[MOE_EXPERT_KINDS];
    moe_router *router; /* NULL until fitted: equal weights */
    moe_calibration calibration;
    moe_calibration stale_calibration; /* of stale seeds; not fitted: they have that of others */

    moe_calibration early; /* of the glance expert alone */
    moe_cascade_curve curve;
    double threshold;          /* rows of no more worth are left to the glance expert; -1: none */
    moe_dense_expert *reading; /* expects log(1 + rows that the others need read) by a glance; NULL: of all one */

    moe_inputs_fn inputs;
    void *inputs_arg;
    moe_graph_fn graph;
    void *graph_arg;
};

/* The inputs that an expert sees, as a MOE_INPUT_ bit, or 0: all; and how many those are. */
uint8_t moe_mixture_sees(moe_expert_kind kind);
int moe_mixture_seen(const moe_mixture *mixture, moe_expert_kind kind);
/* The number of an expert of this kind, or -1. */
int moe_mixture_find(const moe_mixture *mixture, moe_expert_kind kind);
/* Gates of n rows with inputs x: [n, experts]. */
moe_code moe_mixture_gates(const moe_mixture *mixture, int64_t n, const float *x, float *gates);
/* The calibration of a seed's mixed prediction. */
const moe_calibration *moe_mixture_calibration(const moe_mixture *mixture, bool stale);
/*
 * Fit what is early, from what the glance expert and the mixture say of held-out rows with inputs x: [n] or [n * K].
 * reading: as of moe_mixture_route.
 */
moe_code moe_mixture_fit_early(moe_mixture *mixture, int64_t n, const float *x, const float *glance, const float *mixed,
                               const float *label, const float *reading);
/*
 * From what the glance expert says of n rows with inputs x, make their early predictions, in place, and give rows that
 * stop there a gate of 1 for it alone: gates [n, experts]; stops [n].
 */
moe_code moe_mixture_stop_early(const moe_mixture *mixture, int64_t n, const float *x, float *glance, float *gates,
                                bool *stops);
/*
 * What an expert of a kind sees of x [n, width]: x itself, or a copy of its own columns in *owned, which the caller
 * frees. NULL without memory.
 */
const float *moe_mixture_inputs_of(const moe_mixture *mixture, moe_expert_kind kind, int64_t n, const float *x,
                                   float **owned, int *width);

/* The kind of each expert over inputs. */
extern const moe_dense_kind moe_mixture_dense_kinds[MOE_EXPERT_KINDS];

#endif
