/*
 * trees.h: what the files of the boosted trees share.
 *
 * trees_bins.c  inputs as numbers of bins
 * trees_grow.c  one tree from gradients
 * trees_loss.c  gradients, leaves' values and losses
 * trees.c       boosting, predictions, storage: the expert
 *
 * A tree's inner nodes stand parents first. Going from node 0, a row turns to
 * child[0] where its input is at most the threshold, to child[1] elsewhere; a
 * negative child c is leaf ~c.
 */
#ifndef MOE_TREES_H
#define MOE_TREES_H

#include "gnn/dense_expert.h"

#define MOE_TREE_LEAVES 31  /* at most */
#define MOE_TREE_BINS   255 /* of a column, at most */

typedef struct moe_tree_node
{
    int32_t column;
    float threshold;
    int32_t child[2];
} moe_tree_node;

typedef struct moe_tree
{
    int32_t output; /* that it adds to */
    int32_t nodes;  /* one less than leaves */
    moe_tree_node node[MOE_TREE_LEAVES - 1];
    float value[MOE_TREE_LEAVES]; /* of the leaves */
} moe_tree;

/* The leaf that inputs x end in. */
static inline int
moe_tree_leaf(const moe_tree *tree, const float *x)
{
    int32_t at = tree->nodes > 0 ? 0 : ~0;
    while (at >= 0)
        at = tree->node[at].child[x[tree->node[at].column] > tree->node[at].threshold];
    return ~at;
}

static inline double
moe_dense_weight(const moe_dense_rows *rows, int64_t i)
{
    return rows->weight == NULL ? 1 : rows->weight[i];
}

/* Columns that vary, cut into bins: bin b of a column holds what is above its edge b - 1 and at most its edge b. */
typedef struct moe_bins
{
    moe_job *job;
    int64_t n;
    int columns;
    int32_t *column; /* [columns] number among the inputs, ascending */
    int32_t *count;  /* [columns] bins, 2..MOE_TREE_BINS */
    float *edge;     /* [columns, MOE_TREE_BINS]; of the last bin there is none */
    uint8_t *bin;    /* [columns, n] */
} moe_bins;

/*
 * Bins of rows' inputs. A value that is common has a bin to itself; what else there is, evenly by number of rows.
 * Looks at no more than 50,000 evenly spaced rows for the edges.
 */
moe_code moe_bins_create(moe_job *job, const moe_dense_rows *rows, moe_bins **out);
void moe_bins_destroy(moe_bins *bins);

typedef struct moe_tree_rule
{
    int leaves;   /* 2..MOE_TREE_LEAVES, at most */
    double l2;    /* added to a leaf's curvature, above 0 */
    double least; /* curvature that a leaf must have */
} moe_tree_rule;

typedef struct moe_tree_grower moe_tree_grower;

/* A place to grow trees in, one after another; columns: of a tree, at most. bins must outlive it. */
moe_code moe_tree_grower_create(moe_job *job, const moe_bins *bins, int columns, const moe_tree_rule *rule,
                                moe_tree_grower **out);
void moe_tree_grower_destroy(moe_tree_grower *grower);
/*
 * Grow a tree on n rows (numbers, ascending) of the bins with n_columns of its columns. gradient, curvature (0 or
 * more): [bins->n], first and second derivative of each row's loss by what is predicted. Leaf values are Newton's
 * steps, -sum of gradients / (sum of curvatures + l2). A tree that finds nothing to split has no nodes.
 */
moe_code moe_tree_grow(moe_tree_grower *grower, int64_t n, const int32_t *rows, int n_columns, const int32_t *columns,
                       const float *gradient, const float *curvature, moe_tree *tree);
/* The rows of a leaf of the tree grown last, ascending; *n says how many. */
const int32_t *moe_tree_leaf_rows(const moe_tree_grower *grower, int leaf, int64_t *n);

/* The outputs that trees add to: 1, or of many classes the most common ones; the others keep their share. */
typedef struct moe_tree_outputs
{
    int n;
    int n_classes;
    int32_t *class_of; /* [n] MULTICLASS: ascending; otherwise 0 */
    double *base;      /* [n_classes] before the first tree: median, logit, or logarithms of shares */
    double rest;       /* MULTICLASS: the shares of classes that no output stands for */
} moe_tree_outputs;

moe_code moe_tree_outputs_create(moe_job *job, const moe_dense_task *task, moe_tree_outputs *out);
void moe_tree_outputs_destroy(moe_job *job, moe_tree_outputs *outputs);
/* Choose classes and base by labelled rows. */
moe_code moe_tree_outputs_fit(moe_job *job, const moe_dense_task *task, const moe_dense_rows *train,
                              moe_tree_outputs *outputs);
/* Derive `rest` from the others. */
void moe_tree_outputs_complete(const moe_dense_task *task, moe_tree_outputs *outputs);

/*
 * The loss's derivatives by output o, [n], at raw outputs [n, outputs->n]: logarithmic loss, or absolute error, whose
 * curvature is taken to be a row's weight.
 */
void moe_tree_gradients(moe_job *job, const moe_dense_task *task, const moe_tree_outputs *outputs,
                        const moe_dense_rows *rows, const double *raw, int o, float *gradient, float *curvature);
/* Absolute error: set leaf values to the weighted median of what the rows that grew the tree are still short of. */
moe_code moe_tree_medians(moe_job *job, const moe_dense_rows *rows, const double *raw, const moe_tree_grower *grower,
                          moe_tree *tree);
/* The weighted mean loss. */
double moe_tree_loss(const moe_dense_task *task, const moe_tree_outputs *outputs, const moe_dense_rows *rows,
                     const double *raw);
/* What raw outputs [outputs->n] of a row predict: [n_classes]. */
void moe_tree_finish(const moe_dense_task *task, const moe_tree_outputs *outputs, const double *raw, float *out);

#endif
