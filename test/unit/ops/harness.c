/*
 * harness.c: the arrays of a run, and what is said when one is wrong.
 *
 * Every array stands between two guards filled with a pattern that makes a
 * float huge and an index far out of range, so that reading beyond an array
 * shows in the results, and writing beyond it when the run ends. On the host
 * the guards are also closed to the address sanitizer and to valgrind.
 */
#include "ops.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define CLOSE_MEMORY(p, n) ASAN_POISON_MEMORY_REGION(p, n)
#define OPEN_MEMORY(p, n)  ASAN_UNPOISON_MEMORY_REGION(p, n)
#elif __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#define SLOW               RUNNING_ON_VALGRIND
#define CLOSE_MEMORY(p, n) VALGRIND_MAKE_MEM_NOACCESS(p, n)
#define OPEN_MEMORY(p, n)  VALGRIND_MAKE_MEM_DEFINED(p, n)
#else
#define CLOSE_MEMORY(p, n) ((void) (p), (void) (n))
#define OPEN_MEMORY(p, n)  ((void) (p), (void) (n))
#endif

#ifndef SLOW
#define SLOW false
#endif

bool
ops_slow(void)
{
    return SLOW;
}

#define GUARD   256
#define PATTERN 0x7f

static const size_t type_size[] = {[OPS_FLOAT] = sizeof(float),
                                   [OPS_DOUBLE] = sizeof(double),
                                   [OPS_INDEX] = sizeof(int32_t),
                                   [OPS_COUNT] = sizeof(int64_t)};

/* Draws from N(0, 1): made once, since every run wants thousands. */
#define DRAWS (INT64_C(1) << 18)
static float draws[DRAWS];

static void
fill_normal(float *values, int64_t n, uint64_t key, int64_t from)
{
    if (draws[0] == 0)
    {
        for (int64_t i = 0; i < DRAWS; i++)
            draws[i] = (float) moe_random_normal(1, (uint64_t) i);
    }
    for (int64_t i = 0; i < n; i++)
        values[i] = draws[((uint64_t) (from + i) + key * 40507) % DRAWS];
}

/* Zeroed memory until the run's end. */
static void *
host_memory(ops_run *run, int64_t n, size_t size)
{
    assert_true(run->hosts < OPS_MOST_HOST);
    void *memory = moe_alloc(run->job, n, size);
    assert_non_null(memory);
    run->host[run->hosts++] = memory;
    return memory;
}

void
ops_release(ops_run *run)
{
    for (int i = 0; i < run->arrays; i++)
        moe_device_free(run->job, run->array[i].block);
    for (int i = 0; i < run->hosts; i++)
        moe_free(run->job, run->host[i]);
    run->arrays = run->hosts = 0;
}

float *
ops_normal(ops_run *run, int64_t n, uint64_t key)
{
    float *values = host_memory(run, n, sizeof(float));
    fill_normal(values, n, key, 0);
    return values;
}

float *
ops_row_normal(ops_run *run, int64_t per_row, uint64_t key)
{
    float *values = host_memory(run, run->rows * per_row, sizeof(float));
    fill_normal(values, run->rows * per_row, key, run->first * per_row);
    return values;
}

static int32_t
draw_index(int64_t limit, uint64_t key, int64_t counter)
{
    double u = moe_random_uniform(key, (uint64_t) counter);
    return limit == 0 ? -1 : (int32_t) floor(u * u * (double) (limit + 1)) - 1;
}

static int32_t *
draw_indices(ops_run *run, int64_t n, int64_t from, int64_t limit, uint64_t key)
{
    int32_t *index = host_memory(run, n, sizeof(int32_t));
    for (int64_t i = 0; i < n; i++)
        index[i] = draw_index(limit, key, from + i);
    return index;
}

int32_t *
ops_index(ops_run *run, int64_t n, int64_t limit, uint64_t key)
{
    return draw_indices(run, n, 0, limit, key);
}

static size_t
bytes_of(const ops_array *a)
{
    return (size_t) a->n * type_size[a->type];
}

/* A new array of the run, with host values in its place. The device's memory is 64-byte aligned or better. */
static void *
add_array(ops_run *run, const char *name, ops_type type, int64_t n, int64_t per_row, const void *values)
{
    assert_true(run->arrays < OPS_MOST_ARRAYS);
    ops_array *a = &run->array[run->arrays++];
    *a = (ops_array){.name = name, .type = type, .n = n, .per_row = per_row};
    size_t before = GUARD + (run->shifted ? type_size[type] : 0), size = before + bytes_of(a) + GUARD;
    a->host = host_memory(run, n, type_size[type]);
    memcpy(a->host, values, bytes_of(a));
    char *filled = host_memory(run, (int64_t) size, 1);
    memset(filled, PATTERN, size);
    memcpy(filled + before, values, bytes_of(a));
    a->block = moe_device_alloc(run->job, (int64_t) size, 1);
    assert_non_null(a->block);
    a->data = a->block + before;
    moe_upload(run->job, a->block, filled, size);
    if (moe_job_device(run->job) == NULL)
    {
        CLOSE_MEMORY(a->block, before);
        CLOSE_MEMORY(a->data + bytes_of(a), GUARD);
    }
    return a->data;
}

