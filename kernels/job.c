/*
 * job.c: memory, failure and cancellation of one unit of numeric work.
 *
 * Every block of memory carries a header in a list, so that destroy frees what
 * was forgotten and the sum of sizes can be held against the limit. What is
 * counted is what was asked of malloc, header and alignment included.
 */
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/device.h"
#include "kernels/memory.h"
#include "kernels/threads.h"

#define ALIGNMENT   64
#define MAX_THREADS 1024
#define MEGABYTE    (1024.0 * 1024.0)
#define HUGE_PAGE   ((size_t) 2 << 20)
#define HUGE_FROM   ((size_t) 4 << 20) /* bytes from which a block is worth it */

/* Stands in the 64 bytes before the memory it describes. */
typedef struct block
{
    struct block *previous;
    struct block *next;
    void *base;    /* what malloc gave */
    size_t offset; /* from there to the caller's bytes */
    size_t size;   /* bytes the caller asked for */
} block;

/* Header and the worst case of alignment. */
#define OVERHEAD (ALIGNMENT * 2)

struct moe_job
{
    moe_job_config config;
    _Atomic bool cancelled; /* seen once, it stays */
    moe_pool *pool;
    moe_device *device; /* NULL: the host */
    block *blocks;
    size_t used;
    size_t elsewhere; /* of the memory limit, by other jobs */
    size_t peak;
    moe_code code;
    char error[512];
};

moe_code
moe_job_create(const moe_job_config *config, moe_job **out)
{
    *out = NULL;
    moe_job *job = calloc(1, sizeof(moe_job));
    if (job == NULL)
        return MOE_OUT_OF_MEMORY;
    job->config = *config;
    int threads = config->threads < 1 ? 1 : config->threads > MAX_THREADS ? MAX_THREADS : config->threads;
    job->pool = moe_pool_create(threads - 1, config->waiting);
    if (job->pool == NULL)
    {
        free(job);
        return MOE_OUT_OF_MEMORY;
    }
    *out = job;
    return MOE_OK;
}

void
moe_job_waits(const moe_job *job, moe_wait wait)
{
    if (job->config.waiting != NULL)
        job->config.waiting(wait);
}

void
moe_job_destroy(moe_job *job)
{
    if (job == NULL)
        return;
    if (job->device != NULL)
        job->device->close(job->device);
    moe_pool_destroy(job->pool);
    while (job->blocks != NULL)
    {
        block *next = job->blocks->next;
        free(job->blocks->base);
        job->blocks = next;
    }
    free(job);
}

moe_device *
moe_job_device(const moe_job *job)
{
    return job->device;
}

void
moe_job_use_device(moe_job *job, moe_device *device)
{
    job->device = device;
}

void
moe_job_rest(moe_job *job)
{
    moe_pool_rest(job->pool);
}

int
moe_job_threads(const moe_job *job)
{
    return moe_pool_workers(job->pool) + 1;
}

bool
moe_job_cancelled(moe_job *job)
{
    if (job->cancelled)
        return true;
    if (job->config.cancelled == NULL || !job->config.cancelled(job->config.cancel_arg))
        return false;
    job->cancelled = true;
    return true;
}

void
moe_job_set_memory_elsewhere(moe_job *job, size_t bytes)
{
    job->elsewhere = bytes;
}

size_t
moe_job_memory_used(const moe_job *job)
{
    return job->used;
}

size_t
moe_job_memory_peak(const moe_job *job)
{
    return job->peak;
}

moe_code
moe_fail(moe_job *job, moe_code code, const char *format, ...)
{
    if (job->code == MOE_OK && code != MOE_OK)
    {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(job->error, sizeof(job->error), format, arguments);
        va_end(arguments);
        job->code = code;
    }
    return code;
}

const char *
moe_job_error(const moe_job *job)
{
    return job->error;
}

moe_code
moe_job_code(const moe_job *job)
{
    return job->code;
}

moe_code
moe_job_check(moe_job *job)
{
    if (job->code != MOE_OK)
        return job->code;
    if (moe_job_cancelled(job))
        return moe_fail(job, MOE_CANCELLED, "cancelled");
    return MOE_OK;
}

/* Whether `more` bytes on top of what is used stay within the limit. */
static bool
within_limit(const moe_job *job, size_t more)
{
    size_t total;
    return !__builtin_add_overflow(job->used, more, &total) && !__builtin_add_overflow(total, job->elsewhere, &total) &&
           (job->config.memory_limit == 0 || total <= job->config.memory_limit);
}

static void
count_memory(moe_job *job, size_t more, size_t less)
{
    job->used = job->used + more - less;
    if (job->used > job->peak)
        job->peak = job->used;
}

static block *
block_of(void *ptr)
{
    return (block *) ((char *) ptr - ALIGNMENT);
}

/* The aligned address for the caller's bytes within what malloc gave. */
static char *
aligned_content(void *base)
{
    uintptr_t content = ((uintptr_t) base + OVERHEAD) & ~(uintptr_t) (ALIGNMENT - 1);
    return (char *) content;
}

/* Write the header of a block at the head of the list; returns the caller's address. */
static void *
link_block(moe_job *job, void *base, size_t size)
{
    char *content = aligned_content(base);
    block *header = block_of(content);
    *header = (block){.next = job->blocks, .base = base, .offset = (size_t) (content - (char *) base), .size = size};
    if (job->blocks != NULL)
        job->blocks->previous = header;
    job->blocks = header;
    return content;
}

