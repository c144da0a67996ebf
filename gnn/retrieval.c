/*
 * retrieval.c: a seed's prediction from the labels of the training seeds most like it.
 *
 * Inputs are weighted by their squared correlation with the label (of several
 * classes: the largest of their indicators'), the best COLUMNS of them count,
 * and
 *
 *     d^2(a, b) = sum_j r_j^2 (a_j - b_j)^2,    prediction = sum_i e^(-d_i^2 / (2 m^2)) y_i / sum_i e^(-d_i^2 / (2
 * m^2))
 *
 * over the NEIGHBOURS nearest rows, m being the median of their distances
 * (Nadaraya 1964, Watson 1964, with an adaptive width). Of numbers it is the
 * median by the same weights, which errs least in absolute distance. Of equal
 * distances the earlier row is nearer.
 *
 * Rows are stored multiplied by r_j. At most MOST_ROWS are: of more, evenly
 * spaced ones in the order given, so that no time is preferred.
 */
#include "gnn/dense_expert.h"
#include "gnn/neighbours.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MOST_ROWS   20000
#define MOST_SEEN   ((int64_t) 1 << 40)
#define COLUMNS     150
#define NEIGHBOURS  60
#define BATCH       8192 /* rows predicted together */
#define ROWS        64   /* a chunk of them */
#define CACHE_LINE  16   /* floats */
#define POLL_ROWS   16384
#define LARGEST     1e6f  /* magnitude of an input that counts */
#define LEAST_SHARE 1e-12 /* of a sum of squares that is more than rounding */

typedef struct retrieval
{
    int width;
    int outputs;
    int64_t seen; /* training rows, of which n were kept */
    int64_t n;
    int columns;
    bool weighted;
    int32_t *column;            /* [columns] ascending */
    float *correlation;         /* [columns] magnitude of r */
    float *rows;                /* [n, columns] times r */
    float *label;               /* [n] */
    float *weight;              /* [n]; all 1 where not weighted */
    double *usual;              /* [outputs] mean of all labels */
    moe_neighbours *neighbours; /* among the rows; NULL where no column counts */
} retrieval;

/* The training row that was kept as row i: evenly spaced over all. */
static int64_t
kept_row(const retrieval *r, int64_t i)
{
    return (2 * i + 1) * r->seen / (2 * r->n);
}

static void
retrieval_destroy(moe_job *job, void *state)
{
    retrieval *r = state;
    if (r == NULL)
        return;
    moe_free(job, r->column);
    moe_free(job, r->correlation);
    moe_free(job, r->rows);
    moe_free(job, r->label);
    moe_free(job, r->weight);
    moe_free(job, r->usual);
    moe_neighbours_destroy(r->neighbours);
    moe_free(job, r);
}

static retrieval *
create(moe_job *job, const moe_dense_task *task, int width, int64_t seen, int columns)
{
    retrieval *r = moe_alloc(job, 1, sizeof *r);
    if (r == NULL)
        return NULL;
    int64_t n = seen < MOST_ROWS ? seen : MOST_ROWS;
    *r = (retrieval){.width = width, .seen = seen, .n = n, .columns = columns};
    r->outputs = task->task == MOE_MULTICLASS ? task->n_classes : 1;
    r->column = moe_alloc(job, columns, sizeof *r->column);
    r->correlation = moe_alloc(job, columns, sizeof *r->correlation);
    r->rows = moe_alloc(job, n * columns, sizeof *r->rows);
    r->label = moe_alloc(job, n, sizeof *r->label);
    r->weight = moe_alloc(job, n, sizeof *r->weight);
    r->usual = moe_alloc(job, r->outputs, sizeof *r->usual);
    if (r->column && r->correlation && r->rows && r->label && r->weight && r->usual)
        return r;
    retrieval_destroy(job, r);
    return NULL;
}

/* How much a stored label says of an output. */
static double
label_of(const retrieval *r, int64_t row, int output)
{
    return r->outputs > 1 ? r->label[row] == (float) output : (double) r->label[row];
}

