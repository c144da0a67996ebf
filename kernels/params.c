/*
 * params.c: the named parameters of one model: initialise, store, read back.
 *
 * Stored form: version, count, then for each parameter its name, rows, cols
 * and values. Moments are not stored: a warm start begins with fresh ones.
 */
#include <math.h>
#include <string.h>

#include "kernels/params.h"
#include "kernels/random.h"

#define FORMAT_VERSION 1
/* Name length, rows and cols: the fewest bytes a stored parameter can take. */
#define SMALLEST_STORED (3 * sizeof(int64_t))

struct moe_params
{
    moe_job *job;
    uint64_t seed;
    moe_param **list; /* each allocated by itself: callers keep pointers to them */
    int count;
    int64_t capacity;
    bool training;
};

moe_params *
moe_params_create(moe_job *job, uint64_t seed)
{
    moe_params *params = moe_alloc(job, 1, sizeof(moe_params));
    if (params != NULL)
        *params = (moe_params){.job = job, .seed = seed};
    return params;
}

static void
free_param(moe_job *job, moe_param *param)
{
    if (param == NULL)
        return;
    moe_free(job, param->name);
    moe_free(job, param->value);
    moe_free(job, param->gradient);
    moe_free(job, param->moment1);
    moe_free(job, param->moment2);
    moe_free(job, param);
}

void
moe_params_destroy(moe_params *params)
{
    if (params == NULL)
        return;
    for (int i = 0; i < params->count; i++)
        free_param(params->job, params->list[i]);
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

/* Allocate what training needs beside the values. */
static moe_code
prepare_training(moe_job *job, moe_param *param)
{
    int64_t size = param->rows * param->cols;
    if (param->gradient == NULL)
        param->gradient = moe_alloc(job, size, sizeof(float));
    if (param->moment1 == NULL)
        param->moment1 = moe_alloc(job, size, sizeof(float));
    if (param->moment2 == NULL)
        param->moment2 = moe_alloc(job, size, sizeof(float));
    return param->moment2 == NULL ? moe_job_code(job) : MOE_OK;
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
    param->name = moe_alloc(job, (int64_t) strlen(name) + 1, 1);
    param->value = moe_alloc(job, size, sizeof(float));
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

static void
initialise(moe_param *param, moe_init init, uint64_t seed)
{
    uint64_t key = moe_hash_bytes(param->name, strlen(param->name), seed);
    double bound = param->rows > 0 ? 1.0 / sqrt((double) param->rows) : 0;
    int64_t size = param->rows * param->cols;
    for (int64_t i = 0; i < size; i++)
    {
        switch (init)
        {
            case MOE_INIT_ZERO:
                param->value[i] = 0;
                break;
            case MOE_INIT_ONE:
                param->value[i] = 1;
                break;
            case MOE_INIT_UNIFORM:
                param->value[i] = (float) ((2 * moe_random_uniform(key, (uint64_t) i) - 1) * bound);
                break;
            case MOE_INIT_NORMAL:
                param->value[i] = (float) (0.1 * moe_random_normal(key, (uint64_t) i));
                break;
        }
    }
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
    if (moe_job_code(params->job) != MOE_OK)
        return NULL;
    moe_param *param = find_of_shape(params, name, rows, cols);
    if (param == NULL)
    {
        param = new_param(params, name, rows, cols);
        if (param == NULL)
            return NULL;
        initialise(param, init, params->seed);
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
    for (int i = 0; i < params->count; i++)
    {
        moe_code code = prepare_training(params->job, params->list[i]);
        if (code != MOE_OK)
            return code;
    }
    return MOE_OK;
}

void
moe_params_zero_gradients(moe_params *params)
{
    for (int i = 0; i < params->count; i++)
    {
        moe_param *param = params->list[i];
        if (param->gradient != NULL)
            memset(param->gradient, 0, (size_t) (param->rows * param->cols) * sizeof(float));
    }
}

void
moe_params_save(const moe_params *params, float *values)
{
    for (int i = 0; i < params->count; i++)
    {
        int64_t size = params->list[i]->rows * params->list[i]->cols;
        memcpy(values, params->list[i]->value, (size_t) size * sizeof(float));
        values += size;
    }
}

void
moe_params_restore(moe_params *params, const float *values)
{
    for (int i = 0; i < params->count; i++)
    {
        int64_t size = params->list[i]->rows * params->list[i]->cols;
        memcpy(params->list[i]->value, values, (size_t) size * sizeof(float));
        values += size;
    }
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
        moe_put_floats(buffer, param->value, param->rows * param->cols);
    }
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
            moe_get_floats(reader, param->value, size);
            code = moe_reader_code(reader);
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
