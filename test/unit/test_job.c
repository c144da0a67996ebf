/*
 * test_job.c: memory, limits, arenas, threads and cancellation of a job, and random numbers.
 */
#include "core.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define MEGABYTE ((int64_t) 1 << 20)

static moe_job *
start_limited_job(size_t limit)
{
    moe_job_config config = {.threads = 1, .memory_limit = limit};
    moe_job *job;
    assert_int_equal(moe_job_create(&config, &job), MOE_OK);
    return job;
}

static void
memory_is_zeroed_aligned_and_counted(void **state)
{
    moe_job *job = start_job(1);
    for (int64_t n = 0; n < 300; n += 7)
    {
        char *ptr = moe_alloc(job, n, 1);
        assert_non_null(ptr);
        assert_int_equal((uintptr_t) ptr % 64, 0);
        for (int64_t i = 0; i < n; i++)
            assert_int_equal(ptr[i], 0);
        memset(ptr, 1, (size_t) n);
        moe_free(job, ptr);
    }
    moe_free(job, NULL);
    assert_int_equal(moe_job_memory_used(job), 0);
    assert_true(moe_job_memory_peak(job) >= 294);
    moe_job_destroy(job);
}

static void
realloc_keeps_old_content_and_zeroes_the_new(void **state)
{
    moe_job *job = start_job(1);
    moe_alloc(job, 3, 1); /* a neighbour in the list of blocks */
    unsigned char *ptr = NULL;
    int64_t kept = 0;
    for (int64_t n = 1; n < 3 * MEGABYTE; n = n * 5 / 3 + 1)
    {
        ptr = moe_realloc(job, ptr, n, 1);
        assert_non_null(ptr);
        assert_int_equal((uintptr_t) ptr % 64, 0);
        for (int64_t i = 0; i < n; i++)
            assert_int_equal(ptr[i], i < kept ? i % 251 : 0);
        for (int64_t i = 0; i < n; i++)
            ptr[i] = (unsigned char) (i % 251);
        kept = n;
    }
    moe_alloc(job, 3, 1);
    ptr = moe_realloc(job, ptr, 10, 1);
    assert_int_equal(ptr[9], 9);
    assert_true(moe_job_memory_used(job) < 2000);
    moe_job_destroy(job); /* frees what was forgotten: the address sanitizer looks */
}

static void
limit_is_reported_with_how_much_is_missing(void **state)
{
    moe_job *job = start_limited_job(512 * MEGABYTE);
    assert_non_null(moe_alloc(job, 100, MEGABYTE));
    assert_null(moe_alloc(job, 535, MEGABYTE));
    assert_int_equal(moe_job_code(job), MOE_LIMIT);
    assert_string_equal(moe_job_error(job), "the work needs 123 MB more than the memory limit of 512 MB");
    assert_true(moe_job_memory_peak(job) < 512 * MEGABYTE);
    moe_job_destroy(job);
}

static void
the_limit_holds_what_others_take(void **state)
{
    moe_job *job = start_limited_job(512 * MEGABYTE);
    moe_job_set_memory_elsewhere(job, 500 * MEGABYTE);
    char *ptr = moe_alloc(job, 10, MEGABYTE);
    assert_non_null(ptr);
    assert_null(moe_alloc(job, 25, MEGABYTE));
    assert_int_equal(moe_job_code(job), MOE_LIMIT);
    assert_string_equal(moe_job_error(job), "the work needs 23 MB more than the memory limit of 512 MB");
    moe_job_destroy(job);

    job = start_limited_job(512 * MEGABYTE);
    moe_job_set_memory_elsewhere(job, SIZE_MAX);
    assert_null(moe_alloc(job, 10, 1));
    moe_job_destroy(job);

    job = start_limited_job(0);
    moe_job_set_memory_elsewhere(job, 500 * MEGABYTE);
    assert_non_null(moe_alloc(job, 10, 1));
    moe_job_destroy(job);
}

