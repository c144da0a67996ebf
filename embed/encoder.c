/*
 * encoder.c: table embeddings: a row's columns become one vector.
 *
 *   x  = dense W + b + sum of category rows + sum over bag columns of
 *        (sum of the bag's hash rows) / sqrt(size of the bag)
 *   x <- x + W2 dropout(relu(W1 layer_norm(x) + b1)) + b2      `blocks` times
 *   result: layer_norm(x)
 *
 * Column vectors are summed, not concatenated. A linear layer over their
 * concatenation, which every design of that kind starts with (RDL's ResNet
 * among them), is the sum of one linear map per column; a lookup followed by a
 * linear map is a lookup in another table. So the sum computes the same
 * functions with C rather than columns * C inputs, and all dense inputs of a
 * table become a single product [n, d][d, C]. What makes columns interact are
 * the residual blocks (pre-norm, as He et al. 2016 and Xiong et al. 2020).
 *
 * All category columns of a table share one embedding parameter and one
 * aggregation; all texts and hashed categories of all tables share one hash
 * table and one aggregation per forward pass. Dividing by the root of a bag's
 * size keeps its variance independent of the length of the text.
 *
 * On a device, a table's dense inputs are copied there once as many of its rows
 * were asked for as that is worth, and a batch's are gathered from them; rows
 * with something to hide are filled in by the host.
 *
 * In training a category shows as unknown now and then, so that the unknown
 * state means something where every fitted value is in the dictionary.
 */
#include "embed/encoder.h"
#include "embed/spec.h"
#include "kernels/device.h"
#include "kernels/random.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define GRAIN        1024
#define AHEAD        16   /* rows from the one whose memory is asked for to the one that is read */
#define LINE         16   /* floats in a cache line */
#define UNKNOWN_RATE 0.02 /* of category values shown as unknown in training; never more than the dropout */
#define CHANNELS_MAX 65536
#define BLOCKS_MAX   64

typedef struct block
{
    moe_param *gain, *bias;
    moe_param *w1, *b1, *w2, *b2;
} block;

typedef struct table_encoder
{
    moe_param *bias;
    moe_param *dense;    /* NULL: no dense inputs */
    moe_param *category; /* NULL: no category entries */
    block *blocks;
    moe_param *out_gain, *out_bias;
    float *dense_null; /* [dense_width] what NULL looks like in every column */
    float *resident;   /* [n_rows, dense_width] the dense inputs on the device; NULL: not there */
    bool refused;      /* they do not fit */
    int64_t asked;     /* rows encoded since the features were bound */
} table_encoder;

struct moe_encoder
{
    moe_job *job;
    moe_features *features;
    moe_encoder_config config;
    moe_param *hash; /* NULL: no column needs it */
    table_encoder *tables;
    int64_t binding; /* of the features that the residents belong to */
};

/* Add the parameter "embed/<table>/<name>", or with a block's number in between. NULL on failure. */
static moe_param *
add_param(moe_params *params, int table, int block, const char *name, int64_t rows, int64_t cols, moe_init init)
{
    char full[64];

    if (block < 0)
        snprintf(full, sizeof(full), "embed/%d/%s", table, name);
    else
        snprintf(full, sizeof(full), "embed/%d/block%d/%s", table, block, name);
    return moe_params_add(params, full, rows, cols, init);
}

static moe_code
create_blocks(moe_encoder *encoder, int t, moe_params *params)
{
    int c = encoder->config.channels;
    table_encoder *table = &encoder->tables[t];

    if (!(table->blocks = moe_alloc(encoder->job, encoder->config.blocks, sizeof(block))))
        return moe_job_code(encoder->job);
    for (int i = 0; i < encoder->config.blocks; i++)
    {
        block *b = &table->blocks[i];

        b->gain = add_param(params, t, i, "gain", 1, c, MOE_INIT_ONE);
        b->bias = add_param(params, t, i, "bias", 1, c, MOE_INIT_ZERO);
        b->w1 = add_param(params, t, i, "w1", c, c, MOE_INIT_UNIFORM);
        b->b1 = add_param(params, t, i, "b1", 1, c, MOE_INIT_ZERO);
        b->w2 = add_param(params, t, i, "w2", c, c, MOE_INIT_UNIFORM);
        b->b2 = add_param(params, t, i, "b2", 1, c, MOE_INIT_ZERO);
    }
    table->out_gain = add_param(params, t, -1, "out/gain", 1, c, MOE_INIT_ONE);
    table->out_bias = add_param(params, t, -1, "out/bias", 1, c, MOE_INIT_ZERO);
    return moe_job_code(encoder->job);
}

