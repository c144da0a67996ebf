/*
 * model_inputs.c: label history and relational aggregates, side by side, normalised.
 *
 * Columns stand as history first, then the aggregates. They are computed in
 * chunks of seeds, so that the columns before normalisation never exist for
 * all seeds at a time. What may fail inside a prediction returns a code.
 */
#include "postgres.h"

#include <math.h>

#include "common/int.h"

#include "embed/normalizer.h"
#include "embed/level.h"
#include "extension/model_inputs.h"
#include "extension/moe_ml.h"

#define CHUNK   2048
#define FIT_MAX 20000 /* seeds that normalisation looks at */

struct moe_inputs
{
    moe_job *job;
    int64 window;
    int64 staleness;
    int classes;
    bool everyones;                   /* there are columns of the level */
    int n_own;                        /* columns of the row's own history, the first ones */
    int n_history;                    /* with those of the level behind them */
    float prior[MOE_HISTORY_CLASSES]; /* mean label of the training rows, or each class's share */
    const moe_graph *graph;
    moe_relational db; /* its arrays are palloc'd beside */
    moe_aggregates *aggregates;
    moe_normalizer *normalizer;
    moe_history *history;
    moe_level *level; /* of the training; NULL: there is none */
    moe_level *told;  /* where others were told since */
    uint8 *role;      /* [width] */
    const bool *mask;
};

/* Tables, times and foreign keys in embed/'s terms. */
static void
describe(moe_relational *db, const moe_table *tables, const moe_data *data, const moe_graph *graph)
{
    moe_row_times *times = palloc0(sizeof(moe_row_times) * Max(data->n_tables, 1));
    moe_relation *relations = palloc0(sizeof(moe_relation) * Max(data->n_edges, 1));

    StaticAssertStmt(sizeof(times->known_at) == sizeof(data->graph_tables->known_at), "as many groups of late columns");
    for (int t = 0; t < data->n_tables; t++)
    {
        times[t].time = data->graph_tables[t].time;
        times[t].n_hidden = data->graph_tables[t].n_hidden;
        memcpy(times[t].known_at, data->graph_tables[t].known_at, sizeof(times[t].known_at));
    }
    for (int e = 0; e < data->n_edges; e++)
    {
        const moe_graph_key *key = moe_graph_key_at(graph, e);

        relations[e].name = data->schema->edges[e].name;
        relations[e].child = key->child;
        relations[e].parent = key->parent;
        relations[e].parent_of = key->parent_of;
        moe_graph_lists(graph, e, &relations[e].offset, &relations[e].children);
    }
    db->n_tables = data->n_tables;
    db->tables = tables;
    db->times = times;
    db->n_relations = data->n_edges;
    db->relations = relations;
}

void
moe_inputs_reach(const moe_inputs *inputs, moe_reach *reach)
{
    moe_aggregates_reach(inputs->aggregates, reach);
}

int64
moe_inputs_look_back_from(const moe_inputs *inputs, int64 horizon, int64 newest)
{
    int64 latest;

    /* Nothing lies between the newest row and the horizon. */
    if (pg_add_s64_overflow(newest, inputs->staleness, &latest))
        return horizon;
    return Min(horizon, latest);
}

int64
moe_inputs_look_back(const moe_inputs *inputs, const moe_seeds *seeds, int64 seed)
{
    int64 horizon = seeds->horizon ? seeds->horizon[seed] : seeds->time[seed];

    return moe_inputs_look_back_from(inputs, horizon, moe_graph_newest(inputs->graph, horizon));
}

/* From where seeds look back, [n]. */
static void
look_back_from(const moe_inputs *inputs, const moe_seeds *seeds, int64 *from)
{
    const int64 *horizon = seeds->horizon ? seeds->horizon : seeds->time;

    for (int64 i = 0; i < seeds->n; i++)
        from[i] = i > 0 && horizon[i] == horizon[i - 1] ? from[i - 1] : moe_inputs_look_back(inputs, seeds, i);
}

