/*
 * predictions.c: predictions for the rows of a query, beside their labels, for metrics of one's own.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "extension/evaluate.h"
#include "extension/key.h"
#include "extension/moe_ml.h"
#include "extension/predict.h"

MOE_FUNCTION(moe_predictions);

/* Is the regime 'frozen'? Raises for what is neither. */
static bool
parse_regime(const char *regime)
{
    if (strcmp(regime, "frozen") != 0 && strcmp(regime, "rolling") != 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown regime \"%s\"", regime),
                        errhint("Say 'rolling' or 'frozen'.")));
    return strcmp(regime, "frozen") == 0;
}

/* A seed time as timestamptz. */
static Datum
time_datum(const moe_schema *schema, int64 time)
{
    if (schema->time_type == TIMESTAMPTZOID)
        return TimestampTzGetDatum(time);
    return DirectFunctionCall1(timestamp_timestamptz, TimestampGetDatum(time));
}

/* Emit one row. */
static void
emit(ReturnSetInfo *result, const moe_predictor *predictor, const moe_labelled *labelled, const moe_block *block,
     int64 i, const float *scores)
{
    const moe_model_info *info = predictor->info;
    const char *label = labelled->text[block->source[i]];
    int best = info->task == MOE_MULTICLASS ? moe_best_class(scores, info->n_classes) : 0;
    const char *class = info->task == MOE_MULTICLASS ? info->classes[best] : scores[0] >= 0.5f ? "true" : "false";
    Datum values[5];
    bool nulls[5] = {false, false, label == NULL, false, info->task == MOE_REGRESSION};

    values[0] = CStringGetTextDatum(moe_key_text(predictor, block->row[i]));
    values[1] = time_datum(predictor->schema, block->time[i]);
    values[2] = label == NULL ? (Datum) 0 : CStringGetTextDatum(label);
    values[3] = Float8GetDatum(scores[best]);
    values[4] = CStringGetTextDatum(class);
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

Datum
moe_predictions(PG_FUNCTION_ARGS)
{
    bool frozen = parse_regime(text_to_cstring(PG_GETARG_TEXT_PP(2)));
    ReturnSetInfo *result;
    moe_predictor *predictor;
    moe_labelled *labelled;
    moe_block *block;
    MemoryContext each, old;
    float *scores;
    int width;

    InitMaterializedSRF(fcinfo, 0);
    result = (ReturnSetInfo *) fcinfo->resultinfo;
    predictor = moe_predictor_open(moe_model_lookup(PG_GETARG_TEXT_PP(0)));
    moe_predictor_hold(predictor, CurrentMemoryContext);
    labelled = moe_labelled_read(predictor, text_to_cstring(PG_GETARG_TEXT_PP(1)), MOE_LABELLED_PREDICTION, "query");
    moe_labelled_report(labelled);
    block = moe_block_make(predictor, labelled, -1, frozen ? moe_evaluate_cut(predictor->info, labelled) : DT_NOEND);
    scores = moe_block_score(predictor, block, NULL);
    width = predictor->info->task == MOE_MULTICLASS ? predictor->info->n_classes : 1;
    each = AllocSetContextCreate(CurrentMemoryContext, "moe_ml predictions", ALLOCSET_DEFAULT_SIZES);
    old = MemoryContextSwitchTo(each);
    for (int64 i = 0; i < block->n; i++)
    {
        emit(result, predictor, labelled, block, i, scores + i * width);
        MemoryContextReset(each);
    }
    MemoryContextSwitchTo(old);
    return (Datum) 0;
}
