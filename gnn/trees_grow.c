/*
 * trees_grow.c: one regression tree from gradients, leaf by leaf.
 *
 * Of all splits of all leaves the one that lowers the loss's second-order model
 * most is made next (Shi 2007; Friedman 2001; Chen and Guestrin 2016),
 *
 *     gain = G_l^2 / (H_l + l2) + G_r^2 / (H_r + l2) - G^2 / (H + l2),
 *
 * G and H being sums of gradients and curvatures over a leaf's rows. They are
 * read off histograms over bins (Ke et al. 2017): those of the smaller child
 * are counted, those of the other are what is left of its parent's. Of equal
 * gains the earliest leaf, column and bin have it.
 *
 * Sums are of integers, gradient and curvature in the two halves of one word:
 * rounded to a power of two that makes all magnitudes together 2^29 to 2^30 of
 * it. So they are exact, and the same in any order.
 */
#include "gnn/trees.h"

#include <math.h>
#include <string.h>

#define BINS       256 /* of a histogram: a power of two */
#define GRAIN      4   /* columns */
#define WHOLE_BITS 30
#define NO_BIN     (-1)

typedef struct split
{
    double gain; /* 0: none */
    int bin;     /* the last on the left */
} split;

typedef struct leaf
{
    int64_t begin, end; /* rows */
    int64_t sum;
    int slot; /* of its histograms */
    split best;
    int column;   /* of the best, among the tree's */
    int32_t node; /* whose child it is, -1: the root */
    int side;
} leaf;

struct moe_tree_grower
{
    moe_job *job;
    const moe_bins *bins;
    moe_tree_rule rule;
    int most_columns;
    int32_t *row; /* [bins->n] leaf by leaf, ascending in each */
    int32_t *spare_row;
    int64_t *word; /* [bins->n] gradient and curvature of the same rows */
    int64_t *spare_word;
    int64_t *histogram; /* [leaves, most_columns, BINS] */
    split *found[2];    /* [most_columns] of the leaves that are new */
    leaf leaf[MOE_TREE_LEAVES];
    int leaves;
    int n_columns; /* of the tree that is grown */
    const int32_t *columns;
    double gradient_unit, curvature_unit;
    int counted, derived; /* leaves whose histograms are made; derived -1: none */
};

static double
gradient_of(const moe_tree_grower *g, int64_t sum)
{
    return (double) (sum >> 32) * g->gradient_unit;
}

static double
curvature_of(const moe_tree_grower *g, int64_t sum)
{
    return (double) (uint32_t) sum * g->curvature_unit;
}

static int64_t *
histogram_of(const moe_tree_grower *g, const leaf *l, int64_t column)
{
    return g->histogram + (l->slot * (int64_t) g->most_columns + column) * BINS;
}

/*
 * The best split of a leaf by one column. Both sides' scores as one fraction, up / down, are compared with the best
 * one's without dividing.
 */
static split
best_of(const moe_tree_grower *g, int bins, const int64_t *histogram, int64_t total)
{
    double all_gradient = gradient_of(g, total), all_curvature = curvature_of(g, total), l2 = g->rule.l2;
    double best_up = all_gradient * all_gradient, best_down = all_curvature + l2, least = g->rule.least;
    split best = {0, NO_BIN};
    int64_t left = 0;
    for (int b = 0; b < bins - 1 && all_curvature >= 2 * least; b++)
    {
        if (histogram[b] == 0)
            continue;
        left += histogram[b];
        double curvature = curvature_of(g, left), other_curvature = all_curvature - curvature;
        if (curvature < least)
            continue;
        if (other_curvature < least)
            break;
        double gradient = gradient_of(g, left), other_gradient = all_gradient - gradient;
        double up = gradient * gradient * (other_curvature + l2) + other_gradient * other_gradient * (curvature + l2);
        double down = (curvature + l2) * (other_curvature + l2);
        if (up * best_down > best_up * down)
        {
            best_up = up;
            best_down = down;
            best.bin = b;
        }
    }
    if (best.bin != NO_BIN)
        best.gain = best_up / best_down - all_gradient * all_gradient / (all_curvature + l2);
    return best;
}

