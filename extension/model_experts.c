/*
 * model_experts.c: inputs, experts and router of one training.
 *
 * Inputs are computed once for all training and validation rows, in time and as
 * they look when data is stale. Each expert
 * learns from the training rows; what it then says of the validation rows, which
 * it has not seen, is what the router and the calibration learn from. With
 * `refit`, the dense experts finally learn from both blocks: closer to the
 * moments that will be asked about. The graph expert does not: its validation
 * rows decide when to stop.
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "port/pg_bitutils.h"

#include "extension/model_reading.h"
#include "extension/moe_ml.h"
#include "extension/model_train_internal.h"
#include "kernels/random.h"

typedef moe_train_run run;

/* Share of the job's memory that inputs may take; where rows are more, evenly spaced ones stand for them. */
#define INPUT_SHARE 4
#define MOST_FROZEN 10000 /* validation rows to calibrate stale seeds by */
#define STALE_KEY   UINT64CONST(0x7374616c65)

static int64
most_rows(const run *r, int width)
{
    int64 limit = (int64) moe_setting_memory_limit_mb * 1024 * 1024 / INPUT_SHARE;

    return limit / ((int64) sizeof(float) * Max(width, 1)) + 1;
}

static void
take_rows(moe_input_block *b, int64 at, const moe_samples *samples, int64 n)
{
    for (int64 i = 0; i < n; i++)
    {
        int64 from = i * samples->n / n;

        b->row[at + i] = samples->row[from];
        b->time[at + i] = samples->time[from];
        b->label[at + i] = samples->label[from];
        b->horizon[at + i] = b->time[at + i];
        b->weight[at + i] = 1;
    }
}

/* The longest gap that staleness is simulated by: as asked for, or a tenth of the time that training covers. */
static int64
longest_gap(const run *r)
{
    const moe_samples *train = &r->labels->train;

    if (r->options->staleness != 0 || r->result->record.info.is_static)
        return Max(r->options->staleness, 0);
    return train->time[train->n - 1] / 10 - train->time[0] / 10;
}

/*
 * Training rows once more, as they looked when data was stale: each `draws` times (or as many as there is room for),
 * with a horizon that lies before the seed time by a gap drawn evenly up to the longest, but not before the entity was
 * there. Together they weigh as much as the rows as they were.
 */
static void
take_stale_rows(const run *r, moe_input_block *b)
{
    uint64 key = moe_key((uint64) r->options->seed, STALE_KEY);
    const int64 *row_time = r->data->graph_tables[0].time;
    float share = b->n_stale > 0 ? 0.5f : 1;

    for (int64 i = 0; i < b->n_stale; i++)
    {
        int64 from = b->n_stale + (b->n_stale < b->n_train ? i * b->n_train / b->n_stale : i % b->n_train);
        double gap = moe_random_uniform(key, (uint64) i) * (double) longest_gap(r);

        b->row[i] = b->row[from];
        b->time[i] = b->time[from];
        b->label[i] = b->label[from];
        b->horizon[i] = b->time[from] - (int64) gap;
        if (row_time != NULL)
            b->horizon[i] = Max(b->horizon[i], row_time[b->row[i]]);
        b->weight[i] = share * (float) b->n_train / (float) b->n_stale;
    }
    for (int64 i = b->n_stale; i < b->n_stale + b->n_train; i++)
        b->weight[i] = share;
}

/*
 * Validation rows once more, at most `most` of them, as they look with the first moment of validation for a horizon:
 * the later ones, of entities that are there by then.
 */
static void
take_frozen_rows(const run *r, moe_input_block *b, int64 most)
{
    const int64 *row_time = r->data->graph_tables[0].time;
    const moe_samples *valid = &r->labels->validation;
    int64 at = b->n_stale + b->n_train + b->n_valid;

    for (int64 k = 0; k < most; k++)
    {
        int64 i = k * valid->n / most;

        if (valid->time[i] == valid->time[0] || (row_time != NULL && row_time[valid->row[i]] > valid->time[0]))
            continue;
        b->row[at] = valid->row[i];
        b->time[at] = valid->time[i];
        b->label[at] = valid->label[i];
        b->horizon[at] = valid->time[0];
        b->weight[at++] = 1;
        b->n_frozen++;
    }
}

