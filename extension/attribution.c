/*
 * attribution.c: a prediction shared out among columns and tables by Owen values.
 *
 * Subjects (columns, rows as such, past labels, the calendar) are the players
 * of a cooperative game whose value v(S) is what the model says when all but S
 * is hidden: inputs about a hidden subject are NULL; to the graph expert its
 * column is NULL, and a table has no rows while all its subjects are hidden.
 * The experts and their weights are held as the router chose them for the whole
 * prediction, so that only what was computed has a say.
 *
 * The Owen value (1977) is the Shapley value where players come in groups, here
 * tables: a player's mean marginal contribution over the orders in which no
 * group is torn apart. The players of a table sum to the table's Shapley value
 * in the game among tables, and all of them, in every single order, to
 * v(all) - v(none). The mean is over a fixed number of random orders, each with
 * its reverse (antithetic): the draws are the same for every seed.
 *
 * An expert's contribution is its weight times the difference of what it says
 * knowing all and knowing nothing; what calibration adds is a part of its own.
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"

#include "extension/attribution_internal.h"
#include "extension/model_inputs.h"
#include "extension/moe_ml.h"
#include "kernels/random.h"

#define DENSE_STATES 8000 /* at most, about, in all orders */
#define GRAPH_STATES 1000
#define MOST_PAIRS   64 /* of orders */

static bool
asked(const moe_game *g, int e)
{
    return g->path.gate[e] > 0;
}

static bool
is_graph(const moe_game *g, int e)
{
    return moe_mixture_kind(g->parts->mixture, e) == MOE_EXPERT_GRAPH;
}

static int
find_player(const moe_game *g, const moe_subject *subject)
{
    int p = 0;

    while (p < g->n && !moe_subject_same(&g->players[p].subject, subject))
        p++;
    return p;
}

/* Tables in order, what has no table last. */
static int
compare_players(const void *a, const void *b)
{
    const moe_subject *x = &((const moe_attributed *) a)->subject, *y = &((const moe_attributed *) b)->subject;

    if (x->table != y->table)
        return (uint32) x->table < (uint32) y->table ? -1 : 1;
    return x->source - y->source;
}

/* Players: what inputs are about, and what the graph expert sees, if it is asked. */
static void
find_players(moe_game *g)
{
    moe_subject *subjects;
    bool graph = false;

    for (int e = 0; e < moe_mixture_experts(g->parts->mixture); e++)
        graph |= asked(g, e) && is_graph(g, e);
    g->n = moe_subjects(g->seed->predictor, graph, &subjects);
    g->players = palloc0_array(moe_attributed, g->n + 1);
    for (int p = 0; p < g->n; p++)
        g->players[p].subject = subjects[p];
    if (g->n > 0)
        qsort(g->players, g->n, sizeof(moe_attributed), compare_players);
    g->graph_sees = palloc0_array(bool, g->n + 1);
    for (int p = 0; graph && p < g->n; p++)
        g->graph_sees[p] = g->players[p].subject.table >= 0 || g->parts->config.seed_inputs > 0;
}

static void
allocate(moe_game *g)
{
    const moe_data *data = g->seed->predictor->data;

    g->rows = palloc_array(float, (Size) MOE_GAME_STATES * g->columns + 1);
    g->x = palloc_array(float, (Size) MOE_GAME_STATES * g->width + 1);
    g->row = palloc_array(int32, MOE_GAME_STATES);
    g->time = palloc_array(int64, MOE_GAME_STATES);
    for (int s = 0; s < MOE_GAME_STATES; s++)
    {
        g->row[s] = g->seed->row;
        g->time[s] = g->seed->time;
    }
    for (int e = 0; e < moe_mixture_experts(g->parts->mixture); e++)
        g->said[e] = palloc0_array(float, MOE_GAME_STATES * g->outputs);
    g->prediction = palloc_array(float, MOE_GAME_STATES * g->outputs);
    g->hidden = palloc_array(bool *, data->n_tables);
    for (int t = 0; t < data->n_tables; t++)
        g->hidden[t] = palloc0_array(bool, data->tables[t].n_columns + 1);
    g->disabled = palloc0_array(bool, data->n_tables + 1);
}

/* What inputs are about, by column. */
static void
find_columns(moe_game *g)
{
    g->player_of = palloc_array(int, g->columns + 1);
    for (int c = 0; c < g->columns; c++)
    {
        moe_subject subject = moe_subject_of(g->seed->predictor->inputs, c);

        g->player_of[c] = find_player(g, &subject);
    }
}

