/*
 * attribution_rows.c: what a table contributes, shared out among its rows.
 *
 * A further level of the game of attribution.c, below the tables and beside
 * their columns. In an order of the tables, when a table comes to be known, it
 * comes without the rows around the seed first, and then row after row in a
 * random order, each with its reverse: a row adds what the prediction differs
 * by from one as if the row did not exist (neighbourhood.c). In every order the
 * steps of a table sum to what the table adds. The orders of the tables are the
 * first of those that the tables' own contributions are the mean of. Where they
 * are fewer, what the sums differ by is shared out in proportion.
 */
#include "postgres.h"

#include <math.h>

#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "extension/attribution_internal.h"
#include "extension/model_inputs.h"
#include "extension/moe_ml.h"
#include "extension/neighbourhood.h"
#include "kernels/random.h"

#define ROW_KEY      UINT64CONST(0x726f7773)
#define DENSE_STATES 4000 /* at most, about, in all orders */
#define GRAPH_STATES 1000
#define FREE_ROWS    1000 /* around a seed: of more, there is time for fewer states */
#define TOLERANCE    1e-4 /* of products that are summed in another order */

typedef struct row_game
{
    moe_game g;
    moe_neighbourhood *around;
    int n_history; /* columns of past labels, which stay as they are */
    float *computed;
    double *none; /* [tables] */
    double **sum; /* [tables][players] */
} row_game;

/* Have the rows that are there, and the inputs that follow. */
static void
settle(row_game *r)
{
    moe_predictor *predictor = r->around->seed.predictor;
    moe_seeds one = {0, 1, r->g.row, r->g.time, NULL};

    moe_neighbourhood_settle(r->around);
    moe_check(predictor->job, moe_inputs_raw(predictor->inputs, &one, r->computed));
    for (int c = 0; c < r->g.columns; c++)
        if (!moe_inputs_is_history(predictor->inputs, c))
            r->g.raw[c] = r->computed[c];
}

/* The prediction where the first `size` players are known. */
static double
value(row_game *r, const int *place, int size)
{
    moe_game_evaluate(&r->g, place, 1, &size);
    return r->g.prediction[r->g.class];
}

/* A table comes to be known, without its rows and then row after row; returns the prediction then. */
static double
follow_table(row_game *r, int table, const int *place, int size, int *rows, double before)
{
    int n = moe_neighbourhood_players(r->around, table);
    double now;

    for (int i = 0; i < n; i++)
        moe_neighbourhood_take(r->around, table, i, true);
    if (n > 0)
        settle(r);
    now = value(r, place, size);
    r->none[table] += now - before;
    for (int i = 0; i < n; i++)
    {
        before = now;
        moe_neighbourhood_take(r->around, table, rows[i], false);
        settle(r);
        now = value(r, place, size);
        r->sum[table][rows[i]] += now - before;
    }
    return now;
}

/* Follow an order of the players; rows [tables] are the orders of rows. It ends at the prediction. */
static void
follow_order(row_game *r, const int *order, int *const *rows, const moe_attribution *whole)
{
    int *place = palloc_array(int, r->g.n + 1);
    double before = whole->base;

    for (int i = 0; i < r->g.n; i++)
        place[order[i]] = i;
    for (int i = 0; i < r->g.n;)
    {
        int table = r->g.players[order[i]].subject.table;
        int end = i + 1;
        double now;

        while (table >= 0 && end < r->g.n && r->g.players[order[end]].subject.table == table)
            end++;
        if (table >= 0)
            now = follow_table(r, table, place, end, rows[table], before);
        else
            now = value(r, place, end);
        before = now;
        i = end;
    }
    if (fabs(before - whole->prediction) > TOLERANCE * Max(1, fabs(before)))
        elog(ERROR, "the rows around a key of model \"%s\" predict %g, all rows %g",
             get_rel_name(r->around->seed.predictor->info->foreign_table), before, whole->prediction);
    pfree(place);
}

/* Orders of the rows of each table. */
static void
draw_rows(const row_game *r, int pair, int **rows)
{
    for (int t = 0; t < r->around->n_tables; t++)
    {
        int n = moe_neighbourhood_players(r->around, t);

        for (int i = 0; i < n; i++)
            rows[t][i] = i;
        moe_game_shuffle(rows[t], n, moe_key(moe_key(ROW_KEY, (uint64) pair), (uint64) t));
    }
}

