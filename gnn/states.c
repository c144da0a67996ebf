/*
 * states.c: a sampled tree as a small graph of distinct states.
 *
 * What a layer computes for an occurrence depends on its row, on the states
 * of its neighbours and on the ages that enter their messages. A child's
 * neighbours are mostly its parents, and a foreign key is a function; so most
 * occurrences of a row, in whatever tree, are in the same state, and
 * computing states instead of occurrences is several times less work and
 * changes no number. Occurrences of one depth and table are merged by a hash
 * of that signature, and compared in full.
 *
 * To keep states shared, a row does not know how old it is; the message that
 * carries it does. A list of k sampled children of m visible ones is
 * summarised by weighted sums with the weights
 *     log(1 + m) / k              sum, tamed       (PNA's scaler: Corso et al. 2020)
 *     1 / (k + 1)                 mean, shrunk towards 0 by one pseudo-row
 *     2^(-r/h) / (1 + sum of it)  for h = 2 and 10, r the number of newer visible children
 * and by time features: how many, how old the newest and the oldest, and
 * counts decaying with time constants tau = 4096 days, 1024, ... All are
 * bounded or logarithmic, so that ages beyond the training range stay tame.
 */
#include "gnn/layers.h"

#include <math.h>
#include <string.h>

#include "kernels/random.h"

#define GRAIN 128
#define DAY   86400e6 /* microseconds */
#define TAU   4096.0  /* the longest time constant, days; each next one is a quarter */

static const double half_life[] = {2, 10}; /* of weights, in newer children */

typedef struct builder
{
    const moe_model *model;
    moe_tape *tape;
    const moe_sample *sample;
    moe_states *states;
    int32_t **state_of; /* [(hops + 1) * n_tables]: state of each occurrence */
    int64_t **time;     /* [n_tables]: of each unique row, so that it is looked up once; NULL for tables without */
    /* of the pass that runs now */
    int depth;
    int table;
    uint64_t *hash;                /* [occurrences] signature */
    const int32_t *representative; /* [states] an occurrence in that state */
} builder;

static inline int64_t
level_index(const builder *b, int depth, int table)
{
    return (int64_t) depth * b->model->n_tables + table;
}

static inline const moe_hop_edges *
sampled_edges(const builder *b, int edge)
{
    return &b->sample->edges[(int64_t) b->depth * b->model->n_edges + edge];
}

static void
hash_signatures(int64_t begin, int64_t end, void *arg)
{
    builder *b = arg;
    const moe_level *level = &b->sample->levels[level_index(b, b->depth, b->table)];
    for (int64_t i = begin; i < end; i++)
        b->hash[i] = moe_mix64((uint64_t) level->unique[i]);
    for (int e = 0; e < b->model->n_edges; e++)
    {
        const moe_edge_plan *edge = &b->model->edges[e];
        const moe_hop_edges *edges = sampled_edges(b, e);
        if (edge->destination != b->table || edges->offset == NULL)
            continue;
        const int32_t *state_of = b->state_of[level_index(b, b->depth + 1, edge->source)];
        const int64_t *age = b->sample->levels[level_index(b, b->depth + 1, edge->source)].age;
        for (int64_t i = begin; i < end; i++)
        {
            uint64_t hash = moe_mix64(b->hash[i] ^ (uint64_t) edges->visible[i] ^ (uint64_t) e << 32);
            for (int64_t k = edges->offset[i]; k < edges->offset[i + 1]; k++)
            {
                hash = moe_mix64(hash ^ (uint64_t) state_of[edges->source[k]]);
                if (edge->relative)
                    hash = moe_mix64(hash ^ (uint64_t) age[edges->source[k]]);
            }
            b->hash[i] = hash;
        }
    }
}

