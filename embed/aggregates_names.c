/*
 * aggregates_names.c: what columns are called, for people: "mean of results.points over 360 days".
 *
 * Every name is made of those of tables, columns and codes; of a key, where
 * two lead from one table to the same other one. Names of different columns
 * differ if those of tables do.
 */
#include "embed/aggregates_plan.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define CODE_BYTES 40 /* of a code that are shown */
#define HOUR       INT64_C(3600000000)

typedef struct text
{
    int length;
    char bytes[1536];
} text;

__attribute__((format(printf, 2, 3))) static void
add(text *t, const char *format, ...)
{
    int room = (int) sizeof(t->bytes) - t->length;
    int length;
    va_list args;

    va_start(args, format);
    length = vsnprintf(t->bytes + t->length, (size_t) room, format, args);
    va_end(args);
    t->length += length < 0 ? 0 : length < room ? length : room - 1;
}

/* " (by key)" where the tables alone do not say which. */
static void
add_key(text *t, const moe_aggregates *a, int key)
{
    int same = 0;

    for (int k = 0; k < a->n_keys; k++)
        same += a->keys[k].child == a->keys[key].child && a->keys[k].parent == a->keys[key].parent;
    if (same < 2)
        return;
    if (a->keys[key].name[0])
        add(t, " (by %s)", a->keys[key].name);
    else
        add(t, " (by key %d)", key + 1);
}

/* The first bytes of a text, cut between characters. */
static void
add_excerpt(text *t, const char *bytes, int64_t length)
{
    int n = length < CODE_BYTES ? (int) length : CODE_BYTES;

    while (n < length && n > 0 && ((unsigned char) bytes[n] & 0xc0) == 0x80)
        n--;
    add(t, "'%.*s%s'", n, bytes, n < length ? "..." : "");
}

static void
add_code(text *t, const moe_dictionary *codes, int code)
{
    if (codes->number)
        add(t, " = %.15g", codes->number[code]);
    else
    {
        add(t, " = ");
        add_excerpt(t, codes->bytes + codes->offset[code], codes->offset[code + 1] - codes->offset[code]);
    }
}

static void
add_value(text *t, const moe_agg_table *table, const moe_agg_value *value)
{
    const moe_agg_field *field = &table->fields[value->field];

    if (value->kind == MOE_AGG_MISSING)
        add(t, "NULL in ");
    else if (value->kind == MOE_AGG_DAYS)
        add(t, "days to ");
    else if (value->kind == MOE_AGG_DATE)
        add(t, "days since ");
    add(t, "%s.%s", table->name, field->name);
    if (value->kind == MOE_AGG_CODE)
        add_code(t, &field->codes, value->code);
}

/* What a stream's events are, beside the table or value: its keys. */
static void
add_way(text *t, const moe_aggregates *a, const moe_agg_stream *stream)
{
    if (stream->below >= 0)
    {
        add_key(t, a, stream->below);
        add(t, " through %s", a->tables[a->keys[stream->key].child].name);
    }
    add_key(t, a, stream->key);
}

static void
add_siblings_of(text *t, const moe_aggregates *a, const moe_agg_part *part, bool difference)
{
    add(t, difference ? " less the mean of the same %s" : " among the same %s",
        a->tables[a->keys[part->other].parent].name);
    add_key(t, a, part->other);
}

/* A window in words. */
static void
add_span(text *t, const moe_aggregates *a, int window)
{
    double span = (double) a->window * moe_agg_window_spans[window];

    if (span < 2.0 * (double) MOE_AGG_DAY)
        add(t, "%.6g hours", span / (double) HOUR);
    else
        add(t, "%.6g days", span / (double) MOE_AGG_DAY);
}

/* What an event knew of its partner: "the count of returns in 360 days of the suppliers of purchases". */
static void
add_partner(text *t, const moe_aggregates *a, const moe_agg_part *part, const moe_agg_column *column)
{
    const moe_agg_table *table = &a->tables[moe_agg_part_table(a, part)];
    const moe_agg_value *value = moe_agg_value_of(a, column);

    if (part->beyond >= 0)
        add(t, value ? "the mean of " : column->value == 1 ? "the count a day of " : "the count of ");
    if (value)
        add_value(t, table, value);
    else
        add(t, "%s", table->name);
    if (part->beyond >= 0)
        add_key(t, a, part->beyond);
    if (!value && column->value == 2)
    {
        add(t, " in ");
        add_span(t, a, MOE_AGG_WINDOWS - 1);
    }
    add(t, " of the %s", a->tables[a->keys[part->other].parent].name);
    add_key(t, a, part->other);
    add(t, " of %s", a->tables[a->keys[part->other].child].name);
    add_key(t, a, a->streams[part->stream].key);
}

