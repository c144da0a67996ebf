/*
 * cascade.c: the uncertainty of running means, and the curve of cost against loss.
 *
 * Thresholds to try are quantiles of all uncertainties that a row could stop
 * at. Every stage's uncertainty and loss is computed once; a threshold then
 * costs one walk over the rows.
 */
#include "gnn/cascade.h"

#include <math.h>
#include <stdlib.h>

#define FORMAT            1
#define LEAST_PROBABILITY 1e-7

static double
gate(const moe_cascade_rows *rows, int64_t i, int stage)
{
    return rows->gates == NULL ? 1 : rows->gates[i * rows->stages + stage];
}

/* Number c of row i: the weighted mean of what the experts so far say. */
static double
running_mean(const moe_cascade_rows *rows, int k, int64_t i, int c, int stage)
{
    double sum = 0, total = 0;
    for (int s = 0; s <= stage; s++)
        if (gate(rows, i, s) > 0)
        {
            sum += gate(rows, i, s) * rows->prediction[s][i * k + c];
            total += gate(rows, i, s);
        }
    return total > 0 ? sum / total : NAN;
}

/* The width of the range, or the standard deviation of the experts so far. */
static double
doubt_of_number(const moe_cascade_rows *rows, int64_t i, int stage, double mean)
{
    if (rows->width[stage] != NULL)
        return rows->width[stage][i] >= 0 ? rows->width[stage][i] : INFINITY;
    double sum = 0, total = 0;
    int experts = 0;
    for (int s = 0; s <= stage; s++)
        if (gate(rows, i, s) > 0)
        {
            double off = rows->prediction[s][i] - mean;
            sum += gate(rows, i, s) * off * off;
            total += gate(rows, i, s);
            experts++;
        }
    return experts > 1 ? sqrt(sum / total) : INFINITY;
}

void
moe_cascade_stage(moe_task_type task, int n_classes, const moe_cascade_rows *rows, int stage, float *prediction,
                  float *uncertainty)
{
    int k = task == MOE_MULTICLASS ? n_classes : 1;
    for (int64_t i = 0; i < rows->n; i++)
    {
        float largest = 0;
        for (int c = 0; c < k; c++)
        {
            prediction[i * k + c] = (float) running_mean(rows, k, i, c, stage);
            largest = prediction[i * k + c] > largest ? prediction[i * k + c] : largest;
        }
        double doubt = task == MOE_BINARY       ? 1 - fabs(2 * (double) prediction[i] - 1)
                       : task == MOE_MULTICLASS ? 1 - (double) largest
                                                : doubt_of_number(rows, i, stage, prediction[i]);
        uncertainty[i] = isnan(prediction[i * k]) ? INFINITY : doubt > 0 ? (float) doubt : 0;
    }
}

typedef struct measuring
{
    moe_job *job;
    const moe_cascade_rows *rows;
    const double *cost;
    float *uncertainty; /* [stages, n] */
    float *loss;        /* [stages, n] */
} measuring;

static double
row_loss(moe_task_type task, int k, const float *prediction, float label)
{
    if (task == MOE_REGRESSION)
        return fabs((double) prediction[0] - label);
    double p = task == MOE_MULTICLASS ? prediction[(int) label] : label > 0.5f ? prediction[0] : 1 - prediction[0];
    return -log(fmin(fmax(p, LEAST_PROBABILITY), 1));
}

static moe_code
compute_stages(measuring *m, moe_task_type task, int n_classes, const float *label)
{
    int64_t n = m->rows->n;
    int k = task == MOE_MULTICLASS ? n_classes : 1;
    float *prediction = moe_alloc(m->job, n, k * sizeof(float));
    if (prediction == NULL)
        return moe_job_code(m->job);
    for (int s = 0; s < m->rows->stages && moe_job_check(m->job) == MOE_OK; s++)
    {
        moe_cascade_stage(task, n_classes, m->rows, s, prediction, m->uncertainty + s * n);
        for (int64_t i = 0; i < n; i++)
            m->loss[s * n + i] = (float) row_loss(task, k, prediction + i * k, label[i]);
    }
    moe_free(m->job, prediction);
    return moe_job_check(m->job);
}

