/*
 * params.c: the named parameters of one model: initialise, store, read back.
 *
 * Stored form: version, count, then for each parameter its name, rows, cols
 * and values. Moments are not stored: a warm start begins with fresh ones.
 *
 * A parameter's values are allocated by themselves at first. Training lays out
 * four slabs of one form, for values, gradients and both moments, so that the
 * optimiser is few calls however many parameters there are; each parameter
 * starts on a cache line. With parameters added since, moe_params_train makes
 * them anew.
 */
#include <math.h>
#include <string.h>

#include "kernels/device.h"
#include "kernels/params.h"
#include "kernels/random.h"

#define FORMAT_VERSION 1
/* Name length, rows and cols: the fewest bytes a stored parameter can take. */
#define SMALLEST_STORED (3 * sizeof(int64_t))
/* Numbers a parameter's place is a multiple of: 64 bytes. */
#define PLACE_STEP 16

enum
{
    VALUES,
    GRADIENTS,
    MOMENTS1,
    MOMENTS2,
    SLABS
};

struct moe_params
{
    moe_job *job;
    uint64_t seed;
    moe_param **list; /* each allocated by itself: callers keep pointers to them */
    int count;
    int64_t capacity;
    bool training;
    int laid_out; /* parameters in the slabs: the first so many */
    int64_t size; /* of each slab, in numbers */
    float *slabs[SLABS];
    float *kept;             /* a copy of the values' slab, or NULL */
    double *square_sum;      /* [1] */
    moe_param **order;       /* [laid_out] by place */
    moe_param_range *ranges; /* room for [laid_out] */
};

moe_params *
moe_params_create(moe_job *job, uint64_t seed)
{
    moe_params *params = moe_alloc(job, 1, sizeof(moe_params));
    if (params != NULL)
        *params = (moe_params){.job = job, .seed = seed};
    return params;
}

/* Free what a parameter has outside of the slabs. */
static void
free_loose(moe_job *job, const moe_param *param)
{
    if (param->place >= 0)
        return;
    moe_device_free(job, param->value);
    moe_device_free(job, param->gradient);
    moe_device_free(job, param->moment1);
    moe_device_free(job, param->moment2);
}

static void
free_param(moe_job *job, moe_param *param)
{
    if (param == NULL)
        return;
    moe_free(job, param->name);
    free_loose(job, param);
    moe_free(job, param);
}

void
moe_params_destroy(moe_params *params)
{
    if (params == NULL)
        return;
    for (int i = 0; i < params->count; i++)
        free_param(params->job, params->list[i]);
    for (int i = 0; i < SLABS; i++)
        moe_device_free(params->job, params->slabs[i]);
    moe_device_free(params->job, params->kept);
    moe_device_free(params->job, params->square_sum);
    moe_free(params->job, params->order);
    moe_free(params->job, params->ranges);
    moe_free(params->job, params->list);
    moe_free(params->job, params);
}

moe_job *
moe_params_job(const moe_params *params)
{
    return params->job;
}

static moe_param *
find_param(const moe_params *params, const char *name)
{
    for (int i = 0; i < params->count; i++)
    {
        if (strcmp(params->list[i]->name, name) == 0)
            return params->list[i];
    }
    return NULL;
}

static size_t
value_bytes(const moe_param *param)
{
    return (size_t) (param->rows * param->cols) * sizeof(float);
}

void
moe_param_download(const moe_params *params, const moe_param *param, float *host)
{
    moe_download(params->job, host, param->value, value_bytes(param));
}

void
moe_param_upload(moe_params *params, moe_param *param, const float *host)
{
    moe_upload(params->job, param->value, host, value_bytes(param));
}

/* Numbers a parameter takes in a slab. */
static int64_t
padded_size(const moe_param *param)
{
    return (param->rows * param->cols + PLACE_STEP - 1) / PLACE_STEP * PLACE_STEP;
}

/* Put all parameters in the order of their places, those that decay first; returns the size of a slab. */
static int64_t
order_params(const moe_params *params, moe_param **order)
{
    int n = 0;
    int64_t size = 0;
    for (int decay = 1; decay >= 0; decay--)
        for (int i = 0; i < params->count; i++)
            if (params->list[i]->decay == decay)
            {
                order[n++] = params->list[i];
                size += padded_size(params->list[i]);
            }
    return size;
}

