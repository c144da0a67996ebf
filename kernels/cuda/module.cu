/*
 * module.cu: the module's door: what cards there are, a device opened, its table of operations.
 *
 * Nothing of CUDA is touched until one of the two functions is called. The
 * first failure of a call is recorded in the job; any failure but a lack of
 * memory counts as sticky, since most are (an illegal access ends the context),
 * and what was queued after it cannot be trusted.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cuda.cuh"

#define LEAST_MAJOR     7
#define LEAST_MINOR     5
#define WORKSPACE_BYTES ((size_t) 32 << 20)

#define EXPORT extern "C" __attribute__((visibility("default")))

const moe_device_host *moe_cuda_host;

static bool
record(moe_cuda *device, const char *call, const char *text)
{
    int length = 0;
    while (call[length] != '\0' && call[length] != '(')
        length++;
    moe_cuda_host->fail(device->job, MOE_DEVICE_FAILED, "%.*s failed: %s", length, call, text);
    device->base.broken = true;
    return false;
}

bool
moe_cuda_check(moe_cuda *device, cudaError_t error, const char *call)
{
    return error == cudaSuccess || record(device, call, cudaGetErrorString(error));
}

bool
moe_cuda_check(moe_cuda *device, cublasStatus_t status, const char *call)
{
    return status == CUBLAS_STATUS_SUCCESS || record(device, call, cublasGetStatusString(status));
}

moe_cuda *
moe_cuda_of(moe_job *job)
{
    moe_device *device = moe_cuda_host->device(job);
    return device == NULL || device->broken ? NULL : (moe_cuda *) device;
}

/* Why there is no device, as a sentence. */
static void
tell_absence(cudaError_t error, char *reason, size_t size)
{
    int driver = 0;
    int runtime = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    if (driver == 0)
        snprintf(reason, size, "No NVIDIA driver is installed.");
    else if (error == cudaErrorInsufficientDriver)
        snprintf(reason, size, "The NVIDIA driver serves CUDA up to version %d.%d, and the device module needs %d.%d.",
                 driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    else if (error == cudaSuccess || error == cudaErrorNoDevice)
        snprintf(reason, size, "The NVIDIA driver finds no device.");
    else
        snprintf(reason, size, "cudaGetDeviceCount failed: %s.", cudaGetErrorString(error));
}

static int
count_devices(char *reason, size_t size)
{
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaSuccess && count > 0)
        return count;
    tell_absence(error, reason, size);
    (void) cudaGetLastError();
    return 0;
}

static void
describe(int ordinal, moe_device_report *report)
{
    cudaDeviceProp properties;
    memset(report, 0, sizeof *report);
    memset(&properties, 0, sizeof properties);
    report->ordinal = ordinal;
    cudaDriverGetVersion(&report->driver_version);
    cudaRuntimeGetVersion(&report->runtime_version);
    cudaError_t error = cudaGetDeviceProperties(&properties, ordinal);
    if (error != cudaSuccess)
    {
        snprintf(report->reason, sizeof report->reason, "cudaGetDeviceProperties failed: %s.",
                 cudaGetErrorString(error));
        return;
    }
    snprintf(report->name, sizeof report->name, "%s", properties.name);
    report->capability_major = properties.major;
    report->capability_minor = properties.minor;
    report->multiprocessors = properties.multiProcessorCount;
    report->memory_total = (int64_t) properties.totalGlobalMem;
    report->usable =
        properties.major > LEAST_MAJOR || (properties.major == LEAST_MAJOR && properties.minor >= LEAST_MINOR);
    if (!report->usable)
        snprintf(report->reason, sizeof report->reason,
                 "The device \"%s\" has compute capability %d.%d, and %d.%d is the least.", report->name,
                 properties.major, properties.minor, LEAST_MAJOR, LEAST_MINOR);
}

/* Only by starting the device can its free memory be known. */
static void
measure_free(moe_device_report *report)
{
    size_t available = 0;
    size_t total = 0;
    cudaError_t error = cudaSetDevice(report->ordinal);
    error = error == cudaSuccess ? cudaMemGetInfo(&available, &total) : error;
    report->memory_free = (int64_t) available;
    if (error == cudaSuccess)
        return;
    report->usable = false;
    snprintf(report->reason, sizeof report->reason, "The device \"%s\" cannot be started: %s.", report->name,
             cudaGetErrorString(error));
    (void) cudaGetLastError();
}

EXPORT int
moe_cuda_list(moe_device_report *reports, int most, char *reason, size_t size)
{
    int count = count_devices(reason, size);
    count = count < most ? count : most;
    for (int i = 0; i < count; i++)
    {
        describe(i, &reports[i]);
        if (reports[i].usable)
            measure_free(&reports[i]);
    }
    return count;
}

/* Without checks, as in moe_cuda_close_memory. */
static void
close_device(moe_device *base)
{
    moe_cuda *device = (moe_cuda *) base;
    if (device->blas != NULL)
        cublasDestroy(device->blas);
    moe_cuda_close_memory(device);
    if (device->stream != NULL)
        cudaStreamDestroy(device->stream);
    free(device);
}

/*
 * Products in plain single precision, always by the same algorithm: no TF32, no
 * atomics, and a workspace of a fixed size, on which the choice depends.
 */
