/*
 * model_score.c: scoring seeds by a predictor's mixture, with the past labels that its inputs need.
 *
 * A predictive query's label history is computed by its history query, for the
 * windows that end at the moment a seed looks back from: so seeds are scored
 * together as far as that is the same, and what a seed knows of the past does
 * not depend on the others. Own labels are those kept with the model, or those
 * that an evaluation tells. Which of them a seed may know is decided by the
 * windows that have closed by that moment, whatever was read.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "extension/labelled.h"
#include "extension/model_predictor_internal.h"
#include "extension/model_reach.h"
#include "extension/moe_ml.h"

moe_code
moe_predictor_seed_inputs(void *arg, const moe_seeds *seeds, float *out)
{
    const struct moe_predictor_parts *parts = arg;
    int width = moe_inputs_width(parts->inputs);
    const float *x = parts->asked_input + (seeds->row - parts->asked) * width;

    moe_inputs_pick(parts->inputs, moe_model_config_of(parts->member[0].model)->seed_inputs, seeds->n, x, out);
    return MOE_OK;
}

moe_code
moe_predictor_ask_graph(void *arg, const moe_seeds *seeds, const float *inputs, const bool *disabled, float *prediction)
{
    struct moe_predictor_parts *parts = arg;
    const moe_model_config *config = moe_model_config_of(parts->member[0].model);
    moe_job *job = moe_params_job(parts->member[0].params);
    int64 n = seeds->n * (config->task == MOE_MULTICLASS ? config->n_classes : 1);
    float *one = moe_alloc(job, n, sizeof(float));
    moe_code code = one == NULL ? moe_job_code(job) : MOE_OK;

    parts->asked = seeds->row; /* members ask about stretches of these rows */
    parts->asked_input = inputs;
    memset(prediction, 0, n * sizeof(float));
    for (int i = 0; code == MOE_OK && i < parts->n_members; i++)
    {
        const moe_member *member = &parts->member[i];

        code = moe_model_predict(member->model, seeds, moe_member_key(member), disabled, one);
        for (int64 k = 0; code == MOE_OK && k < n; k++)
            prediction[k] += one[k] / (float) parts->n_members;
    }
    moe_free(job, one);
    return code;
}

/* Hand labels to the inputs. */
static void
remember(moe_predictor *predictor, const moe_past_labels *past, bool everyones, int64 anchor)
{
    struct moe_predictor_parts *parts = predictor->parts;

    moe_check(predictor->job, moe_inputs_remember(parts->inputs, past, everyones));
    parts->has_past = true;
    parts->past_anchor = anchor;
}

/*
 * The labels of the windows that end at a moment and before: of one seed's entity alone where it is the first that is
 * asked about and its key says which it is, as a session that reads anew for each question asks no second; else of all.
 */
static void
remember_windows(moe_predictor *predictor, int64 moment, const moe_seeds *seeds)
{
    struct moe_predictor_parts *parts = predictor->parts;
    bool again = parts->has_past && parts->past_anchor == moment;
    Datum key[INDEX_MAX_KEYS];
    bool nulls[INDEX_MAX_KEYS];
    const Datum *only = predictor->only;
    const moe_labelled *labelled;
    moe_past_labels past;
    int32 row = -1;

    if (again && (parts->past_row < 0 || (seeds->n == 1 && seeds->row[0] == parts->past_row)))
        return;
    if (only == NULL && !again && seeds->n == 1 && moe_reach_is_possible(predictor->schema))
    {
        row = seeds->row[0];
        moe_data_key(predictor->data, row, key, nulls);
        only = key;
    }
    labelled = moe_labelled_history(predictor, only, moment, 1, MOE_HISTORY_REACH);
    past = (moe_past_labels){labelled->n, labelled->row, labelled->time, labelled->label};
    remember(predictor, &past, false, moment);
    parts->past_row = row;
}

/* Labels of one's own: those that an evaluation told, or those kept with the model. */
static void
remember_own(moe_predictor *predictor)
{
    struct moe_predictor_parts *parts = predictor->parts;
    moe_past_labels kept = {0};

    if (parts->has_past)
        return;
    if (parts->told.n == 0)
        kept = moe_past_find(predictor, &parts->kept);
    remember(predictor, parts->told.n > 0 ? &parts->told : &kept, parts->told.n > 0, DT_NOEND);
}

/* How many seeds, from the first on, look back from one moment. */
static int64
seeds_of_one_moment(const moe_inputs *inputs, const moe_seeds *seeds, int64 *moment)
{
    const int64 *horizon = seeds->horizon ? seeds->horizon : seeds->time;
    int64 n = 1;

    *moment = moe_inputs_look_back(inputs, seeds, 0);
    while (n < seeds->n && (horizon[n] == horizon[n - 1] || moe_inputs_look_back(inputs, seeds, n) == *moment))
        n++;
    return n;
}

