/*
 * world.h: made-up databases for the tests of aggregates: small, and with everything that can go wrong in them.
 *
 * Few tables with few rows: NULLs, ties in time, rows without a time, tables
 * without times or rows, keys to the own table, two keys between the same
 * tables, keys to younger rows, late columns. All is a function of a number.
 */
#ifndef MOE_TEST_WORLD_H
#define MOE_TEST_WORLD_H

#include "embed/relational.h"
#include "kernels/job.h"

#define WORLD_DAY INT64_C(86400000000)
#define WORLD_END (100 * WORLD_DAY) /* the latest row time */

typedef enum future /* what became of rows and values later than a horizon */
{
    FUTURE_AS_IT_CAME,
    FUTURE_GONE,
    FUTURE_DIFFERENT
} future;

/* Database number `key`; owned by the job. Rows and values known up to the horizon are the same in every future. */
moe_relational *make_world(moe_job *job, uint64_t key, int64_t horizon, future what);
/* Rows visible at a moment, of each table; of a table without times all. */
void world_visible(const moe_relational *db, int64_t horizon, int64_t *rows);

/* n moments of rows of a table, some with a horizon before the moment. Of a row more than one. */
moe_moments make_moments(moe_job *job, const moe_relational *db, int entity, int64_t n, uint64_t key, int64_t latest);

/* A database of one table of parents and one of children with a number, for tests of a single rule. */
/* A relation's children of each parent, in order of rows, from parent_of. */
void make_children(moe_job *job, moe_relation *r, int64_t n_children, int64_t n_parents);

typedef struct small_world
{
    moe_relational db;
    moe_table tables[2];
    moe_row_times times[2];
    moe_relation relation;
    moe_column column;
    int64_t fit_rows[2];
} small_world;

/* time: NULL, or [n] ascending. All children are the first parent's. */
void make_small_world(moe_job *job, small_world *w, int64_t n, const double *values, const int64_t *time);

#endif