moe_seeds
moe_frozen_seeds(const moe_input_block *b)
{
    int64 at = b->n_stale + b->n_train + b->n_valid;

    return (moe_seeds){0, b->n_frozen, b->row + at, b->time + at, b->horizon + at};
}

static moe_input_block *
make_block(run *r)
{
    const moe_labels *labels = r->labels;
    int width = moe_inputs_width(r->inputs);
    int64 draws = longest_gap(r) > 0 ? r->options->stale_draws : 0;
    int64 most = most_rows(r, width);
    moe_input_block *b = palloc0(sizeof(moe_input_block));
    int64 frozen, room, n;

    b->n_valid = Min(labels->validation.n, most / 4);
    frozen = width == 0 || r->result->record.info.is_static ? 0 : Min(b->n_valid, MOST_FROZEN);
    room = most - b->n_valid - frozen;
    b->n_train = Min(labels->train.n, draws > 0 ? (room + 1) / 2 : room);
    room -= b->n_train;
    b->n_stale = draws == 0 ? 0 : room < b->n_train ? room : b->n_train * Min(draws, room / b->n_train);
    n = b->n_stale + b->n_train + b->n_valid + frozen;
    b->row = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int32) * Max(n, 1));
    b->time = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int64) * Max(n, 1));
    b->horizon = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int64) * Max(n, 1));
    b->label = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(float) * Max(n, 1));
    b->weight = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(float) * Max(n, 1));
    b->x = moe_check_ptr(r->job, moe_alloc(r->job, n * width, sizeof(float)));
    take_rows(b, b->n_stale, &labels->train, b->n_train);
    take_rows(b, b->n_stale + b->n_train, &labels->validation, b->n_valid);
    take_stale_rows(r, b);
    take_frozen_rows(r, b, frozen);
    if (b->n_train < labels->train.n)
        moe_notice("the experts over inputs learn from " INT64_FORMAT " of " INT64_FORMAT
                   " training rows; raise moe_ml.memory_limit for more",
                   b->n_train, labels->train.n);
    n += b->n_frozen - frozen;
    moe_check(r->job, moe_inputs_compute(r->inputs, &(moe_seeds){0, n, b->row, b->time, b->horizon}, NULL, b->x, NULL));
    return b;
}

static moe_dense_rows
rows_of(const run *r, const moe_input_block *b, int64 first, int64 n)
{
    int width = moe_inputs_width(r->inputs);

    return (moe_dense_rows){
        .n = n,
        .width = width,
        .x = b->x + first * width,
        .label = b->label + first,
        .weight = b->n_stale > 0 ? b->weight + first : NULL,
    };
}

/* Labels known at training: those of training and validation rows, each from when its window has closed. */
static moe_past_labels
past_labels(const run *r)
{
    const moe_samples *blocks[] = {&r->labels->train, &r->labels->validation};
    int64 n = blocks[0]->n + blocks[1]->n;
    int32 *row = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int32) * Max(n, 1));
    int64 *time = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int64) * Max(n, 1));
    float *label = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(float) * Max(n, 1));
    int64 at = 0;

    for (int k = 0; k < lengthof(blocks); k++)
        for (int64 i = 0; i < blocks[k]->n; i++, at++)
        {
            row[at] = blocks[k]->row[i];
            time[at] = blocks[k]->time[i];
            label[at] = blocks[k]->label[i];
        }
    return (moe_past_labels){n, row, time, label};
}

static moe_input_block *
prepare_inputs(run *r)
{
    const moe_samples *train = &r->labels->train;
    double start = moe_seconds();
    moe_past_labels past = past_labels(r);
    moe_seeds seeds = {0, train->n, train->row, train->time, NULL};
    moe_inputs_request request = {.known = r->known,
                                  .known_rows = r->known_rows,
                                  .window = r->result->record.info.is_static ? 0 : Max(r->labels->window, 1),
                                  .classes = r->labels->n_classes,
                                  .staleness = r->options->model.staleness,
                                  .max_columns = r->options->max_columns,
                                  .past = &past,
                                  .everyones = r->result->record.info.history_query == NULL,
                                  .seeds = &seeds,
                                  .labels = train->label};
    moe_input_block *b;

    moe_train_phase(MOE_PHASE_INPUTS, NULL);
    r->inputs = moe_inputs_fit(r->job, r->data, r->graph, &request);
    b = make_block(r);
    r->input_seconds = moe_seconds() - start;
    moe_notice("inputs: %d columns of label history and relational aggregates in %.1f s", moe_inputs_columns(r->inputs),
               r->input_seconds);
    return b;
}

