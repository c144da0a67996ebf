/*
 * job.h: one unit of numeric work: its memory, threads, cancel flag and error.
 *
 * All memory of a job is counted against one hard limit and freed by
 * moe_job_destroy, whatever was forgotten. Worker threads belong to the job,
 * start with every signal blocked, and are joined by moe_job_destroy.
 * Only the thread that created the job may call these functions, and a
 * moe_parallel callback none of them but moe_job_cancelled.
 */
#ifndef MOE_JOB_H
#define MOE_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/status.h"

typedef struct moe_job moe_job;
typedef struct moe_device moe_device; /* device.h */

/* What the job's own thread waits for. */
typedef enum moe_wait
{
    MOE_WAIT_NONE,
    MOE_WAIT_THREADS, /* the job's other threads, which are about to end their part of a loop */
    MOE_WAIT_DEVICE
} moe_wait;

typedef struct moe_job_config
{
    int threads;                  /* 1 or more, the calling thread included */
    size_t memory_limit;          /* bytes; 0: none */
    bool (*cancelled)(void *arg); /* may be NULL; must be cheap and safe from any thread */
    void *cancel_arg;
    void (*waiting)(moe_wait wait); /* may be NULL; told by the job's own thread, MOE_WAIT_NONE when it goes on */
} moe_job_config;

/* Make a job; its threads are started by the first loop. On failure *out is NULL. */
moe_code moe_job_create(const moe_job_config *config, moe_job **out);
/* Close the job's device, join the threads and free everything the job owns. NULL is allowed. */
void moe_job_destroy(moe_job *job);

int moe_job_threads(const moe_job *job);
/* Join the threads of a job that is kept but not in use. */
void moe_job_rest(moe_job *job);
/* Once true it stays true. The one function here that a moe_parallel callback may call, to leave early. */
bool moe_job_cancelled(moe_job *job);
size_t moe_job_memory_used(const moe_job *job);
/* From now on other jobs take so many bytes of the same limit. What is used beyond it stays, but nothing is added. */
void moe_job_set_memory_elsewhere(moe_job *job, size_t bytes);
size_t moe_job_memory_peak(const moe_job *job);

/* Record a failure (the first one wins) and return its code. */
moe_code moe_fail(moe_job *job, moe_code code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The text of the first failure, or "". */
const char *moe_job_error(const moe_job *job);
moe_code moe_job_code(const moe_job *job);
/* The code of the first failure; MOE_CANCELLED (recorded) if the job was cancelled; else MOE_OK. */
moe_code moe_job_check(moe_job *job);
/* For kernels/: tell that the job's own thread begins to wait, or goes on. */
void moe_job_waits(const moe_job *job, moe_wait wait);

/*
 * count * size bytes, zeroed, 64-byte aligned; the product is checked for
 * overflow. NULL after recording MOE_LIMIT or MOE_OUT_OF_MEMORY. A count of 0
 * gives a valid pointer.
 */
void *moe_alloc(moe_job *job, int64_t count, size_t size);
/* Grow or shrink; old content is kept, what is new is zeroed. On failure NULL and ptr stays valid. */
void *moe_realloc(moe_job *job, void *ptr, int64_t count, size_t size);
/* Free early what moe_alloc gave. NULL is allowed. */
void moe_free(moe_job *job, void *ptr);

/*
 * A stack of memory within a job for values that die together (one step's
 * tape). Reset keeps the blocks for reuse.
 */
typedef struct moe_arena moe_arena;
moe_arena *moe_arena_create(moe_job *job);
/* The same in the memory of the job's device (device.h); where that is the host, no difference. */
moe_arena *moe_arena_create_on_device(moe_job *job);
void moe_arena_destroy(moe_arena *arena);
void *moe_arena_alloc(moe_arena *arena, int64_t count, size_t size); /* not zeroed, 64-byte aligned */
/* Only of memory of the host. */
void *moe_arena_zalloc(moe_arena *arena, int64_t count, size_t size);
void moe_arena_reset(moe_arena *arena);
moe_job *moe_arena_job(const moe_arena *arena);

/*
 * Call fn(begin, end, arg) over [0, n) in chunks of `grain` items on the job's
 * threads and wait. The chunks depend on n and grain alone, never on the
 * number of threads, so that a result that depends only on its chunk is the
 * same for any number of threads.
 */
typedef void (*moe_range_fn)(int64_t begin, int64_t end, void *arg);
void moe_parallel(moe_job *job, int64_t n, int64_t grain, moe_range_fn fn, void *arg);
/*
 * The same without waiting: the caller does something else meanwhile, and
 * waits with moe_parallel_end before it begins another loop or touches what fn
 * does. A caller that never comes back is waited for by moe_job_destroy, so
 * fn must use the job's memory only. With one thread, begin does all the work.
 */
void moe_parallel_begin(moe_job *job, int64_t n, int64_t grain, moe_range_fn fn, void *arg);
void moe_parallel_end(moe_job *job);

#endif