static moe_code
create_table(moe_encoder *encoder, int t, moe_params *params)
{
    const moe_features_table *source = &encoder->features->tables[t];
    table_encoder *table = &encoder->tables[t];
    int c = encoder->config.channels;

    /* The bias alone is the vector of a table without usable columns: it must not be zero. */
    table->bias = add_param(params, t, -1, "bias", 1, c, MOE_INIT_NORMAL);
    if (source->dense_width > 0)
        table->dense = add_param(params, t, -1, "dense", source->dense_width, c, MOE_INIT_UNIFORM);
    if (source->category_rows > 0)
        table->category = add_param(params, t, -1, "category", source->category_rows, c, MOE_INIT_NORMAL);
    if (!(table->dense_null = moe_alloc(encoder->job, source->dense_width, sizeof(float))))
        return moe_job_code(encoder->job);
    for (int i = 0; i < source->n_columns; i++)
        if (source->columns[i].dense_width > 0)
            moe_spec_dense_null(&source->columns[i], table->dense_null + source->columns[i].dense_at);
    return create_blocks(encoder, t, params);
}

moe_code
moe_encoder_create(moe_job *job, moe_features *features, const moe_encoder_config *config, moe_params *params,
                   moe_encoder **out)
{
    moe_encoder *encoder;

    *out = NULL;
    if (config->channels < 1 || config->channels > CHANNELS_MAX || config->blocks < 0 || config->blocks > BLOCKS_MAX ||
        !(config->dropout >= 0 && config->dropout < 1))
        return moe_fail(job, MOE_INVALID, "an encoder of %d channels, %d blocks and dropout %g makes no sense",
                        config->channels, config->blocks, config->dropout);
    if (!(encoder = moe_alloc(job, 1, sizeof(*encoder))))
        return moe_job_code(job);
    encoder->job = job;
    encoder->features = features;
    encoder->config = *config;
    encoder->tables = moe_alloc(job, features->n_tables, sizeof(*encoder->tables));
    if (features->buckets > 0)
        encoder->hash = moe_params_add(params, "embed/hash", features->buckets, config->channels, MOE_INIT_NORMAL);
    for (int t = 0; t < features->n_tables && moe_job_code(job) == MOE_OK; t++)
        create_table(encoder, t, params);
    if (moe_job_code(job) == MOE_OK)
        *out = encoder;
    else
        moe_encoder_destroy(encoder);
    return moe_job_code(job);
}

/* Give back the device's copies of dense inputs. */
static void
release_residents(moe_encoder *encoder)
{
    for (int t = 0; encoder->tables && t < encoder->features->n_tables; t++)
    {
        table_encoder *table = &encoder->tables[t];

        moe_device_free(encoder->job, table->resident);
        table->resident = NULL;
        table->refused = false;
        table->asked = 0;
    }
}

void
moe_encoder_destroy(moe_encoder *encoder)
{
    if (!encoder)
        return;
    release_residents(encoder);
    for (int t = 0; encoder->tables && t < encoder->features->n_tables; t++)
    {
        moe_free(encoder->job, encoder->tables[t].blocks);
        moe_free(encoder->job, encoder->tables[t].dense_null);
    }
    moe_free(encoder->job, encoder->tables);
    moe_free(encoder->job, encoder);
}

/* One call of moe_encoder_forward, as the threads see it. */
typedef struct request
{
    const moe_features_table *source;
    const table_encoder *table;
    const int32_t *rows;
    const uint8_t *hidden;
    const bool *hidden_columns; /* of every row: [n_columns], or NULL */
    float *dense;               /* [n, dense_width] */
    int32_t *category;          /* [n, n_categories] */
    double unknown_rate;
    uint64_t key;
    int64_t *bag_offset; /* [n + 1] */
    int32_t *bag_index;
    float *bag_weight;
} request;

/* Whether this occurrence of a row must not show a column. */
static bool
is_hidden(const request *r, int64_t i, const moe_spec *spec)
{
    if (r->hidden_columns && r->hidden_columns[spec - r->source->columns])
        return true;
    return r->hidden && spec->hidden_bit >= 0 && (r->hidden[i] >> spec->hidden_bit & 1);
}

