/*
 * subject.h: what inputs are about, for people: a column of a table, its rows as such, past labels, the calendar.
 */
#ifndef MOE_SUBJECT_H
#define MOE_SUBJECT_H

#include "postgres.h"

#include "extension/model_inputs.h"
#include "extension/model.h"

typedef struct moe_subject
{
    int table;  /* -1: none */
    int source; /* a column of it; -1: how many rows there are, and when; else one of those that are no column */
} moe_subject;

/* What one column of the inputs before normalisation is about. */
moe_subject moe_subject_of(const moe_inputs *inputs, int column);
bool moe_subject_same(const moe_subject *a, const moe_subject *b);
/*
 * What the model looks at, each subject once, palloc'd: what its inputs before normalisation are about, in order of
 * appearance, then, with graph, which the model must have, what its graph expert sees besides.
 */
int moe_subjects(const moe_predictor *predictor, bool graph, moe_subject **subjects);
/*
 * Hide one subject from now on, as if inputs about it were NULL, and to the graph expert the column; NULL: none. What
 * is kept for it lives in the current context: hide none before that goes.
 */
void moe_subject_hide(moe_predictor *predictor, const moe_subject *subject);
/* "orders.amount", "rows of orders", "past labels", "calendar", as this session would write it. */
char *moe_subject_name(const moe_predictor *predictor, const moe_subject *subject);
/* The name of a table as this session would write it. */
char *moe_subject_table(const moe_schema *schema, int table);

#endif
