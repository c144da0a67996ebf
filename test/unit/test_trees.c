/*
 * test_trees.c: boosted trees: bins, one tree against a search through all splits, and what an ensemble learns.
 */
#include "test/unit/dense_fixture.h"

#include "gnn/trees.h"
#include "kernels/sort.h"

static const moe_dense_task *const tasks[] = {&binary_task, &regression_task, &three_classes};

static double
uniform(uint64_t key, int64_t i)
{
    return moe_random_uniform(key, (uint64_t) i);
}

/* Rows of this many columns, of values 0..values-1 each. */
static moe_dense_rows
coarse_rows(moe_job *job, int64_t n, int width, int values, uint64_t key)
{
    float *x = moe_alloc(job, n * width, sizeof *x), *label = moe_alloc(job, n, sizeof *label);
    assert_non_null(x);
    assert_non_null(label);
    for (int64_t i = 0; i < n * width; i++)
        x[i] = (float) (int) (uniform(key, i) * values);
    return (moe_dense_rows){.n = n, .width = width, .x = x, .label = label};
}

static void
floats_are_sorted(void **state)
{
    float values[] = {3, -1, 0, 1e30f, -1e-30f, -7, 3, 1e-30f, -1e30f, 2};
    float expected[] = {-1e30f, -7, -1, -1e-30f, 0, 1e-30f, 2, 3, 3, 1e30f}, spare[10];
    moe_sort_floats(values, spare, 10);
    assert_memory_equal(values, expected, sizeof expected);
}

/* A row's bin is where its value lies between the edges, and no bin of a column is empty. */
static void
bins_hold_the_values_between_their_edges(void **state)
{
    moe_job *job = dense_job(2);
    moe_dense_rows rows = dense_rows(job, MOE_BINARY, 3000, 37, 1, 3);
    float *x = (float *) rows.x;
    moe_bins *bins;
    for (int64_t i = 0; i < rows.n; i++)
    {
        x[i * 37 + 5] = 1;                                  /* constant: no column */
        x[i * 37 + 6] = i % 10 == 0 ? (float) (i % 70) : 0; /* mostly 0: the seven others are apart */
        x[i * 37 + 7] = (float) (i % 2);
    }
    assert_int_equal(moe_bins_create(job, &rows, &bins), MOE_OK);
    assert_int_equal(bins->columns, 36);
    for (int c = 0; c < bins->columns; c++)
    {
        int64_t held[MOE_TREE_BINS] = {0};
        const float *edge = bins->edge + (int64_t) c * MOE_TREE_BINS;
        assert_int_equal(bins->column[c], c < 5 ? c : c + 1);
        for (int64_t i = 0; i < rows.n; i++)
        {
            int b = bins->bin[c * rows.n + i];
            float value = x[i * 37 + bins->column[c]];
            assert_true(b < bins->count[c]);
            assert_true((b == 0 || value > edge[b - 1]) && (b == bins->count[c] - 1 || value <= edge[b]));
            held[b]++;
        }
        for (int b = 0; b < bins->count[c]; b++)
            assert_true(held[b] > 0 && (c == 5 || c == 6 || held[b] < 3 * 3000 / MOE_TREE_BINS));
    }
    assert_int_equal(bins->count[5], 7);
    assert_int_equal(bins->count[6], 2);
    moe_bins_destroy(bins);
    moe_job_destroy(job);
}

/* One leaf of the tree that is grown by trying everything. */
typedef struct plain_leaf
{
    bool holds[400];
    double gain;
    int column;
    float threshold; /* the largest value on the left */
} plain_leaf;

typedef struct plain_problem
{
    const moe_dense_rows *rows;
    const float *gradient, *curvature;
    moe_tree_rule rule;
} plain_problem;

static double
plain_score(const plain_problem *p, const bool *holds, double *curvature)
{
    double g = 0, h = 0;
    for (int64_t i = 0; i < p->rows->n; i++)
        if (holds[i])
        {
            g += p->gradient[i];
            h += p->curvature[i];
        }
    *curvature = h;
    return g * g / (h + p->rule.l2);
}

