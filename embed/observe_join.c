/*
 * observe_join.c: whether embeddings know of joins.
 *
 * The paper correlates how many values two joinable columns share with how
 * close their embeddings are. Keys are no inputs here, and the tables'
 * encoders share no space; but two parts of one table join as well: on their
 * foreign key, with the parents that both refer to. So parts are drawn that
 * share some parents and no row:
 *
 *   overlap    multiset Jaccard of the two parts' parents
 *   closeness  cosine of the two parts' embeddings
 *
 * over many pairs of parts, and Spearman's correlation of the two. Beside it
 * the mean cosine of two rows of one parent, and of different parents.
 *
 * Embeddings are taken from their mean over all rows: what all rows have in
 * common is no sign of a join.
 */
#include "embed/observe_internal.h"
#include "embed/similarity.h"
#include "kernels/random.h"

#include <stdlib.h>
#include <string.h>

#define PART_PAIRS 64
#define PART_SIZE  8 /* parents of a part, or half of those there are */
#define MIN_GROUPS 4

enum
{
    KEY_GROUPS = 1,
    KEY_SHARED,
    KEY_OTHERS
};

typedef struct joined
{
    moe_study *study;
    const int32_t *parent;
    float *embedded; /* from their mean */
    int64_t n;
    int64_t groups;
    int64_t *first; /* [groups + 1] rows, groups of two or more */
    int32_t *order; /* [groups] */
} joined;

/* Find the parents' rows; leaves out rows without a sibling by moving the others together. */
static bool
find_groups(joined *j, const moe_observed_join *join, const float *embedded)
{
    int64_t n = join->rows->n_rows;
    int32_t *parent = moe_arena_alloc(j->study->arena, n, sizeof(*parent));
    int width = j->study->width;

    j->embedded = moe_arena_alloc(j->study->arena, n, width * sizeof(float));
    j->first = moe_arena_alloc(j->study->arena, n + 1, sizeof(*j->first));
    j->order = moe_arena_alloc(j->study->arena, n, sizeof(*j->order));
    if (!parent || !j->embedded || !j->first || !j->order)
        return false;
    for (int64_t i = 0, end; i < n; i = end)
    {
        for (end = i + 1; end < n && join->parent[end] == join->parent[i];)
            end++;
        if (end - i < 2)
            continue;
        j->first[j->groups++] = j->n;
        memcpy(j->embedded + j->n * width, embedded + i * width, (end - i) * width * sizeof(float));
        memcpy(parent + j->n, join->parent + i, (end - i) * sizeof(*parent));
        j->n += end - i;
    }
    j->first[j->groups] = j->n;
    j->parent = parent;
    return true;
}

static bool
take_from_mean(joined *j)
{
    int width = j->study->width;
    double *mean = moe_arena_zalloc(j->study->arena, width, sizeof(*mean));

    if (!mean)
        return false;
    for (int64_t i = 0; i < j->n * width; i++)
        mean[i % width] += j->embedded[i] / (double) j->n;
    for (int64_t i = 0; i < j->n * width; i++)
        j->embedded[i] -= (float) mean[i % width];
    return true;
}

static double
cosine_of_rows(const joined *j, int64_t a, int64_t b)
{
    int width = j->study->width;

    return moe_cosine(j->embedded + a * width, j->embedded + b * width, width);
}

/* Each row with its next sibling, and with a row of another parent. */
static void
note_rows(const joined *j, uint64_t key)
{
    for (int64_t g = 0; g < j->groups; g++)
        for (int64_t i = j->first[g] + 1; i < j->first[g + 1]; i++)
        {
            int64_t size = j->first[g + 1] - j->first[g];
            int64_t other = (j->first[g + 1] + moe_study_draw(key, i, j->n - size)) % j->n;

            moe_study_note(j->study, MOE_JOIN_LINKED, cosine_of_rows(j, i - 1, i), 1);
            moe_study_note(j->study, MOE_JOIN_OTHER, cosine_of_rows(j, i, other), 1);
        }
}

