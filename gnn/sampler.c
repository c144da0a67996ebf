/*
 * sampler.c: trees of visible neighbours, hop by hop.
 *
 * How many neighbours an occurrence gets is min(visible, fanout), known before
 * any is drawn; so every hop is a counting pass, a prefix sum and a filling
 * pass, both passes over all destinations on the job's threads, and no result
 * depends on who fills which part.
 *
 * k of m visible children are drawn by Floyd's method (Bentley and Floyd, CACM
 * 1987) and put in order of row time. The key of a draw descends the tree:
 * key(child) = key(key(parent), edge type, place among the parent's visible
 * children), from the seed row's identity on. So neither later rows change a
 * draw nor rows that no tree comes by, which need not be there.
 *
 * Afterwards the rows behind the occurrences of each table are numbered by
 * first occurrence with one hash table.
 */
#include "gnn/sampler.h"

#include <string.h>

#include "kernels/random.h"

#define GRAIN       256
#define BITMAP_BITS 8192

/* What the filling of the next hop needs of an occurrence, beside its level. */
typedef struct frontier
{
    int32_t *row;
    uint64_t *key;
} frontier;

typedef struct sampler
{
    moe_arena *arena;
    const moe_graph *graph;
    const moe_seeds *seeds;
    const moe_sampler_config *config;
    moe_sample *sample;
    frontier *frontiers; /* as sample->levels */
    int64_t *clock;      /* [seeds] what ages count back from */
    /* of the pass that runs now */
    int depth;
    int edge_type;
    int64_t base; /* first occurrence of the edge type's sources */
} sampler;

static inline int64_t
horizon_of(const sampler *s, int32_t seed)
{
    return s->seeds->horizon != NULL ? s->seeds->horizon[seed] : s->seeds->time[seed];
}

static inline bool
disabled(const sampler *s, int table)
{
    return s->config->disabled_tables != NULL && s->config->disabled_tables[table];
}

/* Microseconds from a row to the seed's clock, never negative; 0 for rows without a time. */
static int64_t
age_of(const sampler *s, int table, int32_t row, int32_t seed)
{
    const int64_t *time = moe_graph_table_at(s->graph, table)->time;
    int64_t age;
    if (time == NULL || time[row] == INT64_MIN || s->clock[seed] <= time[row])
        return 0;
    return __builtin_sub_overflow(s->clock[seed], time[row], &age) ? INT64_MAX : age;
}

/* Seeds share few horizons and often stand in their order, so the last answer is kept. */
static void
set_clocks(sampler *s)
{
    int64_t newest = 0;
    for (int64_t i = 0; i < s->seeds->n; i++)
    {
        int64_t latest;
        int64_t horizon = horizon_of(s, (int32_t) i);
        if (i == 0 || horizon != horizon_of(s, (int32_t) i - 1))
            newest = moe_graph_newest(s->graph, horizon);
        if (__builtin_add_overflow(newest, s->config->staleness, &latest))
            latest = INT64_MAX;
        s->clock[i] = s->seeds->time[i] < latest ? s->seeds->time[i] : latest;
    }
}

static inline void
edge_tables(const moe_graph *graph, int edge_type, int *source, int *destination)
{
    const moe_graph_key *key = moe_graph_key_at(graph, edge_type / 2);
    *source = edge_type % 2 == 0 ? key->child : key->parent;
    *destination = edge_type % 2 == 0 ? key->parent : key->child;
}

/* The visible parent of a row, or -1. */
static int32_t
visible_parent(const sampler *s, const moe_graph_key *key, int32_t row, int64_t horizon)
{
    int32_t parent = key->parent_of[row];
    if (parent < 0 || !moe_graph_visible(s->graph, key->parent, parent, horizon))
        return -1;
    /* A seed that may not be seen does not show its foreign keys either. */
    if (s->depth == 0 && !moe_graph_visible(s->graph, key->child, row, horizon))
        return -1;
    return parent;
}

static void
count_neighbours(int64_t begin, int64_t end, void *arg)
{
    sampler *s = arg;
    int source, destination;
    edge_tables(s->graph, s->edge_type, &source, &destination);
    const moe_graph_key *key = moe_graph_key_at(s->graph, s->edge_type / 2);
    int64_t at = (int64_t) s->depth * s->sample->n_tables + destination;
    const moe_level *level = &s->sample->levels[at];
    const int32_t *row = s->frontiers[at].row;
    moe_hop_edges *edges = &s->sample->edges[(int64_t) s->depth * s->sample->n_edge_types + s->edge_type];

    for (int64_t i = begin; i < end; i++)
    {
        int64_t horizon = horizon_of(s, level->seed[i]);
        int64_t visible;
        if (s->edge_type % 2 == 0)
            visible = moe_graph_visible_children(s->graph, s->edge_type / 2, row[i], horizon);
        else
            visible = visible_parent(s, key, row[i], horizon) >= 0;
        int64_t fanout = s->config->fanout[s->depth];
        edges->visible[i] = (int32_t) visible;
        edges->offset[i + 1] = visible < fanout ? visible : fanout;
    }
}

