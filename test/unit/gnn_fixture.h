/*
 * gnn_fixture.h: small graphs, and an encoder of plain numbers, for the tests of gnn/.
 */
#ifndef GNN_FIXTURE_H
#define GNN_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gnn/model.h"
#include "kernels/blas.h"
#include "kernels/random.h"

#define FIXTURE_TABLES 4
#define FIXTURE_KEYS   6
#define DAY            INT64_C(86400000000)

/* Tables with their features; column 0 of table 1 is hidden until known_at. */
typedef struct fixture
{
    moe_graph_table tables[FIXTURE_TABLES];
    moe_graph_key keys[FIXTURE_KEYS];
    int n_tables;
    int n_keys;
    int n_features;
    float *features[FIXTURE_TABLES]; /* [n_rows * n_features] */
    moe_param *weight[FIXTURE_TABLES];
    int n_inputs;   /* numbers a seed that fixture_inputs gives */
    bool no_inputs; /* it gives zeros */
    void *owned[64];
    int n_owned;
} fixture;

/* Every way of message passing. */
typedef struct fixture_variant
{
    const char *name;
    moe_convolution_kind convolution;
    moe_aggregation aggregation;
    bool composite;
    bool residual;
} fixture_variant;

static const fixture_variant fixture_variants[] = {
    {"sage", MOE_CONV_SAGE, MOE_AGGREGATE_WEIGHTED, false, false},
    {"sum", MOE_CONV_SAGE, MOE_AGGREGATE_SUM, false, false},
    {"mean", MOE_CONV_SAGE, MOE_AGGREGATE_MEAN, false, false},
    {"max", MOE_CONV_SAGE, MOE_AGGREGATE_MAX, false, false},
    {"all", MOE_CONV_SAGE, MOE_AGGREGATE_ALL, false, true},
    {"gin", MOE_CONV_GIN, MOE_AGGREGATE_WEIGHTED, false, false},
    {"pna", MOE_CONV_PNA, MOE_AGGREGATE_WEIGHTED, false, false},
    {"gat", MOE_CONV_GAT, MOE_AGGREGATE_WEIGHTED, false, true},
    {"composite sage", MOE_CONV_SAGE, MOE_AGGREGATE_WEIGHTED, true, false},
    {"composite gat", MOE_CONV_GAT, MOE_AGGREGATE_WEIGHTED, true, true},
};
#define FIXTURE_VARIANTS (int) (sizeof fixture_variants / sizeof *fixture_variants)

/* Composite messages take an even number of hops. */
static inline void
fixture_choose(moe_model_config *config, int variant)
{
    config->composite = fixture_variants[variant].composite;
    config->hops += config->composite ? config->hops % 2 : 0;
    config->convolution = fixture_variants[variant].convolution;
    config->aggregation = fixture_variants[variant].aggregation;
    config->residual = fixture_variants[variant].residual;
}

static inline moe_job *
fixture_job(int threads)
{
    moe_job *job;
    moe_job_config config = {.threads = threads};
    assert_int_equal(moe_job_create(&config, &job), MOE_OK);
    assert_int_equal(moe_blas_open(job), MOE_OK);
    return job;
}

static inline void *
fixture_alloc(fixture *f, int64_t count, size_t size)
{
    void *memory = calloc(count + 1, size);
    assert_non_null(memory);
    assert_true(f->n_owned < 64);
    return f->owned[f->n_owned++] = memory;
}

static inline void
fixture_free(fixture *f)
{
    for (int i = 0; i < f->n_owned; i++)
        free(f->owned[i]);
}

static inline void
fixture_add_table(fixture *f, const char *name, int64_t n_rows, const int64_t *time)
{
    int t = f->n_tables++;
    f->tables[t] = (moe_graph_table){.name = name, .n_rows = n_rows, .time = time};
    f->features[t] = fixture_alloc(f, n_rows * f->n_features, sizeof(float));
}

static inline int32_t *
fixture_add_key(fixture *f, const char *name, int child, int parent)
{
    int32_t *parent_of = fixture_alloc(f, f->tables[child].n_rows, sizeof *parent_of);
    f->keys[f->n_keys++] = (moe_graph_key){.name = name, .child = child, .parent = parent, .parent_of = parent_of};
    return parent_of;
}

/*
 * A random graph of four tables: users (0, some without a time), events (1, timed, with a late column),
 * items (2, no time), notes (3, timed). Rows newer than `cut` depend on `variant`: their number, times,
 * parents and features, and the late values not yet known at `cut`.
 */
