/*
 * runtime.cpp: the calls of the CUDA runtime and of cuBLAS that the module makes, on the host.
 *
 * MOE_EMULATED_DEVICES gives the number of devices (1), or "driver" for a machine
 * whose driver is missing. MOE_EMULATED_FAIL gives the name of a call that
 * fails from its second use on: what is reported then is tested, too.
 */
#include "test/cuda/emulation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct moe_emulated_stream
{
    int unused;
};

struct moe_emulated_event
{
    int unused;
};

struct moe_emulated_pool
{
    long blocks;
};

struct moe_emulated_blas
{
    cudaStream_t stream;
};

namespace
{
cudaError_t
result(const char *call)
{
    static int uses;
    const char *failing = getenv("MOE_EMULATED_FAIL");
    if (failing == nullptr || strcmp(failing, call) != 0 || uses++ == 0)
        return cudaSuccess;
    return cudaErrorIllegalAddress;
}

/* Device memory starts as NaN. */
cudaError_t
allocate(void **memory, size_t size)
{
    *memory = aligned_alloc(256, size % 256 == 0 ? size : (size / 256 + 1) * 256);
    if (*memory == nullptr)
        return cudaErrorMemoryAllocation;
    memset(*memory, 0xff, size);
    return cudaSuccess;
}
} // namespace

const char *
cudaGetErrorString(cudaError_t error)
{
    switch (error)
    {
        case cudaSuccess:
            return "no error";
        case cudaErrorMemoryAllocation:
            return "out of memory";
        case cudaErrorNoDevice:
            return "no CUDA-capable device is detected";
        case cudaErrorInsufficientDriver:
            return "CUDA driver version is insufficient for CUDA runtime version";
        case cudaErrorNotSupported:
            return "operation not supported";
        case cudaErrorIllegalAddress:
            return "an illegal memory access was encountered";
    }
    return "unknown error";
}

cudaError_t
cudaGetLastError()
{
    return result("cudaGetLastError");
}

cudaError_t
cudaGetDeviceCount(int *count)
{
    const char *devices = getenv("MOE_EMULATED_DEVICES");
    *count = devices == nullptr ? 1 : atoi(devices);
    if (devices != nullptr && strcmp(devices, "driver") == 0)
        return cudaErrorInsufficientDriver;
    return *count == 0 ? cudaErrorNoDevice : cudaSuccess;
}

cudaError_t
cudaGetDeviceProperties(cudaDeviceProp *properties, int device)
{
    const char *capability = getenv("MOE_EMULATED_CAPABILITY");
    memset(properties, 0, sizeof *properties);
    snprintf(properties->name, sizeof properties->name, "emulated device %d", device);
    properties->totalGlobalMem = (size_t) 8 << 30;
    properties->major = capability == nullptr ? 8 : atoi(capability);
    properties->multiProcessorCount = 3;
    return cudaSuccess;
}

cudaError_t
cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    *value = attribute == cudaDevAttrMultiProcessorCount ? 3 : getenv("MOE_EMULATED_NO_POOLS") == nullptr;
    return cudaSuccess;
}

cudaError_t
cudaDriverGetVersion(int *version)
{
    const char *devices = getenv("MOE_EMULATED_DEVICES");
    *version = devices != nullptr && strcmp(devices, "driver") == 0 ? 12040 : 13000;
    return cudaSuccess;
}

cudaError_t
cudaRuntimeGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

cudaError_t
cudaSetDevice(int device)
{
    return result("cudaSetDevice");
}

cudaError_t
cudaMemGetInfo(size_t *available, size_t *total)
{
    *total = (size_t) 8 << 30;
    *available = (size_t) 7 << 30;
    return cudaSuccess;
}

cudaError_t
cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int flags)
{
    *stream = new moe_emulated_stream();
    return result("cudaStreamCreateWithFlags");
}

cudaError_t
cudaStreamDestroy(cudaStream_t stream)
{
    delete stream;
    return cudaSuccess;
}

