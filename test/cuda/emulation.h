/*
 * emulation.h: the CUDA module as an ordinary program, to test its logic where there is no card.
 *
 * The .cu files compile as C++ against this header instead of CUDA's. A launch
 * runs its blocks one after another, in an order drawn anew for every launch.
 * The threads of a block are fibers that change places at barriers and warp
 * operations. A block's shared memory is a heap block of its exact size filled
 * with NaN, device memory is exact heap blocks filled with NaN, so that the
 * address sanitizer sees every access out of bounds and every number read before
 * it was written tells. A barrier that not all threads reach, and a warp
 * operation that not all lanes reach, abort with a message.
 *
 * What cannot be seen here: races between threads that no barrier orders
 * (fibers do not interrupt each other), the memory model, alignment of vector
 * loads beyond what the undefined-behaviour sanitizer checks, registers, the
 * rounding of the card's functions and of cuBLAS, and whether the calls of
 * the CUDA libraries would be accepted as they are made.
 */
#ifndef MOE_CUDA_EMULATION_H
#define MOE_CUDA_EMULATION_H

#include <stddef.h>
#include <stdint.h>

#include <functional>

#define __global__
#define __device__
#define __grid_constant__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__ __restrict

struct dim3
{
    unsigned int x, y, z;
    dim3(unsigned int x = 1, unsigned int y = 1, unsigned int z = 1) : x(x), y(y), z(z)
    {
    }
};

struct alignas(16) float4
{
    float x, y, z, w;
};

/* Where the fiber that is running stands. */
struct moe_emulated_place
{
    dim3 block, thread, blocks, threads;
};
extern moe_emulated_place moe_emulated;
#define threadIdx moe_emulated.thread
#define blockIdx  moe_emulated.block
#define blockDim  moe_emulated.threads
#define gridDim   moe_emulated.blocks

void moe_emulated_launch(dim3 blocks, dim3 threads, const std::function<void()> &kernel);
/* The block's memory for one declaration, which is told apart by its key. */
void *moe_emulated_shared(const void *key, size_t size);
void moe_emulated_barrier();
/* Every lane gives a value of 64 bits and reads those of all lanes until the next call. */
const uint64_t *moe_emulated_exchange(unsigned int mask, uint64_t value);

#define __syncthreads() moe_emulated_barrier()
#define MOE_SHARED(type, dimensions, name)                                                                             \
    static char name##_key;                                                                                            \
    using name##_type = type dimensions;                                                                               \
    name##_type &name = *(name##_type *) moe_emulated_shared(&name##_key, sizeof(name##_type))
#define MOE_LAUNCH(device, kernel, blocks, threads, ...)                                                               \
    (moe_emulated_launch(blocks, threads, [&] { kernel(__VA_ARGS__); }), MOE_CALL(device, cudaGetLastError()))

template <typename T>
static inline uint64_t
moe_emulated_bits(T value)
{
    uint64_t bits = 0;
    static_assert(sizeof(T) <= sizeof bits, "");
    __builtin_memcpy(&bits, &value, sizeof value);
    return bits;
}

template <typename T>
static inline T
moe_emulated_lane(unsigned int mask, T value, unsigned int lane)
{
    uint64_t bits = moe_emulated_exchange(mask, moe_emulated_bits(value))[lane % 32];
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}

static inline unsigned int
moe_emulated_own_lane()
{
    return (threadIdx.x + threadIdx.y * blockDim.x) % 32;
}

template <typename T>
static inline T
__shfl_sync(unsigned int mask, T value, int lane)
{
    return moe_emulated_lane(mask, value, (unsigned int) lane);
}

template <typename T>
static inline T
__shfl_xor_sync(unsigned int mask, T value, int bits)
{
    return moe_emulated_lane(mask, value, moe_emulated_own_lane() ^ (unsigned int) bits);
}

template <typename T>
static inline T
__shfl_up_sync(unsigned int mask, T value, unsigned int distance)
{
    unsigned int lane = moe_emulated_own_lane();
    return moe_emulated_lane(mask, value, lane < distance ? lane : lane - distance);
}

static inline void
__syncwarp(unsigned int mask = 0xffffffffu)
{
    moe_emulated_exchange(mask, 0);
}

