/*
 * report.c: a model as one page for people: what it predicts, how well, and by what.
 *
 * The page needs nothing but itself: markup that is HTML and XML, one style
 * sheet, charts as SVG, no script. Figures come from the functions and views
 * that have them, run as the caller, or from the predictor that those share;
 * nothing of the moment is written, so that the same model and data give the
 * same page.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "extension/moe_ml.h"
#include "extension/report.h"

#define CHART_ROWS 20000 /* that charts are made of at most */

MOE_FUNCTION(moe_report_page);

/* Look names up in one schema until AtEOXact_GUC of what it returns. Predictors are kept whatever the path is. */
static int
pin_path(const char *schema)
{
    int level = NewGUCNestLevel();

    set_config_option("search_path", schema, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
    return level;
}

int
moe_report_select(const moe_report *report, const char *sql)
{
    Oid types[] = {OIDOID, TEXTOID};
    Datum values[] = {ObjectIdGetDatum(report->info->foreign_table), CStringGetTextDatum(report->model)};
    int code;

    CHECK_FOR_INTERRUPTS();
    *report->settings = pin_path("pg_catalog, pg_temp");
    SPI_connect();
    code = SPI_execute_with_args(sql, lengthof(types), types, values, NULL, true, 0);
    if (code != SPI_OK_SELECT)
        elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(code));
    return (int) SPI_processed;
}

char *
moe_report_text(int row, int column)
{
    return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

double
moe_report_number(int row, int column)
{
    bool null;
    Datum value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &null);

    return null ? get_float8_nan() : DatumGetFloat8(value);
}

void
moe_report_end(const moe_report *report)
{
    SPI_finish();
    AtEOXact_GUC(true, *report->settings);
}

moe_block *
moe_report_sample(const moe_block *block, int64 n)
{
    moe_block *sample = palloc0(sizeof(moe_block));

    sample->n = Min(block->n, n);
    sample->row = palloc_array(int32, sample->n + 1);
    sample->time = palloc_array(int64, sample->n + 1);
    sample->horizon = palloc_array(int64, sample->n + 1);
    sample->label = palloc_array(float, sample->n + 1);
    for (int64 i = 0; i < sample->n; i++)
    {
        int64 from = i * block->n / sample->n;

        sample->row[i] = block->row[from];
        sample->time[i] = block->time[from];
        sample->horizon[i] = block->horizon[from];
        sample->label[i] = block->label[from];
    }
    return sample;
}

/* The rows of a split as seen at their own times, or NULL. */
static moe_block *
find_block(const moe_report *report, const char *split)
{
    moe_block *block = NULL;

    for (int i = 0; i < report->labelled->n_splits; i++)
        if (strcmp(report->labelled->splits[i], split) == 0)
            block = moe_block_make(report->predictor, report->labelled, i, DT_NOEND);
    return block == NULL || block->n == 0 ? NULL : block;
}

/* Read the model's own rows and choose those that charts are of. */
static void
choose_rows(moe_report *report)
{
    moe_block *test;

    report->labelled = moe_labelled_read(report->predictor, report->info->training_query, MOE_LABELLED_OWN, "train");
    report->validation = find_block(report, "validation");
    test = find_block(report, "test");
    report->split = test != NULL ? "test" : "validation";
    report->held_out = test != NULL ? test : report->validation;
    if (report->held_out == NULL)
        return;
    report->held_out_all = report->held_out->n;
    report->held_out = moe_report_sample(report->held_out, CHART_ROWS);
}

static void
begin_fact(StringInfo out, const char *name)
{
    appendStringInfo(out, "<div><dt>%s</dt><dd>", name);
}

static void
end_fact(StringInfo out)
{
    appendStringInfoString(out, "</dd></div>\n");
}

static void
put_fact(StringInfo out, const char *name, const char *value)
{
    if (value == NULL)
        return;
    begin_fact(out, name);
    moe_html_text(out, value);
    end_fact(out);
}

/* What a prediction is, in a sentence. */
static void
put_lead(const moe_report *report, const char *entity)
{
    const moe_model_info *info = report->info;
    StringInfo out = report->out;

    appendStringInfoString(out, "<p class=\"lead\">Predicts ");
    if (info->task == MOE_BINARY)
        appendStringInfoString(out, "the probability that the target holds");
    else if (info->task == MOE_REGRESSION)
        appendStringInfoString(out, "a number");
    else
        appendStringInfo(out, "one of %d classes", info->n_classes);
    appendStringInfoString(out, " for each row of <strong>");
    moe_html_text(out, entity);
    appendStringInfoString(out, "</strong>");
    if (info->is_static)
        appendStringInfoString(out, ", where it is not known");
    else if (info->history_query != NULL && info->window > 0)
    {
        appendStringInfoString(out, ", about the ");
        moe_html_span(out, info->window);
        appendStringInfoString(out, " after the moment of prediction");
    }
    appendStringInfoString(out, ".</p>\n");
}

