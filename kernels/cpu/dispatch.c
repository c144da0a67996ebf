/*
 * dispatch.c: which of the CPU backend's tables a machine runs.
 *
 * The backend is compiled for every machine of its architecture and, on
 * x86-64, again for AVX2 with FMA and for AVX-512 (core.mk). The best of these
 * that processor and system support is found on first use and stays. On one
 * kind of machine results are therefore the same; between kinds they differ in
 * the last bits, as sums are cut by the width of a vector.
 *
 * For tests and benchmarks, MOE_ML_CPU in the environment names another table.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/ops.h"

#define MOST_TABLES 3

extern const moe_backend moe_cpu_table;
#ifdef __x86_64__
extern const moe_backend moe_cpu_table_avx2;
extern const moe_backend moe_cpu_table_avx512;
#endif

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const moe_backend *tables[MOST_TABLES]; /* those that run here, the slowest first */
static int n_tables;
static const moe_backend *chosen;

static void
find_tables(void)
{
    tables[n_tables++] = &moe_cpu_table;
#ifdef __x86_64__
    /* These ask the system, too, whether it keeps the wide registers. */
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi2"))
        return;
    tables[n_tables++] = &moe_cpu_table_avx2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        tables[n_tables++] = &moe_cpu_table_avx512;
#endif
}

static void
choose(void)
{
    const char *wanted = getenv("MOE_ML_CPU");
    find_tables();
    for (int i = 0; wanted != NULL && i < n_tables; i++)
        chosen = strcmp(tables[i]->name, wanted) == 0 ? tables[i] : chosen;
    if (chosen != NULL)
        return;
    chosen = tables[n_tables - 1];
    if (wanted != NULL && wanted[0] != '\0')
        fprintf(stderr, "MOE_ML_CPU: \"%s\" does not run here, using \"%s\"\n", wanted, chosen->name);
}

const moe_backend *
moe_cpu_backend(void)
{
    pthread_once(&once, choose);
    return chosen;
}

const moe_backend *const *
moe_cpu_backends(int *n)
{
    pthread_once(&once, choose);
    *n = n_tables;
    return tables;
}
