/*
 * dense_columns.h: which columns of a matrix say most of the label, each by itself.
 */
#ifndef MOE_DENSE_COLUMNS_H
#define MOE_DENSE_COLUMNS_H

#include "gnn/dense_expert.h"

/*
 * The share of the label that each column explains, [width], between 0 and 1: the squared correlation, or, of classes,
 * the share of the column's variance that lies between them. Weighted; 0 of a constant column.
 */
moe_code moe_dense_relevance(moe_job *job, const moe_dense_task *task, const moe_dense_rows *rows, double *relevance);
/* The numbers of the n <= width most relevant columns, ascending; of equals the first. */
moe_code moe_dense_best_columns(moe_job *job, const double *relevance, int width, int n, int32_t *columns);
/* Columns, as the last one says, to a buffer and back: up to `most`, below width; *n says how many. */
void moe_dense_put_columns(moe_buffer *buffer, const int32_t *columns, int n);
moe_code moe_dense_get_columns(moe_reader *reader, int width, int most, int32_t *columns, int *n);
/* Copy columns [n] of rows: [rows->n, n]. */
void moe_dense_take_columns(moe_job *job, const moe_dense_rows *rows, const int32_t *columns, int n, float *out);

#endif