static void
realloc_over_the_limit_leaves_the_old_memory(void **state)
{
    moe_job *job = start_limited_job(MEGABYTE);
    char *ptr = moe_alloc(job, 10, 1);
    strcpy(ptr, "kept");
    assert_null(moe_realloc(job, ptr, 2, MEGABYTE));
    assert_int_equal(moe_job_code(job), MOE_LIMIT);
    assert_string_equal(ptr, "kept");
    moe_job_destroy(job);
}

static void
sizes_that_overflow_are_refused(void **state)
{
    int64_t counts[] = {INT64_MAX, -1, INT64_MAX / 4};
    for (int i = 0; i < 3; i++)
    {
        moe_job *job = start_job(1);
        assert_null(moe_alloc(job, counts[i], 64));
        assert_int_not_equal(moe_job_code(job), MOE_OK);
        moe_job_destroy(job);

        job = start_job(1);
        assert_null(moe_arena_alloc(moe_arena_create(job), counts[i], 64));
        assert_int_not_equal(moe_job_code(job), MOE_OK);
        moe_job_destroy(job);
    }
}

static void
first_failure_wins(void **state)
{
    moe_job *job = start_job(1);
    assert_string_equal(moe_job_error(job), "");
    assert_int_equal(moe_fail(job, MOE_INVALID, "column %d", 7), MOE_INVALID);
    assert_int_equal(moe_fail(job, MOE_CORRUPT, "later"), MOE_CORRUPT);
    assert_int_equal(moe_job_code(job), MOE_INVALID);
    assert_string_equal(moe_job_error(job), "column 7");
    moe_job_destroy(job);
}

static bool
read_flag(void *arg)
{
    return *(bool *) arg;
}

static void
cancellation_is_recorded_when_polled(void **state)
{
    bool flag = false;
    moe_job_config config = {.threads = 2, .cancelled = read_flag, .cancel_arg = &flag};
    moe_job *job;
    assert_int_equal(moe_job_create(&config, &job), MOE_OK);
    assert_int_equal(moe_job_check(job), MOE_OK);
    flag = true;
    assert_true(moe_job_cancelled(job));
    assert_int_equal(moe_job_code(job), MOE_OK);
    assert_int_equal(moe_job_check(job), MOE_CANCELLED);
    flag = false;
    assert_int_equal(moe_job_check(job), MOE_CANCELLED);
    moe_job_destroy(job);
}

static void
arena_gives_distinct_aligned_memory(void **state)
{
    moe_job *job = start_job(1);
    moe_arena *arena = moe_arena_create(job);
    char *parts[200];
    for (int round = 0; round < 3; round++)
    {
        for (int i = 0; i < 200; i++)
        {
            parts[i] = moe_arena_alloc(arena, i * 101, 1);
            assert_non_null(parts[i]);
            assert_int_equal((uintptr_t) parts[i] % 64, 0);
            memset(parts[i], i, (size_t) i * 101);
        }
        for (int i = 0; i < 200; i++)
        {
            for (int k = 0; k < i * 101; k++)
                assert_int_equal((unsigned char) parts[i][k], i);
        }
        char *zero = moe_arena_zalloc(arena, 10000, 1);
        for (int i = 0; i < 10000; i++)
            assert_int_equal(zero[i], 0);
        moe_arena_reset(arena);
    }
    assert_ptr_equal(moe_arena_job(arena), job);
    moe_arena_destroy(arena);
    assert_int_equal(moe_job_memory_used(job), 0);
    moe_job_destroy(job);
}

static void
arena_reuses_its_blocks(void **state)
{
    moe_job *job = start_job(1);
    moe_arena *arena = moe_arena_create(job);
    size_t after_first = 0;
    for (int round = 0; round < 20; round++)
    {
        for (int i = 0; i < 10; i++)
            assert_non_null(moe_arena_alloc(arena, MEGABYTE, 1));
        after_first = round == 0 ? moe_job_memory_used(job) : after_first;
        assert_true(moe_job_memory_used(job) <= after_first);
        moe_arena_reset(arena);
    }
    moe_job_destroy(job);
}

