/*
 * predict.c: predictions as scalar functions.
 *
 * Each call opens the model's predictor by name; within one statement that is
 * the one already open. The first calls may look up the rows around their key; predict() over a whole table
 * soon reads the tables, once. A key without a row, or whose row is not visible or does not count at
 * as_of, gives NULL.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "catalog/pg_type.h"

#include "extension/fdw.h"
#include "extension/key.h"
#include "extension/moe_ml.h"
#include "extension/number.h"
#include "extension/predict.h"

MOE_FUNCTION(moe_predict);
MOE_FUNCTION(moe_predict_text);
MOE_FUNCTION(moe_predict_class);
MOE_FUNCTION(moe_predict_class_text);

/* Find the seed of the arguments, over whatever its predictor has read. */
static bool
find_seed(FunctionCallInfo fcinfo, bool as_text, moe_seed *seed)
{
    int32 *counted;

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

bool
moe_predict_seed(FunctionCallInfo fcinfo, bool as_text, moe_seed *seed)
{
    if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
        return false;
    seed->predictor = moe_predictor_open(moe_model_lookup(PG_GETARG_TEXT_PP(0)));
    return find_seed(fcinfo, as_text, seed);
}

/* The key that the arguments give, if that can be said before the model is open: a value of one column's type. */
static bool
is_plain_key(FunctionCallInfo fcinfo, bool as_text, Oid relid, moe_asked *asked)
{
    const moe_shape *shape = moe_shape_of(relid, moe_model_load(relid));
    Oid type = as_text ? TEXTOID : getBaseType(get_fn_expr_argtype(fcinfo->flinfo, 1));

    asked->n_key = 1;
    asked->key = palloc(sizeof(Datum));
    return shape->n_key == 1 && moe_key_convertible(type, shape->type[0]) &&
           moe_key_convert(PG_GETARG_DATUM(1), type, shape->type[0], asked->key);
}

/* The same for a prediction, which needs the rows around the key alone. */
static bool
open_seed(FunctionCallInfo fcinfo, bool as_text, moe_seed *seed)
{
    moe_asked asked = {0};
    Oid relid;

    if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
        return false;
    relid = moe_model_lookup(PG_GETARG_TEXT_PP(0));
    asked.has_time = PG_NARGS() > 2 && !PG_ARGISNULL(2);
    if (asked.has_time)
    {
        const moe_shape *shape = moe_shape_of(relid, moe_model_load(relid));

        asked.time = moe_time_convert(PG_GETARG_DATUM(2), TIMESTAMPTZOID, shape->type[shape->as_of - 1]);
    }
    seed->predictor = moe_predictor_open_around(relid, is_plain_key(fcinfo, as_text, relid, &asked) ? &asked : NULL);
    return find_seed(fcinfo, as_text, seed);
}

/* Scores of one seed, [1] or [classes]. */
static float *
score(const moe_seed *seed)
{
    const moe_model_info *info = seed->predictor->info;
    float *scores = palloc(sizeof(float) * (info->task == MOE_MULTICLASS ? info->n_classes : 1));

    moe_predictor_score(seed->predictor, 1, &seed->row, &seed->time, NULL, NULL,
                        &(moe_mixture_answer){.prediction = scores});
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

    if (!open_seed(fcinfo, as_text, &seed))
        PG_RETURN_NULL();
    if (seed.predictor->info->task == MOE_MULTICLASS)
        wrong_task(&seed, "model \"%s\" predicts a class, not a number", "Use moe_ml.predict_class().");
    PG_RETURN_DATUM(moe_number_datum(score(&seed)[0]));
}

static Datum
predict_class(FunctionCallInfo fcinfo, bool as_text)
{
    moe_seed seed;
    const moe_model_info *info;
    float *scores;

    if (!open_seed(fcinfo, as_text, &seed))
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
