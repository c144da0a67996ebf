/*
 * subject.c: what inputs are about, for people.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "utils/builtins.h"

#include "extension/model_predictor_internal.h"
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

/* Subjects found so far. */
typedef struct found
{
    moe_subject *subjects;
    int n, most;
} found;

static void
add_subject(found *found, moe_subject subject)
{
    for (int i = 0; i < found->n; i++)
        if (moe_subject_same(&found->subjects[i], &subject))
            return;
    if (found->n == found->most)
    {
        found->most *= 2;
        found->subjects = repalloc(found->subjects, sizeof(moe_subject) * found->most);
    }
    found->subjects[found->n++] = subject;
}

int
moe_subjects(const moe_predictor *predictor, bool graph, moe_subject **subjects)
{
    const moe_data *data = predictor->data;
    found found = {palloc_array(moe_subject, 32), 0, 32};

    for (int c = 0; c < moe_inputs_columns(predictor->inputs); c++)
        add_subject(&found, moe_subject_of(predictor->inputs, c));
    for (int t = 0; graph && t < data->n_tables; t++)
    {
        if (t > 0)
            add_subject(&found, (moe_subject){t, -1});
        for (int c = 0; c < data->tables[t].n_columns; c++)
            if (moe_features_uses(predictor->parts->features, t, c))
                add_subject(&found, (moe_subject){t, c});
    }
    *subjects = found.subjects;
    return found.n;
}

/* Columns of tables as moe_features_hide takes them, one of them hidden. */
static const bool *const *
hide_column(const moe_data *data, const moe_subject *subject)
{
    const bool **hidden = palloc0_array(const bool *, data->n_tables);
    bool *columns = palloc0_array(bool, data->tables[subject->table].n_columns);

    columns[subject->source] = true;
    hidden[subject->table] = columns;
    return hidden;
}

void
moe_subject_hide(moe_predictor *predictor, const moe_subject *subject)
{
    int n = moe_inputs_columns(predictor->inputs);
    bool *mask = subject == NULL ? NULL : palloc0_array(bool, n + 1);
    bool column = subject != NULL && subject->table >= 0 && subject->source >= 0;

    for (int c = 0; subject != NULL && c < n; c++)
    {
        moe_subject of = moe_subject_of(predictor->inputs, c);

        mask[c] = moe_subject_same(&of, subject);
    }
    moe_inputs_mask(predictor->inputs, mask);
    if (predictor->parts->n_members > 0)
        moe_features_hide(predictor->parts->features, column ? hide_column(predictor->data, subject) : NULL);
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
