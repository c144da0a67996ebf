/*
 * threads.h: the worker threads of one job; see moe_parallel in job.h.
 */
#ifndef MOE_THREADS_H
#define MOE_THREADS_H

#include "kernels/job.h"

typedef struct moe_pool moe_pool;

/* A pool of up to `workers` threads, fewer where the system gives no more, which the first loop starts. NULL if there
 * is no memory for it. waiting: NULL, or told by who ends a loop while it waits for the threads. */
moe_pool *moe_pool_create(int workers, void (*waiting)(moe_wait wait));
/* Join the threads; the next loop starts others. */
void moe_pool_rest(moe_pool *pool);
/* Join the threads. NULL is allowed. */
void moe_pool_destroy(moe_pool *pool);
int moe_pool_workers(const moe_pool *pool); /* that there may be */
/* Open a loop for the workers alone; end: help with what is left of it, and wait. Nothing else may run in between. */
void moe_pool_begin(moe_pool *pool, int64_t n, int64_t grain, moe_range_fn fn, void *arg);
void moe_pool_end(moe_pool *pool);
void moe_pool_run(moe_pool *pool, int64_t n, int64_t grain, moe_range_fn fn, void *arg);

#endif
