/*
 * cascade.c: what stopping early saves and costs.
 *
 * Rows are sorted by the worth of reading on; those that stop at a threshold
 * are a prefix, so that the loss at every threshold is a running sum of early
 * losses and what is left of the full ones.
 */
#include "gnn/cascade.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

#define LEAST_P 1e-7 /* probabilities are kept from 0 by this much, so that losses are finite */

typedef struct ranked
{
    float worth;
    float reading;
    double early; /* losses */
    double full;
} ranked;

static double
entropy_of(double p)
{
    return p > LEAST_P ? -p * log(p) : 0;
}

float
moe_cascade_worth(moe_task_type task, int n_classes, const float *early, float expected)
{
    double entropy = 0;
    if (task == MOE_BINARY)
        entropy = entropy_of(early[0]) + entropy_of(1 - (double) early[0]);
    for (int c = 0; task != MOE_BINARY && c < n_classes; c++)
        entropy += entropy_of(early[c]);
    return (float) (entropy / expected);
}

static double
log_loss(moe_task_type task, const float *prediction, float label)
{
    double p =
        task == MOE_BINARY ? (label > 0.5f ? prediction[0] : 1 - (double) prediction[0]) : prediction[(int) label];
    return -log(p > LEAST_P ? p : LEAST_P);
}

static int
by_worth(const void *a, const void *b)
{
    float x = ((const ranked *) a)->worth, y = ((const ranked *) b)->worth;
    return (x > y) - (x < y);
}

/* Points about evenly apart, by rows that stop and by what is not read; rows of one worth stop together. */
static void
trace(const ranked *rows, int64_t n, double reading, moe_cascade_curve *out)
{
    double early = 0, full = 0, saved = 0;
    int64_t stopped = 0;
    for (int64_t i = 0; i < n; i++)
        full += rows[i].full;
    out->points = 1;
    out->point[0] = (moe_cascade_point){-1, 1, 1, full / (double) n};
    for (int p = 1; p < MOE_CASCADE_POINTS && stopped < n; p++)
    {
        double until = (double) p / (MOE_CASCADE_POINTS - 1);
        bool last = p == MOE_CASCADE_POINTS - 1; /* where all stop, whatever it is worth */
        int64_t before = stopped;
        while (stopped < n && (last || ((double) stopped / (double) n + saved / reading) / 2 < until))
        {
            float worth = rows[stopped].worth;
            for (; stopped < n && rows[stopped].worth == worth; stopped++)
            {
                early += rows[stopped].early;
                full -= rows[stopped].full;
                saved += rows[stopped].reading;
            }
        }
        bool all = stopped == n;
        if (stopped == before)
            continue; /* more than a step at once came before */
        out->point[out->points++] =
            (moe_cascade_point){all ? FLT_MAX : rows[stopped - 1].worth, all ? 0 : fmax(1 - saved / reading, 0),
                                (double) (n - stopped) / (double) n, (early + full) / (double) n};
    }
}

moe_code
moe_cascade_measure(moe_job *job, moe_task_type task, int n_classes, const moe_cascade_rows *from, int64_t least,
                    moe_cascade_curve *out)
{
    int width = task == MOE_MULTICLASS ? n_classes : 1;
    int64_t n = 0;
    double reading = 0;
    *out = (moe_cascade_curve){0};
    if (task == MOE_REGRESSION)
        return moe_fail(job, MOE_INVALID, "a cascade is measured on rows with classes");
    ranked *rows = moe_alloc(job, from->n, sizeof *rows);
    if (rows == NULL)
        return moe_job_code(job);
    for (int64_t i = 0; i < from->n; i++)
    {
        const float *early = from->early + i * width, *full = from->full + i * width;
        float own = from->reading == NULL ? 1 : from->reading[i];
        if (isnan(own))
            continue;
        rows[n++] = (ranked){moe_cascade_worth(task, n_classes, early, from->expected[i]), own,
                             log_loss(task, early, from->label[i]), log_loss(task, full, from->label[i])};
        reading += own;
    }
    for (int64_t i = 0; reading == 0 && i < n; i++)
        rows[i].reading = 1;
    qsort(rows, (size_t) n, sizeof *rows, by_worth);
    if (n > 0 && n >= least)
        trace(rows, n, reading > 0 ? reading : (double) n, out);
    moe_free(job, rows);
    return MOE_OK;
}

int
moe_cascade_choose(const moe_cascade_curve *curve, double budget)
{
    int p = 0;
    while (p + 1 < curve->points && curve->point[p].reads > budget)
        p++;
    return p;
}

double
moe_cascade_reads(int64_t n, const float *reading, const bool *stops)
{
    double all = 0, read = 0;
    int64_t known = 0, asked = 0;
    for (int64_t i = 0; i < n; i++)
    {
        if (isnan(reading[i]))
            continue;
        known++;
        all += reading[i];
        asked += !stops[i];
        read += stops[i] ? 0 : reading[i];
    }
    if (all > 0)
        return read / all;
    return known > 0 ? (double) asked / (double) known : NAN;
}

void
moe_cascade_write(const moe_cascade_curve *curve, moe_buffer *buffer)
{
    moe_put_i32(buffer, curve->points);
    for (int p = 0; p < curve->points; p++)
    {
        moe_put_f64(buffer, curve->point[p].threshold);
        moe_put_f64(buffer, curve->point[p].reads);
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
        point->reads = moe_get_f64(reader);
        point->asked = moe_get_f64(reader);
        point->loss = moe_get_f64(reader);
        if (moe_reader_code(reader) != MOE_OK)
            return moe_reader_code(reader);
        if (!(p == 0 ? point->threshold == -1 : point->threshold >= 0 && point->threshold <= FLT_MAX) ||
            !isfinite(point->loss) || !(point->asked >= 0 && point->asked <= 1) ||
            !(point->reads >= 0 && point->reads <= 1) ||
            (p > 0 && !(point->threshold > point[-1].threshold && point->asked <= point[-1].asked &&
                        point->reads <= point[-1].reads)))
            return moe_fail(reader->job, MOE_CORRUPT, "a stored cascade does not descend");
    }
    return MOE_OK;
}
