/*
 * level.h: what everyone's labels were of late, as columns: the level that labels of today begin from.
 *
 * A label of seed time s is known once its window has closed, s + window <=
 * horizon. Of the labels known, means over the last 1, 3, 12, 24 and 40 windows
 * up to the newest of them: not up to the horizon, so that they say the same
 * when labels have not been collected for a while. A multiclass label has a
 * share for each of the classes 0 to 7. It does not matter whose labels they
 * are, so that a level is stored as counts and sums by time.
 */
#ifndef MOE_LEVEL_H
#define MOE_LEVEL_H

#include "embed/history.h"
#include "kernels/buffer.h"

typedef struct moe_level moe_level;

/* classes, labels and window as of moe_history_create; rows are not looked at. NaN is no label. Copies. */
moe_code moe_level_create(moe_job *job, const moe_past_labels *labels, int64_t window, int classes, moe_level **out);
void moe_level_destroy(moe_level *level);

int moe_level_columns(int classes);
/* For people: "everyone's mean label, last 3 windows". Writes to a buffer of the caller's. */
void moe_level_name(int classes, int column, char *out, size_t size);
/* Write [n, moe_level_columns]; NaN is NULL. */
moe_code moe_level_compute(moe_level *level, const moe_moments *moments, float *out);

void moe_level_write(const moe_level *level, moe_buffer *buffer);
/* Of the same window and classes as it was made with. Hostile input is refused with MOE_CORRUPT. */
moe_code moe_level_read(moe_job *job, moe_reader *reader, int64_t window, int classes, moe_level **out);

#endif
