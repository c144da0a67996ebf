/*
 * parameters.c: fuzz what the numeric core reads of a stored model, without a server.
 *
 * The first byte says which part of a model the others are: a reader alone is
 * searched deeper than one that is met behind all others. What reads back is
 * used, since a reader must let nothing through that breaks those who trust it:
 * it predicts, and is written and read again.
 *
 * With MOE_FUZZ_PARTS=FOLDER in the environment, every input must read back, and
 * the parts of whole models are written there as inputs of their own: this is
 * how the corpus was made, and how one that is out of date is noticed.
 */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "embed/aggregates.h"
#include "embed/features.h"
#include "embed/level.h"
#include "embed/history.h"
#include "embed/normalizer.h"
#include "gnn/layers.h"
#include "gnn/mixture_private.h"
#include "kernels/blas.h"
#include "kernels/params.h"
#include "kernels/random.h"

#define MEMORY ((size_t) 256 << 20)
#define ROWS   3
#define WIDEST 4096 /* mixtures of more inputs are read, but not asked */

typedef struct part
{
    const char *name;
    moe_code (*read)(moe_job *job, moe_reader *reader);
} part;

static void
must(bool holds)
{
    if (!holds)
        abort();
}

static moe_code
read_features(moe_job *job, moe_reader *reader)
{
    moe_features *features;
    moe_buffer again;
    moe_reader second;
    moe_code code = moe_features_read(job, reader, &features);
    if (code != MOE_OK)
        return code;
    for (int t = 0; t < moe_features_tables(features); t++)
        for (int c = 0; c < moe_features_columns(features, t); c++)
            must(moe_features_describe(features, t, c) != NULL);
    moe_buffer_init(&again, job);
    moe_features_write(features, &again);
    moe_features_destroy(features);
    if (moe_job_code(job) != MOE_OK)
        return moe_job_code(job);
    moe_reader_init(&second, job, again.data, again.length);
    code = moe_features_read(job, &second, &features);
    must(code == MOE_OK || code == MOE_LIMIT);
    moe_features_destroy(features);
    moe_buffer_free(&again);
    return code;
}

static moe_code
read_aggregates(moe_job *job, moe_reader *reader)
{
    moe_aggregates *aggregates;
    moe_code code = moe_aggregates_read(job, reader, &aggregates);
    if (code != MOE_OK)
        return code;
    for (int c = 0; c < moe_aggregates_columns(aggregates); c++)
    {
        must(moe_aggregates_name(aggregates, c) != NULL);
        must(moe_aggregates_table(aggregates, c) >= 0);
        must(moe_aggregates_source(aggregates, c) >= -1);
    }
    moe_aggregates_destroy(aggregates);
    return MOE_OK;
}

/* Any number may be a value: NULL, and what no column held when the normalizer was fitted. */
static moe_code
read_normalizer(moe_job *job, moe_reader *reader)
{
    static const float values[] = {0, -1, 1, 3e38f, -3e38f, 1e-40f, 0.5f};
    moe_normalizer *normalizer;
    moe_code code = moe_normalizer_read(job, reader, &normalizer);
    if (code != MOE_OK)
        return code;
    int in = moe_normalizer_inputs(normalizer), out = moe_normalizer_outputs(normalizer);
    float *x = moe_alloc(job, (int64_t) ROWS * in, sizeof *x);
    float *y = moe_alloc(job, (int64_t) ROWS * out, sizeof *y);
    if (x == NULL || y == NULL)
        return moe_job_code(job);
    for (int i = 0; i < ROWS * in; i++)
        x[i] = i % 8 == 7 ? NAN : values[i % 8];
    code = moe_normalizer_apply(normalizer, x, ROWS, y);
    for (int i = 0; code == MOE_OK && i < ROWS * out; i++)
        must(isfinite(y[i]));
    for (int o = 0; o < out; o++)
        must(moe_normalizer_source(normalizer, o) >= 0 && moe_normalizer_source(normalizer, o) < in);
    moe_normalizer_destroy(normalizer);
    return code;
}

static moe_code
read_config(moe_job *job, moe_reader *reader)
{
    moe_model_config config;
    moe_code code = moe_model_config_read(reader, &config);
    if (code == MOE_OK)
        must(moe_model_config_check(job, &config) == MOE_OK);
    return code;
}

static moe_code
read_params(moe_job *job, moe_reader *reader)
{
    moe_params *params = moe_params_create(job, 1);
    if (params == NULL)
        return moe_job_code(job);
    moe_code code = moe_params_read(params, reader);
    if (code == MOE_OK)
        code = moe_params_train(params);
    for (int i = 0; code == MOE_OK && i < moe_params_count(params); i++)
    {
        const moe_param *param = moe_params_get(params, i);
        for (int64_t k = 0; k < param->rows * param->cols; k++)
            must(isfinite(param->value[k]));
    }
    moe_params_destroy(params);
    return code;
}

static moe_code
give_inputs(void *arg, const moe_seeds *seeds, const bool *disabled, float *out, bool *stale)
{
    int width = *(const int *) arg;
    for (int64_t i = 0; i < seeds->n * width; i++)
        out[i] = (float) moe_random_normal(1, (uint64_t) i);
    for (int64_t i = 0; stale != NULL && i < seeds->n; i++)
        stale[i] = i % 2;
    return MOE_OK;
}

static moe_code
say_half(void *arg, const moe_seeds *seeds, const float *inputs, const bool *disabled, float *prediction)
{
    for (int64_t i = 0; i < seeds->n * *(const int *) arg; i++)
        prediction[i] = 0.5f;
    return MOE_OK;
}

