/*
 * cascade.c: what stopping early saves and costs.
 *
 * Rows are sorted by the uncertainty of their early prediction; those that
 * stop at a threshold are a prefix, so that the loss at every threshold is a
 * running sum of early losses and what is left of the full ones.
 */
#include "gnn/cascade.h"

#include <math.h>
#include <stdlib.h>

#define LEAST_P 1e-7 /* probabilities are kept from 0 by this much, so that losses are finite */

typedef struct ranked
{
    float uncertainty;
    double early; /* losses */
    double full;
} ranked;

float
moe_cascade_uncertainty(moe_task_type task, int n_classes, const float *prediction)
{
    float largest = prediction[0];
    if (task == MOE_BINARY)
        return 1 - fabsf(2 * prediction[0] - 1);
    for (int c = 1; c < n_classes; c++)
        largest = prediction[c] > largest ? prediction[c] : largest;
    return 1 - largest;
}

static double
log_loss(moe_task_type task, const float *prediction, float label)
{
    double p =
        task == MOE_BINARY ? (label > 0.5f ? prediction[0] : 1 - (double) prediction[0]) : prediction[(int) label];
    return -log(p > LEAST_P ? p : LEAST_P);
}

static int
by_uncertainty(const void *a, const void *b)
{
    float x = ((const ranked *) a)->uncertainty, y = ((const ranked *) b)->uncertainty;
    return (x > y) - (x < y);
}

/* The points at which about equally many more rows stop; rows of one uncertainty stop together. */
static void
trace(const ranked *rows, int64_t n, moe_cascade_curve *out)
{
    double early = 0, full = 0;
    int64_t stopped = 0;
    for (int64_t i = 0; i < n; i++)
        full += rows[i].full;
    out->points = 1;
    out->point[0] = (moe_cascade_point){-1, 1, full / (double) n};
    for (int p = 1; p < MOE_CASCADE_POINTS; p++)
    {
        int64_t until = n * p / (MOE_CASCADE_POINTS - 1);
        if (until <= stopped)
            continue;
        float threshold = until < n ? rows[until - 1].uncertainty : 1; /* at last all do, however uncertain */
        for (; stopped < n && rows[stopped].uncertainty <= threshold; stopped++)
        {
            early += rows[stopped].early;
            full -= rows[stopped].full;
        }
        out->point[out->points++] =
            (moe_cascade_point){threshold, (double) (n - stopped) / (double) n, (early + full) / (double) n};
    }
}

moe_code
moe_cascade_measure(moe_job *job, moe_task_type task, int n_classes, int64_t n, const float *early, const float *full,
                    const float *label, moe_cascade_curve *out)
{
    int width = task == MOE_MULTICLASS ? n_classes : 1;
    *out = (moe_cascade_curve){0};
    if (task == MOE_REGRESSION || n < 1)
        return moe_fail(job, MOE_INVALID, "a cascade is measured on rows with classes");
    ranked *rows = moe_alloc(job, n, sizeof *rows);
    if (rows == NULL)
        return moe_job_code(job);
    for (int64_t i = 0; i < n; i++)
        rows[i] = (ranked){moe_cascade_uncertainty(task, n_classes, early + i * width),
                           log_loss(task, early + i * width, label[i]), log_loss(task, full + i * width, label[i])};
    qsort(rows, (size_t) n, sizeof *rows, by_uncertainty);
    trace(rows, n, out);
    moe_free(job, rows);
    return MOE_OK;
}

int
moe_cascade_choose(const moe_cascade_curve *curve, double budget)
{
    int p = 0;
    while (p + 1 < curve->points && curve->point[p].asked > budget)
        p++;
    return p;
}

void
moe_cascade_write(const moe_cascade_curve *curve, moe_buffer *buffer)
{
    moe_put_i32(buffer, curve->points);
    for (int p = 0; p < curve->points; p++)
    {
        moe_put_f64(buffer, curve->point[p].threshold);
        moe_put_f64(buffer, curve->point[p].asked);
        moe_put_f64(buffer, curve->point[p].loss);
    }
}

moe_code
moe_cascade_read(moe_reader *reader, moe_cascade_curve *out)
{
    *out = (moe_cascade_curve){.points = moe_get_i32(reader)};
    if (moe_reader_code(reader) != MOE_OK)
        return moe_reader_code(reader);
    if (out->points < 0 || out->points > MOE_CASCADE_POINTS)
        return moe_fail(reader->job, MOE_CORRUPT, "a stored cascade has %d points", out->points);
    for (int p = 0; p < out->points; p++)
    {
        moe_cascade_point *point = &out->point[p];
        point->threshold = moe_get_f64(reader);
        point->asked = moe_get_f64(reader);
        point->loss = moe_get_f64(reader);
        if (moe_reader_code(reader) != MOE_OK)
            return moe_reader_code(reader);
        if (!isfinite(point->threshold) || !isfinite(point->loss) || !(point->asked >= 0 && point->asked <= 1) ||
            (p > 0 && !(point->threshold > point[-1].threshold && point->asked <= point[-1].asked)))
            return moe_fail(reader->job, MOE_CORRUPT, "a stored cascade does not descend");
    }
    return MOE_OK;
}