/* Try each value of each row of each column as a threshold. */
static void
plain_search(const plain_problem *p, plain_leaf *leaf)
{
    const moe_dense_rows *rows = p->rows;
    double unused;
    leaf->gain = 0;
    for (int c = 0; c < rows->width; c++)
        for (int64_t k = 0; k < rows->n; k++)
        {
            bool left[400], right[400];
            double h_left, h_right;
            for (int64_t i = 0; i < rows->n; i++)
            {
                left[i] = leaf->holds[i] && rows->x[i * rows->width + c] <= rows->x[k * rows->width + c];
                right[i] = leaf->holds[i] && !left[i];
            }
            double gain =
                plain_score(p, left, &h_left) + plain_score(p, right, &h_right) - plain_score(p, leaf->holds, &unused);
            if (h_left >= p->rule.least && h_right >= p->rule.least && gain > leaf->gain + 1e-9)
            {
                leaf->gain = gain;
                leaf->column = c;
                leaf->threshold = rows->x[k * rows->width + c];
            }
        }
}

/* Leaf values by row of the tree that always makes the best split there is. */
static void
plain_tree(const plain_problem *p, double *value)
{
    static plain_leaf leaves[MOE_TREE_LEAVES];
    int n = 1;
    for (int64_t i = 0; i < p->rows->n; i++)
        leaves[0].holds[i] = true;
    plain_search(p, &leaves[0]);
    while (n < p->rule.leaves)
    {
        int best = 0;
        for (int l = 1; l < n; l++)
            if (leaves[l].gain > leaves[best].gain)
                best = l;
        plain_leaf *left = &leaves[best], *right = &leaves[n];
        if (!(left->gain > 0))
            break;
        for (int64_t i = 0; i < p->rows->n; i++)
        {
            bool goes_left = p->rows->x[i * p->rows->width + left->column] <= left->threshold;
            right->holds[i] = left->holds[i] && !goes_left;
            left->holds[i] = left->holds[i] && goes_left;
        }
        plain_search(p, left);
        plain_search(p, right);
        n++;
    }
    for (int l = 0; l < n; l++)
    {
        double g = 0, h = 0;
        for (int64_t i = 0; i < p->rows->n; i++)
            if (leaves[l].holds[i])
            {
                g += p->gradient[i];
                h += p->curvature[i];
            }
        for (int64_t i = 0; i < p->rows->n; i++)
            if (leaves[l].holds[i])
                value[i] = -g / (h + p->rule.l2);
    }
}

static void
a_tree_is_that_of_an_exhaustive_search(void **state)
{
    for (int trial = 0; trial < 6; trial++)
    {
        moe_job *job = dense_job(2);
        int64_t n = 120 + 40 * trial;
        moe_dense_rows rows = coarse_rows(job, n, 5, trial % 2 == 0 ? 3 : 40, (uint64_t) trial);
        float *gradient = normal_floats(job, n, 10 + trial), *curvature = moe_alloc(job, n, sizeof *curvature);
        int32_t row[400], column[5] = {0, 1, 2, 3, 4};
        double expected[400];
        moe_tree tree;
        moe_bins *bins;
        moe_tree_grower *grower;
        for (int64_t i = 0; i < n; i++)
        {
            row[i] = (int32_t) i;
            curvature[i] = (float) (0.1 + uniform(20, i));
            gradient[i] += 2 * (rows.x[i * 5] > 1) * (rows.x[i * 5 + 1] > 1);
        }
        plain_problem p = {&rows, gradient, curvature, {.leaves = 4 + 5 * trial, .l2 = 0.5, .least = 4}};
        plain_tree(&p, expected);
        assert_int_equal(moe_bins_create(job, &rows, &bins), MOE_OK);
        assert_int_equal(moe_tree_grower_create(job, bins, 5, &p.rule, &grower), MOE_OK);
        for (int again = 0; again < 2; again++) /* a grower grows the next as the first */
        {
            assert_int_equal(moe_tree_grow(grower, n, row, 5, column, gradient, curvature, &tree), MOE_OK);
            assert_true(tree.nodes > 1 && tree.nodes < p.rule.leaves);
            for (int64_t i = 0; i < n; i++)
                assert_float_equal(tree.value[moe_tree_leaf(&tree, rows.x + i * 5)], expected[i], 1e-4);
        }
        for (int l = 0; l <= tree.nodes; l++)
        {
            int64_t held;
            const int32_t *own = moe_tree_leaf_rows(grower, l, &held);
            for (int64_t i = 0; i < held; i++)
                assert_true(moe_tree_leaf(&tree, rows.x + own[i] * 5) == l && (i == 0 || own[i] > own[i - 1]));
        }
        moe_tree_grower_destroy(grower);
        moe_bins_destroy(bins);
        moe_job_destroy(job);
    }
}

