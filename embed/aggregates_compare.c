/*
 * aggregates_compare.c: an event against its siblings.
 *
 * Of those of them that have a value:
 *   rank        (smaller + equal / 2) / others
 *   difference  value - mean
 * They are computed when a walk first meets the row, and kept for the other
 * walks that come by, as long as the room for it lasts; in single precision
 * either way, so that it makes no difference. Siblings lie anywhere in their
 * table: where there is room, too, a row's numbers are put side by side, so
 * that a look at a sibling is a look at one place in memory and not at one in
 * each column.
 */
#include "embed/aggregates_plan.h"
#include "kernels/memory.h"

#include <string.h>

#define GRAIN 16384
#define BLOCK (MOE_AGG_BLOCK / 2) /* values of a row that are taken out of their columns at a time */

typedef double pair __attribute__((vector_size(16)));
typedef int64_t pair_mask __attribute__((vector_size(16)));

static pair
load(const double *from)
{
    pair p;

    memcpy(&p, from, sizeof(p));
    return p;
}

/*
 * Two values of a row, or one and what stands beside it in memory, against those of n siblings; NaN where NULL. Out: of
 * one or two of them rank and difference.
 */
static void
compare_pair(const double *own, const double *const *sibling, int n, int first, int n_values, float *out)
{
    pair x = load(own + first), sum = {0};
    pair_mask twice_below = {0}, others = {0}; /* what is true is -1 */

    for (int i = 0; i < n; i++)
    {
        pair y = load(sibling[i] + first);
        pair_mask known = y == y;

        twice_below += (y < x) + (y <= x);
        others += known;
        sum += (pair) (known & (pair_mask) y);
    }
    for (int i = 0; i < n_values; i++)
    {
        double count = (double) -others[i];
        bool known = x[i] == x[i] && count > 0;

        out[2 * i] = known ? (float) ((double) -twice_below[i] / 2 / count) : NAN;
        out[2 * i + 1] = known ? moe_agg_float(x[i] - sum[i] / count) : NAN;
    }
}

static void
compare_values(const double *own, const double *const *sibling, int n, int first, int n_values, float *out)
{
    for (int i = 0; i < n_values; i += 2)
        compare_pair(own, sibling, n, first + i, n_values - i < 2 ? 1 : 2, out + 2 * i);
}

/* n values of a row, from their columns. */
static void
gather(const moe_agg_table *table, int32_t row, int first, int n, double *values)
{
    const int *list = table->lists[MOE_AGG_OF_SIBLINGS].value + first;

    for (int i = 0; i < n; i++)
        values[i] = moe_agg_event_value(table, &table->values[list[i]], row);
}

/* Compare n values from `first` on, at most BLOCK where they have to be gathered. */
static void
compare_block(const moe_agg_table *table, const moe_agg_siblings *s, int first, int n, float *out)
{
    int64_t width = table->lists[MOE_AGG_OF_SIBLINGS].n;
    double gathered[MOE_AGG_SIBLINGS + 1][BLOCK];
    const double *sibling[MOE_AGG_SIBLINGS];

    if (table->numbers)
    {
        for (int i = 0; i < s->n; i++)
            sibling[i] = table->numbers + s->rows[i] * width;
        compare_values(table->numbers + s->row * width, sibling, s->n, first, n, out);
        return;
    }
    gather(table, s->row, first, n, gathered[MOE_AGG_SIBLINGS]);
    for (int i = 0; i < s->n; i++)
    {
        gather(table, s->rows[i], first, n, gathered[i]);
        sibling[i] = gathered[i];
    }
    compare_values(gathered[MOE_AGG_SIBLINGS], sibling, s->n, 0, n, out);
}

/* Compare all values, or those of n places. */
static void
compare_row(const moe_agg_table *table, const moe_agg_siblings *s, const int *places, int n, float *out)
{
    for (int i = 0, end; i < n; i = end)
    {
        int first = places ? places[i] : i;

        for (end = i + 1; end < n && end - i < BLOCK && (!places || places[end] == places[end - 1] + 1);)
            end++;
        compare_block(table, s, first, end - i, out + 2 * i);
    }
}

/* Ask for the first numbers of a row's siblings. */
static void
ask_for_numbers(const moe_agg_table *table, const moe_agg_siblings *s)
{
    int64_t width = table->lists[MOE_AGG_OF_SIBLINGS].n;

    for (int i = 0; table->numbers && i < s->n; i++)
    {
        const double *numbers = table->numbers + s->rows[i] * width;

        __builtin_prefetch(numbers);
        __builtin_prefetch(numbers + width - 1);
    }
}

void
moe_agg_compare(const moe_agg_table *table, const moe_agg_key *key, const int32_t *rows, int n_rows, const int *places,
                int n, float (*out)[MOE_AGG_BLOCK])
{
    int all = table->lists[MOE_AGG_OF_SIBLINGS].n;
    moe_agg_siblings new[MOE_AGG_AT_ONCE]; /* of the rows that have not been compared */
    float *to[MOE_AGG_AT_ONCE];
    int n_new = 0;

    for (int r = 0; r < n_rows; r++)
    {
        if (key->compared && key->is_compared[rows[r]])
            continue;
        new[n_new].row = rows[r];
        to[n_new++] = key->compared ? key->compared + (int64_t) rows[r] * 2 * all : out[r];
    }
    moe_agg_find_siblings(table, key, new, n_new);
    for (int i = 0; i < n_new; i++)
    {
        if (i + 1 < n_new)
            ask_for_numbers(table, &new[i + 1]);
        /* What is kept is kept of all values. */
        compare_row(table, &new[i], key->compared ? NULL : places, key->compared ? all : n, to[i]);
        if (key->compared)
            key->is_compared[new[i].row] = 1;
    }
    for (int r = 0; key->compared && r < n_rows; r++)
        for (int i = 0; i < n; i++)
            memcpy(&out[r][2 * i], key->compared + 2 * ((int64_t) rows[r] * all + places[i]), 2 * sizeof(float));
}

moe_code
moe_agg_keep_compared(moe_job *job, const moe_agg_table *table, moe_agg_key *key, int64_t *left)
{
    int64_t size = table->n_rows * 2 * table->lists[MOE_AGG_OF_SIBLINGS].n * (int64_t) sizeof(float);

    if (key->compared || size == 0 || size > *left)
        return MOE_OK;
    if (!key->is_compared && !(key->is_compared = moe_alloc(job, table->n_rows, 1)))
        return moe_job_code(job);
    if ((key->compared = moe_try_alloc_spare(job, (size_t) size)))
        *left -= size;
    return MOE_OK;
}

static void
pack_rows(int64_t begin, int64_t end, void *arg)
{
    const moe_agg_table *table = arg;
    int n = table->lists[MOE_AGG_OF_SIBLINGS].n;

    for (int64_t row = begin; row < end; row++)
        gather(table, (int32_t) row, 0, n, table->numbers + row * n);
}

void
moe_agg_pack(moe_job *job, moe_agg_table *table)
{
    int64_t n = table->n_rows * table->lists[MOE_AGG_OF_SIBLINGS].n;

    /* One more, as values are read by twos. */
    if (table->numbers || n == 0 || !(table->numbers = moe_try_alloc_spare(job, (size_t) (n + 1) * sizeof(double))))
        return;
    table->numbers[n] = NAN;
    moe_parallel(job, table->n_rows, GRAIN, pack_rows, table);
}
