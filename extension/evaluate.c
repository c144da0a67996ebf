/*
 * evaluate.c: honest metrics: time-split, in both regimes, beside the predictions that need no model.
 *
 * rolling: a seed sees every row up to its own time. frozen: nothing after the
 * cut is seen, though labels may lie far beyond it (what published benchmarks
 * do). A figure always says which one it belongs to; where no seed lies beyond
 * the cut they are the same and one line says 'both'.
 */
#include "postgres.h"

#include <math.h>

#include "funcapi.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "extension/evaluate_internal.h"
#include "extension/moe_ml.h"
#include "extension/number.h"
#include "gnn/baseline.h"
#include "gnn/metrics.h"

MOE_FUNCTION(moe_evaluate);
MOE_FUNCTION(moe_evaluate_budgets);

static const char *const binary_metrics[] = {"auroc", "average_precision", "accuracy", "f1", "log_loss",
                                             "brier", "calibration_error"};
static const char *const regression_metrics[] = {"mae", "rmse", "r2"};
static const char *const multiclass_metrics[] = {"accuracy", "macro_f1", "log_loss", "brier"};

int
moe_metric_count(moe_task_type task)
{
    if (task == MOE_BINARY)
        return lengthof(binary_metrics);
    return task == MOE_REGRESSION ? lengthof(regression_metrics) : lengthof(multiclass_metrics);
}

const char *
moe_metric_name(moe_task_type task, int metric)
{
    if (task == MOE_BINARY)
        return binary_metrics[metric];
    return task == MOE_REGRESSION ? regression_metrics[metric] : multiclass_metrics[metric];
}

double
moe_metric_rounded(moe_task_type task, int metric, double value)
{
    bool of_label = task == MOE_REGRESSION && strcmp(regression_metrics[metric], "r2") != 0;

    return of_label ? moe_number_digits(value, 5) : moe_number_share(value);
}

double
moe_metric_value(moe_job *job, moe_task_type task, int metric, const float *prediction, const float *label, int64 n,
                 int classes)
{
    switch (task)
    {
        case MOE_BINARY:
            switch (metric)
            {
                case 0:
                    return moe_metric_auroc(job, prediction, label, n);
                case 1:
                    return moe_metric_average_precision(job, prediction, label, n);
                case 2:
                    return moe_metric_accuracy(prediction, label, n);
                case 3:
                    return moe_metric_f1(prediction, label, n);
                case 4:
                    return moe_metric_log_loss(prediction, label, n);
                case 5:
                    return moe_metric_brier(prediction, label, n);
                default:
                    return moe_metric_calibration_error(job, prediction, label, n);
            }
        case MOE_REGRESSION:
            switch (metric)
            {
                case 0:
                    return moe_metric_mae(prediction, label, n);
                case 1:
                    return moe_metric_rmse(prediction, label, n);
                default:
                    return moe_metric_r2(prediction, label, n);
            }
        default:
            switch (metric)
            {
                case 0:
                    return moe_metric_class_accuracy(prediction, label, n, classes);
                case 1:
                    return moe_metric_macro_f1(job, prediction, label, n, classes);
                case 2:
                    return moe_metric_class_log_loss(prediction, label, n, classes);
                default:
                    return moe_metric_class_brier(prediction, label, n, classes);
            }
    }
}

static void *
allocate(int64 n, size_t size)
{
    return MemoryContextAllocHuge(CurrentMemoryContext, mul_size(Max(n, 1), size));
}

moe_block *
moe_block_make(const moe_predictor *predictor, const moe_labelled *labelled, int split, int64 cut)
{
    const int64_t *row_time = predictor->data->graph_tables[0].time;
    moe_block *block = palloc0(sizeof(moe_block));

    block->source = allocate(labelled->n, sizeof(int64));
    block->row = allocate(labelled->n, sizeof(int32));
    block->time = allocate(labelled->n, sizeof(int64));
    block->horizon = allocate(labelled->n, sizeof(int64));
    block->label = allocate(labelled->n, sizeof(float));
    for (int64 i = 0; i < labelled->n; i++)
    {
        int64 horizon = Min(labelled->time[i], cut);

        if (split >= 0 && labelled->split[i] != split)
            continue;
        if (horizon < labelled->time[i])
            block->frozen = true;
        if (row_time != NULL && row_time[labelled->row[i]] > horizon)
            continue;
        block->source[block->n] = i;
        block->row[block->n] = labelled->row[i];
        block->time[block->n] = labelled->time[i];
        block->horizon[block->n] = horizon;
        block->label[block->n] = labelled->label[i];
        block->n++;
    }
    return block;
}

