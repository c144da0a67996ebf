/*
 * backends.c: the backends that are present on this machine.
 *
 * The CUDA module is looked for in the folders below, the first of which can be
 * given in MOE_CUDA_MODULE; a process loads one.
 */
#include "ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/blas.h"

moe_job *
ops_start(const ops_backend *backend, int threads, char *reason, size_t size)
{
    moe_job *job = start_job(threads);
    if (backend->module != NULL && !moe_device_open_cuda(job, backend->module, 0, reason, size))
    {
        moe_job_destroy(job);
        return NULL;
    }
    if (backend->module == NULL && moe_blas_open(job) != MOE_OK)
        fail_msg("%s", moe_job_error(job));
    return job;
}

/* The device, if it can be opened; else say why not. */
static int
find_device(ops_backend *out)
{
    const char *given = getenv("MOE_CUDA_MODULE");
    const char *folder = given != NULL ? given : ".";
    char reason[512] = "";
    *out = (ops_backend){.name = "cuda", .module = folder, .looser = 4};
    moe_job *job = ops_start(out, 1, reason, sizeof(reason));
    if (job == NULL)
    {
        print_message("not checked: cuda: %s\n", reason);
        if (given != NULL)
            fail_msg("MOE_CUDA_MODULE is given, but there is no device");
        return 0;
    }
    print_message("checked: cuda: %s\n", moe_job_device(job)->name);
    moe_job_destroy(job);
    return 1;
}

/* The tables of the CPU backend that run here. */
static int
cpu_backends(ops_backend *list)
{
    int n;
    const moe_backend *const *tables = moe_cpu_backends(&n);
#ifdef __SANITIZE_THREAD__
    /* What threads share does not depend on the instructions. */
    tables += n - 1;
    n = 1;
#endif
    for (int i = 0; i < n; i++)
        list[i] = (ops_backend){.name = tables[i]->name, .table = tables[i], .looser = 1};
#if defined(MOE_AVX512_IN_HALVES) && !defined(__SANITIZE_THREAD__)
    /* Built by test/unit/run with vectors as wide, of two registers each, where there are no wider ones. */
    extern const moe_backend moe_cpu_table_avx512;
    list[n++] = (ops_backend){.name = "cpu-avx512 in halves", .table = &moe_cpu_table_avx512, .looser = 1};
#endif
    for (int i = 0; i < n; i++)
        print_message("checked: %s\n", list[i].name);
    return n;
}

int
ops_backends(ops_backend list[OPS_MOST_BACKENDS])
{
    int n = cpu_backends(list);
    return n + find_device(&list[n]);
}
