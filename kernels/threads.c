/*
 * threads.c: a pool of worker threads that share out the chunks of one loop.
 *
 * The caller publishes a loop under the lock, wakes the workers and takes
 * chunks itself; a chunk is claimed by one atomic increment. A worker that
 * wakes late finds the loop closed and goes back to sleep, so the caller waits
 * only for those which took part.
 *
 * Workers are started by the first loop, and again by the first after a rest.
 * They start with every signal blocked: a server's signal handlers must run
 * on its own thread.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "kernels/threads.h"

struct moe_pool
{
    pthread_mutex_t lock;
    pthread_cond_t wake; /* a loop was opened, or stop was set */
    pthread_cond_t idle; /* the last active worker left the loop */
    bool open;           /* the loop below still has chunks to claim */
    bool stop;
    int active;      /* workers inside the loop */
    uint64_t opened; /* number of loops so far: a worker enters each once */
    int64_t n;
    int64_t grain;
    moe_range_fn fn;
    void *arg;
    _Atomic int64_t next; /* first item not yet claimed */
    void (*waiting)(moe_wait wait);
    int wanted;
    bool started;
    int workers; /* that run */
    pthread_t threads[];
};

/* Claim and run chunks until none is left. */
static void
run_chunks(moe_pool *pool)
{
    for (;;)
    {
        int64_t begin = atomic_fetch_add_explicit(&pool->next, pool->grain, memory_order_relaxed);
        if (begin >= pool->n)
            return;
        pool->fn(begin, pool->n - begin < pool->grain ? pool->n : begin + pool->grain, pool->arg);
    }
}

static void *
worker_main(void *arg)
{
    moe_pool *pool = arg;
    uint64_t seen = 0;

    pthread_mutex_lock(&pool->lock);
    while (!pool->stop)
    {
        if (!pool->open || pool->opened == seen)
        {
            pthread_cond_wait(&pool->wake, &pool->lock);
            continue;
        }
        seen = pool->opened;
        pool->active++;
        pthread_mutex_unlock(&pool->lock);
        run_chunks(pool);
        pthread_mutex_lock(&pool->lock);
        if (--pool->active == 0)
            pthread_cond_signal(&pool->idle);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

moe_pool *
moe_pool_create(int workers, void (*waiting)(moe_wait wait))
{
    moe_pool *pool = calloc(1, sizeof(moe_pool) + (size_t) workers * sizeof(pthread_t));
    if (pool == NULL)
        return NULL;
    pool->wanted = workers;
    pool->waiting = waiting;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->idle, NULL);
    return pool;
}

/* As many as the system gives: the caller of a loop does what is left. */
static void
start(moe_pool *pool)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pool->started = true;
    pool->stop = false;
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool->workers < pool->wanted && pthread_create(&pool->threads[pool->workers], NULL, worker_main, pool) == 0)
        pool->workers++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void
moe_pool_rest(moe_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->stop = true;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->workers; i++)
        pthread_join(pool->threads[i], NULL);
    pool->workers = 0;
    pool->started = false;
}

void
moe_pool_destroy(moe_pool *pool)
{
    if (pool == NULL)
        return;
    moe_pool_rest(pool);
    pthread_cond_destroy(&pool->idle);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

int
moe_pool_workers(const moe_pool *pool)
{
    return pool->wanted;
}

void
moe_pool_begin(moe_pool *pool, int64_t n, int64_t grain, moe_range_fn fn, void *arg)
{
    if (!pool->started)
        start(pool);
    pthread_mutex_lock(&pool->lock);
    pool->n = n;
    pool->grain = grain;
    pool->fn = fn;
    pool->arg = arg;
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    pool->opened++;
    pool->open = true;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}

void
moe_pool_end(moe_pool *pool)
{
    run_chunks(pool);

    pthread_mutex_lock(&pool->lock);
    pool->open = false;
    bool waits = pool->active > 0 && pool->waiting != NULL;
    if (waits)
        pool->waiting(MOE_WAIT_THREADS);
    while (pool->active > 0)
        pthread_cond_wait(&pool->idle, &pool->lock);
    if (waits)
        pool->waiting(MOE_WAIT_NONE);
    pthread_mutex_unlock(&pool->lock);
}

void
moe_pool_run(moe_pool *pool, int64_t n, int64_t grain, moe_range_fn fn, void *arg)
{
    moe_pool_begin(pool, n, grain, fn, arg);
    moe_pool_end(pool);
}
