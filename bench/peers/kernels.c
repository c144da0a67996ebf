/*
 * kernels.c: moe_ml's side of bench/peers/kernels, which builds it and reads what it prints.
 *
 *   peers_kernels aggregate DIR THREADS ROWS SOURCES CHANNELS sum|mean|max WEIGHTED
 *   peers_kernels sample DIR THREADS LATEST FANOUT1 FANOUT2
 *   peers_kernels experts DIR THREADS ROWS WIDTH EXPERTS K
 *
 * Inputs are raw arrays in files of DIR, which the other side wrote and reads
 * too. Then each line of standard input is a command: "forward" or "both"
 * (forward and backward) runs once and answers with its milliseconds, of wall and of processor time; "save"
 * writes the results into DIR. So the two sides run in turn.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gnn/sampler.h"
#include "kernels/ops.h"

#define MAX_TABLES 8
#define MAX_KEYS   16

static const moe_backend *backend;
static const char *directory;
static moe_job *job;

static void
fail(const char *what)
{
    fprintf(stderr, "peers_kernels: %s\n", what);
    exit(1);
}

static void *
allocate(int64_t count, size_t size)
{
    void *memory = moe_alloc(job, count, size);
    if (memory == NULL)
        fail(moe_job_error(job));
    return memory;
}

static float *
floats(int64_t count)
{
    return allocate(count, sizeof(float));
}

static int32_t *
indices(int64_t count)
{
    return allocate(count, sizeof(int32_t));
}

/* Open a file of the directory. */
static FILE *
open_file(const char *name, const char *mode)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, mode);
    if (file == NULL)
        fail(path);
    return file;
}

/* A whole file as an array of elements of a size; *count (may be NULL) receives how many. */
static void *
read_array(const char *name, size_t size, int64_t *count)
{
    FILE *file = open_file(name, "rb");
    fseek(file, 0, SEEK_END);
    int64_t n = ftell(file) / (int64_t) size;
    void *array = allocate(n, size);
    rewind(file);
    if (fread(array, size, (size_t) n, file) != (size_t) n)
        fail(name);
    fclose(file);
    if (count != NULL)
        *count = n;
    return array;
}

static void
write_array(const char *name, const void *array, size_t size, int64_t count)
{
    FILE *file = open_file(name, "wb");
    if (fwrite(array, size, (size_t) count, file) != (size_t) count || fclose(file) != 0)
        fail(name);
}

/* Neighbourhood aggregation. */
static struct
{
    moe_sparse matrix;
    int64_t sources, cols;
    bool max;
    float *x, *gy, *out, *gx;
    int64_t *offset; /* of the transpose */
    int32_t *index, *entry, *argmax;
    float *weight;
} sum;

static void
aggregate_open(char **arg)
{
    sum.matrix.rows = atoll(arg[0]);
    sum.sources = atoll(arg[1]);
    sum.cols = atoll(arg[2]);
    sum.max = strcmp(arg[3], "max") == 0;
    sum.matrix.reduce = strcmp(arg[3], "mean") == 0 ? MOE_MEAN : MOE_SUM;
    sum.matrix.offset = read_array("offset", sizeof(int64_t), NULL);
    sum.matrix.index = read_array("index", sizeof(int32_t), &sum.matrix.entries);
    if (strcmp(arg[4], "1") == 0)
        sum.matrix.weight = read_array("weight", sizeof(float), NULL);
    sum.x = read_array("x", sizeof(float), NULL);
    sum.gy = read_array("gy", sizeof(float), NULL);
    sum.out = floats(sum.matrix.rows * sum.cols);
    sum.gx = floats(sum.sources * sum.cols);
    sum.offset = allocate(sum.sources + 1, sizeof(int64_t));
    sum.index = indices(sum.matrix.entries);
    sum.weight = floats(sum.matrix.entries);
    if (sum.max)
    {
        sum.entry = indices(sum.matrix.entries);
        sum.argmax = indices(sum.matrix.rows * sum.cols);
    }
}

/* The transpose is made anew each time, as for a sampled neighbourhood. */
static void
aggregate_run(bool both)
{
    const moe_sparse *s = &sum.matrix;
    bool weighted = s->weight != NULL || s->reduce == MOE_MEAN || sum.max;
    if (sum.max)
        backend->aggregate_max(job, s, sum.cols, sum.x, sum.out, both ? sum.argmax : NULL);
    else
        backend->aggregate(job, s, sum.cols, sum.x, false, sum.out);
    if (!both)
        return;
    moe_sparse t = {.rows = sum.sources, .entries = s->entries, .offset = sum.offset, .index = sum.index};
    t.weight = weighted ? sum.weight : NULL;
    backend->transpose(job, s, 1, sum.sources, sum.offset, sum.index, weighted ? sum.weight : NULL, sum.entry);
    if (sum.max)
        backend->aggregate_max_backward(job, &t, sum.entry, sum.cols, sum.argmax, sum.gy, false, sum.gx);
    else
        backend->aggregate(job, &t, sum.cols, sum.gy, false, sum.gx);
}