/* Histograms of the new leaves, and the best split of each, by column. */
static void
search_columns(int64_t begin, int64_t end, void *arg)
{
    const moe_tree_grower *g = arg;
    const leaf *counted = &g->leaf[g->counted];
    for (int64_t c = begin; c < end && !moe_job_cancelled(g->job); c++)
    {
        const uint8_t *bin = g->bins->bin + g->columns[c] * g->bins->n;
        int bins = g->bins->count[g->columns[c]];
        int64_t *sums = histogram_of(g, counted, c);
        memset(sums, 0, (size_t) bins * sizeof *sums);
        for (int64_t i = counted->begin; i < counted->end; i++)
            sums[bin[g->row[i]]] += g->word[i];
        g->found[0][c] = best_of(g, bins, sums, counted->sum);
        if (g->derived < 0)
            continue;
        int64_t *rest = histogram_of(g, &g->leaf[g->derived], c);
        for (int b = 0; b < bins; b++)
            rest[b] -= sums[b];
        g->found[1][c] = best_of(g, bins, rest, g->leaf[g->derived].sum);
    }
}

static void
choose_column(moe_tree_grower *g, int l, const split *found)
{
    g->leaf[l].best = (split){0, NO_BIN};
    for (int c = 0; c < g->n_columns; c++)
        if (found[c].gain > g->leaf[l].best.gain)
        {
            g->leaf[l].best = found[c];
            g->leaf[l].column = c;
        }
}

/* Find the best splits of one or two new leaves; the histograms of `derived` are its parent's still. */
static void
search(moe_tree_grower *g, int counted, int derived)
{
    g->counted = counted;
    g->derived = derived;
    moe_parallel(g->job, g->n_columns, GRAIN, search_columns, g);
    choose_column(g, counted, g->found[0]);
    if (derived >= 0)
        choose_column(g, derived, g->found[1]);
}

/* Rows that go left first, in their order; returns where the others begin. */
static int64_t
part_rows(moe_tree_grower *g, const leaf *l)
{
    const uint8_t *bin = g->bins->bin + g->columns[l->column] * g->bins->n;
    int64_t left = l->begin, right = 0;
    for (int64_t i = l->begin; i < l->end; i++)
    {
        int32_t row = g->row[i];
        int64_t word = g->word[i];
        if (bin[row] > l->best.bin)
        {
            g->spare_row[right] = row;
            g->spare_word[right++] = word;
        }
        else
        {
            g->row[left] = row;
            g->word[left++] = word;
        }
    }
    memcpy(g->row + left, g->spare_row, (size_t) right * sizeof *g->row);
    memcpy(g->word + left, g->spare_word, (size_t) right * sizeof *g->word);
    return left;
}

static void
sum_rows(moe_tree_grower *g, leaf *l)
{
    l->sum = 0;
    for (int64_t i = l->begin; i < l->end; i++)
        l->sum += g->word[i];
}

/* Make the best split of a leaf: it becomes the left child, a new leaf the right one. */
static void
split_leaf(moe_tree_grower *g, int number, moe_tree *tree)
{
    leaf *l = &g->leaf[number], *r = &g->leaf[g->leaves];
    int32_t column = g->columns[l->column], node = tree->nodes++;
    int64_t middle = part_rows(g, l), parent = l->sum;
    tree->node[node] = (moe_tree_node){.column = g->bins->column[column],
                                       .threshold = g->bins->edge[(int64_t) column * MOE_TREE_BINS + l->best.bin],
                                       .child = {~number, ~g->leaves}};
    if (l->node >= 0)
        tree->node[l->node].child[l->side] = node;
    *r = (leaf){.begin = middle, .end = l->end, .node = node, .side = 1};
    l->end = middle;
    l->node = node;
    l->side = 0;
    sum_rows(g, l);
    r->sum = parent - l->sum;
    bool left_smaller = l->end - l->begin <= r->end - r->begin;
    r->slot = left_smaller ? l->slot : g->leaves;
    l->slot = left_smaller ? g->leaves : l->slot;
    g->leaves++;
    if (g->leaves < g->rule.leaves)
        search(g, left_smaller ? number : g->leaves - 1, left_smaller ? g->leaves - 1 : number);
}

