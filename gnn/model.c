/*
 * model.c: the whole path from a sample to logits, and from seeds to predictions.
 *
 * Rows are encoded once a batch, however often they occur; states.c and
 * convolution.c turn them into one vector a seed, head.c into outputs. Predictions
 * are made in batches of fixed size; a batch knows nothing of the others, but
 * the host samples one while the device computes the one before.
 */
#include "gnn/layers.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "kernels/device.h"

double
moe_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double) now.tv_sec + (double) now.tv_nsec * 1e-9;
}

double
moe_model_encode_seconds(const moe_model *model)
{
    return model->encode_seconds;
}

moe_code
moe_model_create(moe_job *job, const moe_graph *graph, int entity_table, moe_encode_fn encode, void *encoder,
                 moe_seed_inputs_fn inputs, void *inputs_arg, const moe_model_config *config, moe_params *params,
                 moe_model **out)
{
    *out = NULL;
    moe_code code = moe_model_config_check(job, config);
    if (code != MOE_OK)
        return code;
    if (entity_table < 0 || entity_table >= moe_graph_tables(graph))
        return moe_fail(job, MOE_INVALID, "entity table %d does not exist", entity_table);
    if (config->seed_inputs > 0 && inputs == NULL)
        return moe_fail(job, MOE_INVALID, "the model needs %d inputs a seed, and nothing supplies them",
                        config->seed_inputs);
    moe_model *model = moe_alloc(job, 1, sizeof *model);
    if (model == NULL)
        return moe_job_code(job);
    model->job = job;
    model->graph = graph;
    model->entity = entity_table;
    model->encode = encode;
    model->encoder = encoder;
    model->inputs = inputs;
    model->inputs_arg = inputs_arg;
    model->config = *config;
    model->outputs = config->task == MOE_MULTICLASS ? config->n_classes : 1;
    model->tape = moe_tape_create(job);
    model->arena = moe_arena_create(job);
    model->logits = moe_device_alloc(job, (int64_t) MOE_PREDICT_BATCH * model->outputs, sizeof *model->logits);
    model->raw = moe_alloc(job, (int64_t) MOE_PREDICT_BATCH * model->outputs, sizeof *model->raw);
    code = moe_job_code(job) != MOE_OK ? moe_job_code(job) : moe_plan(model, params);
    if (code == MOE_OK)
        code = moe_head_create(model, params);
    if (code != MOE_OK)
    {
        moe_model_destroy(model);
        return code;
    }
    *out = model;
    return MOE_OK;
}

void
moe_model_destroy(moe_model *model)
{
    if (model == NULL)
        return;
    if (model->tape != NULL)
        moe_tape_destroy(model->tape);
    if (model->arena != NULL)
        moe_arena_destroy(model->arena);
    moe_device_free(model->job, model->logits);
    moe_free(model->job, model->raw);
    moe_free(model->job, model->tables);
    moe_free(model->job, model->edges);
    moe_free(model->job, model->layer);
    moe_free(model->job, model->weight);
    moe_free(model->job, model->fuse);
    moe_free(model->job, model);
}

const moe_model_config *
moe_model_config_of(const moe_model *model)
{
    return &model->config;
}

moe_sampler_config
moe_model_sampler(const moe_model *model, uint64_t key)
{
    moe_sampler_config sampler = {.hops = model->config.hops,
                                  .sampling = model->config.sampling,
                                  .staleness = model->config.staleness,
                                  .key = key};
    memcpy(sampler.fanout, model->config.fanout, sizeof sampler.fanout);
    return sampler;
}

/* Encode the unique rows of every table: [n_tables] variables, NULL for tables without any; NULL on failure. */
static moe_var **
encode_rows(moe_model *model, moe_tape *tape, const moe_sample *sample)
{
    moe_var **encoded = moe_tape_alloc(tape, model->n_tables, sizeof *encoded);
    if (encoded == NULL)
        return NULL;
    double start = moe_clock();
    for (int t = 0; t < model->n_tables; t++)
    {
        int64_t n = sample->n_unique[t];
        encoded[t] = NULL;
        if (n == 0)
            continue;
        encoded[t] = model->encode(model->encoder, tape, t, sample->row[t], sample->hidden[t], n);
        if (encoded[t] == NULL)
            return NULL;
        if (encoded[t]->rows != n || encoded[t]->cols != model->config.channels)
        {
            moe_fail(model->job, MOE_INVALID, "encoder of table \"%s\" has a width of %lld instead of %d",
                     moe_graph_table_at(model->graph, t)->name, (long long) encoded[t]->cols, model->config.channels);
            return NULL;
        }
    }
    model->encode_seconds += moe_clock() - start;
    return encoded;
}

/* Have the caller fill in what it knows of the seeds. */
static moe_code
fetch_inputs(const moe_model *model, moe_tape *tape, const moe_seeds *seeds, moe_states *out)
{
    int64_t width = model->config.seed_inputs;
    out->inputs = width > 0 ? moe_tape_alloc(tape, seeds->n, width * sizeof *out->inputs) : NULL;
    if (out->inputs == NULL)
        return moe_job_code(model->job);
    moe_code code = model->inputs(model->inputs_arg, seeds, out->inputs);
    for (int64_t i = 0; i < seeds->n * width && code == MOE_OK; i++)
        if (!isfinite(out->inputs[i]))
            code = moe_fail(model->job, MOE_INVALID, "an input of a seed is not a finite number");
    return code;
}

