/*
 * kernels.h: what bench/kernels times: one case is one operation, on a list of sizes.
 */
#ifndef MOE_BENCH_KERNELS_H
#define MOE_BENCH_KERNELS_H

#include <time.h>

#include "kernels/device.h"

#define BENCH_SLOTS 16

typedef struct bench_size
{
    int64_t rows; /* 0 ends a list */
    int64_t cols;
    int64_t other; /* as the case says; 0: not used */
    bool beyond;   /* larger than the caches */
} bench_size;

/* One case on one size. Arrays live in slots: made by the first call, found by the others. */
typedef struct bench
{
    moe_job *job;
    const moe_backend *backend;
    bench_size size;
    bool first;
    clockid_t clock;
    double bytes; /* that one call must move */
    double operations;
    void *slot[BENCH_SLOTS];
} bench;

typedef void (*bench_fn)(bench *b);

typedef struct bench_case
{
    const char *name;
    bench_fn run; /* one call; sets bytes and operations */
    const bench_size *sizes;
    size_t operation; /* where in moe_backend it stands */
    bench_fn against; /* the product of the same size; NULL: the ceiling is that of all */
} bench_case;

extern const bench_case bench_cases[];
extern const int bench_case_count;

/* Exit with the job's failure, if there is one. */
void bench_check(bench *b);

#endif