/* Move a parameter, and what it has beside its values, to its place in new slabs. */
static void
move_param(moe_params *params, moe_param *param, float *const *slabs, int64_t place)
{
    float **parts[SLABS] = {&param->value, &param->gradient, &param->moment1, &param->moment2};
    const moe_param old = *param;
    for (int i = 0; i < SLABS; i++)
    {
        if (*parts[i] != NULL)
            moe_device_copy(params->job, slabs[i] + place, *parts[i], value_bytes(param));
        *parts[i] = slabs[i] + place;
    }
    free_loose(params->job, &old);
    param->place = place;
}

/* Move all parameters to new slabs, in order, and free the old ones. */
static void
move_params(moe_params *params, moe_param **order, float *const *slabs)
{
    int64_t place = 0;
    for (int i = 0; i < params->count; i++)
    {
        move_param(params, order[i], slabs, place);
        place += padded_size(order[i]);
    }
    for (int i = 0; i < SLABS; i++)
    {
        moe_device_free(params->job, params->slabs[i]);
        params->slabs[i] = slabs[i];
    }
    moe_device_free(params->job, params->kept);
    params->kept = NULL;
    params->laid_out = params->count;
    params->size = place;
}

/* Make slabs for all parameters, and move them there; on failure all stays as it is. */
static moe_code
lay_out(moe_params *params)
{
    moe_job *job = params->job;
    float *slabs[SLABS] = {NULL};
    moe_param **order = moe_alloc(job, params->count, sizeof *order);
    moe_param_range *ranges = moe_alloc(job, params->count, sizeof *ranges);
    bool given = order != NULL && ranges != NULL;
    int64_t size = given ? order_params(params, order) : 0;
    if (params->square_sum == NULL)
        params->square_sum = moe_device_alloc(job, 1, sizeof(double));
    given = given && params->square_sum != NULL;
    for (int i = 0; i < SLABS && given; i++)
        given = (slabs[i] = moe_device_alloc(job, size, sizeof(float))) != NULL;
    if (given)
        move_params(params, order, slabs);
    for (int i = 0; i < SLABS && !given; i++)
        moe_device_free(job, slabs[i]);
    /* Of the old and the new arrays, one pair stays. */
    moe_free(job, given ? params->order : order);
    moe_free(job, given ? params->ranges : ranges);
    params->order = given ? order : params->order;
    params->ranges = given ? ranges : params->ranges;
    return moe_job_code(job);
}

/* Allocate what training needs beside the values, until everything is laid out. */
static moe_code
prepare_training(moe_job *job, moe_param *param)
{
    int64_t size = param->rows * param->cols;
    param->gradient = moe_device_alloc(job, size, sizeof(float));
    param->moment1 = moe_device_alloc(job, size, sizeof(float));
    param->moment2 = moe_device_alloc(job, size, sizeof(float));
    return moe_job_code(job);
}

/* A parameter of zeros that is in no list yet; NULL on failure. */
static moe_param *
new_param(moe_params *params, const char *name, int64_t rows, int64_t cols)
{
    moe_job *job = params->job;
    int64_t size;
    if (rows < 0 || cols < 0 || __builtin_mul_overflow(rows, cols, &size))
    {
        moe_fail(job, MOE_INVALID, "parameter \"%s\" cannot have %lld rows and %lld columns", name, (long long) rows,
                 (long long) cols);
        return NULL;
    }
    moe_param *param = moe_alloc(job, 1, sizeof(moe_param));
    if (param == NULL)
        return NULL;
    param->rows = rows;
    param->cols = cols;
    param->place = -1;
    param->name = moe_alloc(job, (int64_t) strlen(name) + 1, 1);
    param->value = moe_device_alloc(job, size, sizeof(float));
    if (param->name == NULL || param->value == NULL || (params->training && prepare_training(job, param) != MOE_OK))
    {
        free_param(job, param);
        return NULL;
    }
    strcpy(param->name, name);
    return param;
}

/* Take a parameter into the list, or free it and return NULL. */
static moe_param *
append_param(moe_params *params, moe_param *param)
{
    if (params->count == params->capacity)
    {
        int64_t capacity = params->capacity == 0 ? 64 : params->capacity * 2;
        moe_param **list = moe_realloc(params->job, params->list, capacity, sizeof(moe_param *));
        if (list == NULL)
        {
            free_param(params->job, param);
            return NULL;
        }
        params->list = list;
        params->capacity = capacity;
    }
    params->list[params->count++] = param;
    return param;
}

