/*
 * predictions.c: predictions for the rows of a query, beside their labels, for metrics of one's own.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "storage/shmem.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "extension/evaluate.h"
#include "extension/key.h"
#include "extension/model_inputs.h"
#include "extension/moe_ml.h"
#include "extension/number.h"
#include "extension/predict.h"

#define CHUNK 1024

MOE_FUNCTION(moe_predictions);
MOE_FUNCTION(moe_expert_predictions);
MOE_FUNCTION(moe_inputs_of);
MOE_FUNCTION(moe_input_names);

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

/* The rows that a query asks about, under a regime. */
typedef struct asked
{
    ReturnSetInfo *result;
    moe_predictor *predictor;
    moe_labelled *labelled;
    moe_block *block;
    int width; /* outputs a seed */
} asked;

/* Read the arguments (model, query, regime) and open the result. */
static void
begin(FunctionCallInfo fcinfo, asked *a)
{
    bool frozen = parse_regime(text_to_cstring(PG_GETARG_TEXT_PP(2)));

    InitMaterializedSRF(fcinfo, 0);
    a->result = (ReturnSetInfo *) fcinfo->resultinfo;
    a->predictor = moe_predictor_open(moe_model_lookup(PG_GETARG_TEXT_PP(0)));
    moe_predictor_hold(a->predictor, CurrentMemoryContext);
    a->labelled =
        moe_labelled_read(a->predictor, text_to_cstring(PG_GETARG_TEXT_PP(1)), MOE_LABELLED_PREDICTION, "query");
    moe_labelled_report(a->labelled);
    a->block = moe_block_make(a->predictor, a->labelled, -1,
                              frozen ? moe_evaluate_cut(a->predictor->info, a->labelled) : DT_NOEND);
    a->width = a->predictor->info->task == MOE_MULTICLASS ? a->predictor->info->n_classes : 1;
}

/* The first three columns: key, time, label. */
static void
fill_seed(const asked *a, int64 i, Datum *values, bool *nulls)
{
    const char *label = a->labelled->text[a->block->source[i]];

    values[0] = CStringGetTextDatum(moe_key_text(a->predictor, a->block->row[i]));
    values[1] = time_datum(a->predictor->schema, a->block->time[i]);
    nulls[2] = label == NULL;
    values[2] = label == NULL ? (Datum) 0 : CStringGetTextDatum(label);
}

/* The two columns prediction and class. */
static void
fill_scores(const asked *a, const float *scores, Datum *values, bool *nulls)
{
    const moe_model_info *info = a->predictor->info;
    int best = info->task == MOE_MULTICLASS ? moe_best_class(scores, info->n_classes) : 0;
    const char *class = info->task == MOE_MULTICLASS ? info->classes[best] : scores[0] >= 0.5f ? "true" : "false";

    values[0] = moe_number_datum(scores[best]);
    nulls[1] = info->task == MOE_REGRESSION;
    values[1] = CStringGetTextDatum(class);
}

Datum
moe_predictions(PG_FUNCTION_ARGS)
{
    MemoryContext each, old;
    float *scores;
    asked a;

    begin(fcinfo, &a);
    scores = moe_block_score(a.predictor, a.block, NULL);
    each = AllocSetContextCreate(CurrentMemoryContext, "moe_ml predictions", ALLOCSET_DEFAULT_SIZES);
    old = MemoryContextSwitchTo(each);
    for (int64 i = 0; i < a.block->n; i++)
    {
        Datum values[5];
        bool nulls[5] = {false};

        fill_seed(&a, i, values, nulls);
        fill_scores(&a, scores + i * a.width, values + 3, nulls + 3);
        tuplestore_putvalues(a.result->setResult, a.result->setDesc, values, nulls);
        MemoryContextReset(each);
    }
    MemoryContextSwitchTo(old);
    return (Datum) 0;
}

/* Memory for n * m floats. */
static float *
floats(int64 n, int64 m)
{
    return MemoryContextAllocHuge(CurrentMemoryContext, mul_size(mul_size(Max(n, 1), Max(m, 1)), sizeof(float)));
}

