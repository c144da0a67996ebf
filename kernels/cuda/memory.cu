/*
 * memory.cu: the device's memory, from one pool of the stream's order.
 *
 * A pool of our own (cudaMallocFromPoolAsync) keeps what is released for the
 * next to ask, without waiting for the device, and gives everything back when
 * it is destroyed. What is handed out is counted against the limit and kept in
 * a table, so that close frees what was forgotten. Devices that have no
 * pools get plain allocations, which wait.
 *
 * Uploads pass through a ring of pinned stages: the caller's array may be
 * reused at once, and the host waits only when it is a whole ring ahead.
 */
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cuda.cuh"

#define FIRST_CAPACITY 256 /* of the table */
#define MEGABYTE       (1024.0 * 1024.0)

static moe_cuda *
cuda_of(moe_device *device)
{
    return (moe_cuda *) device;
}

/* Where a block stands in the table, or could. */
static size_t
slot_of(const moe_cuda *device, const void *memory)
{
    size_t slot = (size_t) moe_mix64((uintptr_t) memory) & (device->capacity - 1);
    while (device->blocks[slot].memory != NULL && device->blocks[slot].memory != memory)
        slot = (slot + 1) & (device->capacity - 1);
    return slot;
}

/* Make room for one block more; at most half the table is in use. */
static bool
grow_table(moe_cuda *device)
{
    if (device->count + 1 <= device->capacity / 2)
        return true;
    moe_cuda_block *old = device->blocks;
    size_t capacity = device->capacity;
    moe_cuda_block *blocks = (moe_cuda_block *) calloc(capacity == 0 ? FIRST_CAPACITY : 2 * capacity, sizeof *blocks);
    if (blocks == NULL)
        return false;
    device->blocks = blocks;
    device->capacity = capacity == 0 ? FIRST_CAPACITY : 2 * capacity;
    for (size_t i = 0; i < capacity; i++)
    {
        if (old[i].memory != NULL)
            device->blocks[slot_of(device, old[i].memory)] = old[i];
    }
    free(old);
    return true;
}

/* Take a block out of the table and move those after it up, so that none is cut off from its place. Returns its size.
 */
static size_t
forget(moe_cuda *device, void *memory)
{
    size_t slot = slot_of(device, memory);
    size_t size = device->blocks[slot].size;
    if (device->blocks[slot].memory == NULL)
        return 0;
    device->blocks[slot].memory = NULL;
    device->count--;
    for (size_t next = (slot + 1) & (device->capacity - 1); device->blocks[next].memory != NULL;
         next = (next + 1) & (device->capacity - 1))
    {
        moe_cuda_block moved = device->blocks[next];
        device->blocks[next].memory = NULL;
        device->blocks[slot_of(device, moved.memory)] = moved;
    }
    return size;
}

bool
moe_cuda_open_memory(moe_cuda *device, int ordinal)
{
    int supported = 0;
    uint64_t keep = UINT64_MAX;
    cudaMemPoolProps properties;
    memset(&properties, 0, sizeof properties);
    properties.allocType = cudaMemAllocationTypePinned;
    properties.handleTypes = cudaMemHandleTypeNone;
    properties.location.type = cudaMemLocationTypeDevice;
    properties.location.id = ordinal;
    if (!MOE_CALL(device, cudaDeviceGetAttribute(&supported, cudaDevAttrMemoryPoolsSupported, ordinal)))
        return false;
    if (supported)
    {
        device->pooled = MOE_CALL(device, cudaMemPoolCreate(&device->pool, &properties));
        if (!device->pooled ||
            !MOE_CALL(device, cudaMemPoolSetAttribute(device->pool, cudaMemPoolAttrReleaseThreshold, &keep)))
            return false;
    }
    for (int i = 0; i < STAGES; i++)
    {
        moe_cuda_stage *stage = &device->stage[i];
        if (!MOE_CALL(device, cudaMallocHost((void **) &stage->memory, STAGE_BYTES)) ||
            !MOE_CALL(device, cudaEventCreateWithFlags(&stage->sent, cudaEventDisableTiming)))
            return false;
    }
    return grow_table(device);
}

/* Without checks: a device that is closed because a call failed may fail every other one. */
void
moe_cuda_close_memory(moe_cuda *device)
{
    for (size_t i = 0; i < device->capacity; i++)
    {
        if (device->blocks[i].memory == NULL)
            continue;
        if (device->pooled)
            cudaFreeAsync(device->blocks[i].memory, device->stream);
        else
            cudaFree(device->blocks[i].memory);
    }
    if (device->stream != NULL)
        cudaStreamSynchronize(device->stream);
    for (int i = 0; i < STAGES; i++)
    {
        if (device->stage[i].sent != NULL)
            cudaEventDestroy(device->stage[i].sent);
        if (device->stage[i].memory != NULL)
            cudaFreeHost(device->stage[i].memory);
    }
    if (device->pooled)
        cudaMemPoolDestroy(device->pool);
    free(device->blocks);
}

