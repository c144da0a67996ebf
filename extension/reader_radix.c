/*
 * reader_radix.c: radix sort, least significant digit first.
 *
 * Each pass counts the digits of every chunk, turns the counts into places and
 * moves the rows there; chunks are shared out to the job's threads, and their
 * number depends on n alone. Digits in which no two ranks differ are skipped:
 * the times of some years need six passes of the eight.
 */
#include "extension/reader_radix.h"

#include <string.h>

#define DIGIT_BITS 8
#define DIGITS     (1 << DIGIT_BITS)
#define CHUNKS     64 /* at most */
#define CHUNK_MIN  16384

typedef struct pass
{
    const moe_ranked *from;
    moe_ranked *to;
    int64_t chunk;
    int shift;
    int64_t place[CHUNKS][DIGITS]; /* counts, then where the next row goes */
    uint64_t varying[CHUNKS];      /* bits in which ranks differ from the first row's */
} pass;

static inline int
digit(const pass *p, uint64_t rank)
{
    return (int) (rank >> p->shift) & (DIGITS - 1);
}

static void
find_varying(int64_t begin, int64_t end, void *arg)
{
    pass *p = arg;
    uint64_t varying = 0;

    for (int64_t i = begin; i < end; i++)
        varying |= p->from[i].rank ^ p->from[0].rank;
    p->varying[begin / p->chunk] = varying;
}

static void
count_digits(int64_t begin, int64_t end, void *arg)
{
    pass *p = arg;
    int64_t *count = p->place[begin / p->chunk];

    memset(count, 0, sizeof(p->place[0]));
    for (int64_t i = begin; i < end; i++)
        count[digit(p, p->from[i].rank)]++;
}

static void
move_rows(int64_t begin, int64_t end, void *arg)
{
    pass *p = arg;
    int64_t *place = p->place[begin / p->chunk];

    for (int64_t i = begin; i < end; i++)
        p->to[place[digit(p, p->from[i].rank)]++] = p->from[i];
}

/* From counts to places: by digit, then by chunk. */
static void
find_places(pass *p, int chunks)
{
    int64_t at = 0;

    for (int d = 0; d < DIGITS; d++)
        for (int c = 0; c < chunks; c++)
        {
            int64_t count = p->place[c][d];

            p->place[c][d] = at;
            at += count;
        }
}

static void
copy_rows(int64_t begin, int64_t end, void *arg)
{
    pass *p = arg;

    memcpy(p->to + begin, p->from + begin, (size_t) (end - begin) * sizeof(moe_ranked));
}

moe_code
moe_radix_sort(moe_job *job, moe_ranked *rows, moe_ranked *room, int64_t n)
{
    pass *p = moe_alloc(job, 1, sizeof(*p));
    uint64_t varying = 0;
    int chunks;

    if (p == NULL)
        return moe_job_code(job);
    p->chunk = (n + CHUNKS - 1) / CHUNKS < CHUNK_MIN ? CHUNK_MIN : (n + CHUNKS - 1) / CHUNKS;
    chunks = (int) ((n + p->chunk - 1) / p->chunk);
    p->from = rows;
    p->to = room;
    moe_parallel(job, n, p->chunk, find_varying, p);
    for (int c = 0; c < chunks; c++)
        varying |= p->varying[c];
    for (p->shift = 0; p->shift < 64 && moe_job_check(job) == MOE_OK; p->shift += DIGIT_BITS)
    {
        moe_ranked *filled = p->to;

        if ((varying >> p->shift & (DIGITS - 1)) == 0)
            continue;
        moe_parallel(job, n, p->chunk, count_digits, p);
        find_places(p, chunks);
        moe_parallel(job, n, p->chunk, move_rows, p);
        p->to = (moe_ranked *) p->from;
        p->from = filled;
    }
    if (p->from != rows)
    {
        p->to = rows;
        moe_parallel(job, n, p->chunk, copy_rows, p);
    }
    moe_free(job, p);
    return moe_job_code(job);
}
