/*
 * normalizer.h: columns of any scale, with NULLs, as inputs about N(0, 1).
 *
 * A column passes its empirical quantiles into normal scores, is standardised
 * and clipped at 3; NULL becomes 0, with a flag beside it (one for all columns
 * that are NULL in the same rows). Columns that do not vary are dropped. All
 * statistics come from the rows it was fitted on.
 */
#ifndef MOE_NORMALIZER_H
#define MOE_NORMALIZER_H

#include "kernels/buffer.h"
#include "kernels/job.h"

typedef struct moe_normalizer moe_normalizer;

/* x [n, columns], row-major, NaN is NULL; n >= 1. Looks at no more than 200,000 evenly spaced rows. */
moe_code moe_normalizer_fit(moe_job *job, const float *x, int64_t n, int columns, moe_normalizer **out);
void moe_normalizer_destroy(moe_normalizer *normalizer);

int moe_normalizer_inputs(const moe_normalizer *normalizer);  /* columns in */
int moe_normalizer_outputs(const moe_normalizer *normalizer); /* columns out */
/* The input column an output comes from (a flag: the first of its columns). */
int moe_normalizer_source(const moe_normalizer *normalizer, int output);
bool moe_normalizer_is_flag(const moe_normalizer *normalizer, int output);
/* x [n, inputs] to out [n, outputs], on the job's threads. A row's result depends on that row alone. */
moe_code moe_normalizer_apply(const moe_normalizer *normalizer, const float *x, int64_t n, float *out);

void moe_normalizer_write(const moe_normalizer *normalizer, moe_buffer *buffer);
/* Hostile input is refused with MOE_CORRUPT. */
moe_code moe_normalizer_read(moe_job *job, moe_reader *reader, moe_normalizer **out);

#endif