static void
record_shortage(moe_cuda *device, size_t size)
{
    size_t available = 0;
    size_t total = 0;
    if (device->limit > 0 && (size > device->limit || device->used > device->limit - size))
        moe_cuda_host->fail(device->job, MOE_LIMIT,
                            "%.1f MB more of the device's memory are needed than the limit of %.1f MB leaves",
                            ((double) device->used + (double) size - (double) device->limit) / MEGABYTE,
                            (double) device->limit / MEGABYTE);
    else if (MOE_CALL(device, cudaMemGetInfo(&available, &total)))
        moe_cuda_host->fail(device->job, MOE_OUT_OF_MEMORY,
                            "%.1f MB of the device's memory could not be had: %.1f of %.1f MB are free",
                            (double) size / MEGABYTE, (double) available / MEGABYTE, (double) total / MEGABYTE);
}

/* Ask the pool, or the device; NULL and no failure recorded where memory has run out. */
static void *
take(moe_cuda *device, size_t size)
{
    void *memory = NULL;
    cudaError_t error = device->pooled ? cudaMallocFromPoolAsync(&memory, size, device->pool, device->stream)
                                       : cudaMalloc(&memory, size);
    if (error == cudaErrorMemoryAllocation)
    {
        (void) cudaGetLastError(); /* it would be told again by the next launch */
        return NULL;
    }
    return moe_cuda_check(device, error, device->pooled ? "cudaMallocFromPoolAsync" : "cudaMalloc") ? memory : NULL;
}

void *
moe_cuda_alloc(moe_device *base, size_t size, bool must)
{
    moe_cuda *device = cuda_of(base);
    void *memory = NULL;
    if (base->broken)
        return NULL;
    size = size == 0 ? 1 : size;
    bool within = device->limit == 0 || (size <= device->limit && device->used <= device->limit - size);
    if (within && grow_table(device))
        memory = take(device, size);
    if (memory == NULL)
    {
        if (must && !base->broken)
            record_shortage(device, size);
        return NULL;
    }
    size_t slot = slot_of(device, memory);
    device->blocks[slot].memory = memory;
    device->blocks[slot].size = size;
    device->count++;
    device->used += size;
    device->peak = device->used > device->peak ? device->used : device->peak;
    return memory;
}

void
moe_cuda_release(moe_device *base, void *memory)
{
    moe_cuda *device = cuda_of(base);
    if (memory == NULL)
        return;
    device->used -= forget(device, memory);
    if (device->pooled)
        MOE_CALL(device, cudaFreeAsync(memory, device->stream));
    else
        MOE_CALL(device, cudaFree(memory));
}

void
moe_cuda_zero(moe_device *base, void *memory, size_t size)
{
    moe_cuda *device = cuda_of(base);
    if (!base->broken && size > 0)
        MOE_CALL(device, cudaMemsetAsync(memory, 0, size, device->stream));
}

void
moe_cuda_copy(moe_device *base, void *to, const void *from, size_t size)
{
    moe_cuda *device = cuda_of(base);
    if (!base->broken && size > 0)
        MOE_CALL(device, cudaMemcpyAsync(to, from, size, cudaMemcpyDeviceToDevice, device->stream));
}

/* Leave the current stage for the next one, once what it last held has been sent. */
static bool
next_stage(moe_cuda *device)
{
    moe_cuda_stage *left = &device->stage[device->current];
    if (!MOE_CALL(device, cudaEventRecord(left->sent, device->stream)))
        return false;
    left->waiting = true;
    device->current = (device->current + 1) % STAGES;
    device->place = 0;
    moe_cuda_stage *stage = &device->stage[device->current];
    if (stage->waiting && !MOE_CALL(device, cudaEventSynchronize(stage->sent)))
        return false;
    stage->waiting = false;
    return true;
}

void
moe_cuda_upload(moe_device *base, void *to, const void *from, size_t size)
{
    moe_cuda *device = cuda_of(base);
    while (size > 0 && !base->broken)
    {
        if (device->place == STAGE_BYTES && !next_stage(device))
            return;
        size_t room = STAGE_BYTES - device->place;
        size_t part = size < room ? size : room;
        char *staged = device->stage[device->current].memory + device->place;
        memcpy(staged, from, part);
        if (!MOE_CALL(device, cudaMemcpyAsync(to, staged, part, cudaMemcpyHostToDevice, device->stream)))
            return;
        device->place += part < room ? (part + 63) / 64 * 64 : room; /* STAGE_BYTES is a multiple of 64 */
        to = (char *) to + part;
        from = (const char *) from + part;
        size -= part;
    }
}

void
moe_cuda_download(moe_device *base, void *to, const void *from, size_t size)
{
    moe_cuda *device = cuda_of(base);
    if (!base->broken && size > 0 &&
        MOE_CALL(device, cudaMemcpyAsync(to, from, size, cudaMemcpyDeviceToHost, device->stream)))
        MOE_CALL(device, cudaStreamSynchronize(device->stream));
    if (base->broken)
        memset(to, 0, size); /* what is read is defined, though wrong */
}

size_t
moe_cuda_used(const moe_device *base)
{
    return ((const moe_cuda *) base)->used;
}

size_t
moe_cuda_peak(const moe_device *base)
{
    return ((const moe_cuda *) base)->peak;
}
