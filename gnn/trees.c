/*
 * trees.c: gradient-boosted decision trees: what is not smooth, and what a few inputs do together.
 *
 * Each round adds a tree an output (trees_grow.c) that follows the loss's
 * gradients (trees_loss.c), shrunken, grown on a random part of rows and of
 * columns (Friedman 2001, 2002). After USUAL_ROUNDS boosting stops; with
 * LEAST_VALID validation rows or more it goes on until PATIENCE rounds have not
 * lowered their loss, and trees after the best round are dropped.
 *
 * A leaf must have the curvature that LEAST_ROWS rows had on average before the first tree.
 */
#include "gnn/trees.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "kernels/random.h"

#define LEAVES       15
#define SHRINKAGE    0.05
#define L2           1.0
#define LEAST_ROWS   20
#define ROW_SHARE    0.7 /* of a tree; of numbers all rows, as medians of few move much */
#define COLUMN_SHARE 0.5
#define PATIENCE     50
#define DEPTH        3 /* times that a row is counted in a tree, on average */
#define MOST_ROUNDS  1000
#define USUAL_ROUNDS 200
#define MOST_ROWS    50000 /* of a tree */
#define MOST_COLUMNS 1024
#define MOST_TREES   4096
#define MOST_WORK    3e10 /* sums: tens of seconds */
#define LEAST_VALID  100
#define ROWS         64   /* a chunk */
#define BATCH        4096 /* rows predicted together */
#define KEY_ROWS     1
#define KEY_COLUMNS  2

typedef struct trees
{
    moe_tree_outputs outputs;
    int64_t n;
    moe_tree *tree; /* [n] */
} trees;

static void
trees_destroy(moe_job *job, void *state)
{
    trees *t = state;
    if (t == NULL)
        return;
    moe_tree_outputs_destroy(job, &t->outputs);
    moe_free(job, t->tree);
    moe_free(job, t);
}

static trees *
create(moe_job *job, const moe_dense_task *task)
{
    trees *t = moe_alloc(job, 1, sizeof *t);
    if (t == NULL)
        return NULL;
    if (moe_tree_outputs_create(job, task, &t->outputs) == MOE_OK)
        return t;
    trees_destroy(job, t);
    return NULL;
}

/* Raw outputs of rows, and trees to be added to them. */
typedef struct adding
{
    moe_job *job;
    const moe_dense_rows *rows;
    int outputs;
    int64_t n;
    const moe_tree *tree; /* [n] */
    double *raw;          /* [rows->n, outputs] */
} adding;

static void
add_rows(int64_t begin, int64_t end, void *arg)
{
    const adding *a = arg;
    for (int64_t i = begin; i < end && !moe_job_cancelled(a->job); i++)
    {
        const float *x = a->rows->x + i * a->rows->width;
        for (int64_t t = 0; t < a->n; t++)
            a->raw[i * a->outputs + a->tree[t].output] += a->tree[t].value[moe_tree_leaf(&a->tree[t], x)];
    }
}

static void
add_trees(moe_job *job, const trees *t, int64_t first, const moe_dense_rows *rows, double *raw)
{
    adding a = {job, rows, t->outputs.n, t->n - first, t->tree + first, raw};
    moe_parallel(job, rows->n, ROWS, add_rows, &a);
}

/* Raw outputs before the first tree, [rows, outputs]. */
static void
start(const moe_dense_task *task, const trees *t, int64_t rows, double *raw)
{
    for (int64_t i = 0; i < rows; i++)
        for (int o = 0; o < t->outputs.n; o++)
            *raw++ = t->outputs.base[task->task == MOE_MULTICLASS ? t->outputs.class_of[o] : 0];
}

/* What one fit works with. */
typedef struct boosting
{
    moe_job *job;
    const moe_dense_task *task;
    const moe_dense_rows *train;
    const moe_dense_rows *valid; /* n = 0: none to stop by */
    uint64_t seed;
    trees *trees;
    moe_bins *bins;
    moe_tree_grower *grower;
    int64_t rounds;
    double row_share;
    double *raw;       /* [train->n, outputs] */
    double *valid_raw; /* [valid->n, outputs] */
    float *gradient;   /* [outputs, train->n] */
    float *curvature;
    int32_t *row; /* [train->n] of the tree that grows */
    int32_t *column;
} boosting;