/* Whether it may hide any. */
static bool
may_hide(const request *r, int64_t i)
{
    return r->hidden_columns || (r->source->hides && r->hidden && r->hidden[i]);
}

/* A row that comes a little later, so that memory is there by then: rows of a batch lie anywhere in their table. */
static int64_t
row_ahead(const request *r, int64_t i, int64_t end)
{
    return r->rows[i + AHEAD < end ? i + AHEAD : end - 1];
}

/* Copy rows' dense inputs, with NULL's in hidden columns. */
static void
fill_dense(int64_t begin, int64_t end, void *arg)
{
    const request *r = arg;
    int64_t width = r->source->dense_width;

    for (int64_t i = begin; i < end; i++)
    {
        float *out = r->dense + i * width;
        const float *next = r->source->dense + row_ahead(r, i, end) * width;

        for (int64_t c = 0; c < width; c += LINE)
            __builtin_prefetch(next + c);
        __builtin_prefetch(next + width - 1);
        memcpy(out, r->source->dense + r->rows[i] * width, width * sizeof(float));
        if (!may_hide(r, i))
            continue;
        for (int c = 0; c < r->source->n_columns; c++)
        {
            const moe_spec *spec = &r->source->columns[c];

            if (spec->dense_width > 0 && is_hidden(r, i, spec))
                memcpy(out + spec->dense_at, r->table->dense_null + spec->dense_at, spec->dense_width * sizeof(float));
        }
    }
}

/* What one category entry shows: NULL where hidden, now and then the unknown state. */
static int32_t
show_category(const request *r, int64_t i, const moe_spec *spec, int32_t stored)
{
    int64_t counter = i * r->source->n_categories + spec->category_at;

    if (is_hidden(r, i, spec))
        return moe_spec_category_null(spec);
    if (r->unknown_rate > 0 && (spec->parts & MOE_PART_CATEGORY) && stored >= moe_spec_category_unknown(spec) &&
        moe_random_uniform(r->key, counter) < r->unknown_rate)
        return moe_spec_category_unknown(spec);
    return stored;
}

static void
fill_category(int64_t begin, int64_t end, void *arg)
{
    const request *r = arg;
    int64_t k = r->source->n_categories;

    for (int64_t i = begin; i < end; i++)
    {
        __builtin_prefetch(r->source->category + row_ahead(r, i, end) * k);
        for (int c = 0; c < r->source->n_columns; c++)
        {
            const moe_spec *spec = &r->source->columns[c];

            if (spec->category_at >= 0)
                r->category[i * k + spec->category_at] =
                    show_category(r, i, spec, r->source->category[r->rows[i] * k + spec->category_at]);
        }
    }
}

/* The size of a bag as this occurrence shows it. */
static int64_t
bag_size(const request *r, int64_t i, const moe_spec *spec)
{
    int64_t row = r->rows[i];

    if (!(spec->parts & MOE_PARTS_BAG) || is_hidden(r, i, spec))
        return 0;
    return spec->bag_offset[row + 1] - spec->bag_offset[row];
}

static void
count_bags(int64_t begin, int64_t end, void *arg)
{
    const request *r = arg;

    for (int64_t i = begin; i < end; i++)
    {
        int64_t n = 0;

        for (int c = 0; c < r->source->n_columns; c++)
        {
            const moe_spec *spec = &r->source->columns[c];

            if (spec->bag_offset)
                __builtin_prefetch(spec->bag_offset + row_ahead(r, i, end));
            n += bag_size(r, i, spec);
        }
        r->bag_offset[i + 1] = n;
    }
}

static void
fill_bags(int64_t begin, int64_t end, void *arg)
{
    const request *r = arg;

    for (int64_t i = begin; i < end; i++)
    {
        int64_t at = r->bag_offset[i];

        for (int c = 0; c < r->source->n_columns; c++)
        {
            const moe_spec *spec = &r->source->columns[c];
            int64_t n = bag_size(r, i, spec);
            float weight = n > 0 ? 1 / sqrtf((float) n) : 0;

            if (spec->bag_offset && spec->bag_index)
                __builtin_prefetch(spec->bag_index + spec->bag_offset[row_ahead(r, i, end)]);
            if (n > 0)
                memcpy(r->bag_index + at, spec->bag_index + spec->bag_offset[r->rows[i]], n * sizeof(int32_t));
            for (int64_t k = 0; k < n; k++)
                r->bag_weight[at++] = weight;
        }
    }
}

