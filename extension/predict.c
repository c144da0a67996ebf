/*
 * predict.c: predictions as scalar functions.
 *
 * Each call opens the model's predictor by name; within one statement that is
 * the one already open, so that predict() over a whole table reads the tables
 * once. A key without a row, or whose row is not visible or does not count at
 * as_of, gives NULL.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "catalog/pg_type.h"

#include "extension/key.h"
#include "extension/moe_ml.h"
#include "extension/predict.h"

MOE_FUNCTION(moe_predict);
MOE_FUNCTION(moe_predict_text);
MOE_FUNCTION(moe_predict_class);
MOE_FUNCTION(moe_predict_class_text);

bool
moe_predict_seed(FunctionCallInfo fcinfo, bool as_text, moe_seed *seed)
{
    int32 *counted;

    if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
        return false;
    seed->predictor = moe_predictor_open(moe_model_lookup(PG_GETARG_TEXT_PP(0)));
    if (as_text)
        seed->row = moe_key_find_text(seed->predictor, text_to_cstring(PG_GETARG_TEXT_PP(1)));
    else
        seed->row = moe_key_find(seed->predictor, PG_GETARG_DATUM(1), get_fn_expr_argtype(fcinfo->flinfo, 1));
    if (PG_NARGS() > 2 && !PG_ARGISNULL(2))
        seed->time = moe_time_convert(PG_GETARG_DATUM(2), TIMESTAMPTZOID, seed->predictor->schema->time_type);
    else
        seed->time = moe_predictor_default_time(seed->predictor);
    if (seed->row < 0)
        return false;
    return moe_predictor_population(seed->predictor, seed->time, &seed->row, 1, &counted) == 1;
}

/* Scores of one seed, [1] or [classes]. */
static float *
score(const moe_seed *seed)
{
    const moe_model_info *info = seed->predictor->info;
    float *scores = palloc(sizeof(float) * (info->task == MOE_MULTICLASS ? info->n_classes : 1));

    moe_predictor_score(seed->predictor, 1, &seed->row, &seed->time, NULL, NULL, scores, NULL, NULL);
    return scores;
}

/* Raise for a task that the function does not serve. */
static void
wrong_task(const moe_seed *seed, const char *message, const char *hint)
{
    ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                    errmsg(message, get_rel_name(seed->predictor->info->foreign_table)), errhint("%s", hint)));
}

static Datum
predict(FunctionCallInfo fcinfo, bool as_text)
{
    moe_seed seed;

    if (!moe_predict_seed(fcinfo, as_text, &seed))
        PG_RETURN_NULL();
    if (seed.predictor->info->task == MOE_MULTICLASS)
        wrong_task(&seed, "model \"%s\" predicts a class, not a number", "Use moe_ml.predict_class().");
    PG_RETURN_FLOAT8(score(&seed)[0]);
}

static Datum
predict_class(FunctionCallInfo fcinfo, bool as_text)
{
    moe_seed seed;
    const moe_model_info *info;
    float *scores;

    if (!moe_predict_seed(fcinfo, as_text, &seed))
        PG_RETURN_NULL();
    info = seed.predictor->info;
    if (info->task == MOE_REGRESSION)
        wrong_task(&seed, "model \"%s\" predicts a number, not a class", "Use moe_ml.predict().");
    scores = score(&seed);
    if (info->task == MOE_BINARY)
        PG_RETURN_TEXT_P(cstring_to_text(scores[0] >= 0.5f ? "true" : "false"));
    PG_RETURN_TEXT_P(cstring_to_text(info->classes[moe_best_class(scores, info->n_classes)]));
}

int
moe_best_class(const float *scores, int n)
{
    int best = 0;

    for (int c = 1; c < n; c++)
        if (scores[c] > scores[best])
            best = c;
    return best;
}

Datum
moe_predict(PG_FUNCTION_ARGS)
{
    return predict(fcinfo, false);
}

Datum
moe_predict_text(PG_FUNCTION_ARGS)
{
    return predict(fcinfo, true);
}

Datum
moe_predict_class(PG_FUNCTION_ARGS)
{
    return predict_class(fcinfo, false);
}

Datum
moe_predict_class_text(PG_FUNCTION_ARGS)
{
    return predict_class(fcinfo, true);
}