cudaError_t
cudaStreamSynchronize(cudaStream_t stream)
{
    return result("cudaStreamSynchronize");
}

cudaError_t
cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int flags)
{
    *event = new moe_emulated_event();
    return cudaSuccess;
}

cudaError_t
cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return cudaSuccess;
}

cudaError_t
cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    return cudaSuccess;
}

cudaError_t
cudaEventSynchronize(cudaEvent_t event)
{
    return cudaSuccess;
}

cudaError_t
cudaMemPoolCreate(cudaMemPool_t *pool, const cudaMemPoolProps *properties)
{
    *pool = new moe_emulated_pool();
    return cudaSuccess;
}

cudaError_t
cudaMemPoolDestroy(cudaMemPool_t pool)
{
    delete pool;
    return cudaSuccess;
}

cudaError_t
cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void *value)
{
    return cudaSuccess;
}

cudaError_t
cudaMallocFromPoolAsync(void **memory, size_t size, cudaMemPool_t pool, cudaStream_t stream)
{
    cudaError_t error = result("cudaMallocFromPoolAsync");
    return error == cudaSuccess ? allocate(memory, size) : error;
}

cudaError_t
cudaFreeAsync(void *memory, cudaStream_t stream)
{
    free(memory);
    return cudaSuccess;
}

cudaError_t
cudaMalloc(void **memory, size_t size)
{
    return allocate(memory, size);
}

cudaError_t
cudaFree(void *memory)
{
    free(memory);
    return cudaSuccess;
}

cudaError_t
cudaMallocHost(void **memory, size_t size)
{
    return allocate(memory, size);
}

cudaError_t
cudaFreeHost(void *memory)
{
    free(memory);
    return cudaSuccess;
}

cudaError_t
cudaMemcpyAsync(void *to, const void *from, size_t size, cudaMemcpyKind kind, cudaStream_t stream)
{
    memcpy(to, from, size);
    return result("cudaMemcpyAsync");
}

cudaError_t
cudaMemsetAsync(void *memory, int value, size_t size, cudaStream_t stream)
{
    memset(memory, value, size);
    return result("cudaMemsetAsync");
}

const char *
cublasGetStatusString(cublasStatus_t status)
{
    return "CUBLAS_STATUS_SUCCESS";
}

cublasStatus_t
cublasCreate(cublasHandle_t *handle)
{
    *handle = new moe_emulated_blas();
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasDestroy(cublasHandle_t handle)
{
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasSetStream(cublasHandle_t handle, cudaStream_t stream)
{
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasSetWorkspace(cublasHandle_t handle, void *workspace, size_t size)
{
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode)
{
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasSetAtomicsMode(cublasHandle_t handle, cublasAtomicsMode_t mode)
{
    return CUBLAS_STATUS_SUCCESS;
}

/* By columns, as cuBLAS has it; c is not read where beta is 0. */
cublasStatus_t
cublasSgemm_64(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int64_t m, int64_t n, int64_t k,
               const float *alpha, const float *a, int64_t lda, const float *b, int64_t ldb, const float *beta,
               float *c, int64_t ldc)
{
    if (handle->stream == nullptr || m < 1 || n < 1 || k < 1 || lda < (ta == CUBLAS_OP_N ? m : k) ||
        ldb < (tb == CUBLAS_OP_N ? k : n) || ldc < m)
    {
        fprintf(stderr, "emulated cuBLAS: arguments that cublasSgemm would refuse\n");
        abort();
    }
    for (int64_t j = 0; j < n; j++)
    {
        for (int64_t i = 0; i < m; i++)
        {
            double sum = 0;
            for (int64_t l = 0; l < k; l++)
                sum += (double) a[ta == CUBLAS_OP_N ? l * lda + i : i * lda + l] *
                       b[tb == CUBLAS_OP_N ? j * ldb + l : l * ldb + j];
            c[j * ldc + i] = (float) (*alpha * sum + (*beta == 0 ? 0 : *beta * (double) c[j * ldc + i]));
        }
    }
    return CUBLAS_STATUS_SUCCESS;
}
