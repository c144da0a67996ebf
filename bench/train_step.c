/*
 * train_step.c: where the time of a training step goes; built and described by bench/train_step.
 *
 * A graph of the shape of a sports season: drivers (the entities, without a
 * time), races, and two tables of some ten thousand rows that refer to both.
 * Everything is drawn from fixed keys, so that two builds train the same.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "embed/encoder.h"
#include "gnn/trainer.h"
#include "kernels/random.h"

enum
{
    DRIVERS,
    RACES,
    RESULTS,
    STANDINGS,
    TABLES
};

#define N_DRIVERS 800
#define N_RACES   1000
#define N_ENTRIES 25 /* of a race, in both tables */
#define WEEK      INT64_C(604800000000)
#define COLUMNS   5

static const int64_t n_rows[TABLES] = {N_DRIVERS, N_RACES, N_RACES *N_ENTRIES, N_RACES *N_ENTRIES};

static void
check(moe_job *job, moe_code code)
{
    if (code == MOE_OK)
        return;
    fprintf(stderr, "train_step: %s\n", moe_job_error(job));
    exit(1);
}

static void *
allocate(moe_job *job, int64_t n, size_t size)
{
    void *memory = moe_alloc(job, n, size);
    check(job, moe_job_code(job));
    return memory;
}

/* COLUMNS columns of numbers; the last has 40 values and is a category. */
static moe_column *
make_columns(moe_job *job, int table)
{
    static const char *names[COLUMNS] = {"a", "b", "c", "d", "kind"};
    moe_column *columns = allocate(job, COLUMNS, sizeof *columns);
    for (int c = 0; c < COLUMNS; c++)
    {
        double *number = allocate(job, n_rows[table], sizeof *number);
        bool category = c == COLUMNS - 1;
        for (int64_t i = 0; i < n_rows[table]; i++)
            number[i] = category ? floor(40 * moe_random_uniform((uint64_t) table, (uint64_t) i))
                                 : moe_random_normal((uint64_t) (10 * table + c), (uint64_t) i);
        columns[c] = (moe_column){.name = names[c],
                                  .storage = MOE_STORE_NUMBER,
                                  .integral = category,
                                  .encoding = category ? MOE_ENCODE_CATEGORY : MOE_ENCODE_NUMERIC,
                                  .hidden_bit = -1,
                                  .number = number};
    }
    return columns;
}

static moe_graph *
make_graph(moe_job *job)
{
    static const char *names[TABLES] = {"drivers", "races", "results", "standings"};
    moe_graph_table tables[TABLES];
    moe_graph_key keys[4];
    moe_graph *graph;
    for (int t = 0; t < TABLES; t++)
    {
        int64_t *time = t == DRIVERS ? NULL : allocate(job, n_rows[t], sizeof *time);
        for (int64_t i = 0; time != NULL && i < n_rows[t]; i++)
            time[i] = (t == RACES ? i : i / N_ENTRIES) * WEEK;
        tables[t] = (moe_graph_table){.name = names[t], .n_rows = n_rows[t], .time = time};
    }
    for (int k = 0; k < 4; k++)
    {
        int child = k < 2 ? RESULTS : STANDINGS;
        int32_t *parent = allocate(job, n_rows[child], sizeof *parent);
        /* A driver is active for a fifth of all time: the race's number moves the range drawn from. */
        for (int64_t i = 0; i < n_rows[child]; i++)
        {
            int64_t race = i / N_ENTRIES;
            double from = 0.8 * (double) race / N_RACES;
            double u = moe_random_uniform((uint64_t) (90 + k), (uint64_t) i);
            parent[i] = k % 2 ? (int32_t) race : (int32_t) ((from + 0.2 * u * u) * N_DRIVERS);
        }
        keys[k] =
            (moe_graph_key){.name = "key", .child = child, .parent = k % 2 ? RACES : DRIVERS, .parent_of = parent};
    }
    check(job, moe_graph_create(job, tables, TABLES, keys, 4, &graph));
    return graph;
}

static moe_encoder *
make_encoder(moe_job *job, const moe_model_config *config, moe_params *params)
{
    static const char *names[TABLES] = {"drivers", "races", "results", "standings"};
    moe_table tables[TABLES];
    moe_features *features;
    moe_encoder *encoder;
    moe_encoder_config encoder_config = {.channels = config->channels, .blocks = 1, .dropout = config->dropout};
    for (int t = 0; t < TABLES; t++)
        tables[t] =
            (moe_table){.name = names[t], .n_rows = n_rows[t], .n_columns = COLUMNS, .columns = make_columns(job, t)};
    check(job, moe_features_fit(job, tables, TABLES, n_rows, &features));
    check(job, moe_features_bind(features, tables, TABLES));
    check(job, moe_encoder_create(job, features, &encoder_config, params, &encoder));
    return encoder;
}

