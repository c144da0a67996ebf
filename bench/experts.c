/*
 * experts.c: grouped products against sgemm, and against experts computed densely; see bench/experts.
 *
 * Rounds alternate between the sides, and the ratio is the median of the
 * rounds' ratios, so that a busy machine slows both.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/blas.h"
#include "kernels/device.h"
#include "kernels/random.h"

#define MOST_ROUNDS 101

typedef struct setting
{
    int experts;
    int k;
    int64_t rows;
    int64_t channels;
    int64_t outputs;
} setting;

/* Everything either side reads or writes. */
typedef struct bench
{
    moe_job *job;
    const moe_backend *backend;
    setting s;
    int64_t places;
    float *x, *gates, *picked, *upstream;            /* [n,C], [n,E], [n,k], [n,O] */
    float *w1, *b1, *w2, *b2;                        /* [E*C,C] or, dense, [C,E*C]; [E*C]; [E*C,O]; [E,O] */
    float *gw1, *gb1, *gw2, *gb2, *gx, *ggates;      /* gradients of these */
    float *hidden, *weighted, *ghidden, *gy, *y;     /* [max(P,n*E),C]; gy, y [P,O] */
    float *by_place, *gpicked, *out, *turned_weight; /* [P,C], [n,k], [n,O], [P] */
    int32_t *chosen, *row, *place, *turned;
    int64_t *offset, *turned_offset;
} bench;

typedef void (*side)(const bench *b);

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
    fprintf(stderr, "experts: %s\n", moe_job_error(job));
    exit(1);
}

static float *
numbers(moe_arena *arena, int64_t n, uint64_t key)
{
    float *x = moe_arena_alloc(arena, n, sizeof *x);
    check(moe_arena_job(arena));
    for (int64_t i = 0; i < n; i++)
        x[i] = (float) moe_random_normal(key, (uint64_t) i) * 0.1f;
    return x;
}

static void *
room(moe_arena *arena, int64_t n, size_t size)
{
    void *memory = moe_arena_zalloc(arena, n, size);
    check(moe_arena_job(arena));
    return memory;
}

static bench
prepare(moe_arena *arena, setting s)
{
    moe_job *job = moe_arena_job(arena);
    bench b = {.job = job, .backend = moe_job_backend(job), .s = s, .places = s.rows * s.k};
    int64_t c = s.channels, e = s.experts, n = s.rows, p = b.places;
    float *logits = numbers(arena, n * e, 1);
    b.x = numbers(arena, n * c, 2);
    b.w1 = numbers(arena, e * c * c, 3);
    b.b1 = numbers(arena, e * c, 4);
    b.w2 = numbers(arena, e * c * s.outputs, 5);
    b.b2 = numbers(arena, e * s.outputs, 6);
    b.upstream = numbers(arena, n * s.outputs, 7);
    b.gates = room(arena, n * e, sizeof(float));
    b.picked = room(arena, p, sizeof(float));
    b.gw1 = room(arena, e * c * c, sizeof(float));
    b.gb1 = room(arena, e * c, sizeof(float));
    b.gw2 = room(arena, e * c * s.outputs, sizeof(float));
    b.gb2 = room(arena, e * s.outputs, sizeof(float));
    b.gx = room(arena, n * c, sizeof(float));
    b.ggates = room(arena, n * e, sizeof(float));
    b.hidden = room(arena, n * e * c, sizeof(float));
    b.weighted = room(arena, n * e * c, sizeof(float));
    b.ghidden = room(arena, n * e * c, sizeof(float));
    b.gy = room(arena, p * s.outputs, sizeof(float));
    b.y = room(arena, p * s.outputs, sizeof(float));
    b.by_place = room(arena, p * c, sizeof(float));
    b.gpicked = room(arena, p, sizeof(float));
    b.out = room(arena, n * s.outputs, sizeof(float));
    b.turned_weight = room(arena, p, sizeof(float));
    b.chosen = room(arena, p, sizeof(int32_t));
    b.row = room(arena, p, sizeof(int32_t));
    b.place = room(arena, p, sizeof(int32_t));
    b.turned = room(arena, p, sizeof(int32_t));
    b.offset = room(arena, e + 1, sizeof(int64_t));
    b.turned_offset = room(arena, p + 1, sizeof(int64_t));
    b.backend->top_k_gate(job, n, s.experts, s.k, 0, 0, logits, b.gates);
    b.backend->top_k(job, n, e, s.k, b.gates, b.chosen);
    b.backend->group(job, n, s.k, s.experts, b.chosen, b.offset, b.row, b.place);
    return b;
}