/* Derive what is not stored from rows, labels and weights. */
static moe_code
prepare(moe_job *job, retrieval *r)
{
    double total = 0;
    for (int64_t i = 0; i < r->n; i++)
    {
        total += r->weight[i];
        r->usual[r->outputs > 1 ? (int) r->label[i] : 0] += r->weight[i] * (r->outputs > 1 ? 1 : (double) r->label[i]);
    }
    for (int o = 0; o < r->outputs; o++)
        r->usual[o] = total > 0 ? r->usual[o] / total : 1.0 / r->outputs;
    return r->columns == 0 ? MOE_OK : moe_neighbours_create(job, r->n, r->columns, r->rows, &r->neighbours);
}

/* Squared correlations of a block of columns with the label. */
typedef struct correlating
{
    moe_job *job;
    const moe_dense_rows *rows;
    int outputs;
    double total;        /* weight */
    const double *share; /* [outputs] mean of each output's label */
    double *product;     /* [width / CACHE_LINE, outputs, CACHE_LINE] sums of weight * label * x */
    double *square;      /* [width] r^2 */
    double variance;     /* of the label where there is one output */
} correlating;

static void
correlate_columns(int64_t begin, int64_t end, void *arg)
{
    const correlating *c = arg;
    const moe_dense_rows *rows = c->rows;
    double sum[CACHE_LINE] = {0}, square[CACHE_LINE] = {0};
    double *product = c->product + begin * c->outputs;
    for (int64_t i = 0; i < rows->n; i++)
    {
        double weight = rows->weight == NULL ? 1 : rows->weight[i];
        double label = c->outputs > 1 ? 1 : rows->label[i] - c->share[0];
        double *into = product + (c->outputs > 1 ? (int64_t) rows->label[i] : 0) * CACHE_LINE;
        if (i % POLL_ROWS == 0 && moe_job_cancelled(c->job))
            return;
        for (int64_t j = begin; j < end; j++)
        {
            double x = rows->x[i * rows->width + j];
            sum[j - begin] += weight * x;
            square[j - begin] += weight * x * x;
            into[j - begin] += weight * label * x;
        }
    }
    for (int64_t j = 0; j < end - begin; j++)
    {
        double mean = sum[j] / c->total, spread = square[j] / c->total - mean * mean, best = 0;
        for (int o = 0; o < c->outputs; o++)
        {
            double share = c->outputs > 1 ? c->share[o] : 0;
            double together = product[o * CACHE_LINE + j] / c->total - share * mean;
            double variance = c->outputs > 1 ? share * (1 - share) : c->variance;
            if (spread > LEAST_SHARE * square[j] / c->total && variance > 0)
                best = fmax(best, together * together / (spread * variance));
        }
        c->square[begin + j] = fmin(best, 1);
    }
}

/* Mean and variance of the label by output. */
static void
measure_labels(correlating *c, double *share)
{
    const moe_dense_rows *rows = c->rows;
    for (int64_t i = 0; i < rows->n; i++)
    {
        double weight = rows->weight == NULL ? 1 : rows->weight[i];
        c->total += weight;
        share[c->outputs > 1 ? (int) rows->label[i] : 0] += weight * (c->outputs > 1 ? 1 : (double) rows->label[i]);
    }
    for (int o = 0; o < c->outputs; o++)
        share[o] /= c->total;
    for (int64_t i = 0; i < rows->n && c->outputs == 1; i++)
    {
        double d = rows->label[i] - share[0];
        c->variance += (rows->weight == NULL ? 1 : rows->weight[i]) * d * d / c->total;
    }
    c->share = share;
}

/* square [width] = r^2. */
static moe_code
correlate(moe_job *job, const moe_dense_rows *rows, int outputs, double *square)
{
    correlating c = {.job = job, .rows = rows, .outputs = outputs, .square = square};
    int64_t blocks = ((int64_t) rows->width + CACHE_LINE - 1) / CACHE_LINE;
    double *share = moe_alloc(job, outputs, sizeof *share);
    c.product = moe_alloc(job, blocks * outputs, CACHE_LINE * sizeof *c.product);
    if (share != NULL && c.product != NULL)
    {
        measure_labels(&c, share);
        moe_parallel(job, rows->width, CACHE_LINE, correlate_columns, &c);
    }
    moe_free(job, share);
    moe_free(job, c.product);
    return moe_job_check(job);
}

typedef struct ranked
{
    double square;
    int32_t column;
} ranked;

static int
best_first(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->square != y->square)
        return x->square > y->square ? -1 : 1;
    return (x->column > y->column) - (x->column < y->column);
}