/* A part: the first or the second halves of the rows of some parents. */
typedef struct part
{
    float *sum;
    int32_t *parent;
    int64_t n;
} part;

static void
add_group(const joined *j, part *p, int64_t group, bool second)
{
    int width = j->study->width;
    int64_t middle = (j->first[group] + j->first[group + 1]) / 2;
    int64_t begin = second ? middle : j->first[group];
    int64_t end = second ? j->first[group + 1] : middle;

    for (int64_t i = begin; i < end; i++)
    {
        p->parent[p->n++] = j->parent[i];
        for (int c = 0; c < width; c++)
            p->sum[c] += j->embedded[i * width + c];
    }
}

static int
compare_parents(const void *a, const void *b)
{
    int32_t x = *(const int32_t *) a, y = *(const int32_t *) b;

    return (x > y) - (x < y);
}

static bool
make_part(const joined *j, part *p)
{
    p->sum = moe_arena_alloc(j->study->arena, j->study->width, sizeof(float));
    p->parent = moe_arena_alloc(j->study->arena, j->n, sizeof(int32_t));
    return p->sum && p->parent;
}

/* A pair of parts with `size` parents each, `shared` of them the same. */
static void
draw_parts(const joined *j, part parts[2], int64_t size, int64_t shared, uint64_t key)
{
    for (int64_t g = 0; g < j->groups; g++)
        j->order[g] = (int32_t) g;
    for (int side = 0; side < 2; side++)
    {
        memset(parts[side].sum, 0, j->study->width * sizeof(float));
        parts[side].n = 0;
    }
    for (int64_t i = 0; i < 2 * size - shared; i++)
    {
        int64_t other = i + moe_study_draw(key, i, j->groups - i);
        int32_t group = j->order[other];

        j->order[other] = j->order[i];
        if (i < size)
            add_group(j, &parts[0], group, false);
        if (i < shared || i >= size)
            add_group(j, &parts[1], group, true);
    }
    for (int side = 0; side < 2; side++)
        qsort(parts[side].parent, parts[side].n, sizeof(int32_t), compare_parents);
}

static moe_code
note_parts(const joined *j, uint64_t key)
{
    int64_t size = j->groups / 2 < PART_SIZE ? j->groups / 2 : PART_SIZE;
    double overlap[PART_PAIRS], closeness[PART_PAIRS];
    double correlation;
    part parts[2] = {0};

    if (!make_part(j, &parts[0]) || !make_part(j, &parts[1]))
        return moe_job_code(j->study->job);
    for (int i = 0; i < PART_PAIRS; i++)
    {
        int64_t shared = moe_study_draw(moe_key(key, KEY_SHARED), i, size + 1);

        draw_parts(j, parts, size, shared, moe_key(moe_key(key, KEY_GROUPS), i));
        overlap[i] = moe_multiset_jaccard(parts[0].parent, parts[0].n, parts[1].parent, parts[1].n);
        closeness[i] = moe_cosine(parts[0].sum, parts[1].sum, j->study->width);
    }
    if (moe_spearman(j->study->job, overlap, closeness, PART_PAIRS, &correlation) == MOE_OK)
        moe_study_note(j->study, MOE_JOIN_RANK, correlation, PART_PAIRS);
    return moe_job_check(j->study->job);
}

moe_code
moe_study_join(moe_study *study, const moe_observed_join *join, uint64_t key)
{
    joined j = {.study = study};
    const float *embedded = moe_study_embed(study, join->rows);

    if (!embedded || !find_groups(&j, join, embedded))
        return moe_job_code(study->job);
    if (j.groups < MIN_GROUPS)
        return MOE_OK;
    if (!take_from_mean(&j))
        return moe_job_code(study->job);
    note_rows(&j, moe_key(key, KEY_OTHERS));
    return note_parts(&j, key);
}