static int
ascending(const void *a, const void *b)
{
    float x = *(const float *) a;
    float y = *(const float *) b;
    return (x > y) - (x < y);
}

/* -1, and quantiles of the uncertainties before the last stage, up to the largest that is finite. */
static moe_code
pick_thresholds(const measuring *m, moe_cascade_curve *curve)
{
    int64_t all = m->rows->n * (m->rows->stages - 1);
    int64_t known = 0;
    float *sorted = moe_alloc(m->job, all, sizeof *sorted);
    if (sorted == NULL)
        return moe_job_code(m->job);
    for (int64_t i = 0; i < all; i++)
        if (isfinite(m->uncertainty[i]))
            sorted[known++] = m->uncertainty[i];
    qsort(sorted, known, sizeof *sorted, ascending);
    curve->points = 1;
    curve->point[0].threshold = -1;
    for (int q = 1; known > 0 && q < MOE_CASCADE_POINTS; q++)
    {
        double threshold = sorted[(known - 1) * q / (MOE_CASCADE_POINTS - 1)];
        if (threshold > curve->point[curve->points - 1].threshold)
            curve->point[curve->points++].threshold = threshold;
    }
    moe_free(m->job, sorted);
    return moe_job_check(m->job);
}

static void
measure_point(const measuring *m, moe_cascade_point *point)
{
    int64_t n = m->rows->n;
    int last = m->rows->stages - 1;
    for (int64_t i = 0; i < n; i++)
    {
        int s = 0;
        double cost = gate(m->rows, i, 0) > 0 ? m->cost[0] : 0;
        while (s < last && !moe_cascade_stops(point->threshold, m->uncertainty[s * n + i]))
            cost += gate(m->rows, i, ++s) > 0 ? m->cost[s] : 0;
        point->stopped[s] += 1;
        point->cost += cost / n;
        point->loss += (double) m->loss[s * n + i] / n;
    }
    for (int s = 0; s <= last; s++)
        point->stopped[s] /= n;
}

/* What is wrong with what is to be measured, or NULL. */
static const char *
problem_of(moe_task_type task, int n_classes, const moe_cascade_rows *rows, const double *cost, const float *label)
{
    int k = task == MOE_MULTICLASS ? n_classes : 1;
    if (rows->n < 1 || rows->stages < 1 || rows->stages > MOE_CASCADE_STAGES)
        return "there must be rows, and 1 to 16 stages";
    if ((task != MOE_BINARY && task != MOE_REGRESSION && task != MOE_MULTICLASS) || k < 1)
        return "unknown task";
    for (int s = 0; s < rows->stages; s++)
        if (!(cost[s] >= 0) || !isfinite(cost[s]))
            return "a cost must be a number of 0 or more";
    for (int64_t i = 0; i < rows->n; i++)
    {
        double total = 0;
        if (!isfinite(label[i]) || (task == MOE_MULTICLASS && !(label[i] >= 0 && label[i] < k)))
            return "a label does not fit the task";
        for (int s = 0; s < rows->stages; s++)
        {
            if (!(gate(rows, i, s) >= 0))
                return "a gate is negative or no number";
            for (int c = 0; gate(rows, i, s) > 0 && c < k; c++)
                if (!isfinite(rows->prediction[s][i * k + c]))
                    return "a prediction is not a finite number";
            total += gate(rows, i, s);
        }
        if (!(total > 0) || !isfinite(total))
            return "the gates of a row must sum to a number above 0";
    }
    return NULL;
}

