/* How alike vectors, rankings and multisets are, on known ones. */
#include "test/unit/core.h"

#include <math.h>

#include "embed/similarity.h"

static void
cosines_are_those_of_known_vectors(void **state)
{
    static const float a[] = {1, 2, 2}, b[] = {-2, -4, -4}, c[] = {0, 1, -1}, zero[] = {0, 0, 0};

    assert_true(fabs(moe_cosine(a, a, 3) - 1) < 1e-12);
    assert_true(fabs(moe_cosine(a, b, 3) + 1) < 1e-12);
    assert_true(moe_cosine(a, c, 3) == 0);
    assert_true(moe_cosine(a, zero, 3) == 0);
}

static double
spearman(moe_job *job, const double *x, const double *y, int64_t n)
{
    double r;

    assert_int_equal(moe_spearman(job, x, y, n, &r), MOE_OK);
    return r;
}

static void
rank_correlation_sees_order_alone(void **state)
{
    static const double x[] = {1, 2, 3, 4, 5}, cubes[] = {1, 8, 27, 64, 125}, down[] = {9, 7, 1, 0, -3};
    static const double tied[] = {1, 1, 2, 3, 3}, same[] = {4, 4, 4, 4, 4};
    moe_job *job = start_job(1);

    assert_true(fabs(spearman(job, x, cubes, 5) - 1) < 1e-12);
    assert_true(fabs(spearman(job, x, down, 5) + 1) < 1e-12);
    /* Ranks 1.5, 1.5, 3, 4.5, 4.5 against 1 to 5: 9 / sqrt(10 * 9). */
    assert_true(fabs(spearman(job, x, tied, 5) - 9 / sqrt(90)) < 1e-12);
    assert_true(isnan(spearman(job, x, same, 5)));
    assert_true(isnan(spearman(job, x, cubes, 2)));
    moe_job_destroy(job);
}

static void
multisets_count_repeats(void **state)
{
    static const int32_t a[] = {1, 1, 2, 5}, b[] = {1, 1, 1, 2, 3};

    assert_true(moe_multiset_jaccard(a, 4, a, 4) == 0.5);
    assert_true(fabs(moe_multiset_jaccard(a, 4, b, 5) - 3.0 / 9) < 1e-12);
    assert_true(moe_multiset_jaccard(b, 5, a, 4) == moe_multiset_jaccard(a, 4, b, 5));
    assert_true(moe_multiset_jaccard(a, 0, b, 0) == 0);
}

static void
nearest_rows_are_those_of_a_plain_search(void **state)
{
    moe_job *job = start_job(2);
    const int64_t n = 50, width = 6, stride = 9, k = 7;
    float *x = normal_floats(job, n * stride, 3);
    int32_t *near = moe_alloc(job, n, k * sizeof(*near));

    assert_int_equal(moe_nearest_rows(job, x, n, width, stride, k, near), MOE_OK);
    for (int64_t i = 0; i < n; i++)
        for (int64_t other = 0; other < n; other++)
        {
            int64_t nearer = 0, place = -1;
            double cosine = moe_cosine(x + i * stride, x + other * stride, width);

            for (int64_t r = 0; r < n; r++)
                nearer += r != i && r != other && moe_cosine(x + i * stride, x + r * stride, width) > cosine;
            for (int64_t r = 0; r < k; r++)
                place = near[i * k + r] == other ? r : place;
            assert_int_equal(place, other != i && nearer < k ? nearer : -1);
        }
    assert_int_equal(moe_nearest_rows(job, x, n, width, stride, n, near), MOE_INVALID);
    moe_job_destroy(job);
}

static void
shared_rows_ignore_their_order(void **state)
{
    static const int32_t a[] = {1, 2, 3, 4}, b[] = {2, 1, 9, 3};

    assert_true(moe_shared_rows(a, b, 2, 2) == 0.75);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cosines_are_those_of_known_vectors),
        cmocka_unit_test(rank_correlation_sees_order_alone),
        cmocka_unit_test(multisets_count_repeats),
        cmocka_unit_test(nearest_rows_are_those_of_a_plain_search),
        cmocka_unit_test(shared_rows_ignore_their_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