/* Columns before normalisation, of at most CHUNK seeds: [n, columns]; stale: NULL, or [n]. */
static moe_code
compute_columns(moe_inputs *inputs, const moe_seeds *seeds, const bool *disabled, float *out, bool *stale)
{
    int64 from[CHUNK];
    moe_moments moments = {.n = seeds->n, .row = seeds->row, .time = seeds->time, .horizon = from};
    int n_aggregates = moe_aggregates_columns(inputs->aggregates);
    int n_columns = inputs->n_history + n_aggregates;
    int n_level = inputs->n_history - inputs->n_own;
    float *past = moe_alloc(inputs->job, seeds->n * inputs->n_own, sizeof(float));
    float *level = moe_alloc(inputs->job, seeds->n * n_level, sizeof(float));
    float *aggregates = moe_alloc(inputs->job, seeds->n * n_aggregates, sizeof(float));
    bool forget = inputs->history == NULL || (disabled != NULL && disabled[inputs->db.n_tables]);
    moe_code code = moe_job_check(inputs->job);

    look_back_from(inputs, seeds, from);
    for (int64 i = 0; stale != NULL && i < seeds->n; i++)
        stale[i] = from[i] < seeds->time[i];
    if (code == MOE_OK)
        code = moe_aggregates_compute(inputs->aggregates, &moments, disabled, aggregates);
    if (code == MOE_OK && inputs->n_history > 0 && !forget)
        code = moe_history_compute(inputs->history, &moments, past);
    if (code == MOE_OK && n_level > 0 && !forget)
        code = moe_level_compute(inputs->told ? inputs->told : inputs->level, &moments, level);
    for (int64 i = 0; code == MOE_OK && i < seeds->n; i++)
    {
        float *row = out + i * n_columns;

        for (int c = 0; c < inputs->n_history; c++)
            row[c] = forget              ? NAN
                     : c < inputs->n_own ? past[i * inputs->n_own + c]
                                         : level[i * n_level + c - inputs->n_own];
        memcpy(row + inputs->n_history, aggregates + i * n_aggregates, sizeof(float) * n_aggregates);
        for (int c = 0; inputs->mask != NULL && c < n_columns; c++)
            if (inputs->mask[c])
                row[c] = NAN;
    }
    moe_free(inputs->job, past);
    moe_free(inputs->job, level);
    moe_free(inputs->job, aggregates);
    return code;
}

/* The seeds from `first` on, at most CHUNK. */
static moe_seeds
chunk_of(const moe_seeds *seeds, int64 first)
{
    moe_seeds part = *seeds;

    part.n = Min(seeds->n - first, CHUNK);
    part.row += first;
    part.time += first;
    part.horizon = seeds->horizon == NULL ? NULL : seeds->horizon + first;
    return part;
}

moe_code
moe_inputs_compute(void *arg, const moe_seeds *seeds, const bool *disabled, float *out, bool *stale)
{
    moe_inputs *inputs = arg;
    int64 columns = moe_inputs_columns(inputs);
    int64 width = moe_inputs_width(inputs);
    float *raw = moe_alloc(inputs->job, Min(seeds->n, CHUNK) * columns, sizeof(float));
    moe_code code = raw == NULL ? moe_job_code(inputs->job) : MOE_OK;

    for (int64 first = 0; code == MOE_OK && first < seeds->n; first += CHUNK)
    {
        moe_seeds part = chunk_of(seeds, first);

        code = compute_columns(inputs, &part, disabled, raw, stale ? stale + first : NULL);
        if (code == MOE_OK)
            code = moe_normalizer_apply(inputs->normalizer, raw, part.n, out + first * width);
    }
    moe_free(inputs->job, raw);
    return code;
}

int
moe_inputs_history_width(const moe_inputs *inputs)
{
    int n = 0;

    for (int i = 0; i < moe_inputs_width(inputs); i++)
        n += (inputs->role[i] & MOE_INPUT_HISTORY) != 0;
    return n;
}

bool
moe_inputs_can_pick(const moe_inputs *inputs, int wanted)
{
    return wanted == 0 || wanted == moe_inputs_history_width(inputs) || wanted == moe_inputs_width(inputs);
}

void
moe_inputs_pick(const moe_inputs *inputs, int wanted, int64 n, const float *x, float *out)
{
    int width = moe_inputs_width(inputs);

    for (int64 i = 0; i < n; i++, x += width)
        for (int k = 0; k < width; k++)
            if (wanted == width || (wanted > 0 && (inputs->role[k] & MOE_INPUT_HISTORY)))
                *out++ = x[k];
}

moe_code
moe_inputs_raw(moe_inputs *inputs, const moe_seeds *seeds, float *out)
{
    return compute_columns(inputs, seeds, NULL, out, NULL);
}

moe_code
moe_inputs_normalize(const moe_inputs *inputs, int64 n, const float *raw, float *out)
{
    return moe_normalizer_apply(inputs->normalizer, raw, n, out);
}

