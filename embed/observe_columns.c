/*
 * observe_columns.c: what embeddings make of a column beside others.
 *
 * A cell's embedding is what hiding it changes in its row: with E(r) a row's
 * embedding and E(r \ A) that of the row with A as NULL, cell A is
 * E(r) - E(r \ A).
 *
 *   dependencies   the translation from cell A to cell B is E(r \ B) - E(r \ A).
 *                  Of its length, the standard deviation among rows with the
 *                  same A, over the mean; mean over pairs of columns where A
 *                  determines B in the rows seen; and the same with the values
 *                  of B shuffled among the rows, so that A determines nothing
 *   context        all cells of a column of numbers, one after another, as one
 *                  vector: the cosine of that vector as the whole row has it and
 *                  as it is with other columns hidden, from first to last
 *
 * A column's embedding is not the mean of its cells: numbers are standardised
 * and a NULL looks like their mean, so that the cells' mean is near zero.
 */
#include "embed/observe_internal.h"
#include "embed/rows.h"
#include "embed/similarity.h"
#include "kernels/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct columns
{
    moe_study *study;
    int table;
    const moe_table *rows;
    int n;
    int column[MOE_OBSERVED_COLUMNS];
    float *whole;                          /* E(r) */
    float *without[MOE_OBSERVED_COLUMNS];  /* E(r \ A) */
    uint64_t *value[MOE_OBSERVED_COLUMNS]; /* hashes; 0: NULL */
} columns;

static bool
embed_without_each(columns *c)
{
    bool *hide = moe_arena_zalloc(c->study->arena, c->rows->n_columns, sizeof(*hide));

    c->whole = moe_study_embed(c->study, c->rows);
    if (!hide || !c->whole)
        return false;
    for (int i = 0; i < c->n; i++)
    {
        hide[c->column[i]] = true;
        c->without[i] = moe_study_embed_without(c->study, c->rows, hide);
        hide[c->column[i]] = false;
        if (!c->without[i])
            return false;
    }
    return true;
}

static bool
hash_values(columns *c)
{
    for (int i = 0; i < c->n; i++)
    {
        if (!(c->value[i] = moe_arena_alloc(c->study->arena, c->rows->n_rows, sizeof(uint64_t))))
            return false;
        for (int64_t row = 0; row < c->rows->n_rows; row++)
            c->value[i][row] = moe_rows_value(&c->rows->columns[c->column[i]], row);
    }
    return true;
}

/* One row in a pair of columns. */
typedef struct pair_row
{
    uint64_t a, b;
    int64_t row;
    double length; /* of the translation */
} pair_row;

static int
compare_pair_rows(const void *x, const void *y)
{
    const pair_row *p = x, *q = y;

    if (p->a != q->a)
        return p->a < q->a ? -1 : 1;
    if (p->b != q->b)
        return p->b < q->b ? -1 : 1;
    return (p->row > q->row) - (p->row < q->row);
}

static double
distance(const float *a, const float *b, int n)
{
    double sum = 0;

    for (int i = 0; i < n; i++)
        sum += ((double) a[i] - b[i]) * ((double) a[i] - b[i]);
    return sqrt(sum);
}

static double
mean_length(const pair_row *rows, int64_t n)
{
    double mean = 0;

    for (int64_t i = 0; i < n; i++)
        mean += rows[i].length / (double) n;
    return mean;
}

/* The sum of squares of lengths from their mean. */
static double
squares(const pair_row *rows, int64_t n)
{
    double mean = mean_length(rows, n), sum = 0;

    for (int64_t i = 0; i < n; i++)
        sum += (rows[i].length - mean) * (rows[i].length - mean);
    return sum;
}

/* The rows that have both columns, by value of A. */
static int64_t
collect_pair(const columns *c, int a, int b, pair_row *work)
{
    int64_t n = 0;

    for (int64_t row = 0; row < c->rows->n_rows; row++)
        if (c->value[a][row] != 0 && c->value[b][row] != 0)
            work[n++] = (pair_row){c->value[a][row], c->value[b][row], row, 0};
    qsort(work, n, sizeof(*work), compare_pair_rows);
    return n;
}