static inline unsigned int
__match_any_sync(unsigned int mask, unsigned int value)
{
    const uint64_t *values = moe_emulated_exchange(mask, value);
    unsigned int same = 0;
    for (int lane = 0; lane < 32; lane++)
        same |= values[lane] == value ? 1u << lane : 0;
    return same;
}

static inline unsigned int
__ballot_sync(unsigned int mask, int given)
{
    const uint64_t *values = moe_emulated_exchange(mask, given != 0);
    unsigned int bits = 0;
    for (int lane = 0; lane < 32; lane++)
        bits |= values[lane] != 0 ? 1u << lane : 0;
    return bits;
}

static inline int
atomicAdd(int *place, int value)
{
    int old = *place;
    *place += value;
    return old;
}

static inline float
__fdividef(float a, float b)
{
    return a / b;
}

static inline int
__popc(unsigned int bits)
{
    return __builtin_popcount(bits);
}

/* The runtime, as far as it is used. Every call can be made to fail: see moe_emulated_fail_at. */
enum cudaError_t
{
    cudaSuccess = 0,
    cudaErrorMemoryAllocation = 2,
    cudaErrorNoDevice = 100,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNotSupported = 801,
    cudaErrorIllegalAddress = 700
};
enum cudaMemcpyKind
{
    cudaMemcpyHostToDevice = 1,
    cudaMemcpyDeviceToHost = 2,
    cudaMemcpyDeviceToDevice = 3
};
enum cudaMemPoolAttr
{
    cudaMemPoolAttrReleaseThreshold = 4
};
enum cudaDeviceAttr
{
    cudaDevAttrMemoryPoolsSupported = 115,
    cudaDevAttrMultiProcessorCount = 16
};
enum
{
    cudaMemAllocationTypePinned = 1,
    cudaMemHandleTypeNone = 0,
    cudaMemLocationTypeDevice = 1,
    cudaStreamNonBlocking = 1,
    cudaEventDisableTiming = 2
};
struct cudaMemPoolProps
{
    int allocType, handleTypes;
    struct
    {
        int type, id;
    } location;
};
struct cudaDeviceProp
{
    char name[256];
    size_t totalGlobalMem;
    int major, minor, multiProcessorCount;
};
typedef struct moe_emulated_stream *cudaStream_t;
typedef struct moe_emulated_event *cudaEvent_t;
typedef struct moe_emulated_pool *cudaMemPool_t;

const char *cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device);
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaRuntimeGetVersion(int *version);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaMemGetInfo(size_t *available, size_t *total);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaMemPoolCreate(cudaMemPool_t *pool, const cudaMemPoolProps *properties);
cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool);
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void *value);
cudaError_t cudaMallocFromPoolAsync(void **memory, size_t size, cudaMemPool_t pool, cudaStream_t stream);
cudaError_t cudaFreeAsync(void *memory, cudaStream_t stream);
cudaError_t cudaMalloc(void **memory, size_t size);
cudaError_t cudaFree(void *memory);
cudaError_t cudaMallocHost(void **memory, size_t size);
cudaError_t cudaFreeHost(void *memory);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *memory, int value, size_t size, cudaStream_t stream);

/* cuBLAS, as far as it is used. */
enum cublasStatus_t
{
    CUBLAS_STATUS_SUCCESS = 0
};
enum cublasOperation_t
{
    CUBLAS_OP_N = 0,
    CUBLAS_OP_T = 1
};
enum cublasMath_t
{
    CUBLAS_DEFAULT_MATH = 0
};
enum cublasAtomicsMode_t
{
    CUBLAS_ATOMICS_NOT_ALLOWED = 0
};
typedef struct moe_emulated_blas *cublasHandle_t;
const char *cublasGetStatusString(cublasStatus_t status);
cublasStatus_t cublasCreate(cublasHandle_t *handle);
cublasStatus_t cublasDestroy(cublasHandle_t handle);
cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream);
cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void *workspace, size_t size);
cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode);
cublasStatus_t cublasSetAtomicsMode(cublasHandle_t handle, cublasAtomicsMode_t mode);
cublasStatus_t cublasSgemm_64(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int64_t m, int64_t n,
                              int64_t k, const float *alpha, const float *a, int64_t lda, const float *b, int64_t ldb,
                              const float *beta, float *c, int64_t ldc);

#endif
