/*
 * reader_scan.c: the rows of one SELECT, straight from the executor.
 *
 * The SELECT is planned and run by SPI like any other (privileges, snapshot,
 * row-level security, parallel plans), but its rows come to a receiver of our
 * own: values are taken out of the executor's slot and put into their arrays,
 * and no tuple is ever formed, copied or kept.
 */
#include "postgres.h"

#include <math.h>

#include "executor/spi.h"
#include "executor/tuptable.h"
#include "tcop/dest.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "extension/moe_ml.h"
#include "extension/reader_internal.h"

#define FIRST_ROWS  256         /* room to begin with where nothing is known of a table */
#define BATCH_BYTES (256 << 10) /* of detoasted and converted values, after which they are freed */

/* What the loop over one row's values needs of a sink. */
typedef struct lane
{
    moe_value_form form;
    bool runs; /* items are bounds */
    moe_item *items;
    uint8 *null; /* once there is one */
    moe_item null_item;
    moe_sink *sink;
} lane;

/* The receiver of the SELECT's rows. */
typedef struct receiver
{
    DestReceiver base; /* first: the executor knows this part only */
    moe_reading *reading;
    moe_job *job;
    MemoryContext batch; /* for one value after another */
    lane *lanes;
} receiver;

/*
 * Room to begin with: what the planner expects, and a little more, as memory
 * that is not used costs nothing yet; but within a quarter of the limit, since
 * row-level security may hide most rows.
 */
static int64
first_capacity(const moe_reading *reading)
{
    double expected = reading->schema->rows * 1.02;
    double limit = moe_setting_memory_limit_mb * 1048576.0 / 4 / (sizeof(moe_item) * Max(reading->n_sinks, 1));

    return (int64) Max(FIRST_ROWS, Min(Min(expected, limit), PG_INT32_MAX));
}

/* Make room for more rows: an eighth more, as memory is moved by remapping its pages. */
static void
reserve(receiver *r)
{
    moe_reading *reading = r->reading;

    if (reading->n_rows == PG_INT32_MAX)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("table \"%s\" has more than %d rows", reading->schema->name, PG_INT32_MAX),
                        errhint("Let the model read a view of its newer rows, or leave it out with USING.")));
    reading->capacity = reading->capacity == 0
                            ? first_capacity(reading)
                            : Min(reading->capacity + Max(reading->capacity / 8, FIRST_ROWS), PG_INT32_MAX);
    for (int s = 0; s < reading->n_sinks; s++)
    {
        moe_sink_reserve(&reading->sinks[s], r->job, reading->capacity);
        r->lanes[s].items = reading->sinks[s].items;
        r->lanes[s].null = reading->sinks[s].null;
    }
}

/* Put a value that needs no care, without a call: false if it is another's. */
static inline bool
put_plain(moe_value_form form, moe_item *item, Datum value)
{
    switch (form)
    {
        case FORM_INT4:
            item->number = DatumGetInt32(value);
            return true;
        case FORM_FLOAT4:
            item->number = DatumGetFloat4(value) + 0.0; /* -0 and 0 are one number */
            return isfinite(item->number);
        case FORM_FLOAT8:
            item->number = DatumGetFloat8(value) + 0.0;
            return isfinite(item->number);
        case FORM_BOOL:
            item->number = DatumGetBool(value);
            return true;
        case FORM_KEY_INT4:
            item->word = (uint64) (int64) DatumGetInt32(value);
            return true;
        case FORM_KEY_INT8:
            item->word = (uint64) DatumGetInt64(value);
            return true;
        case FORM_ROW_TIME:
            item->time = DatumGetTimestamp(value);
            return true;
        default:
            return false;
    }
}

static inline void
put_null(receiver *r, lane *lane, int64 row)
{
    if (unlikely(lane->null == NULL))
    {
        moe_sink_put(lane->sink, r->job, row, r->reading->capacity, (Datum) 0, true);
        lane->null = lane->sink->null;
        lane->null_item = lane->sink->items[row];
        return;
    }
    lane->null[row] = 1;
    if (lane->runs)
        lane->items[row + 1] = lane->items[row];
    else
        lane->items[row] = lane->null_item;
}

static bool
receive(TupleTableSlot *slot, DestReceiver *self)
{
    receiver *r = (receiver *) self;
    moe_reading *reading = r->reading;
    int64 row = reading->n_rows;
    MemoryContext old;

    slot_getallattrs(slot);
    if (row == reading->capacity)
        reserve(r);
    old = MemoryContextSwitchTo(r->batch);
    for (int s = 0; s < reading->n_sinks; s++)
    {
        lane *lane = &r->lanes[s];

        if (slot->tts_isnull[s])
            put_null(r, lane, row);
        else if (!put_plain(lane->form, &lane->items[row], slot->tts_values[s]))
            moe_sink_put(lane->sink, r->job, row, reading->capacity, slot->tts_values[s], false);
    }
    MemoryContextSwitchTo(old);
    if (r->batch->mem_allocated > BATCH_BYTES)
        MemoryContextReset(r->batch);
    reading->n_rows++;
    return true;
}

static void
start_receiving(DestReceiver *self, int operation, TupleDesc desc)
{
    receiver *r = (receiver *) self;

    if (desc->natts != r->reading->n_sinks)
        elog(ERROR, "reading gave %d columns, expected %d", desc->natts, r->reading->n_sinks);
}

static void
ignore(DestReceiver *self)
{
}

void
moe_reading_scan(moe_reading *reading)
{
    receiver r = {.reading = reading, .job = reading->data->job};
    SPIExecuteOptions options = {.read_only = true, .dest = &r.base};
    int code;

    r.base.receiveSlot = receive;
    r.base.rStartup = start_receiving;
    r.base.rShutdown = ignore;
    r.base.rDestroy = ignore;
    r.base.mydest = DestNone;
    r.batch = AllocSetContextCreate(CurrentMemoryContext, "moe_ml read batch", ALLOCSET_DEFAULT_SIZES);
    r.lanes = palloc0(sizeof(lane) * Max(reading->n_sinks, 1));
    for (int s = 0; s < reading->n_sinks; s++)
    {
        r.lanes[s].form = reading->sinks[s].form;
        r.lanes[s].sink = &reading->sinks[s];
        r.lanes[s].runs = reading->sinks[s].kind == SINK_STRING || reading->sinks[s].kind == SINK_VECTOR;
    }
    reserve(&r);
    code = SPI_execute_extended(reading->sql.data, &options);
    if (code < 0)
        elog(ERROR, "could not read table \"%s\": %s", reading->schema->name, SPI_result_code_string(code));
    pfree(r.lanes);
    MemoryContextDelete(r.batch);
}
