/*
 * arm_report.c: the cross features of an ARM-Net, read off its gates.
 *
 * What a neuron makes of a column is z_ij |v_ij|, gate times power. Of each
 * neuron of each row the two, and the three, strongest columns count as used
 * together, where all of their gates are above 0. Tables over all pairs and
 * triples of the chosen columns hold how often, and the sum of the least gate.
 */
#include "gnn/arm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gnn/arm_net.h"

#define BATCH 256

typedef struct use
{
    int64_t n;
    double gate;
} use;

typedef struct report
{
    const moe_arm *a;
    int m;       /* chosen columns */
    float *gate; /* [BATCH * neurons * m] */
    float *power;
    use *pair;   /* [m * m] */
    use *triple; /* [m * m * m] */
} report;

/* The strongest columns of a neuron, strongest first: up to MOE_ARM_MOST with a gate above 0. */
static int
strongest(const float *gate, const float *power, int m, int *column)
{
    int n = 0;
    for (int j = 0; j < m; j++)
    {
        if (!(gate[j] > 0))
            continue;
        int place = n < MOE_ARM_MOST ? n++ : MOE_ARM_MOST;
        for (; place > 0 && gate[j] * fabsf(power[j]) > gate[column[place - 1]] * fabsf(power[column[place - 1]]);
             place--)
            if (place < MOE_ARM_MOST)
                column[place] = column[place - 1];
        if (place < MOE_ARM_MOST)
            column[place] = j;
    }
    return n;
}

/* Count the first n of the columns as used together. */
static void
count(use *table, int m, const float *gate, const int *column, int n)
{
    int sorted[MOE_ARM_MOST];
    float least = INFINITY;
    int64_t at = 0;
    for (int i = 0; i < n; i++)
    {
        int place = i;
        for (; place > 0 && sorted[place - 1] > column[i]; place--)
            sorted[place] = sorted[place - 1];
        sorted[place] = column[i];
        least = fminf(least, gate[column[i]]);
    }
    for (int i = 0; i < n; i++)
        at = at * m + sorted[i];
    table[at].n++;
    table[at].gate += least;
}

static moe_code
count_batch(report *r, moe_tape *tape, const float *x, int64_t n)
{
    moe_tape_reset(tape, false, 0);
    moe_code code = moe_tape_read(tape, moe_arm_gates(r->a, tape, x, n), r->gate);
    for (int64_t i = 0; code == MOE_OK && i < n * MOE_ARM_NEURONS; i++)
    {
        int column[MOE_ARM_MOST];
        const float *gate = r->gate + i * r->m;
        int found = strongest(gate, r->power + i % MOE_ARM_NEURONS * r->m, r->m, column);
        if (found >= 2)
            count(r->pair, r->m, gate, column, 2);
        if (found >= 3)
            count(r->triple, r->m, gate, column, 3);
    }
    return code;
}

static int
by_use(const void *a, const void *b)
{
    const moe_arm_interaction *x = a;
    const moe_arm_interaction *y = b;
    if (x->use != y->use)
        return x->use > y->use ? -1 : 1;
    for (int i = 0; i < MOE_ARM_MOST; i++)
        if (x->column[i] != y->column[i])
            return x->column[i] < y->column[i] ? -1 : 1;
    return x->n - y->n;
}

/* Append the used entries of a table of n columns an entry; returns how many there are now. */
static int64_t
list(const report *r, const use *table, int n, int64_t rows, moe_arm_interaction *all, int64_t listed)
{
    int64_t size = n == 2 ? r->m * r->m : (int64_t) r->m * r->m * r->m;
    for (int64_t at = 0; at < size; at++)
    {
        if (table[at].n == 0)
            continue;
        moe_arm_interaction *to = &all[listed++];
        *to = (moe_arm_interaction){
            .n = n, .use = (double) table[at].n / (double) rows, .gate = table[at].gate / (double) table[at].n};
        int64_t rest = at;
        for (int i = n - 1; i >= 0; i--, rest /= r->m)
            to->column[i] = r->a->column[rest % r->m];
    }
    return listed;
}

static int64_t
used(const use *table, int64_t size)
{
    int64_t n = 0;
    for (int64_t at = 0; at < size; at++)
        n += table[at].n > 0;
    return n;
}

static moe_code
choose(const report *r, int64_t rows, int most, moe_arm_interaction *out, int *n)
{
    moe_job *job = r->a->net.job;
    int64_t m = r->m;
    moe_arm_interaction *all = moe_alloc(job, used(r->pair, m * m) + used(r->triple, m * m * m), sizeof *all);
    if (all == NULL)
        return moe_job_code(job);
    int64_t listed = list(r, r->triple, 3, rows, all, list(r, r->pair, 2, rows, all, 0));
    qsort(all, listed, sizeof *all, by_use);
    *n = listed < most ? (int) listed : most;
    memcpy(out, all, (size_t) *n * sizeof *all);
    moe_free(job, all);
    return MOE_OK;
}

moe_code
moe_arm_interactions(moe_job *job, const void *state, const moe_dense_rows *rows, int most, moe_arm_interaction *out,
                     int *n)
{
    const moe_arm *a = state;
    int64_t m = a->net.width;
    moe_dense_rows columns;
    float *x;
    *n = 0;
    moe_code code = moe_arm_take(a, rows, &columns, &x);
    if (code != MOE_OK)
        return code;
    report r = {.a = a, .m = (int) m};
    moe_tape *tape = moe_tape_create(job);
    r.gate = moe_alloc(job, (int64_t) BATCH * MOE_ARM_NEURONS * m, sizeof *r.gate);
    r.power = moe_alloc(job, MOE_ARM_NEURONS * m, sizeof *r.power);
    r.pair = moe_alloc(job, m * m, sizeof *r.pair);
    r.triple = moe_alloc(job, m * m * m, sizeof *r.triple);
    code = moe_job_code(job);
    if (code == MOE_OK)
        moe_param_download(a->net.params, a->power, r.power);
    for (int64_t first = 0; code == MOE_OK && first < rows->n; first += BATCH)
        code = count_batch(&r, tape, x + first * m, rows->n - first < BATCH ? rows->n - first : BATCH);
    if (code == MOE_OK)
        code = choose(&r, rows->n, most, out, n);
    moe_tape_destroy(tape);
    void *owned[] = {x, r.gate, r.power, r.pair, r.triple};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        moe_free(job, owned[i]);
    return code;
}
