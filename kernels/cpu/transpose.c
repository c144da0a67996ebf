/*
 * transpose.c: a sparse matrix by columns: a stable sort in two passes.
 *
 * First the entries are dealt out, in order, to buckets of neighbouring
 * columns: blocks of rows count what they have for each bucket, a running sum
 * over buckets and blocks gives each its places, and each writes there. Then
 * every bucket is sorted on its own by counting, within tables and results
 * that fit a cache. Blocks and buckets follow from the matrix alone; and as
 * the sort is stable, the result would be the same for any of them. A small
 * matrix is one bucket, sorted straight from its rows.
 */
#include "kernels/cpu/sparse.h"

#define SMALL_ENTRIES  16384 /* sorted in one go; also, of a block */
#define BUCKET_ENTRIES 8192
#define MOST_BLOCKS    32
#define MOST_BUCKETS   64

typedef struct dealt
{
    int32_t column;
    int32_t row;
    int32_t entry;
} dealt;

typedef struct sorting
{
    const moe_sparse *s;
    int parts;
    int64_t columns;
    int64_t blocks;
    int64_t buckets;
    int shift; /* a column's bucket is column >> shift */
    dealt *dealt;
    int64_t place[MOST_BLOCKS][MOST_BUCKETS]; /* of the block's next entry in the bucket */
    int64_t start[MOST_BUCKETS + 1];
    int64_t *offset;
    int32_t *index;
    float *weight;
    int32_t *entry;
} sorting;

/* The first row of a block. */
MOE_INLINE int64_t
block_row(const sorting *t, int64_t block)
{
    int64_t work = moe_sparse_work(t->s);
    return block == t->blocks ? t->s->rows
                              : moe_row_at(t->s->rows, t->s->offset, t->s->width, work / t->blocks * block);
}

static void
count_blocks(int64_t begin, int64_t end, void *arg)
{
    sorting *t = arg;
    for (int64_t b = begin; b < end; b++)
    {
        int64_t count[MOST_BUCKETS] = {0};
        int64_t to = moe_sparse_begin(t->s, block_row(t, b + 1));
        for (int64_t k = moe_sparse_begin(t->s, block_row(t, b)); k < to; k++)
            if (t->s->index[k] >= 0)
                count[t->s->index[k] >> t->shift]++;
        memcpy(t->place[b], count, sizeof count);
    }
}

/* Counts become places: bucket by bucket, within it block by block. */
static void
place_blocks(sorting *t)
{
    int64_t place = 0;
    for (int64_t u = 0; u < t->buckets; u++)
    {
        t->start[u] = place;
        for (int64_t b = 0; b < t->blocks; b++)
        {
            int64_t n = t->place[b][u];
            t->place[b][u] = place;
            place += n;
        }
    }
    t->start[t->buckets] = place;
}

static void
deal_blocks(int64_t begin, int64_t end, void *arg)
{
    sorting *t = arg;
    for (int64_t b = begin; b < end; b++)
    {
        int64_t next[MOST_BUCKETS];
        int64_t last = block_row(t, b + 1);
        memcpy(next, t->place[b], sizeof next);
        for (int64_t i = block_row(t, b); i < last; i++)
        {
            int64_t to = moe_sparse_begin(t->s, i + 1);
            for (int64_t k = moe_sparse_begin(t->s, i); k < to; k++)
                if (t->s->index[k] >= 0)
                    t->dealt[next[t->s->index[k] >> t->shift]++] =
                        (dealt){.column = t->s->index[k], .row = (int32_t) i, .entry = (int32_t) k};
        }
    }
}

/* What a row's weights are multiplied with. */
MOE_INLINE float
share_of(const moe_sparse *s, int64_t entries)
{
    return s->reduce == MOE_MEAN && entries > 0 ? 1.0f / (float) entries : 1.0f;
}

/* Write entry k of row i to a place. */
MOE_INLINE void
write_entry(const sorting *t, int64_t place, int64_t i, int64_t k, float share)
{
    const moe_sparse *s = t->s;
    for (int p = 0; p < t->parts; p++)
    {
        int64_t at = place * t->parts + p;
        t->index[at] = (int32_t) (i * t->parts + p);
        if (t->entry != NULL)
            t->entry[at] = (int32_t) k;
        if (t->weight != NULL)
            t->weight[at] = s->weight == NULL ? share : share * s->weight[k * t->parts + p];
    }
}

