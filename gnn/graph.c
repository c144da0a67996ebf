/*
 * graph.c: the adjacency of foreign keys, both ways.
 *
 * A foreign key comes as the parent of each child. Its reverse is built by
 * one counting sort a key: because rows stand in time order, filling the lists
 * in row order leaves every parent's children sorted by row time, and those
 * visible at a moment are found by one binary search. The sort is the same for
 * any number of threads.
 */
#include "gnn/graph.h"

#define BUCKETS   1024 /* ranges of parents, at most */
#define CHUNKS    64   /* of children, at most */
#define CHUNK_MIN 16384

typedef struct adjacency
{
    int64_t *offset;   /* [parent rows + 1] */
    int32_t *children; /* [edges] */
} adjacency;

typedef struct newest_row /* told, as not all rows are there */
{
    int64_t horizon;
    int64_t newest;
} newest_row;

struct moe_graph
{
    moe_job *job;
    int n_tables;
    int n_keys;
    moe_graph_table *tables;
    moe_graph_key *keys;
    adjacency *adjacent; /* [n_keys] */
    int64_t n_told;
    newest_row *told;
};

static moe_code
check_table(moe_job *job, const moe_graph_table *table)
{
    if (table->n_rows < 0 || table->n_rows > INT32_MAX)
        return moe_fail(job, MOE_INVALID, "table \"%s\" has too many rows: %lld", table->name,
                        (long long) table->n_rows);
    if (table->n_hidden < 0 || table->n_hidden > 8)
        return moe_fail(job, MOE_INVALID, "table \"%s\" has %d groups of late columns, at most 8 are possible",
                        table->name, table->n_hidden);
    for (int b = 0; b < table->n_hidden; b++)
        if (table->known_at[b] == NULL)
            return moe_fail(job, MOE_INVALID, "table \"%s\" lacks the times of late columns", table->name);
    if (table->time == NULL)
        return MOE_OK;
    for (int64_t row = 1; row < table->n_rows; row++)
        if (table->time[row] < table->time[row - 1])
            return moe_fail(job, MOE_INVALID, "rows of table \"%s\" are not in time order", table->name);
    return MOE_OK;
}

/*
 * The sort of one foreign key's children by parent.
 *
 * Parents fall into at most BUCKETS ranges of 2^shift. First the children are
 * moved to their parent's range, chunk by chunk and in row order, with the
 * parent beside them; then each range is counted and filled by itself, within
 * the cache. Chunks and ranges are shared out to the job's threads.
 */
typedef struct sorting
{
    const int32_t *parent_of;
    int64_t n_parents;
    int64_t chunk; /* rows */
    int shift;
    int n_buckets;
    int64_t (*place)[BUCKETS]; /* [chunks] counts, then where the next child of the range goes */
    int64_t bucket[BUCKETS + 1];
    struct child
    {
        int32_t row;
        int32_t parent;
    } * moved;            /* [edges] */
    _Atomic bool outside; /* some parent does not exist */
    adjacency *out;
} sorting;

static void
count_buckets(int64_t begin, int64_t end, void *arg)
{
    sorting *s = arg;
    int64_t *count = s->place[begin / s->chunk];
    bool outside = false;
    for (int64_t row = begin; row < end; row++)
    {
        int32_t parent = s->parent_of[row];
        if (parent < -1 || parent >= s->n_parents)
            outside = true;
        else if (parent >= 0)
            count[parent >> s->shift]++;
    }
    if (outside)
        s->outside = true;
}

/* From counts to places: by range, then by chunk. */
static void
place_buckets(sorting *s, int64_t n_chunks)
{
    int64_t at = 0;
    for (int b = 0; b < s->n_buckets; b++)
    {
        s->bucket[b] = at;
        for (int64_t c = 0; c < n_chunks; c++)
        {
            int64_t count = s->place[c][b];
            s->place[c][b] = at;
            at += count;
        }
    }
    s->bucket[s->n_buckets] = at;
}

static void
move_children(int64_t begin, int64_t end, void *arg)
{
    sorting *s = arg;
    int64_t *place = s->place[begin / s->chunk];
    for (int64_t row = begin; row < end; row++)
    {
        int32_t parent = s->parent_of[row];
        if (parent >= 0)
            s->moved[place[parent >> s->shift]++] = (struct child){(int32_t) row, parent};
    }
}