/*
 * Whether A determines B in these rows, and not for want of rows: a nearly key A, most of whose values occur once, does
 * not count, nor does a constant A or B.
 */
static bool
determines(const pair_row *work, int64_t n)
{
    int64_t groups = 0, repeated = 0;
    bool varies = false;

    for (int64_t i = 0, end; i < n; i = end)
    {
        for (end = i + 1; end < n && work[end].a == work[i].a; end++)
            if (work[end].b != work[i].b)
                return false;
        groups++;
        repeated += end - i > 1 ? end - i : 0;
        varies |= work[i].b != work[0].b;
    }
    return groups > 1 && varies && repeated >= (n + 1) / 2;
}

/* The spread of the lengths of translations between two embeddings of each row, within groups. NaN: there are none. */
static double
spread(const columns *c, const float *without_a, const float *without_b, pair_row *work, int64_t n)
{
    int64_t width = c->study->width;
    int64_t groups = 0;
    double within = 0, mean;

    for (int64_t i = 0; i < n; i++)
        work[i].length = distance(without_a + work[i].row * width, without_b + work[i].row * width, (int) width);
    for (int64_t i = 0, end; i < n; i = end, groups++)
    {
        for (end = i + 1; end < n && work[end].a == work[i].a;)
            end++;
        within += squares(work + i, end - i);
    }
    mean = mean_length(work, n);
    return mean > 0 ? sqrt(within / (double) (n - groups)) / mean : NAN;
}

/* The rows without column A, the values of B shuffled among those that have one, into `out`. */
static moe_code
embed_shuffled(const columns *c, int a, int b, float *out)
{
    const moe_embedder *embedder = c->study->observed->embedder;
    uint64_t key = moe_key(moe_key(c->study->observed->key, c->table), a * MOE_OBSERVED_COLUMNS + b);
    int64_t n = c->rows->n_rows, filled = 0;
    int32_t *from = moe_arena_alloc(c->study->arena, n, sizeof(*from));
    int32_t *places = moe_arena_alloc(c->study->arena, n, sizeof(*places));
    bool *hide = moe_arena_zalloc(c->study->arena, c->rows->n_columns, sizeof(*hide));
    moe_table *moved;

    if (!from || !places || !hide)
        return moe_job_code(c->study->job);
    for (int64_t row = 0; row < n; row++)
    {
        from[row] = (int32_t) row;
        if (c->value[b][row] != 0)
            places[filled++] = (int32_t) row;
    }
    for (int64_t i = filled - 1; i > 0; i--)
    {
        int64_t other = moe_study_draw(key, i, i + 1);
        int32_t kept = from[places[i]];

        from[places[i]] = from[places[other]];
        from[places[other]] = kept;
    }
    hide[c->column[a]] = true;
    if (!(moved = moe_rows_move(c->study->arena, c->rows, c->column[b], from)) ||
        !(moved = moe_rows_hide(c->study->arena, moved, hide)))
        return moe_job_code(c->study->job);
    return embedder->embed(embedder->arg, moved, out);
}

/* Note what is found for columns a and b, if the one gives the other. */
static moe_code
note_pair(const columns *c, int a, int b, pair_row *work, float *shuffled)
{
    int64_t n = collect_pair(c, a, b, work);

    if (!determines(work, n))
        return moe_job_check(c->study->job);
    moe_study_note(c->study, MOE_DEPENDENCY_HELD, spread(c, c->without[a], c->without[b], work, n), 1);
    if (embed_shuffled(c, a, b, shuffled) == MOE_OK)
        moe_study_note(c->study, MOE_DEPENDENCY_SHUFFLED, spread(c, shuffled, c->without[b], work, n), 1);
    return moe_job_check(c->study->job);
}

