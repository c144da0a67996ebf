/*
 * label_query_seeds.c: for which moments labels are made.
 *
 * Seed times lie one target window w apart, so that the label windows of
 * neighbours touch but do not overlap. Without options they run backwards from
 * the newest row: newest - w is test, newest - 2w validation, newest - 3w and
 * before training. With validation_from (V) and test_from (T):
 *
 *   training    V - w, V - 2w, ...       while the window reaches the target's oldest row
 *   validation  V, V + w, ...            while the window closes by T
 *   test        T, T + w, ...            while the window closes by the newest row
 *
 * No label window reaches past the newest row, so each label is final; and no
 * validation or test label window overlaps one of an earlier block. Steps are
 * taken from the anchor (V - 3 * w), never one from another, so that months
 * stay on their day.
 */
#include "postgres.h"

#include "common/int.h"
#include "access/xact.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "extension/label_query_internal.h"
#include "extension/moe_ml.h"

/* At most this many seed times a block, and label rows the planner would expect to be made where every entity row has
 * one. */
#define DEFAULT_SEED_TIMES 1000
#define FEWEST_SEED_TIMES  8
#define MANY_LABELS        5e7

static const char *const unit_names[] = {
    [MOE_UNIT_DAYS] = "day", [MOE_UNIT_HOURS] = "hour", [MOE_UNIT_MINUTES] = "minute", [MOE_UNIT_MONTHS] = "month"};

static const int64 unit_lengths[] = {[MOE_UNIT_DAYS] = USECS_PER_DAY,
                                     [MOE_UNIT_HOURS] = USECS_PER_HOUR,
                                     [MOE_UNIT_MINUTES] = USECS_PER_MINUTE,
                                     [MOE_UNIT_MONTHS] = 30 * USECS_PER_DAY};

/* "30 days": for people, and inside INTERVAL '...'. */
char *
moe_label_interval_name(int64 count, moe_unit unit)
{
    return psprintf(INT64_FORMAT " %s%s", count, unit_names[unit], count == 1 || count == -1 ? "" : "s");
}

int64
moe_label_microseconds(int64 count, moe_unit unit, int location)
{
    int64 length;
    int64 limit = (int64) 10000 * 366 * USECS_PER_DAY;

    if (pg_mul_s64_overflow(count, unit_lengths[unit], &length) || length > limit || length < -limit)
        ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
                        errmsg("a window of %s is out of range", moe_label_interval_name(count, unit)),
                        errhint("Windows reach at most 10000 years; -INF reaches back to the first row."),
                        location >= 0 ? moe_statement_position(location) : 0));
    return length;
}

/* The time `count` units later. Raises near the ends of the calendar, before the server's own arithmetic would. */
int64
moe_label_shift(int64 time, int64 count, moe_unit unit)
{
    int64 margin = (int64) 400 * 366 * USECS_PER_DAY; /* months are not all 30 days long */
    int64 distance;
    int64 sum;
    Interval span = {0};

    if (pg_mul_s64_overflow(count, unit_lengths[unit], &distance) || pg_add_s64_overflow(time, distance, &sum) ||
        sum < MIN_TIMESTAMP + margin || sum >= END_TIMESTAMP - margin)
        ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("seed time out of range"),
                        errhint("Use a shorter window, or other moments for validation_from and test_from.")));
    if (unit == MOE_UNIT_MONTHS)
        span.month = (int32) count;
    else
        span.time = distance;
    return DatumGetTimestamp(
        DirectFunctionCall2(timestamp_pl_interval, TimestampGetDatum(time), IntervalPGetDatum(&span)));
}

