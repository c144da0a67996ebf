/*
 * budget.c: what a model would lose by asking less.
 *
 * The curve is the one that was measured in training; only what the model learned is read.
 */
#include "postgres.h"

#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "extension/model_predictor_internal.h"
#include "extension/moe_ml.h"
#include "extension/number.h"

MOE_FUNCTION(moe_budget);
Datum
moe_budget(PG_FUNCTION_ARGS)
{
    Oid relid = moe_model_lookup(PG_GETARG_TEXT_PP(0));
    ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
    moe_predictor predictor = {0};
    const moe_cascade_curve *curve;
    MemoryContext old;

    InitMaterializedSRF(fcinfo, 0);
    predictor.context = AllocSetContextCreate(CurrentMemoryContext, "moe_ml budget", ALLOCSET_DEFAULT_SIZES);
    old = MemoryContextSwitchTo(predictor.context);
    moe_predictor_load(&predictor, relid);
    curve = moe_mixture_curve(predictor.mixture);
    MemoryContextSwitchTo(old);
    for (int p = 0; p < curve->points; p++)
    {
        const moe_cascade_point *point = &curve->point[p];
        bool nulls[5] = {false, false, false, point->threshold < 0, false};
        Datum values[5] = {
            Float8GetDatum(moe_number_share(point->reads)), Float8GetDatum(moe_number_share(point->asked)),
            Float8GetDatum(moe_number_share(point->loss)), Float8GetDatum(moe_number_digits(point->threshold, 5)),
            BoolGetDatum(p == moe_mixture_curve_point(predictor.mixture))};

        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    MemoryContextDelete(predictor.context);
    return (Datum) 0;
}
