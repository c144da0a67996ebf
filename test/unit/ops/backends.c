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

int
ops_backends(ops_backend list[OPS_MOST_BACKENDS])
{
    int n = 0;
    list[n++] = (ops_backend){.name = "cpu", .table = &moe_backend_cpu, .looser = 1};
    n += find_device(&list[n]);
    return n;
}
