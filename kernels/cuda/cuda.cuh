/*
 * cuda.cuh: what the files of the CUDA module share.
 *
 * Kernels use a small part of CUDA (indices, shared memory, barriers, full-warp
 * shuffles) and are launched through one macro, so that they also compile as
 * plain C++ against test/cuda/emulation.h, where their logic is tested without
 * a card. House rules of a kernel:
 *
 * - grid-stride loops over int64_t indices; blocks of whole warps; empty work launches nothing;
 * - all lanes of a warp take part in every shuffle, all threads of a block in every barrier;
 * - no float atomics: what is summed is summed in an order that depends on shapes alone;
 * - nothing waits for the device: counts that only the device knows are read there.
 *
 * A function of the table begins with moe_cuda_of(job), which is NULL where the device is broken: then it does nothing.
 */
#ifndef MOE_CUDA_CUH
#define MOE_CUDA_CUH

#ifdef MOE_CUDA_EMULATION
#include "test/cuda/emulation.h"
#else
#include <cuda_runtime.h>
#include <cublas_v2.h>
#endif

#include <math.h>
#include <stdint.h>

extern "C"
{
#include "kernels/device.h"
#include "kernels/random.h"
}

#define WARP       32
#define FULL       0xffffffffu
#define THREADS    256
#define WARPS      (THREADS / WARP) /* of a block */
#define MOST_TERMS 12               /* arrays given to one launch */

#ifndef MOE_CUDA_EMULATION
#define MOE_SHARED(type, dimensions, name) __shared__ type name dimensions
/* Queue a kernel; true where that went well. */
#define MOE_LAUNCH(device, kernel, blocks, threads, ...)                                                               \
    (kernel<<<blocks, threads, 0, (device)->stream>>>(__VA_ARGS__), MOE_CALL(device, cudaGetLastError()))
#endif

/* A block of memory, in an open hash table by address. */
typedef struct moe_cuda_block
{
    void *memory;
    size_t size;
} moe_cuda_block;

#define STAGES      4
#define STAGE_BYTES ((size_t) 1 << 20)

/* Pinned memory through which uploads pass. */
typedef struct moe_cuda_stage
{
    char *memory;
    cudaEvent_t sent; /* recorded when the stage was left */
    bool waiting;
} moe_cuda_stage;

typedef struct moe_cuda
{
    moe_device base; /* must be first */
    moe_job *job;
    cudaStream_t stream;
    cudaMemPool_t pool;
    bool pooled; /* there is a pool; else plain allocation */
    cublasHandle_t blas;
    void *workspace; /* of blas */
    int processors;
    size_t limit;
    size_t used;
    size_t peak;
    moe_cuda_block *blocks; /* [capacity] */
    size_t capacity;        /* a power of two */
    size_t count;
    moe_cuda_stage stage[STAGES];
    int current;  /* stage */
    size_t place; /* in it */
} moe_cuda;

extern const moe_device_host *moe_cuda_host;
extern const moe_backend moe_cuda_backend;

/* The device of the job; NULL once it is broken. */
moe_cuda *moe_cuda_of(moe_job *job);

/* Check a call of the runtime or of cuBLAS: record a failure under the call's name; true where there was none. */
bool moe_cuda_check(moe_cuda *device, cudaError_t error, const char *call);
bool moe_cuda_check(moe_cuda *device, cublasStatus_t status, const char *call);
#define MOE_CALL(device, call) moe_cuda_check(device, call, #call)

/* memory.cu */
bool moe_cuda_open_memory(moe_cuda *device, int ordinal);
void moe_cuda_close_memory(moe_cuda *device);
void *moe_cuda_alloc(moe_device *device, size_t size, bool must);
void moe_cuda_release(moe_device *device, void *memory);
void moe_cuda_zero(moe_device *device, void *memory, size_t size);
void moe_cuda_copy(moe_device *device, void *to, const void *from, size_t size);
void moe_cuda_upload(moe_device *device, void *to, const void *from, size_t size);
void moe_cuda_download(moe_device *device, void *to, const void *from, size_t size);
size_t moe_cuda_used(const moe_device *device);
size_t moe_cuda_peak(const moe_device *device);

