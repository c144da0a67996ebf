/*
 * aggregates.c: how long relational aggregates take; see bench/aggregates.
 *
 * A table of entities, one of results with number columns and keys to
 * entities, events and teams: what is known of a racing driver.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "embed/aggregates.h"
#include "kernels/random.h"

#define DAY INT64_C(86400000000)

enum
{
    ENTITIES,
    EVENTS,
    TEAMS,
    RESULTS,
    TABLES
};

typedef struct setting
{
    int64_t seeds, rows;
    int columns, most, threads, rounds;
    bool json;
} setting;

/* Of one thread its processor time, which others on the machine do not lengthen; of several the time that passes. */
static clockid_t clock_used = CLOCK_MONOTONIC;

static double
now(void)
{
    struct timespec t;
    clock_gettime(clock_used, &t);
    return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

static void
check(moe_job *job)
{
    if (moe_job_check(job) == MOE_OK)
        return;
    fprintf(stderr, "aggregates: %s\n", moe_job_error(job));
    exit(1);
}

static void *
room(moe_job *job, int64_t n, size_t size)
{
    void *memory = moe_alloc(job, n, size);
    check(job);
    return memory;
}

static int64_t
least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Columns "x0", "x1", ...: two thirds of many values, the others of few; one in ten NULL. */
static moe_table
make_results(moe_job *job, const setting *s)
{
    moe_column *columns = room(job, s->columns, sizeof(*columns));
    char(*names)[16] = room(job, s->columns, sizeof(*names));
    for (int c = 0; c < s->columns; c++)
    {
        double *number = room(job, s->rows, sizeof(*number));
        uint8_t *null = room(job, s->rows, 1);
        bool few = c % 3 == 2;
        for (int64_t row = 0; row < s->rows; row++)
        {
            double u = moe_random_uniform((uint64_t) c, (uint64_t) row);
            number[row] = few ? (double) (int) (u * 8) : u;
            null[row] = moe_random_uniform((uint64_t) c + 1000, (uint64_t) row) < .1;
        }
        snprintf(names[c], sizeof(names[c]), "x%d", c);
        columns[c] = (moe_column){.name = names[c],
                                  .storage = MOE_STORE_NUMBER,
                                  .integral = few,
                                  .hidden_bit = -1,
                                  .null = null,
                                  .number = number};
    }
    return (moe_table){"results", s->rows, s->columns, columns};
}

static moe_relation
make_relation(moe_job *job, const char *name, int parent, int64_t n, int64_t parents, bool by_event)
{
    int32_t *parent_of = room(job, n, sizeof(*parent_of)), *children = room(job, n, sizeof(*children));
    int64_t *offset = room(job, parents + 2, sizeof(*offset));
    for (int64_t row = 0; row < n; row++)
    {
        parent_of[row] =
            by_event ? (int32_t) least(row / 24, parents - 1)
                     : (int32_t) (moe_random_uniform((uint64_t) parent + 77, (uint64_t) row) * (double) parents);
        offset[parent_of[row] + 2]++;
    }
    for (int64_t p = 0; p < parents; p++)
        offset[p + 2] += offset[p + 1];
    for (int64_t row = 0; row < n; row++)
        children[offset[parent_of[row] + 1]++] = (int32_t) row;
    return (moe_relation){name, RESULTS, parent, parent_of, offset, children};
}

static void
make_database(moe_job *job, const setting *s, moe_relational *db)
{
    moe_table *tables = room(job, TABLES, sizeof(*tables));
    moe_row_times *times = room(job, TABLES, sizeof(*times));
    moe_relation *relations = room(job, 3, sizeof(*relations));
    int64_t events = s->rows / 24 + 1;
    int64_t *event_time = room(job, events, sizeof(*event_time)), *time = room(job, s->rows, sizeof(*time));
    tables[ENTITIES] = (moe_table){.name = "drivers", .n_rows = s->rows / 32 + 1};
    tables[EVENTS] = (moe_table){.name = "races", .n_rows = events};
    tables[TEAMS] = (moe_table){.name = "teams", .n_rows = s->rows / 130 + 1};
    tables[RESULTS] = make_results(job, s);
    for (int64_t e = 0; e < events; e++)
        event_time[e] = 20000 * DAY / events * e;
    for (int64_t row = 0; row < s->rows; row++)
        time[row] = event_time[row / 24];
    times[EVENTS].time = event_time;
    times[RESULTS].time = time;
    relations[0] = make_relation(job, "driver", ENTITIES, s->rows, tables[ENTITIES].n_rows, false);
    relations[1] = make_relation(job, "race", EVENTS, s->rows, events, true);
    relations[2] = make_relation(job, "team", TEAMS, s->rows, tables[TEAMS].n_rows, false);
    *db = (moe_relational){TABLES, tables, times, 3, relations};
}

static moe_moments
make_moments(moe_job *job, const setting *s, const moe_relational *db)
{
    int32_t *row = room(job, s->seeds, sizeof(*row));
    int64_t *time = room(job, s->seeds, sizeof(*time));
    for (int64_t i = 0; i < s->seeds; i++)
    {
        row[i] = (int32_t) (moe_random_uniform(501, (uint64_t) i) * (double) db->tables[ENTITIES].n_rows);
        time[i] = (int64_t) (moe_random_uniform(502, (uint64_t) i) * 20000) * DAY;
    }
    return (moe_moments){s->seeds, row, time, NULL};
}

/* Bound anew each time: nothing is known of siblings yet. */
static double
time_compute(moe_job *job, moe_aggregates *a, const moe_relational *db, const moe_moments *moments, int rounds,
             float *out)
{
    double best = 0;
    for (int round = 0; round < rounds; round++)
    {
        moe_aggregates_bind(a, db);
        double start = now();
        moe_aggregates_compute(a, moments, NULL, out);
        check(job);
        best = round == 0 || now() - start < best ? now() - start : best;
    }
    return best;
}

static void
report(const setting *s)
{
    moe_job_config config = {.threads = s->threads};
    moe_job *job;
    moe_relational db;
    moe_aggregates *a;
    if (moe_job_create(&config, &job) != MOE_OK)
        exit(1);
    make_database(job, s, &db);
    moe_moments moments = make_moments(job, s, &db);
    moe_moments one = {1, moments.row, moments.time, NULL};
    int64_t fit_rows[TABLES];
    for (int t = 0; t < TABLES; t++)
        fit_rows[t] = db.tables[t].n_rows;

    double start = now();
    moe_aggregates_fit(job, &db, ENTITIES, fit_rows, 30 * DAY, s->most, &a);
    check(job);
    double fit = now() - start;
    start = now();
    moe_aggregates_bind(a, &db);
    check(job);
    double bind = now() - start;
    int columns = moe_aggregates_columns(a);
    float *out = room(job, s->seeds * columns, sizeof(*out));
    double all = time_compute(job, a, &db, &moments, s->rounds, out);
    double alone = time_compute(job, a, &db, &one, s->rounds, out);
    printf(s->json
               ? "{\"benchmark\": \"aggregates\", \"seeds\": %lld, \"rows\": %lld, \"values\": %d, \"columns\": %d, "
                 "\"threads\": %d, \"fit_ms\": %.1f, \"bind_ms\": %.1f, \"compute_ms\": %.1f, \"one_seed_us\": "
                 "%.0f}\n"
               : "%lld seeds, %lld rows of %d columns: %d aggregates, %d threads: fit %.1f ms, bind %.1f ms, "
                 "compute %.1f ms; one seed alone %.0f us\n",
           (long long) s->seeds, (long long) s->rows, s->columns, columns, s->threads, fit * 1e3, bind * 1e3, all * 1e3,
           alone * 1e6);
    moe_job_destroy(job);
}

int
main(int argc, char **argv)
{
    setting s = {.seeds = 20000, .rows = 26000, .columns = 20, .most = 2000, .threads = 1, .rounds = 3};
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--json") == 0)
            s.json = true;
        else if (i + 1 < argc && strcmp(argv[i], "--threads") == 0)
            s.threads = atoi(argv[++i]);
        else if (i + 1 < argc && strcmp(argv[i], "--seeds") == 0)
            s.seeds = atoll(argv[++i]);
        else if (i + 1 < argc && strcmp(argv[i], "--rows") == 0)
            s.rows = atoll(argv[++i]);
        else if (i + 1 < argc && strcmp(argv[i], "--columns") == 0)
            s.columns = atoi(argv[++i]);
        else if (i + 1 < argc && strcmp(argv[i], "--rounds") == 0)
            s.rounds = atoi(argv[++i]);
        else if (i + 1 < argc && strcmp(argv[i], "--most") == 0)
            s.most = atoi(argv[++i]);
        else
        {
            fprintf(stderr, "aggregates: what is %s?\n", argv[i]);
            return 2;
        }
    if (s.seeds < 1 || s.rows < 1 || s.columns < 0 || s.threads < 1)
        return 2;
    if (s.threads == 1)
        clock_used = CLOCK_PROCESS_CPUTIME_ID;
    report(&s);
    return 0;
}
