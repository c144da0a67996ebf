/*
 * normalizer.c: columns of any scale as normal scores, with flags for NULL.
 *
 * A value v becomes z(v): piecewise linear between at most KNOTS quantiles of
 * the fitted rows, where z at a knot is the normal score of its mid-rank,
 * z(u) = Phi^-1((#{x < u} + #{x <= u}) / 2 / #{x}), standardised over the
 * fitted rows (van der Waerden's scores). Beyond the outer knots z is constant.
 *
 * Values and flags are outputs of one kind, so that one rule leaves out what
 * repeats an earlier output on every fitted row: found by a hash of all the
 * output's bits, then compared row by row.
 *
 * Invariant: every output is finite and within +-LIMIT, and a function of one input alone.
 */
#include "embed/normalizer.h"
#include "kernels/random.h"
#include "kernels/sort.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT         1
#define KNOTS          256
#define LIMIT          3.0
#define MOST_ROWS      200000
#define MOST_INPUTS    (1 << 20)
#define RARE_NULLS     20    /* a flag wants this many NULLs, */
#define RARE_SHARE     0.005 /* or this share, if that is fewer */
#define BLOCK_COLUMNS  16    /* one cache line of a row */
#define ROWS_AT_A_TIME 64

typedef struct output
{
    int32_t input;
    int32_t n_knots; /* 0: a flag */
    int64_t knot;    /* its first */
    float missing;   /* a flag's two values */
    float present;
} output;

struct moe_normalizer
{
    moe_job *job;
    int n_inputs;
    int n_outputs;
    output *outputs; /* values by input, then flags by input */
    int64_t n_knots;
    float *x; /* [n_knots] ascending within an output */
    float *z; /* [n_knots] */
};

/* The inverse of the normal distribution, p within (0, 1): Hastings' approximation and one step of Halley's method. */
static double
normal_score(double p)
{
    double t = sqrt(-2 * log(p < 0.5 ? p : 1 - p));
    double x = t - (2.515517 + t * (0.802853 + t * 0.010328)) / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308)));
    x = p < 0.5 ? -x : x;
    double u = (0.5 * erfc(-x * M_SQRT1_2) - p) * sqrt(2 * M_PI) * exp(x * x / 2);
    return x - u / (1 + x * u / 2);
}

static double
interpolate(int n, const float *x, const float *z, float v)
{
    int low = 0;
    for (int left = n; left > 1;)
    {
        int half = left / 2;
        low += x[low + half] <= v ? half : 0;
        left -= half;
    }
    if (low == n - 1 || v <= x[low])
        return z[low];
    double share = ((double) v - x[low]) / ((double) x[low + 1] - x[low]);
    return z[low] + share * ((double) z[low + 1] - z[low]);
}

static float
output_value(const output *o, const float *x, const float *z, float v)
{
    if (o->n_knots == 0)
        return isfinite(v) ? o->present : o->missing;
    return isfinite(v) ? (float) fmin(fmax(interpolate(o->n_knots, x, z, v), -LIMIT), LIMIT) : 0;
}

/* What fitting works with: candidates 0..columns-1 are values, the others flags. */
typedef struct fitting
{
    moe_job *job;
    const float *data;
    int64_t n;
    int64_t columns;
    int64_t sampled; /* rows looked at */
    int64_t block;   /* first column of the block */
    float *column;   /* [BLOCK_COLUMNS, sampled] values, in order of rows */
    float *sorted;   /* the same ascending, NULLs left out */
    float *spare;
    output *candidate; /* [2 * columns] */
    uint64_t *hash;    /* [2 * columns] of all values; 0: not to be used */
    int64_t *earlier;  /* [2 * columns] an earlier candidate of the same hash, or -1 */
    float *x;          /* [columns, KNOTS] */
    float *z;
} fitting;

/* Row number i of those looked at. */
static int64_t
sampled_row(const fitting *f, int64_t i)
{
    return f->sampled == f->n ? i : i * (f->n / f->sampled) + i * (f->n % f->sampled) / f->sampled;
}

