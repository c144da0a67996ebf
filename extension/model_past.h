/*
 * model_past.h: the labels of a user's own query, kept with the model.
 *
 * Label histories need past labels when a prediction is made. A predictive
 * query's are computed then, as whoever asks; a query of its maker's own may
 * call anything, so it is not run for others: what it gave at the training is
 * kept, by key, and is all that such a model knows of the past.
 */
#ifndef MOE_MODEL_PAST_H
#define MOE_MODEL_PAST_H

#include "postgres.h"

#include "embed/history.h"
#include "extension/model.h"
#include "kernels/buffer.h"

/* At most so many labels are kept, the latest. */
#define MOE_KEPT_LABELS 200000

typedef struct moe_kept_labels
{
    int64 n;
    char **key; /* as moe_key_text gives it */
    int64 *time;
    float *label;
    uint32 mask;
    int32 *first; /* [mask + 1] by the hash of the key, or -1; of the same hash, in order */
    int32 *next;  /* [n] */
} moe_kept_labels;

/* Write labels, in order of time, by the keys of the data's entity rows; NULL: none are kept. */
void moe_past_write(const moe_schema *schema, const moe_data *data, const moe_past_labels *labels, moe_buffer *buffer);
/* Damage is recorded in the job as MOE_CORRUPT. */
moe_code moe_past_read(moe_job *job, moe_reader *reader, moe_kept_labels *out);
/* The labels whose entities there are today; palloc'd. */
moe_past_labels moe_past_find(const moe_predictor *predictor, const moe_kept_labels *kept);

#endif
