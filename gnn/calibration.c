/*
 * calibration.c: Platt's map, a temperature, and quantiles of residuals.
 *
 * Platt: Newton's method with step halving on the log loss of sigmoid(a f + b)
 * with his smoothed targets (Lin, Lin, Weng 2007). Temperature: the log loss is
 * convex in 1 / T, so its derivative's root is found by Newton steps kept in a
 * bracket. Residuals: of m sorted ones in a bin, number floor(.1 (m + 1)) from
 * below and number ceil(.9 (m + 1)), so that a new exchangeable row falls below
 * (above) with a chance of at most 10 % each.
 */
#include "gnn/calibration.h"

#include <math.h>
#include <stdlib.h>

#define FEWEST_ROWS         100
#define FEWEST_RESIDUALS    20
#define FEWEST_OF_BIN       50
#define LEAST_PROBABILITY   1e-7 /* in fitting: no row may pull without bound */
#define LEAST_SLOPE         1e-4 /* flatter maps would tie floats that differ */
#define LARGEST_SLOPE       1e4
#define LEAST_TEMPERATURE   0.02
#define LARGEST_TEMPERATURE 50.0
#define NEWTON_STEPS        100
#define LEAST_GRADIENT      1e-9
#define POLL                4096
#define FORMAT              1

/* log(p / (1 - p)); infinite at 0 and 1. */
static double
logit(double p)
{
    return log(p) - log1p(-p);
}

static double
sigmoid(double z)
{
    double small = exp(-fabs(z));
    return z >= 0 ? 1 / (1 + small) : small / (1 + small);
}

/* What Platt's loss needs: n logits, and the targets of either class. */
typedef struct platt
{
    int64_t n;
    const double *f;
    const float *label;
    double target[2];
} platt;

/* Loss at (slope, offset); gradient [2] and Hessian [3] (aa, ab, bb) unless NULL. */
static double
platt_loss(const platt *p, double slope, double offset, double *gradient, double *hessian)
{
    double loss = 0;
    for (int k = 0; gradient != NULL && k < 3; k++)
        hessian[k] = k == 1 ? 0 : 1e-12;
    for (int k = 0; gradient != NULL && k < 2; k++)
        gradient[k] = 0;
    for (int64_t i = 0; i < p->n; i++)
    {
        double z = slope * p->f[i] + offset;
        double target = p->target[p->label[i] > 0.5f];
        loss += (z > 0 ? (1 - target) * z : -target * z) + log1p(exp(-fabs(z)));
        if (gradient == NULL)
            continue;
        double q = sigmoid(z);
        double curvature = q * (1 - q);
        gradient[0] += (q - target) * p->f[i];
        gradient[1] += q - target;
        hessian[0] += curvature * p->f[i] * p->f[i];
        hessian[1] += curvature * p->f[i];
        hessian[2] += curvature;
    }
    return loss;
}

/* Newton's method from slope 1, offset 0. */
static moe_code
minimise_platt(moe_job *job, const platt *p, double *slope, double *offset)
{
    for (int s = 0; s < NEWTON_STEPS && moe_job_check(job) == MOE_OK; s++)
    {
        double g[2], h[3];
        double loss = platt_loss(p, *slope, *offset, g, h);
        if (fabs(g[0]) + fabs(g[1]) < LEAST_GRADIENT * p->n)
            break;
        double determinant = h[0] * h[2] - h[1] * h[1];
        double da = -(h[2] * g[0] - h[1] * g[1]) / determinant;
        double db = -(h[0] * g[1] - h[1] * g[0]) / determinant;
        double fall = g[0] * da + g[1] * db;
        double length = 1;
        while (length > 1e-10 &&
               !(platt_loss(p, *slope + length * da, *offset + length * db, NULL, NULL) < loss + 1e-4 * length * fall))
            length /= 2;
        if (length <= 1e-10)
            break;
        *slope += length * da;
        *offset += length * db;
    }
    return moe_job_check(job);
}

