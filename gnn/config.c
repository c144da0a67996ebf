/*
 * config.c: a model's options: defaults, checks, and their stored form.
 */
#include "gnn/layers.h"

#include <float.h>
#include <math.h>

#define FORMAT       3
#define MAX_CLASSES  4096
#define MAX_CHANNELS 1024
#define MAX_INPUTS   65536

void
moe_model_config_defaults(moe_model_config *config)
{
    *config = (moe_model_config){
        .task = MOE_BINARY,
        .n_classes = 1,
        .channels = 64,
        .hops = 2,
        .fanout = {64, 32, 16, 8},
        .sampling = MOE_SAMPLE_UNIFORM,
        .convolution = MOE_CONV_SAGE,
        .aggregation = MOE_AGGREGATE_WEIGHTED,
        .composite = false,
        .residual = false,
        .dropout = 0.2f,
        .input_dropout = 0.3f,
        .staleness = INT64_MAX,
        .shift = 0,
        .scale = 1,
        .low = -DBL_MAX,
        .high = DBL_MAX,
    };
}

/* What is wrong with a configuration, or NULL. Comparisons are written so that NaN fails. */
static const char *
config_problem(const moe_model_config *c)
{
    if (c->task != MOE_BINARY && c->task != MOE_REGRESSION && c->task != MOE_MULTICLASS)
        return "unknown task type";
    if (c->task == MOE_MULTICLASS ? c->n_classes < 2 || c->n_classes > MAX_CLASSES : c->n_classes != 1)
        return "number of classes does not fit the task (2 to 4096 for a multiclass task)";
    if (c->channels < 1 || c->channels > MAX_CHANNELS)
        return "channels must be between 1 and 1024";
    if (c->hops < 1 || c->hops > MOE_MAX_HOPS)
        return "hops must be between 1 and 4";
    for (int h = 0; h < c->hops; h++)
        if (c->fanout[h] < 1 || c->fanout[h] > MOE_MAX_FANOUT)
            return "fanout must be between 1 and 1024";
    if (c->sampling != MOE_SAMPLE_UNIFORM && c->sampling != MOE_SAMPLE_LATEST)
        return "unknown way of sampling";
    if (c->convolution < MOE_CONV_SAGE || c->convolution > MOE_CONV_GAT)
        return "unknown convolution";
    if (c->convolution == MOE_CONV_GAT && c->channels % MOE_HEADS != 0)
        return "channels must be a multiple of 4, the heads of attention";
    if (c->aggregation < MOE_AGGREGATE_WEIGHTED || c->aggregation > MOE_AGGREGATE_ALL)
        return "unknown way of aggregation";
    if (c->composite && c->hops % 2 != 0)
        return "composite messages take two hops a layer: hops must be 2 or 4";
    if (!(c->dropout >= 0 && c->dropout < 1))
        return "dropout must be at least 0 and below 1";
    if (c->seed_inputs < 0 || c->seed_inputs > MAX_INPUTS)
        return "inputs of a seed must be between 0 and 65536";
    if (!(c->input_dropout >= 0 && c->input_dropout < 1))
        return "dropout of inputs must be at least 0 and below 1";
    if (c->staleness < 0)
        return "staleness must not be negative";
    if (!isfinite(c->shift) || !isfinite(c->scale) || !(c->scale > 0))
        return "scale of the target must be positive and finite";
    if (!(c->low <= c->high))
        return "lower bound of predictions is above the upper bound";
    return NULL;
}

moe_code
moe_model_config_check(moe_job *job, const moe_model_config *config)
{
    const char *problem = config_problem(config);
    return problem == NULL ? MOE_OK : moe_fail(job, MOE_INVALID, "%s", problem);
}

void
moe_model_config_write(const moe_model_config *c, moe_buffer *buffer)
{
    moe_put_u8(buffer, FORMAT);
    moe_put_i32(buffer, c->task);
    moe_put_i32(buffer, c->n_classes);
    moe_put_i32(buffer, c->channels);
    moe_put_i32(buffer, c->hops);
    for (int h = 0; h < MOE_MAX_HOPS; h++)
        moe_put_i32(buffer, c->fanout[h]);
    moe_put_i32(buffer, c->sampling);
    moe_put_i32(buffer, c->convolution);
    moe_put_i32(buffer, c->aggregation);
    moe_put_u8(buffer, c->composite);
    moe_put_u8(buffer, c->residual);
    moe_put_f32(buffer, c->dropout);
    moe_put_i32(buffer, c->seed_inputs);
    moe_put_f32(buffer, c->input_dropout);
    moe_put_i64(buffer, c->staleness);
    moe_put_f64(buffer, c->shift);
    moe_put_f64(buffer, c->scale);
    moe_put_f64(buffer, c->low);
    moe_put_f64(buffer, c->high);
}

moe_code
moe_model_config_read(moe_reader *reader, moe_model_config *config)
{
    moe_model_config c = {0};
    uint8_t format = moe_get_u8(reader);
    c.task = (moe_task_type) moe_get_i32(reader);
    c.n_classes = moe_get_i32(reader);
    c.channels = moe_get_i32(reader);
    c.hops = moe_get_i32(reader);
    for (int h = 0; h < MOE_MAX_HOPS; h++)
        c.fanout[h] = moe_get_i32(reader);
    c.sampling = (moe_sampling) moe_get_i32(reader);
    c.convolution = (moe_convolution_kind) moe_get_i32(reader);
    c.aggregation = (moe_aggregation) moe_get_i32(reader);
    uint8_t composite = moe_get_u8(reader);
    uint8_t residual = moe_get_u8(reader);
    c.composite = composite != 0;
    c.residual = residual != 0;
    c.dropout = moe_get_f32(reader);
    c.seed_inputs = moe_get_i32(reader);
    c.input_dropout = moe_get_f32(reader);
    c.staleness = moe_get_i64(reader);
    c.shift = moe_get_f64(reader);
    c.scale = moe_get_f64(reader);
    c.low = moe_get_f64(reader);
    c.high = moe_get_f64(reader);
    if (moe_reader_code(reader) != MOE_OK)
        return moe_reader_code(reader);
    if (format != FORMAT)
        return moe_fail(reader->job, MOE_CORRUPT, "stored model configuration has unknown format %d", format);
    const char *problem = composite > 1 || residual > 1 ? "a flag is neither true nor false" : config_problem(&c);
    if (problem != NULL)
        return moe_fail(reader->job, MOE_CORRUPT, "stored model configuration is damaged: %s", problem);
    *config = c;
    return MOE_OK;
}