/* The least power of two of which all magnitudes together are at most 2^WHOLE_BITS. */
static double
unit_of(double magnitudes)
{
    int exponent;
    frexp(magnitudes, &exponent);
    return ldexp(1, exponent - WHOLE_BITS);
}

/* Rows and their words, in units of the two; false: there is nothing to follow. */
static bool
prepare(moe_tree_grower *g, int64_t n, const int32_t *rows, const float *gradient, const float *curvature)
{
    double gradients = 0, curvatures = 0;
    for (int64_t i = 0; i < n; i++)
    {
        gradients += fabsf(gradient[rows[i]]);
        curvatures += curvature[rows[i]];
    }
    bool any = gradients > 0 && curvatures > 0 && isfinite(gradients) && isfinite(curvatures);
    g->gradient_unit = unit_of(gradients);
    g->curvature_unit = unit_of(curvatures);
    for (int64_t i = 0; i < n; i++)
    {
        int64_t down = any ? llrint(gradient[rows[i]] / g->gradient_unit) : 0;
        int64_t curved = any ? llrint(curvature[rows[i]] / g->curvature_unit) : 0;
        g->row[i] = rows[i];
        g->word[i] = down * ((int64_t) 1 << 32) + curved;
    }
    g->leaf[0] = (leaf){.begin = 0, .end = n, .node = -1};
    g->leaves = 1;
    sum_rows(g, &g->leaf[0]);
    return any;
}

static int
best_leaf(const moe_tree_grower *g)
{
    int best = 0;
    for (int l = 1; l < g->leaves; l++)
        if (g->leaf[l].best.gain > g->leaf[best].best.gain)
            best = l;
    return best;
}

moe_code
moe_tree_grow(moe_tree_grower *g, int64_t n, const int32_t *rows, int n_columns, const int32_t *columns,
              const float *gradient, const float *curvature, moe_tree *tree)
{
    tree->nodes = 0;
    g->n_columns = n_columns;
    g->columns = columns;
    if (prepare(g, n, rows, gradient, curvature))
    {
        search(g, 0, -1);
        for (int l = best_leaf(g);
             g->leaves < g->rule.leaves && g->leaf[l].best.gain > 0 && moe_job_check(g->job) == MOE_OK;
             l = best_leaf(g))
            split_leaf(g, l, tree);
    }
    for (int l = 0; l < g->leaves; l++)
        tree->value[l] = (float) (-gradient_of(g, g->leaf[l].sum) / (curvature_of(g, g->leaf[l].sum) + g->rule.l2));
    return moe_job_check(g->job);
}

const int32_t *
moe_tree_leaf_rows(const moe_tree_grower *g, int l, int64_t *n)
{
    *n = g->leaf[l].end - g->leaf[l].begin;
    return g->row + g->leaf[l].begin;
}

moe_code
moe_tree_grower_create(moe_job *job, const moe_bins *bins, int columns, const moe_tree_rule *rule,
                       moe_tree_grower **out)
{
    moe_tree_grower *g = *out = moe_alloc(job, 1, sizeof *g);
    if (g == NULL)
        return moe_job_code(job);
    *g = (moe_tree_grower){.job = job, .bins = bins, .rule = *rule, .most_columns = columns};
    g->row = moe_alloc(job, bins->n, sizeof *g->row);
    g->spare_row = moe_alloc(job, bins->n, sizeof *g->spare_row);
    g->word = moe_alloc(job, bins->n, sizeof *g->word);
    g->spare_word = moe_alloc(job, bins->n, sizeof *g->spare_word);
    g->histogram = moe_alloc(job, (int64_t) rule->leaves * columns, BINS * sizeof *g->histogram);
    for (int k = 0; k < 2; k++)
        g->found[k] = moe_alloc(job, columns, sizeof *g->found[k]);
    return moe_job_code(job);
}

void
moe_tree_grower_destroy(moe_tree_grower *g)
{
    if (g == NULL)
        return;
    void *owned[] = {g->row, g->spare_row, g->word, g->spare_word, g->histogram, g->found[0], g->found[1]};
    moe_job *job = g->job;
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        moe_free(job, owned[i]);
    moe_free(job, g);
}
