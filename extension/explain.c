/*
 * explain.c: which tables, columns, rows and experts a prediction, or a model, rests on.
 *
 * Of one prediction, contributions that sum to what it differs by from a
 * prediction that knows nothing (attribution.c). Of a model, leave one out: what
 * its metric loses with one table hidden, as if it had no rows; what two tables
 * say alike is missed by neither.
 */
#include "postgres.h"

#include <math.h>

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "extension/attribution.h"
#include "extension/evaluate.h"
#include "extension/model_inputs.h"
#include "extension/moe_ml.h"
#include "extension/number.h"
#include "extension/predict.h"
#include "extension/row_name.h"
#include "extension/subject.h"

#define MAX_ROWS    2000 /* validation rows that importance looks at */
#define MAX_COLUMNS 10   /* told by explain: those that contribute most */
#define ROWS_ALONE  50   /* of a table at least, if that many are near, whether they are told or not */
#define MAX_TOP     1000

MOE_FUNCTION(moe_explain);
MOE_FUNCTION(moe_explain_text);
MOE_FUNCTION(moe_importance);

typedef struct contribution
{
    int table;  /* -1: none */
    int source; /* a column of it; -1: how many rows there are, and when */
    double without, difference;
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

/* What stands at one line, NAN and NULL where there is nothing to say. */
typedef struct line
{
    const char *part;
    const char *name;
    int64 rows; /* -1: none */
    double prediction, contribution, share;
} line;

enum
{
    PART,
    NAME,
    ROWS,
    PREDICTION,
    CONTRIBUTION,
    SHARE,
    EXPLAIN_COLUMNS
};

static void
emit(ReturnSetInfo *result, const line *line)
{
    Datum values[EXPLAIN_COLUMNS];
    bool nulls[EXPLAIN_COLUMNS] = {
        [NAME] = line->name == NULL,
        [ROWS] = line->rows < 0,
        [PREDICTION] = isnan(line->prediction),
        [CONTRIBUTION] = isnan(line->contribution),
        [SHARE] = isnan(line->share),
    };

    values[PART] = CStringGetTextDatum(line->part);
    values[NAME] = line->name == NULL ? (Datum) 0 : CStringGetTextDatum(line->name);
    values[ROWS] = Int64GetDatum(line->rows);
    values[PREDICTION] = moe_number_datum((float) line->prediction);
    values[CONTRIBUTION] = moe_number_datum((float) line->contribution);
    values[SHARE] = Float8GetDatum(moe_number_share(line->share));
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* To a millionth of 1, of classes, or of the number's own order of magnitude: more digits would tell nothing. */
static double
tidy(const moe_seed *seed, const moe_attribution *of, double contribution)
{
    double size = Max(fabs(of->prediction), fabs(of->base));
    double unit = 1e-6;

    if (seed->predictor->info->task == MOE_REGRESSION && size > 0)
        unit = pow(10, floor(log10(size)) - 6);
    return unit > 0 ? rint(contribution / unit) * unit + 0.0 : contribution;
}

/* The prediction, and what the model says knowing nothing. */
static void
emit_whole(ReturnSetInfo *result, const moe_seed *seed, const moe_attribution *of)
{
    line all = {"all", NULL, 0, of->prediction, NAN, NAN};
    line base = {"base", NULL, -1, of->base, NAN, NAN};

    all.name = moe_subject_table(seed->predictor->schema, 0);
    all.rows = moe_graph_visible_rows(&seed->predictor->data->graph_tables[0], seed->time);
    emit(result, &all);
    emit(result, &base);
}

/* Tables, largest contribution first, and what has no table among them. */
static void
emit_tables(ReturnSetInfo *result, const moe_seed *seed, const moe_attribution *of)
{
    const moe_predictor *predictor = seed->predictor;
    int n = predictor->schema->n_tables;
    contribution *items = palloc0_array(contribution, n + of->n_subjects);

    for (int t = 0; t < n; t++)
        items[t] = (contribution){.table = t, .source = -1};
    for (int i = 0; i < of->n_subjects; i++)
    {
        const moe_attributed *one = &of->subjects[i];
        int at = one->subject.table >= 0 ? one->subject.table : n++;

        items[at].table = one->subject.table;
        items[at].source = one->subject.table >= 0 ? -1 : one->subject.source;
        items[at].difference += one->contribution;
    }
    qsort(items, n, sizeof(contribution), compare_size);
    for (int i = 0; i < n; i++)
    {
        moe_subject subject = {items[i].table, items[i].source};
        line line = {"table", NULL, -1, NAN, tidy(seed, of, items[i].difference), NAN};

        line.name = subject.table >= 0 ? moe_subject_table(predictor->schema, subject.table)
                                       : moe_subject_name(predictor, &subject);
        if (subject.table >= 0)
            line.rows = moe_graph_visible_rows(&predictor->data->graph_tables[subject.table], seed->time);
        emit(result, &line);
    }
}

/* The columns that contribute most, and all others together. */
static void
emit_columns(ReturnSetInfo *result, const moe_seed *seed, const moe_attribution *of)
{
    contribution *items = palloc0_array(contribution, of->n_subjects + 1);
    double rest = 0;
    int n_rest = 0;

    for (int i = 0; i < of->n_subjects; i++)
        items[i] = (contribution){.table = of->subjects[i].subject.table,
                                  .source = of->subjects[i].subject.source,
                                  .difference = of->subjects[i].contribution};
    qsort(items, of->n_subjects, sizeof(contribution), compare_size);
    for (int i = 0; i < of->n_subjects; i++)
    {
        moe_subject subject = {items[i].table, items[i].source};
        line line = {"column", NULL, -1, NAN, tidy(seed, of, items[i].difference), NAN};

        if (i < MAX_COLUMNS && line.contribution != 0)
        {
            line.name = moe_subject_name(seed->predictor, &subject);
            emit(result, &line);
            continue;
        }
        rest += items[i].difference;
        n_rest += items[i].difference != 0;
    }
    if (n_rest > 0)
    {
        line line = {"column", NULL, -1, NAN, tidy(seed, of, rest), NAN};

        line.name = psprintf("%d %s", n_rest, n_rest == 1 ? "other" : "others");
        emit(result, &line);
    }
}

/* Largest first; ties by table and row. */
static int
compare_rows(const void *a, const void *b)
{
    const moe_attributed_rows *x = a, *y = b;

    if (fabs(x->contribution) != fabs(y->contribution))
        return fabs(x->contribution) > fabs(y->contribution) ? -1 : 1;
    return x->table != y->table ? x->table - y->table : x->row - y->row;
}

/* Lines of one part, to be emitted largest first. */
typedef struct lines
{
    int n;
    line *line;
} lines;

static void
add_row_line(lines *lines, const moe_seed *seed, const moe_attribution *of, char *name, int64 rows, double contribution)
{
    lines->line[lines->n++] = (line){"row", name, rows, NAN, tidy(seed, of, contribution), NAN};
}

/* Largest first; equal ones stay in the order in which their names sort. */
static int
compare_lines(const void *a, const void *b)
{
    const line *x = a, *y = b;

    if (fabs(x->contribution) != fabs(y->contribution))
        return fabs(x->contribution) > fabs(y->contribution) ? -1 : 1;
    return strcmp(x->name, y->name);
}

static void
emit_lines(ReturnSetInfo *result, lines *lines)
{
    qsort(lines->line, lines->n, sizeof(line), compare_lines);
    for (int i = 0; i < lines->n; i++)
        emit(result, &lines->line[i]);
    lines->n = 0;
}

/* Is it the row that is predicted for? It is always told. */
static bool
is_seed(const moe_seed *seed, const moe_attributed_rows *rows)
{
    return rows->table == 0 && rows->row == seed->row;
}

/* What is left of each table's rows: all that were not told one by one, and that there are none. */
static void
add_other_rows(lines *lines, const moe_seed *seed, const moe_attribution *of, const moe_attributed_rows *others,
               const moe_attributed_rows *none)
{
    const moe_schema *schema = seed->predictor->schema;

    for (int t = 0; t < schema->n_tables; t++)
    {
        char *table = moe_subject_table(schema, t);

        if (others[t].n > 0)
            add_row_line(
                lines, seed, of,
                psprintf(INT64_FORMAT " other %s of %s", others[t].n, others[t].n == 1 ? "row" : "rows", table),
                others[t].n, others[t].contribution);
        if (tidy(seed, of, none[t].contribution) != 0)
            add_row_line(lines, seed, of, psprintf("no rows of %s", table), 0, none[t].contribution);
    }
}

/* The rows that contribute most; then the others of each table together, the seed's own, and what has no table. */
static void
emit_rows(ReturnSetInfo *result, const moe_seed *seed, const moe_attribution *of, int top)
{
    int n_tables = seed->predictor->schema->n_tables;
    moe_attributed_rows *others = palloc0_array(moe_attributed_rows, n_tables);
    moe_attributed_rows *none = palloc0_array(moe_attributed_rows, n_tables);
    lines lines = {0, palloc_array(line, of->n_rows + 2 * n_tables + of->n_subjects)};
    int told = 0;

    qsort(of->rows, of->n_rows, sizeof(moe_attributed_rows), compare_rows);
    for (; told < of->n_rows && lines.n < top && tidy(seed, of, of->rows[told].contribution) != 0; told++)
        if (of->rows[told].row >= 0)
            add_row_line(&lines, seed, of, moe_row_name(seed->predictor, of->rows[told].table, of->rows[told].row), 1,
                         of->rows[told].contribution);
    emit_lines(result, &lines);
    for (int i = 0; i < of->n_rows; i++)
    {
        const moe_attributed_rows *rows = &of->rows[i];
        moe_attributed_rows *rest = rows->n > 0 ? &others[rows->table] : &none[rows->table];

        if (rows->row >= 0 && i < told)
            continue;
        if (is_seed(seed, rows))
        {
            add_row_line(&lines, seed, of, moe_row_name(seed->predictor, 0, seed->row), 1, rows->contribution);
            continue;
        }
        rest->n += rows->n;
        rest->contribution += rows->contribution;
    }
    add_other_rows(&lines, seed, of, others, none);
    for (int i = 0; i < of->n_subjects; i++)
        if (of->subjects[i].subject.table < 0 && tidy(seed, of, of->subjects[i].contribution) != 0)
            add_row_line(&lines, seed, of, moe_subject_name(seed->predictor, &of->subjects[i].subject), -1,
                         of->subjects[i].contribution);
    emit_lines(result, &lines);
}

/* The experts, and of probabilities what calibration adds to their mean. */
static void
emit_experts(ReturnSetInfo *result, const moe_seed *seed, const moe_attribution *of)
{
    const moe_model_info *info = seed->predictor->info;

    for (int e = 0; e < info->experts; e++)
    {
        line line = {"expert", NULL, -1, of->said[e], tidy(seed, of, of->expert[e]), of->gate[e]};

        line.name = moe_expert_name(moe_mixture_kind(seed->predictor->mixture, e));
        emit(result, &line);
    }
    if (info->task != MOE_REGRESSION)
    {
        line line = {"expert", "calibration", -1, NAN, tidy(seed, of, of->calibration), NAN};

        emit(result, &line);
    }
}

/* The rows that are wanted one by one, at most. */
static int
top_rows(FunctionCallInfo fcinfo)
{
    int top = PG_GETARG_INT32(3);

    if (top < 0 || top > MAX_TOP)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("top_rows must lie between 0 and %d", MAX_TOP),
                        errhint("0 leaves rows out.")));
    return top;
}

