/*
 * memory.h: what job.c offers to its siblings only.
 */
#ifndef MOE_MEMORY_H
#define MOE_MEMORY_H

#include "kernels/job.h"

/* moe_alloc without zeroing and without recording a failure, for those who can make do with less. */
void *moe_try_alloc(moe_job *job, size_t size);
/* The same for what only makes things faster: not the last half of what may be used. */
void *moe_try_alloc_spare(moe_job *job, size_t size);
/* Record why an allocation of `size` bytes failed. */
moe_code moe_fail_alloc(moe_job *job, size_t size);
/* *bytes = count * size; or a recorded failure, and false. */
bool moe_checked_size(moe_job *job, int64_t count, size_t size, size_t *bytes);
/* An empty string that moe_free and moe_realloc accept, for those who must return one when memory has run out. */
char *moe_empty_string(void);

#endif
