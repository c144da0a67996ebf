/*
 * arena.c: a stack of memory for values that die together.
 *
 * Memory is cut from large blocks, first fit. Reset makes all blocks empty and
 * keeps them; a block that stayed empty for IDLE_RESETS resets in a row is
 * freed, and all empty blocks are freed before the memory limit is said to be
 * reached, so that what is kept is bounded by what recent steps used.
 */
#include <string.h>

#include "kernels/memory.h"

#define ALIGNMENT      64
#define SMALLEST_BLOCK ((size_t) 256 << 10)
#define LARGEST_BLOCK  ((size_t) 64 << 20)
#define IDLE_RESETS    8

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
        moe_free(arena->job, block->memory);
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
    char *memory = moe_try_alloc(arena->job, *got);
    if (memory == NULL)
    {
        free_idle_blocks(arena, 0);
        *got = size;
        memory = moe_try_alloc(arena->job, size);
    }
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
        moe_free(arena->job, memory);
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
    size_t bytes;
    if (count < 0 || __builtin_mul_overflow((size_t) count, size, &bytes) || bytes > SIZE_MAX - 2 * ALIGNMENT)
    {
        moe_fail(arena->job, MOE_LIMIT, "%lld items of %zu bytes are more than can be addressed", (long long) count,
                 size);
        return NULL;
    }
    bytes = bytes == 0 ? ALIGNMENT : (bytes + ALIGNMENT - 1) & ~(size_t) (ALIGNMENT - 1);

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
