/*
 * history.c: an entity's own past labels as columns.
 *
 * Labels stand sorted by (row, time). What is known at a horizon is then a
 * prefix of a row's, found by binary search, and a column is a function of the
 * end of that prefix: labels behind it take part in no sum, and neither do
 * those too far before it, so that a history needs no more labels than a
 * prediction can fetch.
 *
 * A mean over labels of weights w, the k-th last of which weighs 2^(-k/h), is
 * shrunk with one more label, the prior g: (sum w y + g) / (sum w + 1).
 *
 * A multiclass label is a series of indicators for each of the classes 0..7:
 * which classes are frequent is not known to a seed in the past.
 */
#include "embed/history.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LAGS   8
#define RECENT 4
#define HALVES 3
#define MEANS  (HALVES + 1) /* the last is the plain mean */
/* Time since the last label, and how many there are. */
#define SHARED       2
#define OWN_SINGLE   (LAGS + RECENT + SHARED)
#define CLASS_SERIES (MEANS + 1)
#define RUN          ((int64_t) 1 << 15) /* labels sorted at once */
#define SEEDS        256                 /* a chunk */
#define MOST         256                 /* labels of a row that count, the latest */

static const double half_life[HALVES] = {2, 6, 20};

typedef struct past /* one label */
{
    int64_t time;
    int64_t order; /* in which the caller gave it */
    int32_t row;
    float label;
} past;

struct moe_history
{
    moe_job *job;
    int64_t window;
    int classes;
    int series;
    int64_t n;
    past *own; /* [n] by row, then time */
    float prior[MOE_HISTORY_CLASSES];
    double decay[HALVES];
};

int
moe_history_series(int classes)
{
    return classes < 2 ? 1 : classes < MOE_HISTORY_CLASSES ? classes : MOE_HISTORY_CLASSES;
}

int
moe_history_columns(int classes)
{
    return classes < 2 ? OWN_SINGLE + MEANS : SHARED + moe_history_series(classes) * CLASS_SERIES;
}

static void
name_mean(int column, const char *of, char *out, size_t size)
{
    if (column < HALVES)
        snprintf(out, size, "own mean%s, half-life %g labels", of, half_life[column]);
    else
        snprintf(out, size, "own mean%s", of);
}

static void
name_shared(int column, char *out, size_t size)
{
    snprintf(out, size, "%s", column == 0 ? "windows since the last label" : "number of past labels");
}

void
moe_history_name(int classes, int column, char *out, size_t size)
{
    if (classes >= 2 && column >= SHARED)
    {
        char of[64];
        int class = (column - SHARED) / CLASS_SERIES, place = (column - SHARED) % CLASS_SERIES;
        snprintf(of, sizeof of, " of class %d", class);
        if (place == 0)
            snprintf(out, size, "last label is class %d", class);
        else
            name_mean(place - 1, of, out, size);
    }
    else if (classes >= 2)
        name_shared(column, out, size);
    else if (column < LAGS)
        snprintf(out, size, "label %d window%s ago", column + 1, column > 0 ? "s" : "");
    else if (column == LAGS)
        snprintf(out, size, "last label");
    else if (column < LAGS + RECENT)
        snprintf(out, size, "label %d before the last", column - LAGS);
    else if (column < OWN_SINGLE)
        name_shared(column - LAGS - RECENT, out, size);
    else
        name_mean(column - OWN_SINGLE, "", out, size);
}

static int
by_row(const past *a, const past *b)
{
    if (a->row != b->row)
        return a->row < b->row ? -1 : 1;
    if (a->time != b->time)
        return a->time < b->time ? -1 : 1;
    return (a->order > b->order) - (a->order < b->order);
}

static int
by_row_any(const void *a, const void *b)
{
    return by_row(a, b);
}

/* Sort runs of a fixed length, then merge pairs of them: no step takes long, and all run side by side. */
typedef struct sorting
{
    moe_job *job;
    int64_t n;
    int64_t run;
    past *from;
    past *to;
} sorting;

static void
sort_run(int64_t begin, int64_t end, void *arg)
{
    const sorting *s = arg;
    if (!moe_job_cancelled(s->job))
        qsort(s->from + begin, (size_t) (end - begin), sizeof *s->from, by_row_any);
}