Datum
moe_expert_predictions(PG_FUNCTION_ARGS)
{
    float *said[MOE_EXPERT_KINDS];
    MemoryContext each, old;
    float *mixed, *gates;
    int experts;
    asked a;

    begin(fcinfo, &a);
    experts = moe_mixture_experts(a.predictor->mixture);
    mixed = floats(a.block->n, a.width);
    gates = floats(a.block->n, experts);
    for (int e = 0; e < experts; e++)
        said[e] = floats(a.block->n, a.width);
    moe_predictor_score(a.predictor, a.block->n, a.block->row, a.block->time, a.block->horizon, NULL,
                        &(moe_mixture_answer){.prediction = mixed, .gates = gates, .each = said});
    each = AllocSetContextCreate(CurrentMemoryContext, "moe_ml predictions", ALLOCSET_DEFAULT_SIZES);
    old = MemoryContextSwitchTo(each);
    for (int64 i = 0; i < a.block->n * experts; i++)
    {
        int e = i % experts;
        int64 seed = i / experts;
        Datum values[7];
        bool nulls[7] = {false};

        fill_seed(&a, seed, values, nulls);
        values[3] = CStringGetTextDatum(moe_expert_name(moe_mixture_kind(a.predictor->mixture, e)));
        values[4] = moe_number_datum(gates[i]);
        fill_scores(&a, said[e] + seed * a.width, values + 5, nulls + 5);
        tuplestore_putvalues(a.result->setResult, a.result->setDesc, values, nulls);
        MemoryContextReset(each);
    }
    MemoryContextSwitchTo(old);
    return (Datum) 0;
}

/* Columns as real[]; NaN becomes NULL. */
static Datum
input_array(const float *row, int n)
{
    Datum *values = palloc_array(Datum, Max(n, 1));
    bool *nulls = palloc_array(bool, Max(n, 1));
    int lower = 1;

    for (int c = 0; c < n; c++)
    {
        nulls[c] = isnan(row[c]);
        values[c] = Float4GetDatum(row[c]);
    }
    return PointerGetDatum(
        construct_md_array(values, nulls, 1, &n, &lower, FLOAT4OID, sizeof(float4), true, TYPALIGN_INT));
}

/* The inputs of a query's rows before normalisation. */
Datum
moe_inputs_of(PG_FUNCTION_ARGS)
{
    MemoryContext each, old;
    moe_seeds seeds;
    float *raw;
    int columns;
    asked a;

    begin(fcinfo, &a);
    columns = moe_inputs_columns(a.predictor->inputs);
    raw = floats(Min(a.block->n, CHUNK), columns);
    each = AllocSetContextCreate(CurrentMemoryContext, "moe_ml inputs", ALLOCSET_DEFAULT_SIZES);
    for (int64 first = 0; first < a.block->n; first += seeds.n)
    {
        CHECK_FOR_INTERRUPTS();
        seeds = (moe_seeds){0, Min(a.block->n - first, CHUNK), a.block->row + first, a.block->time + first,
                            a.block->horizon + first};
        seeds.n = moe_predictor_recall(a.predictor, &seeds);
        moe_check(a.predictor->job, moe_inputs_raw(a.predictor->inputs, &seeds, raw));
        old = MemoryContextSwitchTo(each);
        for (int64 i = 0; i < seeds.n; i++)
        {
            Datum values[4];
            bool nulls[4] = {false};

            fill_seed(&a, first + i, values, nulls);
            values[3] = input_array(raw + i * columns, columns);
            tuplestore_putvalues(a.result->setResult, a.result->setDesc, values, nulls);
            MemoryContextReset(each);
        }
        MemoryContextSwitchTo(old);
    }
    return (Datum) 0;
}

Datum
moe_input_names(PG_FUNCTION_ARGS)
{
    moe_predictor *predictor = moe_predictor_open(moe_model_lookup(PG_GETARG_TEXT_PP(0)));
    const moe_inputs *inputs = predictor->inputs;
    ReturnSetInfo *result;

    moe_predictor_hold(predictor, CurrentMemoryContext);
    InitMaterializedSRF(fcinfo, 0);
    result = (ReturnSetInfo *) fcinfo->resultinfo;
    for (int c = 0; c < moe_inputs_columns(inputs); c++)
    {
        int table = moe_inputs_column_table(inputs, c);
        Datum values[3];
        bool nulls[3] = {false, false, table < 0};

        values[0] = Int32GetDatum(c + 1);
        values[1] = CStringGetTextDatum(moe_inputs_column_name(inputs, c));
        values[2] = table < 0 ? (Datum) 0 : ObjectIdGetDatum(predictor->schema->tables[table].relid);
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    return (Datum) 0;
}
