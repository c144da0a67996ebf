/*
 * explain.c: which tables, columns and experts a prediction, or a model, rests on.
 *
 * Leave one out: the prediction with everything minus the prediction with one
 * table hidden, as if it had no rows, or with all inputs hidden that are about
 * one column, as if they were NULL. What two say alike is missed by neither, so
 * contributions need not add up to the prediction.
 */
#include "postgres.h"

#include <math.h>

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "extension/evaluate.h"
#include "extension/model_inputs.h"
#include "extension/moe_ml.h"
#include "extension/predict.h"
#include "extension/subject.h"

#define MAX_ROWS    2000 /* validation rows that importance looks at */
#define MAX_COLUMNS 10   /* told by explain: those that matter most */

MOE_FUNCTION(moe_explain);
MOE_FUNCTION(moe_explain_text);
MOE_FUNCTION(moe_importance);

typedef struct contribution
{
    int table;  /* -1: none */
    int source; /* a column of it; -1: how many rows there are, and when */
    double with, without, difference;
} contribution;

/* Largest difference first, in either direction; ties by table order. */
static int
compare_size(const void *a, const void *b)
{
    const contribution *x = a, *y = b;

    if (fabs(x->difference) != fabs(y->difference))
        return fabs(x->difference) > fabs(y->difference) ? -1 : 1;
    return x->table != y->table ? x->table - y->table : x->source - y->source;
}

/* Largest drop first; undefined last; ties by table order. */
static int
compare_drop(const void *a, const void *b)
{
    const contribution *x = a, *y = b;

    if (isnan(x->difference) != isnan(y->difference))
        return isnan(x->difference) ? 1 : -1;
    if (!isnan(x->difference) && x->difference != y->difference)
        return x->difference > y->difference ? -1 : 1;
    return x->table - y->table;
}

/* Score one seed with a table hidden (-1: none); of several classes, the given one (-1: the best, which it returns). */
static double
score_without(const moe_seed *seed, int table, int *class, float *gates)
{
    const moe_model_info *info = seed->predictor->info;
    bool *disabled = palloc0_array(bool, seed->predictor->schema->n_tables + 1);
    float *scores = palloc_array(float, Max(info->n_classes, 1));

    if (table >= 0)
        disabled[table] = true;
    moe_predictor_score(seed->predictor, 1, &seed->row, &seed->time, NULL, table >= 0 ? disabled : NULL, scores, gates,
                        NULL);
    if (info->task != MOE_MULTICLASS)
        return scores[0];
    if (*class < 0)
        *class = moe_best_class(scores, info->n_classes);
    return scores[*class];
}

enum
{
    PART,
    NAME,
    ROWS_VISIBLE,
    PREDICTION,
    CONTRIBUTION,
    SHARE,
    EXPLAIN_COLUMNS
};

