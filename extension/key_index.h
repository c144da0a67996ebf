/*
 * key_index.h: values of key columns, and an index from keys to rows.
 */
#ifndef MOE_KEY_INDEX_H
#define MOE_KEY_INDEX_H

#include "postgres.h"

#include "kernels/job.h"

/*
 * The values of one key column, in job memory: a word a row, and for types
 * passed by reference the bytes it points into. Integers of every width are
 * kept as int64, so that they compare across widths. Enums, and types without
 * a default hash and equality, are kept and compared in their text form.
 */
typedef struct moe_key_column moe_key_column;

/* The type two key columns are compared in: cast both to it in SQL, unless both are integers. */
Oid moe_key_common_type(Oid child, Oid parent);
/* Must SQL cast a column of type `from` before it is put into one of type `to`? */
bool moe_key_needs_cast(Oid from, Oid to);

/* `type` is the type of the Datums that will come. Allocated in CurrentMemoryContext; values come from the job. */
moe_key_column *moe_key_column_create(moe_job *job, Oid type, Oid collation);
/* The word that stands for a value in this column, which keeps its bytes. Not for NULL. */
uint64 moe_key_column_word(moe_key_column *column, Datum value);
/* A hash of a word's value that does not depend on the session or the platform's Oids. Safe from any thread. */
uint64 moe_key_column_hash(const moe_key_column *column, uint64 word);
/* The same of a row's value; 0 for NULL. */
uint64 moe_key_column_row_hash(const moe_key_column *column, int64 row);
/* Take over the rows' words and NULLs (no array: none), the job's. */
void moe_key_column_set(moe_key_column *column, uint64 *word, uint8 *null);
bool moe_key_column_is_null(const moe_key_column *column, int64 row);
/* The value as a Datum of the column's type; lives as long as the column, but text forms are palloc'd. */
Datum moe_key_column_get(const moe_key_column *column, int64 row, bool *null);
void moe_key_column_free(moe_key_column *column);

typedef struct moe_key_index moe_key_index;

/* Index n_rows rows by n columns (kept by pointer). Rows with a NULL are not indexed; of equal keys the first wins. */
moe_key_index *moe_key_index_create(moe_job *job, moe_key_column *const *columns, int n, int64 n_rows);
void moe_key_index_free(moe_key_index *index); /* not its columns */
/*
 * For each of n_rows rows of other columns, of comparable types, the row with
 * an equal key, or -1: [n_rows] rows. Counts the rows with a NULL, which match
 * nothing, and those without NULLs that found nothing. On the job's threads
 * where comparing needs no function of the server.
 */
void moe_key_index_match(const moe_key_index *index, moe_key_column *const *columns, int64 n_rows, int32 *rows,
                         int64 *nulls, int64 *dangling);
/* The row with this key, given as Datums of the columns' types, or -1; NULLs never match. */
int32 moe_key_index_find_values(const moe_key_index *index, const Datum *key, const bool *nulls);
moe_key_column *moe_key_index_column(const moe_key_index *index, int i);

#endif