static bool
same_state(const builder *b, int64_t i, int64_t j)
{
    const moe_level *level = &b->sample->levels[level_index(b, b->depth, b->table)];
    if (b->hash[i] != b->hash[j] || level->unique[i] != level->unique[j])
        return false;
    for (int e = 0; e < b->model->n_edges; e++)
    {
        const moe_edge_plan *edge = &b->model->edges[e];
        const moe_hop_edges *edges = sampled_edges(b, e);
        if (edge->destination != b->table || edges->offset == NULL)
            continue;
        const int32_t *state_of = b->state_of[level_index(b, b->depth + 1, edge->source)];
        const int64_t *age = b->sample->levels[level_index(b, b->depth + 1, edge->source)].age;
        int64_t n = edges->offset[i + 1] - edges->offset[i];
        if (n != edges->offset[j + 1] - edges->offset[j] || edges->visible[i] != edges->visible[j])
            return false;
        for (int64_t k = 0; k < n; k++)
        {
            int32_t from_i = edges->source[edges->offset[i] + k];
            int32_t from_j = edges->source[edges->offset[j] + k];
            if (state_of[from_i] != state_of[from_j] || (edge->relative && age[from_i] != age[from_j]))
                return false;
        }
    }
    return true;
}

/* Number the distinct states at this depth and table by first occurrence; false on failure. */
static bool
merge_occurrences(builder *b)
{
    const moe_level *level = &b->sample->levels[level_index(b, b->depth, b->table)];
    int64_t n_slots = 16;
    while (n_slots < 2 * level->n)
        n_slots *= 2;
    int32_t *slots = moe_tape_alloc(b->tape, n_slots, sizeof *slots);
    int32_t *representative = moe_tape_alloc(b->tape, level->n, sizeof *representative);
    int32_t *state_of = moe_tape_alloc(b->tape, level->n, sizeof *state_of);
    b->hash = moe_tape_alloc(b->tape, level->n, sizeof *b->hash);
    if (slots == NULL || representative == NULL || state_of == NULL || b->hash == NULL)
        return false;
    moe_parallel(b->model->job, level->n, GRAIN, hash_signatures, b);
    memset(slots, 0xff, n_slots * sizeof *slots);
    int32_t n_states = 0;
    for (int64_t i = 0; i < level->n; i++)
    {
        uint64_t slot = b->hash[i] & (n_slots - 1);
        while (slots[slot] >= 0 && !same_state(b, representative[slots[slot]], i))
            slot = (slot + 1) & (n_slots - 1);
        if (slots[slot] < 0)
        {
            slots[slot] = n_states;
            representative[n_states++] = (int32_t) i;
        }
        state_of[i] = slots[slot];
    }
    b->representative = representative;
    b->state_of[level_index(b, b->depth, b->table)] = state_of;
    b->states->levels[level_index(b, b->depth, b->table)].n = n_states;
    return true;
}

/* Every seed is a state of its own. */
static bool
keep_occurrences(builder *b)
{
    int64_t n = b->sample->levels[level_index(b, b->depth, b->table)].n;
    int32_t *identity = moe_tape_alloc(b->tape, n, sizeof *identity);
    if (identity == NULL)
        return false;
    for (int64_t i = 0; i < n; i++)
        identity[i] = (int32_t) i;
    b->representative = identity;
    b->state_of[level_index(b, b->depth, b->table)] = identity;
    b->states->levels[level_index(b, b->depth, b->table)].n = n;
    return true;
}

static inline float
log_days(double days)
{
    double x = log1p(days) / 8;
    return (float) (x < 1.5 ? x : 1.5);
}

/* Add factor * exp(-days / tau) for every tau. */
static inline void
add_decays(double days, double *sums)
{
    double x = exp(-days / TAU);
    for (int i = 0; i < MOE_DECAYS; i++)
    {
        sums[i] += x;
        x *= x;
        x *= x;
    }
}

/* An age as features: present, logarithm, decays. */
static void
age_features(double days, float *out)
{
    double sums[MOE_DECAYS] = {0};
    add_decays(days, sums);
    out[0] = 1;
    out[1] = log_days(days);
    for (int i = 0; i < MOE_DECAYS; i++)
        out[2 + i] = (float) sums[i];
}

static inline int64_t
row_time(const builder *b, int table, int32_t unique)
{
    return b->time[table] == NULL || unique < 0 ? INT64_MIN : b->time[table][unique];
}

