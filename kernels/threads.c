/*
 * threads.c: a pool of worker threads that share out the chunks of one loop.
 *
 * The caller publishes a loop under the lock, wakes the workers and takes
 * chunks itself; a chunk is claimed by one atomic increment. A worker that
 * wakes late finds the loop closed and goes back to sleep, so the caller waits
 * only for those which took part.
 *
 * To sleep and be woken takes a good part of a tenth of a millisecond, and
 * a training step has hundreds of loops that take less. So whoever waits first
 * looks again and again for about as long as that would take, and then sleeps:
 * at worst twice what knowing the future would cost (Karlin et al. 1991,
 * Empirical studies of competitive spinning). Where there are more threads
 * than processors the one waited for would be kept from its work, and nobody
 * looks.
 *
 * Workers are started by the first loop, and again by the first after a rest.
 * They start with every signal blocked: a server's signal handlers must run
 * on its own thread.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sched_getaffinity */
#endif
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "kernels/threads.h"

#define LOOK_NANOSECONDS 50000
#define LOOKS_A_TIME     16

struct moe_pool
{
    pthread_mutex_t lock;
    pthread_cond_t wake; /* a loop was opened, or stop was set */
    pthread_cond_t idle; /* the last active worker left the loop */
    bool open;           /* the loop below still has chunks to claim */
    bool stop;
    bool looks;              /* before it sleeps */
    _Atomic int active;      /* workers inside the loop; changed under the lock */
    _Atomic uint64_t opened; /* number of loops so far: a worker enters each once; changed under the lock */
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

static int64_t
nanoseconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t) time.tv_sec * 1000000000 + time.tv_nsec;
}

static void
look_away(void)
{
    for (int i = 0; i < LOOKS_A_TIME; i++)
    {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("isb");
#endif
    }
}

/* For a while, until a loop is opened that was not seen. */
static void
look_for_loop(moe_pool *pool, uint64_t seen)
{
    for (int64_t start = nanoseconds();
         atomic_load_explicit(&pool->opened, memory_order_relaxed) == seen && nanoseconds() - start < LOOK_NANOSECONDS;)
        look_away();
}

/* For a while, until no worker is in the loop. */
static void
look_for_idle(moe_pool *pool)
{
    for (int64_t start = nanoseconds();
         atomic_load_explicit(&pool->active, memory_order_relaxed) > 0 && nanoseconds() - start < LOOK_NANOSECONDS;)
        look_away();
}

static void *
worker_main(void *arg)
{
    moe_pool *pool = arg;
    uint64_t seen = 0;
    bool looked = false;

    pthread_mutex_lock(&pool->lock);
    while (!pool->stop)
    {
        if (!pool->open || pool->opened == seen)
        {
            if (looked || !pool->looks)
                pthread_cond_wait(&pool->wake, &pool->lock);
            else
            {
                uint64_t last = pool->opened;
                pthread_mutex_unlock(&pool->lock);
                look_for_loop(pool, last);
                pthread_mutex_lock(&pool->lock);
            }
            looked = true;
            continue;
        }
        looked = false;
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

/* Whether each of the threads, the caller's included, may have a processor of its own. */
static bool
each_has_processor(int threads)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) >= threads;
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
    pool->looks = each_has_processor(pool->wanted + 1);
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
    if (pool->active > 0 && pool->looks)
    {
        pthread_mutex_unlock(&pool->lock);
        look_for_idle(pool);
        pthread_mutex_lock(&pool->lock);
    }
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