/*
 * n items of memory for the work queued until the end of the scope: given back
 * in the order of the stream, so that what was queued may still use it. `data`
 * is NULL after a recorded failure, unless n is 0.
 */
template <typename T> struct moe_scratch
{
    moe_cuda *device;
    T *data;
    moe_scratch(moe_cuda *device, int64_t n) : device(device), data(NULL)
    {
        if (n > 0)
            data = (T *) moe_cuda_alloc(&device->base, (size_t) n * sizeof(T), true);
    }
    ~moe_scratch()
    {
        if (data != NULL)
            moe_cuda_release(&device->base, data);
    }
    moe_scratch(const moe_scratch &) = delete;
    moe_scratch &operator=(const moe_scratch &) = delete;
};

static inline int64_t
ceil_div(int64_t n, int64_t by)
{
    return n / by + (n % by > 0);
}

/* Blocks for n items of work, `each` a block: enough to fill the device several times over, no more. */
static inline dim3
blocks_for(const moe_cuda *device, int64_t n, int64_t each)
{
    int64_t most = (int64_t) device->processors * 32;
    int64_t blocks = ceil_div(n, each);
    return dim3((unsigned int) (blocks < most ? blocks : most));
}

/* Blocks of THREADS threads, of which each has an item. */
static inline dim3
thread_blocks(const moe_cuda *device, int64_t n)
{
    return blocks_for(device, n, THREADS);
}

/* The same of which each warp has an item. */
static inline dim3
warp_blocks(const moe_cuda *device, int64_t n)
{
    return blocks_for(device, n, WARPS);
}

static inline bool
is_aligned(const void *p)
{
    return (uintptr_t) p % sizeof(float4) == 0;
}

