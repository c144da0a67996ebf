/*
 * report.h: what the sections of a report share.
 *
 * report.c           the page, its opening, and rows of SQL
 * report_metrics.c   metrics beside baselines
 * report_outcome.c   what predictions came to: curves, calibration, errors
 * report_confusion.c which classes are told for which
 * report_parts.c     learning curves, experts, importance
 * report_graph.c     tables and foreign keys
 * report_chart.c, report_text.c   what they draw and write with: report_page.h
 */
#ifndef MOE_REPORT_H
#define MOE_REPORT_H

#include "postgres.h"

#include "extension/evaluate.h"
#include "extension/report_page.h"

typedef struct moe_report
{
    moe_predictor *predictor;
    const moe_model_info *info;
    char *model; /* its name with the schema, as SQL */
    StringInfo out;
    moe_labelled *labelled; /* the model's own rows */
    moe_block *held_out;    /* what charts are of: test rows, or else validation rows; NULL: none */
    int64 held_out_all;     /* of which held_out is a sample */
    const char *split;      /* their name */
    moe_block *validation;  /* NULL: none */
    int *settings;          /* the level of settings while rows are read */
} moe_report;

/*
 * Run a query of ours as the caller; $1: the model's oid, $2: its name. Then moe_report_text and moe_report_number
 * read its rows (NULL and NaN where a value is NULL) until moe_report_end. Returns their number.
 */
int moe_report_select(const moe_report *report, const char *sql);
char *moe_report_text(int row, int column);
double moe_report_number(int row, int column);
void moe_report_end(const moe_report *report);

/* Evenly spaced rows of a block, at most n; palloc'd. */
moe_block *moe_report_sample(const moe_block *block, int64 n);

/* Which classes were told for which; told [held_out->n] */
void moe_report_confusion(const moe_report *report, const int *told);

/* Each writes its sections. */
void moe_report_metrics(const moe_report *report);
void moe_report_outcome(const moe_report *report);
void moe_report_learning(const moe_report *report);
void moe_report_experts(const moe_report *report);
void moe_report_importance(const moe_report *report);
void moe_report_graph(const moe_report *report);

#endif
