/*
 * test_ops.c: every operation on every backend present, against the reference.
 *
 * For each case (ops/ has them by subject) and each of a list of odd shapes:
 * results are those of the reference within the case's tolerance; they are bit
 * for bit the same for 1, 2 and 7 threads (on a device: for three runs); and rows
 * whose results depend on nothing else keep their bits in other company.
 * So are large results, which are stored otherwise. Then gradients against finite differences, and arrays of more than
 * 2^31 numbers. An operation without a case, or absent from a backend, is a failure.
 *
 * One argument is a pattern for the names of the tests to run.
 */
#include "ops/gradient.h"
#include "ops/ops.h"

#include <malloc.h>
#include <stdio.h>
#include <string.h>

#define TRIES 3

static const int threads[TRIES] = {1, 2, 7};
static const int64_t shapes[][2] = {{0, 5},  {5, 0},   {1, 1},   {1, 8},    {2, 3},     {7, 9},    {3, 257},
                                    {33, 4}, {200, 1}, {65, 64}, {97, 128}, {1030, 70}, {4500, 17}};
#define SHAPES ((int) (sizeof(shapes) / sizeof(*shapes)))

static struct
{
    const ops_case *cases;
    const int *count;
} const subjects[] = {{ops_dense_cases, &ops_dense_count},     {ops_elementwise_cases, &ops_elementwise_count},
                      {ops_row_cases, &ops_row_count},         {ops_sparse_cases, &ops_sparse_count},
                      {ops_segment_cases, &ops_segment_count}, {ops_mixture_cases, &ops_mixture_count},
                      {ops_loss_cases, &ops_loss_count}};
#define SUBJECTS ((int) (sizeof(subjects) / sizeof(*subjects)))

/* What is present, and a job for each number of threads: opening a device takes long. */
static ops_backend backends[OPS_MOST_BACKENDS];
static int backend_count;
static moe_job *jobs[OPS_MOST_BACKENDS][TRIES];
static moe_job *reference_job;

static int
open_backends(void **state)
{
    char reason[512];
    reference_job = start_job(1);
    backend_count = ops_backends(backends);
    for (int b = 0; b < backend_count; b++)
    {
        for (int t = 0; t < TRIES; t++)
            jobs[b][t] = ops_start(&backends[b], threads[t], reason, sizeof(reason));
    }
    return 0;
}

static int
close_backends(void **state)
{
    for (int b = 0; b < backend_count; b++)
    {
        for (int t = 0; t < TRIES; t++)
            moe_job_destroy(jobs[b][t]);
    }
    moe_job_destroy(reference_job);
    return 0;
}

static const moe_backend *
table_of(int b)
{
    return backends[b].table != NULL ? backends[b].table : moe_job_backend(jobs[b][0]);
}

static bool
has_entry(const moe_backend *table, size_t entry)
{
    void (*function)(void);
    memcpy(&function, (const char *) table + entry, sizeof(function));
    return function != NULL;
}

/* A run of the whole of a shape on a job. */
static ops_run
whole_run(moe_job *job, const moe_backend *table, int shape, bool add)
{
    return (ops_run){.job = job,
                     .backend = table,
                     .whole = shapes[shape][0],
                     .rows = shapes[shape][0],
                     .cols = shapes[shape][1],
                     .add = add,
                     .shifted = (shape + add) % 2 == 1};
}

static const ops_case *
case_named(const char *name)
{
    for (int s = 0; s < SUBJECTS; s++)
        for (int i = 0; i < *subjects[s].count; i++)
            if (strcmp(subjects[s].cases[i].name, name) == 0)
                return &subjects[s].cases[i];
    fail_msg("there is no case of %s", name);
    return NULL;
}

static bool
gives_rows(const ops_run *run)
{
    for (int i = 0; i < run->arrays; i++)
    {
        if (run->array[i].per_row > 0)
            return true;
    }
    return false;
}

/* The rows from one third on for one half: other neighbours, other places in a vector or a chunk. */
static void
check_company(const ops_case *c, int b, const ops_run *whole)
{
    if (backends[b].table == NULL || whole->rows < 2 || !gives_rows(whole))
        return;
    ops_run part = *whole;
    part.job = jobs[b][1];
    part.arrays = part.hosts = 0;
    part.first = whole->rows / 3;
    part.rows = (whole->rows + 1) / 2;
    ops_execute(c, &part);
    ops_compare_bits(c, backends[b].name, "without the other rows", &part, whole);
    ops_release(&part);
}

/* A device that is emulated takes minutes for the largest shapes. */
static bool
too_large(int b, int shape)
{
    moe_device *device = moe_job_device(jobs[b][0]);
    return device != NULL && strstr(device->name, "emulated") != NULL && shapes[shape][0] * shapes[shape][1] > 5000;
}

static void
check_shape(const ops_case *c, int b, int shape, const ops_run *expected)
{
    ops_run run[TRIES];
    for (int t = 0; t < TRIES; t++)
    {
        run[t] = whole_run(jobs[b][t], table_of(b), shape, expected->add);
        ops_execute(c, &run[t]);
        ops_compare(c, backends[b].name, &run[t], expected, backends[b].looser);
        if (t > 0)
            ops_compare_bits(c, backends[b].name, t == 1 ? "with two threads" : "with seven threads", &run[t], &run[0]);
    }
    check_company(c, b, &run[0]);
    for (int t = 0; t < TRIES; t++)
        ops_release(&run[t]);
}