static inline void
fixture_random(fixture *f, uint64_t seed, int64_t cut, uint64_t variant)
{
    static const int64_t base_rows[FIXTURE_TABLES] = {30, 300, 20, 80};
    static const char *const names[FIXTURE_TABLES] = {"users", "events", "items", "notes"};
    static const int links[FIXTURE_KEYS][2] = {{1, 0}, {1, 2}, {3, 1}, {0, 0}, {1, 0}, {3, 0}};
    *f = (fixture){.n_features = 3};
    for (int t = 0; t < FIXTURE_TABLES; t++)
    {
        uint64_t key = moe_key(seed, t);
        int64_t later = t == 2 ? 0 : (int64_t) (moe_random_bits(moe_key(key, variant), 1) % 50);
        int64_t n = base_rows[t] + later;
        int64_t *time = fixture_alloc(f, n, sizeof *time);
        int64_t now = 0;
        for (int64_t i = 0; i < n; i++)
        {
            if (i < base_rows[t])
                now += moe_random_bits(key, 100 + i) % (2 * cut / base_rows[t]);
            now = i < base_rows[t] && now > cut ? cut : now;
            if (i >= base_rows[t])
                now = (now <= cut ? cut : now) + 1 + moe_random_bits(moe_key(key, variant), 100 + i) % DAY;
            time[i] = t == 0 && i < 5 ? INT64_MIN : now;
        }
        fixture_add_table(f, names[t], n, t == 2 ? NULL : time);
        for (int64_t i = 0; i < n * f->n_features; i++)
            f->features[t][i] =
                (float) moe_random_uniform(moe_key(key, i / f->n_features < base_rows[t] ? 0 : variant), 1000000 + i) -
                0.5f;
    }
    int64_t *known_at = fixture_alloc(f, f->tables[1].n_rows, sizeof *known_at);
    for (int64_t i = 0; i < f->tables[1].n_rows; i++)
    {
        known_at[i] = f->tables[1].time[i] + (int64_t) (moe_random_bits(moe_key(seed, 77), i) % cut);
        if (known_at[i] > cut)
            f->features[1][i * f->n_features] = (float) moe_random_uniform(moe_key(seed, variant), 5000 + i);
    }
    f->tables[1].n_hidden = 1;
    f->tables[1].known_at[0] = known_at;
    for (int k = 0; k < FIXTURE_KEYS; k++)
    {
        int child = links[k][0];
        int parent = links[k][1];
        int32_t *parent_of = fixture_add_key(f, "key", child, parent);
        for (int64_t i = 0; i < f->tables[child].n_rows; i++)
        {
            bool old = i < base_rows[child];
            uint64_t draws = moe_key(moe_key(seed, 50 + k), old ? 0 : variant);
            int64_t choice = moe_random_bits(draws, i) % (old ? base_rows[parent] : f->tables[parent].n_rows);
            parent_of[i] = moe_random_bits(draws, 100000 + i) % 8 == 0 ? -1 : (int32_t) choice;
        }
    }
}

static inline void
fixture_graph(fixture *f, moe_job *job, moe_graph **graph)
{
    assert_int_equal(moe_graph_create(job, f->tables, f->n_tables, f->keys, f->n_keys, graph), MOE_OK);
}

/* An encoder: features (the hidden ones as 0) times a weight of their table. */
static inline moe_var *
fixture_encode(void *encoder, moe_tape *tape, int table, const int32_t *rows, const uint8_t *hidden, int64_t n)
{
    fixture *f = encoder;
    float *x = moe_tape_alloc(tape, n * f->n_features, sizeof *x);
    if (x == NULL)
        return NULL;
    for (int64_t i = 0; i < n; i++)
    {
        memcpy(x + i * f->n_features, f->features[table] + (int64_t) rows[i] * f->n_features,
               f->n_features * sizeof *x);
        if (hidden != NULL && (hidden[i] & 1))
            x[i * f->n_features] = 0;
    }
    return moe_linear(tape, moe_constant(tape, n, f->n_features, x), moe_variable(tape, f->weight[table]), NULL);
}

/* The input of column c of a seed: noise that follows from row and time. */
static inline float
fixture_input(int32_t row, int64_t time, int c)
{
    return (float) moe_random_normal(moe_key(moe_key(91, (uint64_t) row), (uint64_t) time), (uint64_t) c);
}

static inline moe_code
fixture_inputs(void *arg, const moe_seeds *seeds, float *out)
{
    const fixture *f = arg;
    for (int64_t i = 0; i < seeds->n; i++)
        for (int c = 0; c < f->n_inputs; c++)
            out[i * f->n_inputs + c] = f->no_inputs ? 0 : fixture_input(seeds->row[i], seeds->time[i], c);
    return MOE_OK;
}

static inline moe_model *
fixture_model(fixture *f, moe_job *job, const moe_graph *graph, const moe_model_config *config, moe_params *params)
{
    moe_model *model;
    f->n_inputs = config->seed_inputs;
    for (int t = 0; t < f->n_tables; t++)
    {
        char name[32];
        snprintf(name, sizeof name, "embed/%d/weight", t);
        f->weight[t] = moe_params_add(params, name, f->n_features, config->channels, MOE_INIT_UNIFORM);
    }
    assert_int_equal(moe_model_create(job, graph, 0, fixture_encode, f, fixture_inputs, f, config, params, &model),
                     MOE_OK);
    return model;
}

#endif