/* The path of the prediction, the players, and what the seed's inputs are. */
static void
set_up(moe_game *g, const moe_seed *seed)
{
    moe_predictor *predictor = seed->predictor;
    moe_seeds one = {0, 1, &seed->row, &seed->time, NULL};

    *g = (moe_game){.seed = seed, .parts = predictor->parts, .class = -1};
    g->outputs = predictor->info->task == MOE_MULTICLASS ? predictor->info->n_classes : 1;
    g->columns = moe_inputs_columns(predictor->inputs);
    g->width = moe_inputs_width(predictor->inputs);
    allocate(g);
    moe_predictor_recall(predictor, &one);
    moe_check(predictor->job, moe_mixture_find_path(g->parts->mixture, &one, &g->path, g->x));
    find_players(g);
    g->raw = palloc_array(float, g->columns + 1);
    moe_check(predictor->job, moe_inputs_raw(predictor->inputs, &one, g->raw));
    find_columns(g);
}

void
moe_game_move(const moe_game *from, const moe_seed *seed, moe_game *to)
{
    *to = *from;
    to->seed = seed;
    to->parts = seed->predictor->parts;
    allocate(to);
    to->raw = palloc_array(float, to->columns + 1);
    memcpy(to->raw, from->raw, sizeof(float) * to->columns);
}

/* Hide from the graph expert what is not among the first `size` players of an order. */
static void
hide_from_graph(moe_game *g, const int *place, int size)
{
    const moe_data *data = g->seed->predictor->data;

    for (int t = 1; t < data->n_tables; t++)
        g->disabled[t] = true;
    for (int p = 0; p < g->n; p++)
    {
        moe_subject subject = g->players[p].subject;

        if (subject.table >= 0 && subject.source >= 0)
            g->hidden[subject.table][subject.source] = place[p] >= size;
        if (subject.table > 0 && place[p] < size)
            g->disabled[subject.table] = false;
    }
}

/* Does the graph expert say the same of two states, the second of which has more players? */
static bool
graph_sees_no_more(const moe_game *g, const int *place, int size, int more)
{
    for (int p = 0; p < g->n; p++)
        if (place[p] >= size && place[p] < more && g->graph_sees[p])
            return false;
    return true;
}

/* What the graph expert says of each state. */
static void
ask_graph(moe_game *g, int e, const int *place, int n, const int *sizes)
{
    for (int s = 0; s < n; s++)
    {
        float *said = g->said[e] + s * g->outputs;
        moe_seeds one = {0, 1, g->row, g->time, NULL};
        moe_code code;

        if (s > 0 && graph_sees_no_more(g, place, sizes[s - 1], sizes[s]))
        {
            memcpy(said, said - g->outputs, sizeof(float) * g->outputs);
            continue;
        }
        CHECK_FOR_INTERRUPTS();
        hide_from_graph(g, place, sizes[s]);
        moe_features_hide(g->parts->features, (const bool *const *) g->hidden);
        code =
            moe_mixture_ask(g->parts->mixture, e, g->path.stale, &one, g->disabled, g->x + (Size) s * g->width, said);
        moe_features_hide(g->parts->features, NULL); /* the predictor outlives this, whatever happens */
        moe_check(g->seed->predictor->job, code);
    }
}

void
moe_game_evaluate(moe_game *g, const int *place, int n, const int *sizes)
{
    moe_job *job = g->seed->predictor->job;
    moe_seeds seeds = {0, n, g->row, g->time, NULL};

    CHECK_FOR_INTERRUPTS();
    for (int s = 0; s < n; s++)
        for (int c = 0; c < g->columns; c++)
            g->rows[(Size) s * g->columns + c] = place[g->player_of[c]] < sizes[s] ? g->raw[c] : NAN;
    if (g->width > 0)
        moe_check(job, moe_inputs_normalize(g->parts->inputs, n, g->rows, g->x));
    for (int e = 0; e < moe_mixture_experts(g->parts->mixture); e++)
    {
        if (!asked(g, e))
            continue;
        if (is_graph(g, e))
            ask_graph(g, e, place, n, sizes);
        else
            moe_check(job, moe_mixture_ask(g->parts->mixture, e, g->path.stale, &seeds, NULL, g->x, g->said[e]));
    }
    moe_check(job, moe_mixture_follow(g->parts->mixture, &g->path, n, (const float *const *) g->said, g->prediction));
}