static void nothing_to_learn_from(const char *what, const char *why) pg_attribute_noreturn();

static void
nothing_to_learn_from(const char *what, const char *why)
{
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s nothing to learn from: %s", what, why),
                    errhint("Leave the option experts out, or name others.")));
}

/* Whether the glance expert has something to look at. */
static bool
sees_anything(const run *r)
{
    const uint8 *roles = moe_inputs_roles(r->inputs);

    for (int i = 0; i < moe_inputs_width(r->inputs); i++)
        if (roles[i] & MOE_INPUT_GLANCE)
            return true;
    return false;
}

/*
 * Those that this training can have: without past labels none of the history, no glance where neither they nor a row's
 * own columns say anything, without inputs the graph alone.
 */
static unsigned
possible_experts(run *r)
{
    unsigned experts = r->options->experts;

    if (!moe_inputs_need_past(r->inputs))
        experts &= ~(1u << MOE_EXPERT_HISTORY);
    if (experts == 0)
        nothing_to_learn_from("expert \"history\" has", "a column to fill in has no past labels");
    if (!sees_anything(r))
        experts &= ~(1u << MOE_EXPERT_GLANCE);
    if (moe_inputs_width(r->inputs) == 0)
        experts &= 1u << MOE_EXPERT_GRAPH;
    if (experts == 0)
        nothing_to_learn_from("these experts have", "no column varies");
    return experts;
}

static const char *
expert_name(const run *r, int e)
{
    return moe_expert_name(moe_mixture_kind(r->mixture, e));
}

/*
 * Fit the experts over inputs on n rows of the block that are not stale, and once more on the stale ones as well, for
 * stale seeds; seconds [experts] are added up. Retrieval has one version: it would find copies of one seed.
 */
static void
fit_dense(run *r, const moe_input_block *b, int64 n, const moe_dense_rows *valid, double *seconds)
{
    for (int e = 0; e < moe_mixture_experts(r->mixture); e++)
    {
        double start = moe_seconds();
        uint64 key = moe_key((uint64) r->options->seed, e);
        moe_dense_rows fresh = rows_of(r, b, b->n_stale, n);
        moe_dense_rows all = rows_of(r, b, 0, b->n_stale + n);

        if (moe_mixture_kind(r->mixture, e) == MOE_EXPERT_GRAPH)
            continue;
        moe_train_phase(MOE_PHASE_EXPERT, expert_name(r, e));
        CHECK_FOR_INTERRUPTS();
        fresh.weight = NULL;
        moe_check(r->job, moe_mixture_fit(r->mixture, e, false, &fresh, valid, key));
        if (b->n_stale > 0 && moe_mixture_kind(r->mixture, e) != MOE_EXPERT_RETRIEVAL)
            moe_check(r->job, moe_mixture_fit(r->mixture, e, true, &all, valid, key));
        seconds[e] += moe_seconds() - start;
        r->expert_seconds += moe_seconds() - start;
    }
}

/* A moe_graph_fn for the validation rows in time, or for all frozen ones, whose predictions are at hand. */
static moe_code
recall_graph(void *arg, const moe_seeds *seeds, const float *inputs, const bool *disabled, float *prediction)
{
    const run *r = arg;
    int64 n = r->labels->validation.n;
    int outputs = r->labels->n_classes;

    if (seeds->horizon != NULL)
        memcpy(prediction, r->graph_said_frozen, sizeof(float) * outputs * seeds->n);
    for (int64 i = 0; seeds->horizon == NULL && i < seeds->n; i++)
        memcpy(prediction + i * outputs, r->graph_said + (i * n / seeds->n) * outputs, sizeof(float) * outputs);
    return MOE_OK;
}

