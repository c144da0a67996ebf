/*
 * plans.h: fitting and computing aggregates, as their tests do it.
 */
#ifndef MOE_TEST_PLANS_H
#define MOE_TEST_PLANS_H

#include <string.h>

#include "embed/aggregates.h"
#include "test/unit/aggregates/world.h"
#include "test/unit/core.h"

#define WORLDS  60
#define SEEDS   24
#define HORIZON (50 * WORLD_DAY)
#define TABLES  8
#define ALL     INT16_MAX

static inline moe_aggregates *
fit(moe_job *job, const moe_relational *db, const int64_t *fit_rows, int64_t window, int max_columns)
{
    moe_aggregates *a = NULL;

    assert_int_equal(moe_aggregates_fit(job, db, 0, fit_rows, window, max_columns, &a), MOE_OK);
    return a;
}

static inline float *
compute(moe_job *job, moe_aggregates *a, const moe_moments *moments, const bool *disabled)
{
    float *out = moe_alloc(job, moments->n * moe_aggregates_columns(a) + 1, sizeof(*out));

    assert_non_null(out);
    assert_int_equal(moe_aggregates_compute(a, moments, disabled, out), MOE_OK);
    return out;
}

/* Fitted to what is visible at HORIZON, computed over all. */
static inline float *
fit_and_compute(moe_job *job, const moe_relational *db, const moe_moments *moments, moe_aggregates **a)
{
    int64_t fit_rows[TABLES];

    world_visible(db, HORIZON, fit_rows);
    *a = fit(job, db, fit_rows, 5 * WORLD_DAY, ALL);
    assert_int_equal(moe_aggregates_bind(*a, db), MOE_OK);
    return compute(job, *a, moments, NULL);
}

static inline int
find_column(const moe_aggregates *a, const char *name)
{
    for (int c = 0; c < moe_aggregates_columns(a); c++)
        if (strcmp(moe_aggregates_name(a, c), name) == 0)
            return c;
    return -1;
}

#endif