static int
by_column(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    return (x->column > y->column) - (x->column < y->column);
}

/* The best columns that correlate at all, ascending, first in order; returns their number. */
static int
choose_columns(int width, const double *square, ranked *order)
{
    int chosen = 0;
    for (int j = 0; j < width; j++)
        order[j] = (ranked){square[j], j};
    qsort(order, (size_t) width, sizeof *order, best_first);
    while (chosen < width && chosen < COLUMNS && order[chosen].square > LEAST_SHARE)
        chosen++;
    qsort(order, (size_t) chosen, sizeof *order, by_column);
    return chosen;
}

/* The inputs of one row that count, times r. */
static void
scale_row(const retrieval *r, const float *x, float *out)
{
    for (int c = 0; c < r->columns; c++)
        out[c] = fmaxf(fminf(x[r->column[c]], LARGEST), -LARGEST) * r->correlation[c];
}

static void
keep_rows(retrieval *r, const moe_dense_rows *train, const ranked *order)
{
    for (int c = 0; c < r->columns; c++)
    {
        r->column[c] = order[c].column;
        r->correlation[c] = (float) sqrt(order[c].square);
    }
    r->weighted = train->weight != NULL;
    for (int64_t i = 0; i < r->n; i++)
    {
        int64_t from = kept_row(r, i);
        scale_row(r, train->x + from * train->width, r->rows + i * r->columns);
        r->label[i] = train->label[from];
        r->weight[i] = train->weight == NULL ? 1 : train->weight[from];
    }
}

static moe_code
retrieval_fit(moe_job *job, const moe_dense_task *task, const moe_dense_rows *train, const moe_dense_rows *valid,
              uint64_t seed, void **state)
{
    retrieval *r = NULL;
    int outputs = task->task == MOE_MULTICLASS ? task->n_classes : 1;
    double *square = moe_alloc(job, train->width, sizeof *square);
    ranked *order = moe_alloc(job, train->width, sizeof *order);
    moe_code code = square == NULL || order == NULL ? moe_job_code(job) : correlate(job, train, outputs, square);
    if (code == MOE_OK)
    {
        r = create(job, task, train->width, train->n, choose_columns(train->width, square, order));
        code = r == NULL ? moe_job_code(job) : MOE_OK;
    }
    if (code == MOE_OK)
    {
        keep_rows(r, train, order);
        code = prepare(job, r);
    }
    moe_free(job, square);
    moe_free(job, order);
    if (code == MOE_OK)
        *state = r;
    else
        retrieval_destroy(job, r);
    return code;
}

typedef struct predicting
{
    moe_job *job;
    const retrieval *expert;
    const moe_dense_task *task;
    const moe_dense_rows *rows;
    int64_t first; /* row of the batch */
    bool self;     /* leave out the row itself */
    float *asked;  /* [BATCH, columns] */
    int32_t *except;
    moe_neighbour *found;
    float *prediction;
} predicting;

static bool
same_inputs(const retrieval *r, const float *asked, int64_t row)
{
    const float *stored = r->rows + row * r->columns;
    for (int c = 0; c < r->columns; c++)
        if (asked[c] != stored[c])
            return false;
    return true;
}

/*
 * The stored row that is training row i, or -1: by its place, where all training rows are asked for; else the first
 * with its inputs and label, which nothing tells from it.
 */
static int32_t
own_row(const retrieval *r, const moe_dense_rows *rows, int64_t i, const float *asked)
{
    int64_t kept = (2 * i + 1) * r->n / (2 * r->seen);
    if (rows->n == r->seen && (kept_row(r, kept) != i || same_inputs(r, asked, kept)))
        return kept_row(r, kept) == i ? (int32_t) kept : -1;
    for (int64_t row = 0; row < r->n; row++)
        if (same_inputs(r, asked, row) && (rows->label == NULL || rows->label[i] == r->label[row]))
            return (int32_t) row;
    return -1;
}

static void
ask_rows(int64_t begin, int64_t end, void *arg)
{
    const predicting *p = arg;
    const retrieval *r = p->expert;
    for (int64_t i = begin; i < end && !moe_job_cancelled(p->job); i++)
    {
        float *asked = p->asked + i * r->columns;
        scale_row(r, p->rows->x + (p->first + i) * p->rows->width, asked);
        p->except[i] = p->self ? own_row(r, p->rows, p->first + i, asked) : -1;
    }
}

