/*
 * aggregates.h: time-correct relational aggregates: columns for any row at any moment, of any schema.
 *
 * A plan is fitted once (which columns there are, lists of frequent codes, what
 * is constant) on the rows known at the end of training, stored with the model,
 * bound to today's rows, and then computed for any seeds. Every column looks
 * at rows with row time <= horizon alone, and at a late column's value only
 * from the moment it became known.
 *
 * Families (docs/aggregates.md says what each column is):
 *   own       the row's own columns, and those of the rows its foreign keys point at
 *   season    the seed time's place in the year, and how far the horizon lies behind it
 *   children  of the row, over each foreign key: counts, time since the last, and for each numeric column, NULL and
 *             frequent code exponential means, windows and the last value
 *   siblings  each child against the other children of a row it shares: rank and difference from the mean
 *   hops      children and siblings of the row that the latest visible child (or the row itself) points at
 *   partners  of every child, what was known at its own time of the other rows it points at: their columns and children
 *
 * A NULL is NaN. Results are the same for any number of threads and in any
 * company of seeds, bit for bit.
 */
#ifndef MOE_AGGREGATES_H
#define MOE_AGGREGATES_H

#include "embed/reach.h"
#include "embed/relational.h"
#include "kernels/buffer.h"
#include "kernels/job.h"

typedef struct moe_aggregates moe_aggregates;

/*
 * Decide the columns for rows of table `entity`. fit_rows: [n_tables] rows visible at the end of training, whose values
 * are as they were known then. window: the label window, microseconds; windows are multiples of it (a day where it
 * is 0). max_columns: at most so many (32767), the families in the order above. Keys are at most 1000. What db points
 * at need live only for the call.
 */
moe_code moe_aggregates_fit(moe_job *job, const moe_relational *db, int entity, const int64_t *fit_rows, int64_t window,
                            int max_columns, moe_aggregates **out);
/* Compute over these rows from now on (the same tables, columns and relations, by position, as fitted). */
moe_code moe_aggregates_bind(moe_aggregates *aggregates, const moe_relational *db);
void moe_aggregates_destroy(moe_aggregates *aggregates);

typedef enum moe_aggregate_family
{
    MOE_FAMILY_OWN,
    MOE_FAMILY_SEASON,
    MOE_FAMILY_CHILDREN,
    MOE_FAMILY_SIBLINGS,
    MOE_FAMILY_HOPS,
    MOE_FAMILY_PARTNERS
} moe_aggregate_family;

int moe_aggregates_columns(const moe_aggregates *aggregates);
/* For people: "mean of results.points over 360 days". Lives as long as the aggregates. */
const char *moe_aggregates_name(const moe_aggregates *aggregates, int column);
moe_aggregate_family moe_aggregates_family_of(const moe_aggregates *aggregates, int column);
/* Whether a column needs rows of a table (the entity's own row apart). */
bool moe_aggregates_needs(const moe_aggregates *aggregates, int column, int table);
/* Whether a column needs nothing but the row itself and the moment. */
bool moe_aggregates_is_of_row(const moe_aggregates *aggregates, int column);
/* The table that holds the values a column is about (the entity's for its own), and the column there, or -1. */
int moe_aggregates_table(const moe_aggregates *aggregates, int column);
int moe_aggregates_source(const moe_aggregates *aggregates, int column);

/* Add to a reach the rows around a row that its columns are computed from. */
void moe_aggregates_reach(const moe_aggregates *aggregates, moe_reach *reach);

/* Write [n, columns], row-major; NaN is NULL, all else is finite. disabled: NULL, or a flag a table: columns that need
 * it are NaN. */
moe_code moe_aggregates_compute(moe_aggregates *aggregates, const moe_moments *moments, const bool *disabled,
                                float *out);

void moe_aggregates_write(const moe_aggregates *aggregates, moe_buffer *buffer);
/* Hostile input is refused with MOE_CORRUPT. */
moe_code moe_aggregates_read(moe_job *job, moe_reader *reader, moe_aggregates **out);

#endif