/* The first values of a parameter. */
static void
draw_values(const moe_param *param, int64_t inputs, moe_init init, uint64_t seed, float *value)
{
    uint64_t key = moe_hash_bytes(param->name, strlen(param->name), seed);
    double bound = inputs > 0 ? 1.0 / sqrt((double) inputs) : 0;
    int64_t size = param->rows * param->cols;
    for (int64_t i = 0; i < size; i++)
    {
        switch (init)
        {
            case MOE_INIT_ZERO:
                value[i] = 0;
                break;
            case MOE_INIT_ONE:
                value[i] = 1;
                break;
            case MOE_INIT_UNIFORM:
                value[i] = (float) ((2 * moe_random_uniform(key, (uint64_t) i) - 1) * bound);
                break;
            case MOE_INIT_NORMAL:
                value[i] = (float) (0.1 * moe_random_normal(key, (uint64_t) i));
                break;
        }
    }
}

/* Where the host may write a parameter's values, or read them into; end_values takes them over. NULL on failure. */
static float *
begin_values(const moe_params *params, const moe_param *param)
{
    return moe_job_device(params->job) == NULL ? param->value
                                               : moe_alloc(params->job, param->rows * param->cols, sizeof(float));
}

static void
end_values(const moe_params *params, const moe_param *param, float *host, bool written)
{
    if (host == param->value || host == NULL)
        return;
    if (written)
        moe_upload(params->job, param->value, host, value_bytes(param));
    moe_free(params->job, host);
}

static void
initialise(moe_params *params, moe_param *param, int64_t inputs, moe_init init)
{
    float *values = begin_values(params, param);
    if (values != NULL)
        draw_values(param, inputs, init, params->seed, values);
    end_values(params, param, values, true);
}

/* The parameter of this name if there is one; a different shape is recorded as MOE_CORRUPT. */
static moe_param *
find_of_shape(moe_params *params, const char *name, int64_t rows, int64_t cols)
{
    moe_param *param = find_param(params, name);
    if (param != NULL && (param->rows != rows || param->cols != cols))
    {
        moe_fail(params->job, MOE_CORRUPT, "parameter \"%s\" has shape [%lld, %lld] where [%lld, %lld] is needed", name,
                 (long long) param->rows, (long long) param->cols, (long long) rows, (long long) cols);
    }
    return param;
}

moe_param *
moe_params_add(moe_params *params, const char *name, int64_t rows, int64_t cols, moe_init init)
{
    return moe_params_add_groups(params, name, 1, rows, cols, init);
}

moe_param *
moe_params_add_groups(moe_params *params, const char *name, int64_t groups, int64_t inputs, int64_t cols, moe_init init)
{
    int64_t rows;
    if (__builtin_mul_overflow(groups, inputs, &rows))
        rows = -1; /* which new_param refuses */
    if (moe_job_code(params->job) != MOE_OK)
        return NULL;
    moe_param *param = find_of_shape(params, name, rows, cols);
    if (param == NULL)
    {
        param = new_param(params, name, rows, cols);
        if (param == NULL)
            return NULL;
        initialise(params, param, inputs, init);
        param = append_param(params, param);
    }
    if (moe_job_code(params->job) != MOE_OK)
        return NULL;
    param->decay = init == MOE_INIT_UNIFORM;
    return param;
}

int
moe_params_count(const moe_params *params)
{
    return params->count;
}

moe_param *
moe_params_get(const moe_params *params, int i)
{
    return params->list[i];
}

int64_t
moe_params_size(const moe_params *params)
{
    int64_t size = 0;
    for (int i = 0; i < params->count; i++)
        size += params->list[i]->rows * params->list[i]->cols;
    return size;
}

moe_code
moe_params_train(moe_params *params)
{
    params->training = true;
    return params->square_sum != NULL && params->laid_out == params->count ? MOE_OK : lay_out(params);
}

void
moe_params_zero_gradients(moe_params *params)
{
    moe_device_zero(params->job, params->slabs[GRADIENTS], (size_t) params->size * sizeof(float));
    for (int i = params->laid_out; i < params->count; i++)
        if (params->list[i]->gradient != NULL)
            moe_device_zero(params->job, params->list[i]->gradient, value_bytes(params->list[i]));
}

int64_t
moe_params_laid_out(const moe_params *params)
{
    return params->size;
}

double *
moe_params_square_sum(const moe_params *params)
{
    return params->square_sum;
}

const moe_param_range *
moe_params_ranges(moe_params *params, int *n)
{
    moe_param_range *range = params->ranges;
    *n = 0;
    for (int i = 0; i < params->laid_out; i++)
    {
        const moe_param *param = params->order[i];
        if (*n == 0 || range->decay != param->decay)
        {
            range = &params->ranges[(*n)++];
            *range = (moe_param_range){.decay = param->decay,
                                       .value = param->value,
                                       .gradient = param->gradient,
                                       .moment1 = param->moment1,
                                       .moment2 = param->moment2};
        }
        range->count += padded_size(param);
    }
    return params->ranges;
}