/* Columns [first, end) have counts: make them the places where each begins, from `place` on. */
MOE_INLINE void
begin_columns(const sorting *t, int64_t first, int64_t end, int64_t place)
{
    for (int64_t c = first; c < end; c++)
    {
        int64_t n = t->offset[c];
        t->offset[c] = place;
        place += n;
    }
}

/* They have moved to where each ends, which is where the next begins. */
MOE_INLINE void
finish_columns(const sorting *t, int64_t first, int64_t end, int64_t place)
{
    for (int64_t c = end - 1; c > first; c--)
        t->offset[c] = t->offset[c - 1] * t->parts;
    if (end > first)
        t->offset[first] = place * t->parts;
}

static void
sort_buckets(int64_t begin, int64_t end, void *arg)
{
    const sorting *t = arg;
    for (int64_t u = begin; u < end; u++)
    {
        int64_t first = u << t->shift;
        int64_t until = (u + 1) << t->shift < t->columns ? (u + 1) << t->shift : t->columns;
        const dealt *from = t->dealt + t->start[u];
        int64_t n = t->start[u + 1] - t->start[u];
        memset(t->offset + first, 0, (size_t) (until - first) * sizeof *t->offset);
        for (int64_t d = 0; d < n; d++)
            t->offset[from[d].column]++;
        begin_columns(t, first, until, t->start[u]);
        for (int64_t d = 0; d < n; d++)
        {
            int64_t i = from[d].row;
            int64_t entries = moe_sparse_begin(t->s, i + 1) - moe_sparse_begin(t->s, i);
            write_entry(t, t->offset[from[d].column]++, i, from[d].entry, share_of(t->s, entries));
        }
        finish_columns(t, first, until, t->start[u]);
    }
}

static void
sort_small(const sorting *t)
{
    const moe_sparse *s = t->s;
    int64_t total = 0;
    memset(t->offset, 0, (size_t) t->columns * sizeof *t->offset);
    for (int64_t k = 0; k < s->entries; k++)
    {
        if (s->index[k] < 0)
            continue;
        t->offset[s->index[k]]++;
        total++;
    }
    begin_columns(t, 0, t->columns, 0);
    for (int64_t i = 0; i < s->rows; i++)
    {
        int64_t from = moe_sparse_begin(s, i);
        int64_t to = moe_sparse_begin(s, i + 1);
        float share = share_of(s, to - from);
        for (int64_t k = from; k < to; k++)
            if (s->index[k] >= 0)
                write_entry(t, t->offset[s->index[k]]++, i, k, share);
    }
    finish_columns(t, 0, t->columns, 0);
    t->offset[t->columns] = total * t->parts;
}

void
moe_cpu_transpose(moe_job *job, const moe_sparse *s, int parts, int64_t columns, int64_t *offset, int32_t *index,
                  float *weight, int32_t *entry)
{
    sorting t = {
        .s = s, .parts = parts, .columns = columns, .offset = offset, .index = index, .weight = weight, .entry = entry};
    if (s->entries < SMALL_ENTRIES || columns == 0)
    {
        sort_small(&t);
        return;
    }
    int64_t most = s->entries / BUCKET_ENTRIES < MOST_BUCKETS ? s->entries / BUCKET_ENTRIES : MOST_BUCKETS;
    t.blocks = s->entries / SMALL_ENTRIES < MOST_BLOCKS ? s->entries / SMALL_ENTRIES : MOST_BLOCKS;
    while ((columns - 1) >> t.shift >= most)
        t.shift++;
    t.buckets = ((columns - 1) >> t.shift) + 1;
    t.dealt = moe_alloc(job, s->entries, sizeof *t.dealt);
    if (t.dealt == NULL)
        return;
    moe_parallel(job, t.blocks, 1, count_blocks, &t);
    place_blocks(&t);
    moe_parallel(job, t.blocks, 1, deal_blocks, &t);
    moe_parallel(job, t.buckets, 1, sort_buckets, &t);
    offset[columns] = t.start[t.buckets] * parts;
    moe_free(job, t.dealt);
}