/* Copy rows [begin, end) of the block; infinity becomes NULL and -0 becomes 0. */
static void
gather_rows(int64_t begin, int64_t end, void *arg)
{
    const fitting *f = arg;
    int64_t columns = f->columns - f->block < BLOCK_COLUMNS ? f->columns - f->block : BLOCK_COLUMNS;
    for (int64_t i = begin; i < end; i++)
    {
        const float *row = f->data + sampled_row(f, i) * f->columns + f->block;
        for (int64_t c = 0; c < columns; c++)
            f->column[c * f->sampled + i] = isfinite(row[c]) ? row[c] + 0.0f : NAN;
    }
}

/* First place in sorted values whose value is at least (after: above) v. */
static int64_t
place_of(const float *values, int64_t n, float v, bool after)
{
    int64_t low = 0;
    for (int64_t high = n; low < high;)
    {
        int64_t middle = low + (high - low) / 2;
        if (values[middle] < v || (after && values[middle] == v))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Every distinct value if there are at most KNOTS of them, else evenly spaced quantiles. Returns their number. */
static int
choose_knots(const float *values, int64_t n, float *x, float *z)
{
    int64_t distinct = n > 0;
    for (int64_t i = 1; i < n && distinct <= KNOTS; i++)
        distinct += values[i] != values[i - 1];
    int knots = 0;
    int64_t begin = 0, end;
    for (int64_t i = 0; i < (distinct <= KNOTS ? distinct : KNOTS); i++)
    {
        float v = values[distinct <= KNOTS ? begin : i * (n - 1) / (KNOTS - 1)];
        if (knots > 0 && v == x[knots - 1])
            continue;
        begin = place_of(values, n, v, false);
        end = place_of(values, n, v, true);
        x[knots] = v;
        z[knots++] = (float) normal_score(((double) begin + (double) end) / 2 / (double) n);
        begin = end;
    }
    return knots;
}

/* Give scores mean 0 and deviation 1 over the values; false if they do not vary. */
static bool
standardise(const float *values, int64_t n, int knots, const float *x, float *z)
{
    double mean = 0, square = 0;
    for (int64_t i = 0; i < n; i++)
        mean += interpolate(knots, x, z, values[i]);
    mean /= (double) n;
    for (int64_t i = 0; i < n; i++)
    {
        double d = interpolate(knots, x, z, values[i]) - mean;
        square += d * d;
    }
    double deviation = sqrt(square / (double) n);
    if (knots < 2 || !(deviation > 1e-9))
        return false;
    for (int k = 0; k < knots; k++)
        z[k] = (float) ((z[k] - mean) / deviation);
    return true;
}

static uint64_t
hash_output(const fitting *f, int64_t candidate, const float *column)
{
    int64_t c = candidate % f->columns;
    uint64_t hash = 1;
    for (int64_t i = 0; i < f->sampled; i++)
    {
        uint32_t bits;
        float value = output_value(&f->candidate[candidate], f->x + c * KNOTS, f->z + c * KNOTS, column[i]);
        memcpy(&bits, &value, sizeof bits);
        hash = moe_mix64(hash ^ bits);
    }
    return hash | 1;
}

static void
fit_flag(fitting *f, int64_t c, const float *column, int64_t nulls)
{
    double share = (double) nulls / (double) f->sampled, deviation = sqrt(share * (1 - share));
    if (nulls == f->sampled || nulls < 1 || nulls < fmin(RARE_NULLS, ceil(RARE_SHARE * (double) f->sampled)))
        return;
    output *flag = &f->candidate[f->columns + c];
    flag->input = (int32_t) c;
    flag->missing = (float) fmin((1 - share) / deviation, LIMIT);
    flag->present = (float) fmax(-share / deviation, -LIMIT);
    f->hash[f->columns + c] = hash_output(f, f->columns + c, column);
}

static void
fit_columns(int64_t begin, int64_t end, void *arg)
{
    fitting *f = arg;
    for (int64_t b = begin; b < end && !moe_job_cancelled(f->job); b++)
    {
        int64_t c = f->block + b, n = 0;
        const float *column = f->column + b * f->sampled;
        float *sorted = f->sorted + b * f->sampled, *x = f->x + c * KNOTS, *z = f->z + c * KNOTS;
        for (int64_t i = 0; i < f->sampled; i++)
            if (!isnan(column[i]))
                sorted[n++] = column[i];
        moe_sort_floats(sorted, f->spare + b * f->sampled, n);
        int knots = choose_knots(sorted, n, x, z);
        if (knots > 1 && standardise(sorted, n, knots, x, z))
        {
            f->candidate[c] = (output){.input = (int32_t) c, .n_knots = knots, .knot = c * KNOTS};
            f->hash[c] = hash_output(f, c, column);
        }
        fit_flag(f, c, column, f->sampled - n);
    }
}

typedef struct hashed
{
    uint64_t hash;
    int64_t candidate;
} hashed;

static int
by_hash(const void *a, const void *b)
{
    const hashed *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return (x->candidate > y->candidate) - (x->candidate < y->candidate);
}

/* Find each candidate's first namesake by hash. */
static moe_code
find_namesakes(fitting *f)
{
    int64_t n = 2 * f->columns;
    hashed *order = moe_alloc(f->job, n, sizeof *order);
    if (order == NULL)
        return moe_job_code(f->job);
    for (int64_t i = 0; i < n; i++)
        order[i] = (hashed){f->hash[i], i};
    qsort(order, (size_t) n, sizeof *order, by_hash);
    for (int64_t i = 0, first = 0; i < n; i++)
    {
        first = order[i].hash == order[first].hash ? first : i;
        f->earlier[order[i].candidate] = first < i && order[i].hash != 0 ? order[first].candidate : -1;
    }
    moe_free(f->job, order);
    return MOE_OK;
}

/* Drop candidates that equal their namesake on every row. */
static void
drop_repeated(int64_t begin, int64_t end, void *arg)
{
    fitting *f = arg;
    for (int64_t i = begin; i < end; i++)
    {
        const output *a = &f->candidate[i], *b = f->earlier[i] < 0 ? NULL : &f->candidate[f->earlier[i]];
        bool same = b != NULL;
        for (int64_t r = 0; same && r < f->sampled; r++)
        {
            const float *row = f->data + sampled_row(f, r) * f->columns;
            if (r % 4096 == 0 && moe_job_cancelled(f->job))
                return;
            same = output_value(a, f->x + a->knot, f->z + a->knot, row[a->input]) ==
                   output_value(b, f->x + b->knot, f->z + b->knot, row[b->input]);
        }
        if (same)
            f->hash[i] = 0;
    }
}

static moe_normalizer *
create(moe_job *job, int n_inputs, int64_t n_outputs, int64_t n_knots)
{
    moe_normalizer *normalizer = moe_alloc(job, 1, sizeof *normalizer);
    if (normalizer == NULL)
        return NULL;
    *normalizer = (moe_normalizer){.job = job, .n_inputs = n_inputs, .n_outputs = (int) n_outputs, .n_knots = n_knots};
    normalizer->outputs = moe_alloc(job, n_outputs, sizeof *normalizer->outputs);
    normalizer->x = moe_alloc(job, n_knots, sizeof(float));
    normalizer->z = moe_alloc(job, n_knots, sizeof(float));
    if (normalizer->outputs != NULL && normalizer->x != NULL && normalizer->z != NULL)
        return normalizer;
    moe_normalizer_destroy(normalizer);
    return NULL;
}

/* The candidates that are left, side by side. */
static moe_code
collect(const fitting *f, moe_normalizer **out)
{
    int64_t n = 0, knots = 0;
    for (int64_t i = 0; i < 2 * f->columns; i++)
        if (f->hash[i] != 0)
        {
            n++;
            knots += f->candidate[i].n_knots;
        }
    moe_normalizer *normalizer = create(f->job, (int) f->columns, n, knots);
    if (normalizer == NULL)
        return moe_job_code(f->job);
    n = knots = 0;
    for (int64_t i = 0; i < 2 * f->columns; i++)
    {
        const output *from = &f->candidate[i];
        if (f->hash[i] == 0)
            continue;
        output *to = &normalizer->outputs[n++];
        *to = *from;
        to->knot = knots;
        memcpy(normalizer->x + knots, f->x + from->knot, (size_t) from->n_knots * sizeof(float));
        memcpy(normalizer->z + knots, f->z + from->knot, (size_t) from->n_knots * sizeof(float));
        knots += from->n_knots;
    }
    *out = normalizer;
    return MOE_OK;
}

static moe_code
start_fitting(fitting *f)
{
    f->column = moe_alloc(f->job, BLOCK_COLUMNS * f->sampled, sizeof(float));
    f->sorted = moe_alloc(f->job, BLOCK_COLUMNS * f->sampled, sizeof(float));
    f->spare = moe_alloc(f->job, BLOCK_COLUMNS * f->sampled, sizeof(float));
    f->candidate = moe_alloc(f->job, 2 * f->columns, sizeof *f->candidate);
    f->hash = moe_alloc(f->job, 2 * f->columns, sizeof *f->hash);
    f->earlier = moe_alloc(f->job, 2 * f->columns, sizeof *f->earlier);
    f->x = moe_alloc(f->job, f->columns * KNOTS, sizeof(float));
    f->z = moe_alloc(f->job, f->columns * KNOTS, sizeof(float));
    return moe_job_check(f->job);
}

static void
finish_fitting(fitting *f)
{
    moe_free(f->job, f->column);
    moe_free(f->job, f->sorted);
    moe_free(f->job, f->spare);
    moe_free(f->job, f->candidate);
    moe_free(f->job, f->hash);
    moe_free(f->job, f->earlier);
    moe_free(f->job, f->x);
    moe_free(f->job, f->z);
}

moe_code
moe_normalizer_fit(moe_job *job, const float *x, int64_t n, int columns, moe_normalizer **out)
{
    fitting f = {.job = job, .data = x, .n = n, .columns = columns, .sampled = n < MOST_ROWS ? n : MOST_ROWS};
    *out = NULL;
    if (n < 1 || columns < 0 || columns > MOST_INPUTS)
        return moe_fail(job, MOE_INVALID, "%lld rows of %d columns cannot be normalised", (long long) n, columns);
    moe_code code = start_fitting(&f);
    for (f.block = 0; code == MOE_OK && f.block < columns; f.block += BLOCK_COLUMNS)
    {
        moe_parallel(job, f.sampled, 4096, gather_rows, &f);
        moe_parallel(job, columns - f.block < BLOCK_COLUMNS ? columns - f.block : BLOCK_COLUMNS, 1, fit_columns, &f);
        code = moe_job_check(job);
    }
    if (code == MOE_OK)
        code = find_namesakes(&f);
    if (code == MOE_OK)
    {
        moe_parallel(job, 2 * f.columns, 1, drop_repeated, &f);
        code = moe_job_check(job);
    }
    if (code == MOE_OK)
        code = collect(&f, out);
    finish_fitting(&f);
    return code;
}

void
moe_normalizer_destroy(moe_normalizer *normalizer)
{
    if (normalizer == NULL)
        return;
    moe_free(normalizer->job, normalizer->outputs);
    moe_free(normalizer->job, normalizer->x);
    moe_free(normalizer->job, normalizer->z);
    moe_free(normalizer->job, normalizer);
}

int
moe_normalizer_inputs(const moe_normalizer *normalizer)
{
    return normalizer->n_inputs;
}

int
moe_normalizer_outputs(const moe_normalizer *normalizer)
{
    return normalizer->n_outputs;
}

int
moe_normalizer_source(const moe_normalizer *normalizer, int output)
{
    return normalizer->outputs[output].input;
}

bool
moe_normalizer_is_flag(const moe_normalizer *normalizer, int output)
{
    return normalizer->outputs[output].n_knots == 0;
}

typedef struct applying
{
    const moe_normalizer *normalizer;
    const float *x;
    float *out;
} applying;

/* Output by output, so that one's knots stay at hand. */
static void
apply_rows(int64_t begin, int64_t end, void *arg)
{
    const applying *a = arg;
    const moe_normalizer *n = a->normalizer;
    if (moe_job_cancelled(n->job))
        return;
    for (int64_t o = 0; o < n->n_outputs; o++)
    {
        const output *output = &n->outputs[o];
        for (int64_t i = begin; i < end; i++)
            a->out[i * n->n_outputs + o] =
                output_value(output, n->x + output->knot, n->z + output->knot, a->x[i * n->n_inputs + output->input]);
    }
}

moe_code
moe_normalizer_apply(const moe_normalizer *normalizer, const float *x, int64_t n, float *out)
{
    applying a = {normalizer, x, out};
    moe_parallel(normalizer->job, n, ROWS_AT_A_TIME, apply_rows, &a);
    return moe_job_check(normalizer->job);
}

void
moe_normalizer_write(const moe_normalizer *normalizer, moe_buffer *buffer)
{
    moe_put_u8(buffer, FORMAT);
    moe_put_i32(buffer, normalizer->n_inputs);
    moe_put_i64(buffer, normalizer->n_outputs);
    moe_put_i64(buffer, normalizer->n_knots);
    for (int o = 0; o < normalizer->n_outputs; o++)
    {
        const output *output = &normalizer->outputs[o];
        moe_put_i32(buffer, output->input);
        moe_put_i32(buffer, output->n_knots);
        if (output->n_knots == 0)
        {
            moe_put_f32(buffer, output->missing);
            moe_put_f32(buffer, output->present);
        }
        moe_put_floats(buffer, normalizer->x + output->knot, output->n_knots);
        moe_put_floats(buffer, normalizer->z + output->knot, output->n_knots);
    }
}

/* What cannot have been written by a fit: order, ranges, or knots that do not ascend. */
static bool
output_valid(const moe_normalizer *n, int o)
{
    const output *this = &n->outputs[o], *last = o > 0 ? this - 1 : NULL;
    const float *x = n->x + this->knot, *z = n->z + this->knot;
    bool valid = this->input >= 0 && this->input < n->n_inputs && this->n_knots != 1 &&
                 fabsf(this->missing) <= (float) LIMIT && fabsf(this->present) <= (float) LIMIT;
    if (last != NULL && (this->n_knots == 0) == (last->n_knots == 0))
        valid = valid && this->input > last->input;
    else if (last != NULL)
        valid = valid && this->n_knots == 0;
    for (int k = 1; valid && k < this->n_knots; k++)
        valid = x[k] > x[k - 1] && z[k] >= z[k - 1];
    return valid;
}

static moe_code
corrupt(moe_job *job)
{
    return moe_fail(job, MOE_CORRUPT, "a stored normalisation of columns does not read back");
}

static moe_code
read_output(moe_reader *reader, moe_normalizer *normalizer, int o, int64_t *knots)
{
    output *output = &normalizer->outputs[o];
    output->input = moe_get_i32(reader);
    int32_t n = moe_get_i32(reader);
    if (n < 0 || n > KNOTS || n > normalizer->n_knots - *knots)
        return corrupt(reader->job);
    output->n_knots = n;
    output->knot = *knots;
    if (n == 0)
    {
        moe_get_floats(reader, &output->missing, 1);
        moe_get_floats(reader, &output->present, 1);
    }
    moe_get_floats(reader, normalizer->x + *knots, n);
    moe_get_floats(reader, normalizer->z + *knots, n);
    *knots += n;
    return moe_reader_code(reader) != MOE_OK || output_valid(normalizer, o) ? moe_reader_code(reader)
                                                                            : corrupt(reader->job);
}

moe_code
moe_normalizer_read(moe_job *job, moe_reader *reader, moe_normalizer **out)
{
    *out = NULL;
    uint8_t format = moe_get_u8(reader);
    int32_t inputs = moe_get_i32(reader);
    int64_t outputs = moe_get_count(reader, 2 * sizeof(int32_t));
    int64_t knots = moe_get_count(reader, 2 * sizeof(float)), seen = 0;
    if (moe_reader_code(reader) != MOE_OK)
        return moe_reader_code(reader);
    if (format != FORMAT || inputs < 0 || inputs > MOST_INPUTS || outputs > 2 * (int64_t) inputs)
        return corrupt(job);
    moe_normalizer *normalizer = create(job, inputs, outputs, knots);
    moe_code code = normalizer == NULL ? moe_job_code(job) : MOE_OK;
    for (int o = 0; code == MOE_OK && o < outputs; o++)
        code = read_output(reader, normalizer, o, &seen);
    if (code == MOE_OK && seen != knots)
        code = corrupt(job);
    if (code == MOE_OK)
        *out = normalizer;
    else
        moe_normalizer_destroy(normalizer);
    return code;
}
