/*
 * mixture.c: cases of gates, choices, grouped products and the router's losses.
 */
#include "ops.h"

#include <math.h>

/* Every third number from a few values, so that there are ties. */
static float *
tied_normal(ops_run *run, uint64_t key)
{
    float *x = ops_row_normal(run, run->cols, key);
    for (int64_t i = 0; i < run->rows * run->cols; i++)
    {
        int64_t at = run->first * run->cols + i;
        x[i] = at % 3 == 0 ? (float) (at / 3 % 4) / 2 : x[i];
    }
    return x;
}

static const float *
tied_floats(ops_run *run, uint64_t key)
{
    return ops_input(run, OPS_FLOAT, run->rows * run->cols, tied_normal(run, key));
}

static void
run_top_k_gate(ops_run *run)
{
    const float *logits = tied_floats(run, 1);
    int n = run->cols < 4 ? (int) run->cols : 4;
    for (int k = 1; k <= n; k++)
        run->backend->top_k_gate(run->job, run->rows, run->cols, k, 0, 5, logits,
                                 ops_rows(run, "gates", run->cols, false));
    run->backend->top_k_gate(run->job, run->rows, run->cols, n, 0.5f, 5, logits,
                             ops_output(run, "noisy gates", run->rows * run->cols, false));
    run->backend->top_k_gate(run->job, run->rows, run->cols, (int) run->cols, 0, 5, logits,
                             ops_rows(run, "all gates", run->cols, false));
}

static void
run_top_k(ops_run *run)
{
    float *x = tied_normal(run, 1);
    for (int64_t i = 0; i < run->rows * run->cols; i++)
        x[i] = (run->first * run->cols + i) % 5 == 2 ? NAN : x[i];
    const float *numbers = ops_input(run, OPS_FLOAT, run->rows * run->cols, x);
    int n = run->cols < 4 ? (int) run->cols : 4;
    for (int k = 1; k <= n; k++)
        run->backend->top_k(run->job, run->rows, run->cols, k, numbers,
                            ops_other_output(run, "chosen", OPS_INDEX, run->rows * k));
    run->backend->top_k(run->job, run->rows, run->cols, (int) run->cols, numbers,
                        ops_other_output(run, "all", OPS_INDEX, run->rows * run->cols));
}

/* k different columns a row, ascending. */
static const int32_t *
choices(ops_run *run, int k)
{
    int32_t *chosen = ops_index(run, run->rows * k, 1, 1);
    for (int64_t i = 0; i < run->rows; i++)
    {
        int64_t left = run->cols - k + 1, at = 0;
        for (int j = 0; j < k; j++)
        {
            int64_t skip = (int64_t) (moe_random_bits(8, (uint64_t) ((run->first + i) * 16 + j)) % (uint64_t) left);
            at += skip;
            left -= skip;
            chosen[i * k + j] = (int32_t) (at + j);
        }
    }
    return ops_input(run, OPS_INDEX, run->rows * k, chosen);
}

static void
run_pick(ops_run *run)
{
    const float *x = ops_row_floats(run, run->cols, 1);
    for (int k = 1; k <= run->cols && k < 5; k++)
        run->backend->pick(run->job, run->rows, run->cols, k, choices(run, k), x, ops_rows(run, "out", k, false));
}

static void
run_pick_backward(ops_run *run)
{
    for (int k = 1; k <= run->cols && k < 5; k++)
        run->backend->pick_backward(run->job, run->rows, run->cols, k, choices(run, k), ops_row_floats(run, k, 2),
                                    run->add, ops_rows(run, "gx", run->cols, run->add));
}

/* As many groups as columns, and some that nobody chose beside them. */
static void
run_group(ops_run *run)
{
    for (int k = 1; k <= run->cols && k < 4; k++)
    {
        int groups = (int) run->cols + 3;
        run->backend->group(run->job, run->rows, k, groups, choices(run, k),
                            ops_other_output(run, "offset", OPS_COUNT, groups + 1),
                            ops_other_output(run, "row", OPS_INDEX, run->rows * k),
                            ops_other_output(run, "place", OPS_INDEX, run->rows * k));
    }
}

/* Rows shared out among groups: some of none, one of a single row, the last of the rest. */
typedef struct shares
{
    int groups;
    int64_t k, m; /* of the products */
    const int64_t *offset;
    const int32_t *row; /* of a matrix of `sources` rows */
    int64_t sources;
} shares;

/* Where the groups of a shape's rows begin. */
static void
place_groups(int64_t *offset, int groups, int64_t rows)
{
    for (int g = 1; g < groups; g++)
    {
        int64_t at = g % 3 == 1 ? 0 : g == 2 ? 1 : rows * g / (2 * groups);
        at = at > rows ? rows : at;
        offset[g] = at > offset[g - 1] ? at : offset[g - 1];
    }
    offset[groups] = rows;
}

