/*
 * model_members.c: training the graph expert's members, one short step at a time.
 *
 * The members differ by their seed and, in turn, by how far they look
 * (model_store.h). What they say of the validation rows, in time and frozen, is
 * kept as their mean; their parameters go to the store.
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "utils/memutils.h"

#include "extension/moe_ml.h"
#include "extension/model_train_internal.h"
#include "kernels/random.h"

#define NOTICE_SECONDS 5 /* epochs are told no more often */

typedef moe_train_run run;

static void
note_epoch(run *r, int ensemble, const moe_progress *progress)
{
    moe_model_epoch *epoch = palloc0(sizeof(moe_model_epoch));
    char member[32] = "";
    ListCell *lc;

    epoch->ensemble = ensemble;
    epoch->epoch = progress->epoch;
    epoch->train_loss = progress->train_loss;
    epoch->metric = progress->metric;
    epoch->best = progress->best;
    epoch->seconds = progress->seconds;
    if (epoch->best)
    {
        foreach (lc, r->result->epochs)
        {
            moe_model_epoch *earlier = lfirst(lc);

            earlier->best = earlier->best && earlier->ensemble != ensemble;
        }
    }
    r->result->epochs = lappend(r->result->epochs, epoch);

    if (r->last_notice > 0 && moe_seconds() - r->last_notice < NOTICE_SECONDS)
        return;
    r->last_notice = moe_seconds();
    if (r->options->ensembles > 1)
        snprintf(member, sizeof(member), "member %d of %d, ", ensemble, r->options->ensembles);
    if (isnan(progress->metric))
        moe_notice("%sepoch %d of %d: loss %.4f, %.1f s", member, progress->epoch, progress->epochs,
                   progress->train_loss, progress->seconds);
    else
        moe_notice("%sepoch %d of %d: loss %.4f, validation %s %.4f, %.1f s", member, progress->epoch, progress->epochs,
                   progress->train_loss, moe_train_metric(r->labels->task), progress->metric, progress->seconds);
}

/* After a member's last step: its best epoch, if none was, and stage times. */
static void
note_member(run *r, int ensemble, const moe_progress *progress)
{
    ListCell *lc;
    moe_model_epoch *last = llast(r->result->epochs);
    bool has_best = false;

    foreach (lc, r->result->epochs)
    {
        moe_model_epoch *epoch = lfirst(lc);

        has_best |= epoch->ensemble == ensemble && epoch->best;
    }
    if (!has_best)
        last->best = true;
    r->sample_seconds += progress->sample_seconds;
    r->encode_seconds += progress->encode_seconds;
    r->forward_seconds += progress->forward_seconds;
    r->backward_seconds += progress->backward_seconds;
    r->evaluate_seconds += progress->evaluate_seconds;
    r->device_seconds += progress->device_seconds;
}

/* Add a member's share to what the expert says of rows. */
static void
add_predictions(const run *r, const moe_member *member, const moe_seeds *seeds, float *sum)
{
    int64 n = seeds->n * r->labels->n_classes;
    float *said = moe_check_ptr(r->job, moe_alloc(r->job, n, sizeof(float)));

    if (n > 0)
        moe_check(r->job, moe_model_predict(member->model, seeds, moe_member_key(member), NULL, said));
    for (int64 i = 0; i < n; i++)
        sum[i] += said[i] / (float) r->options->ensembles;
    moe_free(r->job, said);
}

/* What a member says of the validation rows, in time and frozen. */
static void
note_predictions(run *r, const moe_member *member, const moe_input_block *b)
{
    const moe_samples *valid = &r->labels->validation;
    moe_seeds seeds = {0, valid->n, valid->row, valid->time, NULL};
    moe_seeds frozen = moe_frozen_seeds(b);

    add_predictions(r, member, &seeds, r->graph_said);
    add_predictions(r, member, &frozen, r->graph_said_frozen);
}

/* Where members find the inputs of training and validation rows, which are computed already. */
typedef struct input_source
{
    const run *run;
    const moe_input_block *block;
} input_source;

