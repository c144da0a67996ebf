/*
 * model_score.c: scoring seeds by a predictor's mixture, with the past labels that its inputs need.
 *
 * A predictive query's label history is computed by its history query, for
 * windows that end at the latest horizon of the seeds: which is each seed's own
 * horizon in a scan, and a common grid where an evaluation asks about many
 * moments a window apart. Own labels are those kept with the model, or those
 * that an evaluation tells. Which of them a seed may know is decided by the
 * windows that have closed by its horizon, whatever was read.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "extension/labelled.h"
#include "extension/model_predictor_internal.h"
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
remember(moe_predictor *predictor, const moe_past_labels *past, int64 anchor, int64 windows)
{
    struct moe_predictor_parts *parts = predictor->parts;

    moe_check(predictor->job, moe_inputs_remember(parts->inputs, past));
    parts->has_past = true;
    parts->past_anchor = anchor;
    parts->past_windows = windows;
}

/* The labels of windows that end at the anchor and before. */
static void
remember_windows(moe_predictor *predictor, int64 anchor, int64 windows)
{
    struct moe_predictor_parts *parts = predictor->parts;
    const moe_labelled *labelled;
    moe_past_labels past;

    if (parts->has_past && parts->past_anchor == anchor && parts->past_windows >= windows)
        return;
    labelled = moe_labelled_history(predictor, anchor, 1, (int) windows);
    past = (moe_past_labels){labelled->n, labelled->row, labelled->time, labelled->label};
    remember(predictor, &past, anchor, windows);
}

/* Have the inputs know what seeds with these horizons may know. */
static void
recall(moe_predictor *predictor, int64 n, const int64 *time, const int64 *horizon)
{
    struct moe_predictor_parts *parts = predictor->parts;
    int64 window = Max(predictor->info->window, 1);
    int64 first = DT_NOEND;
    int64 last = DT_NOBEGIN;

    if (predictor->info->history_query == NULL)
    {
        moe_past_labels kept = {0};

        if (parts->has_past)
            return;
        if (parts->told.n == 0)
            kept = moe_past_find(predictor, &parts->kept);
        remember(predictor, parts->told.n > 0 ? &parts->told : &kept, DT_NOEND, 0);
        return;
    }
    for (int64 i = 0; i < n; i++)
    {
        first = Min(first, horizon ? horizon[i] : time[i]);
        last = Max(last, horizon ? horizon[i] : time[i]);
    }
    remember_windows(predictor, last, Min(MOE_HISTORY_REACH + (last / window - first / window), 100000));
}

void
moe_predictor_recall(moe_predictor *predictor, int64 n, const int64 *time, const int64 *horizon)
{
    MemoryContext context, old;
    Oid caller;
    int security;

    if (!moe_inputs_need_past(predictor->parts->inputs))
        return;
    context = AllocSetContextCreate(CurrentMemoryContext, "moe_ml past labels", ALLOCSET_DEFAULT_SIZES);
    old = MemoryContextSwitchTo(context);
    GetUserIdAndSecContext(&caller, &security);
    SetUserIdAndSecContext(predictor->parts->user, security | SECURITY_LOCAL_USERID_CHANGE);
    recall(predictor, n, time, horizon);
    SetUserIdAndSecContext(caller, security);
    MemoryContextSwitchTo(old);
    MemoryContextDelete(context);
}

void
moe_predictor_tell(moe_predictor *predictor, const moe_past_labels *labels)
{
    predictor->parts->told = *labels;
    predictor->parts->has_past = false;
}

void
moe_predictor_score(moe_predictor *predictor, int64 n, const int32 *row, const int64 *time, const int64 *horizon,
                    const bool *disabled, float *out, float *gates, float *const *each)
{
    struct moe_predictor_parts *parts = predictor->parts;
    moe_seeds seeds = {0, n, row, time, horizon};
    double start = moe_seconds();

    if (n == 0)
        return;
    moe_predictor_recall(predictor, n, time, horizon);
    CHECK_FOR_INTERRUPTS();
    moe_check(predictor->job, moe_mixture_predict(parts->mixture, &seeds, disabled, out, gates, each));
    predictor->score_seconds += moe_seconds() - start;
    predictor->seeds_scored += n;
}
