/*
 * reader_scan.c: the rows of one SELECT, straight from the executor.
 *
 * The SELECT is planned and run by SPI like any other (privileges, snapshot,
 * row-level security, parallel plans), but its rows come to a receiver of our
 * own: values are taken out of the executor's slot and put into their arrays,
 * and no tuple is ever formed, copied or kept.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "executor/tuptable.h"
#include "tcop/dest.h"
#include "utils/memutils.h"

#include "extension/reader_batch.h"

#define SCRATCH_BYTES (256 << 10) /* of detoasted and converted values, after which they are freed */

/* The receiver of the SELECT's rows. */
typedef struct receiver
{
    DestReceiver base; /* first: the executor knows this part only */
    moe_reading *reading;
    moe_batches *batches;
    MemoryContext scratch; /* for one value after another */
} receiver;

static bool
receive(TupleTableSlot *slot, DestReceiver *self)
{
    receiver *r = (receiver *) self;
    MemoryContext old = MemoryContextSwitchTo(r->scratch);

    slot_getallattrs(slot);
    moe_batches_add(r->batches, slot->tts_values, slot->tts_isnull);
    MemoryContextSwitchTo(old);
    if (r->scratch->mem_allocated > SCRATCH_BYTES)
        MemoryContextReset(r->scratch);
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
moe_reading_scan(moe_reading *reading, const char *sql)
{
    receiver r = {.reading = reading};
    SPIExecuteOptions options = {.read_only = true, .dest = &r.base};
    int code;

    r.base.receiveSlot = receive;
    r.base.rStartup = start_receiving;
    r.base.rShutdown = ignore;
    r.base.rDestroy = ignore;
    r.base.mydest = DestNone;
    r.scratch = AllocSetContextCreate(CurrentMemoryContext, "moe_ml read values", ALLOCSET_DEFAULT_SIZES);
    r.batches = moe_batches_create(reading);
    code = SPI_execute_extended(sql, &options);
    if (code < 0)
        elog(ERROR, "could not read table \"%s\": %s", reading->schema->name, SPI_result_code_string(code));
    moe_batches_finish(r.batches);
    MemoryContextDelete(r.scratch);
}