/* Weights of the neighbours, nearest first; returns how many there are. */
static int
weigh(const retrieval *r, const moe_neighbour *found, double *weight)
{
    int n = 0;
    while (n < NEIGHBOURS && found[n].row >= 0)
        n++;
    double median = n == 0 ? 0 : (sqrt(found[(n - 1) / 2].square) + sqrt(found[n / 2].square)) / 2;
    for (int k = 0; k < n; k++)
    {
        double square = found[k].square;
        weight[k] = median > 0 ? exp(-square / (2 * median * median)) : square == 0;
        weight[k] *= r->weight[found[k].row];
    }
    return n;
}

/* The least label that half of the weight does not exceed; mean with the next where it is just half. */
static double
weighted_median(const retrieval *r, const moe_neighbour *found, const double *weight, int n, double total)
{
    double label[NEIGHBOURS], of[NEIGHBOURS], sum = 0;
    int at = 0;
    for (int k = 0; k < n; k++)
    {
        int place = k;
        double y = r->label[found[k].row];
        for (; place > 0 && label[place - 1] > y; place--)
        {
            label[place] = label[place - 1];
            of[place] = of[place - 1];
        }
        label[place] = y;
        of[place] = weight[k];
    }
    while (at < n - 1 && (sum += of[at]) < total / 2)
        at++;
    return at < n - 1 && sum == total / 2 ? (label[at] + label[at + 1]) / 2 : label[at];
}

static void
combine_rows(int64_t begin, int64_t end, void *arg)
{
    const predicting *p = arg;
    const retrieval *r = p->expert;
    for (int64_t i = begin; i < end; i++)
    {
        const moe_neighbour *found = p->found + i * NEIGHBOURS;
        float *out = p->prediction + (p->first + i) * r->outputs;
        double weight[NEIGHBOURS], total = 0;
        int n = r->columns == 0 ? 0 : weigh(r, found, weight);
        for (int k = 0; k < n; k++)
            total += weight[k];
        for (int o = 0; o < r->outputs; o++)
        {
            double sum = 0;
            for (int k = 0; k < n; k++)
                sum += weight[k] * label_of(r, found[k].row, o);
            double value = total > 0 ? sum / total : r->usual[o];
            if (p->task->task == MOE_REGRESSION && total > 0)
                value = weighted_median(r, found, weight, n, total);
            if (p->task->task == MOE_REGRESSION)
                value = fmin(fmax(value, p->task->low), p->task->high);
            out[o] = (float) value;
        }
    }
}

static moe_code
predict_batches(predicting *p)
{
    const retrieval *r = p->expert;
    for (p->first = 0; p->first < p->rows->n && moe_job_check(p->job) == MOE_OK; p->first += BATCH)
    {
        int64_t count = p->rows->n - p->first < BATCH ? p->rows->n - p->first : BATCH;
        moe_parallel(p->job, count, ROWS, ask_rows, p);
        if (r->columns > 0 && moe_job_check(p->job) == MOE_OK)
            moe_neighbours_find(r->neighbours, count, p->asked, p->except, NEIGHBOURS, p->found);
        if (moe_job_check(p->job) == MOE_OK)
            moe_parallel(p->job, count, ROWS, combine_rows, p);
    }
    return moe_job_check(p->job);
}

static moe_code
predict(moe_job *job, retrieval *r, const moe_dense_task *task, const moe_dense_rows *rows, bool self,
        float *prediction)
{
    predicting p = {job, r, task, rows, .self = self, .prediction = prediction};
    int64_t batch = rows->n < BATCH ? rows->n : BATCH;
    p.asked = moe_alloc(job, batch * r->columns, sizeof *p.asked);
    p.except = moe_alloc(job, batch, sizeof *p.except);
    p.found = moe_alloc(job, batch, NEIGHBOURS * sizeof *p.found);
    moe_code code = p.asked && p.except && p.found ? predict_batches(&p) : moe_job_code(job);
    moe_free(job, p.asked);
    moe_free(job, p.except);
    moe_free(job, p.found);
    return code;
}

static moe_code
retrieval_predict(moe_job *job, void *state, const moe_dense_task *task, const moe_dense_rows *rows, float *prediction)
{
    return predict(job, state, task, rows, false, prediction);
}