static Datum
explain(FunctionCallInfo fcinfo, bool as_text)
{
    moe_seed seed;
    int top;
    moe_attribution attribution;
    ReturnSetInfo *result;

    InitMaterializedSRF(fcinfo, 0);
    result = (ReturnSetInfo *) fcinfo->resultinfo;
    if (PG_ARGISNULL(3))
        return (Datum) 0;
    top = top_rows(fcinfo);
    if (!moe_predict_seed(fcinfo, as_text, &seed))
        return (Datum) 0;
    moe_attribute(&seed, top == 0 ? 0 : Max(top, ROWS_ALONE), &attribution);
    emit_whole(result, &seed, &attribution);
    emit_tables(result, &seed, &attribution);
    emit_columns(result, &seed, &attribution);
    if (top > 0)
        emit_rows(result, &seed, &attribution, top);
    emit_experts(result, &seed, &attribution);
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
        items[i].without = metric_without(predictor, block, i + 1);
        items[i].difference = lower_is_better ? items[i].without - with : with - items[i].without;
    }
    qsort(items, n, sizeof(contribution), compare_drop);
    for (int i = 0; i < n; i++)
    {
        double shown = moe_metric_rounded(predictor->info->task, 0, with);
        double without = moe_metric_rounded(predictor->info->task, 0, items[i].without);
        double drop = lower_is_better ? without - shown : shown - without;
        Datum values[5];
        bool nulls[5] = {false, false, isnan(with), isnan(without), isnan(drop)};

        values[0] = CStringGetTextDatum(moe_subject_table(predictor->schema, items[i].table));
        values[1] = CStringGetTextDatum(moe_metric_name(predictor->info->task, 0));
        values[2] = Float8GetDatum(shown);
        values[3] = Float8GetDatum(without);
        values[4] = Float8GetDatum(moe_number_digits(drop, 5));
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    return (Datum) 0;
}
