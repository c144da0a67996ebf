/*
 * key_index.h: values of key columns, and a hash index from keys to rows.
 */
#ifndef MOE_KEY_INDEX_H
#define MOE_KEY_INDEX_H

#include "postgres.h"

#include "kernels/job.h"

/*
 * The values of one key column, in job memory. Integers of every width are
 * kept as int64, so that they compare across widths. Enums, and types without
 * a default hash and equality, are kept and compared in their text form.
 */
typedef struct moe_key_column moe_key_column;

/* The type two key columns are compared in: cast both to it in SQL, unless both are integers. */
Oid moe_key_common_type(Oid child, Oid parent);
/* Must SQL cast a column of type `from` before it is appended to one of type `to`? */
bool moe_key_needs_cast(Oid from, Oid to);

/* `type` is the type of the Datums that will be appended. Allocated in CurrentMemoryContext; values come from the
 * job. */
moe_key_column *moe_key_column_create(moe_job *job, Oid type, Oid collation);
/* Append a value; returns a hash of it that does not depend on the session or the platform's Oids. */
uint64 moe_key_column_append(moe_key_column *column, Datum value, bool null);
/* Row i becomes what row order[i] was. */
void moe_key_column_permute(moe_key_column *column, const int32 *order, int64 n);
bool moe_key_column_is_null(const moe_key_column *column, int64 row);
/* The value as a Datum of the column's type; lives as long as the column, but text forms are palloc'd. */
Datum moe_key_column_get(const moe_key_column *column, int64 row, bool *null);
void moe_key_column_free(moe_key_column *column);

typedef struct moe_key_index moe_key_index;

/* Index n_rows rows by n columns (kept by pointer). Rows with a NULL are not indexed; of equal keys the first wins. */
moe_key_index *moe_key_index_create(moe_job *job, moe_key_column *const *columns, int n, int64 n_rows);
void moe_key_index_free(moe_key_index *index); /* not its columns */
/* The row whose key equals that of `row` in other columns of comparable types, or -1. */
int32 moe_key_index_find(const moe_key_index *index, moe_key_column *const *columns, int64 row);
/* The row with this key, given as Datums of the columns' types, or -1; NULLs never match. */
int32 moe_key_index_find_values(const moe_key_index *index, const Datum *key, const bool *nulls);
moe_key_column *moe_key_index_column(const moe_key_index *index, int i);

#endif