static moe_code
retrieval_predict_self(moe_job *job, void *state, const moe_dense_task *task, const moe_dense_rows *train,
                       float *prediction)
{
    return predict(job, state, task, train, true, prediction);
}

static int64_t
retrieval_parameters(const void *state)
{
    const retrieval *r = state;
    return r->n * ((int64_t) r->columns + 1) + r->columns;
}

static void
retrieval_write(const void *state, moe_buffer *buffer)
{
    const retrieval *r = state;
    moe_put_i64(buffer, r->seen);
    moe_put_i32(buffer, r->columns);
    moe_put_u8(buffer, r->weighted);
    moe_put_i64(buffer, r->n);
    for (int c = 0; c < r->columns; c++)
        moe_put_i32(buffer, r->column[c]);
    moe_put_floats(buffer, r->correlation, r->columns);
    moe_put_floats(buffer, r->label, r->n);
    if (r->weighted)
        moe_put_floats(buffer, r->weight, r->n);
    moe_put_floats(buffer, r->rows, r->n * r->columns);
}

static bool
columns_valid(const retrieval *r)
{
    bool valid = true;
    for (int c = 0; c < r->columns; c++)
        valid = valid && r->column[c] > (c > 0 ? r->column[c - 1] : -1) && r->column[c] < r->width &&
                r->correlation[c] > 0 && r->correlation[c] <= 1;
    return valid;
}

static bool
rows_valid(const retrieval *r, const moe_dense_task *task)
{
    float most = task->task == MOE_BINARY ? 1 : (float) (r->outputs - 1);
    bool valid = true;
    for (int64_t i = 0; i < r->n; i++)
    {
        float label = r->label[i];
        valid = valid && (task->task == MOE_REGRESSION || (label >= 0 && label <= most && label == floorf(label)));
        valid = valid && r->weight[i] >= 0;
    }
    for (int64_t i = 0; i < r->n * r->columns; i++)
        valid = valid && fabsf(r->rows[i]) <= LARGEST;
    return valid;
}

static void
read_arrays(moe_reader *reader, retrieval *r)
{
    for (int c = 0; c < r->columns; c++)
        r->column[c] = moe_get_i32(reader);
    moe_get_floats(reader, r->correlation, r->columns);
    moe_get_floats(reader, r->label, r->n);
    if (r->weighted)
        moe_get_floats(reader, r->weight, r->n);
    for (int64_t i = 0; !r->weighted && i < r->n; i++)
        r->weight[i] = 1;
    moe_get_floats(reader, r->rows, r->n * r->columns);
}

static moe_code
retrieval_read(moe_job *job, moe_reader *reader, const moe_dense_task *task, int width, void **state)
{
    int64_t seen = moe_get_i64(reader);
    int32_t columns = moe_get_i32(reader);
    uint8_t weighted = moe_get_u8(reader);
    bool valid =
        seen >= 1 && seen <= MOST_SEEN && columns >= 0 && columns <= COLUMNS && columns <= width && weighted <= 1;
    int64_t n = moe_get_count(reader, valid ? sizeof(float) * (size_t) (columns + 1 + weighted) : 1);
    valid = valid && n == (seen < MOST_ROWS ? seen : MOST_ROWS);
    if (moe_reader_code(reader) != MOE_OK)
        return moe_reader_code(reader);
    retrieval *r = valid ? create(job, task, width, seen, columns) : NULL;
    if (valid && r == NULL)
        return moe_job_code(job);
    if (valid)
    {
        r->weighted = weighted;
        read_arrays(reader, r);
        valid = columns_valid(r) && rows_valid(r, task);
    }
    moe_code code = moe_reader_code(reader);
    if (code == MOE_OK)
        code = valid ? prepare(job, r) : moe_fail(job, MOE_CORRUPT, "stored rows to look up do not read back");
    if (code == MOE_OK)
        *state = r;
    else
        retrieval_destroy(job, r);
    return code;
}

const moe_dense_class moe_dense_retrieval = {
    .name = "retrieval",
    .fit = retrieval_fit,
    .predict = retrieval_predict,
    .predict_self = retrieval_predict_self,
    .parameters = retrieval_parameters,
    .write = retrieval_write,
    .read = retrieval_read,
    .destroy = retrieval_destroy,
};
