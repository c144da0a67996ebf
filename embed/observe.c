/*
 * observe.c: the study of all tables, and the properties of whole tables and rows.
 *
 *   row order       cosine of a table's embedding and that of its rows
 *                   shuffled, copied and embedded anew
 *   column order    the same of a row, its columns shuffled
 *   fidelity        cosine of the embeddings of a part of the rows and of all
 *   stability       the share of an entity's nearest rows that two members agree on
 *   robustness      cosine of a row before and after a change
 *
 * Cosines are as they come, as in the paper. Since all rows of a table have much in common, cosines are near
 * 1: that of two rows at random stands beside them.
 */
#include "embed/observe.h"
#include "embed/observe_internal.h"
#include "embed/rows.h"
#include "embed/similarity.h"
#include "kernels/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SHUFFLES  4   /* of rows, and of columns */
#define DRAWS     16  /* of a part of a table */
#define MIN_ROWS  8   /* that parts are taken of */
#define NEIGHBORS 10  /* or a quarter of the rows */
#define NOISE     0.1 /* of a standard deviation */

/* Names of random keys. */
enum
{
    KEY_ROWS = 1,
    KEY_COLUMNS,
    KEY_PARTS,
    KEY_NOISE,
    KEY_NULL,
    KEY_PAIRS,
    KEY_JOIN
};

static const struct
{
    const char *property, *meaning;
} texts[MOE_FINDINGS] = {
    [MOE_ROW_ORDER] = {"row order insignificance", "cosine, rows shuffled"},
    [MOE_COLUMN_ORDER] = {"column order insignificance", "cosine, columns shuffled"},
    [MOE_JOIN_RANK] = {"join relationship", "rank corr.: overlap, cosine"},
    [MOE_JOIN_LINKED] = {"join relationship", "cosine, same parent"},
    [MOE_JOIN_OTHER] = {"join relationship", "cosine, other parents"},
    [MOE_DEPENDENCY_HELD] = {"functional dependencies", "spread where A gives B"},
    [MOE_DEPENDENCY_SHUFFLED] = {"functional dependencies", "spread, B shuffled"},
    [MOE_FIDELITY_QUARTER] = {"sample fidelity", "cosine, 25 % of the rows"},
    [MOE_FIDELITY_HALF] = {"sample fidelity", "cosine, 50 % of the rows"},
    [MOE_FIDELITY_THREE_QUARTERS] = {"sample fidelity", "cosine, 75 % of the rows"},
    [MOE_STABILITY] = {"entity stability", "same nearest, two members"},
    [MOE_STABILITY_CHANCE] = {"entity stability", "the same by chance"},
    [MOE_ROBUST_NUMBERS] = {"perturbation robustness", "cosine, numbers +- 0.1 sd"},
    [MOE_ROBUST_NULL] = {"perturbation robustness", "cosine, one value NULL"},
    [MOE_ROBUST_OTHER] = {"perturbation robustness", "cosine, another row"},
    [MOE_CONTEXT_ALONE] = {"heterogeneous context", "cosine, column alone"},
    [MOE_CONTEXT_NUMBERS] = {"heterogeneous context", "cosine, numbers hidden"},
    [MOE_CONTEXT_OTHERS] = {"heterogeneous context", "cosine, other types hidden"},
};

void
moe_study_note(moe_study *study, moe_finding_kind kind, double value, int64_t samples)
{
    if (isnan(value))
        return;
    study->sum[kind] += value * (double) samples;
    study->samples[kind] += samples;
}

float *
moe_study_embed(moe_study *study, const moe_table *rows)
{
    const moe_embedder *embedder = study->observed->embedder;
    float *out;

    if (!rows || !(out = moe_arena_zalloc(study->arena, rows->n_rows, study->width * sizeof(float))))
        return NULL;
    return embedder->embed(embedder->arg, rows, out) == MOE_OK ? out : NULL;
}

float *
moe_study_embed_without(moe_study *study, const moe_table *rows, const bool *hide)
{
    return moe_study_embed(study, moe_rows_hide(study->arena, rows, hide));
}