/* Predictions of a block, and more if wanted. */
static float *
score(moe_predictor *predictor, const moe_block *block, const bool *disabled, float *lower, float *upper)
{
    int width = predictor->info->task == MOE_MULTICLASS ? predictor->info->n_classes : 1;
    moe_mixture_answer answer = {
        .prediction = allocate(block->n, mul_size(sizeof(float), width)), .lower = lower, .upper = upper};

    if (block->n > 0)
        moe_predictor_score(predictor, block->n, block->row, block->time, block->horizon, disabled, &answer);
    return answer.prediction;
}

float *
moe_block_score(moe_predictor *predictor, const moe_block *block, const bool *disabled)
{
    return score(predictor, block, disabled, NULL, NULL);
}

float *
moe_block_score_range(moe_predictor *predictor, const moe_block *block, float **lower, float **upper)
{
    *lower = allocate(block->n, sizeof(float));
    *upper = allocate(block->n, sizeof(float));
    return score(predictor, block, NULL, *lower, *upper);
}

int64
moe_evaluate_cut(const moe_model_info *info, const moe_labelled *labelled)
{
    int64 cut = info->test_from;

    if (cut == DT_NOEND)
        for (int64 i = 0; i < labelled->n; i++)
            cut = Min(cut, labelled->time[i]);
    return cut;
}

typedef struct sample
{
    int32 row;
    int64 time;
    float label;
} sample;

