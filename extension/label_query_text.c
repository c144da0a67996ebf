/*
 * label_query_text.c: pieces of SQL text, and the check of the whole by the
 * server's own parse analysis.
 *
 * The text keeps marks (offset in the SQL, place in the statement), so that a
 * type error found in the SQL is shown at the word that caused it.
 *
 * With timestamptz a day would last as long as the session's time zone says;
 * here it lasts 24 hours and months follow the calendar of UTC, so that the
 * same query gives the same labels in every session.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/analyze.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "extension/label_query_internal.h"
#include "extension/moe_ml.h"

void
moe_label_text_init(moe_label_text *text)
{
    initStringInfo(&text->sql);
    text->n_marks = 0;
    text->capacity = 16;
    text->marks = palloc(sizeof(moe_label_mark) * text->capacity);
}

/* What is appended from here on comes from this place of the statement. */
void
moe_label_text_mark(moe_label_text *text, int location, bool verbatim)
{
    if (text->n_marks == text->capacity)
    {
        text->capacity *= 2;
        text->marks = repalloc(text->marks, sizeof(moe_label_mark) * text->capacity);
    }
    text->marks[text->n_marks].offset = text->sql.len;
    text->marks[text->n_marks].location = location;
    text->marks[text->n_marks].verbatim = verbatim;
    text->n_marks++;
}

/* A time as a literal: ISO form, which every DateStyle reads the same way. */
char *
moe_label_time_literal(const moe_schema *schema, int64 time)
{
    bool zoned = schema->time_type == TIMESTAMPTZOID;
    char buffer[MAXDATELEN + 1];
    struct pg_tm tm;
    fsec_t fsec;

    if (timestamp2tm(time, NULL, &tm, &fsec, NULL, NULL) != 0)
        ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("timestamp out of range"),
                        errhint("Seed times reach from 4713 BC to 294276 AD.")));
    tm.tm_isdst = 0;
    EncodeDateTime(&tm, fsec, zoned, 0, NULL, USE_ISO_DATES, buffer);
    return psprintf("%s '%s'", zoned ? "TIMESTAMPTZ" : "TIMESTAMP", buffer);
}

char *
moe_label_interval(const moe_schema *schema, int64 count, moe_unit unit)
{
    if (unit == MOE_UNIT_DAYS && schema->time_type == TIMESTAMPTZOID)
        return psprintf("INTERVAL '%s'", moe_label_interval_name(count * 24, MOE_UNIT_HOURS));
    return psprintf("INTERVAL '%s'", moe_label_interval_name(count, unit));
}

char *
moe_label_shifted(const moe_schema *schema, const char *expression, int64 count, moe_unit unit)
{
    const char *sign = count < 0 ? "-" : "+";
    char *interval = moe_label_interval(schema, count < 0 ? -count : count, unit);

    if (count == 0)
        return pstrdup(expression);
    if (unit == MOE_UNIT_MONTHS && schema->time_type == TIMESTAMPTZOID)
        return psprintf("(%s AT TIME ZONE 'UTC' %s %s) AT TIME ZONE 'UTC'", expression, sign, interval);
    return psprintf("%s %s %s", expression, sign, interval);
}

/* The place in the statement that a byte of the SQL came from, -1 if none. */
static int
place_of(const moe_label_text *text, int offset)
{
    int location = -1;

    for (int i = 0; i < text->n_marks && text->marks[i].offset <= offset; i++)
    {
        location = text->marks[i].location;
        if (location >= 0 && text->marks[i].verbatim)
            location += offset - text->marks[i].offset;
    }
    return location;
}

/* Raise the server's complaint about our SQL as one about the statement. */
static void
raise_at_statement(const moe_label_text *text, const ErrorData *error)
{
    int cursor = error->cursorpos > 0 ? error->cursorpos : error->internalpos;
    const char *at = text->sql.data;
    bool own = text->n_marks > 0 && text->marks[0].verbatim;
    int place = -1;

    if (cursor > 0)
    {
        for (int i = 1; i < cursor && *at; i++) /* it counts characters */
            at += pg_mblen(at);
        place = place_of(text, at - text->sql.data);
    }
    ereport(ERROR, (errcode(error->sqlerrcode), errmsg_internal("%s", error->message),
                    error->detail ? errdetail_internal("%s", error->detail) : 0,
                    error->hint ? errhint("%s", error->hint)
                    : own       ? errhint("The query after AS must run by itself; try it alone first.")
                                : errhint("Check the types of the columns and constants that are compared here."),
                    place >= 0 ? moe_statement_position(place) : 0));
}

Query *
moe_label_text_check(const moe_label_text *text, const Oid *types, int n_types)
{
    MemoryContext caller = CurrentMemoryContext;
    ErrorContextCallback *outer = error_context_stack;
    Query *volatile query = NULL;
    ErrorData *volatile error = NULL;

    check_stack_depth();
    PG_TRY();
    {
        List *parsed;

        /* Callers' callbacks would claim the error's position for their own query text. */
        error_context_stack = NULL;
        parsed = pg_parse_query(text->sql.data);
        if (list_length(parsed) != 1)
            ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("the labels must come from a single query"),
                            errhint("Write one SELECT after AS.")));
        query = parse_analyze_fixedparams(linitial(parsed), text->sql.data, types, n_types, NULL);
        error_context_stack = outer;
    }
    PG_CATCH();
    {
        error_context_stack = outer;
        MemoryContextSwitchTo(caller);
        error = CopyErrorData();
        if (error->sqlerrcode == ERRCODE_QUERY_CANCELED || error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
            PG_RE_THROW();
        FlushErrorState();
    }
    PG_END_TRY();

    if (error)
        raise_at_statement(text, error);
    return query;
}