/* A uniform number in 0..n - 1, n below 2^32 (the bias of the product method is below 2^-32). */
static inline int32_t
draw(uint64_t key, uint64_t counter, int64_t n)
{
    return (int32_t) (((moe_random_bits(key, counter) >> 32) * (uint64_t) n) >> 32);
}

static void
draw_small(uint64_t key, int32_t visible, int32_t k, int32_t *position)
{
    uint64_t taken[BITMAP_BITS / 64];
    int32_t words = (visible + 63) / 64;
    memset(taken, 0, words * sizeof *taken);
    for (int32_t last = visible - k; last < visible; last++)
    {
        int32_t p = draw(key, last, (int64_t) last + 1);
        if (taken[p / 64] >> (p % 64) & 1)
            p = last;
        taken[p / 64] |= UINT64_C(1) << (p % 64);
    }
    int32_t n = 0;
    for (int32_t w = 0; w < words; w++)
        for (uint64_t bits = taken[w]; bits != 0; bits &= bits - 1)
            position[n++] = w * 64 + __builtin_ctzll(bits);
}

static void
draw_large(uint64_t key, int32_t visible, int32_t k, int32_t *position)
{
    int32_t taken[2 * MOE_MAX_FANOUT]; /* open addressing; -1: free */
    memset(taken, 0xff, sizeof taken);
    int32_t n = 0;
    for (int32_t last = visible - k; last < visible; last++)
    {
        int32_t p = draw(key, last, (int64_t) last + 1);
        uint32_t slot;
        for (slot = moe_mix64(p) % (2 * MOE_MAX_FANOUT); taken[slot] >= 0 && taken[slot] != p;
             slot = (slot + 1) % (2 * MOE_MAX_FANOUT))
            ;
        if (taken[slot] == p)
        {
            p = last;
            for (slot = moe_mix64(p) % (2 * MOE_MAX_FANOUT); taken[slot] >= 0; slot = (slot + 1) % (2 * MOE_MAX_FANOUT))
                ;
        }
        taken[slot] = p;
        int32_t at = n++; /* insertion keeps them in order; k is small beside a list this long */
        for (; at > 0 && position[at - 1] > p; at--)
            position[at] = position[at - 1];
        position[at] = p;
    }
}

/* Choose k of the visible positions, ascending. */
static void
choose(const sampler *s, uint64_t key, int32_t visible, int32_t k, int32_t *position)
{
    if (k == visible || s->config->sampling == MOE_SAMPLE_LATEST)
        for (int32_t j = 0; j < k; j++)
            position[j] = visible - k + j;
    else if (visible <= BITMAP_BITS)
        draw_small(key, visible, k, position);
    else
        draw_large(key, visible, k, position);
}

static void
fill_neighbours(int64_t begin, int64_t end, void *arg)
{
    sampler *s = arg;
    int source, destination;
    edge_tables(s->graph, s->edge_type, &source, &destination);
    const moe_graph_key *key = moe_graph_key_at(s->graph, s->edge_type / 2);
    int n_tables = s->sample->n_tables;
    const moe_level *level = &s->sample->levels[(int64_t) s->depth * n_tables + destination];
    const frontier *from = &s->frontiers[(int64_t) s->depth * n_tables + destination];
    moe_level *next = &s->sample->levels[(int64_t) (s->depth + 1) * n_tables + source];
    frontier *to = &s->frontiers[(int64_t) (s->depth + 1) * n_tables + source];
    moe_hop_edges *edges = &s->sample->edges[(int64_t) s->depth * s->sample->n_edge_types + s->edge_type];
    int32_t position[MOE_MAX_FANOUT];

    for (int64_t i = begin; i < end; i++)
    {
        int32_t k = (int32_t) (edges->offset[i + 1] - edges->offset[i]);
        if (k == 0)
            continue;
        uint64_t branch = moe_key(from->key[i], s->edge_type);
        const int32_t *children = NULL;
        if (s->edge_type % 2 == 0)
        {
            moe_graph_children(s->graph, s->edge_type / 2, from->row[i], &children);
            choose(s, branch, edges->visible[i], k, position);
        }
        for (int32_t j = 0; j < k; j++)
        {
            int64_t at = edges->offset[i] + j;
            int64_t occurrence = s->base + at;
            int32_t row = children != NULL ? children[position[j]] : key->parent_of[from->row[i]];
            edges->source[at] = (int32_t) occurrence;
            next->seed[occurrence] = level->seed[i];
            next->age[occurrence] = age_of(s, source, row, level->seed[i]);
            to->row[occurrence] = row;
            to->key[occurrence] = moe_key(branch, children != NULL ? position[j] : 0);
        }
    }
}

