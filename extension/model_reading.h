/*
 * model_reading.h: how many rows predictions for labelled rows would have to read.
 */
#ifndef MOE_MODEL_READING_H
#define MOE_MODEL_READING_H

#include "extension/model_train_internal.h"

/*
 * Have the run's mixture learn from training rows how many rows are around a row that the model looks at, besides its
 * own, and count them for validation rows: [held_out->n], NaN where they were not counted; palloc'd. NULL, with nothing
 * learned, where there is nothing to stop early by. Of many rows an even sample is counted, as far as there is time.
 */
float *moe_reading_learn(const moe_train_run *run, const moe_input_block *block, const moe_samples *held_out);

#endif
