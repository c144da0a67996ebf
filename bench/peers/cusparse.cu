/*
 * cusparse.cu: our sparse sums and products of ends against cuSPARSE's, on one card; built and described by
 * bench/peers/cusparse.
 *
 * cuSPARSE has what it asks for: 32-bit indices, matrices by rows, descriptors, workspace and preprocessing made once
 * and kept. Ours reads the same entries as a batch brings them, with nothing prepared.
 */
#include <cuda_runtime.h>
#include <cusparse.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <vector>

extern "C"
{
#include "kernels/device.h"
#include "kernels/random.h"
}

#define ROUNDS  15
#define SECONDS 0.02 /* of a round of one side, at least */

static void
check(cudaError_t error, const char *call)
{
    if (error == cudaSuccess)
        return;
    fprintf(stderr, "cusparse: %s: %s\n", call, cudaGetErrorString(error));
    exit(1);
}

static void
check(cusparseStatus_t status, const char *call)
{
    if (status == CUSPARSE_STATUS_SUCCESS)
        return;
    fprintf(stderr, "cusparse: %s: %s\n", call, cusparseGetErrorString(status));
    exit(1);
}

#define CHECK(call) check(call, #call)

static void
check_job(moe_job *job)
{
    if (moe_job_check(job) == MOE_OK)
        return;
    fprintf(stderr, "cusparse: %s\n", moe_job_error(job));
    exit(1);
}

static double
now()
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double) time.tv_sec + 1e-9 * (double) time.tv_nsec;
}

static uint64_t keys;

static double
uniform()
{
    return moe_random_uniform(7, keys++);
}

/* A matrix by rows, on the host. */
struct matrix
{
    int64_t rows, sources;
    std::vector<int64_t> offset;
    std::vector<int32_t> index, offset32;
    std::vector<float> weight;
};

/* Rows of 16 entries in the mean: all lengths up to 32 alike, or few long rows and many short ones. */
static matrix
draw(int64_t rows, int64_t sources, bool skewed)
{
    matrix m = {rows, sources, {0}, {}, {0}, {}};
    for (int64_t i = 0; i < rows; i++)
    {
        int64_t length = (int64_t) (skewed ? std::min(4 / (uniform() + 1e-4), 4096.0) : uniform() * 33);
        for (int64_t k = 0; k < length; k++)
        {
            m.index.push_back((int32_t) (uniform() * (double) sources));
            m.weight.push_back((float) uniform());
        }
        std::sort(m.index.end() - length, m.index.end());
        m.offset.push_back((int64_t) m.index.size());
        m.offset32.push_back((int32_t) m.index.size());
    }
    return m;
}

template <typename T>
static T *
upload(moe_job *job, const std::vector<T> &host)
{
    T *memory = (T *) moe_device_alloc(job, (int64_t) host.size(), sizeof(T));
    check_job(job);
    moe_upload(job, memory, host.data(), host.size() * sizeof(T));
    return memory;
}

/* One comparison: both sides' arrays, on the card. */
struct comparison
{
    moe_job *job;
    const moe_backend *backend;
    cusparseHandle_t handle;
    cudaStream_t stream;
    matrix host;
    int64_t cols;
    moe_sparse s;
    float *x, *a, *ours, *theirs;
    cusparseSpMatDescr_t sparse;
    cusparseDnMatDescr_t dense, left, result;
    void *workspace;
};

static void
queue_ours(comparison *c, bool dots)
{
    if (dots)
        c->backend->edge_dot(c->job, &c->s, c->cols, c->a, c->x, false, c->ours);
    else
        c->backend->aggregate(c->job, &c->s, c->cols, c->x, false, c->ours);
}

static void
queue_theirs(comparison *c, bool dots)
{
    const float one = 1, zero = 0;
    if (dots)
        CHECK(cusparseSDDMM(c->handle, CUSPARSE_OPERATION_NON_TRANSPOSE, CUSPARSE_OPERATION_TRANSPOSE, &one, c->left,
                            c->dense, &zero, c->sparse, CUDA_R_32F, CUSPARSE_SDDMM_ALG_DEFAULT, c->workspace));
    else
        CHECK(cusparseSpMM(c->handle, CUSPARSE_OPERATION_NON_TRANSPOSE, CUSPARSE_OPERATION_NON_TRANSPOSE, &one,
                           c->sparse, c->dense, &zero, c->result, CUDA_R_32F, CUSPARSE_SPMM_CSR_ALG2, c->workspace));
}

