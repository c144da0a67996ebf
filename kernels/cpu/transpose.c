/*
 * transpose.c: a sparse matrix by columns: a stable counting sort in blocks.
 *
 * Each block of rows counts its entries by column; a running sum over columns,
 * and over the blocks within each, turns the counts into places; then each
 * block writes its entries, in order, to its places. The number of blocks
 * follows from the matrix alone: as many as are worth a table of counts each.
 * Since the result is a stable sort, it would be the same for any number.
 */
#include "kernels/cpu/sparse.h"

#define BLOCK_ENTRIES  8192 /* at least, of a block */
#define MOST_BLOCKS    16
#define COLUMN_CHUNKS  16
#define SMALL_COLUMNS  4096 /* of a chunk */
#define COUNTS_PER_ENT 4    /* table cells an entry may cost */

typedef struct sorting
{
    const moe_sparse *s;
    int parts;
    int64_t columns;
    int64_t blocks;
    int64_t chunk;   /* columns of a chunk */
    uint32_t *count; /* [blocks * columns]: then the place of the block's next entry */
    int64_t start[COLUMN_CHUNKS + 1];
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
    return moe_row_at(t->s->rows, t->s->offset, t->s->width,
                      work / t->blocks * block + work % t->blocks * block / t->blocks);
}

static void
count_blocks(int64_t begin, int64_t end, void *arg)
{
    const sorting *t = arg;
    for (int64_t b = begin; b < end; b++)
    {
        uint32_t *count = t->count + b * t->columns;
        int64_t to = moe_sparse_begin(t->s, block_row(t, b + 1));
        for (int64_t k = moe_sparse_begin(t->s, block_row(t, b)); k < to; k++)
            if (t->s->index[k] >= 0)
                count[t->s->index[k]]++;
    }
}

static void
add_chunks(int64_t begin, int64_t end, void *arg)
{
    sorting *t = arg;
    for (int64_t c = begin; c < end; c++)
    {
        int64_t to = (c + 1) * t->chunk < t->columns ? (c + 1) * t->chunk : t->columns;
        int64_t total = 0;
        for (int64_t b = 0; b < t->blocks; b++)
            for (int64_t j = c * t->chunk; j < to; j++)
                total += t->count[b * t->columns + j];
        t->start[c + 1] = total;
    }
}

static void
place_chunks(int64_t begin, int64_t end, void *arg)
{
    const sorting *t = arg;
    for (int64_t c = begin; c < end; c++)
    {
        int64_t to = (c + 1) * t->chunk < t->columns ? (c + 1) * t->chunk : t->columns;
        int64_t place = t->start[c];
        for (int64_t j = c * t->chunk; j < to; j++)
        {
            t->offset[j] = place * t->parts;
            for (int64_t b = 0; b < t->blocks; b++)
            {
                uint32_t n = t->count[b * t->columns + j];
                t->count[b * t->columns + j] = (uint32_t) place;
                place += n;
            }
        }
    }
}

static void
write_blocks(int64_t begin, int64_t end, void *arg)
{
    const sorting *t = arg;
    const moe_sparse *s = t->s;
    int64_t last = block_row(t, end);
    int parts = t->parts;
    for (int64_t b = begin; b < end; b++)
    {
        uint32_t *next = t->count + b * t->columns;
        last = block_row(t, b + 1);
        for (int64_t i = block_row(t, b); i < last; i++)
        {
            int64_t from = moe_sparse_begin(s, i);
            int64_t to = moe_sparse_begin(s, i + 1);
            float share = s->reduce == MOE_MEAN && to > from ? 1.0f / (float) (to - from) : 1.0f;
            for (int64_t k = from; k < to; k++)
            {
                if (s->index[k] < 0)
                    continue;
                int64_t place = (int64_t) next[s->index[k]]++ * parts;
                for (int p = 0; p < parts; p++)
                {
                    t->index[place + p] = (int32_t) (i * parts + p);
                    if (t->entry != NULL)
                        t->entry[place + p] = (int32_t) k;
                    if (t->weight != NULL)
                        t->weight[place + p] = s->weight == NULL ? share : share * s->weight[k * parts + p];
                }
            }
        }
    }
}

/* As many blocks as have enough entries to be worth their counts. */
static int64_t
number_of_blocks(int64_t entries, int64_t columns)
{
    int64_t blocks = entries / BLOCK_ENTRIES < MOST_BLOCKS ? entries / BLOCK_ENTRIES : MOST_BLOCKS;
    int64_t affordable = entries / (columns / COUNTS_PER_ENT + 1);
    blocks = blocks < affordable ? blocks : affordable;
    return blocks < 1 ? 1 : blocks;
}

void
moe_cpu_transpose(moe_job *job, const moe_sparse *s, int parts, int64_t columns, int64_t *offset, int32_t *index,
                  float *weight, int32_t *entry)
{
    sorting t = {.s = s,
                 .parts = parts,
                 .columns = columns,
                 .blocks = number_of_blocks(s->entries, columns),
                 .chunk = (columns + COLUMN_CHUNKS - 1) / COLUMN_CHUNKS,
                 .offset = offset,
                 .index = index,
                 .weight = weight,
                 .entry = entry};
    t.chunk = t.chunk < SMALL_COLUMNS ? SMALL_COLUMNS : t.chunk;
    t.count = moe_alloc(job, t.blocks * columns, sizeof *t.count);
    if (t.count == NULL)
        return;
    int64_t chunks = (columns + t.chunk - 1) / t.chunk;
    moe_parallel(job, t.blocks, 1, count_blocks, &t);
    moe_parallel(job, chunks, 1, add_chunks, &t);
    for (int64_t c = 0; c < chunks; c++)
        t.start[c + 1] += t.start[c];
    moe_parallel(job, chunks, 1, place_chunks, &t);
    offset[columns] = t.start[chunks] * parts;
    moe_parallel(job, t.blocks, 1, write_blocks, &t);
    moe_free(job, t.count);
}