/* For each item i of n that is this thread's. */
#define FOR_THREADS(i, n)                                                                                              \
    for (int64_t i = (int64_t) blockIdx.x * blockDim.x + threadIdx.x, i##_step = (int64_t) gridDim.x * blockDim.x;     \
         i < (n); i += i##_step)
/* For each item i of n that is this warp's. */
#define FOR_WARPS(i, n)                                                                                                \
    for (int64_t i = ((int64_t) blockIdx.x * blockDim.x + threadIdx.x) / WARP,                                         \
                 i##_step = (int64_t) gridDim.x * blockDim.x / WARP;                                                   \
         i < (n); i += i##_step)
#define LANE ((int) (threadIdx.x % WARP))

static __device__ __forceinline__ void
put(float *out, bool add, float value)
{
    *out = add ? *out + value : value;
}

/* The sum over a warp, in the same order on every lane. */
template <typename T>
static __device__ __forceinline__ T
warp_sum(T value)
{
    for (int bits = WARP / 2; bits > 0; bits /= 2)
        value += __shfl_xor_sync(FULL, value, bits);
    return value;
}

static __device__ __forceinline__ float
warp_max(float value)
{
    for (int bits = WARP / 2; bits > 0; bits /= 2)
        value = fmaxf(value, __shfl_xor_sync(FULL, value, bits));
    return value;
}

/* The sum over a block of THREADS threads, on every thread; shared [WARPS] may be used again at once. */
template <typename T>
static __device__ __forceinline__ T
block_sum(T value, T *shared)
{
    value = warp_sum(value);
    if (LANE == 0)
        shared[threadIdx.x / WARP] = value;
    __syncthreads();
    value = 0;
    for (int w = 0; w < WARPS; w++)
        value += shared[w];
    __syncthreads();
    return value;
}

/* The first place in ascending keys [n] that is not below `key`. */
template <typename T>
static __device__ __forceinline__ int64_t
first_not_below(const T *keys, int64_t n, int64_t key)
{
    int64_t low = 0;
    int64_t high = n;
    while (low < high)
    {
        int64_t middle = low + (high - low) / 2;
        if ((int64_t) keys[middle] < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static __device__ __forceinline__ int64_t
begin_of(const moe_sparse &s, int64_t row)
{
    return s.offset != NULL ? s.offset[row] : row * (s.width == 0 ? 1 : s.width);
}

/* sort.cu */
/*
 * Sort n entries stably by key in [-1, keys): sorted[p] is the number of the
 * p-th entry, those of key -1 left out, and offset[c] (c <= keys), times
 * `scale`, its first place. sorted [n]. n and keys below 2^31. False: recorded.
 */
bool moe_cuda_sort(moe_cuda *device, int64_t n, const int32_t *key, int64_t keys, int32_t *sorted, int64_t *offset,
                   int64_t scale);

/* reduce.cu: column sums, in the order of fixed chunks. partial [chunks, cols] -> out[j] += or = the sum. */
bool moe_cuda_fold_columns(moe_cuda *device, int64_t chunks, int64_t cols, const float *partial, bool add, float *out);
/* out[0] = factor * the sum of n doubles. */
bool moe_cuda_fold(moe_cuda *device, int64_t n, const double *partial, float *out);

/* The operations, by file; contracts in ops.h. */
#define OP(name, ...) void moe_cuda_##name(moe_job *job, __VA_ARGS__)
/* dense.cu */
OP(linear, int64_t n, int64_t k, int64_t m, const float *x, const float *w, const float *b, float *out);
OP(linear_input, int64_t n, int64_t k, int64_t m, const float *gy, const float *w, bool add, float *gx);
OP(linear_weight, int64_t n, int64_t k, int64_t m, const float *x, const float *gy, float *gw);
/* elementwise.cu */
OP(sum, int64_t count, const float *const *terms, int n, float *out);
OP(scale, int64_t count, float factor, const float *x, bool add, float *out);
OP(scale_by, int64_t count, const float *factor, const float *x, bool add, float *out);
OP(multiply, int64_t count, const float *a, const float *b, bool add, float *out);
OP(add_row, int64_t rows, int64_t cols, const float *x, const float *row, float *out);
OP(multiply_column, int64_t rows, int64_t cols, const float *x, const float *c, bool add, float *out);
OP(multiply_row, int64_t rows, int64_t cols, const float *x, const float *row, bool add, float *out);
OP(copy_block, int64_t rows, int64_t cols, const float *x, int64_t x_stride, bool add, float *out, int64_t out_stride);
OP(relu, int64_t count, const float *x, float *out);
OP(relu_backward, int64_t count, float factor, const float *y, const float *gy, bool add, float *gx);
OP(dropout, int64_t count, float rate, uint64_t key, const float *x, bool add, float *out);
OP(relu_dropout, int64_t count, float rate, uint64_t key, const float *x, float *out);
OP(exp, int64_t count, const float *x, float *out);
OP(exp_backward, int64_t count, const float *x, const float *y, const float *gy, bool add, float *gx);
/* reduce.cu */
OP(column_sum, int64_t rows, int64_t cols, const float *x, float *out);
OP(row_dot, int64_t rows, int64_t cols, const float *a, const float *b, bool add, float *out);
OP(square_sum, int64_t count, const float *x, double *out);
OP(adam, int64_t count, const moe_adam_rates *rates, const double *square_sum, float *value, float *gradient,
   float *moment1, float *moment2);
/* rows.cu */
OP(layer_norm, int64_t rows, int64_t cols, const float *x, const float *gain, const float *bias, float *y, float *mean,
   float *deviation);
OP(layer_norm_backward, int64_t rows, int64_t cols, const float *x, const float *gain, const float *mean,
   const float *deviation, const float *gy, bool add, float *gx, float *ggain, float *gbias);
OP(layer_norm_relu, int64_t rows, int64_t cols, const float *x, const float *gain, const float *bias, float rate,
   uint64_t key, float *y, float *mean, float *deviation);
OP(layer_norm_relu_backward, int64_t rows, int64_t cols, const float *x, const float *gain, const float *mean,
   const float *deviation, const float *y, float factor, const float *gy, bool add, float *gx, float *ggain,
   float *gbias);
OP(softmax, int64_t rows, int64_t cols, const float *x, float *y);
OP(softmax_backward, int64_t rows, int64_t cols, const float *y, const float *gy, bool add, float *gx);
OP(entmax, int64_t rows, int64_t cols, const float *x, float *y);
OP(entmax_backward, int64_t rows, int64_t cols, const float *y, const float *gy, bool add, float *gx);
/* sparse.cu */
OP(gather, int64_t n, int64_t cols, const int32_t *index, const float *x, bool add, float *out);
OP(sum_rows, int64_t n, int64_t cols, int terms, const float *const *x, const int32_t *const *index, float *out);
OP(aggregate, const moe_sparse *s, int64_t cols, const float *x, bool add, float *out);
OP(aggregate_types, int terms, const moe_sparse *s, const float *const *x, int64_t cols, bool add, float *out);
OP(aggregate_parts, const moe_sparse *s, int parts, int64_t cols, const float *x, float *out);
/* edges.cu */
OP(aggregate_max, const moe_sparse *s, int64_t cols, const float *x, float *out, int32_t *argmax);
OP(aggregate_max_backward, const moe_sparse *t, const int32_t *entry, int64_t cols, const int32_t *argmax,
   const float *gy, bool add, float *gx);
OP(edge_dot, const moe_sparse *s, int64_t cols, const float *a, const float *b, bool add, float *out);
OP(transpose, const moe_sparse *s, int parts, int64_t columns, int64_t *offset, int32_t *index, float *weight,
   int32_t *entry);
/* segment.cu */
OP(segment_softmax, int64_t rows, const int64_t *offset, int64_t cols, const float *x, float *y);
OP(segment_softmax_backward, int64_t rows, const int64_t *offset, int64_t cols, const float *y, const float *gy,
   bool add, float *gx);
OP(prefix_sum, int64_t lists, const int64_t *offset, int64_t cols, const float *decay, const float *x, double *out);
OP(prefix_sum_backward, int64_t lists, const int64_t *offset, int64_t cols, const float *decay, const double *g,
   bool add, float *gx);
OP(window_sum, int64_t n, int64_t cols, const int32_t *last, const int32_t *before, const float *factor,
   const float *fade, const double *sum, float *out);
OP(window_sum_backward, int64_t n, int64_t cols, int64_t places, const int32_t *last, const int32_t *before,
   const float *factor, const float *fade, const float *gy, double *g);
/* mixture.cu */
OP(top_k_gate, int64_t rows, int64_t experts, int k, float noise, uint64_t key, const float *logits, float *gates);
OP(top_k, int64_t rows, int64_t cols, int k, const float *x, int32_t *chosen);
OP(pick, int64_t rows, int64_t cols, int k, const int32_t *chosen, const float *x, float *out);
OP(pick_backward, int64_t rows, int64_t cols, int k, const int32_t *chosen, const float *gy, bool add, float *gx);
OP(group, int64_t rows, int k, int groups, const int32_t *chosen, int64_t *offset, int32_t *row, int32_t *place);
/* grouped.cu */
OP(grouped_linear, int groups, int64_t n, int64_t k, int64_t m, const int64_t *offset, const int32_t *row,
   const float *x, const float *w, const float *b, float *out);
OP(grouped_linear_input, int groups, int64_t n, int64_t k, int64_t m, const int64_t *offset, const float *gy,
   const float *w, bool add, float *gx);
OP(grouped_linear_weight, int groups, int64_t n, int64_t k, int64_t m, const int64_t *offset, const int32_t *row,
   const float *x, const float *gy, float *gw, float *gb);
/* loss.cu */
OP(balance_loss, int64_t rows, int64_t experts, const float *logits, const float *gates, float *value, float *gradient);
OP(z_loss, int64_t rows, int64_t experts, const float *logits, float *value, float *gradient);
OP(loss, moe_loss_kind kind, int64_t rows, const float *x, const float *label, const float *weight, float *value,
   float *gradient);
OP(cross_entropy, int64_t rows, int64_t classes, const float *logits, const int32_t *label, const float *weight,
   float *value, float *gradient);

#endif
