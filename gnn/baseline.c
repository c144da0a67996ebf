/*
 * baseline.c: predictions that need no model.
 *
 * Past labels are sorted by entity, then time, with running sums beside them;
 * the labels known to a seed are then a range, found by two binary searches.
 * A label is known once its window has closed: time + window <= min(seed
 * time, horizon).
 */
#include "gnn/baseline.h"

#include <math.h>
#include <stdlib.h>

static int
ascending(const void *a, const void *b)
{
    float x = *(const float *) a;
    float y = *(const float *) b;
    return (x > y) - (x < y);
}

static moe_code
median(moe_job *job, const float *label, int64_t n, float *out)
{
    float *sorted = moe_alloc(job, n, sizeof *sorted);
    if (sorted == NULL)
        return moe_job_code(job);
    for (int64_t i = 0; i < n; i++)
        sorted[i] = label[i];
    qsort(sorted, n, sizeof *sorted, ascending);
    *out = (float) (((double) sorted[(n - 1) / 2] + sorted[n / 2]) / 2);
    moe_free(job, sorted);
    return MOE_OK;
}

/* Columns of the label sums: one, or one a class. */
static inline int
columns(moe_task_type task, int k)
{
    return task == MOE_MULTICLASS ? k : 1;
}

static moe_code
check_known(moe_job *job, moe_task_type task, int k, const moe_samples *known)
{
    if (known->n < 1)
        return moe_fail(job, MOE_INVALID, "there are no labels to learn from");
    if (task == MOE_MULTICLASS && k < 2)
        return moe_fail(job, MOE_INVALID, "a multiclass task needs two classes or more");
    for (int64_t i = 0; i < known->n; i++)
        if (!isfinite(known->label[i]) || (task == MOE_MULTICLASS && !(known->label[i] >= 0 && known->label[i] < k)))
            return moe_fail(job, MOE_INVALID, "label %g of row %lld does not fit the task", known->label[i],
                            (long long) i);
    return MOE_OK;
}

/* The constant prediction: [columns]. */
static moe_code
constant_of(moe_job *job, moe_task_type task, int k, const moe_samples *known, float *out)
{
    moe_code code = check_known(job, task, k, known);
    if (code != MOE_OK)
        return code;
    if (task == MOE_REGRESSION)
        return median(job, known->label, known->n, out);
    int width = columns(task, k);
    double *sum = moe_alloc(job, width, sizeof *sum);
    if (sum == NULL)
        return moe_job_code(job);
    for (int64_t i = 0; i < known->n; i++)
        if (task == MOE_MULTICLASS)
            sum[(int) known->label[i]] += 1;
        else
            sum[0] += known->label[i];
    for (int c = 0; c < width; c++)
        out[c] = (float) (sum[c] / known->n);
    moe_free(job, sum);
    return MOE_OK;
}

moe_code
moe_baseline_constant(moe_job *job, moe_task_type task, int k, const moe_samples *known, int64_t n, float *out)
{
    int width = columns(task, k);
    float *constant = moe_alloc(job, width, sizeof *constant);
    if (constant == NULL)
        return moe_job_code(job);
    moe_code code = constant_of(job, task, k, known, constant);
    for (int64_t i = 0; code == MOE_OK && i < n * width; i++)
        out[i] = constant[i % width];
    moe_free(job, constant);
    return code;
}

typedef struct past
{
    int32_t row;
    float label;
    int64_t time;
} past;

static int
by_row_and_time(const void *a, const void *b)
{
    const past *x = a;
    const past *y = b;
    if (x->row != y->row)
        return x->row < y->row ? -1 : 1;
    return (x->time > y->time) - (x->time < y->time);
}

/* The first of the sorted labels not before (row, time), or after it if `after`. */
static int64_t
search(const past *labels, int64_t n, int32_t row, int64_t time, bool after)
{
    int64_t low = 0;
    int64_t high = n;
    past wanted = {row, 0, time};
    while (low < high)
    {
        int64_t middle = low + (high - low) / 2;
        int order = by_row_and_time(&labels[middle], &wanted);
        if (order < 0 || (after && order == 0))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Running sums of the labels: [(n + 1) * width], row i sums the labels before i. */
static void
running_sums(const past *labels, int64_t n, int width, double *sums)
{
    for (int64_t i = 0; i < n; i++)
        for (int c = 0; c < width; c++)
        {
            double value = width > 1 ? (double) ((int) labels[i].label == c) : (double) labels[i].label;
            sums[(i + 1) * width + c] = sums[i * width + c] + value;
        }
}

/* The newest label time whose window has closed by what a seed may see. */
static int64_t
closed_before(const moe_seeds *seeds, int64_t i, int64_t window)
{
    int64_t limit = seeds->time[i];
    if (seeds->horizon != NULL && seeds->horizon[i] < limit)
        limit = seeds->horizon[i];
    int64_t closed;
    return __builtin_sub_overflow(limit, window, &closed) ? INT64_MIN : closed;
}

moe_code
moe_baseline_entity(moe_job *job, moe_task_type task, int k, const moe_samples *training, const moe_samples *known,
                    int64_t window, const moe_seeds *seeds, float *out)
{
    int width = columns(task, k);
    past *labels = moe_alloc(job, known->n, sizeof *labels);
    double *sums = known->n > INT64_MAX / (width + 1) - 1 ? NULL : moe_alloc(job, (known->n + 1) * width, sizeof *sums);
    moe_code code = labels == NULL || sums == NULL ? moe_fail(job, MOE_OUT_OF_MEMORY, "out of memory")
                                                   : moe_baseline_constant(job, task, k, training, seeds->n, out);
    if (code == MOE_OK)
        code = check_known(job, task, k, known);
    if (code == MOE_OK)
    {
        for (int64_t i = 0; i < known->n; i++)
            labels[i] = (past){known->row[i], known->label[i], known->time[i]};
        qsort(labels, known->n, sizeof *labels, by_row_and_time);
        running_sums(labels, known->n, width, sums);
    }
    for (int64_t i = 0; code == MOE_OK && i < seeds->n; i++)
    {
        int64_t begin = search(labels, known->n, seeds->row[i], INT64_MIN, false);
        int64_t end = search(labels, known->n, seeds->row[i], closed_before(seeds, i, window), true);
        for (int c = 0; end > begin && c < width; c++)
            out[i * width + c] = (float) ((sums[end * width + c] - sums[begin * width + c]) / (end - begin));
    }
    moe_free(job, labels);
    moe_free(job, sums);
    return code;
}