static moe_code
note_pairs(const columns *c)
{
    pair_row *work = moe_arena_alloc(c->study->arena, c->rows->n_rows, sizeof(*work));
    float *shuffled = moe_arena_alloc(c->study->arena, c->rows->n_rows, c->study->width * sizeof(*shuffled));

    for (int a = 0; work && shuffled && a < c->n; a++)
        for (int b = 0; b < c->n; b++)
            if (a != b && note_pair(c, a, b, work, shuffled) != MOE_OK)
                return moe_job_code(c->study->job);
    return moe_job_code(c->study->job);
}

/* What to show beside a column. */
typedef enum context
{
    NOTHING,
    NUMBERS,
    OTHERS
} context;

/* A column's cells where only what the context says is shown beside it: [rows * width]; NULL on failure. */
static float *
cells_in(const columns *c, int column, context shown)
{
    const moe_embedder *embedder = c->study->observed->embedder;
    bool *hide = moe_arena_alloc(c->study->arena, c->rows->n_columns, sizeof(*hide));
    float *with, *without;

    if (!hide)
        return NULL;
    for (int i = 0; i < c->rows->n_columns; i++)
    {
        bool number = embedder->kind(embedder->arg, c->table, i) == MOE_COLUMN_NUMBER;

        hide[i] = i != column && (shown == NOTHING || number != (shown == NUMBERS));
    }
    with = moe_study_embed_without(c->study, c->rows, hide);
    hide[column] = true;
    without = with ? moe_study_embed_without(c->study, c->rows, hide) : NULL;
    if (!without)
        return NULL;
    for (int64_t i = 0; i < c->rows->n_rows * c->study->width; i++)
        with[i] -= without[i];
    return with;
}

static moe_code
note_context(const columns *c, int column, const float *cells, context shown, moe_finding_kind kind)
{
    const float *other = cells_in(c, column, shown);

    if (other)
        moe_study_note(c->study, kind, moe_cosine(cells, other, c->rows->n_rows * c->study->width), 1);
    return moe_job_check(c->study->job);
}

/* The contexts of the i-th column, of numbers; `numbers`, `others`: how many such columns there are in all. */
static moe_code
note_contexts(const columns *c, int i, int numbers, int others)
{
    int64_t size = c->rows->n_rows * c->study->width;
    float *cells = c->without[i];

    for (int64_t k = 0; k < size; k++)
        cells[k] = c->whole[k] - cells[k];
    if (numbers + others < 2)
        return MOE_OK;
    if (note_context(c, c->column[i], cells, NOTHING, MOE_CONTEXT_ALONE) != MOE_OK)
        return moe_job_code(c->study->job);
    if (numbers > 1 && note_context(c, c->column[i], cells, OTHERS, MOE_CONTEXT_NUMBERS) != MOE_OK)
        return moe_job_code(c->study->job);
    if (others > 0 && note_context(c, c->column[i], cells, NUMBERS, MOE_CONTEXT_OTHERS) != MOE_OK)
        return moe_job_code(c->study->job);
    return MOE_OK;
}

moe_code
moe_study_columns_of(moe_study *study, int table)
{
    const moe_embedder *embedder = study->observed->embedder;
    columns c = {.study = study, .table = table, .rows = study->observed->tables[table]};
    int numbers = 0;

    c.n = moe_study_columns(study, table, MOE_OBSERVED_COLUMNS, c.column);
    if (!embed_without_each(&c) || !hash_values(&c) || note_pairs(&c) != MOE_OK)
        return moe_job_code(study->job);
    for (int i = 0; i < c.n; i++)
        numbers += embedder->kind(embedder->arg, table, c.column[i]) == MOE_COLUMN_NUMBER;
    for (int i = 0; i < c.n; i++)
        if (embedder->kind(embedder->arg, table, c.column[i]) == MOE_COLUMN_NUMBER &&
            note_contexts(&c, i, numbers, c.n - numbers) != MOE_OK)
            break;
    return moe_job_code(study->job);
}