static void
arena_gives_back_what_stays_unused(void **state)
{
    moe_job *job = start_job(1);
    moe_arena *arena = moe_arena_create(job);
    assert_non_null(moe_arena_alloc(arena, 100, MEGABYTE));
    for (int round = 0; round < 20; round++)
    {
        moe_arena_reset(arena);
        assert_non_null(moe_arena_alloc(arena, 200 + round, MEGABYTE));
        assert_non_null(moe_arena_alloc(arena, 1, 1));
    }
    moe_arena_reset(arena);
    for (int round = 0; round < 20; round++)
    {
        assert_non_null(moe_arena_alloc(arena, 1, 1));
        moe_arena_reset(arena);
    }
    assert_true(moe_job_memory_used(job) < 300 * (size_t) MEGABYTE);
    moe_job_destroy(job);
}

/* A limit that one step fits into must do for steps of any other shape that fit, too. */
static void
arena_frees_empty_blocks_before_it_fails(void **state)
{
    moe_job *job = start_limited_job(100 * MEGABYTE);
    moe_arena *arena = moe_arena_create(job);
    for (int round = 0; round < 10; round++)
    {
        assert_non_null(moe_arena_alloc(arena, 50 + 4 * round, MEGABYTE));
        moe_arena_reset(arena);
    }
    assert_int_equal(moe_job_code(job), MOE_OK);
    assert_null(moe_arena_alloc(arena, 101, MEGABYTE));
    assert_int_equal(moe_job_code(job), MOE_LIMIT);
    moe_job_destroy(job);
}

typedef struct visit
{
    _Atomic int count[1000];
    int64_t grain;
} visit;

static void
visit_range(int64_t begin, int64_t end, void *arg)
{
    visit *v = arg;
    assert_int_equal(begin % v->grain, 0);
    assert_true(end - begin <= v->grain && (end - begin == v->grain || end == 1000));
    for (int64_t i = begin; i < end; i++)
        v->count[i]++;
}

static void
parallel_visits_every_item_once_in_fixed_chunks(void **state)
{
    int threads[] = {1, 2, 7};
    for (int t = 0; t < 3; t++)
    {
        moe_job *job = start_job(threads[t]);
        assert_int_equal(moe_job_threads(job), threads[t]);
        for (int64_t grain = 1; grain < 2000; grain = grain * 3 + 1)
        {
            visit v = {.grain = grain};
            moe_parallel(job, 1000, grain, visit_range, &v);
            for (int i = 0; i < 1000; i++)
                assert_int_equal(v.count[i], 1);
        }
        moe_parallel(job, 0, 10, visit_range, NULL);
        moe_job_destroy(job);
    }
}

typedef struct mask_check
{
    pthread_t main_thread;
    _Atomic int open_masks; /* threads other than ours that would take SIGINT */
    _Atomic int other;      /* chunks run elsewhere */
} mask_check;

static void
check_mask_range(int64_t begin, int64_t end, void *arg)
{
    mask_check *check = arg;
    sigset_t mask;
    usleep(1000); /* long enough for the others to wake */
    if (pthread_equal(pthread_self(), check->main_thread))
        return;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    check->other++;
    if (!sigismember(&mask, SIGINT) || !sigismember(&mask, SIGTERM) || !sigismember(&mask, SIGUSR1))
        check->open_masks++;
}

static void
worker_threads_block_signals(void **state)
{
    moe_job *job = start_job(4);
    mask_check check = {.main_thread = pthread_self()};
    moe_parallel(job, 100, 1, check_mask_range, &check);
    assert_true(check.other > 0);
    assert_int_equal(check.open_masks, 0);

    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    assert_false(sigismember(&mask, SIGINT));
    moe_job_destroy(job);
}