/* The mean loss of predictions. */
static double
loss_of(const moe_dense_task *task, const moe_dense_rows *rows, const float *p)
{
    double sum = 0;
    for (int64_t i = 0; i < rows->n; i++)
    {
        float y = rows->label[i];
        if (task->task == MOE_REGRESSION)
            sum += fabsf(p[i] - y);
        else
            sum -= log(task->task == MOE_MULTICLASS ? p[i * 3 + (int) y] : y > 0 ? p[i] : 1 - p[i]);
    }
    return sum / (double) rows->n;
}

/* The loss of labels of a shape that no straight line follows, learned from and asked for other rows. */
static double
loss_of_shape(moe_dense_kind kind, const moe_dense_task *task, int shape)
{
    moe_job *job = dense_job(2);
    moe_dense_rows train = dense_rows(job, task->task, 2000, 6, 1, 3);
    moe_dense_rows asked = dense_rows(job, task->task, 1000, 6, 1, 4);
    moe_dense_rows *both[] = {&train, &asked};
    for (int k = 0; k < 2; k++)
        for (int64_t i = 0; i < both[k]->n; i++)
        {
            const float *x = both[k]->x + i * 6;
            double cross = (x[1] > 0) != (x[2] > 0), step = x[3] > 0.8 && x[3] < 1.6;
            double y = shape == 0 ? cross : shape == 1 ? step : fabs(x[4]) < 0.5 || fabs(x[5]) < 0.5;
            ((float *) both[k]->label)[i] = (float) (task->task == MOE_REGRESSION ? 100 * y : y);
        }
    double loss = loss_of(task, &asked, dense_predict(job, dense_fit(job, kind, task, &train, NULL), task, &asked));
    moe_job_destroy(job);
    return loss;
}

static void
what_is_not_straight_is_learned(void **state)
{
    for (int shape = 0; shape < 3; shape++)
    {
        assert_true(loss_of_shape(MOE_DENSE_TREES, &binary_task, shape) < 0.12);
        assert_true(loss_of_shape(MOE_DENSE_LINEAR, &binary_task, shape) > 0.3);
        assert_true(loss_of_shape(MOE_DENSE_TREES, &regression_task, shape) < 20); /* 100 if wrong */
        assert_true(loss_of_shape(MOE_DENSE_TREES, &three_classes, shape) < 0.12);
    }
}

/* A loss on validation rows that sank, and more than that of the usual. */
static void
the_loss_sinks(void **state)
{
    double usual[] = {0.6, 15, 0.9}, most[] = {0.36, 8.5, 0.6};
    for (int t = 0; t < 3; t++)
    {
        moe_job *job = dense_job(2);
        moe_dense_rows train = dense_rows(job, tasks[t]->task, 2000, 10, 0.3, 3);
        moe_dense_rows valid = dense_rows(job, tasks[t]->task, 500, 10, 0.3, 4);
        moe_dense_rows nothing = train, asked = dense_rows(job, tasks[t]->task, 1000, 10, 0.3, 5);
        nothing.x = moe_alloc(job, train.n * 10, sizeof(float));
        float *constant =
            dense_predict(job, dense_fit(job, MOE_DENSE_TREES, tasks[t], &nothing, NULL), tasks[t], &asked);
        float *early = dense_predict(job, dense_fit(job, MOE_DENSE_TREES, tasks[t], &train, &valid), tasks[t], &asked);
        float *late = dense_predict(job, dense_fit(job, MOE_DENSE_TREES, tasks[t], &train, NULL), tasks[t], &asked);
        assert_true(loss_of(tasks[t], &asked, constant) > usual[t]);
        assert_true(loss_of(tasks[t], &asked, early) < most[t]);
        assert_true(loss_of(tasks[t], &asked, late) < most[t]);
        moe_job_destroy(job);
    }
}