/* What each input is good for. */
static void
assign_roles(moe_inputs *inputs)
{
    int width = moe_inputs_width(inputs);

    inputs->role = palloc0(Max(width, 1));
    for (int i = 0; i < width; i++)
    {
        int column = moe_normalizer_source(inputs->normalizer, i);
        moe_aggregate_family family;

        if (column < inputs->n_history)
        {
            inputs->role[i] = MOE_INPUT_HISTORY | MOE_INPUT_CHEAP | MOE_INPUT_GLANCE;
            continue;
        }
        family = moe_aggregates_family_of(inputs->aggregates, column - inputs->n_history);
        if (family == MOE_FAMILY_OWN || family == MOE_FAMILY_SEASON)
            inputs->role[i] =
                MOE_INPUT_CHEAP |
                (moe_aggregates_is_of_row(inputs->aggregates, column - inputs->n_history) ? MOE_INPUT_GLANCE : 0);
    }
}

/* Fit the normalisation on evenly spaced seeds. */
static void
fit_normalizer(moe_inputs *inputs, const moe_seeds *seeds)
{
    int64 n = Min(seeds->n, FIT_MAX);
    int64 columns = moe_inputs_columns(inputs);
    float *raw = moe_check_ptr(inputs->job, moe_alloc(inputs->job, n * columns, sizeof(float)));
    int32 *row = palloc(sizeof(int32) * Max(n, 1));
    int64 *time = palloc(sizeof(int64) * Max(n, 1));
    moe_seeds sample = {.table = 0, .n = n, .row = row, .time = time};

    for (int64 i = 0; i < n; i++)
    {
        row[i] = seeds->row[i * seeds->n / n];
        time[i] = seeds->time[i * seeds->n / n];
    }
    for (int64 first = 0; first < n; first += CHUNK)
    {
        moe_seeds part = chunk_of(&sample, first);

        moe_check(inputs->job, compute_columns(inputs, &part, NULL, raw + first * columns, NULL));
    }
    moe_check(inputs->job, moe_normalizer_fit(inputs->job, raw, n, (int) columns, &inputs->normalizer));
    moe_free(inputs->job, raw);
    pfree(row);
    pfree(time);
}

static bool
has_level(const moe_inputs *inputs)
{
    return inputs->window > 0 && inputs->everyones;
}

/* How many columns there are of past labels. */
static void
count_history(moe_inputs *inputs)
{
    inputs->n_own = inputs->window > 0 ? moe_history_columns(inputs->classes) : 0;
    inputs->n_history = inputs->n_own + (has_level(inputs) ? moe_level_columns(inputs->classes) : 0);
}

moe_inputs *
moe_inputs_fit(moe_job *job, const moe_data *data, const moe_graph *graph, const moe_inputs_request *request)
{
    moe_inputs *inputs = palloc0(sizeof(moe_inputs));
    moe_relational known;

    inputs->job = job;
    inputs->window = request->window;
    inputs->staleness = request->staleness;
    inputs->classes = request->classes;
    inputs->everyones = request->everyones;
    count_history(inputs);
    moe_history_prior(request->classes, request->seeds->n, request->labels, inputs->prior);
    describe(&known, request->known, data, graph);
    moe_check(job, moe_aggregates_fit(job, &known, 0, request->known_rows, request->window, request->max_columns,
                                      &inputs->aggregates));
    moe_inputs_bind(inputs, data, graph);
    moe_check(job, moe_inputs_remember(inputs, request->past, true));
    fit_normalizer(inputs, request->seeds);
    assign_roles(inputs);
    return inputs;
}

void
moe_inputs_bind(moe_inputs *inputs, const moe_data *data, const moe_graph *graph)
{
    inputs->graph = graph;
    describe(&inputs->db, data->tables, data, graph);
    moe_check(inputs->job, moe_aggregates_bind(inputs->aggregates, &inputs->db));
}

bool
moe_inputs_need_past(const moe_inputs *inputs)
{
    return inputs->n_history > 0;
}

moe_code
moe_inputs_remember(moe_inputs *inputs, const moe_past_labels *past, bool everyones)
{
    moe_code code;

    if (inputs->n_history == 0)
        return MOE_OK;
    if (inputs->history != NULL)
        moe_history_destroy(inputs->history);
    moe_level_destroy(inputs->told);
    inputs->history = NULL;
    inputs->told = NULL;
    code = moe_history_create(inputs->job, past, inputs->window, inputs->classes, inputs->prior, &inputs->history);
    if (code == MOE_OK && inputs->everyones && everyones)
        code = moe_level_create(inputs->job, past, inputs->window, inputs->classes,
                                inputs->level ? &inputs->told : &inputs->level);
    return code;
}

int
moe_inputs_width(const moe_inputs *inputs)
{
    return moe_normalizer_outputs(inputs->normalizer);
}