int
moe_study_columns(const moe_study *study, int table, int limit, int *columns)
{
    const moe_embedder *embedder = study->observed->embedder;
    int n = 0;

    for (int c = 0; c < study->observed->tables[table]->n_columns && n < limit; c++)
        if (embedder->kind(embedder->arg, table, c) != MOE_COLUMN_UNUSED)
            columns[n++] = c;
    return n;
}

int64_t
moe_study_draw(uint64_t key, int64_t counter, int64_t n)
{
    int64_t place = (int64_t) (moe_random_uniform(key, (uint64_t) counter) * (double) n);

    return place < n ? place : n - 1;
}

/* Shuffle 0..n-1 (Fisher and Yates). */
static void
shuffle(int32_t *order, int64_t n, uint64_t key)
{
    for (int64_t i = 0; i < n; i++)
        order[i] = (int32_t) i;
    for (int64_t i = n - 1; i > 0; i--)
    {
        int64_t other = moe_study_draw(key, i, i + 1);
        int32_t kept = order[i];

        order[i] = order[other];
        order[other] = kept;
    }
}

/* The mean of some rows' embeddings; of the first n where rows is NULL. */
static float *
table_embedding(moe_study *study, const float *embedded, const int32_t *rows, int64_t n)
{
    double *sum = moe_arena_zalloc(study->arena, study->width, sizeof(*sum));
    float *mean = moe_arena_alloc(study->arena, study->width, sizeof(*mean));

    if (!sum || !mean)
        return NULL;
    for (int64_t i = 0; i < n; i++)
        for (int c = 0; c < study->width; c++)
            sum[c] += embedded[(rows ? rows[i] : i) * study->width + c];
    for (int c = 0; c < study->width; c++)
        mean[c] = (float) (sum[c] / (double) n);
    return mean;
}

static moe_code
row_order(moe_study *study, const moe_table *rows, const float *embedded, uint64_t key)
{
    int64_t n = rows->n_rows;
    int32_t *order = moe_arena_alloc(study->arena, n, sizeof(*order));
    const float *whole = table_embedding(study, embedded, NULL, n);

    if (!order || !whole)
        return moe_job_code(study->job);
    for (int i = 0; i < SHUFFLES; i++)
    {
        const float *again, *mean;

        shuffle(order, n, moe_key(key, i));
        again = moe_study_embed(study, moe_rows_pick(study->arena, rows, order, NULL, n));
        mean = again ? table_embedding(study, again, NULL, n) : NULL;
        if (!mean)
            return moe_job_code(study->job);
        moe_study_note(study, MOE_ROW_ORDER, moe_cosine(whole, mean, study->width), 1);
    }
    return MOE_OK;
}

/* Note the cosines of rows with what became of them. */
static moe_code
note_rows(moe_study *study, moe_finding_kind kind, const float *before, const float *after, int64_t n)
{
    for (int64_t i = 0; after && i < n; i++)
        moe_study_note(study, kind, moe_cosine(before + i * study->width, after + i * study->width, study->width), 1);
    return moe_job_code(study->job);
}

static moe_code
column_order(moe_study *study, int table, const moe_table *rows, const float *embedded, uint64_t key)
{
    const moe_embedder *embedder = study->observed->embedder;
    int32_t *order = moe_arena_alloc(study->arena, rows->n_columns, sizeof(*order));
    int *columns = moe_arena_alloc(study->arena, rows->n_columns, sizeof(*columns));

    if (!order || !columns)
        return moe_job_code(study->job);
    for (int i = 0; i < SHUFFLES; i++)
    {
        shuffle(order, rows->n_columns, moe_key(key, i));
        for (int c = 0; c < rows->n_columns; c++)
            columns[c] = order[c];
        if (embedder->prepare(embedder->arg, table, columns) != MOE_OK ||
            note_rows(study, MOE_COLUMN_ORDER, embedded,
                      moe_study_embed(study, moe_rows_reorder(study->arena, rows, columns)), rows->n_rows) != MOE_OK)
            return moe_job_code(study->job);
    }
    return embedder->prepare(embedder->arg, table, NULL);
}