/* Visible children from one sampled child of a list to the next. */
static double
stride(const builder *b, int64_t k, int32_t visible)
{
    return b->model->config.sampling == MOE_SAMPLE_LATEST ? 1.0 : (double) visible / k;
}

/* Fill the weights of one list of children: k sampled, ascending by time, of m visible. */
static void
weigh_children(const builder *b, const moe_edge_plan *edge, float *weights, int64_t k, int32_t visible)
{
    for (int p = 0; p < edge->parts; p++)
    {
        int kind = edge->first_part + p;
        double ratio = kind < 2 ? 1 : exp2(-stride(b, k, visible) / half_life[kind - 2]);
        double sum = 1;
        double weight = 1;
        for (int64_t j = 0; j < k; j++, weight *= ratio)
            sum += weight;
        weight = kind == 0 ? log1p(visible) / k : 1 / sum;
        for (int64_t j = k - 1; j >= 0; j--, weight *= ratio)
            weights[j * edge->parts + p] = (float) weight;
    }
}

/* Time features of each child of occurrence i: its age, and decays by the number of newer visible children. */
static void
date_children(const builder *b, const moe_edge_plan *edge, const moe_hop_edges *edges, int64_t i, float *out)
{
    const moe_level *from = &b->sample->levels[level_index(b, b->depth + 1, edge->source)];
    int64_t k = edges->offset[i + 1] - edges->offset[i];
    for (int64_t j = 0; j < k; j++)
    {
        int32_t occurrence = edges->source[edges->offset[i] + j];
        double newer = (double) (k - 1 - j) * stride(b, k, edges->visible[i]);
        float *features = out + j * MOE_EDGE_TIME;
        memset(features, 0, MOE_EDGE_TIME * sizeof *features);
        if (row_time(b, edge->source, from->unique[occurrence]) != INT64_MIN)
            age_features((double) from->age[occurrence] / DAY, features);
        for (int h = 0; h < 2; h++)
            features[2 + MOE_DECAYS + h] = (float) exp2(-newer / half_life[h]);
    }
}

static void
child_features(const builder *b, const moe_edge_plan *edge, const moe_hop_edges *edges, int64_t i, float *out)
{
    int64_t k = edges->offset[i + 1] - edges->offset[i];
    out[0] = k > 0;
    out[1] = (float) (log1p(edges->visible[i]) / 4);
    if (!edge->timed || k == 0)
        return;
    const moe_level *from = &b->sample->levels[level_index(b, b->depth + 1, edge->source)];
    double sums[MOE_DECAYS] = {0};
    double newest = -1;
    double oldest = -1;
    for (int64_t j = edges->offset[i + 1] - 1; j >= edges->offset[i]; j--)
    {
        int32_t occurrence = edges->source[j];
        if (row_time(b, edge->source, from->unique[occurrence]) == INT64_MIN)
            continue;
        oldest = (double) from->age[occurrence] / DAY;
        if (newest < 0)
            newest = oldest;
        add_decays(oldest, sums);
    }
    if (newest < 0)
        return;
    out[2] = 1.5f - log_days(newest);
    out[3] = log_days(oldest);
    for (int d = 0; d < MOE_DECAYS; d++)
        out[4 + d] = (float) (log1p(sums[d] * edges->visible[i] / k) / 4);
}

static void
parent_features(const builder *b, const moe_edge_plan *edge, int32_t unique, int32_t occurrence, float *out)
{
    const moe_level *from = &b->sample->levels[level_index(b, b->depth + 1, edge->source)];
    out[0] = 1;
    if (!edge->timed)
        return;
    int64_t parent_time = row_time(b, edge->source, from->unique[occurrence]);
    int64_t child_time = row_time(b, edge->destination, unique);
    if (parent_time == INT64_MIN)
        return;
    if (edge->relative)
        age_features((double) from->age[occurrence] / DAY, out);
    else if (child_time != INT64_MIN)
        age_features(fabs((double) child_time - (double) parent_time) / DAY, out);
}

