/*
 * dense.cu: dense products by cuBLAS.
 *
 * Our matrices are by rows and cuBLAS reads by columns, so that it sees every
 * matrix transposed: out = x w is out^T = w^T x^T to it. A bias is written
 * into the output beforehand and the product is added to it.
 */
#include "kernels/cuda/cuda.cuh"

static __global__ void
fill_rows(int64_t count, int64_t cols, const float *__restrict__ row, float *__restrict__ out)
{
    FOR_THREADS(i, count)
    out[i] = row == NULL ? 0 : row[i % cols];
}

static bool
fill(moe_cuda *device, int64_t rows, int64_t cols, const float *row, float *out)
{
    return MOE_LAUNCH(device, fill_rows, thread_blocks(device, rows * cols), THREADS, rows * cols, cols, row, out);
}

/* c [rows, cols] = beta c + a b, with a [rows, depth] and b [depth, cols], or their transposes as stored. */
static void
product(moe_cuda *device, bool turn_a, bool turn_b, int64_t rows, int64_t cols, int64_t depth, const float *a,
        const float *b, float beta, float *c)
{
    const float one = 1;
    MOE_CALL(device,
             cublasSgemm_64(device->blas, turn_b ? CUBLAS_OP_T : CUBLAS_OP_N, turn_a ? CUBLAS_OP_T : CUBLAS_OP_N, cols,
                            rows, depth, &one, b, turn_b ? depth : cols, a, turn_a ? rows : depth, &beta, c, cols));
}

void
moe_cuda_linear(moe_job *job, int64_t n, int64_t k, int64_t m, const float *x, const float *w, const float *b,
                float *out)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device == NULL || n == 0 || m == 0)
        return;
    if ((b != NULL || k == 0) && !fill(device, n, m, b, out))
        return;
    if (k > 0)
        product(device, false, false, n, m, k, x, w, b == NULL ? 0 : 1, out);
}

void
moe_cuda_linear_input(moe_job *job, int64_t n, int64_t k, int64_t m, const float *gy, const float *w, bool add,
                      float *gx)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device == NULL || n == 0 || k == 0)
        return;
    if (m == 0 && !add)
        fill(device, n, k, NULL, gx);
    if (m > 0)
        product(device, false, true, n, k, m, gy, w, add ? 1 : 0, gx);
}

void
moe_cuda_linear_weight(moe_job *job, int64_t n, int64_t k, int64_t m, const float *x, const float *gy, float *gw)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device != NULL && n > 0 && k > 0 && m > 0)
        product(device, true, false, k, m, n, x, gy, 1, gw);
}