/* Count and fill the children of the parents of some ranges. */
static void
fill_buckets(int64_t begin, int64_t end, void *arg)
{
    sorting *s = arg;
    int64_t *offset = s->out->offset; /* offset[p + 1]: counts, then where the next child of p goes, then its end */
    for (int64_t b = begin; b < end; b++)
    {
        int64_t first = b << s->shift;
        int64_t last = (b + 1) << s->shift < s->n_parents ? (b + 1) << s->shift : s->n_parents;
        int64_t at = s->bucket[b];
        for (int64_t i = s->bucket[b]; i < s->bucket[b + 1]; i++)
            offset[s->moved[i].parent + 1]++;
        for (int64_t parent = first; parent < last; parent++)
        {
            int64_t count = offset[parent + 1];
            offset[parent + 1] = at;
            at += count;
        }
        for (int64_t i = s->bucket[b]; i < s->bucket[b + 1]; i++)
            s->out->children[offset[s->moved[i].parent + 1]++] = s->moved[i].row;
    }
}

static moe_code
sort_children(moe_job *job, sorting *s, int64_t n_children)
{
    int64_t n_chunks;
    while (s->n_parents >> s->shift >= BUCKETS)
        s->shift++;
    s->n_buckets = (int) ((s->n_parents >> s->shift) + 1);
    s->chunk = n_children / CHUNKS + 1 > CHUNK_MIN ? n_children / CHUNKS + 1 : CHUNK_MIN;
    n_chunks = (n_children + s->chunk - 1) / s->chunk;
    s->place = moe_alloc(job, n_chunks, sizeof *s->place);
    if (s->place == NULL)
        return moe_job_code(job);
    moe_parallel(job, n_children, s->chunk, count_buckets, s);
    if (s->outside)
        return MOE_INVALID;
    place_buckets(s, n_chunks);
    s->moved = moe_alloc(job, s->bucket[s->n_buckets], sizeof *s->moved);
    s->out->children = moe_alloc(job, s->bucket[s->n_buckets], sizeof *s->out->children);
    if (s->moved == NULL || s->out->children == NULL)
        return moe_job_code(job);
    moe_parallel(job, n_children, s->chunk, move_children, s);
    moe_parallel(job, s->n_buckets, 1, fill_buckets, s);
    return moe_job_check(job);
}

static moe_code
build_adjacency(moe_graph *graph, const moe_graph_key *key, adjacency *out)
{
    moe_job *job = graph->job;
    if (key->child < 0 || key->child >= graph->n_tables || key->parent < 0 || key->parent >= graph->n_tables)
        return moe_fail(job, MOE_INVALID, "foreign key \"%s\" names a table that does not exist", key->name);
    sorting *s = moe_alloc(job, 1, sizeof *s);
    if (s == NULL)
        return moe_job_code(job);
    s->parent_of = key->parent_of;
    s->n_parents = graph->tables[key->parent].n_rows;
    s->out = out;
    out->offset = moe_alloc(job, s->n_parents + 1, sizeof *out->offset);
    moe_code code = out->offset == NULL ? moe_job_code(job) : sort_children(job, s, graph->tables[key->child].n_rows);
    if (s->outside)
        code = moe_fail(job, MOE_INVALID, "foreign key \"%s\" points outside its parent table", key->name);
    moe_free(job, s->place);
    moe_free(job, s->moved);
    moe_free(job, s);
    return code;
}

moe_code
moe_graph_create(moe_job *job, const moe_graph_table *tables, int n_tables, const moe_graph_key *keys, int n_keys,
                 moe_graph **out)
{
    *out = NULL;
    if (n_tables < 1 || n_keys < 0)
        return moe_fail(job, MOE_INVALID, "a graph needs at least one table");
    moe_graph *graph = moe_alloc(job, 1, sizeof *graph);
    if (graph == NULL)
        return moe_job_code(job);
    graph->job = job;
    graph->n_tables = n_tables;
    graph->n_keys = n_keys;
    graph->tables = moe_alloc(job, n_tables, sizeof *graph->tables);
    graph->keys = moe_alloc(job, n_keys, sizeof *graph->keys);
    graph->adjacent = moe_alloc(job, n_keys, sizeof *graph->adjacent);

    moe_code code = moe_job_code(job);
    if (graph->tables == NULL || graph->keys == NULL || graph->adjacent == NULL)
        goto failed;
    for (int t = 0; t < n_tables; t++)
    {
        graph->tables[t] = tables[t];
        if ((code = check_table(job, &tables[t])) != MOE_OK)
            goto failed;
    }
    for (int f = 0; f < n_keys; f++)
    {
        graph->keys[f] = keys[f];
        if ((code = moe_job_check(job)) != MOE_OK ||
            (code = build_adjacency(graph, &keys[f], &graph->adjacent[f])) != MOE_OK)
            goto failed;
    }
    *out = graph;
    return MOE_OK;

failed:
    moe_graph_destroy(graph);
    return code;
}

