/*
 * reader_batch.h: rows on their way from the executor to the sinks.
 */
#ifndef MOE_READER_BATCH_H
#define MOE_READER_BATCH_H

#include "extension/reader_internal.h"

#define MOE_BATCH_ROWS 4096

typedef struct moe_batches moe_batches;

/* For the sinks of a reading; all of it is the job's memory. */
moe_batches *moe_batches_create(moe_reading *reading);
/* Take over a row. `scratch` is the current memory context's user: values that need a function are converted here. */
void moe_batches_add(moe_batches *batches, const Datum *values, const bool *nulls);
/* Wait for all rows to be in their sinks, and free. */
void moe_batches_finish(moe_batches *batches);

#endif