/* Where inputs say nothing, the median and the shares of the labels are predicted; with validation rows, nearly so. */
static void
nothing_to_learn_is_a_constant(void **state)
{
    moe_job *job = dense_job(1);
    for (int t = 0; t < 3; t++)
    {
        moe_dense_rows train = dense_rows(job, tasks[t]->task, 401, 4, 1, 3), valid = train;
        double share[3] = {0};
        int64_t below = 0;
        train.x = moe_alloc(job, train.n * 4, sizeof(float));
        float *out = dense_predict(job, dense_fit(job, MOE_DENSE_TREES, tasks[t], &train, NULL), tasks[t], &train);
        for (int64_t i = 0; i < train.n; i++)
        {
            below += train.label[i] < out[0];
            if (tasks[t]->task != MOE_REGRESSION)
                share[(int) train.label[i]] += 1.0 / 401;
            assert_memory_equal(out + i * tasks[t]->n_classes, out, tasks[t]->n_classes * sizeof *out);
        }
        if (tasks[t]->task == MOE_REGRESSION)
            assert_int_equal(below, 200);
        else
            for (int c = 0; c < tasks[t]->n_classes; c++)
                assert_float_equal(out[c], share[tasks[t]->n_classes > 1 ? c : 1], 0.005);
        /* Noise is not followed where other rows speak against it. */
        train.x = normal_floats(job, train.n * 4, 9);
        valid.x = normal_floats(job, train.n * 4, 10);
        out = dense_predict(job, dense_fit(job, MOE_DENSE_TREES, tasks[t], &train, &valid), tasks[t], &valid);
        float *flat = dense_predict(job, dense_fit(job, MOE_DENSE_TREES, tasks[t], &train, NULL), tasks[t], &valid);
        assert_true(loss_of(tasks[t], &valid, out) < loss_of(tasks[t], &valid, flat));
        moe_dense_rows no_inputs = {.n = 401, .width = 0, .x = train.x, .label = train.label};
        dense_predict(job, dense_fit(job, MOE_DENSE_TREES, tasks[t], &no_inputs, NULL), tasks[t], &no_inputs);
    }
    moe_job_destroy(job);
}

/* Mostly 0, with a tail that one input tells: the many are right, and the few are near. */
static void
heavy_tails_are_followed(void **state)
{
    moe_job *job = dense_job(2);
    moe_dense_rows train = dense_rows(job, MOE_REGRESSION, 6000, 8, 1, 3);
    moe_dense_rows asked = dense_rows(job, MOE_REGRESSION, 3000, 8, 1, 4);
    moe_dense_rows *both[] = {&train, &asked};
    for (int k = 0; k < 2; k++)
        for (int64_t i = 0; i < both[k]->n; i++)
            ((float *) both[k]->label)[i] = floorf(expf(3 * fmaxf(both[k]->x[i * 8] - 0.8f, 0))) - 1;
    float *out =
        dense_predict(job, dense_fit(job, MOE_DENSE_TREES, &regression_task, &train, NULL), &regression_task, &asked);
    double error = 0, base = 0;
    int64_t far = 0;
    for (int64_t i = 0; i < asked.n; i++)
    {
        error += fabsf(out[i] - asked.label[i]);
        base += asked.label[i];
        far += asked.x[i * 8] < 0.7 && fabsf(out[i]) > 0.1;
    }
    assert_true(error < 0.4 * base);
    assert_true(far < asked.n / 100);
    moe_dense_task narrow = {.task = MOE_REGRESSION, .n_classes = 1, .low = 0, .high = 2.5};
    out = dense_predict(job, dense_fit(job, MOE_DENSE_TREES, &narrow, &train, NULL), &narrow, &asked);
    for (int64_t i = 0; i < asked.n; i++)
        assert_true(out[i] >= 0 && out[i] <= 2.5f);
    moe_job_destroy(job);
}

