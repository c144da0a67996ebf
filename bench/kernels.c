/*
 * kernels.c: measures the cases of kernel_cases.c; built and described by bench/kernels.
 *
 * A call is repeated in batches long enough for the clock, ending with a
 * download, which waits for a device; the best batch counts, as whatever else
 * runs on the machine can only add to it.
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

typedef struct ceilings
{
    double copy[2]; /* bytes a second: in the cache, beyond it */
    double product; /* operations a second */
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

/* Seconds of one call. */
static double
call_seconds(bench *b, bench_fn run)
{
    double least = moe_job_device(b->job) == NULL ? 1e-3 : 2e-2;
    b->first = true;
    batch_seconds(b, run, 1);
    b->first = false;
    bench_check(b);
    double once = batch_seconds(b, run, 1);
    int count = once > least ? 1 : (int) (least / (once + 1e-9)) + 1;
    double best = once, start = now(CLOCK_MONOTONIC);
    for (int i = 0; (i < 5 || now(CLOCK_MONOTONIC) - start < 0.3) && (i < 1 || now(CLOCK_MONOTONIC) - start < 5); i++)
    {
        double seconds = batch_seconds(b, run, count) / count;
        best = seconds < best ? seconds : best;
    }
    bench_check(b);
    return best;
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
    /* Memory that was never written is one page of zeros. */
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
    b->bytes = 12.0 * (double) (n * n);
    b->operations = 2.0 * (double) (n * n * n);
    if (moe_job_device(b->job) != NULL)
        b->backend->linear(b->job, n, n, n, b->slot[0], b->slot[1], NULL, b->slot[2]);
    else
        moe_gemm(b->job, false, false, n, n, n, b->slot[0], n, b->slot[1], n, 0, b->slot[2], n);
}

/* Print a line; a rate that does not apply is 0, a ceiling that is not there is 0. */
static void
report(const options *o, const bench *b, const char *name, double seconds, double copied, double multiplied)
{
    char size[64];
    double bytes = b->bytes / seconds, operations = b->operations / seconds;
    int length = snprintf(size, sizeof size, "%lld x %lld", (long long) b->size.rows, (long long) b->size.cols);
    if (b->size.other > 0)
        snprintf(size + length, sizeof size - (size_t) length, " x %lld", (long long) b->size.other);
    double of_copy = copied > 0 ? bytes / copied : 0, of_sgemm = multiplied > 0 ? operations / multiplied : 0;
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

static void
measure_ceilings(const options *o, const bench *start, ceilings *c)
{
    const struct
    {
        const char *name;
        bench_fn run;
        bench_size size;
    } ceiling[] = {{"copy", copy, {COPIED_IN_CACHE, 1}},
                   {"copy", copy, {COPIED_BEYOND, 1, 0, true}},
                   {"sgemm", product, {PRODUCT, PRODUCT, PRODUCT}},
                   {"random_rows", random_rows, {COPIED_BEYOND / RANDOM_COLS, RANDOM_COLS, 0, true}}};
    for (int i = 0; i < (moe_job_device(start->job) == NULL ? 4 : 3); i++)
    {
        bench b = *start;
        b.size = ceiling[i].size;
        double seconds = call_seconds(&b, ceiling[i].run);
        if (ceiling[i].run == copy)
            c->copy[i] = b.bytes / seconds;
        if (ceiling[i].run == product)
            c->product = b.operations / seconds;
        report(o, &b, ceiling[i].name, seconds, c->copy[b.size.beyond], c->product);
        release(&b);
    }
}

static void
measure_case(const options *o, const bench *start, const ceilings *c, const bench_case *k)
{
    bool naive = strcmp(start->backend->name, "reference") == 0;
    if (*(void *const *) ((const char *) start->backend + k->operation) == NULL)
    {
        fprintf(stderr, "the backend %s has no %s\n", start->backend->name, k->name);
        return;
    }
    for (const bench_size *size = k->sizes; size->rows > 0; size++)
    {
        if (naive && size->beyond)
            continue;
        double multiplied = c->product;
        if (k->against != NULL)
        {
            bench dense = *start;
            dense.size = *size;
            double seconds = call_seconds(&dense, k->against);
            multiplied = dense.operations / seconds;
            release(&dense);
        }
        bench b = *start;
        b.size = *size;
        double seconds = call_seconds(&b, k->run);
        report(o, &b, k->name, seconds, c->copy[size->beyond], multiplied);
        release(&b);
    }
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
    ceilings c = {0};
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
    measure_ceilings(&o, &b, &c);
    for (int i = 0; i < bench_case_count; i++)
        if (o.only == NULL || strcmp(o.only, bench_cases[i].name) == 0)
            measure_case(&o, &b, &c, &bench_cases[i]);
    moe_job_destroy(b.job);
    return 0;
}