/* One step by groups; what the tape does for moe_route_linear, moe_relu, moe_grouped_linear and moe_combine. */
static void
step_grouped(const bench *b)
{
    const moe_backend *f = b->backend;
    moe_job *job = b->job;
    int e = b->s.experts, k = b->s.k;
    int64_t n = b->s.rows, p = b->places, c = b->s.channels, o = b->s.outputs;
    f->top_k(job, n, e, k, b->gates, b->chosen);
    f->group(job, n, k, e, b->chosen, b->offset, b->row, b->place);
    f->pick(job, n, e, k, b->chosen, b->gates, b->picked);
    f->grouped_linear(job, e, p, c, c, b->offset, b->row, b->x, b->w1, b->b1, b->hidden);
    f->relu(job, p * c, b->hidden, b->weighted);
    f->grouped_linear(job, e, p, c, o, b->offset, NULL, b->weighted, b->w2, b->b2, b->y);
    moe_sparse s = {.rows = n, .entries = p, .width = k, .index = b->place, .weight = b->picked};
    f->aggregate(job, &s, o, b->y, false, b->out);

    f->transpose(job, &s, 1, p, b->turned_offset, b->turned, b->turned_weight, NULL);
    moe_sparse turned = {.rows = p, .entries = p, .width = 1, .index = b->turned, .weight = b->turned_weight};
    f->aggregate(job, &turned, o, b->upstream, false, b->gy);
    f->edge_dot(job, &s, o, b->upstream, b->y, false, b->gpicked);
    f->pick_backward(job, n, e, k, b->chosen, b->gpicked, false, b->ggates);
    f->grouped_linear_input(job, e, p, c, o, b->offset, b->gy, b->w2, false, b->ghidden);
    f->grouped_linear_weight(job, e, p, c, o, b->offset, NULL, b->weighted, b->gy, b->gw2, b->gb2);
    f->relu_backward(job, p * c, 1, b->weighted, b->ghidden, false, b->ghidden);
    f->grouped_linear_input(job, e, p, c, c, b->offset, b->ghidden, b->w1, false, b->by_place);
    s.weight = NULL;
    f->aggregate(job, &s, c, b->by_place, false, b->gx);
    f->grouped_linear_weight(job, e, p, c, c, b->offset, b->row, b->x, b->ghidden, b->gw1, b->gb1);
}

/*
 * The same with all experts for all rows. Hidden numbers [n, E*C] are [n*E, C] to the gates, and the sum over experts
 * is the inner dimension of the product back.
 */
static void
step_dense(const bench *b)
{
    const moe_backend *f = b->backend;
    moe_job *job = b->job;
    int64_t n = b->s.rows, c = b->s.channels, o = b->s.outputs, e = b->s.experts;
    f->linear(job, n, c, e * c, b->x, b->w1, b->b1, b->hidden);
    f->relu(job, n * e * c, b->hidden, b->hidden);
    f->multiply_column(job, n * e, c, b->hidden, b->gates, false, b->weighted);
    f->linear(job, n, e * c, o, b->weighted, b->w2, NULL, b->out);
    f->linear(job, n, e, o, b->gates, b->b2, NULL, b->out);

    f->linear_input(job, n, e * c, o, b->upstream, b->w2, false, b->ghidden);
    f->linear_weight(job, n, e * c, o, b->weighted, b->upstream, b->gw2);
    f->linear_weight(job, n, e, o, b->gates, b->upstream, b->gb2);
    f->row_dot(job, n * e, c, b->ghidden, b->hidden, false, b->ggates);
    f->multiply_column(job, n * e, c, b->ghidden, b->gates, false, b->ghidden);
    f->relu_backward(job, n * e * c, 1, b->hidden, b->ghidden, false, b->ghidden);
    f->linear_input(job, n, c, e * c, b->ghidden, b->w1, false, b->gx);
    f->linear_weight(job, n, c, e * c, b->x, b->ghidden, b->gw1);
    f->column_sum(job, n, e * c, b->ghidden, b->gb1);
}

/* The products alone: [P, C] by [C, C], of each expert, and of one. */
static void
forward_grouped(const bench *b)
{
    b->backend->grouped_linear(b->job, b->s.experts, b->places, b->s.channels, b->s.channels, b->offset, b->row, b->x,
                               b->w1, b->b1, b->hidden);
}

static void
forward_gemm(const bench *b)
{
    int64_t c = b->s.channels;
    moe_gemm_row(b->job, b->places, c, c, b->by_place, b->w1, b->b1, b->hidden);
}

static void
input_grouped(const bench *b)
{
    b->backend->grouped_linear_input(b->job, b->s.experts, b->places, b->s.channels, b->s.channels, b->offset,
                                     b->weighted, b->w1, false, b->by_place);
}

static void
input_gemm(const bench *b)
{
    int64_t c = b->s.channels;
    moe_gemm(b->job, false, true, b->places, c, c, b->weighted, c, b->w1, c, 0, b->by_place, c);
}

static void
weight_grouped(const bench *b)
{
    b->backend->grouped_linear_weight(b->job, b->s.experts, b->places, b->s.channels, b->s.channels, b->offset, b->row,
                                      b->x, b->weighted, b->gw1, b->gb1);
}

static void
weight_gemm(const bench *b)
{
    int64_t c = b->s.channels;
    moe_gemm(b->job, true, false, c, c, b->places, b->by_place, c, b->weighted, c, 1, b->gw1, c);
}

