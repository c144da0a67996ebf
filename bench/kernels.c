/*
 * kernels.c: measures the cases of kernel_cases.c; built and described by bench/kernels.
 *
 * A call is repeated in batches long enough for the clock, ending with a
 * download, which waits for a device. What the machine can do is measured in
 * turn with it, batch by batch: what memory gives changes from second to
 * second on a shared machine, by a factor of two, and only what was measured
 * side by side can be compared. Medians of the rounds count.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/kernels.h"
#include "kernels/blas.h"
#include "kernels/random.h"

#define COPIED_IN_CACHE ((int64_t) 1 << 20) /* floats */
#define COPIED_BEYOND   ((int64_t) 32 << 20)
#define PRODUCT         2048
#define RANDOM_COLS     128
#define RANDOM_AHEAD    16

typedef struct options
{
    bool json;
    bool processor;
    int threads;
    const char *only;
    const char *device;
    const char *module;
} options;

#define ROUNDS_LEAST 7
#define ROUNDS_MOST  400
#define SECONDS_EACH 0.3 /* of one of those measured in turn */

/* One of those that are measured in turn. */
typedef struct timed
{
    bench b;
    bench_fn run;
    int count;                   /* calls a batch */
    double seconds[ROUNDS_MOST]; /* of one call, round by round */
} timed;

/* What the machine can do: measured in turn with each operation. */
typedef struct ceilings
{
    timed copy[2]; /* in the cache, beyond it */
    timed product;
} ceilings;

void
bench_check(bench *b)
{
    if (moe_job_check(b->job) == MOE_OK)
        return;
    fprintf(stderr, "bench/kernels: %s\n", moe_job_error(b->job));
    exit(1);
}

static double
now(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (double) time.tv_sec + 1e-9 * (double) time.tv_nsec;
}

/* Seconds of `count` calls, all work done; the processor's are shared out to the threads. */
static double
batch_seconds(bench *b, bench_fn run, int count)
{
    float waited;
    double start = now(b->clock);
    for (int i = 0; i < count; i++)
        run(b);
    if (moe_job_device(b->job) != NULL)
        moe_download(b->job, &waited, b->slot[0], sizeof waited);
    return (now(b->clock) - start) / (b->clock == CLOCK_MONOTONIC ? 1 : moe_job_threads(b->job));
}

/* Make the arrays, and find how many calls a batch takes. */
static void
prepare(timed *t, const bench *start, bench_size size, bench_fn run)
{
    bench *b = &t->b;
    double least = moe_job_device(start->job) == NULL ? 1e-3 : 2e-2;
    *b = *start;
    b->size = size;
    t->run = run;
    b->first = true;
    batch_seconds(b, run, 1);
    b->first = false;
    bench_check(b);
    double once = batch_seconds(b, run, 1);
    t->count = once > least ? 1 : (int) (least / (once + 1e-9)) + 1;
}

/* Take turns; the number of rounds. */
static int
take_turns(timed *const *turns, int n)
{
    double start = now(CLOCK_MONOTONIC);
    int rounds = 0;
    while (rounds < ROUNDS_MOST && (rounds < ROUNDS_LEAST || now(CLOCK_MONOTONIC) - start < n * SECONDS_EACH))
    {
        for (int i = 0; i < n; i++)
            turns[i]->seconds[rounds] = batch_seconds(&turns[i]->b, turns[i]->run, turns[i]->count) / turns[i]->count;
        rounds++;
    }
    for (int i = 0; i < n; i++)
        bench_check(&turns[i]->b);
    return rounds;
}