static void
merge_runs(int64_t begin, int64_t end, void *arg)
{
    const sorting *s = arg;
    int64_t middle = begin + s->run < end ? begin + s->run : end, a = begin, b = middle;
    for (int64_t i = begin; i < end; i++)
    {
        if ((i - begin) % RUN == 0 && moe_job_cancelled(s->job))
            return;
        bool first = b >= end || (a < middle && by_row(&s->from[a], &s->from[b]) <= 0);
        s->to[i] = s->from[first ? a++ : b++];
    }
}

/* The result stands in *labels; the two arrays may change places. */
static moe_code
sort_labels(moe_job *job, int64_t n, past **labels, past **spare)
{
    sorting s = {job, n, RUN, *labels, *spare};
    moe_parallel(job, n, RUN, sort_run, &s);
    for (; s.run < n; s.run *= 2)
    {
        moe_parallel(job, n, 2 * s.run, merge_runs, &s);
        past *merged = s.to;
        s.to = s.from;
        s.from = merged;
    }
    *labels = s.from;
    *spare = s.to;
    return moe_job_check(job);
}

/* Copy what is a label; NaN is none. */
static moe_code
copy_labels(moe_history *h, const moe_past_labels *labels)
{
    for (int64_t i = 0; i < labels->n; i++)
    {
        float label = labels->label[i];
        if (isnan(label))
            continue;
        if (isinf(label) || (h->classes > 1 && !(label >= 0 && label < (float) h->classes && label == floorf(label))))
            return moe_fail(h->job, MOE_INVALID, "a past label is %g, of %d classes", label, h->classes);
        h->own[h->n++] = (past){labels->time[i], i, labels->row[i], label};
    }
    return MOE_OK;
}

/* Of equal (row, time) the first counts. */
static void
drop_repeated(moe_history *h)
{
    int64_t kept = 0;
    for (int64_t i = 0; i < h->n; i++)
    {
        if (kept > 0 && h->own[i].row == h->own[kept - 1].row && h->own[i].time == h->own[kept - 1].time)
            continue;
        h->own[kept++] = h->own[i];
    }
    h->n = kept;
}

static double
value_of(const moe_history *h, const past *label, int series)
{
    return h->classes > 1 ? label->label == (float) series : label->label;
}

moe_code
moe_history_create(moe_job *job, const moe_past_labels *labels, int64_t window, int classes, const float *prior,
                   moe_history **out)
{
    *out = NULL;
    if (labels->n < 0 || window < 1 || classes < 1)
        return moe_fail(job, MOE_INVALID, "a history of %" PRId64 " labels of windows of %" PRId64 " makes no sense",
                        labels->n, window);
    moe_history *h = moe_alloc(job, 1, sizeof *h);
    if (h == NULL)
        return moe_job_code(job);
    *h = (moe_history){.job = job, .window = window, .classes = classes, .series = moe_history_series(classes)};
    for (int m = 0; m < HALVES; m++)
        h->decay[m] = exp2(-1 / half_life[m]);
    memcpy(h->prior, prior, (size_t) h->series * sizeof *prior);
    h->own = moe_alloc(job, labels->n, sizeof *h->own);
    past *spare = moe_alloc(job, labels->n, sizeof *spare);
    moe_code code = h->own == NULL || spare == NULL ? moe_job_code(job) : copy_labels(h, labels);
    if (code == MOE_OK && (code = sort_labels(job, h->n, &h->own, &spare)) == MOE_OK)
        drop_repeated(h);
    moe_free(job, spare);
    if (code == MOE_OK)
        *out = h;
    else
        moe_history_destroy(h);
    return code;
}

void
moe_history_destroy(moe_history *history)
{
    if (history == NULL)
        return;
    moe_free(history->job, history->own);
    moe_free(history->job, history);
}

void
moe_history_prior(int classes, int64_t n, const float *label, float *prior)
{
    int series = moe_history_series(classes);
    double sum[MOE_HISTORY_CLASSES] = {0};
    int64_t counted = 0;
    for (int64_t i = 0; i < n; i++)
    {
        counted += !isnan(label[i]);
        for (int s = 0; s < series && !isnan(label[i]); s++)
            sum[s] += classes > 1 ? label[i] == (float) s : label[i];
    }
    for (int s = 0; s < series; s++)
        prior[s] = counted > 0 ? (float) (sum[s] / (double) counted) : 0;
}

