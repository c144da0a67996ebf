/* Which encoding a column gets, what inputs its values become, and how both are stored. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "embed/spec.h"
#include "embed/text_hash.h"
#include "test/unit/columns.h"

#define ROWS 2400

static moe_features *
fit(moe_job *job, const moe_table *table, int64_t fit_rows)
{
    moe_features *features = NULL;

    assert_int_equal(moe_features_fit(job, table, 1, &fit_rows, &features), MOE_OK);
    return features;
}

static moe_features *
fit_and_bind(moe_job *job, const moe_table *table, int64_t fit_rows)
{
    moe_features *features = fit(job, table, fit_rows);

    assert_int_equal(moe_features_bind(features, table, 1), MOE_OK);
    return features;
}

static void
assert_encoding(moe_job *job, moe_table table, const char *expected)
{
    moe_features *features = fit(job, &table, table.n_rows);

    assert_string_equal(moe_features_describe(features, 0, 0), expected);
    moe_features_destroy(features);
}

/* All that bind computed for the first n rows is the same, bit for bit. */
static void
assert_same_inputs(const moe_features *a, const moe_features *b, int64_t n)
{
    const moe_features_table *x = &a->tables[0];
    const moe_features_table *y = &b->tables[0];

    assert_int_equal(a->buckets, b->buckets);
    assert_int_equal(x->dense_width, y->dense_width);
    assert_int_equal(x->category_rows, y->category_rows);
    assert_memory_equal(x->dense, y->dense, n * x->dense_width * sizeof(float));
    assert_memory_equal(x->category, y->category, n * x->n_categories * sizeof(int32_t));
    for (int c = 0; c < x->n_columns; c++)
        if (x->columns[c].bag_offset)
        {
            int64_t length = x->columns[c].bag_offset[n];

            assert_memory_equal(x->columns[c].bag_offset, y->columns[c].bag_offset, (n + 1) * sizeof(int64_t));
            assert_memory_equal(x->columns[c].bag_index, y->columns[c].bag_index, length * sizeof(int32_t));
        }
}

static void
encodings_follow_from_the_values(void **state)
{
    static const char *const expected[COLUMN_COUNT] = {
        "numeric (logarithmic)",
        "category (10 values) and numeric",
        "numeric",
        "bool",
        "timestamp",
        "category (13 values)",
        "category (1100 values, hashed)",
        "text (hashed)",
        "vector (3)",
        "vector (pooled)",
        "all NULL: ignored",
        "constant: ignored",
    };
    moe_job *job = make_job(1);
    moe_table table = make_table(job, ROWS);
    moe_features *features = fit(job, &table, ROWS);

    assert_int_equal(moe_features_tables(features), 1);
    assert_int_equal(moe_features_columns(features, 0), COLUMN_COUNT);
    for (int c = 0; c < COLUMN_COUNT; c++)
        assert_string_equal(moe_features_describe(features, 0, c), expected[c]);
    moe_job_destroy(job);
}

static void
integers_are_categories_if_each_value_occurs_more_than_four_times(void **state)
{
    double values[15];
    moe_job *job = make_job(1);

    for (int i = 0; i < 15; i++)
        values[i] = i % 3;
    assert_encoding(job, make_numbers(job, values, 15, true), "category (3 values) and numeric");
    assert_encoding(job, make_numbers(job, values, 14, true), "numeric");
    assert_encoding(job, make_numbers(job, values, 15, false), "numeric");
    for (int i = 0; i < 15; i++)
        values[i] = i % 2;
    assert_encoding(job, make_numbers(job, values, 15, true), "category (2 values)");
    moe_job_destroy(job);
}

static void
strings_that_repeat_are_categories_and_others_text(void **state)
{
    static const char *const repeating[] = {"a", "b", "a", "b", "a", "c"};
    static const char *const unique[] = {"a", "b", "c", "d", "e", "f"};
    moe_job *job = make_job(1);

    assert_encoding(job, make_strings(job, repeating, 6), "category (3 values)");
    assert_encoding(job, make_strings(job, unique, 6), "text (hashed)");
    moe_job_destroy(job);
}