/* Descriptors, workspace and preprocessing: made once. */
static void
open_theirs(comparison *c, bool dots, int32_t *offset, int32_t *index, float *value)
{
    const float one = 1, zero = 0;
    int64_t entries = (int64_t) c->host.index.size();
    size_t size = 0;
    CHECK(cusparseCreateCsr(&c->sparse, c->host.rows, c->host.sources, entries, offset, index, value,
                            CUSPARSE_INDEX_32I, CUSPARSE_INDEX_32I, CUSPARSE_INDEX_BASE_ZERO, CUDA_R_32F));
    CHECK(cusparseCreateDnMat(&c->dense, c->host.sources, c->cols, c->cols, c->x, CUDA_R_32F, CUSPARSE_ORDER_ROW));
    CHECK(cusparseCreateDnMat(&c->left, c->host.rows, c->cols, c->cols, c->a, CUDA_R_32F, CUSPARSE_ORDER_ROW));
    CHECK(cusparseCreateDnMat(&c->result, c->host.rows, c->cols, c->cols, dots ? c->a : c->theirs, CUDA_R_32F,
                              CUSPARSE_ORDER_ROW));
    if (dots)
        CHECK(cusparseSDDMM_bufferSize(c->handle, CUSPARSE_OPERATION_NON_TRANSPOSE, CUSPARSE_OPERATION_TRANSPOSE, &one,
                                       c->left, c->dense, &zero, c->sparse, CUDA_R_32F, CUSPARSE_SDDMM_ALG_DEFAULT,
                                       &size));
    else
        CHECK(cusparseSpMM_bufferSize(c->handle, CUSPARSE_OPERATION_NON_TRANSPOSE, CUSPARSE_OPERATION_NON_TRANSPOSE,
                                      &one, c->sparse, c->dense, &zero, c->result, CUDA_R_32F, CUSPARSE_SPMM_CSR_ALG2,
                                      &size));
    CHECK(cudaMalloc(&c->workspace, size + 1));
    if (dots)
        CHECK(cusparseSDDMM_preprocess(c->handle, CUSPARSE_OPERATION_NON_TRANSPOSE, CUSPARSE_OPERATION_TRANSPOSE, &one,
                                       c->left, c->dense, &zero, c->sparse, CUDA_R_32F, CUSPARSE_SDDMM_ALG_DEFAULT,
                                       c->workspace));
    else
        CHECK(cusparseSpMM_preprocess(c->handle, CUSPARSE_OPERATION_NON_TRANSPOSE, CUSPARSE_OPERATION_NON_TRANSPOSE,
                                      &one, c->sparse, c->dense, &zero, c->result, CUDA_R_32F, CUSPARSE_SPMM_CSR_ALG2,
                                      c->workspace));
}

static void
close_theirs(comparison *c)
{
    CHECK(cusparseDestroySpMat(c->sparse));
    CHECK(cusparseDestroyDnMat(c->dense));
    CHECK(cusparseDestroyDnMat(c->left));
    CHECK(cusparseDestroyDnMat(c->result));
    CHECK(cudaFree(c->workspace));
}

/* Seconds of one of `calls` calls of a side, all work done. */
static double
seconds(comparison *c, bool dots, bool ours, int calls)
{
    float waited;
    double start = now();
    for (int i = 0; i < calls; i++)
        ours ? queue_ours(c, dots) : queue_theirs(c, dots);
    if (ours)
        moe_download(c->job, &waited, c->ours, sizeof waited);
    else
        CHECK(cudaStreamSynchronize(c->stream));
    return (now() - start) / calls;
}

/* The largest difference of the two results, relative to the largest value. */
static double
difference(comparison *c, int64_t n)
{
    std::vector<float> ours((size_t) n), theirs((size_t) n);
    moe_download(c->job, ours.data(), c->ours, ours.size() * sizeof(float));
    check_job(c->job);
    CHECK(cudaMemcpy(theirs.data(), c->theirs, theirs.size() * sizeof(float), cudaMemcpyDeviceToHost));
    double most = 0, largest = 1e-30;
    for (int64_t i = 0; i < n; i++)
    {
        most = std::max(most, (double) fabsf(ours[(size_t) i] - theirs[(size_t) i]));
        largest = std::max(largest, (double) fabsf(theirs[(size_t) i]));
    }
    return most / largest;
}

static double
median(std::vector<double> x)
{
    std::sort(x.begin(), x.end());
    return x[x.size() / 2];
}