static void
note_experts(run *r, const double *seconds)
{
    const moe_router_report *router = &r->report.router;

    for (int e = 0; e < moe_mixture_experts(r->mixture); e++)
    {
        bool graph = moe_mixture_kind(r->mixture, e) == MOE_EXPERT_GRAPH;
        moe_model_expert *expert = palloc(sizeof(moe_model_expert));

        expert->name = expert_name(r, e);
        expert->load = router->load[e];
        expert->metric = r->report.metric[e];
        expert->parameters = graph ? r->result->record.parameters : moe_mixture_parameters(r->mixture, e);
        expert->seconds = graph ? r->member_seconds : seconds[e];
        r->result->experts = lappend(r->result->experts, expert);
        if (isnan(expert->metric))
            moe_notice("expert %s: %.1f s", expert->name, expert->seconds);
        else
            moe_notice("expert %s: validation %s %.4f, %.1f s", expert->name, moe_train_metric(r->labels->task),
                       expert->metric, expert->seconds);
    }
}

/* What a budget is chosen by must be there, before anything is trained. */
static void
check_budget(run *r, int64 held_out)
{
    if (r->options->budget >= 1)
        return;
    if (r->labels->task == MOE_REGRESSION)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a budget needs a model of classes"),
                        errdetail("Of a number, the glance expert does not know how sure it is."),
                        errhint("Leave out the option budget.")));
    if (held_out < MOE_MIXTURE_LEAST_HELD_OUT || !sees_anything(r) || pg_popcount32(possible_experts(r)) < 2)
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a budget cannot be chosen for this model"),
                 errdetail("It is chosen on validation rows, at least %d, by what their past labels and own columns "
                           "say; there are " INT64_FORMAT ".",
                           MOE_MIXTURE_LEAST_HELD_OUT, held_out),
                 errhint("Let validation begin earlier, or leave out the option budget.")));
}

void
moe_train_experts(run *r)
{
    moe_buffer *store = &r->result->parameters;
    moe_input_block *b = prepare_inputs(r);
    moe_dense_task task = {r->labels->task, r->labels->n_classes, r->labels->low, r->labels->high};
    int64 held = b->n_stale + b->n_train; /* validation rows begin here */
    moe_dense_rows valid = rows_of(r, b, held, b->n_valid);
    moe_dense_rows none = {.width = valid.width};
    moe_samples held_out = {b->n_valid, b->row + held, b->time + held, b->label + held};
    moe_seeds frozen = moe_frozen_seeds(b);
    moe_router_config router = r->options->router;
    double seconds[MOE_EXPERT_KINDS] = {0};
    moe_past_labels past;
    float *reading;

    check_budget(r, b->n_valid);
    if (r->labels->task != MOE_REGRESSION)
        task.low = task.high = 0;
    moe_check(r->job, moe_mixture_create(r->job, &task, r->labels->task == MOE_REGRESSION ? r->labels->shift : 0,
                                         r->labels->task == MOE_REGRESSION ? r->labels->scale : 1, possible_experts(r),
                                         valid.width, moe_inputs_roles(r->inputs), &r->mixture));
    fit_dense(r, b, b->n_train, &valid, seconds);
    moe_buffer_init(store, r->job);
    past = past_labels(r);
    moe_train_members(r, b,
                      r->result->record.info.history_query == NULL && moe_inputs_need_past(r->inputs) ? &past : NULL);
    moe_mixture_connect(r->mixture, moe_inputs_compute, r->inputs, recall_graph, r);
    router.seed = (uint64) r->options->seed;
    moe_train_phase(MOE_PHASE_ROUTER, NULL);
    reading = moe_reading_learn(r, b, &held_out);
    moe_check(r->job, moe_mixture_route(r->mixture, &router, &held_out, valid.x, reading, &r->report));
    moe_check(r->job, moe_mixture_calibrate_stale(r->mixture, &frozen, b->label + held + b->n_valid,
                                                  b->x + (held + b->n_valid) * valid.width));
    if (!moe_mixture_set_budget(r->mixture, r->options->budget))
        elog(ERROR, "there is no curve to choose a budget by");
    if (r->options->refit && b->n_valid > 0)
        fit_dense(r, b, b->n_train + b->n_valid, &none, seconds);
    note_experts(r, seconds);
    moe_store_end(store, r->mixture);
    for (int e = 0; e < moe_mixture_experts(r->mixture); e++)
        r->result->record.parameters += moe_mixture_parameters(r->mixture, e);
    moe_free(r->job, b->x);
    moe_check(r->job, moe_job_code(r->job));
}