static void
fill_children(const builder *b, int e, int64_t i, int64_t state)
{
    const moe_edge_plan *edge = &b->model->edges[e];
    const moe_hop_edges *edges = sampled_edges(b, e);
    const moe_state_edges *out = &b->states->edges[(int64_t) b->depth * b->model->n_edges + e];
    const int32_t *state_of = b->state_of[level_index(b, b->depth + 1, edge->source)];
    const int32_t *unique = b->sample->levels[level_index(b, b->depth + 1, edge->source)].unique;
    int64_t first = out->offset[state];
    int64_t k = edges->offset[i + 1] - edges->offset[i];
    for (int64_t j = 0; j < k; j++)
    {
        out->source[first + j] = state_of[edges->source[edges->offset[i] + j]];
        out->unique[first + j] = unique[edges->source[edges->offset[i] + j]];
    }
    weigh_children(b, edge, out->weight + first * edge->parts, k, edges->visible[i]);
    if (out->degree != NULL)
        out->degree[state] = (float) log1p(edges->visible[i]);
    if (out->time != NULL)
        date_children(b, edge, edges, i, out->time + first * MOE_EDGE_TIME);
}

/* Fill edges and time features of a range of states from their representatives. */
static void
fill_states(int64_t begin, int64_t end, void *arg)
{
    builder *b = arg;
    const moe_level *level = &b->sample->levels[level_index(b, b->depth, b->table)];
    moe_state_level *out = &b->states->levels[level_index(b, b->depth, b->table)];
    int width = b->model->tables[b->table].width;
    memset(out->time + begin * width, 0, (end - begin) * width * sizeof *out->time);
    for (int64_t state = begin; state < end; state++)
    {
        int32_t i = b->representative[state];
        float *time = out->time + state * width;
        out->unique[state] = level->unique[i];
        /* Only seeds are dated on their own account; see above. */
        if (b->depth == 0 && row_time(b, b->table, level->unique[i]) != INT64_MIN)
            age_features((double) level->age[i] / DAY, time);
        for (int e = 0; e < b->model->n_edges; e++)
        {
            const moe_edge_plan *edge = &b->model->edges[e];
            const moe_hop_edges *edges = sampled_edges(b, e);
            if (edge->destination != b->table || edges->offset == NULL)
                continue;
            if (edge->to_children)
            {
                fill_children(b, e, i, state);
                child_features(b, edge, edges, i, time + edge->column);
                continue;
            }
            const moe_state_edges *to = &b->states->edges[(int64_t) b->depth * b->model->n_edges + e];
            int64_t from = level_index(b, b->depth + 1, edge->source);
            bool any = edges->offset[i + 1] > edges->offset[i];
            int32_t occurrence = any ? edges->source[edges->offset[i]] : -1;
            to->source[state] = any ? b->state_of[from][occurrence] : -1;
            to->unique[state] = any ? b->sample->levels[from].unique[occurrence] : -1;
            if (any)
                parent_features(b, edge, level->unique[i], occurrence, time + edge->column);
        }
    }
}

/* What some convolutions alone ask for. */
static bool
allocate_extras(builder *b, const moe_edge_plan *edge, moe_state_edges *out, int64_t messages)
{
    bool degree = b->model->config.convolution == MOE_CONV_PNA;
    bool time = b->model->config.convolution == MOE_CONV_GAT && edge->timed;
    if (degree)
        out->degree = moe_tape_alloc(b->tape, out->n, sizeof *out->degree);
    if (time)
        out->time = moe_tape_alloc(b->tape, messages, MOE_EDGE_TIME * sizeof *out->time);
    return (!degree || out->degree != NULL) && (!time || out->time != NULL);
}