const void *
ops_input(ops_run *run, ops_type type, int64_t n, const void *values)
{
    return add_array(run, NULL, type, n, 0, values);
}

const float *
ops_floats(ops_run *run, int64_t n, uint64_t key)
{
    return ops_input(run, OPS_FLOAT, n, ops_normal(run, n, key));
}

const float *
ops_row_floats(ops_run *run, int64_t per_row, uint64_t key)
{
    return ops_input(run, OPS_FLOAT, run->rows * per_row, ops_row_normal(run, per_row, key));
}

const int32_t *
ops_row_indices(ops_run *run, int64_t limit, uint64_t key)
{
    return ops_input(run, OPS_INDEX, run->rows, draw_indices(run, run->rows, run->first, limit, key));
}

static float *
output_of(ops_run *run, const char *name, int64_t n, int64_t per_row, bool add)
{
    float *values = host_memory(run, n, sizeof(float));
    fill_normal(values, n, 1000, run->first * per_row);
    for (int64_t i = 0; !add && i < n; i++)
        values[i] = NAN;
    return add_array(run, name, OPS_FLOAT, n, per_row, values);
}

float *
ops_output(ops_run *run, const char *name, int64_t n, bool add)
{
    return output_of(run, name, n, 0, add);
}

float *
ops_rows(ops_run *run, const char *name, int64_t per_row, bool add)
{
    return output_of(run, name, run->rows * per_row, per_row, add);
}

void *
ops_other_output(ops_run *run, const char *name, ops_type type, int64_t n)
{
    char *values = host_memory(run, n, type_size[type]);
    memset(values, 0xff, (size_t) n * type_size[type]);
    return add_array(run, name, type, n, 0, values);
}

void *
ops_changed(ops_run *run, const char *name, ops_type type, int64_t n, int64_t per_row, const void *values)
{
    return add_array(run, name, type, n, per_row, values);
}

/* Lengths 0 to 6 in turn, and one in 97 of 300 more. */
static int64_t
list_length(int64_t row)
{
    return row % 7 + (row % 97 == 13 ? 300 : 0);
}

ops_lists
ops_make_lists(ops_run *run)
{
    ops_lists lists = {0};
    for (int64_t i = 0; i < run->first; i++)
        lists.before += list_length(i);
    int64_t *offset = host_memory(run, run->rows + 1, sizeof(int64_t));
    for (int64_t i = 0; i < run->rows; i++)
        offset[i + 1] = offset[i] + list_length(run->first + i);
    lists.host_offset = offset;
    lists.entries = offset[run->rows];
    lists.offset = ops_input(run, OPS_COUNT, run->rows + 1, offset);
    return lists;
}

const int32_t *
ops_list_indices(ops_run *run, const ops_lists *lists, int64_t limit, uint64_t key)
{
    int32_t *index = draw_indices(run, lists->entries, lists->before, limit, key);
    for (int64_t i = 0; i < run->rows; i++)
    {
        for (int64_t k = lists->host_offset[i]; (run->first + i) % 11 == 3 && k < lists->host_offset[i + 1]; k++)
            index[k] = -1;
    }
    return ops_input(run, OPS_INDEX, lists->entries, index);
}

const float *
ops_list_floats(ops_run *run, const ops_lists *lists, int64_t per_entry, uint64_t key)
{
    int64_t n = lists->entries * per_entry;
    float *values = host_memory(run, n, sizeof(float));
    fill_normal(values, n, key, lists->before * per_entry);
    return ops_input(run, OPS_FLOAT, n, values);
}

static void
describe(char *text, size_t size, const ops_case *c, const char *backend, const ops_run *run)
{
    snprintf(text, size, "%s on %s, [%" PRId64 ", %" PRId64 "]%s%s", c->name, backend, run->rows, run->cols,
             run->add ? ", adding" : "", run->shifted ? ", unaligned" : "");
}

/* The guard of `size` bytes before or after an array must be as it was made. */
static void
check_guard(const ops_run *run, const ops_array *a, const char *guard, size_t size, bool before, const char *what)
{
    for (size_t i = 0; i < size; i++)
    {
        if (guard[i] != PATTERN)
            fail_msg("%s: array %d (%s) was written %zu bytes %s", what, (int) (a - run->array),
                     a->name == NULL ? "an input" : a->name, before ? size - i : i,
                     before ? "before its start" : "beyond its end");
    }
}

