/*
 * convolution.h: what the files of message passing share; not for others.
 *
 * convolution.c    layers, and what all kinds of them do
 * convolution_*.c  what a kind makes of lists of children
 * composite.c      messages from two hops at once
 */
#ifndef MOE_CONVOLUTION_H
#define MOE_CONVOLUTION_H

#include "gnn/layers.h"

/* The most terms that an edge type adds to a row, and the most products of encoded rows with its weights. */
#define MOE_EDGE_TERMS    MOE_SCALERS
#define MOE_EDGE_PRODUCTS (3 * MOE_HEADS)

/* The product of the encoded rows of a table with a weight, which all depths share. */
typedef struct moe_product
{
    const moe_var *x;
    const moe_param *weight;
    moe_var *result;
} moe_product;

/* Message passing as it runs. */
typedef struct moe_pass
{
    const moe_model *model;
    moe_tape *tape;
    const moe_states *states;
    moe_var **encoded;     /* [n_tables] */
    moe_var **below;       /* [(hops + 1) * n_tables] the layer before, by depth; layer 0: unused */
    moe_product *products; /* of the encoded rows */
    int n_products;
    int layer;             /* from 0 */
    int depth;             /* of the rows that are computed now */
    moe_var **terms;       /* what is summed into the rows that are computed now, */
    const int32_t **index; /* and, where not NULL, which row of a term each of them takes */
    int n_terms;
} moe_pass;

/* One kind of message passing. What is NULL is done as convolution.c says. */
typedef struct moe_convolution
{
    void (*add_table)(moe_model *model, moe_params *params, int layer, int t);
    void (*add_edge)(moe_model *model, moe_params *params, int layer, int e); /* of an edge type to children */
    moe_var *(*own)(moe_pass *p, int t, moe_var *x);                          /* the share of a row's own vector */
    /* Add the terms of lists of children, rows index[...] of source. */
    void (*children)(moe_pass *p, int e, moe_var *source, const moe_state_edges *edges, const int32_t *index);
    moe_var *(*combine)(moe_pass *p, int t, moe_var *x); /* what becomes of the sum of all terms */
} moe_convolution;

extern const moe_convolution moe_convolution_sage;
extern const moe_convolution moe_convolution_gin;
extern const moe_convolution moe_convolution_pna;
extern const moe_convolution moe_convolution_gat;
const moe_convolution *moe_convolution_of(const moe_model *model);

/* x times a weight, computed once where x is encoded rows; NULL where x is. */
moe_var *moe_pass_times(moe_pass *p, moe_var *x, moe_param *weight);
/* The vectors that an edge type's messages into a depth come from, and which of them: *index. */
moe_var *moe_pass_source(const moe_pass *p, int depth, int e, const int32_t **index);
/* The vectors of a table's rows at a depth, likewise (NULL: in order); NULL where no row of it may be seen. */
moe_var *moe_pass_own(const moe_pass *p, int depth, int t, const int32_t **index);
void moe_pass_add(moe_pass *p, moe_var *term, const int32_t *index);

/* composite.c: whether children over an edge type have other parents, whose vectors their messages are joined with. */
bool moe_composite_applies(const moe_model *model, int e);
void moe_composite_add(moe_model *model, moe_params *params, int layer, int e);
/* [states of the children, C]: what the children tell, so joined. */
moe_var *moe_composite_source(moe_pass *p, int e);

#endif
