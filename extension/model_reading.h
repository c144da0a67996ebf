/*
 * model_reading.h: how many rows predictions for labelled rows would have to read.
 */
#ifndef MOE_MODEL_READING_H
#define MOE_MODEL_READING_H

#include "extension/model_train_internal.h"

/* What predictions look at, and how far. */
typedef struct moe_reading_source
{
    const moe_data *data;
    const moe_graph *graph;
    const moe_inputs *inputs;
    int hops; /* of the graph expert; 0: there is none */
} moe_reading_source;

/*
 * How many rows are around each row's entity at its time, besides its own: [rows->n], NaN where that was not counted;
 * palloc'd. Of many rows an even sample is counted, as far as there is time. Checks for interrupts.
 */
float *moe_reading_count(const moe_reading_source *source, const moe_samples *rows);

/*
 * Have the run's mixture learn from training rows how many rows are around a row that the model looks at, besides its
 * own, and count them for validation rows, as above. NULL, with nothing learned, where there is nothing to stop early
 * by.
 */
float *moe_reading_learn(const moe_train_run *run, const moe_input_block *block, const moe_samples *held_out);

#endif