static int
compare_doubles(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

static double
median(double *x, int n)
{
    qsort(x, (size_t) n, sizeof *x, compare_doubles);
    return x[n / 2];
}

/* Median seconds of `ours`, and of the ratio of `theirs` to it. */
static double
compare(const bench *b, side ours, side theirs, int rounds, double *ratio)
{
    double seconds[MOST_ROUNDS], ratios[MOST_ROUNDS];
    ours(b);
    theirs(b);
    for (int i = 0; i < rounds; i++)
    {
        double start = now();
        ours(b);
        double between = now();
        theirs(b);
        seconds[i] = between - start;
        ratios[i] = (now() - between) / seconds[i];
    }
    check(b->job);
    *ratio = median(ratios, rounds);
    return median(seconds, rounds);
}

static void
report_products(moe_arena *arena, setting s, int rounds, bool json)
{
    static const struct
    {
        const char *name;
        side ours, theirs;
    } products[] = {{"forward", forward_grouped, forward_gemm},
                    {"input", input_grouped, input_gemm},
                    {"weight", weight_grouped, weight_gemm}};
    bench b = prepare(arena, s);
    for (int i = 0; i < 3; i++)
    {
        double ratio;
        double seconds = compare(&b, products[i].ours, products[i].theirs, rounds, &ratio);
        double gflops = 2e-9 * (double) b.places * (double) (s.channels * s.channels) / seconds;
        printf(
            json ? "{\"benchmark\": \"experts\", \"product\": \"%s\", \"experts\": %d, \"chosen\": %d, \"rows\": %lld, "
                   "\"channels\": %lld, \"us\": %.1f, \"gflops\": %.1f, \"of_sgemm\": %.3f, \"threads\": %d}\n"
                 : "%-8s %4d %3d %6lld %5lld  %9.1f us  %6.1f GFLOP/s  %5.2f of sgemm\n",
            products[i].name, s.experts, s.k, (long long) s.rows, (long long) s.channels, seconds * 1e6, gflops, ratio,
            moe_job_threads(b.job));
    }
    moe_arena_reset(arena);
}

static void
report_step(moe_arena *arena, setting s, int rounds, bool json)
{
    bench b = prepare(arena, s);
    double ratio;
    double seconds = compare(&b, step_grouped, step_dense, rounds, &ratio);
    printf(json
               ? "{\"benchmark\": \"experts\", \"product\": \"step\", \"experts\": %d, \"chosen\": %d, \"rows\": %lld, "
                 "\"channels\": %lld, \"us\": %.1f, \"dense_over_grouped\": %.3f, \"threads\": %d}\n"
               : "step     %4d %3d %6lld %5lld  %9.1f us  dense takes %5.2f times as long\n",
           s.experts, s.k, (long long) s.rows, (long long) s.channels, seconds * 1e6, ratio, moe_job_threads(b.job));
    moe_arena_reset(arena);
}

int
main(int argc, char **argv)
{
    static const setting products[] = {
        {4, 2, 4096, 128, 1}, {8, 2, 4096, 128, 1}, {8, 2, 512, 128, 1},  {64, 2, 4096, 128, 1}, {64, 2, 512, 128, 1},
        {8, 2, 4096, 64, 1},  {8, 2, 4096, 256, 1}, {8, 2, 4096, 512, 1}, {8, 2, 2048, 100, 1},  {16, 4, 2048, 128, 1}};
    static const int mixtures[][2] = {{1, 1}, {2, 1}, {2, 2}, {3, 2}, {4, 1}, {4, 2}, {4, 3}, {4, 4}, {8, 2}, {16, 2}};
    static const int64_t rows[] = {32, 512, 4096};
    static const int64_t channels[] = {64, 128, 256};
    bool json = false;
    long threads = 1, rounds = 9;
    for (int i = 1; i < argc; i++)
    {
        long value = i + 1 < argc ? atol(argv[i + 1]) : 0;
        if (strcmp(argv[i], "--json") == 0)
        {
            json = true;
            continue;
        }
        if (strcmp(argv[i], "--threads") == 0)
            threads = value;
        else if (strcmp(argv[i], "--rounds") == 0)
            rounds = value;
        else
            value = 0;
        i++;
        if (value < 1 || value > MOST_ROUNDS)
        {
            fprintf(stderr, "usage: bench/experts [--json] [--threads N] [--rounds N]\n");
            return 2;
        }
    }

    clock_used = threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC;

    moe_job *job;
    moe_job_config config = {.threads = (int) threads};
    if (moe_job_create(&config, &job) != MOE_OK)
        return 1;
    moe_blas_open(job);
    moe_arena *arena = moe_arena_create(job);
    check(job);
    for (size_t i = 0; i < sizeof products / sizeof *products; i++)
        report_products(arena, products[i], (int) rounds, json);
    for (size_t m = 0; m < sizeof mixtures / sizeof *mixtures; m++)
        for (int r = 0; r < 3; r++)
            for (int c = 0; c < 3; c++)
                report_step(arena, (setting){mixtures[m][0], mixtures[m][1], rows[r], channels[c], 1}, (int) rounds,
                            json);
    moe_job_destroy(job);
    return 0;
}