/* Within own[low, high): the first label behind (row, moment). */
static int64_t
behind(const moe_history *h, int64_t low, int64_t high, int32_t row, int64_t moment)
{
    past key = {moment, INT64_MAX, row, 0};
    while (low < high)
    {
        int64_t middle = low + (high - low) / 2;
        if (by_row(&h->own[middle], &key) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* What one seed knows. */
typedef struct known
{
    int64_t horizon;
    int64_t first; /* own labels [first, end) */
    int64_t end;
} known;

static known
what_is_known(const moe_history *h, const moe_moments *moments, int64_t i)
{
    known k = {.horizon = moments->horizon ? moments->horizon[i] : moments->time[i]};
    int64_t closed = moe_windows_before(h->window, k.horizon, 1);
    int64_t reach = moe_windows_before(h->window, closed, MOE_HISTORY_REACH);
    k.end = behind(h, 0, h->n, moments->row[i], closed);
    k.first = k.end - MOST > 0 ? k.end - MOST : 0;
    k.first = behind(h, k.first, k.end, moments->row[i], reach);
    return k;
}

/* The row's own labels, the newest of which weighs 1 and each earlier one `decay` times as much, and one more, g. */
static double
own_mean(const moe_history *h, const known *k, int series, double decay, double g)
{
    double sum = g;
    double weights = 1;
    double weight = 1;
    for (int64_t i = k->end - 1; i >= k->first; i--, weight *= decay)
    {
        sum += weight * value_of(h, &h->own[i], series);
        weights += weight;
    }
    return sum / weights;
}

/* Own means, shrunk. */
static float *
put_means(const moe_history *h, const known *k, int series, float *out)
{
    for (int m = 0; m < MEANS; m++)
        *out++ = (float) own_mean(h, k, series, m == HALVES ? 1 : h->decay[m], h->prior[series]);
    return out;
}

static float *
put_shared(const moe_history *h, const known *k, float *out)
{
    double age = k->end > k->first ? (double) k->horizon - (double) h->own[k->end - 1].time : NAN;
    *out++ = (float) (age / (double) h->window);
    *out++ = (float) log1p((double) (k->end - k->first));
    return out;
}

/* The latest label of each calendar window, and the last ones that exist. */
static float *
put_lags(const moe_history *h, const known *k, float *out)
{
    int64_t end = k->end;
    for (int lag = 1; lag <= LAGS; lag++)
    {
        if (end > k->first)
            end = behind(h, k->first, end, h->own[k->first].row, moe_windows_before(h->window, k->horizon, lag));
        bool there = end > k->first && h->own[end - 1].time > moe_windows_before(h->window, k->horizon, lag + 1);
        *out++ = there ? h->own[end - 1].label : NAN;
    }
    for (int r = 1; r <= RECENT; r++)
        *out++ = k->end - r >= k->first ? h->own[k->end - r].label : NAN;
    return out;
}

typedef struct computing
{
    const moe_history *history;
    const moe_moments *moments;
    float *out;
} computing;

static void
compute_seeds(int64_t begin, int64_t end, void *arg)
{
    const computing *c = arg;
    const moe_history *h = c->history;
    int columns = moe_history_columns(h->classes);
    if (moe_job_cancelled(h->job))
        return;
    for (int64_t i = begin; i < end; i++)
    {
        known k = what_is_known(h, c->moments, i);
        float *out = c->out + i * columns;
        if (h->classes < 2)
            out = put_lags(h, &k, out);
        out = put_shared(h, &k, out);
        for (int s = 0; s < h->series; s++)
        {
            if (h->classes >= 2)
                *out++ = k.end > k.first ? (float) value_of(h, &h->own[k.end - 1], s) : NAN;
            out = put_means(h, &k, s, out);
        }
    }
}

moe_code
moe_history_compute(moe_history *history, const moe_moments *moments, float *out)
{
    computing c = {history, moments, out};
    moe_parallel(history->job, moments->n, SEEDS, compute_seeds, &c);
    return moe_job_check(history->job);
}