/* Fetch an output; what lies around an array, and an input, must be as before. */
static void
collect(ops_run *run, ops_array *a, const char *what)
{
    size_t bytes = bytes_of(a), before = (size_t) (a->data - a->block), size = before + bytes + GUARD;
    char *block = host_memory(run, (int64_t) size, 1);
    if (moe_job_device(run->job) == NULL)
    {
        OPEN_MEMORY(a->block, before);
        OPEN_MEMORY(a->data + bytes, GUARD);
    }
    moe_download(run->job, block, a->block, size);
    check_guard(run, a, block, before, true, what);
    check_guard(run, a, block + before + bytes, GUARD, false, what);
    if (a->name == NULL && bytes > 0 && memcmp(block + before, a->host, bytes) != 0)
        fail_msg("%s: input %d was written to", what, (int) (a - run->array));
    memcpy(a->host, block + before, bytes);
}

void
ops_collect(ops_run *run, const char *what)
{
    for (int i = 0; i < run->arrays; i++)
        collect(run, &run->array[i], what);
    if (moe_job_code(run->job) != MOE_OK)
        fail_msg("%s: %s", what, moe_job_error(run->job));
}

void
ops_execute(const ops_case *c, ops_run *run)
{
    char what[200];
    describe(what, sizeof(what), c, run->backend->name, run);
    c->run(run);
    ops_collect(run, what);
    for (int i = 0; i < run->arrays; i++)
    {
        if (run->array[i].name != NULL)
            return;
    }
    fail_msg("%s: the case has no output", what);
}

static double
number_at(const ops_array *a, int64_t i)
{
    switch (a->type)
    {
        case OPS_FLOAT:
            return ((const float *) a->host)[i];
        case OPS_DOUBLE:
            return ((const double *) a->host)[i];
        case OPS_INDEX:
            return ((const int32_t *) a->host)[i];
        default:
            return (double) ((const int64_t *) a->host)[i];
    }
}

/* The largest of the finite numbers. */
static double
magnitude(const ops_array *a)
{
    double largest = 0;
    for (int64_t i = 0; i < a->n; i++)
    {
        double value = fabs(number_at(a, i));
        largest = isfinite(value) && value > largest ? value : largest;
    }
    return largest;
}

static bool
agree(double got, double expected, double allowed)
{
    if (isnan(expected))
        return isnan(got);
    return got == expected || fabs(got - expected) <= allowed;
}

static void
compare_array(const ops_case *c, const char *what, const ops_array *got, const ops_array *expected, float looser)
{
    bool exact = got->type == OPS_INDEX || got->type == OPS_COUNT;
    double epsilon = exact ? 0 : (got->type == OPS_FLOAT ? 0x1p-23 : 0x1p-52) * looser;
    double general = c->tolerance.spread == 0 ? 0 : c->tolerance.spread * magnitude(expected);
    if (got->n != expected->n)
        fail_msg("%s: %s has %lld numbers, not %lld", what, got->name, (long long) got->n, (long long) expected->n);
    if (memcmp(got->host, expected->host, bytes_of(got)) == 0)
        return;
    for (int64_t i = 0; i < got->n; i++)
    {
        double a = number_at(got, i), b = number_at(expected, i);
        double allowed = epsilon * (c->tolerance.relative * fabs(b) + general + c->tolerance.absolute);
        if (!agree(a, b, allowed))
            fail_msg("%s: %s[%lld] is %.17g where the reference has %.17g (%.3g allowed)", what, got->name,
                     (long long) i, a, b, allowed);
    }
}

void
ops_compare(const ops_case *c, const char *backend, const ops_run *got, const ops_run *expected, float looser)
{
    char what[200];
    describe(what, sizeof(what), c, backend, got);
    if (got->arrays != expected->arrays)
        fail_msg("%s: the case has different arrays on the reference", what);
    for (int i = 0; i < got->arrays; i++)
    {
        if (got->array[i].name != NULL)
            compare_array(c, what, &got->array[i], &expected->array[i], looser);
    }
}

void
ops_compare_bits(const ops_case *c, const char *backend, const char *difference, const ops_run *got,
                 const ops_run *expected)
{
    char what[200];
    bool part = got->rows != expected->rows;
    describe(what, sizeof(what), c, backend, expected);
    for (int i = 0; i < got->arrays; i++)
    {
        const ops_array *a = &got->array[i], *b = &expected->array[i];
        size_t size = type_size[a->type];
        if (a->name == NULL || (part && a->per_row == 0))
            continue;
        int64_t from = part ? b->per_row * (got->first - expected->first) : 0;
        if (a->n == 0 || memcmp(a->host, b->host + (size_t) from * size, (size_t) a->n * size) == 0)
            continue;
        for (int64_t k = 0; k < a->n; k++)
        {
            if (memcmp(a->host + (size_t) k * size, b->host + (size_t) (from + k) * size, size) != 0)
                fail_msg("%s: %s[%lld] is %.17g, but %.17g %s", what, a->name, (long long) (from + k),
                         number_at(b, from + k), number_at(a, k), difference);
        }
    }
}
