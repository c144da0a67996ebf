/*
 * elementwise.cu: operations on each number by itself; a thread a number, neighbours side by side.
 *
 * Dropout draws by the number's place, as the host does (random.h): the same
 * key drops the same numbers on both.
 */
#include "kernels/cuda/cuda.cuh"

/* Queue out[i] = or += f(i) for i in [0, count). */
template <typename F>
static __global__ void
map_numbers(int64_t count, bool add, F f, float *out)
{
    FOR_THREADS(i, count)
    put(&out[i], add, f(i));
}

template <typename F>
static void
map(moe_cuda *device, int64_t count, bool add, F f, float *out)
{
    if (device != NULL && count > 0)
        MOE_LAUNCH(device, (map_numbers<F>), thread_blocks(device, count), THREADS, count, add, f, out);
}

struct sum_terms
{
    const float *term[MOST_TERMS];
    int n;
    __device__ float
    operator()(int64_t i) const
    {
        float total = term[0][i];
        for (int t = 1; t < n; t++)
            total += term[t][i];
        return total;
    }
};

/* More terms than fit one launch are added to the sum of those before. */
void
moe_cuda_sum(moe_job *job, int64_t count, const float *const *terms, int n, float *out)
{
    for (int begin = 0; begin < n; begin += MOST_TERMS)
    {
        sum_terms f;
        f.n = n - begin < MOST_TERMS ? n - begin : MOST_TERMS;
        for (int t = 0; t < f.n; t++)
            f.term[t] = terms[begin + t];
        map(moe_cuda_of(job), count, begin > 0, f, out);
    }
}

struct scaled
{
    float factor;
    const float *from; /* where not NULL: read the factor here */
    const float *x;
    __device__ float
    operator()(int64_t i) const
    {
        return (from == NULL ? factor : *from) * x[i];
    }
};

void
moe_cuda_scale(moe_job *job, int64_t count, float factor, const float *x, bool add, float *out)
{
    map(moe_cuda_of(job), count, add, scaled{factor, NULL, x}, out);
}

void
moe_cuda_scale_by(moe_job *job, int64_t count, const float *factor, const float *x, bool add, float *out)
{
    map(moe_cuda_of(job), count, add, scaled{0, factor, x}, out);
}

struct multiplied
{
    const float *a, *b;
    __device__ float
    operator()(int64_t i) const
    {
        return a[i] * b[i];
    }
};

void
moe_cuda_multiply(moe_job *job, int64_t count, const float *a, const float *b, bool add, float *out)
{
    map(moe_cuda_of(job), count, add, multiplied{a, b}, out);
}

struct row_added
{
    int64_t cols;
    const float *x, *row;
    __device__ float
    operator()(int64_t i) const
    {
        return x[i] + row[i % cols];
    }
};

void
moe_cuda_add_row(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *row, float *out)
{
    map(moe_cuda_of(job), rows * cols, false, row_added{cols, x, row}, out);
}

struct column_multiplied
{
    int64_t cols;
    const float *x, *c;
    __device__ float
    operator()(int64_t i) const
    {
        return x[i] * c[i / cols];
    }
};

void
moe_cuda_multiply_column(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *c, bool add, float *out)
{
    map(moe_cuda_of(job), rows * cols, add, column_multiplied{cols, x, c}, out);
}

struct row_multiplied
{
    int64_t cols;
    const float *x, *row;
    __device__ float
    operator()(int64_t i) const
    {
        return x[i] * row[i % cols];
    }
};

void
moe_cuda_multiply_row(moe_job *job, int64_t rows, int64_t cols, const float *x, const float *row, bool add, float *out)
{
    map(moe_cuda_of(job), rows * cols, add, row_multiplied{cols, x, row}, out);
}

static __global__ void
copy_rows(int64_t count, int64_t cols, const float *__restrict__ x, int64_t x_stride, bool add, float *__restrict__ out,
          int64_t out_stride)
{
    FOR_THREADS(i, count)
    put(&out[i / cols * out_stride + i % cols], add, x[i / cols * x_stride + i % cols]);
}

void
moe_cuda_copy_block(moe_job *job, int64_t rows, int64_t cols, const float *x, int64_t x_stride, bool add, float *out,
                    int64_t out_stride)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device != NULL && rows * cols > 0)
        MOE_LAUNCH(device, copy_rows, thread_blocks(device, rows * cols), THREADS, rows * cols, cols, x, x_stride, add,
                   out, out_stride);
}

/* As the host does, a NaN passes. */
struct rectified
{
    const float *x;
    __device__ float
    operator()(int64_t i) const
    {
        return x[i] <= 0 ? 0 : x[i];
    }
};

void
moe_cuda_relu(moe_job *job, int64_t count, const float *x, float *out)
{
    map(moe_cuda_of(job), count, false, rectified{x}, out);
}

struct rectified_back
{
    float factor;
    const float *y, *gy;
    __device__ float
    operator()(int64_t i) const
    {
        return y[i] > 0 ? factor * gy[i] : 0;
    }
};

void
moe_cuda_relu_backward(moe_job *job, int64_t count, float factor, const float *y, const float *gy, bool add, float *gx)
{
    map(moe_cuda_of(job), count, add, rectified_back{factor, y, gy}, gx);
}

struct dropped
{
    uint32_t draws;
    float factor;
    uint64_t key;
    bool rectify;
    const float *x;
    __device__ float
    operator()(int64_t i) const
    {
        float value = rectify && x[i] <= 0 ? 0 : x[i] * factor;
        return moe_random_draw(key, (uint64_t) i) < draws ? 0 : value;
    }
};

void
moe_cuda_dropout(moe_job *job, int64_t count, float rate, uint64_t key, const float *x, bool add, float *out)
{
    map(moe_cuda_of(job), count, add, dropped{moe_dropped_draws(rate), moe_dropout_factor(rate), key, false, x}, out);
}

void
moe_cuda_relu_dropout(moe_job *job, int64_t count, float rate, uint64_t key, const float *x, float *out)
{
    map(moe_cuda_of(job), count, false, dropped{moe_dropped_draws(rate), moe_dropout_factor(rate), key, true, x}, out);
}

/* Written so that NaN stays NaN. */
struct exponential
{
    const float *x;
    __device__ float
    operator()(int64_t i) const
    {
        float limited = x[i] > MOE_EXP_LIMIT ? MOE_EXP_LIMIT : x[i];
        return expf(limited < -MOE_EXP_LIMIT ? -MOE_EXP_LIMIT : limited);
    }
};

void
moe_cuda_exp(moe_job *job, int64_t count, const float *x, float *out)
{
    map(moe_cuda_of(job), count, false, exponential{x}, out);
}

struct exponential_back
{
    const float *x, *y, *gy;
    __device__ float
    operator()(int64_t i) const
    {
        return gy[i] * (fabsf(x[i]) >= MOE_EXP_LIMIT ? 0 : y[i]);
    }
};

void
moe_cuda_exp_backward(moe_job *job, int64_t count, const float *x, const float *y, const float *gy, bool add, float *gx)
{
    map(moe_cuda_of(job), count, add, exponential_back{x, y, gy}, gx);
}