/*
 * A table's dense inputs on the device; NULL where the host is to fill in those of each batch. To copy a whole table
 * is worth it once half as many rows were asked for as it has.
 */
static const float *
resident_dense(moe_encoder *encoder, int t, int64_t n)
{
    const moe_features_table *source = &encoder->features->tables[t];
    table_encoder *table = &encoder->tables[t];
    moe_device *device = moe_job_device(encoder->job);
    size_t bytes = (size_t) source->n_rows * source->dense_width * sizeof(float);

    if (device == NULL || source->ready != NULL)
        return NULL;
    if (encoder->binding != encoder->features->binding)
        release_residents(encoder);
    encoder->binding = encoder->features->binding;
    table->asked += n;
    if (table->resident || table->refused || bytes == 0 || table->asked < source->n_rows / 2)
        return table->resident;
    table->resident = device->alloc(device, bytes, false);
    table->refused = table->resident == NULL;
    if (table->resident)
        moe_upload(encoder->job, table->resident, source->dense, bytes);
    return table->resident;
}

/* A batch's dense inputs [n, dense_width], as the host fills them in. */
static moe_var *
fill_inputs(moe_encoder *encoder, moe_tape *tape, request *r, int64_t n)
{
    if (!(r->dense = moe_tape_alloc(tape, n, r->source->dense_width * sizeof(float))))
        return NULL;
    moe_parallel(encoder->job, n, GRAIN, fill_dense, r);
    return moe_constant(tape, n, r->source->dense_width, r->dense);
}

/* Split a batch: index[0] takes what shows all from the whole table, index[1] the rest from rows filled in apart. */
static moe_var *
gather_inputs(moe_encoder *encoder, moe_tape *tape, request *r, const float *resident, int64_t n)
{
    moe_var *whole = moe_resident(tape, r->source->n_rows, r->source->dense_width, resident);
    int32_t *index[2] = {moe_tape_alloc(tape, n, sizeof(int32_t)), moe_tape_alloc(tape, n, sizeof(int32_t))};
    int32_t *rows = moe_tape_alloc(tape, n, sizeof(*rows));
    uint8_t *hidden = moe_tape_alloc(tape, n, sizeof(*hidden));
    int32_t n_hidden = 0;
    moe_var *terms[2] = {whole, NULL};
    request apart = *r;

    if (!index[0] || !index[1] || !rows || !hidden)
        return NULL;
    for (int64_t i = 0; i < n; i++)
    {
        bool hides = may_hide(r, i);

        index[0][i] = hides ? -1 : r->rows[i];
        index[1][i] = hides ? n_hidden : -1;
        if (!hides)
            continue;
        rows[n_hidden] = r->rows[i];
        hidden[n_hidden++] = r->hidden ? r->hidden[i] : 0;
    }
    if (n_hidden == 0)
        return moe_gather(tape, whole, index[0], n);
    apart.rows = rows;
    apart.hidden = hidden;
    terms[1] = fill_inputs(encoder, tape, &apart, n_hidden);
    return moe_sum_rows(tape, terms, (const int32_t *const *) index, 2, n);
}

/* dense W + b, or the bias in every row where a table has no dense inputs. */
static moe_var *
forward_dense(moe_encoder *encoder, moe_tape *tape, request *r, int64_t n)
{
    moe_var *bias = moe_variable(tape, r->table->bias);
    const float *resident;
    moe_var *x;

    if (r->source->dense_width == 0)
    {
        int32_t *first = moe_tape_alloc(tape, n, sizeof(*first));

        if (!first)
            return NULL;
        memset(first, 0, n * sizeof(*first));
        return moe_gather(tape, bias, first, n);
    }
    resident = resident_dense(encoder, (int) (r->source - encoder->features->tables), n);
    x = resident ? gather_inputs(encoder, tape, r, resident, n) : fill_inputs(encoder, tape, r, n);
    return moe_linear(tape, x, moe_variable(tape, r->table->dense), bias);
}

