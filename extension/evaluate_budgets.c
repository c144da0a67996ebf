/*
 * evaluate_budgets.c: metrics along the curve of what is read: one line a budget.
 *
 * Each budget is set for as long as its predictions take, so that they are
 * those of a model that has it: of rows that stop early, its glance's; of
 * others, all experts', which are asked once. What is read is counted as it is in
 * training (model_reading.h).
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "extension/evaluate_internal.h"
#include "extension/model_predictor_internal.h"
#include "extension/model_reading.h"
#include "extension/number.h"

#define MOST_BUDGETS 100

moe_budgets *
moe_budgets_parse(const moe_evaluation *evaluation, ArrayType *array)
{
    moe_budgets *budgets = palloc0_object(moe_budgets);
    Datum *values;
    bool *nulls;

    deconstruct_array(array, FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &values, &nulls, &budgets->n);
    if (budgets->n < 1 || budgets->n > MOST_BUDGETS)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%d budgets are given", budgets->n),
                        errhint("Give 1 to %d, as in budgets => '{1, 0.5, 0.25}'.", MOST_BUDGETS)));
    budgets->budget = palloc_array(double, budgets->n);
    for (int i = 0; i < budgets->n; i++)
    {
        budgets->budget[i] = nulls[i] ? NAN : DatumGetFloat8(values[i]);
        if (!(budgets->budget[i] >= 0 && budgets->budget[i] <= 1))
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a budget is a share from 0 to 1"),
                            errhint("Of all that predictions would read, the share that may be read.")));
    }
    if (moe_mixture_curve(evaluation->predictor->mixture)->points == 0)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("model \"%s\" has not learned what stopping early costs",
                               get_rel_name(evaluation->info->foreign_table)),
                        errhint("That takes a model of classes, the expert \"glance\" and another one, and at least %d "
                                "validation rows.",
                                MOE_MIXTURE_LEAST_HELD_OUT)));
    return budgets;
}

/* How many rows a block's rows have around them, [n], NaN where that was not counted. */
static float *
count_reading(const moe_predictor *predictor, const moe_block *block)
{
    const struct moe_predictor_parts *parts = predictor->parts;
    moe_reading_source source = {predictor->data, parts->graph, parts->inputs,
                                 parts->n_members > 0 ? parts->config.hops : 0};
    moe_samples seen = {block->n, block->row, block->horizon, block->label};

    return moe_reading_count(&source, &seen);
}

/* A block as all experts answer it, and as the glance expert does alone where it may. */
typedef struct scored
{
    const moe_block *block;
    const float *full; /* [n] or [n * classes] */
    float *mixed;      /* by the budget of the moment */
    float *early;
    bool *stops; /* [n] */
    const float *reading;
} scored;

/* The predictions by one point of the curve. */
static void
score_by(const moe_evaluation *evaluation, int point, scored *s)
{
    const moe_block *block = s->block;
    size_t size = sizeof(float) * evaluation->width;

    moe_predictor_use_point(evaluation->predictor, point);
    memcpy(s->mixed, s->full, size * block->n);
    memset(s->stops, false, sizeof(bool) * block->n);
    if (!moe_mixture_stops_early(evaluation->predictor->mixture))
        return;
    moe_predictor_score_early(evaluation->predictor, block->n, block->row, block->time, block->horizon, s->early, NULL,
                              s->stops);
    for (int64 i = 0; i < block->n; i++)
        if (s->stops[i])
            memcpy(s->mixed + i * evaluation->width, s->early + i * evaluation->width, size);
}

/* A line a metric of one budget. */
static void
emit_budget(const moe_evaluation *evaluation, const char *split, const char *regime, double budget, const scored *s)
{
    moe_task_type task = evaluation->info->task;
    int64 n = s->block->n, asked = 0;
    double reads = moe_cascade_reads(n, s->reading, s->stops);

    for (int64 i = 0; i < n; i++)
        asked += !s->stops[i];
    for (int metric = 0; metric < moe_metric_count(task); metric++)
    {
        double value =
            moe_metric_value(evaluation->predictor->job, task, metric, s->mixed, s->block->label, n, evaluation->width);
        Datum values[7] = {Float8GetDatum(budget),
                           CStringGetTextDatum(split),
                           CStringGetTextDatum(regime),
                           CStringGetTextDatum(moe_metric_name(task, metric)),
                           Float8GetDatum(moe_metric_rounded(task, metric, value)),
                           Float8GetDatum(moe_number_share((double) asked / (double) n)),
                           Float8GetDatum(moe_number_share(reads))};
        bool nulls[7] = {[4] = isnan(value), [6] = isnan(reads)};

        tuplestore_putvalues(evaluation->result->setResult, evaluation->result->setDesc, values, nulls);
    }
}

void
moe_evaluate_each_budget(moe_evaluation *evaluation, const char *split, const char *regime, const moe_block *block)
{
    moe_predictor *predictor = evaluation->predictor;
    const moe_cascade_curve *curve = moe_mixture_curve(predictor->mixture);
    int own = moe_mixture_curve_point(predictor->mixture);
    size_t size = mul_size(sizeof(float) * evaluation->width, block->n);
    scored s = {.block = block,
                .mixed = palloc_extended(size, MCXT_ALLOC_HUGE),
                .early = palloc_extended(size, MCXT_ALLOC_HUGE),
                .stops = palloc_extended(block->n, MCXT_ALLOC_HUGE),
                .reading = count_reading(predictor, block)};

    PG_TRY();
    {
        moe_predictor_use_point(predictor, 0);
        s.full = moe_block_score(predictor, block, NULL);
        for (int b = 0; b < evaluation->budgets->n; b++)
        {
            double budget = evaluation->budgets->budget[b];

            score_by(evaluation, budget < 1 ? moe_cascade_choose(curve, budget) : 0, &s);
            emit_budget(evaluation, split, regime, budget, &s);
        }
    }
    PG_FINALLY();
    {
        moe_predictor_use_point(predictor, own);
    }
    PG_END_TRY();
}
