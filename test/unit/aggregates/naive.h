/*
 * naive.h: aggregates computed plainly from what docs/aggregates.md says of them, a seed and a column at a time.
 */
#ifndef MOE_TEST_NAIVE_H
#define MOE_TEST_NAIVE_H

#include "embed/relational.h"
#include "kernels/job.h"

typedef struct naive naive;

naive *make_naive(moe_job *job, const moe_relational *fit_db, const moe_relational *db, int entity,
                  const int64_t *fit_rows, int64_t window);
/* All columns of one seed; the same ones, in the same order, for every seed. */
void naive_compute(naive *nv, int32_t row, int64_t time, int64_t horizon);

int naive_columns(const naive *nv);
const char *naive_name(const naive *nv, int column);
double naive_value(const naive *nv, int column);

#endif