static moe_code
ask_mixture(moe_job *job, moe_mixture *mixture)
{
    static const int32_t row[ROWS];
    static const int64_t time[ROWS];
    const moe_dense_task *task = &mixture->task;
    moe_seeds seeds = {0, ROWS, row, time, NULL};
    int width = moe_mixture_width(mixture), numbers = task->n_classes;
    float *out = moe_alloc(job, (int64_t) ROWS * numbers, sizeof *out);
    float gates[ROWS * MOE_EXPERT_KINDS], low[ROWS], high[ROWS];
    if (out == NULL)
        return moe_job_code(job);
    moe_mixture_connect(mixture, give_inputs, &width, say_half, &numbers);
    bool ranges = task->task == MOE_REGRESSION;
    moe_mixture_answer answer = {out, gates, NULL, ranges ? low : NULL, ranges ? high : NULL};
    moe_code code = MOE_OK;
    for (int p = -1; code == MOE_OK && p < moe_mixture_curve(mixture)->points; p++)
    {
        if (p >= 0)
            moe_mixture_use_point(mixture, p);
        code = moe_mixture_predict(mixture, &seeds, NULL, &answer);
        for (int i = 0; code == MOE_OK && i < ROWS * numbers; i++)
            must(isfinite(out[i]) && (task->task == MOE_REGRESSION || (out[i] >= 0 && out[i] <= 1)));
    }
    return code;
}

static moe_code
read_mixture(moe_job *job, moe_reader *reader)
{
    moe_mixture *mixture;
    moe_code code = moe_mixture_read(job, reader, &mixture);
    if (code != MOE_OK)
        return code;
    if (moe_mixture_width(mixture) <= WIDEST)
        code = ask_mixture(job, mixture);
    moe_mixture_destroy(mixture);
    return code;
}

static moe_code read_model(moe_job *job, moe_reader *reader);

static const part parts[] = {
    {"features", read_features}, {"aggregates", read_aggregates}, {"normalizer", read_normalizer},
    {"config", read_config},     {"params", read_params},         {"mixture", read_mixture},
    {"model", read_model},
};
enum
{
    FEATURES,
    AGGREGATES,
    NORMALIZER,
    CONFIG,
    PARAMS,
    MIXTURE,
    PARTS = sizeof parts / sizeof parts[0]
};

/* Write bytes as an input of their own, if asked to. */
static void
keep_part(int which, const uint8_t *bytes, int64_t length)
{
    const char *folder = getenv("MOE_FUZZ_PARTS");
    char path[4096];
    static int number;
    if (folder == NULL)
        return;
    snprintf(path, sizeof path, "%s/%s_%d", folder, parts[which].name, number++);
    FILE *file = fopen(path, "wb");
    must(file != NULL && fputc(which, file) == which && fwrite(bytes, 1, (size_t) length, file) == (size_t) length);
    must(fclose(file) == 0);
}

static moe_code
read_part(int which, moe_job *job, moe_reader *reader)
{
    int64_t from = reader->position;
    moe_code code = parts[which].read(job, reader);
    if (code == MOE_OK)
        keep_part(which, reader->data + from, reader->position - from);
    return code;
}

/* The content of a stored model from the features on (extension/model_store.c). */
static moe_code
read_model(moe_job *job, moe_reader *reader)
{
    float prior[MOE_HISTORY_CLASSES];
    moe_code code = read_part(FEATURES, job, reader);
    if (code != MOE_OK)
        return code;
    moe_get_i32(reader);
    moe_get_i32(reader);
    moe_get_f32(reader);
    code = read_part(CONFIG, job, reader);
    if (code != MOE_OK)
        return code;
    int64_t window = moe_get_i64(reader);
    moe_get_i64(reader);
    int classes = moe_get_i32(reader);
    bool everyones = moe_get_u8(reader) != 0;
    moe_get_floats(reader, prior, MOE_HISTORY_CLASSES);
    if ((code = moe_reader_code(reader)) != MOE_OK)
        return code;
    if (everyones && window > 0 && classes > 0)
    {
        moe_level *level;
        if ((code = moe_level_read(job, reader, window, classes, &level)) != MOE_OK)
            return code;
        moe_level_destroy(level);
    }
    if ((code = read_part(AGGREGATES, job, reader)) != MOE_OK || (code = read_part(NORMALIZER, job, reader)) != MOE_OK)
        return code;
    int64_t kept = moe_get_count(reader, 8 + 8 + 4);
    for (int64_t i = 0; i < kept && moe_reader_code(reader) == MOE_OK; i++)
    {
        moe_get_string(reader);
        moe_get_i64(reader);
        moe_get_f32(reader);
    }
    int members = moe_get_i32(reader);
    for (int i = 0; i < members && moe_reader_code(reader) == MOE_OK; i++)
    {
        moe_get_i64(reader);
        if ((code = read_part(PARAMS, job, reader)) != MOE_OK)
            return code;
    }
    return moe_reader_code(reader) == MOE_OK ? read_part(MIXTURE, job, reader) : moe_reader_code(reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    moe_job_config config = {.threads = 1, .memory_limit = MEMORY};
    moe_job *job = NULL;
    moe_reader reader;
    if (size < 1)
        return 0;
    must(moe_job_create(&config, &job) == MOE_OK && moe_blas_open(job) == MOE_OK);
    moe_reader_init(&reader, job, data + 1, (int64_t) size - 1);
    moe_code code = parts[data[0] % PARTS].read(job, &reader);
    must(code == MOE_OK || moe_job_error(job)[0] != '\0');
    must(code == MOE_OK || getenv("MOE_FUZZ_PARTS") == NULL);
    must(reader.position <= reader.length);
    moe_job_destroy(job);
    return 0;
}