/* The two ends: all is known, and nothing; experts' contributions are their difference. */
static void
evaluate_ends(moe_game *g, moe_attribution *out)
{
    int *place = palloc_array(int, g->n + 1);
    int sizes[] = {0, g->n};

    for (int p = 0; p < g->n; p++)
        place[p] = p;
    moe_game_evaluate(g, place, 2, sizes);
    g->class = g->outputs == 1 ? 0 : moe_best_class(g->prediction + g->outputs, g->outputs);
    out->base = g->prediction[g->class];
    out->prediction = g->prediction[g->outputs + g->class];
    out->calibration = out->prediction - out->base;
    for (int e = 0; e < moe_mixture_experts(g->parts->mixture); e++)
    {
        const float *said = g->said[e];

        out->gate[e] = g->path.gate[e];
        out->said[e] = asked(g, e) ? said[g->outputs + g->class] : NAN;
        out->expert[e] = asked(g, e) ? out->gate[e] * ((double) said[g->outputs + g->class] - said[g->class]) : 0;
        out->calibration -= out->expert[e];
    }
    pfree(place);
}

void
moe_game_shuffle(int *numbers, int n, uint64 key)
{
    for (int i = n - 1; i > 0; i--)
    {
        int k = (int) (moe_random_uniform(key, (uint64) i) * (i + 1));
        int number = numbers[i];

        numbers[i] = numbers[k];
        numbers[k] = number;
    }
}

void
moe_game_reverse(int *numbers, int n)
{
    for (int i = 0; i < n / 2; i++)
    {
        int number = numbers[i];

        numbers[i] = numbers[n - 1 - i];
        numbers[n - 1 - i] = number;
    }
}

/* Where a player's group ends; what has no table is a group of its own. */
static int
group_end(const moe_game *g, int first)
{
    int end = first + 1;

    while (end < g->n && g->players[end].subject.table >= 0 &&
           g->players[end].subject.table == g->players[first].subject.table)
        end++;
    return end;
}

void
moe_game_draw_order(const moe_game *g, int pair, int *order)
{
    uint64 key = moe_key(MOE_GAME_KEY, (uint64) pair);
    int *first = palloc_array(int, g->n + 1);
    int n_groups = 0;
    int at = 0;

    for (int p = 0; p < g->n; p = group_end(g, p))
        first[n_groups++] = p;
    moe_game_shuffle(first, n_groups, moe_key(key, 0));
    for (int i = 0; i < n_groups; i++)
    {
        int end = group_end(g, first[i]);
        int from = at;

        for (int p = first[i]; p < end; p++)
            order[at++] = p;
        moe_game_shuffle(order + from, at - from, moe_key(key, (uint64) first[i] + 1));
    }
    pfree(first);
}

/* Add what each player adds when it joins those before it. */
static void
follow_order(moe_game *g, const int *order, const moe_attribution *ends, double *sum)
{
    int *place = palloc_array(int, g->n + 1);
    double before = ends->base;

    for (int i = 0; i < g->n; i++)
        place[order[i]] = i;
    for (int first = 0; first < g->n; first += MOE_GAME_STATES)
    {
        int sizes[MOE_GAME_STATES];
        int n = Min(g->n - first, MOE_GAME_STATES);

        for (int s = 0; s < n; s++)
            sizes[s] = first + s + 1;
        moe_game_evaluate(g, place, n, sizes);
        for (int s = 0; s < n; s++)
        {
            double now = g->prediction[s * g->outputs + g->class];

            sum[order[first + s]] += now - before;
            before = now;
        }
    }
    pfree(place);
}

/* How many orders and their reverses there is time for; one pair is all there are of two players. */
static int
count_pairs(const moe_game *g)
{
    bool graph = false;

    if (g->n <= 2)
        return 1;
    for (int p = 0; p < g->n; p++)
        graph |= g->graph_sees[p];
    return Max(1, Min(MOST_PAIRS, (graph ? GRAPH_STATES : DENSE_STATES) / (2 * Max(g->n, 1))));
}

void
moe_attribute(const moe_seed *seed, int rows_alone, moe_attribution *attribution)
{
    moe_game g;
    int *order;
    double *sum;
    int pairs;

    memset(attribution, 0, sizeof(*attribution));
    set_up(&g, seed);
    evaluate_ends(&g, attribution);
    order = palloc_array(int, g.n + 1);
    sum = palloc0_array(double, g.n + 1);
    pairs = count_pairs(&g);
    for (int k = 0; k < pairs; k++)
    {
        moe_game_draw_order(&g, k, order);
        follow_order(&g, order, attribution, sum);
        moe_game_reverse(order, g.n);
        follow_order(&g, order, attribution, sum);
    }
    for (int p = 0; p < g.n; p++)
        g.players[p].contribution = sum[p] / (2 * pairs);
    attribution->n_subjects = g.n;
    attribution->subjects = g.players;
    if (rows_alone > 0)
        moe_attribute_rows(&g, pairs, rows_alone, attribution);
}