/* A query's only column as distinct ascending times; NULL and infinite ones are left out. Runs as the current user. */
int64
moe_label_times(const char *sql, int64 **times)
{
    MemoryContext caller = CurrentMemoryContext;
    int64 n = 0;

    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "moe_ml: SPI_connect failed");
    if (SPI_execute(sql, true, 0) != SPI_OK_SELECT)
        elog(ERROR, "moe_ml: not a query: %s", sql);
    *times = MemoryContextAllocHuge(caller, sizeof(int64) * Max(SPI_processed, 1));
    for (uint64 i = 0; i < SPI_processed; i++)
    {
        bool null;
        Datum value = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &null);

        if (!null && !TIMESTAMP_NOT_FINITE(DatumGetTimestamp(value)))
            (*times)[n++] = DatumGetTimestamp(value);
    }
    SPI_finish();
    return n;
}

/* The oldest row time among the tables the target looks at; raises where none of them has any row. */
static int64
oldest_time(const moe_label_context *context)
{
    int64 oldest = DT_NOEND;
    const char *name = NULL;
    ListCell *cell;

    foreach (cell, context->aggregates)
    {
        const moe_label_aggregate *aggregate = lfirst(cell);
        const moe_schema *schema = context->schema;
        int table = aggregate->time_table;
        char *expression;
        int64 *times;

        if (aggregate->side != MOE_SIDE_TARGET)
            continue;
        name = schema->tables[table].name;
        expression = moe_schema_time_expression(schema, table, "t");
        if (moe_label_times(psprintf("SELECT pg_catalog.min(%s) FROM %s AS t WHERE pg_catalog.isfinite(%s)", expression,
                                     moe_schema_qualified(&schema->tables[table]), expression),
                            &times) > 0)
            oldest = Min(oldest, times[0]);
    }
    if (oldest == DT_NOEND)
        ereport(ERROR, (errcode(ERRCODE_NO_DATA_FOUND), errmsg("table \"%s\" has no rows to make labels from", name),
                        errhint("Load the table first; rows whose time is NULL or infinite do not count.")));
    return oldest;
}

/* How far ahead of the seed time the labels are known: the longest window that looks forward. */
static void
longest_window(const moe_label_context *context, moe_seed_times *times)
{
    ListCell *cell;

    times->length = 0;
    foreach (cell, context->aggregates)
    {
        const moe_label_aggregate *aggregate = lfirst(cell);
        int64 length;

        if (aggregate->side == MOE_SIDE_WHERE)
            continue;
        length = moe_label_microseconds(aggregate->node->end, aggregate->node->unit, -1);
        if (length <= times->length)
            continue;
        times->length = length;
        times->step = aggregate->node->end;
        times->unit = aggregate->node->unit;
    }
}

static int64
seed_time(const moe_seed_times *times, int64 anchor, int64 n)
{
    return moe_label_shift(anchor, n * times->step, times->unit);
}

/* The number of seed times anchor, anchor + w, ... (at most `most`) whose windows close by `end`. */
static int
count_forward(const moe_seed_times *times, int64 anchor, int64 end, int most)
{
    int n = 0;

    while (n < most && moe_label_shift(seed_time(times, anchor, n), times->step, times->unit) <= end)
        n++;
    return n;
}

/* The number of seed times anchor - first * w, ... (at most `most`) whose windows reach `oldest`. */
static int
count_backward(const moe_seed_times *times, int64 anchor, int first, int64 oldest, int most)
{
    int n = 0;

    while (n < most &&
           moe_label_shift(seed_time(times, anchor, -(int64) (first + n)), times->step, times->unit) >= oldest)
        n++;
    return n;
}

/*
 * Where the label does not need any row to exist, each entity row has a label
 * at each seed time: then fewer seed times for larger entity tables.
 */
static int
training_cap(const moe_label_context *context)
{
    ListCell *cell;
    double rows = context->entity->rows;

    if (context->options->seed_times > 0)
        return context->options->seed_times;
    foreach (cell, context->aggregates)
    {
        const moe_label_aggregate *aggregate = lfirst(cell);

        if (moe_label_null_without(context, context->statement->target, aggregate) ||
            (context->statement->where && moe_label_false_without(context, context->statement->where, aggregate)) ||
            (context->statement->assuming && moe_label_false_without(context, context->statement->assuming, aggregate)))
            return DEFAULT_SEED_TIMES;
    }
    if (rows * DEFAULT_SEED_TIMES <= MANY_LABELS)
        return DEFAULT_SEED_TIMES;
    return Max(FEWEST_SEED_TIMES, (int) (MANY_LABELS / rows));
}

