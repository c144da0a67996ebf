/*
 * subject.c: what inputs are about, for people.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "utils/builtins.h"

#include "extension/subject.h"

enum
{
    PAST_LABELS = -2,
    CALENDAR = -3
};

moe_subject
moe_subject_of(const moe_inputs *inputs, int column)
{
    moe_subject subject = {moe_inputs_column_table(inputs, column), moe_inputs_column_source(inputs, column)};

    if (subject.table < 0)
        subject.source = moe_inputs_is_history(inputs, column) ? PAST_LABELS : CALENDAR;
    return subject;
}

bool
moe_subject_same(const moe_subject *a, const moe_subject *b)
{
    return a->table == b->table && a->source == b->source;
}

int
moe_subjects(const moe_predictor *predictor, moe_subject **subjects)
{
    int columns = moe_inputs_columns(predictor->inputs);
    moe_subject *found = palloc_array(moe_subject, columns + 1);
    int n = 0;

    for (int c = 0; c < columns; c++)
    {
        moe_subject subject = moe_subject_of(predictor->inputs, c);
        int i = 0;

        while (i < n && !moe_subject_same(&found[i], &subject))
            i++;
        if (i == n)
            found[n++] = subject;
    }
    *subjects = found;
    return n;
}

void
moe_subject_hide(moe_predictor *predictor, const moe_subject *subject, bool *mask)
{
    for (int c = 0; subject != NULL && c < moe_inputs_columns(predictor->inputs); c++)
    {
        moe_subject of = moe_subject_of(predictor->inputs, c);

        mask[c] = moe_subject_same(&of, subject);
    }
    moe_inputs_mask(predictor->inputs, subject == NULL ? NULL : mask);
}

char *
moe_subject_table(const moe_schema *schema, int table)
{
    const moe_schema_table *t = &schema->tables[table];

    return RelationIsVisible(t->relid) ? pstrdup(quote_identifier(t->name))
                                       : quote_qualified_identifier(t->schema, t->name);
}

char *
moe_subject_name(const moe_predictor *predictor, const moe_subject *subject)
{
    char *table;

    if (subject->table < 0)
        return pstrdup(subject->source == PAST_LABELS ? "past labels" : "calendar");
    table = moe_subject_table(predictor->schema, subject->table);
    if (subject->source < 0)
        return psprintf("rows of %s", table);
    return psprintf("%s.%s", table,
                    quote_identifier(predictor->data->tables[subject->table].columns[subject->source].name));
}