static void
a_declared_encoding_wins(void **state)
{
    static const char *const unique[] = {"a", "b", "c", "d"};
    static const double numbers[] = {1, 2, 2, 3};
    moe_job *job = make_job(1);
    moe_table table = make_strings(job, unique, 4);

    ((moe_column *) table.columns)->encoding = MOE_ENCODE_CATEGORY;
    assert_encoding(job, table, "category (4 values)");
    table = make_numbers(job, numbers, 4, true);
    ((moe_column *) table.columns)->encoding = MOE_ENCODE_CATEGORY;
    assert_encoding(job, table, "category (3 values)");
    ((moe_column *) table.columns)->encoding = MOE_ENCODE_BOOL;
    assert_encoding(job, table, "bool");
    moe_job_destroy(job);
}

static void
an_impossible_declaration_names_the_column(void **state)
{
    static const struct
    {
        int column;
        moe_encoding encoding;
    } cases[] = {{COLUMN_AMOUNT, MOE_ENCODE_TEXT},     {COLUMN_AMOUNT, MOE_ENCODE_VECTOR},
                 {COLUMN_COUNTRY, MOE_ENCODE_NUMERIC}, {COLUMN_COUNTRY, MOE_ENCODE_TIME},
                 {COLUMN_BORN, MOE_ENCODE_TEXT},       {COLUMN_PLACE, MOE_ENCODE_CATEGORY},
                 {COLUMN_PLACE, MOE_ENCODE_NUMERIC},   {COLUMN_EMPTY, MOE_ENCODE_TEXT}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
    {
        moe_job *job = make_job(1);
        moe_table table = make_table(job, 20);
        moe_column *column = (moe_column *) &table.columns[cases[i].column];
        moe_features *features = (moe_features *) job;
        int64_t n = 20;

        column->encoding = cases[i].encoding;
        assert_int_equal(moe_features_fit(job, &table, 1, &n, &features), MOE_INVALID);
        assert_null(features);
        assert_non_null(strstr(moe_job_error(job), column->name));
        moe_job_destroy(job);
    }
}

static void
later_rows_change_nothing(void **state)
{
    moe_job *job = make_job(2);
    moe_table all = make_table(job, ROWS);
    moe_table prefix = make_table(job, 1500);
    moe_features *from_all, *from_prefix;
    moe_buffer a, b;

    /* Rows behind the fit rows: extreme numbers, new strings, other lengths. */
    ((double *) all.columns[COLUMN_AMOUNT].number)[1500] = 1e300;
    ((double *) all.columns[COLUMN_GRADE].number)[1600] = -77;
    ((int64_t *) all.columns[COLUMN_BORN].time)[1700] = MOE_TIME_NEVER - 1;
    ((int64_t *) all.columns[COLUMN_PLACE].offset)[ROWS] -= 1;
    ((uint8_t *) all.columns[COLUMN_SERIAL].null)[1800] = 1;
    from_all = fit_and_bind(job, &all, 1500);
    from_prefix = fit_and_bind(job, &prefix, 1500);
    moe_buffer_init(&a, job);
    moe_buffer_init(&b, job);
    moe_features_write(from_all, &a);
    moe_features_write(from_prefix, &b);
    assert_int_equal(a.length, b.length);
    assert_memory_equal(a.data, b.data, a.length);
    assert_same_inputs(from_all, from_prefix, 1500);
    moe_job_destroy(job);
}

static void
inputs_do_not_depend_on_threads(void **state)
{
    moe_job *jobs[3] = {make_job(1), make_job(2), make_job(7)};
    moe_features *features[3];

    for (int i = 0; i < 3; i++)
    {
        moe_table table = make_table(jobs[i], 9000);

        features[i] = fit_and_bind(jobs[i], &table, 6000);
    }
    assert_same_inputs(features[0], features[1], 9000);
    assert_same_inputs(features[0], features[2], 9000);
    for (int i = 0; i < 3; i++)
        moe_job_destroy(jobs[i]);
}

static void
inputs_are_finite_and_clipped(void **state)
{
    static const double extreme[] = {0, 1, 2, 3, 1e308, -1e308, 5e-324, NAN, INFINITY, 1e16, 4, 5, 6, 7, 8};
    moe_job *job = make_job(1);
    moe_table wild = make_numbers(job, extreme, 15, false);
    moe_table table = make_table(job, ROWS);
    moe_features *features[2] = {fit_and_bind(job, &wild, 15), fit_and_bind(job, &table, 100)};

    for (int i = 0; i < 2; i++)
    {
        const moe_features_table *bound = &features[i]->tables[0];

        for (int64_t k = 0; k < bound->n_rows * bound->dense_width; k++)
            assert_true(fabsf(bound->dense[k]) <= MOE_INPUT_CLIP);
    }
    moe_job_destroy(job);
}

static void
numbers_are_standardised_over_the_fit_rows(void **state)
{
    moe_job *job = make_job(1);
    double values[1000];
    double sum = 0, squares = 0;
    moe_table table = make_numbers(job, values, 1000, false);
    moe_features *features;

    for (int i = 0; i < 1000; i++)
        values[i] = 1e6 + 7 * draw(1, i);
    features = fit_and_bind(job, &table, 1000);
    assert_int_equal(features->tables[0].dense_width, 1 + MOE_BINS);
    for (int i = 0; i < 1000; i++)
    {
        double z = features->tables[0].dense[i * (1 + MOE_BINS)];

        sum += z;
        squares += z * z;
    }
    assert_true(fabs(sum / 1000) < 1e-3);
    assert_true(fabs(squares / 1000 - 1) < 1e-3);
    moe_job_destroy(job);
}

static void
a_value_not_in_the_dictionary_is_unknown(void **state)
{
    static const char *const known[] = {"b", "a", "b", "a", "once", "a"};
    static const char *const later[] = {"a", "b", "new", "once", "", "ab"};
    moe_job *job = make_job(1);
    moe_table first = make_strings(job, known, 6);
    moe_table second = make_strings(job, later, 6);
    moe_features *features = fit(job, &first, 6);
    const int32_t expected[] = {1, 2, 0, 0, 0, 0};

    assert_int_equal(moe_features_bind(features, &second, 1), MOE_OK);
    assert_int_equal(features->tables[0].category_rows, 3);
    assert_memory_equal(features->tables[0].category, expected, sizeof(expected));
    moe_job_destroy(job);
}

static void
null_unknown_and_values_are_three_states(void **state)
{
    static const char *const values[] = {"a", "a", "b", "b", "a", "once", "a"};
    uint8_t null[] = {0, 0, 0, 0, 0, 0, 1};
    moe_job *job = make_job(1);
    moe_table table = make_strings(job, values, 7);
    moe_features *features;
    const int32_t expected[] = {2, 2, 3, 3, 2, 1, 0};

    ((moe_column *) table.columns)->null = null;
    features = fit_and_bind(job, &table, 7);
    assert_int_equal(features->tables[0].category_rows, 4);
    assert_memory_equal(features->tables[0].category, expected, sizeof(expected));
    moe_job_destroy(job);
}

static void
time_components_match_the_calendar(void **state)
{
    const int64_t second = 1000000, day = 86400 * second;
    const struct
    {
        int64_t time;
        int expected[MOE_TIME_COMPONENTS];
    } cases[] = {{0, {0, 0, 6, 0, 0, 0}},                                 /* 2000-01-01, Saturday */
                 {-second, {11, 30, 5, 23, 59, 59}},                      /* 1999-12-31, Friday */
                 {59 * day + 3661 * second, {1, 28, 2, 1, 1, 1}},         /* 2000-02-29, Tuesday */
                 {-36525 * day, {11, 31 - 1, 0, 0, 0, 0}},                /* 1899-12-31, Sunday */
                 {8766 * day + 12 * 3600 * second, {0, 0, 1, 12, 0, 0}}}; /* 2024-01-01, Monday */
    int component[MOE_TIME_COMPONENTS];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
    {
        moe_time_components(cases[i].time, component);
        assert_memory_equal(component, cases[i].expected, sizeof(component));
    }
    moe_time_components(INT64_MIN + 1, component);
    moe_time_components(INT64_MAX - 1, component);
}

static void
dates_have_no_inputs_for_the_clock(void **state)
{
    moe_job *job = make_job(1);
    moe_table table = make_table(job, ROWS);
    moe_features *features = fit(job, &table, ROWS);

    assert_int_equal(features->tables[0].columns[COLUMN_BORN].time_components, 7); /* month, day, weekday */
    moe_job_destroy(job);
}

static void
times_after_the_fit_rows_look_like_the_newest(void **state)
{
    const int64_t year = INT64_C(366) * 86400 * 1000000;
    const int64_t times[] = {0, year, 2 * year, 3 * year, 40 * year, MOE_TIME_NEVER};
    moe_job *job = make_job(1);
    moe_column column = {.name = "at", .storage = MOE_STORE_TIME, .hidden_bit = -1, .time = times};
    moe_table table = {"t", 6, 1, &column};
    moe_features *features = fit_and_bind(job, &table, 4);
    const moe_features_table *bound = &features->tables[0];

    assert_true(bound->dense[0] == -1);
    assert_memory_equal(bound->dense + 3 * bound->dense_width, bound->dense + 4 * bound->dense_width,
                        MOE_TIME_TREND * sizeof(float));
    for (int i = 0; i < bound->dense_width; i++) /* infinity is no time: as NULL */
        assert_true(bound->dense[5 * bound->dense_width + i] == 0);
    moe_job_destroy(job);
}

static void
vectors_of_another_length_are_missing(void **state)
{
    static const float items[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    static const int64_t offset[] = {0, 2, 4, 6, 9};
    moe_job *job = make_job(1);
    moe_column column = {.name = "v", .storage = MOE_STORE_VECTOR, .hidden_bit = -1, .items = items, .offset = offset};
    moe_table table = {"t", 4, 1, &column};
    moe_features *features = fit_and_bind(job, &table, 3);

    assert_int_equal(features->tables[0].dense_width, 2);
    assert_true(features->tables[0].dense[0] < 0 && features->tables[0].dense[4] > 0);
    assert_true(features->tables[0].dense[6] == 0 && features->tables[0].dense[7] == 0);
    moe_job_destroy(job);
}

static void
empty_tables_and_tables_without_columns_bind(void **state)
{
    moe_job *job = make_job(1);
    moe_table tables[2] = {make_table(job, 0), {"bare", 5, 0, NULL}};
    int64_t fit_rows[2] = {0, 5};
    moe_features *features = NULL;

    assert_int_equal(moe_features_fit(job, tables, 2, fit_rows, &features), MOE_OK);
    for (int c = 0; c < COLUMN_COUNT; c++)
        assert_string_equal(moe_features_describe(features, 0, c), "no rows: ignored");
    assert_int_equal(moe_features_bind(features, tables, 2), MOE_OK);
    tables[0] = make_table(job, 30);
    assert_int_equal(moe_features_bind(features, tables, 2), MOE_OK);
    moe_job_destroy(job);
}

static void
tables_of_another_shape_are_refused(void **state)
{
    static const double numbers[] = {1, 2, 3};
    static const char *const strings[] = {"a", "b", "c"};
    moe_job *job = make_job(1);
    moe_table as_fitted = make_numbers(job, numbers, 3, false);
    moe_table other = make_strings(job, strings, 3);
    moe_features *features = fit(job, &as_fitted, 3);

    assert_int_equal(moe_features_bind(features, &other, 1), MOE_INVALID);
    assert_non_null(strstr(moe_job_error(job), "\"x\""));
    moe_job_destroy(job);
}

static void
text_hashing_folds_case_and_is_bounded(void **state)
{
    uint64_t a[MOE_BAG_MAX], b[MOE_BAG_MAX];
    char long_text[5000];
    int n = moe_text_hash("Hello, World", 12, 1, a, MOE_BAG_MAX);

    assert_int_equal(n, 2 + 5 + 5);
    assert_int_equal(moe_text_hash("  hello world!", 14, 1, b, MOE_BAG_MAX), n);
    assert_memory_equal(a, b, n * sizeof(*a));
    assert_int_equal(moe_text_hash("hello world", 11, 2, b, MOE_BAG_MAX), n);
    assert_true(a[0] != b[0]);
    assert_int_equal(moe_text_hash("", 0, 1, a, MOE_BAG_MAX), 0);
    assert_int_equal(moe_text_hash(" .,;", 4, 1, a, MOE_BAG_MAX), 0);
    for (int i = 0; i < 5000; i++)
        long_text[i] = i % 6 ? 'a' + i % 26 : ' ';
    assert_int_equal(moe_text_hash(long_text, 5000, 1, a, MOE_BAG_MAX), MOE_BAG_MAX);
    memset(long_text, 'x', sizeof(long_text));
    assert_true(moe_text_hash(long_text, 5000, 1, a, MOE_BAG_MAX) <= MOE_BAG_MAX);
}

static void
stored_features_give_the_same_inputs(void **state)
{
    moe_job *job = make_job(1);
    moe_table table = make_table(job, ROWS);
    moe_features *features = fit_and_bind(job, &table, 2000);
    moe_features *again = NULL;
    moe_buffer buffer;
    moe_reader reader;

    moe_buffer_init(&buffer, job);
    moe_features_write(features, &buffer);
    moe_reader_init(&reader, job, buffer.data, buffer.length);
    assert_int_equal(moe_features_read(job, &reader, &again), MOE_OK);
    assert_int_equal(reader.position, buffer.length);
    assert_int_equal(moe_features_bind(again, &table, 1), MOE_OK);
    assert_same_inputs(features, again, ROWS);
    for (int c = 0; c < COLUMN_COUNT; c++)
        assert_string_equal(moe_features_describe(features, 0, c), moe_features_describe(again, 0, c));
    moe_job_destroy(job);
}

/* Read bytes that may be broken; if they are accepted, what they say must be usable. */
static moe_code
read_and_bind(const uint8_t *bytes, int64_t length)
{
    moe_job *job = make_job(1);
    moe_table table = make_table(job, 25);
    moe_features *features = NULL;
    moe_reader reader;
    moe_code code;

    moe_reader_init(&reader, job, bytes, length);
    code = moe_features_read(job, &reader, &features);
    assert_true((code == MOE_OK) == (features != NULL));
    if (code == MOE_OK && moe_features_bind(features, &table, 1) == MOE_OK)
    {
        const moe_features_table *bound = &features->tables[0];

        for (int64_t k = 0; k < bound->n_rows * bound->dense_width; k++)
            assert_true(fabsf(bound->dense[k]) <= MOE_INPUT_CLIP);
        for (int64_t k = 0; k < bound->n_rows * bound->n_categories; k++)
            assert_true(bound->category[k] >= -1 && bound->category[k] < bound->category_rows);
    }
    moe_job_destroy(job);
    return code;
}

static void
broken_bytes_are_refused_or_harmless(void **state)
{
    moe_job *job = make_job(1);
    moe_table table = make_table(job, 60);
    moe_features *features;
    moe_buffer buffer;

    ((moe_column *) table.columns)[COLUMN_TAG].encoding = MOE_ENCODE_CATEGORY;
    features = fit(job, &table, 60);
    moe_buffer_init(&buffer, job);
    moe_features_write(features, &buffer);
    for (int64_t length = 0; length < buffer.length; length++)
    {
        /* A copy of the exact size, so that the address sanitizer sees a read past it. */
        uint8_t *copy = malloc(length + 1);

        memcpy(copy, buffer.data, length);
        assert_int_equal(read_and_bind(copy, length), MOE_CORRUPT);
        free(copy);
    }
    for (int64_t at = 0; at < buffer.length; at++)
    {
        uint8_t kept = buffer.data[at];

        buffer.data[at] ^= (uint8_t) (1 << (at % 8));
        read_and_bind(buffer.data, buffer.length);
        buffer.data[at] = 0xff;
        read_and_bind(buffer.data, buffer.length);
        buffer.data[at] = kept;
    }
    moe_job_destroy(job);
}

static void
memory_beyond_the_limit_is_an_error(void **state)
{
    for (size_t limit = 100000; limit < 2000000; limit += 100000)
    {
        moe_job *source = make_job(1);
        moe_table table = make_table(source, ROWS);
        moe_job_config config = {.threads = 2, .memory_limit = limit};
        moe_job *job = NULL;
        moe_features *features = NULL;
        int64_t n = ROWS;
        moe_code code;

        assert_int_equal(moe_job_create(&config, &job), MOE_OK);
        code = moe_features_fit(job, &table, 1, &n, &features);
        if (code == MOE_OK)
            code = moe_features_bind(features, &table, 1);
        assert_true(code == MOE_OK || code == MOE_LIMIT);
        if (limit == 100000)
            assert_int_equal(code, MOE_LIMIT);
        moe_features_destroy(features);
        moe_job_destroy(job);
        moe_job_destroy(source);
    }
}

static bool
always(void *arg)
{
    return true;
}

static bool
count_and_go_on(void *arg)
{
    __atomic_fetch_add((int64_t *) arg, 1, __ATOMIC_RELAXED);
    return false;
}

static void
binding_a_large_table_asks_often_whether_to_stop(void **state)
{
    int64_t asked = 0;
    moe_job_config config = {.threads = 1, .cancelled = count_and_go_on, .cancel_arg = &asked};
    moe_job *job;

    assert_int_equal(moe_job_create(&config, &job), MOE_OK);
    moe_table table = make_table(job, 50000);
    moe_features *features = fit(job, &table, 100);
    asked = 0;
    assert_int_equal(moe_features_bind(features, &table, 1), MOE_OK);
    assert_true(asked >= 50000 / 2048);
    moe_job_destroy(job);
}

static void
a_cancelled_job_stops(void **state)
{
    moe_job *source = make_job(1);
    moe_table table = make_table(source, ROWS);
    moe_job_config config = {.threads = 2, .cancelled = always};
    moe_features *features = NULL;
    moe_job *job = NULL;
    int64_t n = ROWS;

    assert_int_equal(moe_job_create(&config, &job), MOE_OK);
    assert_int_equal(moe_features_fit(job, &table, 1, &n, &features), MOE_CANCELLED);
    assert_null(features);
    moe_job_destroy(job);
    moe_job_destroy(source);
}

static void
destroying_returns_all_memory(void **state)
{
    moe_job *job = make_job(1);
    moe_table table = make_table(job, ROWS);
    size_t before = moe_job_memory_used(job);
    moe_features *features = fit_and_bind(job, &table, ROWS);

    assert_int_equal(moe_features_bind(features, &table, 1), MOE_OK);
    assert_true(moe_job_memory_used(job) > before);
    moe_features_destroy(features);
    assert_int_equal(moe_job_memory_used(job), before);
    moe_job_destroy(job);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encodings_follow_from_the_values),
        cmocka_unit_test(integers_are_categories_if_each_value_occurs_more_than_four_times),
        cmocka_unit_test(strings_that_repeat_are_categories_and_others_text),
        cmocka_unit_test(a_declared_encoding_wins),
        cmocka_unit_test(an_impossible_declaration_names_the_column),
        cmocka_unit_test(later_rows_change_nothing),
        cmocka_unit_test(inputs_do_not_depend_on_threads),
        cmocka_unit_test(inputs_are_finite_and_clipped),
        cmocka_unit_test(numbers_are_standardised_over_the_fit_rows),
        cmocka_unit_test(a_value_not_in_the_dictionary_is_unknown),
        cmocka_unit_test(null_unknown_and_values_are_three_states),
        cmocka_unit_test(time_components_match_the_calendar),
        cmocka_unit_test(dates_have_no_inputs_for_the_clock),
        cmocka_unit_test(times_after_the_fit_rows_look_like_the_newest),
        cmocka_unit_test(vectors_of_another_length_are_missing),
        cmocka_unit_test(empty_tables_and_tables_without_columns_bind),
        cmocka_unit_test(tables_of_another_shape_are_refused),
        cmocka_unit_test(text_hashing_folds_case_and_is_bounded),
        cmocka_unit_test(stored_features_give_the_same_inputs),
        cmocka_unit_test(broken_bytes_are_refused_or_harmless),
        cmocka_unit_test(memory_beyond_the_limit_is_an_error),
        cmocka_unit_test(binding_a_large_table_asks_often_whether_to_stop),
        cmocka_unit_test(a_cancelled_job_stops),
        cmocka_unit_test(destroying_returns_all_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