/* Of numbers all rows are in each tree: rows of weight 2 are rows given twice, and of weight 0 none. */
static void
a_weight_is_a_number_of_rows(void **state)
{
    moe_job *job = dense_job(2);
    moe_dense_rows rows = coarse_rows(job, 600, 4, 30, 3), twice = coarse_rows(job, 900, 4, 30, 3);
    float *weight = moe_alloc(job, rows.n, sizeof *weight);
    int64_t n = 0;
    for (int64_t i = 0; i < rows.n; i++)
    {
        const float *x = rows.x + i * 4;
        ((float *) rows.label)[i] = x[0] * (x[1] > 12) + (float) (int) (uniform(8, i) * 6);
        weight[i] = (float) (i % 4 == 3 ? 0 : i % 4 == 2 ? 1 : i % 4 == 1 ? 2 : 1);
        for (int k = 0; k < weight[i]; k++, n++)
        {
            memcpy((float *) twice.x + n * 4, x, 4 * sizeof *x);
            ((float *) twice.label)[n] = rows.label[i];
        }
    }
    rows.weight = weight;
    twice.n = n;
    assert_int_equal(n, 600);
    float *a =
        dense_predict(job, dense_fit(job, MOE_DENSE_TREES, &regression_task, &rows, NULL), &regression_task, &rows);
    float *b =
        dense_predict(job, dense_fit(job, MOE_DENSE_TREES, &regression_task, &twice, NULL), &regression_task, &rows);
    for (int64_t i = 0; i < rows.n; i++)
        assert_float_equal(a[i], b[i], 1e-4);
    moe_job_destroy(job);
}

/* Of more classes than have trees, the common ones are told apart and the rare ones keep their share. */
static void
many_classes_share_what_there_is(void **state)
{
    const moe_dense_task task = {.task = MOE_MULTICLASS, .n_classes = 100};
    moe_job *job = dense_job(2);
    moe_dense_rows train = dense_rows(job, MOE_BINARY, 1500, 3, 1, 3);
    for (int64_t i = 0; i < train.n; i++)
        ((float *) train.label)[i] = i % 15 == 0 ? (float) (i / 15) : train.x[i * 3 + 1] > 0 ? 98 : 99;
    float *out = dense_predict(job, dense_fit(job, MOE_DENSE_TREES, &task, &train, NULL), &task, &train);
    for (int64_t i = 0; i < train.n; i++)
    {
        const float *p = out + i * 100;
        double sum = 0;
        for (int c = 0; c < 100; c++)
            sum += p[c];
        assert_float_equal(sum, 1, 1e-4);
        assert_true(i % 15 == 0 || fabsf(train.x[i * 3 + 1]) < 0.1 || p[(int) train.label[i]] > 0.6);
        assert_true(p[97] > 1e-4 && p[97] < 0.01);
    }
    moe_job_destroy(job);
}

static void
threads_change_nothing(void **state)
{
    for (int t = 0; t < 3; t++)
        check_threads(MOE_DENSE_TREES, tasks[t], 1001, 37);
}

static void
company_changes_nothing(void **state)
{
    for (int t = 0; t < 3; t++)
        check_company(MOE_DENSE_TREES, tasks[t], 500, 20);
}

static void
what_does_not_read_back_is_refused(void **state)
{
    int64_t rows[] = {70, 45, 30}; /* for trees of two leaves, and none */
    for (int t = 0; t < 3; t++)
        check_hostile(MOE_DENSE_TREES, tasks[t], rows[t], 3);
}