static moe_code
fit_platt(moe_job *job, int64_t n, const float *prediction, const float *label, moe_calibration *out)
{
    int64_t positives = 0;
    for (int64_t i = 0; i < n; i++)
        positives += label[i] > 0.5f;
    int64_t negatives = n - positives;
    if (n < FEWEST_ROWS || positives == 0 || negatives == 0)
        return MOE_OK;
    double *f = moe_alloc(job, n, sizeof *f);
    if (f == NULL)
        return moe_job_code(job);
    for (int64_t i = 0; i < n; i++)
        f[i] = logit(fmin(fmax(prediction[i], LEAST_PROBABILITY), 1 - LEAST_PROBABILITY));
    platt p = {.n = n, .f = f, .label = label, .target = {1.0 / (negatives + 2), (positives + 1.0) / (positives + 2)}};
    double slope = 1, offset = 0;
    moe_code code = minimise_platt(job, &p, &slope, &offset);
    if (slope < LEAST_SLOPE) /* what ranks backwards says nothing: as flat as may be, at the share */
    {
        double mean = 0;
        for (int64_t i = 0; i < n; i++)
            mean += f[i] / n;
        slope = LEAST_SLOPE;
        offset = log((positives + 1.0) / (negatives + 1.0)) - slope * mean;
    }
    moe_free(job, f);
    if (code != MOE_OK || !(slope <= LARGEST_SLOPE) || !isfinite(offset))
        return code;
    out->fitted = true;
    out->slope = slope;
    out->offset = offset;
    return MOE_OK;
}

/*
 * First and second derivative by `power` of the mean log loss of p^power / sum p^power. A little of each row's target
 * goes to the other classes, as in Platt's, so that classes that are told apart perfectly do not end at 0 and 1.
 */
static moe_code
temperature_slope(moe_job *job, int k, int64_t n, const float *prediction, const float *label, double power,
                  double *first, double *second)
{
    *first = *second = 0;
    for (int64_t i = 0; i < n; i++, prediction += k)
    {
        double total = 0, mean = 0, square = 0, all = 0, largest = LEAST_PROBABILITY;
        if (i % POLL == 0 && moe_job_check(job) != MOE_OK)
            return moe_job_code(job);
        for (int c = 0; c < k; c++)
            largest = fmax(largest, prediction[c]);
        for (int c = 0; c < k; c++)
        {
            double f = log(fmax(prediction[c], LEAST_PROBABILITY) / largest);
            double w = exp(power * f);
            all += f;
            total += w;
            mean += w * f;
            square += w * f * f;
        }
        mean /= total;
        double right = log(fmax(prediction[(int) label[i]], LEAST_PROBABILITY) / largest);
        double doubt = 1 / (n + 2.0);
        *first += (mean - (1 - doubt) * right - doubt * (all - right) / (k - 1)) / n;
        *second += (square / total - mean * mean) / n;
    }
    return MOE_OK;
}

static moe_code
fit_temperature(moe_job *job, int k, int64_t n, const float *prediction, const float *label, moe_calibration *out)
{
    bool one_class = true;
    for (int64_t i = 1; i < n; i++)
        one_class = one_class && label[i] == label[0];
    if (n < FEWEST_ROWS || one_class)
        return MOE_OK;
    double low = 1 / LARGEST_TEMPERATURE, high = 1 / LEAST_TEMPERATURE, power = 1;
    for (int s = 0; s < NEWTON_STEPS && high - low > 1e-9 * high; s++)
    {
        double first, second;
        if (temperature_slope(job, k, n, prediction, label, power, &first, &second) != MOE_OK)
            return moe_job_code(job);
        if (fabs(first) < LEAST_GRADIENT)
            break;
        if (first > 0)
            high = power;
        else
            low = power;
        double next = power - first / second;
        power = next > low && next < high ? next : sqrt(low * high);
    }
    out->fitted = true;
    out->temperature = 1 / power;
    return MOE_OK;
}

typedef struct residual
{
    float prediction;
    double value;
} residual;

static int
by_prediction(const void *a, const void *b)
{
    const residual *x = a;
    const residual *y = b;
    if (x->prediction != y->prediction)
        return x->prediction < y->prediction ? -1 : 1;
    return (x->value > y->value) - (x->value < y->value);
}

static int
by_value(const void *a, const void *b)
{
    const residual *x = a;
    const residual *y = b;
    return (x->value > y->value) - (x->value < y->value);
}

