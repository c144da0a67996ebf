/*
 * edges.cu: what is done entry by entry of a sparse matrix: maxima, dot products, transposition.
 *
 * Entries are numbered by int32_t, so that a matrix has fewer than 2^31.
 */
#include "kernels/cuda/cuda.cuh"

/* A thread a column of a row: neighbours read neighbouring columns of the same row of x. */
static __global__ void
max_rows(moe_sparse s, int64_t cols, const float *__restrict__ x, float *__restrict__ out, int32_t *__restrict__ argmax)
{
    FOR_THREADS(item, s.rows * cols)
    {
        int64_t row = item / cols;
        int64_t j = item % cols;
        int64_t to = begin_of(s, row + 1);
        float best = 0;
        int32_t from = -1;
        for (int64_t k = begin_of(s, row); k < to; k++)
        {
            int64_t source = s.index[k];
            if (source < 0)
                continue;
            float value = (s.weight == NULL ? 1 : s.weight[k]) * x[source * cols + j];
            if (from < 0 || value > best || (isnan(best) && !isnan(value)))
            {
                best = value;
                from = (int32_t) k;
            }
        }
        out[item] = best;
        if (argmax != NULL)
            argmax[item] = from;
    }
}

void
moe_cuda_aggregate_max(moe_job *job, const moe_sparse *s, int64_t cols, const float *x, float *out, int32_t *argmax)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device != NULL && s->rows * cols > 0)
        MOE_LAUNCH(device, max_rows, thread_blocks(device, s->rows * cols), THREADS, *s, cols, x, out, argmax);
}

static __global__ void
max_rows_back(moe_sparse t, const int32_t *__restrict__ entry, int64_t cols, const int32_t *__restrict__ argmax,
              const float *__restrict__ gy, bool add, float *__restrict__ gx)
{
    FOR_THREADS(item, t.rows * cols)
    {
        int64_t row = item / cols;
        int64_t to = begin_of(t, row + 1);
        float total = 0;
        for (int64_t k = begin_of(t, row); k < to; k++)
        {
            int64_t at = (int64_t) t.index[k] * cols + item % cols;
            if (argmax[at] == entry[k])
                total += (t.weight == NULL ? 1 : t.weight[k]) * gy[at];
        }
        put(&gx[item], add, total);
    }
}

void
moe_cuda_aggregate_max_backward(moe_job *job, const moe_sparse *t, const int32_t *entry, int64_t cols,
                                const int32_t *argmax, const float *gy, bool add, float *gx)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device != NULL && t->rows * cols > 0)
        MOE_LAUNCH(device, max_rows_back, thread_blocks(device, t->rows * cols), THREADS, *t, entry, cols, argmax, gy,
                   add, gx);
}

/* The row that entry k belongs to: the last one that begins at or before it. */
static __device__ __forceinline__ int64_t
row_of(const moe_sparse &s, int64_t k)
{
    return s.offset == NULL ? k / (s.width == 0 ? 1 : s.width) : first_not_below(s.offset, s.rows + 1, k + 1) - 1;
}

/* A warp an entry. */
static __global__ void
dot_entries(moe_sparse s, int64_t cols, const float *__restrict__ a, const float *__restrict__ b, bool add,
            float *__restrict__ out)
{
    FOR_WARPS(k, s.entries)
    {
        int64_t source = s.index[k];
        int64_t row = row_of(s, k);
        float total = 0;
        for (int64_t j = LANE; source >= 0 && j < cols; j += WARP)
            total += a[row * cols + j] * b[source * cols + j];
        total = warp_sum(total);
        if (LANE == 0)
            put(&out[k], add, total);
    }
}

void
moe_cuda_edge_dot(moe_job *job, const moe_sparse *s, int64_t cols, const float *a, const float *b, bool add, float *out)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device != NULL && s->rows > 0 && s->entries > 0)
        MOE_LAUNCH(device, dot_entries, warp_blocks(device, s->entries), THREADS, *s, cols, a, b, add, out);
}

/* How many entries there are only the device knows: offset[columns] of the result. */
static __global__ void
fill_transpose(moe_sparse s, int parts, const int32_t *__restrict__ sorted, const int64_t *__restrict__ end,
               int32_t *__restrict__ index, float *__restrict__ weight, int32_t *__restrict__ entry)
{
    FOR_THREADS(place, *end)
    {
        int64_t k = sorted[place / parts];
        int64_t part = place % parts;
        int64_t row = row_of(s, k);
        index[place] = (int32_t) (row * parts + part);
        if (entry != NULL)
            entry[place] = (int32_t) k;
        if (weight != NULL)
        {
            float value = s.weight == NULL ? 1 : s.weight[k * parts + part];
            weight[place] = s.reduce == MOE_MEAN ? value / (float) (begin_of(s, row + 1) - begin_of(s, row)) : value;
        }
    }
}

void
moe_cuda_transpose(moe_job *job, const moe_sparse *s, int parts, int64_t columns, int64_t *offset, int32_t *index,
                   float *weight, int32_t *entry)
{
    moe_cuda *device = moe_cuda_of(job);
    if (device == NULL)
        return;
    moe_scratch<int32_t> sorted(device, s->entries);
    if ((sorted.data == NULL && s->entries > 0) ||
        !moe_cuda_sort(device, s->entries, s->index, columns, sorted.data, offset, parts) || s->entries == 0)
        return;
    MOE_LAUNCH(device, fill_transpose, thread_blocks(device, s->entries * parts), THREADS, *s, parts, sorted.data,
               offset + columns, index, weight, entry);
}
