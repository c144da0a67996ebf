/*
 * rows.h: some rows of a table as a table of its own, and variations of it.
 *
 * What they return lies in the arena; NULL is a failure that the job carries.
 * A variation shares with its origin what it does not change.
 */
#ifndef MOE_ROWS_H
#define MOE_ROWS_H

#include "embed/table.h"
#include "kernels/job.h"

/* Copy n rows. hidden: NULL, or for each of the n a mask of columns (by hidden_bit) to be NULL; then nothing hides. */
moe_table *moe_rows_pick(moe_arena *arena, const moe_table *table, const int32_t *rows, const uint8_t *hidden,
                         int64_t n);
/* The columns in another order: the i-th is column order[i]. */
moe_table *moe_rows_reorder(moe_arena *arena, const moe_table *table, const int *order);
/* The columns that are flagged are NULL in every row. */
moe_table *moe_rows_hide(moe_arena *arena, const moe_table *table, const bool *hide);
/* In row i, column column[i] is NULL; -1: none is. */
moe_table *moe_rows_hide_one(moe_arena *arena, const moe_table *table, const int *column);
/*
 * To the values of the flagged NUMBER columns noise is added: draws from N(0, 1) times `share` of a column's standard
 * deviation over these rows.
 */
moe_table *moe_rows_disturb(moe_arena *arena, const moe_table *table, const bool *disturb, double share, uint64_t key);
/* The values of one column move: row i gets that of row from[i]. */
moe_table *moe_rows_move(moe_arena *arena, const moe_table *table, int column, const int32_t *from);
/* A hash of a value: equal for equal values; 0: NULL. */
uint64_t moe_rows_value(const moe_column *column, int64_t row);

#endif
