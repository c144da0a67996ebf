/*
 * arena.c: a stack of memory for values that die together, on the host or on a device.
 *
 * Memory is cut from large blocks, first fit. Reset makes all blocks empty and
 * keeps them; a block that stayed empty for IDLE_RESETS resets in a row is
 * freed, and all empty blocks are freed before the memory limit is said to be
 * reached, so that what is kept is bounded by what recent steps used. Headers
 * are the host's, apart from the blocks, which may lie on a device.
 */
#include <string.h>

#include "kernels/device.h"
#include "kernels/memory.h"

#define HOST_ALIGNMENT   64
#define DEVICE_ALIGNMENT 256
#define SMALLEST_BLOCK   ((size_t) 256 << 10)
#define LARGEST_BLOCK    ((size_t) 64 << 20)
#define IDLE_RESETS      8

typedef struct arena_block
{
    struct arena_block *next;
    char *memory;
    size_t size;
    size_t used;
    int idle; /* resets since it last held anything */
} arena_block;

struct moe_arena
{
    moe_job *job;
    moe_device *device; /* whose memory it is; NULL: the host's */
    arena_block *blocks;
    size_t total; /* bytes in all blocks */
};

moe_arena *
moe_arena_create(moe_job *job)
{
    moe_arena *arena = moe_alloc(job, 1, sizeof(moe_arena));
    if (arena != NULL)
        arena->job = job;
    return arena;
}

moe_arena *
moe_arena_create_on_device(moe_job *job)
{
    moe_arena *arena = moe_arena_create(job);
    if (arena != NULL)
        arena->device = moe_job_device(job);
    return arena;
}

/* Memory for a block; NULL, without a record, where there is not enough. */
static char *
try_memory(const moe_arena *arena, size_t size)
{
    return arena->device == NULL ? moe_try_alloc(arena->job, size) : arena->device->alloc(arena->device, size, false);
}

static void
free_memory(const moe_arena *arena, char *memory)
{
    if (arena->device == NULL)
        moe_free(arena->job, memory);
    else
        arena->device->release(arena->device, memory);
}

/* Free the blocks that have been empty for at least `idle` resets. */
static void
free_idle_blocks(moe_arena *arena, int idle)
{
    arena_block **link = &arena->blocks;
    while (*link != NULL)
    {
        arena_block *block = *link;
        if (block->used > 0 || block->idle < idle)
        {
            link = &block->next;
            continue;
        }
        *link = block->next;
        arena->total -= block->size;
        free_memory(arena, block->memory);
        moe_free(arena->job, block);
    }
}

void
moe_arena_destroy(moe_arena *arena)
{
    if (arena == NULL)
        return;
    for (arena_block *block = arena->blocks; block != NULL; block = block->next)
        block->used = 0;
    free_idle_blocks(arena, 0);
    moe_free(arena->job, arena);
}

void
moe_arena_reset(moe_arena *arena)
{
    for (arena_block *block = arena->blocks; block != NULL; block = block->next)
    {
        block->idle = block->used > 0 ? 0 : block->idle + 1;
        block->used = 0;
    }
    free_idle_blocks(arena, IDLE_RESETS);
}

moe_job *
moe_arena_job(const moe_arena *arena)
{
    return arena->job;
}

/* Memory for a new block: half of what the arena has, so that small arenas stay small, but at least `size`. */
static char *
block_memory(moe_arena *arena, size_t size, size_t *got)
{
    size_t wish = arena->total / 2;
    wish = wish < SMALLEST_BLOCK ? SMALLEST_BLOCK : wish > LARGEST_BLOCK ? LARGEST_BLOCK : wish;
    *got = wish > size ? wish : size;
    char *memory = try_memory(arena, *got);
    if (memory != NULL)
        return memory;
    free_idle_blocks(arena, 0);
    *got = size;
    if (arena->device != NULL)
        return arena->device->alloc(arena->device, size, true);
    memory = moe_try_alloc(arena->job, size);
    if (memory == NULL)
        moe_fail_alloc(arena->job, size);
    return memory;
}

static arena_block *
add_block(moe_arena *arena, size_t size)
{
    size_t got;
    char *memory = block_memory(arena, size, &got);
    if (memory == NULL)
        return NULL;
    arena_block *block = moe_alloc(arena->job, 1, sizeof(arena_block));
    if (block == NULL)
    {
        free_memory(arena, memory);
        return NULL;
    }
    *block = (arena_block){.next = arena->blocks, .memory = memory, .size = got};
    arena->blocks = block;
    arena->total += got;
    return block;
}

void *
moe_arena_alloc(moe_arena *arena, int64_t count, size_t size)
{
    size_t alignment = arena->device == NULL ? HOST_ALIGNMENT : DEVICE_ALIGNMENT;
    size_t bytes;
    if (!moe_checked_size(arena->job, count, size, &bytes))
        return NULL;
    if (bytes > SIZE_MAX - alignment)
    {
        moe_fail_alloc(arena->job, bytes);
        return NULL;
    }
    bytes = bytes == 0 ? alignment : (bytes + alignment - 1) & ~(alignment - 1);

    arena_block *block = arena->blocks;
    while (block != NULL && block->size - block->used < bytes)
        block = block->next;
    if (block == NULL)
        block = add_block(arena, bytes);
    if (block == NULL)
        return NULL;
    void *ptr = block->memory + block->used;
    block->used += bytes;
    return ptr;
}

void *
moe_arena_zalloc(moe_arena *arena, int64_t count, size_t size)
{
    void *ptr = moe_arena_alloc(arena, count, size);
    if (ptr != NULL)
        memset(ptr, 0, (size_t) count * size);
    return ptr;
}