/* Numbers below n that a tree gets: each with this chance, but one at least, and no more than `most`. */
static int64_t
draw(uint64_t key, int64_t n, double share, int64_t most, int32_t *out)
{
    int64_t taken = 0;
    share = fmin(share, (double) most / (double) n);
    for (int64_t i = 0; i < n && taken < most; i++)
        if (moe_random_uniform(key, (uint64_t) i) < share)
            out[taken++] = (int32_t) i;
    if (taken == 0)
        out[taken++] = (int32_t) (moe_random_uniform(key, (uint64_t) n) * (double) n);
    return taken;
}

/* Add a tree for output o, whose gradients are known; one that splits nothing is left out. */
static moe_code
add_tree(boosting *b, int64_t round, int o)
{
    trees *t = b->trees;
    uint64_t key = moe_key(moe_key(b->seed, (uint64_t) round), (uint64_t) o);
    moe_tree *tree = &t->tree[t->n];
    int64_t n = draw(moe_key(key, KEY_ROWS), b->train->n, b->row_share, MOST_ROWS, b->row);
    int columns = (int) draw(moe_key(key, KEY_COLUMNS), b->bins->columns, COLUMN_SHARE, MOST_COLUMNS, b->column);
    moe_code code = moe_tree_grow(b->grower, n, b->row, columns, b->column, b->gradient + o * b->train->n,
                                  b->curvature + o * b->train->n, tree);
    if (code == MOE_OK && tree->nodes > 0 && b->task->task == MOE_REGRESSION)
        code = moe_tree_medians(b->job, b->train, b->raw, b->grower, tree);
    if (code != MOE_OK || tree->nodes == 0)
        return code;
    tree->output = o;
    for (int l = 0; l <= tree->nodes; l++)
        tree->value[l] *= (float) SHRINKAGE;
    t->n++;
    return MOE_OK;
}

static moe_code
run_round(boosting *b, int64_t round)
{
    trees *t = b->trees;
    int64_t first = t->n;
    moe_code code = MOE_OK;
    for (int o = 0; o < t->outputs.n; o++)
        moe_tree_gradients(b->job, b->task, &t->outputs, b->train, b->raw, o, b->gradient + o * b->train->n,
                           b->curvature + o * b->train->n);
    for (int o = 0; o < t->outputs.n && code == MOE_OK; o++)
        code = add_tree(b, round, o);
    if (code != MOE_OK)
        return code;
    add_trees(b->job, t, first, b->train, b->raw);
    add_trees(b->job, t, first, b->valid, b->valid_raw);
    return moe_job_check(b->job);
}

static moe_code
run_rounds(boosting *b)
{
    trees *t = b->trees;
    int64_t best_round = 0, best_trees = 0;
    bool validated = b->valid->n > 0;
    double best = validated ? moe_tree_loss(b->task, &t->outputs, b->valid, b->valid_raw) : 0;
    for (int64_t round = 1; round <= b->rounds; round++)
    {
        moe_code code = run_round(b, round);
        if (code != MOE_OK)
            return code;
        double loss = validated ? moe_tree_loss(b->task, &t->outputs, b->valid, b->valid_raw) : 0;
        if (!validated || loss < best)
        {
            best = loss;
            best_round = round;
            best_trees = t->n;
        }
        else if (round >= USUAL_ROUNDS && round - best_round >= PATIENCE)
            break;
    }
    t->n = best_trees;
    moe_tree *kept = moe_realloc(b->job, t->tree, t->n, sizeof *t->tree);
    t->tree = kept == NULL ? t->tree : kept;
    return moe_job_code(b->job);
}

/* How many rounds at most: what a tree's histograms cost sets a limit, and how many trees may be stored. */
static int64_t
rounds_for(const boosting *b, int columns)
{
    double rows = fmin(b->row_share * (double) b->train->n, MOST_ROWS);
    double work = b->trees->outputs.n * COLUMN_SHARE * columns * (DEPTH * rows + LEAVES * MOE_TREE_BINS);
    double most = fmin(MOST_TREES / b->trees->outputs.n, MOST_WORK / fmax(work, 1));
    return (int64_t) fmax(fmin(b->valid->n > 0 ? MOST_ROUNDS : USUAL_ROUNDS, most), 1);
}