static void
trees_that_lead_nowhere_are_refused(void **state)
{
    moe_job *job = dense_job(1);
    moe_dense_rows train = dense_rows(job, MOE_BINARY, 300, 3, 1, 3);
    moe_buffer bytes = dense_bytes(job, dense_fit(job, MOE_DENSE_TREES, &binary_task, &train, NULL));
    /* head, base, class, number of trees, then output and number of nodes of the first tree. */
    int64_t tree = 3 + 4 + 16 + 4 + 8 + 4 + 8, node = tree + 8;
    struct
    {
        int64_t at;
        int32_t value;
    } wrong[] = {
        {tree, 1},
        {tree, -1},
        {tree + 4, 31},
        {tree + 4, -1},
        {node, 3},
        {node, -1},
        {node + 8, 0},
        {node + 8, 31},
        {node + 12, -32},
        {node + 12, INT32_MIN},
        {node + 4, 0x7f800000},
        {node - 16, 5000}, /* infinity; more trees than there are bytes for */
    };
    for (size_t w = 0; w < sizeof wrong / sizeof *wrong; w++)
    {
        uint8_t *at = bytes.data + wrong[w].at, kept[4];
        memcpy(kept, at, 4);
        for (int k = 0; k < 4; k++)
            at[k] = (uint8_t) ((uint32_t) wrong[w].value >> 8 * k);
        assert_int_equal(read_dense_bytes(bytes.data, bytes.length), MOE_CORRUPT);
        memcpy(at, kept, 4);
    }
    assert_int_equal(read_dense_bytes(bytes.data, bytes.length), MOE_OK);
    moe_job_destroy(job);
}

static bool
cancel_later(void *arg)
{
    return ++*(int64_t *) arg > 300;
}

static void
a_fit_can_be_cancelled(void **state)
{
    int64_t polls = 0;
    moe_job_config config = {.threads = 1, .cancelled = cancel_later, .cancel_arg = &polls};
    moe_job *job;
    moe_dense_expert *expert;
    assert_int_equal(moe_job_create(&config, &job), MOE_OK);
    moe_dense_rows train = dense_rows(job, MOE_BINARY, 2000, 20, 1, 3);
    assert_int_equal(moe_dense_expert_fit(job, MOE_DENSE_TREES, &binary_task, &train, NULL, 1, &expert), MOE_CANCELLED);
    assert_null(expert);
    moe_job_destroy(job);
}

/* Whatever memory there is, the fit ends well or says that there is too little, and gives back what it took. */
static void
memory_may_end_anywhere(void **state)
{
    moe_code code = MOE_LIMIT;
    for (size_t limit = 1 << 15; code != MOE_OK; limit += 2048)
    {
        moe_job_config config = {.threads = 2, .memory_limit = limit};
        moe_job *job, *own = dense_job(1);
        moe_dense_expert *expert;
        moe_dense_rows train = dense_rows(own, MOE_MULTICLASS, 400, 7, 1, 3);
        code = moe_job_create(&config, &job);
        if (code == MOE_OK)
        {
            size_t before = moe_job_memory_used(job);
            code = moe_dense_expert_fit(job, MOE_DENSE_TREES, &three_classes, &train, &train, 1, &expert);
            assert_true(code == MOE_OK || (code == MOE_LIMIT && expert == NULL));
            moe_dense_expert_destroy(expert);
            assert_int_equal(moe_job_memory_used(job), before);
            moe_job_destroy(job);
        }
        moe_job_destroy(own);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(floats_are_sorted),
        cmocka_unit_test(bins_hold_the_values_between_their_edges),
        cmocka_unit_test(a_tree_is_that_of_an_exhaustive_search),
        cmocka_unit_test(what_is_not_straight_is_learned),
        cmocka_unit_test(the_loss_sinks),
        cmocka_unit_test(nothing_to_learn_is_a_constant),
        cmocka_unit_test(heavy_tails_are_followed),
        cmocka_unit_test(a_weight_is_a_number_of_rows),
        cmocka_unit_test(many_classes_share_what_there_is),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(company_changes_nothing),
        cmocka_unit_test(what_does_not_read_back_is_refused),
        cmocka_unit_test(trees_that_lead_nowhere_are_refused),
        cmocka_unit_test(a_fit_can_be_cancelled),
        cmocka_unit_test(memory_may_end_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