static shares
share_out(ops_run *run, int kind)
{
    static const int groups[] = {1, 4, 9};
    static const int64_t widths[] = {13, 32, 1};
    shares s = {.groups = groups[kind], .k = run->cols, .m = widths[kind], .sources = run->whole % 57 + 1};
    int64_t offset[10] = {0};
    place_groups(offset, s.groups, run->whole);
    for (int g = 0; g <= s.groups; g++)
    {
        int64_t at = offset[g] - run->first;
        offset[g] = at < 0 ? 0 : at > run->rows ? run->rows : at;
    }
    s.offset = ops_input(run, OPS_COUNT, s.groups + 1, offset);
    int32_t *row = ops_index(run, run->first + run->rows, s.sources, 21);
    for (int64_t p = 0; p < run->first + run->rows; p++)
        row[p] = row[p] < 0 ? 0 : row[p];
    s.row = run->add ? ops_input(run, OPS_INDEX, run->rows, row + run->first) : NULL;
    return s;
}

static const float *
grouped_input(ops_run *run, const shares *s)
{
    return s->row != NULL ? ops_floats(run, s->sources * s->k, 1) : ops_row_floats(run, s->k, 1);
}

static void
run_grouped_linear(ops_run *run)
{
    for (int kind = 0; kind < 3; kind++)
    {
        shares s = share_out(run, kind);
        const float *x = grouped_input(run, &s);
        const float *w = ops_floats(run, s.groups * s.k * s.m, 2), *b = ops_floats(run, s.groups * s.m, 3);
        run->backend->grouped_linear(run->job, s.groups, run->rows, s.k, s.m, s.offset, s.row, x, w,
                                     kind == 1 ? NULL : b, ops_rows(run, "out", s.m, false));
    }
}

static void
run_grouped_linear_input(ops_run *run)
{
    for (int kind = 0; kind < 3; kind++)
    {
        shares s = share_out(run, kind);
        const float *gy = ops_row_floats(run, s.m, 4), *w = ops_floats(run, s.groups * s.k * s.m, 2);
        run->backend->grouped_linear_input(run->job, s.groups, run->rows, s.k, s.m, s.offset, gy, w, run->add,
                                           ops_output(run, "gx", run->rows * s.k, run->add));
    }
}

static void
run_grouped_linear_weight(ops_run *run)
{
    for (int kind = 0; kind < 3; kind++)
    {
        shares s = share_out(run, kind);
        const float *x = grouped_input(run, &s);
        const float *gy = ops_row_floats(run, s.m, 4);
        run->backend->grouped_linear_weight(run->job, s.groups, run->rows, s.k, s.m, s.offset, s.row, x, gy,
                                            ops_output(run, "gw", s.groups * s.k * s.m, true),
                                            kind == 1 ? NULL : ops_output(run, "gb", s.groups * s.m, true));
    }
}

/* Gates as a gate of one or two gives them. */
static const float *
make_gates(ops_run *run)
{
    float *gates = ops_row_normal(run, run->cols, 6);
    for (int64_t i = 0; i < run->rows; i++)
    {
        int64_t a = (i * 7 + 1) % run->cols, b = i * 5 % run->cols;
        for (int64_t e = 0; e < run->cols; e++)
            gates[i * run->cols + e] = a == b ? (e == a) : e == a ? 0.7f : e == b ? 0.3f : 0;
    }
    return ops_input(run, OPS_FLOAT, run->rows * run->cols, gates);
}

static void
run_balance_loss(ops_run *run)
{
    const float *logits = tied_floats(run, 1);
    run->backend->balance_loss(run->job, run->rows, run->cols, logits, make_gates(run),
                               ops_output(run, "value", 1, false),
                               ops_output(run, "gradient", run->rows * run->cols, false));
}

static void
run_z_loss(ops_run *run)
{
    const float *logits = tied_floats(run, 1);
    run->backend->z_loss(run->job, run->rows, run->cols, logits, ops_output(run, "value", 1, false),
                         ops_output(run, "gradient", run->rows * run->cols, false));
}

const ops_case ops_mixture_cases[] = {
    OPS_CASE(top_k_gate, .least_cols = 1, .tolerance = {16, 0, 0.1f}),
    OPS_CASE(top_k, .least_cols = 1, .tolerance = {0}),
    OPS_CASE(pick, .least_cols = 1, .tolerance = {0}),
    OPS_CASE(pick_backward, .least_cols = 1, .tolerance = {1, 1, 0}),
    OPS_CASE(group, .least_cols = 1, .tolerance = {0}),
    OPS_CASE(grouped_linear, .tolerance = {2, 8, 0}),
    OPS_CASE(grouped_linear_input, .tolerance = {2, 8, 0}),
    OPS_CASE(grouped_linear_weight, .tolerance = {2, 16, 0}),
    OPS_CASE(balance_loss, .least_cols = 1, .tolerance = {16, 8, 0}),
    OPS_CASE(z_loss, .least_cols = 1, .tolerance = {16, 8, 0}),
};
const int ops_mixture_count = sizeof(ops_mixture_cases) / sizeof(*ops_mixture_cases);