/* Emit the line of the whole prediction, or of one table. */
static void
emit_table(ReturnSetInfo *result, const moe_seed *seed, const char *part, const contribution *item)
{
    Datum values[EXPLAIN_COLUMNS] = {0};
    bool nulls[EXPLAIN_COLUMNS] = {[CONTRIBUTION] = item->table == 0, [SHARE] = true};

    values[PART] = CStringGetTextDatum(part);
    values[NAME] = CStringGetTextDatum(moe_subject_table(seed->predictor->schema, item->table));
    values[ROWS_VISIBLE] =
        Int64GetDatum(moe_graph_visible_rows(&seed->predictor->data->graph_tables[item->table], seed->time));
    values[PREDICTION] = Float8GetDatum(item->without);
    values[CONTRIBUTION] = Float8GetDatum(item->difference);
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* Emit the line of the inputs about one column. */
static void
emit_column(ReturnSetInfo *result, const moe_seed *seed, const contribution *item)
{
    Datum values[EXPLAIN_COLUMNS] = {0};
    bool nulls[EXPLAIN_COLUMNS] = {[ROWS_VISIBLE] = true, [SHARE] = true};
    moe_subject subject = {item->table, item->source};

    values[PART] = CStringGetTextDatum("column");
    values[NAME] = CStringGetTextDatum(moe_subject_name(seed->predictor, &subject));
    values[PREDICTION] = Float8GetDatum(item->without);
    values[CONTRIBUTION] = Float8GetDatum(item->difference);
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* Emit the columns that matter most: each one's inputs are hidden in turn. */
static void
explain_columns(ReturnSetInfo *result, const moe_seed *seed, double all, int *class)
{
    moe_subject *subjects;
    int n = moe_subjects(seed->predictor, &subjects);
    contribution *items = palloc0_array(contribution, n + 1);
    bool *mask = palloc0_array(bool, moe_inputs_columns(seed->predictor->inputs) + 1);

    for (int i = 0; i < n; i++)
    {
        CHECK_FOR_INTERRUPTS();
        moe_subject_hide(seed->predictor, &subjects[i], mask);
        items[i].table = subjects[i].table;
        items[i].source = subjects[i].source;
        items[i].without = score_without(seed, -1, class, NULL);
        items[i].difference = all - items[i].without;
    }
    moe_subject_hide(seed->predictor, NULL, NULL);
    qsort(items, n, sizeof(contribution), compare_size);
    for (int i = 0; i < Min(n, MAX_COLUMNS); i++)
        if (items[i].difference != 0)
            emit_column(result, seed, &items[i]);
}

/* Emit the line of one expert. */
static void
emit_expert(ReturnSetInfo *result, const char *name, double share)
{
    Datum values[EXPLAIN_COLUMNS] = {0};
    bool nulls[EXPLAIN_COLUMNS] = {[ROWS_VISIBLE] = true, [PREDICTION] = true, [CONTRIBUTION] = true};

    values[PART] = CStringGetTextDatum("expert");
    values[NAME] = CStringGetTextDatum(name);
    values[SHARE] = Float8GetDatum(share);
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static Datum
explain(FunctionCallInfo fcinfo, bool as_text)
{
    moe_seed seed;
    ReturnSetInfo *result;
    contribution all = {0}, *items;
    float *gates;
    int class = -1, n;

    InitMaterializedSRF(fcinfo, 0);
    result = (ReturnSetInfo *) fcinfo->resultinfo;
    if (!moe_predict_seed(fcinfo, as_text, &seed))
        return (Datum) 0;
    n = seed.predictor->schema->n_tables - 1;
    items = palloc0_array(contribution, n + 1);
    gates = palloc0_array(float, Max(seed.predictor->info->experts, 1));
    all.without = score_without(&seed, -1, &class, gates);
    emit_table(result, &seed, "all", &all);
    for (int i = 0; i < n; i++)
    {
        items[i].table = i + 1;
        items[i].without = score_without(&seed, i + 1, &class, NULL);
        items[i].difference = all.without - items[i].without;
    }
    qsort(items, n, sizeof(contribution), compare_size);
    for (int i = 0; i < n; i++)
        emit_table(result, &seed, "table", &items[i]);
    explain_columns(result, &seed, all.without, &class);
    for (int e = 0; e < seed.predictor->info->experts; e++)
        emit_expert(result, moe_expert_name(moe_mixture_kind(seed.predictor->mixture, e)), gates[e]);
    return (Datum) 0;
}

Datum
moe_explain(PG_FUNCTION_ARGS)
{
    return explain(fcinfo, false);
}

Datum
moe_explain_text(PG_FUNCTION_ARGS)
{
    return explain(fcinfo, true);
}

/* The validation rows, or evenly spaced ones where they are many. */
static moe_block *
validation_block(const moe_predictor *predictor)
{
    moe_labelled *own = moe_labelled_read(predictor, predictor->info->training_query, MOE_LABELLED_OWN, "train");
    moe_block *block = NULL;
    int64 n;

    for (int i = 0; i < own->n_splits; i++)
        if (strcmp(own->splits[i], "validation") == 0)
            block = moe_block_make(predictor, own, i, DT_NOEND);
    if (block == NULL || block->n == 0)
        ereport(ERROR,
                (errcode(ERRCODE_NO_DATA_FOUND),
                 errmsg("model \"%s\" has no validation rows today", get_rel_name(predictor->info->foreign_table)),
                 errhint("Train it again with WITH (validation_from = ...).")));
    n = Min(block->n, MAX_ROWS);
    for (int64 i = 0; i < n; i++)
    {
        int64 from = i * block->n / n;

        block->row[i] = block->row[from];
        block->time[i] = block->time[from];
        block->horizon[i] = block->horizon[from];
        block->label[i] = block->label[from];
    }
    block->n = n;
    return block;
}

/* The model's first metric on a block with a table hidden. */
static double
metric_without(moe_predictor *predictor, const moe_block *block, int table)
{
    const moe_model_info *info = predictor->info;
    bool *disabled = palloc0_array(bool, predictor->schema->n_tables + 1);
    float *prediction;
    double value;

    if (table >= 0)
        disabled[table] = true;
    prediction = moe_block_score(predictor, block, table >= 0 ? disabled : NULL);
    value = moe_metric_value(predictor->job, info->task, 0, prediction, block->label, block->n, info->n_classes);
    pfree(prediction);
    return value;
}

Datum
moe_importance(PG_FUNCTION_ARGS)
{
    moe_predictor *predictor = moe_predictor_open(moe_model_lookup(PG_GETARG_TEXT_PP(0)));
    bool lower_is_better = predictor->info->task == MOE_REGRESSION;
    int n = predictor->schema->n_tables - 1;
    contribution *items = palloc0_array(contribution, n + 1);
    ReturnSetInfo *result;
    moe_block *block;
    double with;

    moe_predictor_hold(predictor, CurrentMemoryContext);
    InitMaterializedSRF(fcinfo, 0);
    result = (ReturnSetInfo *) fcinfo->resultinfo;
    block = validation_block(predictor);
    with = metric_without(predictor, block, -1);
    for (int i = 0; i < n; i++)
    {
        items[i].table = i + 1;
        items[i].with = with;
        items[i].without = metric_without(predictor, block, i + 1);
        items[i].difference = lower_is_better ? items[i].without - with : with - items[i].without;
    }
    qsort(items, n, sizeof(contribution), compare_drop);
    for (int i = 0; i < n; i++)
    {
        Datum values[5];
        bool nulls[5] = {false, false, isnan(with), isnan(items[i].without), isnan(items[i].difference)};

        values[0] = CStringGetTextDatum(moe_subject_table(predictor->schema, items[i].table));
        values[1] = CStringGetTextDatum(moe_metric_name(predictor->info->task, 0));
        values[2] = Float8GetDatum(items[i].with);
        values[3] = Float8GetDatum(items[i].without);
        values[4] = Float8GetDatum(items[i].difference);
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    return (Datum) 0;
}