static int
compare_samples(const void *a, const void *b)
{
    const sample *x = a, *y = b;

    if (x->time != y->time)
        return x->time < y->time ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

/* Collect one query's rows: of one split, or all (-1) but one. */
static void
collect(sample *samples, int64 *n, const moe_labelled *labelled, int only, int except)
{
    for (int64 i = 0; i < labelled->n; i++)
        if ((only < 0 || labelled->split[i] == only) && labelled->split[i] != except)
            samples[(*n)++] = (sample){labelled->row[i], labelled->time[i], labelled->label[i]};
}

/* In order of time, each seed once, as the baselines take them. */
static moe_samples
make_samples(sample *samples, int64 n)
{
    int64 distinct = 0;
    int32 *row = allocate(n, sizeof(int32));
    int64 *time = allocate(n, sizeof(int64));
    float *label = allocate(n, sizeof(float));

    qsort(samples, n, sizeof(sample), compare_samples);
    for (int64 i = 0; i < n; i++)
    {
        if (distinct > 0 && time[distinct - 1] == samples[i].time && row[distinct - 1] == samples[i].row)
            continue;
        row[distinct] = samples[i].row;
        time[distinct] = samples[i].time;
        label[distinct] = samples[i].label;
        distinct++;
    }
    return (moe_samples){.n = distinct, .row = row, .time = time, .label = label};
}

/* The index of a split's name, or -2, which no row has. */
static int
find_split(const moe_labelled *labelled, const char *name)
{
    for (int i = 0; i < labelled->n_splits; i++)
        if (strcmp(labelled->splits[i], name) == 0)
            return i;
    return -2;
}

/* What the baselines may know: the model's own rows (its test rows only when they are what is evaluated). */
static void
collect_known(moe_evaluation *evaluation, const moe_labelled *own, const moe_labelled *given)
{
    sample *samples = allocate(own->n + (given == own ? 0 : given->n), sizeof(sample));
    int64 n = 0;

    collect(samples, &n, own, find_split(own, "train"), -2);
    evaluation->training = make_samples(samples, n);
    n = 0;
    collect(samples, &n, own, -1, given == own ? -2 : find_split(own, "test"));
    if (given != own)
        collect(samples, &n, given, -1, -2);
    evaluation->known = make_samples(samples, n);
}

/* Emit one line: what a metric says of the model and of the two baselines; NaN is NULL. */
static void
emit(const moe_evaluation *evaluation, const char *split, const char *regime, const char *metric, int64 n,
     const double figures[3])
{
    Datum values[7];
    bool nulls[7] = {false};

    values[0] = CStringGetTextDatum(split);
    values[1] = CStringGetTextDatum(regime);
    values[2] = CStringGetTextDatum(metric);
    for (int i = 0; i < 3; i++)
    {
        values[3 + i] = Float8GetDatum(figures[i]);
        nulls[3 + i] = isnan(figures[i]);
    }
    values[6] = Int64GetDatum(n);
    tuplestore_putvalues(evaluation->result->setResult, evaluation->result->setDesc, values, nulls);
}

/* Emit one metric's line; the entity's own past may be unknowable (NULL). */
static void
emit_metric(const moe_evaluation *evaluation, const char *split, const char *regime, int metric, const moe_block *block,
            const float *const predictions[3])
{
    moe_task_type task = evaluation->info->task;
    double figures[3];

    for (int i = 0; i < 3; i++)
        figures[i] = predictions[i] == NULL ? NAN
                                            : moe_metric_value(evaluation->predictor->job, task, metric, predictions[i],
                                                               block->label, block->n, evaluation->width);
    for (int i = 0; i < 3; i++)
        figures[i] = moe_metric_rounded(task, metric, figures[i]);
    emit(evaluation, split, regime, moe_metric_name(task, metric), block->n, figures);
}

/* Emit the share of labels between lower and upper, where the model has such a range. */
static void
emit_coverage(const moe_evaluation *evaluation, const char *split, const char *regime, const moe_block *block,
              const float *lower, const float *upper)
{
    double figures[3] = {moe_number_share(moe_metric_coverage(lower, upper, block->label, block->n)), NAN, NAN};

    emit(evaluation, split, regime, "coverage", block->n, figures);
}

/* Evaluate one block and emit a line a metric. */
static void
evaluate_metrics(moe_evaluation *evaluation, const char *split, const char *regime, const moe_block *block)
{
    const moe_model_info *info = evaluation->info;
    moe_job *job = evaluation->predictor->job;
    moe_seeds seeds = {.table = 0, .n = block->n, .row = block->row, .time = block->time, .horizon = block->horizon};
    float *model, *constant, *lower = NULL, *upper = NULL, *entity = NULL;
    const float *predictions[3];

    if (info->task == MOE_REGRESSION)
        model = moe_block_score_range(evaluation->predictor, block, &lower, &upper);
    else
        model = moe_block_score(evaluation->predictor, block, NULL);
    constant = allocate(block->n, sizeof(float) * evaluation->width);
    moe_check(job,
              moe_baseline_constant(job, info->task, evaluation->width, &evaluation->training, block->n, constant));
    if (!info->is_static) /* a static column has no past */
    {
        entity = allocate(block->n, sizeof(float) * evaluation->width);
        moe_check(job, moe_baseline_entity(job, info->task, evaluation->width, &evaluation->training,
                                           &evaluation->known, Max(info->window, 1), &seeds, entity));
    }
    predictions[0] = model;
    predictions[1] = constant;
    predictions[2] = entity;
    for (int metric = 0; metric < moe_metric_count(info->task); metric++)
        emit_metric(evaluation, split, regime, metric, block, predictions);
    if (info->task == MOE_REGRESSION)
        emit_coverage(evaluation, split, regime, block, lower, upper);
}

static void
evaluate_block(moe_evaluation *evaluation, const char *split, const char *regime, const moe_block *block)
{
    if (block->n == 0)
        return;
    if (evaluation->budgets != NULL)
        moe_evaluate_each_budget(evaluation, split, regime, block);
    else
        evaluate_metrics(evaluation, split, regime, block);
}

/* Evaluate one split under its regimes. Returns the number of rows. */
static int64
evaluate_split(moe_evaluation *evaluation, const moe_labelled *labelled, int split, int64 cut)
{
    moe_block *rolling = moe_block_make(evaluation->predictor, labelled, split, DT_NOEND);
    moe_block *frozen = moe_block_make(evaluation->predictor, labelled, split, cut);

    evaluate_block(evaluation, labelled->splits[split], frozen->frozen ? "rolling" : "both", rolling);
    if (frozen->frozen)
        evaluate_block(evaluation, labelled->splits[split], "frozen", frozen);
    return rolling->n;
}

/* Evaluate every split that was asked for, in a fixed order. */
static void
evaluate_rows(moe_evaluation *evaluation, const moe_labelled *own, const moe_labelled *given)
{
    int64 cut = moe_evaluate_cut(evaluation->info, given);
    int64 rows = 0;

    if (given == own)
    {
        static const char *const splits[] = {"validation", "test"};

        for (int i = 0; i < lengthof(splits); i++)
        {
            int split = find_split(own, splits[i]);

            if (split >= 0)
                rows += evaluate_split(evaluation, own, split, cut);
        }
    }
    else
        for (int split = 0; split < given->n_splits; split++)
            rows += evaluate_split(evaluation, given, split, cut);
    if (rows > 0)
        return;
    if (given == own)
        ereport(ERROR, (errcode(ERRCODE_NO_DATA_FOUND),
                        errmsg("model \"%s\" has no validation or test rows today",
                               get_rel_name(evaluation->info->foreign_table)),
                        errhint("Give a query of key, as_of and label as the second argument.")));
    ereport(ERROR, (errcode(ERRCODE_NO_DATA_FOUND), errmsg("the query gives no row that can be evaluated"),
                    errhint("Its keys must exist, be visible at their as_of, and have a label.")));
}

/* Evaluate a model on its own rows, or on those of a query. */
static void
evaluate(moe_evaluation *evaluation, const text *query)
{
    moe_labelled *own, *given;
    moe_past_labels past;

    own = moe_labelled_read(evaluation->predictor, evaluation->info->training_query, MOE_LABELLED_OWN, "train");
    given = own;
    if (query != NULL)
    {
        given = moe_labelled_read(evaluation->predictor, text_to_cstring(query), MOE_LABELLED_GIVEN, "query");
        moe_labelled_report(given);
    }
    collect_known(evaluation, own, given);
    past =
        (moe_past_labels){evaluation->known.n, evaluation->known.row, evaluation->known.time, evaluation->known.label};
    moe_predictor_tell(evaluation->predictor, &past);
    evaluate_rows(evaluation, own, given);
    moe_predictor_tell(evaluation->predictor, &(moe_past_labels){0}); /* it may be asked again in this statement */
}

/* The model (first argument) is opened, and the result. */
static void
begin(FunctionCallInfo fcinfo, moe_evaluation *evaluation)
{
    InitMaterializedSRF(fcinfo, 0);
    evaluation->result = (ReturnSetInfo *) fcinfo->resultinfo;
    evaluation->predictor = moe_predictor_open(moe_model_lookup(PG_GETARG_TEXT_PP(0)));
    moe_predictor_hold(evaluation->predictor, CurrentMemoryContext);
    evaluation->info = evaluation->predictor->info;
    evaluation->width = evaluation->info->task == MOE_MULTICLASS ? evaluation->info->n_classes : 1;
}

Datum
moe_evaluate(PG_FUNCTION_ARGS)
{
    moe_evaluation evaluation = {0};

    begin(fcinfo, &evaluation);
    evaluate(&evaluation, PG_NARGS() > 1 ? PG_GETARG_TEXT_PP(1) : NULL);
    return (Datum) 0;
}

Datum
moe_evaluate_budgets(PG_FUNCTION_ARGS)
{
    moe_evaluation evaluation = {0};
    int last = PG_NARGS() - 1;

    begin(fcinfo, &evaluation);
    evaluation.budgets = moe_budgets_parse(&evaluation, PG_GETARG_ARRAYTYPE_P(last));
    evaluate(&evaluation, last > 1 ? PG_GETARG_TEXT_PP(1) : NULL);
    return (Datum) 0;
}