static bool
allocate_level(sampler *s, int depth, int table, int64_t n)
{
    moe_level *level = &s->sample->levels[(int64_t) depth * s->sample->n_tables + table];
    frontier *front = &s->frontiers[(int64_t) depth * s->sample->n_tables + table];
    if (n > INT32_MAX)
    {
        moe_fail(moe_arena_job(s->arena), MOE_LIMIT,
                 "a batch would sample %lld rows of table \"%s\"; use a smaller fanout, fewer hops or smaller batches",
                 (long long) n, moe_graph_table_at(s->graph, table)->name);
        return false;
    }
    level->n = n;
    level->seed = moe_arena_alloc(s->arena, n, sizeof *level->seed);
    level->unique = moe_arena_alloc(s->arena, n, sizeof *level->unique);
    level->age = moe_arena_alloc(s->arena, n, sizeof *level->age);
    front->row = moe_arena_alloc(s->arena, n, sizeof *front->row);
    front->key = moe_arena_alloc(s->arena, n, sizeof *front->key);
    return level->seed != NULL && level->unique != NULL && level->age != NULL && front->row != NULL &&
           front->key != NULL;
}

/* Count the messages of one edge type at a depth, leaving offsets; its number, -1 on failure. */
static int64_t
count_edges(sampler *s, int edge_type)
{
    int source, destination;
    edge_tables(s->graph, edge_type, &source, &destination);
    int64_t n = s->sample->levels[(int64_t) s->depth * s->sample->n_tables + destination].n;
    moe_hop_edges *edges = &s->sample->edges[(int64_t) s->depth * s->sample->n_edge_types + edge_type];
    if (n == 0 || disabled(s, source))
        return 0;
    edges->offset = moe_arena_alloc(s->arena, n + 1, sizeof *edges->offset);
    edges->visible = moe_arena_alloc(s->arena, n, sizeof *edges->visible);
    if (edges->offset == NULL || edges->visible == NULL)
        return -1;
    s->edge_type = edge_type;
    moe_parallel(moe_arena_job(s->arena), n, GRAIN, count_neighbours, s);
    edges->offset[0] = 0;
    for (int64_t i = 0; i < n; i++)
        edges->offset[i + 1] += edges->offset[i];
    if (edges->offset[n] == 0)
        edges->offset = NULL;
    return edges->offset == NULL ? 0 : edges->offset[n];
}

static moe_code
sample_hop(sampler *s)
{
    moe_job *job = moe_arena_job(s->arena);
    moe_sample *sample = s->sample;
    int64_t *base = moe_arena_zalloc(s->arena, sample->n_edge_types + 1, sizeof *base);
    int64_t *total = moe_arena_zalloc(s->arena, sample->n_tables, sizeof *total);
    if (base == NULL || total == NULL)
        return moe_job_code(job);
    for (int e = 0; e < sample->n_edge_types; e++)
    {
        int source, destination;
        edge_tables(s->graph, e, &source, &destination);
        int64_t n = count_edges(s, e);
        if (n < 0)
            return moe_job_code(job);
        base[e] = total[source];
        total[source] += n;
    }
    for (int t = 0; t < sample->n_tables; t++)
        if (!allocate_level(s, s->depth + 1, t, total[t]))
            return moe_job_code(job);
    for (int e = 0; e < sample->n_edge_types; e++)
    {
        int source, destination;
        edge_tables(s->graph, e, &source, &destination);
        moe_hop_edges *edges = &sample->edges[(int64_t) s->depth * sample->n_edge_types + e];
        int64_t n = sample->levels[(int64_t) s->depth * sample->n_tables + destination].n;
        if (edges->offset == NULL)
            continue;
        edges->source = moe_arena_alloc(s->arena, edges->offset[n], sizeof *edges->source);
        if (edges->source == NULL)
            return moe_job_code(job);
        s->edge_type = e;
        s->base = base[e];
        moe_parallel(job, n, GRAIN, fill_neighbours, s);
    }
    return moe_job_check(job);
}

