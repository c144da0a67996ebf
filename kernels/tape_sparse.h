/*
 * tape_sparse.h: what the sparse operations of the tape share: the checks of
 * what callers give, which lies on the host, and products with transposes.
 */
#ifndef MOE_TAPE_SPARSE_H
#define MOE_TAPE_SPARSE_H

#include "kernels/tape_private.h"

/* Each returns whether all is well; if not, the failure is recorded. */
/* Every index lies in [-1, limit); *present (may be NULL) becomes the number that are not -1. */
bool moe_check_index(moe_tape *tape, const char *name, const int32_t *index, int64_t n, int64_t limit,
                     int64_t *present);
/* Few enough rows, or entries, to be numbered. */
bool moe_check_rows(moe_tape *tape, const char *name, int64_t rows);
/* offset[0..n] starts at 0, never falls, and ends at a number of entries that can be numbered. */
bool moe_check_offset(moe_tape *tape, const char *name, const int64_t *offset, int64_t n);
/* A sparse matrix of n rows: both of the above, and nothing missing. */
bool moe_check_edges(moe_tape *tape, const char *name, const int64_t *offset, const int32_t *index, int64_t n,
                     int64_t limit, int64_t *present);

/* Hand the arrays of a matrix, with `parts` weights an entry, to the device; false on failure. */
bool moe_upload_sparse(moe_tape *tape, moe_sparse *s, int parts);
/*
 * The transpose of s (of `parts` parts, `present` of its entries not -1), which has `columns` rows; *entry, where
 * entry is not NULL, becomes the entries' numbers in s. False on failure.
 */
bool moe_transpose_sparse(moe_tape *tape, const moe_sparse *s, int parts, int64_t present, int64_t columns,
                          int32_t **entry, moe_sparse *out);
/* out (+)= that transpose times x. */
void moe_multiply_transposed(moe_tape *tape, const moe_sparse *s, int parts, int64_t present, int64_t columns,
                             int64_t cols, const float *x, bool add, float *out);

#endif