static bool
allocate_edges(builder *b, int e)
{
    const moe_edge_plan *edge = &b->model->edges[e];
    const moe_hop_edges *edges = sampled_edges(b, e);
    moe_state_edges *out = &b->states->edges[(int64_t) b->depth * b->model->n_edges + e];
    int64_t n = b->states->levels[level_index(b, b->depth, b->table)].n;
    int64_t messages = n;
    out->n = n;
    if (edge->to_children)
    {
        out->offset = moe_tape_alloc(b->tape, n + 1, sizeof *out->offset);
        if (out->offset == NULL)
            return false;
        out->offset[0] = 0;
        for (int64_t state = 0; state < n; state++)
        {
            int32_t i = b->representative[state];
            out->offset[state + 1] = out->offset[state] + edges->offset[i + 1] - edges->offset[i];
        }
        messages = out->offset[n];
        out->weight = moe_tape_alloc(b->tape, messages, edge->parts * sizeof *out->weight);
        if (out->weight == NULL || !allocate_extras(b, edge, out, messages))
            return false;
    }
    out->source = moe_tape_alloc(b->tape, messages, sizeof *out->source);
    out->unique = moe_tape_alloc(b->tape, messages, sizeof *out->unique);
    return out->source != NULL && out->unique != NULL;
}

static bool
build_level(builder *b)
{
    const moe_level *level = &b->sample->levels[level_index(b, b->depth, b->table)];
    moe_state_level *out = &b->states->levels[level_index(b, b->depth, b->table)];
    if (level->n == 0)
        return true;
    if (!(b->depth == 0 ? keep_occurrences(b) : merge_occurrences(b)))
        return false;
    out->unique = moe_tape_alloc(b->tape, out->n, sizeof *out->unique);
    out->time = moe_tape_alloc(b->tape, out->n * b->model->tables[b->table].width, sizeof *out->time);
    if (out->unique == NULL || out->time == NULL)
        return false;
    for (int e = 0; e < b->model->n_edges; e++)
        if (b->model->edges[e].destination == b->table && sampled_edges(b, e)->offset != NULL)
            if (!allocate_edges(b, e))
                return false;
    moe_parallel(b->model->job, out->n, GRAIN, fill_states, b);
    return true;
}

static void *
zeroed(moe_tape *tape, int64_t count, size_t size)
{
    void *memory = moe_tape_alloc(tape, count, size);
    return memory == NULL ? NULL : memset(memory, 0, count * size);
}

static void
fill_times(int64_t begin, int64_t end, void *arg)
{
    builder *b = arg;
    const int64_t *time = moe_graph_table_at(b->model->graph, b->table)->time;
    const int32_t *row = b->sample->row[b->table];
    for (int64_t i = begin; i < end; i++)
        b->time[b->table][i] = time[row[i]];
}

/* The times of all unique rows; false on failure. */
static bool
look_up_times(builder *b)
{
    b->time = zeroed(b->tape, b->model->n_tables, sizeof *b->time);
    if (b->time == NULL)
        return false;
    for (b->table = 0; b->table < b->model->n_tables; b->table++)
    {
        int64_t n = b->sample->n_unique[b->table];
        if (moe_graph_table_at(b->model->graph, b->table)->time == NULL || n == 0)
            continue;
        b->time[b->table] = moe_tape_alloc(b->tape, n, sizeof **b->time);
        if (b->time[b->table] == NULL)
            return false;
        moe_parallel(b->model->job, n, 8 * GRAIN, fill_times, b);
    }
    return true;
}

moe_code
moe_states_build(const moe_model *model, moe_tape *tape, const moe_sample *sample, moe_states *out)
{
    builder b = {.model = model, .tape = tape, .sample = sample, .states = out};
    int64_t n_levels = (int64_t) (sample->hops + 1) * model->n_tables;
    out->levels = zeroed(tape, n_levels, sizeof *out->levels);
    out->edges = zeroed(tape, (int64_t) sample->hops * model->n_edges, sizeof *out->edges);
    b.state_of = zeroed(tape, n_levels, sizeof *b.state_of);
    if (out->levels == NULL || out->edges == NULL || b.state_of == NULL || !look_up_times(&b))
        return moe_job_code(model->job);
    for (int t = 0; t < model->n_tables; t++)
    {
        int64_t last = level_index(&b, sample->hops, t);
        b.state_of[last] = sample->levels[last].unique;
        out->levels[last].n = sample->n_unique[t];
    }
    for (b.depth = sample->hops - 1; b.depth >= 0; b.depth--)
        for (b.table = 0; b.table < model->n_tables; b.table++)
            if (!build_level(&b))
                return moe_job_code(model->job);
    return moe_job_check(model->job);
}
