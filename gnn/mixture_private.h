/*
 * mixture_private.h: what the files of a mixture share.
 *
 * mixture.c        experts, router and calibration fitted and asked
 * mixture_store.c  all of it as bytes
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
    int n;
    moe_mixture_expert experts[MOE_EXPERT_KINDS];
    moe_router *router; /* NULL until fitted: equal weights */
    moe_calibration calibration;

    moe_inputs_fn inputs;
    void *inputs_arg;
    moe_graph_fn graph;
    void *graph_arg;
};

/* The kind of each expert over inputs. */
extern const moe_dense_kind moe_mixture_dense_kinds[MOE_EXPERT_KINDS];

#endif