/* The scratch of numbering one table's rows. */
typedef struct numbering
{
    sampler *s;
    int32_t **slots; /* [n_tables] hash table: unique index or -1 */
    uint64_t *mask;  /* [n_tables] slots - 1 */
} numbering;

static uint8_t
hidden_mask(const sampler *s, const moe_graph_table *table, int32_t row, int32_t seed)
{
    uint8_t mask = 0;
    int64_t horizon = table->n_hidden > 0 ? horizon_of(s, seed) : 0;
    for (int b = 0; b < table->n_hidden; b++)
        if (table->known_at[b][row] > horizon)
            mask |= (uint8_t) (1 << b);
    return mask;
}

static void
number_table(const numbering *numbers, int t)
{
    sampler *s = numbers->s;
    moe_sample *sample = s->sample;
    const moe_graph_table *table = moe_graph_table_at(s->graph, t);
    int32_t *slots = numbers->slots[t];
    int32_t *row_of = sample->row[t];
    uint8_t *hidden_of = sample->hidden[t];
    int64_t n_unique = 0;

    for (int d = 0; d <= sample->hops; d++)
    {
        moe_level *level = &sample->levels[(int64_t) d * sample->n_tables + t];
        const int32_t *rows = s->frontiers[(int64_t) d * sample->n_tables + t].row;
        for (int64_t i = 0; i < level->n; i++)
        {
            int32_t row = rows[i];
            if (d == 0 && (disabled(s, t) || !moe_graph_visible(s->graph, t, row, horizon_of(s, level->seed[i]))))
            {
                level->unique[i] = -1;
                continue;
            }
            uint8_t hidden = hidden_mask(s, table, row, level->seed[i]);
            uint64_t slot = moe_mix64(((uint64_t) row << 8) | hidden) & numbers->mask[t];
            while (slots[slot] >= 0 && (row_of[slots[slot]] != row || (hidden_of && hidden_of[slots[slot]] != hidden)))
                slot = (slot + 1) & numbers->mask[t];
            if (slots[slot] < 0)
            {
                slots[slot] = (int32_t) n_unique;
                row_of[n_unique] = row;
                if (hidden_of != NULL)
                    hidden_of[n_unique] = hidden;
                n_unique++;
            }
            level->unique[i] = slots[slot];
        }
    }
    sample->n_unique[t] = n_unique;
}

static void
number_tables(int64_t begin, int64_t end, void *arg)
{
    for (int64_t t = begin; t < end; t++)
        number_table(arg, (int) t);
}

/* List the rows behind the occurrences of every table once each, by first occurrence. */
static moe_code
number_rows(sampler *s)
{
    moe_sample *sample = s->sample;
    int n_tables = sample->n_tables;
    numbering numbers = {.s = s};
    numbers.slots = moe_arena_alloc(s->arena, n_tables, sizeof *numbers.slots);
    numbers.mask = moe_arena_alloc(s->arena, n_tables, sizeof *numbers.mask);
    if (numbers.slots == NULL || numbers.mask == NULL)
        return moe_job_code(moe_arena_job(s->arena));
    for (int t = 0; t < n_tables; t++)
    {
        const moe_graph_table *table = moe_graph_table_at(s->graph, t);
        int64_t bound = 0;
        for (int d = 0; d <= sample->hops; d++)
            bound += sample->levels[(int64_t) d * n_tables + t].n;
        if (table->n_hidden == 0 && bound > table->n_rows)
            bound = table->n_rows;
        if (bound > INT32_MAX)
            return moe_fail(moe_arena_job(s->arena), MOE_LIMIT, "a batch would sample too many rows of table \"%s\"",
                            table->name);
        int64_t n_slots = 16;
        while (n_slots < 2 * bound)
            n_slots *= 2;
        numbers.mask[t] = n_slots - 1;
        numbers.slots[t] = moe_arena_alloc(s->arena, n_slots, sizeof **numbers.slots);
        sample->row[t] = moe_arena_alloc(s->arena, bound, sizeof **sample->row);
        sample->hidden[t] = table->n_hidden > 0 ? moe_arena_alloc(s->arena, bound, 1) : NULL;
        if (numbers.slots[t] == NULL || sample->row[t] == NULL || (table->n_hidden > 0 && sample->hidden[t] == NULL))
            return moe_job_code(moe_arena_job(s->arena));
        memset(numbers.slots[t], 0xff, n_slots * sizeof **numbers.slots);
    }
    moe_parallel(moe_arena_job(s->arena), n_tables, 1, number_tables, &numbers);
    return MOE_OK;
}