static int
compare_doubles(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

/* Of x[i] / y[i], or of x where y is NULL. */
static double
median(const double *x, const double *y, int n)
{
    double sorted[ROUNDS_MOST];
    for (int i = 0; i < n; i++)
        sorted[i] = y == NULL ? x[i] : x[i] / y[i];
    qsort(sorted, (size_t) n, sizeof *sorted, compare_doubles);
    return n % 2 == 1 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

static void
release(bench *b)
{
    for (int i = 0; i < BENCH_SLOTS; i++)
        moe_device_free(b->job, b->slot[i]);
    memset(b->slot, 0, sizeof b->slot);
}

typedef float block __attribute__((vector_size(32), aligned(4), may_alias));

typedef struct copied
{
    const float *from;
    float *to;
} copied;

typedef struct picked
{
    const float *from;
    const int32_t *index;
    float *to;
} picked;

/* By plain stores: a compiler left alone would call memcpy, which may write past the cache. */
static void
copy_range(int64_t begin, int64_t end, void *arg)
{
    const copied *c = arg;
    for (int64_t i = begin; i < end; i += 8)
    {
        *(block *) (c->to + i) = *(const block *) (c->from + i);
        __asm__ volatile("");
    }
}

static void
copy(bench *b)
{
    int64_t n = b->size.rows * b->size.cols;
    for (int i = 0; b->first && i < 2; i++)
        b->slot[i] = moe_device_alloc(b->job, n, sizeof(float));
    bench_check(b);
    b->bytes = 8.0 * (double) n;
    if (moe_job_device(b->job) != NULL)
    {
        moe_device_copy(b->job, b->slot[1], b->slot[0], (size_t) n * sizeof(float));
        return;
    }
    /* Memory that was never written is one page of zeros, which the cache holds. */
    if (b->first)
        memset(b->slot[0], 1, (size_t) n * sizeof(float));
    copied c = {b->slot[0], b->slot[1]};
    moe_parallel(b->job, n, 32768, copy_range, &c);
}

/* Each thread reads rows of RANDOM_COLS floats from a matrix beyond the cache, in any order, fetched ahead, to no end.
 */
static void
random_range(int64_t begin, int64_t end, void *arg)
{
    const picked *p = arg;
    block sum[4] = {{0}};
    for (int64_t i = begin; i < end; i++)
    {
        const float *row = p->from + (int64_t) p->index[i] * RANDOM_COLS;
        for (int j = 0; i + RANDOM_AHEAD < end && j < RANDOM_COLS; j += 16)
            __builtin_prefetch(p->from + (int64_t) p->index[i + RANDOM_AHEAD] * RANDOM_COLS + j);
        for (int j = 0; j < RANDOM_COLS; j += 32)
            for (int v = 0; v < 4; v++)
                sum[v] += *(const block *) (row + j + 8 * v);
    }
    p->to[begin % RANDOM_COLS] = sum[0][0] + sum[1][0] + sum[2][0] + sum[3][0];
}

/* Without a device, whose own operations say as much. */
static void
random_rows(bench *b)
{
    int64_t rows = b->size.rows;
    for (int i = 0; b->first && i < 3; i++)
        b->slot[i] = moe_device_alloc(b->job, i == 1 ? rows : rows * RANDOM_COLS, sizeof(float));
    bench_check(b);
    int32_t *index = b->slot[1];
    if (b->first)
        memset(b->slot[0], 1, (size_t) (rows * RANDOM_COLS) * sizeof(float));
    for (int64_t i = 0; b->first && i < rows; i++)
        index[i] = (int32_t) (moe_random_uniform(1, (uint64_t) i) * (double) rows);
    b->bytes = 4.0 * (double) (rows * (RANDOM_COLS + 1));
    picked p = {b->slot[0], b->slot[1], b->slot[2]};
    moe_parallel(b->job, rows, 1024, random_range, &p);
}

static void
product(bench *b)
{
    int64_t n = PRODUCT;
    for (int i = 0; b->first && i < 3; i++)
        b->slot[i] = moe_device_alloc(b->job, n * n, sizeof(float));
    bench_check(b);
    for (int i = 0; b->first && moe_job_device(b->job) == NULL && i < 2; i++)
        for (int64_t j = 0; j < n * n; j++)
            ((float *) b->slot[i])[j] = (float) (j % 7);
    b->bytes = 12.0 * (double) (n * n);
    b->operations = 2.0 * (double) (n * n * n);
    if (moe_job_device(b->job) != NULL)
        b->backend->linear(b->job, n, n, n, b->slot[0], b->slot[1], NULL, b->slot[2]);
    else
        moe_gemm(b->job, false, false, n, n, n, b->slot[0], n, b->slot[1], n, 0, b->slot[2], n);
}

/*
 * Print a line of what was measured in `rounds` turns. Shares are those of the same rounds; NULL: there is no such
 * ceiling.
 */
static void
report(const options *o, const char *name, const timed *t, const timed *copied, const timed *multiplied, int rounds)
{
    char size[64];
    const bench *b = &t->b;
    double seconds = median(t->seconds, NULL, rounds);
    double bytes = b->bytes / seconds, operations = b->operations / seconds, of_copy = 0, of_sgemm = 0;
    int length = snprintf(size, sizeof size, "%lld x %lld", (long long) b->size.rows, (long long) b->size.cols);
    if (b->size.other > 0)
        snprintf(size + length, sizeof size - (size_t) length, " x %lld", (long long) b->size.other);
    if (copied != NULL)
        of_copy = median(copied->seconds, t->seconds, rounds) * b->bytes / copied->b.bytes;
    if (multiplied != NULL)
        of_sgemm = median(multiplied->seconds, t->seconds, rounds) * b->operations / multiplied->b.operations;
    if (o->json)
        printf("{\"benchmark\": \"kernels\", \"operation\": \"%s\", \"size\": \"%s\", \"backend\": \"%s\", "
               "\"threads\": %d, \"ms\": %.5f, \"gb_s\": %.3f, \"of_copy\": %.3f, \"gflop_s\": %.3f, "
               "\"of_sgemm\": %.3f}\n",
               name, size, b->backend->name, moe_job_threads(b->job), seconds * 1e3, bytes * 1e-9, of_copy,
               operations * 1e-9, of_sgemm);
    else
        printf("%-26s %-22s %10.4f %9.2f %8.0f%% %9.2f %8.0f%%\n", name, size, seconds * 1e3, bytes * 1e-9,
               100 * of_copy, operations * 1e-9, 100 * of_sgemm);
    fflush(stdout);
}

/* `run` in turn with a copy, and with `against` or, where it counts operations, the product of all. */
static void
measure(const options *o, const bench *start, ceilings *c, const char *name, bench_size size, bench_fn run,
        bench_fn against)
{
    static timed t, dense;
    timed *copied = &c->copy[size.beyond], *multiplied = NULL;
    prepare(&t, start, size, run);
    if (against != NULL)
        prepare(multiplied = &dense, start, size, against);
    else if (t.b.operations > 0)
        multiplied = &c->product;
    timed *turns[] = {&t, copied, multiplied};
    int rounds = take_turns(turns, multiplied == NULL ? 2 : 3);
    report(o, name, &t, copied, multiplied, rounds);
    release(&t.b);
    if (against != NULL)
        release(&dense.b);
}

static void
prepare_ceilings(const bench *start, ceilings *c)
{
    prepare(&c->copy[0], start, (bench_size){COPIED_IN_CACHE, 1}, copy);
    prepare(&c->copy[1], start, (bench_size){COPIED_BEYOND, 1, 0, true}, copy);
    prepare(&c->product, start, (bench_size){PRODUCT, PRODUCT, PRODUCT}, product);
}

static void
measure_ceilings(const options *o, const bench *start, ceilings *c)
{
    timed *turns[] = {&c->copy[0], &c->copy[1], &c->product};
    int rounds = take_turns(turns, 3);
    for (int i = 0; i < 2; i++)
        report(o, "copy", &c->copy[i], &c->copy[i], NULL, rounds);
    report(o, "sgemm", &c->product, NULL, &c->product, rounds);
    if (moe_job_device(start->job) == NULL)
        measure(o, start, c, "random_rows", (bench_size){COPIED_BEYOND / RANDOM_COLS, RANDOM_COLS, 0, true},
                random_rows, NULL);
}

static void
measure_case(const options *o, const bench *start, ceilings *c, const bench_case *k)
{
    bool naive = strcmp(start->backend->name, "reference") == 0;
    if (*(void *const *) ((const char *) start->backend + k->operation) == NULL)
    {
        fprintf(stderr, "the backend %s has no %s\n", start->backend->name, k->name);
        return;
    }
    for (const bench_size *size = k->sizes; size->rows > 0; size++)
        if (!naive || !size->beyond)
            measure(o, start, c, k->name, *size, k->run, k->against);
}

static bool
is_known(const char *name)
{
    for (int i = 0; i < bench_case_count; i++)
        if (strcmp(bench_cases[i].name, name) == 0)
            return true;
    return strcmp(name, "copy") == 0 || strcmp(name, "sgemm") == 0 || strcmp(name, "random_rows") == 0;
}

static bool
parse(int argc, char **argv, options *o)
{
    for (int i = 1; i < argc; i++)
    {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--json") == 0)
        {
            o->json = true;
            continue;
        }
        if (strcmp(argv[i], "--processor") == 0)
        {
            o->processor = true;
            continue;
        }
        i++;
        if (value == NULL)
            return false;
        if (strcmp(argv[i - 1], "--threads") == 0)
            o->threads = atoi(value);
        else if (strcmp(argv[i - 1], "--only") == 0)
            o->only = value;
        else if (strcmp(argv[i - 1], "--device") == 0)
            o->device = value;
        else if (strcmp(argv[i - 1], "--module") == 0)
            o->module = value;
        else
            return false;
    }
    if (o->only != NULL && !is_known(o->only))
    {
        fprintf(stderr, "bench/kernels: there is no operation \"%s\"; there are copy, sgemm, random_rows", o->only);
        for (int i = 0; i < bench_case_count; i++)
            fprintf(stderr, ", %s", bench_cases[i].name);
        fprintf(stderr, "\n");
        return false;
    }
    return o->threads >= 1 && o->threads <= 1024 &&
           (strcmp(o->device, "cpu") == 0 || strcmp(o->device, "cuda") == 0 || strcmp(o->device, "reference") == 0);
}

int
main(int argc, char **argv)
{
    options o = {.threads = 1, .device = "cpu", .module = "."};
    char reason[512];
    bench b = {0};
    static ceilings c;
    if (!parse(argc, argv, &o))
    {
        fprintf(stderr,
                "usage: bench/kernels [--json] [--processor] [--threads N] [--only NAME] [--device cpu|cuda|reference] "
                "[--module DIR]\n");
        return 2;
    }
    b.clock = o.processor ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC;
    moe_job_config config = {.threads = o.threads};
    if (moe_job_create(&config, &b.job) != MOE_OK)
        return 1;
    if (strcmp(o.device, "cuda") == 0)
    {
        if (!moe_device_open_cuda(b.job, o.module, 0, reason, sizeof reason))
        {
            fprintf(stderr, "bench/kernels: no device: %s\n", reason);
            return 1;
        }
    }
    else
        moe_blas_open(b.job);
    bench_check(&b);
    b.backend = strcmp(o.device, "reference") == 0 ? &moe_backend_reference : moe_job_backend(b.job);
    if (!o.json)
        printf("%s, %d thread%s%s%s\n%-26s %-22s %10s %9s %9s %9s %9s\n", b.backend->name, moe_job_threads(b.job),
               o.threads == 1 ? "" : "s", moe_blas_version() == NULL ? "" : ", ",
               moe_blas_version() == NULL ? "" : moe_blas_version(), "operation", "size", "ms", "GB/s", "of copy",
               "GFLOP/s", "of sgemm");
    prepare_ceilings(&b, &c);
    measure_ceilings(&o, &b, &c);
    for (int i = 0; i < bench_case_count; i++)
        if (o.only == NULL || strcmp(o.only, bench_cases[i].name) == 0)
            measure_case(&o, &b, &c, &bench_cases[i]);
    release(&c.copy[0].b);
    release(&c.copy[1].b);
    release(&c.product.b);
    moe_job_destroy(b.job);
    return 0;
}