static pthread_t job_thread;
static int waits_begun, waits_over;

static void
count_wait(moe_wait wait)
{
    assert_true(pthread_equal(pthread_self(), job_thread));
    if (wait == MOE_WAIT_THREADS)
        waits_begun++;
    else if (wait == MOE_WAIT_NONE)
        waits_over++;
    assert_true(waits_begun - waits_over == (wait == MOE_WAIT_NONE ? 0 : 1));
}

/* The other thread has the longer chunk. */
static void
sleep_elsewhere(int64_t begin, int64_t end, void *arg)
{
    atomic_int *arrived = arg;

    atomic_fetch_add(arrived, 1);
    while (atomic_load(arrived) < 2)
        usleep(100);
    if (!pthread_equal(pthread_self(), job_thread))
        usleep(20000);
}

static void
waits_for_threads_are_told_by_the_jobs_own(void **state)
{
    moe_job_config config = {.threads = 2, .waiting = count_wait};
    atomic_int arrived = 0;
    moe_job *job;

    job_thread = pthread_self();
    assert_int_equal(moe_job_create(&config, &job), MOE_OK);
    moe_parallel(job, 2, 1, sleep_elsewhere, &arrived);
    assert_int_equal(waits_begun, 1);
    assert_int_equal(waits_over, 1);
    moe_job_destroy(job);
}

static void
random_numbers_have_the_right_moments(void **state)
{
    double uniform = 0, normal = 0, square = 0;
    int n = 100000;
    for (int i = 0; i < n; i++)
    {
        double u = moe_random_uniform(5, (uint64_t) i);
        double z = moe_random_normal(6, (uint64_t) i);
        assert_true(u >= 0 && u < 1 && isfinite(z));
        uniform += u / n;
        normal += z / n;
        square += z * z / n;
    }
    assert_true(fabs(uniform - 0.5) < 0.005);
    assert_true(fabs(normal) < 0.02);
    assert_true(fabs(square - 1) < 0.03);
}

static void
hashes_are_stable_and_tell_inputs_apart(void **state)
{
    /* Stored models depend on these values. */
    assert_true(moe_hash_bytes("customer", 8, 0) == moe_hash_bytes("customers", 8, 0));
    assert_true(moe_hash_bytes("customer", 8, 0) != moe_hash_bytes("customers", 9, 0));
    assert_true(moe_hash_bytes("a", 1, 0) != moe_hash_bytes("a\0", 2, 0));
    assert_true(moe_hash_bytes("a", 1, 0) != moe_hash_bytes("a", 1, 1));
    assert_true(moe_hash_bytes("", 0, 0) == moe_hash_bytes(NULL, 0, 0));
    assert_true(moe_hash_bytes("relational", 10, 42) == UINT64_C(0x6fa0935e544092f));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zeroed_aligned_and_counted),
        cmocka_unit_test(realloc_keeps_old_content_and_zeroes_the_new),
        cmocka_unit_test(limit_is_reported_with_how_much_is_missing),
        cmocka_unit_test(the_limit_holds_what_others_take),
        cmocka_unit_test(realloc_over_the_limit_leaves_the_old_memory),
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(first_failure_wins),
        cmocka_unit_test(cancellation_is_recorded_when_polled),
        cmocka_unit_test(arena_gives_distinct_aligned_memory),
        cmocka_unit_test(arena_reuses_its_blocks),
        cmocka_unit_test(arena_gives_back_what_stays_unused),
        cmocka_unit_test(arena_frees_empty_blocks_before_it_fails),
        cmocka_unit_test(parallel_visits_every_item_once_in_fixed_chunks),
        cmocka_unit_test(worker_threads_block_signals),
        cmocka_unit_test(waits_for_threads_are_told_by_the_jobs_own),
        cmocka_unit_test(random_numbers_have_the_right_moments),
        cmocka_unit_test(hashes_are_stable_and_tell_inputs_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