/* The place of a seed among rows in order of time and row, or -1. */
static int64
find_seed(const int32 *row, const int64 *time, int64 n, int32 wanted_row, int64 wanted_time)
{
    int64 low = 0;
    int64 high = n;

    while (low < high)
    {
        int64 middle = low + (high - low) / 2;

        if (time[middle] < wanted_time || (time[middle] == wanted_time && row[middle] < wanted_row))
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && row[low] == wanted_row && time[low] == wanted_time ? low : -1;
}

/* The place of a seed among n rows of the block, or -1. */
static int64
place_among(const moe_input_block *b, int64 first, int64 n, int32 row, int64 time)
{
    int64 at = find_seed(b->row + first, b->time + first, n, row, time);

    return at < 0 ? -1 : first + at;
}

/* The place of a seed in the block, or -1. */
static int64
place_of(const moe_input_block *b, int32 row, int64 time, bool frozen)
{
    int64 held = b->n_stale + b->n_train;
    int64 at = -1;

    if (frozen)
        return place_among(b, held + b->n_valid, b->n_frozen, row, time);
    at = place_among(b, b->n_stale, b->n_train, row, time);
    return at >= 0 ? at : place_among(b, held, b->n_valid, row, time);
}

/* A moe_seed_inputs_fn that looks inputs up, and computes those that are not there. */
static moe_code
look_up_inputs(void *arg, const moe_seeds *seeds, float *out)
{
    const input_source *source = arg;
    const run *r = source->run;
    int64 width = moe_inputs_width(r->inputs);
    int wanted = r->options->model.seed_inputs;
    float *computed = moe_alloc(r->job, width, sizeof(float));
    moe_code code = computed == NULL ? moe_job_code(r->job) : MOE_OK;

    for (int64 i = 0; code == MOE_OK && i < seeds->n; i++)
    {
        bool frozen = seeds->horizon != NULL && seeds->horizon[i] < seeds->time[i];
        int64 at = place_of(source->block, seeds->row[i], seeds->time[i], frozen);
        moe_seeds one = {0, 1, seeds->row + i, seeds->time + i, frozen ? seeds->horizon + i : NULL};

        if (at < 0)
            code = moe_inputs_compute(r->inputs, &one, NULL, computed, NULL);
        if (code == MOE_OK)
            moe_inputs_pick(r->inputs, wanted, 1, at < 0 ? computed : source->block->x + at * width, out + i * wanted);
    }
    moe_free(r->job, computed);
    return code;
}

/* Train one member and write it to the store. */
static void
train_member(run *r, int ensemble, input_source *source)
{
    moe_train_config config = r->options->train;
    moe_trainer *trainer = NULL;
    moe_progress progress = {0};
    moe_member member = {0};

    if (r->warm)
        moe_check(r->job, moe_store_next(r->job, &r->stored, &member));
    else
    {
        member.seed = moe_key((uint64) r->options->seed, (uint64) ensemble);
        member.params = moe_check_ptr(r->job, moe_params_create(r->job, member.seed));
    }
    config.seed = member.seed;
    moe_check(r->job, moe_member_build(r->job, r->graph, r->features, &r->options->encoder, &r->options->model,
                                       look_up_inputs, source, ensemble, &member));
    moe_check(r->job, moe_trainer_create(r->job, member.model, member.params, &config, &r->labels->train,
                                         &r->labels->validation, &trainer));
    while (!progress.done)
    {
        CHECK_FOR_INTERRUPTS();
        moe_check(r->job, moe_trainer_step(trainer, &progress));
        moe_progress_step(ensemble, r->options->ensembles, &progress);
        if (progress.epoch_done)
            note_epoch(r, ensemble, &progress);
    }
    note_member(r, ensemble, &progress);
    note_predictions(r, &member, source->block);
    r->result->record.parameters = moe_params_size(member.params);
    moe_store_member(&r->result->parameters, &member);
    moe_check(r->job, moe_job_code(r->job));
    moe_trainer_destroy(trainer);
    moe_member_destroy(&member);
}

/* Parameters that were trained with other inputs mean nothing to these. */
static void
check_warm_start(run *r)
{
    int seen = r->options->model.seed_inputs;

    if (!r->warm)
        return;
    r->warm = r->stored.model.seed_inputs == seen && (seen == 0 || moe_inputs_alike(r->inputs, r->stored.inputs));
    if (r->warm)
        moe_notice("starting from the stored parameters");
    else
        moe_notice("starting afresh: the inputs have changed since the last training");
}

void
moe_train_members(run *r, const moe_input_block *block, const moe_past_labels *kept)
{
    input_source source = {r, block};
    bool wanted = r->features != NULL;
    double start = moe_seconds();
    moe_features *none = NULL;

    r->options->model.seed_inputs = !wanted                                       ? 0
                                    : r->options->graph_sees == MOE_GRAPH_ALL     ? moe_inputs_width(r->inputs)
                                    : r->options->graph_sees == MOE_GRAPH_HISTORY ? moe_inputs_history_width(r->inputs)
                                                                                  : 0;
    if (!wanted)
        moe_check(r->job, moe_features_fit(r->job, NULL, 0, NULL, &none));
    moe_store_begin(&r->result->parameters, r->data->schema, r->inputs, wanted ? r->features : none,
                    &r->options->encoder, &r->options->model, r->data, kept, wanted ? r->options->ensembles : 0);
    if (!wanted)
        return;
    check_warm_start(r);
    r->graph_said =
        moe_check_ptr(r->job, moe_alloc(r->job, r->labels->validation.n * r->labels->n_classes, sizeof(float)));
    r->graph_said_frozen =
        moe_check_ptr(r->job, moe_alloc(r->job, block->n_frozen * r->labels->n_classes, sizeof(float)));
    moe_train_phase(MOE_PHASE_EXPERT, moe_expert_name(MOE_EXPERT_GRAPH));
    for (int i = 1; i <= r->options->ensembles; i++)
        train_member(r, i, &source);
    r->member_seconds = moe_seconds() - start;
}