/* What a column aggregates. */
static void
add_subject(text *t, const moe_aggregates *a, const moe_agg_part *part, const moe_agg_column *column)
{
    const moe_agg_table *table = &a->tables[moe_agg_part_table(a, part)];
    const moe_agg_value *value = moe_agg_value_of(a, column);
    bool siblings = part->kind == MOE_AGG_PART_SIBLINGS;
    bool difference = siblings && column->value % 2 == 1;

    if (part->kind == MOE_AGG_PART_PARTNERS)
    {
        add_partner(t, a, part, column);
        return;
    }
    if (siblings && !difference)
        add(t, "rank of ");
    if (value)
        add_value(t, table, value);
    else
        add(t, "%s", table->name);
    if (part->stream >= 0)
    {
        const moe_agg_stream *stream = &a->streams[part->stream];

        if (!value && stream->bit >= 0)
            add(t, " with %s known", table->fields[table->values[moe_agg_part_values(a, part)->value[0]].field].name);
        add_way(t, a, stream);
    }
    if (siblings)
        add_siblings_of(t, a, part, difference);
}

static const char *
op_words(moe_agg_op op)
{
    switch (op)
    {
        case MOE_AGG_COUNT:
        case MOE_AGG_COUNT_WINDOW:
            return "count of ";
        case MOE_AGG_SINCE_LAST:
            return "days since the last of ";
        case MOE_AGG_SINCE_FIRST:
            return "days since the first of ";
        case MOE_AGG_FAST:
            return "exponential mean (half-life 6) of ";
        case MOE_AGG_SLOW:
            return "exponential mean (half-life 20) of ";
        case MOE_AGG_MEAN:
        case MOE_AGG_MEAN_WINDOW:
            return "mean of ";
        case MOE_AGG_SUM_WINDOW:
            return "sum of ";
        case MOE_AGG_LAST:
            return "last of ";
        case MOE_AGG_SINE:
            return "time of year, sine";
        case MOE_AGG_COSINE:
            return "time of year, cosine";
        case MOE_AGG_LAG:
            return "days since the horizon";
        case MOE_AGG_OWN:
            return "";
    }
    return "";
}

/* Whose events they are, where they are not the row's. */
static void
add_path(text *t, const moe_aggregates *a, const moe_agg_path *path)
{
    if (path->kind == MOE_AGG_SELF)
        return;
    add(t, ", of the %s", a->tables[path->owner].name);
    add_key(t, a, path->kind == MOE_AGG_KEY ? path->key : path->other);
    if (path->kind == MOE_AGG_KEY)
    {
        add(t, " of the row");
        return;
    }
    add(t, " of the latest %s", a->tables[a->keys[path->key].child].name);
    add_key(t, a, path->key);
}

static void
compose(text *t, const moe_aggregates *a, const moe_agg_column *column)
{
    const moe_agg_part *part = &a->parts[column->part];

    t->length = 0;
    add(t, "%s", op_words(column->op));
    if (part->kind != MOE_AGG_PART_SEASON)
        add_subject(t, a, part, column);
    if (column->op == MOE_AGG_COUNT_WINDOW || column->op == MOE_AGG_MEAN_WINDOW || column->op == MOE_AGG_SUM_WINDOW)
    {
        add(t, " over ");
        add_span(t, a, column->window);
    }
    add_path(t, a, &a->paths[part->path]);
}

moe_code
moe_agg_name_columns(moe_aggregates *a)
{
    for (int c = 0; c < a->n_columns; c++)
    {
        text t;

        compose(&t, a, &a->columns[c]);
        a->columns[c].name = a->names.length;
        moe_put_bytes(&a->names, t.bytes, t.length + 1);
    }
    return moe_job_code(a->job);
}