moe_code
moe_cascade_measure(moe_job *job, moe_task_type task, int n_classes, const moe_cascade_rows *rows, const double *cost,
                    const float *label, moe_cascade_curve *out)
{
    *out = (moe_cascade_curve){0};
    const char *problem = problem_of(task, n_classes, rows, cost, label);
    if (problem != NULL)
        return moe_fail(job, MOE_INVALID, "the cascade cannot be measured: %s", problem);
    measuring m = {.job = job, .rows = rows, .cost = cost};
    m.uncertainty = moe_alloc(job, rows->n, rows->stages * sizeof(float));
    m.loss = moe_alloc(job, rows->n, rows->stages * sizeof(float));
    moe_cascade_curve curve = {.stages = rows->stages};
    moe_code code = moe_job_check(job);
    if (code == MOE_OK)
        code = compute_stages(&m, task, n_classes, label);
    if (code == MOE_OK)
        code = pick_thresholds(&m, &curve);
    for (int p = 0; code == MOE_OK && p < curve.points; p++)
    {
        measure_point(&m, &curve.point[p]);
        code = moe_job_check(job);
    }
    moe_free(job, m.uncertainty);
    moe_free(job, m.loss);
    if (code == MOE_OK)
        *out = curve;
    return code;
}

int
moe_cascade_choose(const moe_cascade_curve *curve, double budget)
{
    int best = -1, cheapest = 0;
    for (int p = 0; p < curve->points; p++)
    {
        const moe_cascade_point *point = &curve->point[p];
        if (point->cost < curve->point[cheapest].cost)
            cheapest = p;
        if (!(point->cost <= budget))
            continue;
        if (best < 0 || point->loss < curve->point[best].loss ||
            (point->loss == curve->point[best].loss && point->cost < curve->point[best].cost))
            best = p;
    }
    return best < 0 ? cheapest : best;
}

void
moe_cascade_write(const moe_cascade_curve *curve, moe_buffer *buffer)
{
    moe_put_u8(buffer, FORMAT);
    moe_put_i32(buffer, curve->stages);
    moe_put_i32(buffer, curve->points);
    for (int p = 0; p < curve->points; p++)
    {
        moe_put_f64(buffer, curve->point[p].threshold);
        moe_put_f64(buffer, curve->point[p].cost);
        moe_put_f64(buffer, curve->point[p].loss);
        for (int s = 0; s < curve->stages; s++)
            moe_put_f64(buffer, curve->point[p].stopped[s]);
    }
}

/* Comparisons are written so that NaN fails. */
static bool
is_sound(const moe_cascade_curve *curve)
{
    for (int p = 0; p < curve->points; p++)
    {
        const moe_cascade_point *point = &curve->point[p];
        double total = 0;
        if (!(point->threshold >= -1 && point->cost >= 0 && point->loss >= 0) || !isfinite(point->threshold) ||
            !isfinite(point->cost) || !isfinite(point->loss) ||
            (p > 0 && !(point->threshold > curve->point[p - 1].threshold)))
            return false;
        for (int s = 0; s < curve->stages; s++)
        {
            if (!(point->stopped[s] >= 0 && point->stopped[s] <= 1))
                return false;
            total += point->stopped[s];
        }
        if (fabs(total - 1) > 1e-6)
            return false;
    }
    return true;
}

moe_code
moe_cascade_read(moe_reader *reader, moe_cascade_curve *out)
{
    moe_cascade_curve curve = {0};
    *out = curve;
    int format = moe_get_u8(reader);
    curve.stages = moe_get_i32(reader);
    curve.points = moe_get_i32(reader);
    bool known = format == FORMAT && curve.stages >= 1 && curve.stages <= MOE_CASCADE_STAGES && curve.points >= 1 &&
                 curve.points <= MOE_CASCADE_POINTS;
    for (int p = 0; known && p < curve.points; p++)
    {
        curve.point[p].threshold = moe_get_f64(reader);
        curve.point[p].cost = moe_get_f64(reader);
        curve.point[p].loss = moe_get_f64(reader);
        for (int s = 0; s < curve.stages; s++)
            curve.point[p].stopped[s] = moe_get_f64(reader);
    }
    if (moe_reader_code(reader) != MOE_OK)
        return moe_reader_code(reader);
    if (!known || !is_sound(&curve))
        return moe_fail(reader->job, MOE_CORRUPT, "a stored cascade is damaged");
    *out = curve;
    return MOE_OK;
}
