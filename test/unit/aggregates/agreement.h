/*
 * agreement.h: computed columns against the plain version's.
 */
#ifndef MOE_TEST_AGREEMENT_H
#define MOE_TEST_AGREEMENT_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "embed/aggregates.h"
#include "test/unit/aggregates/naive.h"
#include "test/unit/core.h"

static inline bool
is_near(double a, double b)
{
    return isnan(a) || isnan(b) ? isnan(a) && isnan(b) : fabs(a - b) <= 1e-5 * (1 + fabs(a) + fabs(b));
}

typedef struct named
{
    const char *name;
    int column;
} named;

static inline int
compare_names(const void *a, const void *b)
{
    return strcmp(((const named *) a)->name, ((const named *) b)->name);
}

/* Place of each of the plain columns among the plan's; the sets must be equal, and no name occur twice. */
static inline int *
match_names(moe_job *job, const moe_aggregates *a, const naive *nv)
{
    int n = moe_aggregates_columns(a);
    named *names = moe_alloc(job, n, sizeof(*names));
    int *place = moe_alloc(job, n, sizeof(*place));

    for (int c = 0; c < n; c++)
        names[c] = (named){moe_aggregates_name(a, c), c};
    qsort(names, (size_t) n, sizeof(*names), compare_names);
    for (int c = 1; c < n; c++)
        assert_string_not_equal(names[c - 1].name, names[c].name);
    for (int c = 0; c < naive_columns(nv); c++)
    {
        named wanted = {naive_name(nv, c), 0};
        named *found = bsearch(&wanted, names, (size_t) n, sizeof(*names), compare_names);

        if (!found)
            fail_msg("no column is called \"%s\"", wanted.name);
        place[c] = found->column;
    }
    assert_int_equal(naive_columns(nv), n);
    return place;
}

/* Of one seed. */
static inline void
assert_agreement(const naive *nv, const int *place, const float *row, int world, int seed)
{
    for (int c = 0; c < naive_columns(nv); c++)
        if (!is_near(row[place[c]], naive_value(nv, c)))
            fail_msg("world %d, seed %d: \"%s\" is %g, not %g", world, seed, naive_name(nv, c), row[place[c]],
                     naive_value(nv, c));
}

#endif