static void
follow_pairs(row_game *r, int pairs, const moe_attribution *whole)
{
    int *order = palloc_array(int, r->g.n + 1);
    int **rows = palloc_array(int *, r->around->n_tables);

    for (int t = 0; t < r->around->n_tables; t++)
        rows[t] = palloc_array(int, moe_neighbourhood_players(r->around, t) + 1);
    for (int k = 0; k < pairs; k++)
    {
        moe_game_draw_order(&r->g, k, order);
        draw_rows(r, k, rows);
        follow_order(r, order, rows, whole);
        moe_game_reverse(order, r->g.n);
        for (int t = 0; t < r->around->n_tables; t++)
            moe_game_reverse(rows[t], moe_neighbourhood_players(r->around, t));
        follow_order(r, order, rows, whole);
    }
}

/* How many orders and their reverses there is time for. */
static int
count_pairs(const row_game *r, int most)
{
    bool graph = false;
    double states = 0;

    for (int p = 0; p < r->g.n; p++)
        graph |= r->g.graph_sees[p];
    for (int t = 0; t < r->around->n_tables; t++)
        states += moe_neighbourhood_players(r->around, t) + 1;
    states *= Max(1, (double) r->around->n_rows / FREE_ROWS);
    return Max(1, (int) Min(most, (graph ? GRAPH_STATES : DENSE_STATES) / (2 * states)));
}

/* Contributions that are to sum to `wanted`: what is missing is shared out in proportion to their size. */
static void
share_out(moe_attributed_rows *rows, int n, double wanted)
{
    double sum = 0;
    double size = 0;

    for (int i = 0; i < n; i++)
    {
        sum += rows[i].contribution;
        size += fabs(rows[i].contribution);
    }
    for (int i = 0; i < n; i++)
        rows[i].contribution += (wanted - sum) * (size > 0 ? fabs(rows[i].contribution) / size : 1.0 / n);
}

/* A table's rows: the seed's own, or that there are none; those alone; the others. Returns how many lines. */
static int
tell_table(const row_game *r, int t, const moe_seed *seed, double scale, moe_attributed_rows *out)
{
    const moe_neighbours *of = &r->around->table[t];
    int n = 1 + moe_neighbourhood_players(r->around, t);

    out[0] = (moe_attributed_rows){t, t == 0 ? seed->row : -1, t == 0, r->none[t] * scale};
    for (int i = 0; i < n - 1; i++)
    {
        bool alone = i < of->n_alone;

        out[i + 1] = (moe_attributed_rows){.table = t,
                                           .row = alone ? r->around->lists[t].row[of->row[i]] : -1,
                                           .n = alone ? 1 : of->n - of->n_alone,
                                           .contribution = r->sum[t][i] * scale};
    }
    return n;
}

/* All tables' rows, each summing to what the table contributes. */
static void
tell(const row_game *r, const moe_seed *seed, int pairs, moe_attribution *out)
{
    int most = 0;

    for (int t = 0; t < r->around->n_tables; t++)
        most += 1 + moe_neighbourhood_players(r->around, t);
    out->rows = palloc0_array(moe_attributed_rows, most);
    for (int t = 0; t < r->around->n_tables; t++)
    {
        double wanted = 0;
        bool known = false;
        int n;

        for (int p = 0; p < out->n_subjects; p++)
            if (out->subjects[p].subject.table == t)
            {
                wanted += out->subjects[p].contribution;
                known = true;
            }
        if (!known)
            continue;
        n = tell_table(r, t, seed, 1.0 / (2 * pairs), out->rows + out->n_rows);
        share_out(out->rows + out->n_rows, n, wanted);
        out->n_rows += n;
    }
}

void
moe_attribute_rows(moe_game *g, int pairs, int rows_alone, moe_attribution *attribution)
{
    MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "moe_ml neighbourhood", ALLOCSET_DEFAULT_SIZES);
    MemoryContext old = MemoryContextSwitchTo(context);
    row_game r = {.around = moe_neighbourhood_of(g->seed, rows_alone)};

    if (r.around == NULL)
    {
        MemoryContextSwitchTo(old);
        MemoryContextDelete(context);
        return;
    }
    moe_game_move(g, &r.around->seed, &r.g);
    r.computed = palloc_array(float, r.g.columns + 1);
    r.none = palloc0_array(double, r.around->n_tables);
    r.sum = palloc_array(double *, r.around->n_tables);
    for (int t = 0; t < r.around->n_tables; t++)
        r.sum[t] = palloc0_array(double, moe_neighbourhood_players(r.around, t) + 1);
    pairs = count_pairs(&r, pairs);
    follow_pairs(&r, pairs, attribution);
    MemoryContextSwitchTo(old);
    tell(&r, g->seed, pairs, attribution);
    moe_neighbourhood_end(r.around);
    MemoryContextDelete(context);
}