/* End of the bin that begins at `begin`: about `size` rows, equal predictions together, no small rest. */
static int64_t
bin_end(const residual *rows, int64_t n, int64_t begin, int64_t size)
{
    int64_t end = begin + size < n ? begin + size : n;
    while (end < n && rows[end].prediction == rows[end - 1].prediction)
        end++;
    return n - end < FEWEST_OF_BIN ? n : end;
}

static moe_code
fit_range(moe_job *job, int64_t n, const float *prediction, const float *label, moe_calibration *out)
{
    if (n < FEWEST_RESIDUALS)
        return MOE_OK;
    residual *rows = moe_alloc(job, n, sizeof *rows);
    if (rows == NULL)
        return moe_job_code(job);
    for (int64_t i = 0; i < n; i++)
        rows[i] = (residual){prediction[i], (double) label[i] - prediction[i]};
    qsort(rows, n, sizeof *rows, by_prediction);
    int64_t size = (n + MOE_CALIBRATION_BINS - 1) / MOE_CALIBRATION_BINS;
    size = size < FEWEST_OF_BIN ? FEWEST_OF_BIN : size;
    for (int64_t begin = 0, end; begin < n; begin = end, out->bins++)
    {
        end = bin_end(rows, n, begin, size);
        int64_t m = end - begin;
        int bin = out->bins;
        out->edge[bin] = end < n ? ((double) rows[end - 1].prediction + rows[end].prediction) / 2 : INFINITY;
        qsort(rows + begin, m, sizeof *rows, by_value);
        /* A range that leaves its own prediction out would say nothing to anyone. */
        out->lower[bin] = fmin(rows[begin + (m + 1) / 10 - 1].value, 0);
        out->upper[bin] = fmax(rows[begin + ((m + 1) * 9 + 9) / 10 - 1].value, 0);
    }
    out->fitted = true;
    moe_free(job, rows);
    return moe_job_check(job);
}

/* The identity, and no range. */
static moe_calibration
identity(moe_task_type task)
{
    return (moe_calibration){.task = task, .slope = 1, .temperature = 1};
}

static const char *
rows_problem(moe_task_type task, int n_classes, int64_t n, const float *prediction, const float *label)
{
    int k = task == MOE_MULTICLASS ? n_classes : 1;
    if (task != MOE_BINARY && task != MOE_REGRESSION && task != MOE_MULTICLASS)
        return "unknown task type";
    if (task == MOE_MULTICLASS && n_classes < 2)
        return "a multiclass task needs two classes or more";
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(label[i]) || (task == MOE_MULTICLASS && !(label[i] >= 0 && label[i] < n_classes)))
            return "a label does not fit the task";
    for (int64_t i = 0; i < n * k; i++)
        if (!isfinite(prediction[i]))
            return "a prediction is not a finite number";
    return NULL;
}

moe_code
moe_calibration_fit(moe_job *job, moe_task_type task, int n_classes, int64_t n, const float *prediction,
                    const float *label, moe_calibration *out)
{
    *out = identity(task);
    const char *problem = rows_problem(task, n_classes, n, prediction, label);
    if (problem != NULL)
        return moe_fail(job, MOE_INVALID, "predictions cannot be calibrated: %s", problem);
    moe_calibration fitted = identity(task);
    moe_code code = MOE_OK;
    if (task == MOE_BINARY)
        code = fit_platt(job, n, prediction, label, &fitted);
    if (task == MOE_MULTICLASS)
        code = fit_temperature(job, n_classes, n, prediction, label, &fitted);
    if (task == MOE_REGRESSION)
        code = fit_range(job, n, prediction, label, &fitted);
    if (code == MOE_OK)
        *out = fitted;
    return code;
}

/* p_c^(1 / T) / sum, from logarithms relative to the largest. */
static void
apply_temperature(double temperature, int k, float *p)
{
    double largest = 0, total = 0;
    for (int c = 0; c < k; c++)
        largest = fmax(largest, p[c]);
    for (int c = 0; c < k; c++)
        total += pow(p[c] / largest, 1 / temperature);
    for (int c = 0; largest > 0 && c < k; c++)
        p[c] = (float) (pow(p[c] / largest, 1 / temperature) / total);
}