static moe_code
check_request(moe_job *job, const moe_graph *graph, const moe_seeds *seeds, const moe_sampler_config *config)
{
    if (config->hops < 1 || config->hops > MOE_MAX_HOPS)
        return moe_fail(job, MOE_INVALID, "number of hops must be between 1 and %d, not %d", MOE_MAX_HOPS,
                        config->hops);
    for (int h = 0; h < config->hops; h++)
        if (config->fanout[h] < 1 || config->fanout[h] > MOE_MAX_FANOUT)
            return moe_fail(job, MOE_INVALID, "fanout must be between 1 and %d, not %d", MOE_MAX_FANOUT,
                            config->fanout[h]);
    if (seeds->table < 0 || seeds->table >= moe_graph_tables(graph) || seeds->n < 0)
        return moe_fail(job, MOE_INVALID, "seeds name a table that does not exist");
    for (int64_t i = 0; i < seeds->n; i++)
        if (seeds->row[i] < 0 || seeds->row[i] >= moe_graph_table_at(graph, seeds->table)->n_rows)
            return moe_fail(job, MOE_INVALID, "seed %lld is not a row of table \"%s\"", (long long) i,
                            moe_graph_table_at(graph, seeds->table)->name);
    return MOE_OK;
}

static bool
allocate_sample(sampler *s)
{
    moe_sample *sample = moe_arena_zalloc(s->arena, 1, sizeof *sample);
    if (sample == NULL)
        return false;
    int hops = s->config->hops;
    int n_tables = moe_graph_tables(s->graph);
    int n_edge_types = 2 * moe_graph_keys(s->graph);
    sample->hops = hops;
    sample->n_tables = n_tables;
    sample->n_edge_types = n_edge_types;
    sample->levels = moe_arena_zalloc(s->arena, (int64_t) (hops + 1) * n_tables, sizeof *sample->levels);
    sample->edges = moe_arena_zalloc(s->arena, (int64_t) hops * n_edge_types, sizeof *sample->edges);
    sample->n_unique = moe_arena_zalloc(s->arena, n_tables, sizeof *sample->n_unique);
    sample->row = moe_arena_zalloc(s->arena, n_tables, sizeof *sample->row);
    sample->hidden = moe_arena_zalloc(s->arena, n_tables, sizeof *sample->hidden);
    s->frontiers = moe_arena_zalloc(s->arena, (int64_t) (hops + 1) * n_tables, sizeof *s->frontiers);
    s->sample = sample;
    return sample->levels != NULL && sample->edges != NULL && sample->n_unique != NULL && sample->row != NULL &&
           sample->hidden != NULL && s->frontiers != NULL;
}

/* Level 0: the seeds themselves. */
static bool
place_seeds(sampler *s)
{
    const moe_seeds *seeds = s->seeds;
    s->clock = moe_arena_alloc(s->arena, seeds->n, sizeof *s->clock);
    if (s->clock == NULL || !allocate_level(s, 0, seeds->table, seeds->n))
        return false;
    set_clocks(s);
    moe_level *level = &s->sample->levels[seeds->table];
    frontier *front = &s->frontiers[seeds->table];
    const uint64_t *identity = moe_graph_table_at(s->graph, seeds->table)->identity;
    for (int64_t i = 0; i < seeds->n; i++)
    {
        uint64_t self = identity != NULL ? identity[seeds->row[i]] : (uint64_t) seeds->row[i];
        level->seed[i] = (int32_t) i;
        level->age[i] = age_of(s, seeds->table, seeds->row[i], (int32_t) i);
        front->row[i] = seeds->row[i];
        front->key[i] = moe_key(moe_key(s->config->key, self), (uint64_t) seeds->time[i]);
    }
    return true;
}

moe_code
moe_sample_trees(moe_arena *arena, const moe_graph *graph, const moe_seeds *seeds, const moe_sampler_config *config,
                 moe_sample **out)
{
    moe_job *job = moe_arena_job(arena);
    sampler s = {.arena = arena, .graph = graph, .seeds = seeds, .config = config};
    *out = NULL;
    moe_code code = check_request(job, graph, seeds, config);
    if (code != MOE_OK)
        return code;
    if (!allocate_sample(&s) || !place_seeds(&s))
        return moe_job_code(job);
    for (s.depth = 0; s.depth < config->hops; s.depth++)
        if ((code = sample_hop(&s)) != MOE_OK)
            return code;
    if ((code = number_rows(&s)) != MOE_OK)
        return code;
    *out = s.sample;
    return moe_job_check(job);
}