const uint8 *
moe_inputs_roles(const moe_inputs *inputs)
{
    return inputs->role;
}

int
moe_inputs_columns(const moe_inputs *inputs)
{
    return inputs->n_history + moe_aggregates_columns(inputs->aggregates);
}

char *
moe_inputs_column_name(const moe_inputs *inputs, int column)
{
    char name[256];

    if (column >= inputs->n_history)
        return pstrdup(moe_aggregates_name(inputs->aggregates, column - inputs->n_history));
    if (column >= inputs->n_own)
        moe_level_name(inputs->classes, column - inputs->n_own, name, sizeof(name));
    else
        moe_history_name(inputs->classes, column, name, sizeof(name));
    return pstrdup(name);
}

bool
moe_inputs_alike(const moe_inputs *a, const moe_inputs *b)
{
    int width = moe_inputs_width(a);

    if (moe_inputs_width(b) != width)
        return false;
    for (int i = 0; i < width; i++)
    {
        char *name = moe_inputs_column_name(a, moe_normalizer_source(a->normalizer, i));
        char *other = moe_inputs_column_name(b, moe_normalizer_source(b->normalizer, i));

        if (moe_normalizer_is_flag(a->normalizer, i) != moe_normalizer_is_flag(b->normalizer, i) ||
            strcmp(name, other) != 0)
            return false;
        pfree(name);
        pfree(other);
    }
    return true;
}

bool
moe_inputs_is_history(const moe_inputs *inputs, int column)
{
    return column < inputs->n_history;
}

int
moe_inputs_column_table(const moe_inputs *inputs, int column)
{
    if (column < inputs->n_history)
        return -1;
    column -= inputs->n_history;
    if (moe_aggregates_family_of(inputs->aggregates, column) == MOE_FAMILY_SEASON)
        return -1;
    return moe_aggregates_table(inputs->aggregates, column);
}

int
moe_inputs_column_source(const moe_inputs *inputs, int column)
{
    if (column < inputs->n_history)
        return -1;
    return moe_aggregates_source(inputs->aggregates, column - inputs->n_history);
}

void
moe_inputs_mask(moe_inputs *inputs, const bool *mask)
{
    inputs->mask = mask;
}

void
moe_inputs_write(const moe_inputs *inputs, moe_buffer *buffer)
{
    moe_put_i64(buffer, inputs->window);
    moe_put_i64(buffer, inputs->staleness);
    moe_put_i32(buffer, inputs->classes);
    moe_put_u8(buffer, inputs->everyones);
    moe_put_floats(buffer, inputs->prior, MOE_HISTORY_CLASSES);
    if (has_level(inputs))
        moe_level_write(inputs->level, buffer);
    moe_aggregates_write(inputs->aggregates, buffer);
    moe_normalizer_write(inputs->normalizer, buffer);
}

moe_code
moe_inputs_read(moe_job *job, moe_reader *reader, moe_inputs **out)
{
    moe_inputs *inputs = palloc0(sizeof(moe_inputs));
    moe_code code;

    *out = NULL;
    inputs->job = job;
    inputs->window = moe_get_i64(reader);
    inputs->staleness = moe_get_i64(reader);
    inputs->classes = moe_get_i32(reader);
    inputs->everyones = moe_get_u8(reader) != 0;
    moe_get_floats(reader, inputs->prior, MOE_HISTORY_CLASSES);
    code = moe_reader_code(reader);
    for (int s = 0; code == MOE_OK && s < MOE_HISTORY_CLASSES; s++)
        if (!isfinite(inputs->prior[s]))
            code = moe_fail(job, MOE_CORRUPT, "the stored mean of the labels is not finite");
    if (code == MOE_OK &&
        (inputs->window < 0 || inputs->staleness < 0 || inputs->classes < 1 || inputs->classes > 4096))
        code = moe_fail(job, MOE_CORRUPT, "the stored inputs are damaged");
    if (code == MOE_OK && has_level(inputs))
        code = moe_level_read(job, reader, inputs->window, inputs->classes, &inputs->level);
    if (code == MOE_OK)
        code = moe_aggregates_read(job, reader, &inputs->aggregates);
    if (code == MOE_OK)
        code = moe_normalizer_read(job, reader, &inputs->normalizer);
    if (code != MOE_OK)
        return code;
    count_history(inputs);
    if (moe_normalizer_inputs(inputs->normalizer) != moe_inputs_columns(inputs))
        return moe_fail(job, MOE_CORRUPT, "the stored normalisation does not fit its columns");
    assign_roles(inputs);
    *out = inputs;
    return MOE_OK;
}