static bool
open_blas(moe_cuda *device)
{
    if (!MOE_CALL(device, cublasCreate(&device->blas)) ||
        !MOE_CALL(device, cublasSetStream(device->blas, device->stream)) ||
        !MOE_CALL(device, cublasSetMathMode(device->blas, CUBLAS_DEFAULT_MATH)) ||
        !MOE_CALL(device, cublasSetAtomicsMode(device->blas, CUBLAS_ATOMICS_NOT_ALLOWED)))
        return false;
    device->workspace = moe_cuda_alloc(&device->base, WORKSPACE_BYTES, true);
    return device->workspace != NULL &&
           MOE_CALL(device, cublasSetWorkspace(device->blas, device->workspace, WORKSPACE_BYTES));
}

static bool
start(moe_cuda *device, int ordinal)
{
    return MOE_CALL(device, cudaSetDevice(ordinal)) &&
           MOE_CALL(device, cudaDeviceGetAttribute(&device->processors, cudaDevAttrMultiProcessorCount, ordinal)) &&
           MOE_CALL(device, cudaStreamCreateWithFlags(&device->stream, cudaStreamNonBlocking)) &&
           moe_cuda_open_memory(device, ordinal) && open_blas(device);
}

/* The first device that serves; -1 and the reason of the last that does not. */
static int
choose(moe_device_report *report, char *reason, size_t size)
{
    int count = count_devices(reason, size);
    for (int i = 0; i < count; i++)
    {
        describe(i, report);
        if (report->usable)
            return i;
        snprintf(reason, size, "%s", report->reason);
    }
    return -1;
}

/* While a device is being opened a failure is no failure of the job, but the reason given. */
static char *opening_reason;
static size_t opening_size;

static moe_code
keep_reason(moe_job *job, moe_code code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(opening_reason, opening_size, format, arguments);
    va_end(arguments);
    size_t length = strlen(opening_reason);
    if (length + 1 < opening_size)
        strcpy(opening_reason + length, ".");
    return code;
}

EXPORT moe_device *
moe_cuda_open(const moe_device_host *host, moe_job *job, size_t memory_limit, char *reason, size_t size)
{
    moe_device_report report;
    int ordinal = choose(&report, reason, size);
    if (ordinal < 0)
        return NULL;
    moe_cuda *device = (moe_cuda *) calloc(1, sizeof(moe_cuda));
    if (device == NULL)
    {
        snprintf(reason, size, "There is no memory for the device's description.");
        return NULL;
    }
    device->base.backend = &moe_cuda_backend;
    snprintf(device->base.name, sizeof device->base.name, "%s", report.name);
    device->base.alloc = moe_cuda_alloc;
    device->base.release = moe_cuda_release;
    device->base.zero = moe_cuda_zero;
    device->base.copy = moe_cuda_copy;
    device->base.upload = moe_cuda_upload;
    device->base.download = moe_cuda_download;
    device->base.used = moe_cuda_used;
    device->base.peak = moe_cuda_peak;
    device->base.close = close_device;
    device->job = job;
    device->limit = memory_limit;
    const moe_device_host opening = {host->device, keep_reason, host->cancelled};
    opening_reason = reason;
    opening_size = size;
    moe_cuda_host = &opening;
    bool started = start(device, ordinal);
    moe_cuda_host = host;
    if (started)
        return &device->base;
    close_device(&device->base);
    return NULL;
}

EXPORT const int moe_cuda_abi = MOE_DEVICE_ABI;

/* In the order of moe_backend: C++17 has no designated initialisers, and the types tell a slip. */
const moe_backend moe_cuda_backend = {
    "cuda",
    moe_cuda_linear,
    moe_cuda_linear_input,
    moe_cuda_linear_weight,
    moe_cuda_sum,
    moe_cuda_scale,
    moe_cuda_scale_by,
    moe_cuda_multiply,
    moe_cuda_add_row,
    moe_cuda_column_sum,
    moe_cuda_multiply_column,
    moe_cuda_multiply_row,
    moe_cuda_row_dot,
    moe_cuda_copy_block,
    moe_cuda_relu,
    moe_cuda_relu_backward,
    moe_cuda_dropout,
    moe_cuda_relu_dropout,
    moe_cuda_exp,
    moe_cuda_exp_backward,
    moe_cuda_layer_norm,
    moe_cuda_layer_norm_backward,
    moe_cuda_layer_norm_relu,
    moe_cuda_layer_norm_relu_backward,
    moe_cuda_softmax,
    moe_cuda_softmax_backward,
    moe_cuda_entmax,
    moe_cuda_entmax_backward,
    moe_cuda_gather,
    moe_cuda_aggregate,
    moe_cuda_aggregate_types,
    moe_cuda_aggregate_max,
    moe_cuda_aggregate_max_backward,
    moe_cuda_edge_dot,
    moe_cuda_segment_softmax,
    moe_cuda_segment_softmax_backward,
    moe_cuda_aggregate_parts,
    moe_cuda_sum_rows,
    moe_cuda_transpose,
    moe_cuda_prefix_sum,
    moe_cuda_prefix_sum_backward,
    moe_cuda_window_sum,
    moe_cuda_window_sum_backward,
    moe_cuda_top_k_gate,
    moe_cuda_top_k,
    moe_cuda_pick,
    moe_cuda_pick_backward,
    moe_cuda_group,
    moe_cuda_grouped_linear,
    moe_cuda_grouped_linear_input,
    moe_cuda_grouped_linear_weight,
    moe_cuda_balance_loss,
    moe_cuda_z_loss,
    moe_cuda_loss,
    moe_cuda_cross_entropy,
    moe_cuda_square_sum,
    moe_cuda_adam,
};