static moe_code
sample_fidelity(moe_study *study, const float *embedded, int64_t n, uint64_t key)
{
    int32_t *order = moe_arena_alloc(study->arena, n, sizeof(*order));
    const float *whole = table_embedding(study, embedded, NULL, n);

    if (!order || !whole)
        return moe_job_code(study->job);
    for (int i = 0; i < DRAWS; i++)
    {
        shuffle(order, n, moe_key(key, i)); /* one order for all: a smaller part lies in the larger */
        for (int quarters = 1; quarters <= 3; quarters++)
        {
            const float *part = table_embedding(study, embedded, order, n * quarters / 4);

            if (!part)
                return moe_job_code(study->job);
            moe_study_note(study, MOE_FIDELITY_QUARTER + quarters - 1, moe_cosine(whole, part, study->width), 1);
        }
    }
    return MOE_OK;
}

/* Numbers disturbed. */
static moe_code
robust_numbers(moe_study *study, int table, const moe_table *rows, const float *embedded, uint64_t key)
{
    const moe_embedder *embedder = study->observed->embedder;
    bool *disturb = moe_arena_zalloc(study->arena, rows->n_columns, sizeof(*disturb));
    bool any = false;

    for (int c = 0; disturb && c < rows->n_columns; c++)
        any |= disturb[c] = embedder->kind(embedder->arg, table, c) == MOE_COLUMN_NUMBER;
    if (!any)
        return moe_job_code(study->job);
    return note_rows(study, MOE_ROBUST_NUMBERS, embedded,
                     moe_study_embed(study, moe_rows_disturb(study->arena, rows, disturb, NOISE, key)), rows->n_rows);
}

/* In each row one of the values that are there becomes NULL. */
static moe_code
robust_null(moe_study *study, int table, const moe_table *rows, const float *embedded, uint64_t key)
{
    int *used = moe_arena_alloc(study->arena, rows->n_columns, sizeof(*used));
    int *column = moe_arena_alloc(study->arena, rows->n_rows, sizeof(*column));
    const float *after;
    int n;

    if (!used || !column)
        return moe_job_code(study->job);
    n = moe_study_columns(study, table, rows->n_columns, used);
    for (int64_t i = 0; i < rows->n_rows; i++)
    {
        int first = (int) moe_study_draw(key, i, n);

        column[i] = -1;
        for (int k = 0; k < n && column[i] < 0; k++)
            if (moe_rows_value(&rows->columns[used[(first + k) % n]], i) != 0)
                column[i] = used[(first + k) % n];
    }
    if (!(after = moe_study_embed(study, moe_rows_hide_one(study->arena, rows, column))))
        return moe_job_code(study->job);
    for (int64_t i = 0; i < rows->n_rows; i++)
        if (column[i] >= 0)
            note_rows(study, MOE_ROBUST_NULL, embedded + i * study->width, after + i * study->width, 1);
    return MOE_OK;
}

/* Each row and another one. */
static void
robust_other(moe_study *study, const float *embedded, int64_t n, uint64_t key)
{
    for (int64_t i = 0; i < n; i++)
    {
        int64_t other = (i + 1 + moe_study_draw(key, i, n - 1)) % n;

        note_rows(study, MOE_ROBUST_OTHER, embedded + i * study->width, embedded + other * study->width, 1);
    }
}

/* The rows without repeats of an embedding, moved to the front; returns how many. */
static int64_t
drop_repeats(const moe_study *study, float *embedded, int64_t n)
{
    int64_t kept = 0;
    size_t size = study->width * sizeof(float);

    for (int64_t i = 0; i < n; i++)
    {
        bool repeats = false;

        for (int64_t k = 0; k < kept && !repeats; k++)
            repeats = memcmp(embedded + k * study->width, embedded + i * study->width, size) == 0;
        if (!repeats)
            memmove(embedded + kept++ * study->width, embedded + i * study->width, size);
    }
    return kept;
}