void
moe_graph_destroy(moe_graph *graph)
{
    if (graph == NULL)
        return;
    moe_job *job = graph->job;
    for (int f = 0; graph->adjacent != NULL && f < graph->n_keys; f++)
    {
        moe_free(job, graph->adjacent[f].offset);
        moe_free(job, graph->adjacent[f].children);
    }
    moe_free(job, graph->told);
    moe_free(job, graph->adjacent);
    moe_free(job, graph->keys);
    moe_free(job, graph->tables);
    moe_free(job, graph);
}

moe_code
moe_graph_relink(moe_graph *graph)
{
    moe_code code = moe_job_check(graph->job);
    for (int f = 0; code == MOE_OK && f < graph->n_keys; f++)
    {
        moe_free(graph->job, graph->adjacent[f].offset);
        moe_free(graph->job, graph->adjacent[f].children);
        graph->adjacent[f] = (adjacency){0};
        code = build_adjacency(graph, &graph->keys[f], &graph->adjacent[f]);
    }
    return code;
}

int
moe_graph_tables(const moe_graph *graph)
{
    return graph->n_tables;
}

const moe_graph_table *
moe_graph_table_at(const moe_graph *graph, int table)
{
    return &graph->tables[table];
}

int
moe_graph_keys(const moe_graph *graph)
{
    return graph->n_keys;
}

const moe_graph_key *
moe_graph_key_at(const moe_graph *graph, int key)
{
    return &graph->keys[key];
}

int64_t
moe_graph_children(const moe_graph *graph, int key, int32_t parent, const int32_t **children)
{
    const adjacency *adjacent = &graph->adjacent[key];
    *children = adjacent->children + adjacent->offset[parent];
    return adjacent->offset[parent + 1] - adjacent->offset[parent];
}

void
moe_graph_lists(const moe_graph *graph, int key, const int64_t **offset, const int32_t **children)
{
    *offset = graph->adjacent[key].offset;
    *children = graph->adjacent[key].children;
}

int64_t
moe_graph_visible_children(const moe_graph *graph, int key, int32_t parent, int64_t horizon)
{
    const int32_t *children;
    int64_t n = moe_graph_children(graph, key, parent, &children);
    const int64_t *time = graph->tables[graph->keys[key].child].time;
    if (time == NULL || n == 0 || time[children[n - 1]] <= horizon)
        return n;
    int64_t low = 0; /* the first child later than the horizon lies in [low, high] */
    int64_t high = n - 1;
    while (low < high)
    {
        int64_t middle = low + (high - low) / 2;
        if (time[children[middle]] <= horizon)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool
moe_graph_visible(const moe_graph *graph, int table, int32_t row, int64_t horizon)
{
    const int64_t *time = graph->tables[table].time;
    return time == NULL || time[row] <= horizon;
}

int64_t
moe_graph_visible_rows(const moe_graph_table *table, int64_t horizon)
{
    int64_t low = 0; /* the first row later than the horizon lies in [low, high] */
    int64_t high = table->n_rows;
    if (table->time == NULL)
        return table->n_rows;
    while (low < high)
    {
        int64_t middle = low + (high - low) / 2;
        if (table->time[middle] <= horizon)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

moe_code
moe_graph_tell_newest(moe_graph *graph, int64_t horizon, int64_t newest)
{
    int64_t i = 0;
    while (i < graph->n_told && graph->told[i].horizon != horizon)
        i++;
    if (i == graph->n_told)
    {
        newest_row *told = moe_realloc(graph->job, graph->told, graph->n_told + 1, sizeof *told);
        if (told == NULL)
            return moe_job_code(graph->job);
        graph->told = told;
        graph->n_told++;
    }
    graph->told[i] = (newest_row){horizon, newest};
    return MOE_OK;
}

int64_t
moe_graph_newest(const moe_graph *graph, int64_t horizon)
{
    int64_t newest = INT64_MIN;
    for (int64_t i = 0; i < graph->n_told; i++)
        if (graph->told[i].horizon == horizon)
            return graph->told[i].newest == INT64_MIN ? horizon : graph->told[i].newest;
    for (int t = 0; t < graph->n_tables; t++)
    {
        const moe_graph_table *table = &graph->tables[t];
        int64_t n = table->time == NULL ? 0 : moe_graph_visible_rows(table, horizon);
        if (n > 0 && table->time[n - 1] > newest)
            newest = table->time[n - 1];
    }
    return newest == INT64_MIN ? horizon : newest;
}

int64_t
moe_graph_staleness(const moe_graph *graph, const int64_t *time, int64_t n)
{
    int64_t longest = 0;
    for (int64_t i = 0; i < n; i++)
    {
        int64_t gap;
        if (i > 0 && time[i] == time[i - 1])
            continue;
        if (__builtin_sub_overflow(time[i], moe_graph_newest(graph, time[i]), &gap))
            return INT64_MAX;
        longest = gap > longest ? gap : longest;
    }
    return longest;
}