void
moe_params_save(const moe_params *params, float *values)
{
    for (int i = 0; i < params->count; i++)
    {
        moe_param_download(params, params->list[i], values);
        values += params->list[i]->rows * params->list[i]->cols;
    }
}

void
moe_params_restore(moe_params *params, const float *values)
{
    for (int i = 0; i < params->count; i++)
    {
        moe_param_upload(params, params->list[i], values);
        values += params->list[i]->rows * params->list[i]->cols;
    }
}

moe_code
moe_params_keep(moe_params *params)
{
    if (moe_params_train(params) != MOE_OK)
        return moe_job_code(params->job);
    if (params->kept == NULL)
        params->kept = moe_device_alloc(params->job, params->size, sizeof(float));
    if (params->kept != NULL)
        moe_device_copy(params->job, params->kept, params->slabs[VALUES], (size_t) params->size * sizeof(float));
    return moe_job_code(params->job);
}

moe_code
moe_params_recall(moe_params *params)
{
    if (params->kept == NULL)
        return moe_fail(params->job, MOE_INVALID, "no parameters were kept");
    moe_device_copy(params->job, params->slabs[VALUES], params->kept, (size_t) params->size * sizeof(float));
    return moe_job_code(params->job);
}

void
moe_params_write(const moe_params *params, moe_buffer *buffer)
{
    moe_put_u8(buffer, FORMAT_VERSION);
    moe_put_i64(buffer, params->count);
    for (int i = 0; i < params->count; i++)
    {
        const moe_param *param = params->list[i];
        moe_put_string(buffer, param->name);
        moe_put_i64(buffer, param->rows);
        moe_put_i64(buffer, param->cols);
        float *values = begin_values(params, param);
        if (values == NULL)
            return;
        if (values != param->value)
            moe_param_download(params, param, values);
        moe_put_floats(buffer, values, param->rows * param->cols);
        end_values(params, param, values, false);
    }
}

static moe_code
read_values(moe_params *params, moe_param *param, moe_reader *reader)
{
    float *values = begin_values(params, param);
    if (values == NULL)
        return moe_job_code(params->job);
    moe_get_floats(reader, values, param->rows * param->cols);
    end_values(params, param, values, moe_reader_code(reader) == MOE_OK);
    return moe_reader_code(reader);
}

/* Read one parameter over the one of its name, or as a new one. */
static moe_code
read_param(moe_params *params, moe_reader *reader)
{
    moe_job *job = params->job;
    char *name = moe_get_string(reader);
    int64_t rows = moe_get_i64(reader);
    int64_t cols = moe_get_i64(reader);
    int64_t left = (reader->length - reader->position) / (int64_t) sizeof(float);
    int64_t size = 0;
    moe_code code = moe_reader_code(reader);
    if (code == MOE_OK &&
        (name[0] == '\0' || rows < 0 || cols < 0 || __builtin_mul_overflow(rows, cols, &size) || size > left))
        code = moe_fail(job, MOE_CORRUPT, "stored parameters do not read back: \"%s\" has shape [%lld, %lld]", name,
                        (long long) rows, (long long) cols);
    if (code == MOE_OK)
    {
        moe_param *param = find_of_shape(params, name, rows, cols);
        if (param == NULL && (param = new_param(params, name, rows, cols)) != NULL)
            param = append_param(params, param);
        code = moe_job_code(job);
        if (code == MOE_OK)
        {
            code = read_values(params, param, reader);
        }
    }
    moe_free(job, name);
    return code;
}

moe_code
moe_params_read(moe_params *params, moe_reader *reader)
{
    uint8_t version = moe_get_u8(reader);
    if (moe_reader_code(reader) == MOE_OK && version != FORMAT_VERSION)
        return moe_fail(params->job, MOE_CORRUPT, "stored parameters have format version %d, not %d", version,
                        FORMAT_VERSION);
    int64_t count = moe_get_count(reader, SMALLEST_STORED);
    if (count > INT32_MAX - params->count)
        return moe_fail(params->job, MOE_CORRUPT, "stored parameters do not read back: %lld of them",
                        (long long) count);
    for (int64_t i = 0; i < count; i++)
    {
        moe_code code = read_param(params, reader);
        if (code != MOE_OK)
            return code;
    }
    return moe_reader_code(reader);
}
