/*
 * core.h: what the tests of the numeric core share.
 */
#ifndef MOE_TEST_CORE_H
#define MOE_TEST_CORE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/job.h"
#include "kernels/random.h"

/* A job without a memory limit. */
static inline moe_job *
start_job(int threads)
{
    moe_job_config config = {.threads = threads};
    moe_job *job;
    assert_int_equal(moe_job_create(&config, &job), MOE_OK);
    return job;
}

/* n draws from N(0, 1), owned by the job. */
static inline float *
normal_floats(moe_job *job, int64_t n, uint64_t key)
{
    float *values = moe_alloc(job, n, sizeof(float));
    assert_non_null(values);
    for (int64_t i = 0; i < n; i++)
        values[i] = (float) moe_random_normal(key, (uint64_t) i);
    return values;
}

#endif