/* Nearest rows in the space of each member. Changes the embeddings. */
static moe_code
entity_stability(moe_study *study, float *embedded, int64_t n)
{
    const moe_embedder *embedder = study->observed->embedder;
    int32_t **nearest = moe_arena_alloc(study->arena, embedder->members, sizeof(*nearest));
    int64_t k;

    n = drop_repeats(study, embedded, n);
    k = n / 4 < NEIGHBORS ? n / 4 : NEIGHBORS;
    if (!nearest || n < MIN_ROWS)
        return moe_job_code(study->job);
    for (int m = 0; m < embedder->members; m++)
    {
        if (!(nearest[m] = moe_arena_alloc(study->arena, n, k * sizeof(int32_t))) ||
            moe_nearest_rows(study->job, embedded + (int64_t) m * embedder->channels, n, embedder->channels,
                             study->width, k, nearest[m]) != MOE_OK)
            return moe_job_code(study->job);
        for (int other = 0; other < m; other++)
        {
            moe_study_note(study, MOE_STABILITY, moe_shared_rows(nearest[m], nearest[other], n, k), n);
            moe_study_note(study, MOE_STABILITY_CHANCE, (double) k / (double) (n - 1), n);
        }
    }
    return MOE_OK;
}

/* Whether there is something to see in rows of a table: two of them, and a column that counts. */
static bool
is_visible(const moe_study *study, int table, const moe_table *rows)
{
    int column;

    return rows->n_rows >= 2 && moe_study_columns(study, table, 1, &column) > 0;
}

static moe_code
study_table(moe_study *study, int table)
{
    const moe_observed *observed = study->observed;
    const moe_table *rows = observed->tables[table];
    uint64_t key = moe_key(observed->key, table);
    float *embedded;

    moe_arena_reset(study->arena);
    if (!is_visible(study, table, rows))
        return MOE_OK;
    if (observed->embedder->prepare(observed->embedder->arg, table, NULL) != MOE_OK ||
        !(embedded = moe_study_embed(study, rows)) ||
        row_order(study, rows, embedded, moe_key(key, KEY_ROWS)) != MOE_OK ||
        column_order(study, table, rows, embedded, moe_key(key, KEY_COLUMNS)) != MOE_OK ||
        (rows->n_rows >= MIN_ROWS &&
         sample_fidelity(study, embedded, rows->n_rows, moe_key(key, KEY_PARTS)) != MOE_OK) ||
        robust_numbers(study, table, rows, embedded, moe_key(key, KEY_NOISE)) != MOE_OK ||
        robust_null(study, table, rows, embedded, moe_key(key, KEY_NULL)) != MOE_OK)
        return moe_job_code(study->job);
    robust_other(study, embedded, rows->n_rows, moe_key(key, KEY_PAIRS));
    if (table == 0 && entity_stability(study, embedded, rows->n_rows) != MOE_OK)
        return moe_job_code(study->job);
    moe_arena_reset(study->arena);
    return moe_study_columns_of(study, table);
}

static moe_code
study_join(moe_study *study, int number)
{
    const moe_observed *observed = study->observed;
    const moe_observed_join *join = &observed->joins[number];

    moe_arena_reset(study->arena);
    if (!is_visible(study, join->table, join->rows))
        return MOE_OK;
    if (observed->embedder->prepare(observed->embedder->arg, join->table, NULL) != MOE_OK)
        return moe_job_code(study->job);
    return moe_study_join(study, join, moe_key(moe_key(observed->key, KEY_JOIN), -1 - number));
}

moe_code
moe_observe(moe_job *job, const moe_observed *observed, moe_finding *out)
{
    moe_study study = {.job = job, .observed = observed};
    moe_code code = MOE_OK;

    study.width = observed->embedder->members * observed->embedder->channels;
    if (!(study.arena = moe_arena_create(job)))
        return moe_job_code(job);
    for (int t = 0; t < observed->n_tables && code == MOE_OK; t++)
        code = study_table(&study, t);
    for (int i = 0; i < observed->n_joins && code == MOE_OK; i++)
        code = study_join(&study, i);
    moe_arena_destroy(study.arena);
    for (int i = 0; i < MOE_FINDINGS; i++)
        out[i] = (moe_finding){texts[i].property, texts[i].meaning,
                               study.samples[i] > 0 ? study.sum[i] / (double) study.samples[i] : NAN, study.samples[i]};
    return code;
}