static void
unlink_block(moe_job *job, block *header)
{
    if (header->previous != NULL)
        header->previous->next = header->next;
    else
        job->blocks = header->next;
    if (header->next != NULL)
        header->next->previous = header->previous;
}

/*
 * Ask for huge pages in large blocks: tables are touched once from end to end, where a page fault for every 4 kB is a
 * good part of the cost, and then at random, where each would want a TLB entry of its own. A refusal changes nothing.
 */
static void
advise(void *base, size_t size)
{
#ifdef MADV_HUGEPAGE
    uintptr_t begin = ((uintptr_t) base + HUGE_PAGE - 1) & ~(uintptr_t) (HUGE_PAGE - 1);
    uintptr_t end = ((uintptr_t) base + size) & ~(uintptr_t) (HUGE_PAGE - 1);
    if (size >= HUGE_FROM && end > begin)
        madvise((void *) begin, end - begin, MADV_HUGEPAGE);
#endif
}

static void *
allocate(moe_job *job, size_t size, bool zero)
{
    if (size > SIZE_MAX - OVERHEAD || !within_limit(job, size + OVERHEAD))
        return NULL;
    void *base = zero ? calloc(1, size + OVERHEAD) : malloc(size + OVERHEAD);
    if (base == NULL)
        return NULL;
    advise(base, size + OVERHEAD);
    count_memory(job, size + OVERHEAD, 0);
    return link_block(job, base, size);
}

void *
moe_try_alloc(moe_job *job, size_t size)
{
    return allocate(job, size, false);
}

void *
moe_try_alloc_spare(moe_job *job, size_t size)
{
    return size <= SIZE_MAX / 2 && within_limit(job, 2 * size) ? moe_try_alloc(job, size) : NULL;
}

moe_code
moe_fail_alloc(moe_job *job, size_t size)
{
    if (size > SIZE_MAX - OVERHEAD || !within_limit(job, size + OVERHEAD))
    {
        double limit = (double) job->config.memory_limit;
        double excess = (double) job->used + (double) job->elsewhere + (double) size + OVERHEAD - limit;
        return moe_fail(job, MOE_LIMIT, "the work needs %.0f MB more than the memory limit of %.0f MB",
                        excess < MEGABYTE ? 1.0 : excess / MEGABYTE, limit / MEGABYTE);
    }
    return moe_fail(job, MOE_OUT_OF_MEMORY, "out of memory: the system did not give %.0f MB",
                    size < MEGABYTE ? 1.0 : size / MEGABYTE);
}

bool
moe_checked_size(moe_job *job, int64_t count, size_t size, size_t *bytes)
{
    if (count >= 0 && !__builtin_mul_overflow((size_t) count, size, bytes))
        return true;
    moe_fail(job, MOE_LIMIT, "%lld items of %zu bytes are more than can be addressed", (long long) count, size);
    return false;
}

void *
moe_alloc(moe_job *job, int64_t count, size_t size)
{
    size_t bytes;
    if (!moe_checked_size(job, count, size, &bytes))
        return NULL;
    void *ptr = allocate(job, bytes, true);
    if (ptr == NULL)
        moe_fail_alloc(job, bytes);
    return ptr;
}

void *
moe_realloc(moe_job *job, void *ptr, int64_t count, size_t size)
{
    if (ptr == NULL || ptr == moe_empty_string())
        return moe_alloc(job, count, size);
    size_t bytes;
    if (!moe_checked_size(job, count, size, &bytes))
        return NULL;

    block old = *block_of(ptr);
    size_t more = bytes > old.size ? bytes - old.size : 0;
    /* realloc moves large blocks by remapping pages, so old and new never stand in memory together. */
    void *base = bytes > SIZE_MAX - OVERHEAD || !within_limit(job, more) ? NULL : realloc(old.base, bytes + OVERHEAD);
    if (base == NULL)
    {
        moe_fail_alloc(job, more);
        return NULL;
    }
    advise(base, bytes + OVERHEAD);
    char *content = aligned_content(base);
    size_t kept = bytes < old.size ? bytes : old.size;
    if (content != (char *) base + old.offset)
        memmove(content, (char *) base + old.offset, kept);
    memset(content + kept, 0, bytes - kept);
    unlink_block(job, &old);
    count_memory(job, bytes, old.size);
    return link_block(job, base, bytes);
}

void
moe_free(moe_job *job, void *ptr)
{
    if (ptr == NULL || ptr == moe_empty_string())
        return;
    block *header = block_of(ptr);
    unlink_block(job, header);
    count_memory(job, 0, header->size + OVERHEAD);
    free(header->base);
}

char *
moe_empty_string(void)
{
    static char empty[1];
    return empty;
}

void
moe_parallel(moe_job *job, int64_t n, int64_t grain, moe_range_fn fn, void *arg)
{
    if (grain < 1)
        grain = 1;
    if (n > grain && moe_pool_workers(job->pool) > 0)
    {
        moe_pool_run(job->pool, n, grain, fn, arg);
        return;
    }
    for (int64_t begin = 0; begin < n; begin += grain)
        fn(begin, n - begin < grain ? n : begin + grain, arg);
}

void
moe_parallel_begin(moe_job *job, int64_t n, int64_t grain, moe_range_fn fn, void *arg)
{
    if (moe_pool_workers(job->pool) > 0)
        moe_pool_begin(job->pool, n, grain < 1 ? 1 : grain, fn, arg);
    else
        moe_parallel(job, n, grain, fn, arg);
}

void
moe_parallel_end(moe_job *job)
{
    if (moe_pool_workers(job->pool) > 0)
        moe_pool_end(job->pool);
}