static void
compare(comparison *c, int64_t rows, int64_t sources, int64_t cols, bool skewed, bool dots, bool json)
{
    c->host = draw(rows, sources, skewed);
    c->cols = cols;
    int64_t entries = (int64_t) c->host.index.size(), results = dots ? entries : rows * cols;
    std::vector<float> x((size_t) (sources * cols)), a((size_t) (rows * cols));
    for (float &v : x)
        v = (float) uniform() - 0.5f;
    for (float &v : a)
        v = (float) uniform() - 0.5f;
    c->x = upload(c->job, x);
    c->a = upload(c->job, a);
    c->ours = (float *) moe_device_alloc(c->job, results, sizeof(float));
    c->theirs = (float *) moe_device_alloc(c->job, results, sizeof(float));
    int64_t *offset = upload(c->job, c->host.offset);
    int32_t *offset32 = upload(c->job, c->host.offset32), *index = upload(c->job, c->host.index);
    float *weight = upload(c->job, c->host.weight), waited;
    check_job(c->job);
    moe_download(c->job, &waited, c->x, sizeof waited);
    c->s = moe_sparse{};
    c->s.rows = rows;
    c->s.entries = entries;
    c->s.offset = offset;
    c->s.index = index;
    c->s.weight = dots ? NULL : weight;
    open_theirs(c, dots, offset32, index, dots ? c->theirs : weight);

    std::vector<double> ours, theirs, ratio;
    double once[2] = {seconds(c, dots, true, 2), seconds(c, dots, false, 2)};
    double apart = difference(c, results);
    if (!(apart < 1e-4))
    {
        fprintf(stderr, "cusparse: results differ by %g of the largest\n", apart);
        exit(1);
    }
    for (int i = 0; i < ROUNDS; i++)
    {
        ours.push_back(seconds(c, dots, true, 1 + (int) (SECONDS / once[0])));
        theirs.push_back(seconds(c, dots, false, 1 + (int) (SECONDS / once[1])));
        ratio.push_back(theirs.back() / ours.back());
    }
    check_job(c->job);
    double bytes = 4.0 * ((double) entries * (double) (cols + 2) + (double) (rows * cols)) + 8.0 * (double) rows;
    const char *name = dots ? "SDDMM" : "SpMM", *shape = skewed ? "power law" : "uniform";
    if (json)
        printf("{\"benchmark\": \"cusparse\", \"operation\": \"%s\", \"matrix\": \"%s\", \"rows\": %lld, \"entries\": "
               "%lld, \"channels\": %lld, \"moe_ml_ms\": %.5f, \"cusparse_ms\": %.5f, \"ratio\": %.3f, \"gb_s\": "
               "%.1f, \"device\": \"%s\"}\n",
               name, shape, (long long) rows, (long long) entries, (long long) cols, 1e3 * median(ours),
               1e3 * median(theirs), median(ratio), 1e-9 * bytes / median(ours), moe_job_device(c->job)->name);
    else
        printf("%-6s %-10s %9lld %10lld %5lld %11.4f %12.4f %8.2f x %9.1f\n", name, shape, (long long) rows,
               (long long) entries, (long long) cols, 1e3 * median(ours), 1e3 * median(theirs), median(ratio),
               1e-9 * bytes / median(ours));
    fflush(stdout);

    close_theirs(c);
    void *const memory[] = {c->x, c->a, c->ours, c->theirs, offset, offset32, index, weight};
    for (void *block : memory)
        moe_device_free(c->job, block);
}

/* The module may have chosen another card than the first. */
static void
use_same_card(moe_job *job)
{
    cudaPointerAttributes attributes;
    void *memory = moe_device_alloc(job, 1, 1);
    check_job(job);
    CHECK(cudaPointerGetAttributes(&attributes, memory));
    CHECK(cudaSetDevice(attributes.device));
    moe_device_free(job, memory);
}

int
main(int argc, char **argv)
{
    char reason[512];
    comparison c = {};
    bool json = argc > 2 && strcmp(argv[2], "--json") == 0;
    moe_job_config config = {};
    config.threads = 1;
    if (argc < 2 || moe_job_create(&config, &c.job) != MOE_OK)
        return 2;
    if (!moe_device_open_cuda(c.job, argv[1], 0, reason, sizeof reason))
    {
        fprintf(stderr, "skipped: %s\n", reason);
        moe_job_destroy(c.job);
        return 0;
    }
    c.backend = moe_job_backend(c.job);
    use_same_card(c.job);
    CHECK(cudaStreamCreateWithFlags(&c.stream, cudaStreamNonBlocking));
    CHECK(cusparseCreate(&c.handle));
    CHECK(cusparseSetStream(c.handle, c.stream));
    if (!json)
        printf("%s\n%-6s %-10s %9s %10s %5s %11s %12s %10s %9s\n", moe_job_device(c.job)->name, "", "matrix", "rows",
               "entries", "cols", "moe_ml, ms", "cuSPARSE, ms", "ratio", "GB/s");
    const int64_t rows[] = {4096, 65536, 262144}, cols[] = {64, 128};
    for (int dots = 0; dots < 2; dots++)
        for (int skewed = 0; skewed < 2; skewed++)
            for (int64_t r : rows)
                for (int64_t n : cols)
                    compare(&c, r, r, n, skewed, dots, json);
    CHECK(cusparseDestroy(c.handle));
    CHECK(cudaStreamDestroy(c.stream));
    moe_job_destroy(c.job);
    return 0;
}