void
moe_calibration_apply(const moe_calibration *calibration, int n_classes, int64_t n, float *prediction)
{
    if (!calibration->fitted)
        return;
    for (int64_t i = 0; calibration->task == MOE_BINARY && i < n; i++)
        prediction[i] = (float) sigmoid(calibration->slope * logit(prediction[i]) + calibration->offset);
    for (int64_t i = 0; calibration->task == MOE_MULTICLASS && i < n; i++)
        apply_temperature(calibration->temperature, n_classes, prediction + i * n_classes);
}

void
moe_calibration_range(const moe_calibration *calibration, int64_t n, const float *prediction, float *lower,
                      float *upper)
{
    for (int64_t i = 0; i < n; i++)
    {
        int bin = 0;
        while (bin < calibration->bins - 1 && !(prediction[i] <= calibration->edge[bin]))
            bin++;
        bool known = calibration->fitted && calibration->bins > 0;
        lower[i] = known ? (float) (prediction[i] + calibration->lower[bin]) : NAN;
        upper[i] = known ? (float) (prediction[i] + calibration->upper[bin]) : NAN;
    }
}

/* One that was never fitted, zeros among them, is stored as the identity that it is. */
void
moe_calibration_write(const moe_calibration *c, moe_buffer *buffer)
{
    moe_calibration unfitted = identity(c->task);
    const moe_calibration *calibration = c->fitted ? c : &unfitted;
    moe_put_u8(buffer, FORMAT);
    moe_put_u8(buffer, (uint8_t) calibration->task);
    moe_put_u8(buffer, calibration->fitted);
    moe_put_f64(buffer, calibration->slope);
    moe_put_f64(buffer, calibration->offset);
    moe_put_f64(buffer, calibration->temperature);
    moe_put_i32(buffer, calibration->bins);
    for (int b = 0; b < calibration->bins; b++)
    {
        if (b < calibration->bins - 1)
            moe_put_f64(buffer, calibration->edge[b]);
        moe_put_f64(buffer, calibration->lower[b]);
        moe_put_f64(buffer, calibration->upper[b]);
    }
}

/* Comparisons are written so that NaN fails. */
static bool
is_sound(const moe_calibration *c)
{
    if (!(c->slope >= LEAST_SLOPE && c->slope <= LARGEST_SLOPE) || !isfinite(c->offset) ||
        !(c->temperature >= LEAST_TEMPERATURE / 2 && c->temperature <= LARGEST_TEMPERATURE * 2))
        return false;
    if ((c->bins > 0) != (c->task == MOE_REGRESSION && c->fitted))
        return false;
    for (int b = 0; b < c->bins; b++)
        if (!(c->lower[b] <= 0 && c->upper[b] >= 0) || !isfinite(c->lower[b]) || !isfinite(c->upper[b]) ||
            (b < c->bins - 1 && !isfinite(c->edge[b])) || (b > 0 && !(c->edge[b] > c->edge[b - 1])))
            return false;
    return true;
}

moe_code
moe_calibration_read(moe_reader *reader, moe_calibration *out)
{
    int format = moe_get_u8(reader);
    int task = moe_get_u8(reader);
    int fitted = moe_get_u8(reader);
    moe_calibration c = identity((moe_task_type) task);
    *out = identity(MOE_BINARY);
    c.fitted = fitted == 1;
    c.slope = moe_get_f64(reader);
    c.offset = moe_get_f64(reader);
    c.temperature = moe_get_f64(reader);
    c.bins = moe_get_i32(reader);
    bool known =
        format == FORMAT && task <= MOE_MULTICLASS && fitted <= 1 && c.bins >= 0 && c.bins <= MOE_CALIBRATION_BINS;
    for (int b = 0; known && b < c.bins; b++)
    {
        c.edge[b] = b < c.bins - 1 ? moe_get_f64(reader) : INFINITY;
        c.lower[b] = moe_get_f64(reader);
        c.upper[b] = moe_get_f64(reader);
    }
    if (moe_reader_code(reader) != MOE_OK)
        return moe_reader_code(reader);
    if (!known || !is_sound(&c))
        return moe_fail(reader->job, MOE_CORRUPT, "a stored calibration is damaged");
    *out = c;
    return MOE_OK;
}