static void
aggregate_save(void)
{
    write_array("out", sum.out, sizeof(float), sum.matrix.rows * sum.cols);
    write_array("gx", sum.gx, sizeof(float), sum.sources * sum.cols);
}

/* Neighbour sampling: files "tables" (rows and whether they have times, of each), "keys" (child, parent), and arrays.
 */
static struct
{
    moe_graph *graph;
    moe_graph_table table[MAX_TABLES];
    moe_graph_key key[MAX_KEYS];
    moe_seeds seeds;
    moe_sampler_config config;
    moe_arena *arena;
    moe_sample *sample;
} tree;

static void
sample_open(char **arg)
{
    static char names[MAX_KEYS][32];
    int64_t n_tables, n_keys;
    int64_t *tables = read_array("tables", sizeof(int64_t), &n_tables);
    int64_t *keys = read_array("keys", sizeof(int64_t), &n_keys);
    if ((n_tables /= 2) > MAX_TABLES || (n_keys /= 2) > MAX_KEYS)
        fail("too many tables");
    for (int t = 0; t < n_tables; t++)
    {
        snprintf(names[t], sizeof names[t], "time%d", t);
        tree.table[t].name = "table";
        tree.table[t].n_rows = tables[2 * t];
        tree.table[t].time = tables[2 * t + 1] ? read_array(names[t], sizeof(int64_t), NULL) : NULL;
    }
    for (int k = 0; k < n_keys; k++)
    {
        snprintf(names[k], sizeof names[k], "parent%d", k);
        tree.key[k] = (moe_graph_key){.name = "key", .child = (int) keys[2 * k], .parent = (int) keys[2 * k + 1]};
        tree.key[k].parent_of = read_array(names[k], sizeof(int32_t), NULL);
    }
    if (moe_graph_create(job, tree.table, (int) n_tables, tree.key, (int) n_keys, &tree.graph) != MOE_OK)
        fail(moe_job_error(job));
    tree.seeds.row = read_array("seeds", sizeof(int32_t), &tree.seeds.n);
    tree.seeds.time = read_array("seed_times", sizeof(int64_t), NULL);
    tree.config.hops = 2;
    tree.config.sampling = atoi(arg[0]) ? MOE_SAMPLE_LATEST : MOE_SAMPLE_UNIFORM;
    tree.config.fanout[0] = atoi(arg[1]);
    tree.config.fanout[1] = atoi(arg[2]);
    tree.config.staleness = INT64_MAX;
    tree.config.key = 1;
    tree.arena = moe_arena_create(job);
}

static void
sample_run(bool both)
{
    moe_arena_reset(tree.arena);
    tree.config.key++;
    if (moe_sample_trees(tree.arena, tree.graph, &tree.seeds, &tree.config, &tree.sample) != MOE_OK)
        fail(moe_job_error(job));
}

/* How many occurrences the trees have, and how many edges, of the first hop and of the second. */
static void
sample_save(void)
{
    const moe_sample *s = tree.sample;
    int64_t count[4] = {0};
    for (int i = 0; i < (s->hops + 1) * s->n_tables; i++)
        count[0] += s->levels[i].n;
    for (int t = 0; t < s->n_tables; t++)
        count[1] += s->n_unique[t];
    for (int i = 0; i < s->hops * s->n_edge_types; i++)
    {
        const moe_hop_edges *e = &s->edges[i];
        int edge = i % s->n_edge_types, key = edge / 2;
        int table = edge % 2 ? tree.key[key].child : tree.key[key].parent;
        int depth = i / s->n_edge_types;
        if (e->offset != NULL)
            count[2 + depth] += e->offset[s->levels[depth * s->n_tables + table].n];
    }
    write_array("counts", count, sizeof(int64_t), 4);
}

/* Mixture of experts: out[i] = sum over the chosen of gate * (x[i] w + b). */
static struct
{
    int64_t rows, width;
    int experts, k;
    int32_t *chosen, *row, *place, *index, *entry;
    int64_t *offset, *back;
    float *gate, *x, *w, *b, *gy, *y, *out, *spread, *gxp, *gx, *gw, *gb, *ggate, *share;
} mix;

static void
experts_open(char **arg)
{
    mix.rows = atoll(arg[0]);
    mix.width = atoll(arg[1]);
    mix.experts = atoi(arg[2]);
    mix.k = atoi(arg[3]);
    int64_t n = mix.rows * mix.k;
    mix.chosen = read_array("chosen", sizeof(int32_t), NULL);
    mix.gate = read_array("gate", sizeof(float), NULL);
    mix.x = read_array("x", sizeof(float), NULL);
    mix.w = read_array("w", sizeof(float), NULL);
    mix.b = read_array("b", sizeof(float), NULL);
    mix.gy = read_array("gy", sizeof(float), NULL);
    mix.row = indices(n);
    mix.place = indices(n);
    mix.index = indices(n);
    mix.entry = indices(n);
    mix.offset = allocate(mix.experts + 1, sizeof(int64_t));
    mix.back = allocate(n + 1, sizeof(int64_t));
    mix.y = floats(n * mix.width);
    mix.spread = floats(n * mix.width);
    mix.gxp = floats(n * mix.width);
    mix.out = floats(mix.rows * mix.width);
    mix.gx = floats(mix.rows * mix.width);
    mix.gw = floats(mix.experts * mix.width * mix.width);
    mix.gb = floats(mix.experts * mix.width);
    mix.ggate = floats(n);
    mix.share = floats(n);
}