static moe_code
prepare(boosting *b)
{
    const moe_dense_rows *train = b->train;
    moe_job *job = b->job;
    double total = 0, curved = 0;
    int outputs = b->trees->outputs.n;
    moe_code code = moe_bins_create(job, train, &b->bins);
    if (code != MOE_OK)
        return code;
    int columns = b->bins->columns < MOST_COLUMNS ? b->bins->columns : MOST_COLUMNS;
    b->row_share = b->task->task == MOE_REGRESSION ? 1 : ROW_SHARE;
    b->rounds = rounds_for(b, columns);
    b->raw = moe_alloc(job, train->n, (size_t) outputs * sizeof *b->raw);
    b->valid_raw = moe_alloc(job, b->valid->n, (size_t) outputs * sizeof *b->valid_raw);
    b->gradient = moe_alloc(job, train->n, (size_t) outputs * sizeof *b->gradient);
    b->curvature = moe_alloc(job, train->n, (size_t) outputs * sizeof *b->curvature);
    b->row = moe_alloc(job, train->n, sizeof *b->row);
    b->column = moe_alloc(job, columns + 1, sizeof *b->column);
    b->trees->tree = moe_alloc(job, b->rounds * outputs, sizeof *b->trees->tree);
    if (moe_job_code(job) != MOE_OK)
        return moe_job_code(job);
    start(b->task, b->trees, train->n, b->raw);
    start(b->task, b->trees, b->valid->n, b->valid_raw);
    moe_tree_gradients(job, b->task, &b->trees->outputs, train, b->raw, 0, b->gradient, b->curvature);
    for (int64_t i = 0; i < train->n; i++)
    {
        total += moe_dense_weight(train, i);
        curved += b->curvature[i];
    }
    moe_tree_rule rule = {LEAVES, L2, LEAST_ROWS * curved / total};
    return moe_tree_grower_create(job, b->bins, columns, &rule, &b->grower);
}

static void
release(boosting *b)
{
    void *owned[] = {b->raw, b->valid_raw, b->gradient, b->curvature, b->row, b->column};
    moe_tree_grower_destroy(b->grower);
    moe_bins_destroy(b->bins);
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        moe_free(b->job, owned[i]);
}

static moe_code
trees_fit(moe_job *job, const moe_dense_task *task, const moe_dense_rows *train, const moe_dense_rows *valid,
          uint64_t seed, void **state)
{
    const moe_dense_rows none = {.width = train->width};
    boosting b = {
        .job = job, .task = task, .train = train, .valid = valid->n >= LEAST_VALID ? valid : &none, .seed = seed};
    b.trees = create(job, task);
    if (b.trees == NULL)
        return moe_job_code(job);
    moe_code code = moe_tree_outputs_fit(job, task, train, &b.trees->outputs);
    if (code == MOE_OK)
        code = prepare(&b);
    if (code == MOE_OK && b.bins->columns > 0)
        code = run_rounds(&b);
    release(&b);
    if (code == MOE_OK)
        *state = b.trees;
    else
        trees_destroy(job, b.trees);
    return code;
}

static moe_code
trees_predict(moe_job *job, void *state, const moe_dense_task *task, const moe_dense_rows *rows, float *prediction)
{
    const trees *t = state;
    double *raw = moe_alloc(job, rows->n < BATCH ? rows->n : BATCH, (size_t) t->outputs.n * sizeof *raw);
    for (int64_t first = 0; first < rows->n && moe_job_check(job) == MOE_OK; first += BATCH)
    {
        moe_dense_rows part = {.n = rows->n - first < BATCH ? rows->n - first : BATCH, .width = rows->width};
        part.x = rows->x + first * rows->width;
        start(task, t, part.n, raw);
        add_trees(job, t, 0, &part, raw);
        for (int64_t i = 0; i < part.n; i++)
            moe_tree_finish(task, &t->outputs, raw + i * t->outputs.n, prediction + (first + i) * task->n_classes);
    }
    moe_free(job, raw);
    return moe_job_check(job);
}

static int64_t
trees_parameters(const void *state)
{
    const trees *t = state;
    int64_t sum = t->outputs.n;
    for (int64_t i = 0; i < t->n; i++)
        sum += 3 * t->tree[i].nodes + 1; /* a column and a threshold a node, a value a leaf */
    return sum;
}