moe_code
moe_model_prepare(const moe_model *model, moe_tape *tape, const moe_seeds *seeds, const moe_sample *sample,
                  moe_states *out)
{
    if (sample->hops != model->config.hops || sample->n_tables != model->n_tables ||
        sample->levels[model->entity].n < 1 || sample->levels[model->entity].n != seeds->n)
        return moe_fail(model->job, MOE_INVALID, "sample does not fit the model");
    moe_code code = moe_states_build(model, tape, sample, out);
    return code == MOE_OK ? fetch_inputs(model, tape, seeds, out) : code;
}

moe_code
moe_model_run(moe_model *model, moe_tape *tape, const moe_sample *sample, const moe_states *states, moe_outputs *out)
{
    moe_var **encoded = encode_rows(model, tape, sample);
    if (encoded == NULL)
        return moe_job_code(model->job);
    out->logits = moe_head_forward(model, tape, moe_convolve(model, tape, states, encoded), states->inputs);
    return out->logits != NULL ? MOE_OK : moe_job_code(model->job);
}

moe_code
moe_model_forward(moe_model *model, moe_tape *tape, const moe_seeds *seeds, const moe_sample *sample, moe_outputs *out)
{
    moe_states states;
    moe_code code = moe_model_prepare(model, tape, seeds, sample, &states);
    return code == MOE_OK ? moe_model_run(model, tape, sample, &states, out) : code;
}

static double
sigmoid(double x)
{
    return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}

static void
softmax(const float *logits, int k, float *out)
{
    double sum = 0;
    float top = logits[0];
    for (int c = 1; c < k; c++)
        if (logits[c] > top)
            top = logits[c];
    for (int c = 0; c < k; c++)
        sum += exp((double) logits[c] - top);
    for (int c = 0; c < k; c++)
        out[c] = (float) (exp((double) logits[c] - top) / sum);
}

/* Turn the raw outputs of n rows into predictions. */
static moe_code
finish(const moe_model *model, const float *logits, int64_t n, float *prediction)
{
    const moe_model_config *config = &model->config;
    for (int64_t i = 0; i < n * model->outputs; i++)
        if (!isfinite(logits[i]))
            return moe_fail(model->job, MOE_INVALID,
                            "the model's predictions are not finite; train it with a lower learning rate");
    for (int64_t i = 0; i < n; i++)
    {
        const float *x = logits + i * model->outputs;
        if (config->task == MOE_MULTICLASS)
            softmax(x, config->n_classes, prediction + i * config->n_classes);
        else if (config->task == MOE_BINARY)
            prediction[i] = (float) sigmoid(x[0]);
        else
        {
            double y = x[0] * config->scale + config->shift;
            y = y < config->low ? config->low : y > config->high ? config->high : y;
            prediction[i] = (float) y;
        }
        if (config->task == MOE_REGRESSION && !isfinite(prediction[i]))
            return moe_fail(model->job, MOE_INVALID,
                            "a prediction is outside the range of real; train the model with a lower learning rate");
    }
    return MOE_OK;
}

/* Wait for the outputs of a batch of n rows, and turn them into predictions. */
static moe_code
collect_batch(moe_model *model, int64_t n, float *prediction)
{
    moe_download(model->job, model->raw, model->logits, n * model->outputs * sizeof(float));
    moe_code code = moe_job_check(model->job);
    return code == MOE_OK ? finish(model, model->raw, n, prediction) : code;
}

/* Compute a batch's outputs into the model's logits. */
static moe_code
run_batch(moe_model *model, const moe_sample *sample, const moe_states *states)
{
    moe_outputs outputs;
    moe_code code = moe_model_run(model, model->tape, sample, states, &outputs);
    if (code != MOE_OK)
        return code;
    moe_device_copy(model->job, model->logits, outputs.logits->value,
                    outputs.logits->rows * model->outputs * sizeof(float));
    return moe_job_check(model->job);
}

static moe_code
sample_batch(moe_model *model, const moe_seeds *seeds, const moe_sampler_config *sampler, moe_sample **sample,
             moe_states *states)
{
    moe_arena_reset(model->arena);
    moe_tape_reset(model->tape, false, 0);
    moe_code code = moe_sample_trees(model->arena, model->graph, seeds, sampler, sample);
    return code == MOE_OK ? moe_model_prepare(model, model->tape, seeds, *sample, states) : code;
}

moe_code
moe_model_predict(moe_model *model, const moe_seeds *seeds, uint64_t key, const bool *disabled_tables,
                  float *prediction)
{
    moe_code code = MOE_OK;
    moe_sampler_config sampler = moe_model_sampler(model, key);
    int64_t running = 0; /* seeds of the batch that the device computes */
    if (seeds->table != model->entity)
        return moe_fail(model->job, MOE_INVALID, "seeds are not rows of the model's entity table");
    sampler.disabled_tables = disabled_tables;
    for (int64_t first = 0; first < seeds->n && code == MOE_OK; first += MOE_PREDICT_BATCH)
    {
        moe_sample *sample;
        moe_states states;
        moe_seeds batch = *seeds;
        batch.row += first;
        batch.time += first;
        batch.horizon = seeds->horizon == NULL ? NULL : seeds->horizon + first;
        batch.n = seeds->n - first < MOE_PREDICT_BATCH ? seeds->n - first : MOE_PREDICT_BATCH;
        code = sample_batch(model, &batch, &sampler, &sample, &states);
        if (code == MOE_OK && running > 0)
        {
            code = collect_batch(model, running, prediction);
            prediction += running * model->outputs;
        }
        if (code == MOE_OK)
            code = run_batch(model, sample, &states);
        running = batch.n;
    }
    return code == MOE_OK && running > 0 ? collect_batch(model, running, prediction) : code;
}
