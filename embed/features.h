/*
 * features.h: columns turned into numeric inputs, once per row.
 *
 * Fitting looks at the first fit_rows rows of each table (those visible at the
 * end of training) and decides, per column, its encoding and its statistics:
 * mean and deviation, category dictionary, text hashing, quantiles. Binding
 * applies a fitted (or stored) specification to tables and precomputes every
 * row's inputs; it needs no parameters, so several encoders share it.
 */
#ifndef MOE_FEATURES_H
#define MOE_FEATURES_H

#include "embed/table.h"
#include "kernels/buffer.h"
#include "kernels/job.h"

typedef struct moe_features moe_features;

/* Decide encodings and statistics. Tables need live only for the call. */
moe_code moe_features_fit(moe_job *job, const moe_table *tables, int n_tables, const int64_t *fit_rows,
                          moe_features **out);
/*
 * Precompute inputs for all rows of the tables (the same tables and columns, by
 * position, as fitted; other rows). Replaces an earlier binding. A value not
 * seen in fitting gets its column's unknown state.
 */
moe_code moe_features_bind(moe_features *features, const moe_table *tables, int n_tables);
/*
 * The same, but for dense inputs and categories of a row, which are computed when encoders first ask for it. The
 * tables' columns must live as long as the binding. For jobs without a device.
 */
moe_code moe_features_bind_as_asked(moe_features *features, const moe_table *tables, int n_tables);
void moe_features_destroy(moe_features *features);

/*
 * Have encoders show columns as NULL in every row from now on: hidden [tables], each NULL or [columns of the table];
 * NULL: none. Not copied.
 */
void moe_features_hide(moe_features *features, const bool *const *hidden);

void moe_features_write(const moe_features *features, moe_buffer *buffer);
moe_code moe_features_read(moe_job *job, moe_reader *reader, moe_features **out);

/* What was decided, for people: the encoding of a column ("numeric", "category (12 values)", "text (hashed)",
 * "constant: ignored", ...). */
int moe_features_tables(const moe_features *features);
int moe_features_columns(const moe_features *features, int table);
const char *moe_features_describe(const moe_features *features, int table, int column);
/* Is it among the inputs at all? */
bool moe_features_uses(const moe_features *features, int table, int column);

#endif