int64
moe_predictor_recall(moe_predictor *predictor, const moe_seeds *seeds)
{
    MemoryContext context, old;
    int64 n = seeds->n;
    int64 moment = 0;
    Oid caller;
    int security;

    if (!moe_inputs_need_past(predictor->parts->inputs))
        return n;
    context = AllocSetContextCreate(CurrentMemoryContext, "moe_ml past labels", ALLOCSET_DEFAULT_SIZES);
    old = MemoryContextSwitchTo(context);
    GetUserIdAndSecContext(&caller, &security);
    SetUserIdAndSecContext(predictor->parts->user, security | SECURITY_LOCAL_USERID_CHANGE);
    if (predictor->info->history_query == NULL)
        remember_own(predictor);
    else
    {
        n = seeds_of_one_moment(predictor->parts->inputs, seeds, &moment);
        remember_windows(predictor, moment, seeds);
    }
    SetUserIdAndSecContext(caller, security);
    MemoryContextSwitchTo(old);
    MemoryContextDelete(context);
    return n;
}

void
moe_predictor_tell(moe_predictor *predictor, const moe_past_labels *labels)
{
    predictor->parts->told = *labels;
    predictor->parts->has_past = false;
}

/* The seeds from `first` on. */
static moe_seeds
seeds_from(const moe_seeds *seeds, int64 first)
{
    moe_seeds rest = *seeds;

    rest.n -= first;
    rest.row += first;
    rest.time += first;
    rest.horizon = seeds->horizon == NULL ? NULL : seeds->horizon + first;
    return rest;
}

void
moe_predictor_score(moe_predictor *predictor, int64 n, const int32 *row, const int64 *time, const int64 *horizon,
                    const bool *disabled, const moe_mixture_answer *out)
{
    struct moe_predictor_parts *parts = predictor->parts;
    int experts = moe_mixture_experts(parts->mixture);
    int outputs = predictor->info->n_classes;
    moe_seeds seeds = {0, n, row, time, horizon};
    double start = moe_seconds();
    moe_seeds part;

    for (int64 first = 0; first < n; first += part.n)
    {
        moe_mixture_answer answer = {.prediction = out->prediction + first * outputs};
        float *said[MOE_EXPERT_KINDS];

        part = seeds_from(&seeds, first);
        part.n = moe_predictor_recall(predictor, &part);
        for (int e = 0; out->each != NULL && e < experts; e++)
            said[e] = out->each[e] + first * outputs;
        answer.gates = out->gates == NULL ? NULL : out->gates + first * experts;
        answer.each = out->each == NULL ? NULL : said;
        answer.lower = out->lower == NULL ? NULL : out->lower + first;
        answer.upper = out->upper == NULL ? NULL : out->upper + first;
        CHECK_FOR_INTERRUPTS();
        moe_check(predictor->job, moe_mixture_predict(parts->mixture, &part, disabled, &answer));
    }
    predictor->score_seconds += moe_seconds() - start;
    predictor->seeds_scored += n;
}

void
moe_predictor_score_early(moe_predictor *predictor, int64 n, const int32 *row, const int64 *time, const int64 *horizon,
                          float *out, float *gates, bool *stops)
{
    struct moe_predictor_parts *parts = predictor->parts;
    int experts = moe_mixture_experts(parts->mixture);
    int outputs = predictor->info->n_classes;
    int n_tables = predictor->data->n_tables;
    bool *disabled = palloc(sizeof(bool) * (n_tables + 1));
    moe_seeds seeds = {0, n, row, time, horizon};
    double start = moe_seconds();
    moe_seeds part;

    memset(disabled, true, sizeof(bool) * n_tables);
    disabled[n_tables] = false; /* the label history */
    for (int64 first = 0; first < n; first += part.n)
    {
        part = seeds_from(&seeds, first);
        part.n = moe_predictor_recall(predictor, &part);
        CHECK_FOR_INTERRUPTS();
        moe_check(predictor->job,
                  moe_mixture_predict_early(parts->mixture, &part, disabled, out + first * outputs,
                                            gates == NULL ? NULL : gates + first * experts, stops + first));
    }
    predictor->score_seconds += moe_seconds() - start;
    predictor->seeds_scored += n;
    pfree(disabled);
}

void
moe_predictor_use_point(moe_predictor *predictor, int point)
{
    moe_mixture_use_point(predictor->parts->mixture, point);
}