static void
experts_run(bool both)
{
    int64_t n = mix.rows * mix.k, width = mix.width;
    moe_sparse s = {.rows = mix.rows, .entries = n, .width = mix.k, .index = mix.place, .weight = mix.gate};
    backend->group(job, mix.rows, mix.k, mix.experts, mix.chosen, mix.offset, mix.row, mix.place);
    backend->grouped_linear(job, mix.experts, n, width, width, mix.offset, mix.row, mix.x, mix.w, mix.b, mix.y);
    backend->aggregate(job, &s, width, mix.y, false, mix.out);
    if (!both)
        return;
    memset(mix.gw, 0, (size_t) (mix.experts * width * width) * sizeof(float));
    memset(mix.gb, 0, (size_t) (mix.experts * width) * sizeof(float));
    backend->edge_dot(job, &s, width, mix.gy, mix.y, false, mix.ggate);
    /* Each place belongs to one row: the gradient at a place is that of its row, times the gate. */
    backend->transpose(job, &s, 1, n, mix.back, mix.index, mix.share, NULL);
    moe_sparse t = {.rows = n, .entries = n, .offset = mix.back, .index = mix.index, .weight = mix.share};
    backend->aggregate(job, &t, width, mix.gy, false, mix.spread);
    backend->grouped_linear_weight(job, mix.experts, n, width, width, mix.offset, mix.row, mix.x, mix.spread, mix.gw,
                                   mix.gb);
    backend->grouped_linear_input(job, mix.experts, n, width, width, mix.offset, mix.spread, mix.w, false, mix.gxp);
    s.weight = NULL;
    backend->aggregate(job, &s, width, mix.gxp, false, mix.gx);
}

static void
experts_save(void)
{
    write_array("out", mix.out, sizeof(float), mix.rows * mix.width);
    write_array("gx", mix.gx, sizeof(float), mix.rows * mix.width);
    write_array("gw", mix.gw, sizeof(float), mix.experts * mix.width * mix.width);
    write_array("gb", mix.gb, sizeof(float), mix.experts * mix.width);
    write_array("ggate", mix.ggate, sizeof(float), mix.rows * mix.k);
}

typedef struct benchmark
{
    const char *name;
    int arguments;
    void (*open)(char **arg);
    void (*run)(bool both);
    void (*save)(void);
} benchmark;

static const benchmark benchmarks[] = {{"aggregate", 5, aggregate_open, aggregate_run, aggregate_save},
                                       {"sample", 3, sample_open, sample_run, sample_save},
                                       {"experts", 4, experts_open, experts_run, experts_save}};

static double
now(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return 1e3 * (double) time.tv_sec + 1e-6 * (double) time.tv_nsec;
}

/* Commands: "save", "forward N", "both N"; the answer is milliseconds of one of N calls, after one that does not count.
 */
static void
serve(const benchmark *b)
{
    char line[64];
    char command[16];
    while (fgets(line, sizeof line, stdin) != NULL)
    {
        int calls = 0;
        if (sscanf(line, "%15s %d", command, &calls) < 1)
            fail("a command is missing");
        bool both = strcmp(command, "both") == 0;
        if (strcmp(command, "save") == 0)
            b->save();
        else
            b->run(both);
        double began = now(CLOCK_MONOTONIC), worked = now(CLOCK_PROCESS_CPUTIME_ID);
        for (int i = 0; i < calls; i++)
            b->run(both);
        calls = calls > 0 ? calls : 1;
        printf("%.6f %.6f\n", (now(CLOCK_MONOTONIC) - began) / calls, (now(CLOCK_PROCESS_CPUTIME_ID) - worked) / calls);
        fflush(stdout);
        if (moe_job_code(job) != MOE_OK)
            fail(moe_job_error(job));
    }
}

int
main(int argc, char **argv)
{
    if (argc < 4)
        fail("called by bench/peers/kernels");
    moe_job_config config = {.threads = atoi(argv[3])};
    directory = argv[2];
    backend = &moe_backend_cpu;
    if (config.threads < 1 || moe_job_create(&config, &job) != MOE_OK)
        return 1;
    for (size_t i = 0; i < sizeof benchmarks / sizeof *benchmarks; i++)
    {
        if (strcmp(argv[1], benchmarks[i].name) != 0 || argc != 4 + benchmarks[i].arguments)
            continue;
        benchmarks[i].open(argv + 4);
        serve(&benchmarks[i]);
    }
    moe_job_destroy(job);
    return 0;
}