static moe_var *
forward_category(moe_encoder *encoder, moe_tape *tape, request *r, int64_t n)
{
    r->category = moe_tape_alloc(tape, n, r->source->n_categories * sizeof(int32_t));
    if (!r->category)
        return NULL;
    if (moe_tape_training(tape))
    {
        r->unknown_rate = fmin(UNKNOWN_RATE, encoder->config.dropout);
        r->key = moe_tape_key(tape);
    }
    moe_parallel(encoder->job, n, GRAIN, fill_category, r);
    return moe_embedding_bag(tape, moe_variable(tape, r->table->category), r->category, r->source->n_categories, n,
                             MOE_SUM);
}

static moe_var *
forward_bags(moe_encoder *encoder, moe_tape *tape, request *r, int64_t n)
{
    if (!(r->bag_offset = moe_tape_alloc(tape, n + 1, sizeof(int64_t))))
        return NULL;
    r->bag_offset[0] = 0;
    moe_parallel(encoder->job, n, GRAIN, count_bags, r);
    for (int64_t i = 0; i < n; i++)
        r->bag_offset[i + 1] += r->bag_offset[i];
    r->bag_index = moe_tape_alloc(tape, r->bag_offset[n], sizeof(int32_t));
    r->bag_weight = moe_tape_alloc(tape, r->bag_offset[n], sizeof(float));
    if (!r->bag_index || !r->bag_weight)
        return NULL;
    moe_parallel(encoder->job, n, GRAIN, fill_bags, r);
    return moe_aggregate(tape, moe_variable(tape, encoder->hash), r->bag_offset, r->bag_index, r->bag_weight, n,
                         MOE_SUM);
}

static moe_var *
forward_block(const moe_encoder *encoder, moe_tape *tape, const block *b, moe_var *x)
{
    moe_var *y = moe_layer_norm(tape, x, moe_variable(tape, b->gain), moe_variable(tape, b->bias));

    y = moe_linear(tape, y, moe_variable(tape, b->w1), moe_variable(tape, b->b1));
    y = moe_relu_dropout(tape, y, encoder->config.dropout);
    y = moe_linear(tape, y, moe_variable(tape, b->w2), moe_variable(tape, b->b2));
    return moe_add(tape, x, y);
}

/* Refuse what would read outside the bound rows. */
static moe_code
check_request(const moe_encoder *encoder, int table, const int32_t *rows, int64_t n)
{
    const moe_features *features = encoder->features;

    if (table < 0 || table >= features->n_tables || n < 0)
        return moe_fail(encoder->job, MOE_INVALID, "table number %d is out of range", table);
    if (!features->tables[table].bound)
        return moe_fail(encoder->job, MOE_INVALID, "table number %d has no rows bound", table);
    for (int64_t i = 0; i < n; i++)
        if (rows[i] < 0 || rows[i] >= features->tables[table].n_rows)
            return moe_fail(encoder->job, MOE_INVALID, "row %d of table number %d is out of range", rows[i], table);
    return MOE_OK;
}

moe_var *
moe_encoder_forward(void *arg, moe_tape *tape, int table, const int32_t *rows, const uint8_t *hidden, int64_t n)
{
    moe_encoder *encoder = arg;
    const table_encoder *weights;
    request r = {0};
    moe_var *terms[3];
    moe_var *x;
    int k = 0;

    if (check_request(encoder, table, rows, n) != MOE_OK ||
        moe_features_need(encoder->features, table, rows, n) != MOE_OK)
        return NULL;
    weights = &encoder->tables[table];
    r.source = &encoder->features->tables[table];
    r.table = weights;
    r.rows = rows;
    r.hidden = hidden;
    r.hidden_columns = encoder->features->hidden ? encoder->features->hidden[table] : NULL;
    terms[k++] = forward_dense(encoder, tape, &r, n);
    if (r.source->n_categories > 0)
        terms[k++] = forward_category(encoder, tape, &r, n);
    if (r.source->n_bags > 0)
        terms[k++] = forward_bags(encoder, tape, &r, n);
    x = moe_sum(tape, terms, k);
    for (int i = 0; i < encoder->config.blocks; i++)
        x = forward_block(encoder, tape, &weights->blocks[i], x);
    return moe_layer_norm(tape, x, moe_variable(tape, weights->out_gain), moe_variable(tape, weights->out_bias));
}
