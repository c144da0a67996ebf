/*
 * transpose.c: a sparse matrix by columns: a stable sort by counting.
 *
 * Mostly in one go, straight from the rows. Where the columns are so many that
 * their places do not fit a cache, or enough threads share the work, it takes
 * two passes. First the entries are dealt out, in order, to buckets of
 * neighbouring columns: blocks of rows count what they have for each bucket, a
 * running sum over buckets and blocks gives each its places, and each writes
 * there. Then every bucket is sorted on its own, within tables and results
 * that fit a cache. As the sort is stable, its result is the same for any
 * blocks and buckets, and for either way.
 */
#include "kernels/cpu/sparse.h"

#define DEALT_ENTRIES  (1 << 17) /* from which two passes may be the faster way */
#define DEALT_COLUMNS  (1 << 19) /* so they are for any number of threads; places of as many do not fit a cache */
#define DEALT_THREADS  4         /* so they are for any number of columns, though they are twice the work */
#define BLOCK_ENTRIES  16384
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

/* Write entry k of row i to a place; parts is t->parts, or the same as a constant. */
MOE_INLINE void
write_entry(const sorting *t, int parts, int64_t place, int64_t i, int64_t k, float share)
{
    const moe_sparse *s = t->s;
    for (int p = 0; p < parts; p++)
    {
        int64_t at = place * parts + p;
        t->index[at] = (int32_t) (i * parts + p);
        if (t->entry != NULL)
            t->entry[at] = (int32_t) k;
        if (t->weight != NULL)
            t->weight[at] = s->weight == NULL ? share : share * s->weight[k * parts + p];
    }
}

/* Columns [first, end) have counts: make them the places where each begins, from `place` on. */
MOE_INLINE void
begin_columns(const sorting *t, int64_t first, int64_t end, int64_t place)
{
    int64_t *offset = t->offset;
    for (int64_t c = first; c < end; c++)
    {
        int64_t n = offset[c];
        offset[c] = place;
        place += n;
    }
}

/* They have moved to where each ends, which is where the next begins. */
MOE_INLINE void
finish_columns(const sorting *t, int64_t first, int64_t end, int64_t place)
{
    int64_t *offset = t->offset;
    const int64_t parts = t->parts;
    for (int64_t c = end - 1; c > first; c--)
        offset[c] = offset[c - 1] * parts;
    if (end > first)
        offset[first] = place * parts;
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
            write_entry(t, t->parts, t->offset[from[d].column]++, i, from[d].entry, share_of(t->s, entries));
        }
        finish_columns(t, first, until, t->start[u]);
    }
}

/* Write all entries from their rows; offset has the places where the columns begin. */
MOE_INLINE void
write_rows(const sorting *t, int parts)
{
    const moe_sparse *s = t->s;
    const int32_t *index = s->index;
    const int64_t rows = s->rows;
    int64_t *offset = t->offset;
    int64_t from = moe_sparse_begin(s, 0);
    for (int64_t i = 0; i < rows; i++)
    {
        int64_t to = moe_sparse_begin(s, i + 1);
        float share = share_of(s, to - from);
        for (int64_t k = from; k < to; k++)
            if (index[k] >= 0)
                write_entry(t, parts, offset[index[k]]++, i, k, share);
        from = to;
    }
}

static void
sort_rows(const sorting *t)
{
    const int32_t *index = t->s->index;
    const int64_t entries = t->s->entries;
    int64_t *offset = t->offset;
    int64_t absent = 0;
    memset(offset, 0, (size_t) t->columns * sizeof *offset);
    for (int64_t k = 0; k < entries; k++)
    {
        if (index[k] >= 0)
            offset[index[k]]++;
        else
            absent++;
    }
    begin_columns(t, 0, t->columns, 0);
    if (t->parts == 1)
        write_rows(t, 1);
    else if (t->parts == 4)
        write_rows(t, 4);
    else
        write_rows(t, t->parts);
    finish_columns(t, 0, t->columns, 0);
    offset[t->columns] = (entries - absent) * t->parts;
}

void
moe_cpu_transpose(moe_job *job, const moe_sparse *s, int parts, int64_t columns, int64_t *offset, int32_t *index,
                  float *weight, int32_t *entry)
{
    sorting t = {
        .s = s, .parts = parts, .columns = columns, .offset = offset, .index = index, .weight = weight, .entry = entry};
    if (s->entries < DEALT_ENTRIES || (columns < DEALT_COLUMNS && moe_job_threads(job) < DEALT_THREADS) || columns == 0)
    {
        sort_rows(&t);
        return;
    }
    int64_t most = s->entries / BUCKET_ENTRIES < MOST_BUCKETS ? s->entries / BUCKET_ENTRIES : MOST_BUCKETS;
    t.blocks = s->entries / BLOCK_ENTRIES < MOST_BLOCKS ? s->entries / BLOCK_ENTRIES : MOST_BLOCKS;
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