static void
set_block(moe_seed_block *block, const char *split, int64 anchor, int sign, int first, int n)
{
    block->split = split;
    block->anchor = anchor;
    block->sign = sign;
    block->first = first;
    block->last = first + n - 1;
}

static void
raise_too_little(const moe_label_context *context, const moe_seed_times *times, int64 oldest, int64 newest,
                 const char *missing)
{
    ereport(
        ERROR,
        (errcode(ERRCODE_NO_DATA_FOUND),
         errmsg("too little data: no %s seed time with a window of %s",
                strcmp(missing, "train") == 0 ? "training" : missing,
                moe_label_interval_name(times->step, times->unit)),
         errdetail("The target's rows begin at %s, the newest row is of %s; training, validation and test need a "
                   "window each.",
                   moe_label_time_literal(context->schema, oldest), moe_label_time_literal(context->schema, newest)),
         errhint("Use a shorter window, or set validation_from and test_from: WITH (validation_from = '...', "
                 "test_from = '...').")));
}

/* Blocks around the moments the user gave; the missing one lies a window away from the other. */
static void
given_blocks(const moe_label_context *context, moe_seed_times *times, int64 oldest, int64 newest, int cap)
{
    const moe_label_options *options = context->options;

    times->validation_from = options->has_validation_from
                                 ? options->validation_from
                                 : moe_label_shift(options->test_from, -times->step, times->unit);
    times->test_from = options->has_test_from ? options->test_from
                                              : moe_label_shift(options->validation_from, times->step, times->unit);
    if (times->test_from <= times->validation_from)
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("test_from must be later than validation_from"),
                 errhint("Training data comes first, then validation, then test.")));
    set_block(&times->blocks[0], "train", times->validation_from, -1, 1,
              count_backward(times, times->validation_from, 1, oldest, cap));
    set_block(&times->blocks[1], "validation", times->validation_from, 1, 0,
              count_forward(times, times->validation_from, Min(times->test_from, newest), DEFAULT_SEED_TIMES));
    set_block(&times->blocks[2], "test", times->test_from, 1, 0,
              count_forward(times, times->test_from, newest, DEFAULT_SEED_TIMES));
}

/* Blocks counted back from the newest row. */
static void
default_blocks(moe_seed_times *times, int64 oldest, int64 newest, int cap)
{
    times->validation_from = seed_time(times, newest, -2);
    times->test_from = seed_time(times, newest, -1);
    set_block(&times->blocks[0], "train", newest, -1, 3, count_backward(times, newest, 3, oldest, cap));
    set_block(&times->blocks[1], "validation", newest, -1, 2, count_backward(times, newest, 2, oldest, 1));
    set_block(&times->blocks[2], "test", newest, -1, 1, count_backward(times, newest, 1, oldest, 1));
}

/* Choose the seed times of a target with windows. Raises if a block would be empty. */
void
moe_label_seed_times(const moe_label_context *context, moe_seed_times *times)
{
    int64 oldest = oldest_time(context);
    int64 newest = moe_schema_newest(context->schema, GetCurrentTransactionStartTimestamp());
    int cap = training_cap(context);

    longest_window(context, times);
    if (newest == DT_NOBEGIN || newest < oldest)
        newest = oldest;
    if (context->options->has_validation_from || context->options->has_test_from)
        given_blocks(context, times, oldest, newest, cap);
    else
        default_blocks(times, oldest, newest, cap);
    for (int i = 0; i < lengthof(times->blocks); i++)
        if (times->blocks[i].last < times->blocks[i].first)
            raise_too_little(context, times, oldest, newest, times->blocks[i].split);
}