static void
write_tree(const moe_tree *tree, moe_buffer *buffer)
{
    moe_put_i32(buffer, tree->output);
    moe_put_i32(buffer, tree->nodes);
    for (int i = 0; i < tree->nodes; i++)
    {
        moe_put_i32(buffer, tree->node[i].column);
        moe_put_f32(buffer, tree->node[i].threshold);
        moe_put_i32(buffer, tree->node[i].child[0]);
        moe_put_i32(buffer, tree->node[i].child[1]);
    }
    moe_put_floats(buffer, tree->value, tree->nodes + 1);
}

static void
trees_write(const void *state, moe_buffer *buffer)
{
    const trees *t = state;
    for (int c = 0; c < t->outputs.n_classes; c++)
        moe_put_f64(buffer, t->outputs.base[c]);
    for (int o = 0; o < t->outputs.n; o++)
        moe_put_i32(buffer, t->outputs.class_of[o]);
    moe_put_i64(buffer, t->n);
    for (int64_t i = 0; i < t->n; i++)
        write_tree(&t->tree[i], buffer);
}

/* Read base and classes; false: they are not those of any model. */
static bool
read_outputs(moe_reader *reader, const moe_dense_task *task, moe_tree_outputs *outputs)
{
    bool valid = true;
    for (int c = 0; c < task->n_classes; c++)
    {
        outputs->base[c] = moe_get_f64(reader);
        valid = valid && fabs(outputs->base[c]) <= FLT_MAX && (task->task != MOE_MULTICLASS || outputs->base[c] <= 0);
    }
    for (int o = 0; o < outputs->n; o++)
    {
        outputs->class_of[o] = moe_get_i32(reader);
        valid = valid && outputs->class_of[o] >= (o > 0 ? outputs->class_of[o - 1] + 1 : 0) &&
                outputs->class_of[o] < task->n_classes;
    }
    if (valid)
        moe_tree_outputs_complete(task, outputs);
    return valid;
}

/* Read a tree; false: a row could not find its way through it. */
static bool
read_tree(moe_reader *reader, int width, int outputs, moe_tree *tree)
{
    tree->output = moe_get_i32(reader);
    tree->nodes = moe_get_i32(reader);
    if (tree->output < 0 || tree->output >= outputs || tree->nodes < 0 || tree->nodes >= MOE_TREE_LEAVES)
        return false;
    for (int i = 0; i < tree->nodes; i++)
    {
        moe_tree_node *node = &tree->node[i];
        node->column = moe_get_i32(reader);
        moe_get_floats(reader, &node->threshold, 1);
        if (node->column < 0 || node->column >= width)
            return false;
        for (int side = 0; side < 2; side++)
        {
            node->child[side] = moe_get_i32(reader);
            if (node->child[side] >= 0 ? node->child[side] <= i || node->child[side] >= tree->nodes
                                       : ~node->child[side] > tree->nodes)
                return false;
        }
    }
    moe_get_floats(reader, tree->value, tree->nodes + 1);
    return true;
}

static moe_code
trees_read(moe_job *job, moe_reader *reader, const moe_dense_task *task, int width, void **state)
{
    trees *t =
        task->n_classes <= (reader->length - reader->position) / (int64_t) sizeof(double) ? create(job, task) : NULL;
    if (t == NULL && moe_job_code(job) != MOE_OK)
        return moe_job_code(job);
    bool valid = t != NULL && read_outputs(reader, task, &t->outputs);
    int64_t n = moe_get_count(reader, 3 * sizeof(int32_t));
    if (valid && n <= MOST_TREES && moe_reader_code(reader) == MOE_OK)
    {
        t->n = n;
        t->tree = moe_alloc(job, n, sizeof *t->tree);
        for (int64_t i = 0; i < n && t->tree != NULL && valid; i++)
            valid = read_tree(reader, width, t->outputs.n, &t->tree[i]);
    }
    else
        valid = false;
    moe_code code = moe_reader_code(reader);
    if (code == MOE_OK)
        code = moe_job_code(job);
    if (code == MOE_OK && !valid)
        code = moe_fail(job, MOE_CORRUPT, "stored trees do not read back");
    if (code == MOE_OK)
        *state = t;
    else
        trees_destroy(job, t);
    return code;
}

const moe_dense_class moe_dense_trees = {
    .name = "trees",
    .fit = trees_fit,
    .predict = trees_predict,
    .parameters = trees_parameters,
    .write = trees_write,
    .read = trees_read,
    .destroy = trees_destroy,
};