/* Drivers at the times they are active, with labels by a coin. */
static moe_samples
make_samples(moe_job *job, int64_t n)
{
    int32_t *row = allocate(job, n, sizeof *row);
    int64_t *time = allocate(job, n, sizeof *time);
    float *label = allocate(job, n, sizeof *label);
    for (int64_t i = 0; i < n; i++)
    {
        double u = moe_random_uniform(70, (uint64_t) i), v = moe_random_uniform(71, (uint64_t) i);
        time[i] = (int64_t) (u * N_RACES) * WEEK;
        row[i] = (int32_t) ((0.8 * u + 0.2 * v * v) * N_DRIVERS);
        label[i] = moe_random_uniform(72, (uint64_t) i) < 0.3;
    }
    return (moe_samples){.n = n, .row = row, .time = time, .label = label};
}

static double
cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double) now.tv_sec + 1e-9 * (double) now.tv_nsec;
}

/* Run one epoch; the processor time of its training steps. */
static double
run_epoch(moe_job *job, moe_trainer *trainer, moe_progress *progress)
{
    double start = cpu_seconds(), trained = start;
    do
    {
        check(job, moe_trainer_step(trainer, progress));
        if (progress->step <= progress->steps && !progress->epoch_done)
            trained = cpu_seconds();
    } while (!progress->epoch_done);
    return trained - start;
}

static void
report(bool json, const char *stage, double milliseconds, int threads, int64_t steps)
{
    if (json)
        printf("{\"benchmark\": \"train_step\", \"stage\": \"%s\", \"ms\": %.3f, \"threads\": %d, \"steps\": %lld}\n",
               stage, milliseconds, threads, (long long) steps);
    else
        printf("%-10s %8.2f ms\n", stage, milliseconds);
}

/* Whether there is a convolution of this name, which may stand behind "composite-". */
static bool
choose(moe_model_config *config, const char *name)
{
    static const char *const names[] = {"sage", "gin", "pna", "gat"};
    config->composite = strncmp(name, "composite-", 10) == 0;
    name += config->composite ? 10 : 0;
    for (int i = 0; i < 4; i++)
        if (strcmp(name, names[i]) == 0)
        {
            config->convolution = (moe_convolution_kind) i;
            return true;
        }
    return false;
}

int
main(int argc, char **argv)
{
    bool json = false;
    int threads = 1, batch = 512;
    moe_model_config config;
    moe_model_config_defaults(&config);
    int64_t steps = 20;
    for (int i = 1; i < argc; i++)
    {
        long value = i + 1 < argc ? atol(argv[i + 1]) : 0;
        if (strcmp(argv[i], "--convolution") == 0 && i + 1 < argc && choose(&config, argv[i + 1]))
        {
            i++;
            continue;
        }
        if (strcmp(argv[i], "--json") == 0)
        {
            json = true;
            continue;
        }
        if (strcmp(argv[i], "--threads") == 0)
            threads = (int) value;
        else if (strcmp(argv[i], "--steps") == 0)
            steps = value;
        else if (strcmp(argv[i], "--batch") == 0)
            batch = (int) value;
        else
            value = 0;
        i++;
        if (value < 1 || value > 1000000)
        {
            fprintf(stderr, "usage: bench/train_step [--json] [--threads N] [--steps N] [--batch N]\n"
                            "       [--convolution [composite-]sage|gin|pna|gat]\n");
            return 2;
        }
    }

    moe_job *job;
    moe_job_config job_config = {.threads = threads};
    if (moe_job_create(&job_config, &job) != MOE_OK)
        return 1;
    moe_train_config train;
    moe_model *model;
    moe_trainer *trainer;
    moe_progress first = {0}, second = {0};
    moe_train_config_defaults(&train);
    train.epochs = 2;
    train.batch_size = batch;
    train.max_steps = (int) steps;
    moe_params *params = moe_params_create(job, 1);
    check(job, moe_job_code(job));
    moe_graph *graph = make_graph(job);
    moe_encoder *encoder = make_encoder(job, &config, params);
    moe_samples samples = make_samples(job, steps * batch), none = {0};
    check(job,
          moe_model_create(job, graph, DRIVERS, moe_encoder_forward, encoder, NULL, NULL, &config, params, &model));
    check(job, moe_trainer_create(job, model, params, &train, &samples, &none, &trainer));

    /* The first epoch warms up. */
    run_epoch(job, trainer, &first);
    double cpu = run_epoch(job, trainer, &second);
    double factor = 1000.0 / (double) steps;
    double stages[] = {(second.sample_seconds - first.sample_seconds) * factor,
                       (second.encode_seconds - first.encode_seconds) * factor,
                       (second.forward_seconds - first.forward_seconds) * factor,
                       (second.backward_seconds - first.backward_seconds) * factor};
    report(json, "sample", stages[0], threads, steps);
    report(json, "encode", stages[1], threads, steps);
    report(json, "forward", stages[2], threads, steps);
    report(json, "backward", stages[3], threads, steps);
    report(json, "step", stages[0] + stages[1] + stages[2] + stages[3], threads, steps);
    report(json, "processor", cpu * factor, threads, steps);
    moe_job_destroy(job);
    return 0;
}