static void
check_case(void **state)
{
    const ops_case *c = *state;
    assert_true(has_entry(&moe_backend_reference, c->entry));
    for (int shape = 0; shape < SHAPES; shape++)
    {
        if (shapes[shape][1] < c->least_cols || (ops_slow() && shapes[shape][0] * shapes[shape][1] > 5000))
            continue;
        for (int add = 0; add < 2; add++)
        {
            ops_run expected = whole_run(reference_job, &moe_backend_reference, shape, add);
            ops_execute(c, &expected);
            for (int b = 0; b < backend_count; b++)
            {
                assert_true(has_entry(table_of(b), c->entry));
                if (!too_large(b, shape))
                    check_shape(c, b, shape, &expected);
            }
            ops_release(&expected);
        }
    }
}

static void
check_pair(void **state)
{
    const ops_pair *pair = *state;
    for (int b = -1; b < backend_count; b++)
    {
        const moe_backend *table = b < 0 ? &moe_backend_reference : table_of(b);
        ops_check_gradient(pair, reference_job, b < 0 ? reference_job : jobs[b][1], table, table->name);
    }
}

/* The name of the operation at a place of the table, or NULL. */
static const char *
name_of_entry(size_t entry)
{
    for (int s = 0; s < SUBJECTS; s++)
    {
        for (int i = 0; i < *subjects[s].count; i++)
        {
            if (subjects[s].cases[i].entry == entry)
                return subjects[s].cases[i].name;
        }
    }
    return NULL;
}

static void
every_operation_has_a_case_and_every_backend_has_it(void **state)
{
    int missing = 0;
    for (size_t entry = offsetof(moe_backend, linear); entry < sizeof(moe_backend); entry += sizeof(void (*)(void)))
    {
        const char *name = name_of_entry(entry);
        if (name == NULL)
        {
            print_error("the operation at place %zu of moe_backend has no case\n", entry / sizeof(void (*)(void)));
            missing++;
            continue;
        }
        for (int b = -1; b < backend_count; b++)
        {
            const moe_backend *table = b < 0 ? &moe_backend_reference : table_of(b);
            if (!has_entry(table, entry))
            {
                print_error("the backend %s has no %s\n", table->name, name);
                missing++;
            }
        }
    }
    assert_int_equal(missing, 0);
}

/* Results of 64 MB and a bit are written past the caches, but not from where vectors are unaligned: the bits are one.
 */
static void
results_past_the_caches_are_the_same(void **state)
{
    static const char *const names[] = {"relu_dropout",        "exp_backward", "layer_norm_relu",
                                        "layer_norm_backward", "gather",       "sum_rows"};
    int64_t rows = ((int64_t) 16 << 20) / 128 + 3;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* gigabytes, and their shadows */
#endif
    if (ops_slow())
        skip();
    for (int b = 0; b < backend_count; b++)
    {
        for (size_t n = 0; n < sizeof(names) / sizeof(*names) && backends[b].table != NULL; n++)
        {
            const ops_case *c = case_named(names[n]);
            ops_run run[2];
            for (int i = 0; i < 2; i++)
            {
                run[i] = (ops_run){.job = jobs[b][1],
                                   .backend = table_of(b),
                                   .whole = rows,
                                   .rows = rows,
                                   .cols = 128,
                                   .shifted = i == 1};
                ops_execute(c, &run[i]);
            }
            ops_compare_bits(c, backends[b].name, "past the caches", &run[0], &run[1]);
            ops_release(&run[0]);
            ops_release(&run[1]);
        }
    }
}

static void
indices_pass_two_to_the_31st_number(void **state)
{
    int checked = 0;
    if (ops_slow())
        skip();
    for (int b = -1; b < backend_count; b++)
    {
        if (b < 0)
            checked += ops_check_large(reference_job, &moe_backend_reference);
        else if (backends[b].table != NULL)
            checked += ops_check_large(jobs[b][1], table_of(b));
    }
    if (checked == 0)
        skip();
}

int
main(int argc, char **argv)
{
    struct CMUnitTest tests[256] = {cmocka_unit_test(every_operation_has_a_case_and_every_backend_has_it),
                                    cmocka_unit_test(indices_pass_two_to_the_31st_number),
                                    cmocka_unit_test(results_past_the_caches_are_the_same)};
    char names[64][64];
    size_t n = 3;
    assert_true(ops_pair_count <= 64);
    for (int s = 0; s < SUBJECTS; s++)
    {
        for (int i = 0; i < *subjects[s].count; i++)
        {
            const ops_case *c = &subjects[s].cases[i];
            tests[n++] =
                (struct CMUnitTest){.name = c->name, .test_func = check_case, .initial_state = (void *) (uintptr_t) c};
        }
    }
    for (int i = 0; i < ops_pair_count; i++, n++)
    {
        snprintf(names[i], sizeof(names[i]), "gradient of %s", ops_pairs[i].name);
        tests[n] = (struct CMUnitTest){
            .name = names[i], .test_func = check_pair, .initial_state = (void *) (uintptr_t) &ops_pairs[i]};
    }
    /* Arrays come and go by the thousand: their pages need not go back each time. */
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return _cmocka_run_group_tests("operations", tests, n, open_backends, close_backends);
}