/* The columns of the query behind the opening. */
enum
{
    ENTITY = 1,
    DEFINITION,
    TASK,
    TRAINED,
    VALIDATION_FROM,
    TEST_FROM,
    TRAIN_ROWS,
    VALIDATION_ROWS,
    TEST_ROWS,
    TRAIN_SECONDS,
    DEVICE,
    PARAMETERS
};

static const char *const opening_sql =
    "SELECT entity, definition, task, to_char(trained_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') || ' UTC',"
    " CASE WHEN isfinite(validation_from) THEN to_char(validation_from, 'YYYY-MM-DD HH24:MI') END,"
    " CASE WHEN isfinite(test_from) THEN to_char(test_from, 'YYYY-MM-DD HH24:MI') END,"
    " train_rows::float8, validation_rows::float8, test_rows::float8, train_seconds, device, parameters::float8"
    " FROM moe_ml.model_relations WHERE relation = $1";

static void
put_split(const moe_report *report, const char *name, int rows, const char *from)
{
    begin_fact(report->out, name);
    moe_html_count(report->out, (int64) moe_report_number(0, rows));
    if (from != NULL)
    {
        appendStringInfoString(report->out, ", from ");
        moe_html_text(report->out, from);
    }
    end_fact(report->out);
}

static void
put_facts(const moe_report *report)
{
    StringInfo out = report->out;

    appendStringInfoString(out, "<dl class=\"facts\">\n");
    put_fact(out, "Task", moe_report_text(0, TASK));
    put_fact(out, "Trained", moe_report_text(0, TRAINED));
    begin_fact(out, "Training took");
    appendStringInfo(out, "%.1f s on ", moe_report_number(0, TRAIN_SECONDS));
    moe_html_text(out, moe_report_text(0, DEVICE));
    end_fact(out);
    begin_fact(out, "Label window");
    if (report->info->window > 0)
        moe_html_span(out, report->info->window);
    else
        appendStringInfoString(out, "none");
    end_fact(out);
    put_split(report, "Training rows", TRAIN_ROWS, NULL);
    put_split(report, "Validation rows", VALIDATION_ROWS, moe_report_text(0, VALIDATION_FROM));
    put_split(report, "Test rows", TEST_ROWS, moe_report_text(0, TEST_FROM));
    begin_fact(out, "Size");
    appendStringInfo(out, "%d expert%s, ", report->info->experts, report->info->experts == 1 ? "" : "s");
    moe_html_count(out, (int64) moe_report_number(0, PARAMETERS));
    appendStringInfoString(out, " trained numbers");
    end_fact(out);
    appendStringInfoString(out, "</dl>\n");
}

/* The head of the page and what the model is. */
static void
put_opening(const moe_report *report)
{
    StringInfo out = report->out;
    const char *name = get_rel_name(report->info->foreign_table);

    appendStringInfoString(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
                                "<meta http-equiv=\"Content-Security-Policy\" "
                                "content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n"
                                "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>");
    moe_html_text(out, name);
    appendStringInfo(out, "</title>\n<style>\n%s</style>\n</head>\n<body>\n<main>\n<h1>", moe_html_style);
    moe_html_text(out, name);
    appendStringInfoString(out, "</h1>\n");
    if (moe_report_select(report, opening_sql) != 1)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("model \"%s\" is gone", name)));
    put_lead(report, moe_report_text(0, ENTITY));
    moe_html_section(out, "What is predicted");
    appendStringInfoString(out, "<pre>");
    moe_html_text(out, moe_report_text(0, DEFINITION));
    appendStringInfoString(out, "</pre>\n");
    put_facts(report);
    moe_html_section_end(out);
    moe_report_end(report);
}

static void
put_page(const moe_report *report)
{
    put_opening(report);
    moe_report_metrics(report);
    moe_report_outcome(report);
    moe_report_learning(report);
    moe_report_experts(report);
    moe_report_importance(report);
    moe_report_graph(report);
    appendStringInfoString(report->out, "</main>\n</body>\n</html>\n");
}

Datum
moe_report_page(PG_FUNCTION_ARGS)
{
    Oid relid = moe_model_lookup(PG_GETARG_TEXT_PP(0));
    char *schema = get_namespace_name(get_rel_namespace(relid));
    StringInfoData out;
    int level, settings;
    moe_report report = {.out = &out, .settings = &settings};

    initStringInfo(&out);
    report.model = quote_qualified_identifier(schema, get_rel_name(relid));
    report.predictor = moe_predictor_open(relid);
    moe_predictor_hold(report.predictor, CurrentMemoryContext);
    report.info = report.predictor->info;
    level = pin_path(quote_identifier(report.predictor->schema->tables[0].schema));
    choose_rows(&report);
    put_page(&report);
    AtEOXact_GUC(true, level);
    PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}
