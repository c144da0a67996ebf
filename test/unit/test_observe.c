/* Properties of embeddings: each measure on embeddings that have the property, and on some that lack it. */
#include "test/unit/core.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "embed/encoder.h"
#include "embed/observe.h"
#include "embed/rows.h"
#include "embed/similarity.h"
#include "kernels/blas.h"
#include "test/unit/columns.h"

/*
 * A table with x and y random, a group of 8 values, its half as a group of 4, and a word; rows 4 to a parent. Its
 * embeddings are made by rules with known properties.
 */
enum
{
    X,
    Y,
    GROUP,
    HALF,
    WORD,
    NONE, /* a column no embedding depends on */
    FAKE_COLUMNS
};
#define FAKE_ROWS  160
#define FAKE_WIDTH 12

typedef enum rule
{
    ADDITIVE,    /* the sum of a vector for each value, at its own column's direction */
    MIXED,       /* the columns' values multiply */
    BY_PLACE,    /* rows know their place in the table */
    BY_POSITION, /* columns are known by their position */
    BY_PARENT,   /* rows of a parent lie together */
    RANDOM,      /* each row, and each member, anywhere */
    CONSTANT
} rule;

typedef struct fake
{
    rule rule;
    int order[FAKE_COLUMNS];
} fake;

static moe_code
prepare_fake(void *arg, int table, const int *order)
{
    for (int c = 0; c < FAKE_COLUMNS; c++)
        ((fake *) arg)->order[c] = order ? order[c] : c;
    return MOE_OK;
}

/* What a value contributes to a number of the embedding. */
static double
contribution(const fake *f, const moe_table *rows, int c, int64_t row, int i)
{
    int number = f->rule == BY_POSITION ? c : f->order[c];
    const moe_column *column = &rows->columns[c];
    double direction = moe_random_normal(number + 1, i);

    if (f->order[c] == NONE || moe_rows_value(column, row) == 0)
        return 0;
    if (column->storage == MOE_STORE_NUMBER && f->order[c] <= Y)
        return (1 + 0.3 * column->number[row]) * direction;
    return moe_random_normal(moe_key(moe_rows_value(column, row), number), i);
}

static double
fake_number(const fake *f, const moe_table *rows, int64_t row, int i)
{
    double sum = 0, product = 1;

    for (int c = 0; c < FAKE_COLUMNS; c++)
    {
        double x = contribution(f, rows, c, row, i);

        sum += x;
        product *= 1 + x;
    }
    switch (f->rule)
    {
        case MIXED:
            return product;
        case BY_PLACE:
            return sum * (double) (1 + row);
        case BY_PARENT:
            for (int c = 0; c < FAKE_COLUMNS; c++)
                if (f->order[c] == X)
                    return moe_random_normal(moe_rows_value(&rows->columns[c], row / 4 * 4), i) + 0.2 * sum;
            return sum;
        case RANDOM:
            return moe_random_normal(row, i);
        case CONSTANT:
            return i + 1;
        default:
            return sum;
    }
}

static moe_code
embed_fake(void *arg, const moe_table *rows, float *out)
{
    for (int64_t row = 0; row < rows->n_rows; row++)
        for (int i = 0; i < FAKE_WIDTH; i++)
            out[row * FAKE_WIDTH + i] = (float) fake_number(arg, rows, row, i);
    return MOE_OK;
}

static moe_column_kind
kind_of_fake(void *arg, int table, int column)
{
    return column == NONE ? MOE_COLUMN_UNUSED : column <= Y ? MOE_COLUMN_NUMBER : MOE_COLUMN_OTHER;
}

static moe_table
fake_table(moe_job *job)
{
    moe_column *columns = moe_alloc(job, FAKE_COLUMNS, sizeof(*columns));
    int64_t *offset = moe_alloc(job, FAKE_ROWS + 1, sizeof(*offset));
    char *bytes = moe_alloc(job, FAKE_ROWS, 1);

    for (int c = 0; c < FAKE_COLUMNS; c++)
    {
        double *number = moe_alloc(job, FAKE_ROWS, sizeof(*number));

        for (int64_t row = 0; row < FAKE_ROWS; row++)
        {
            double group = floor(moe_random_uniform(77, row) * 8);

            number[row] = c <= Y ? moe_random_normal(c, row) : c == GROUP ? group : floor(group / 2);
        }
        columns[c] = (moe_column){.name = "c", .storage = MOE_STORE_NUMBER, .hidden_bit = -1, .number = number};
    }
    for (int64_t row = 0; row < FAKE_ROWS; row++)
    {
        bytes[row] = (char) ('a' + moe_random_uniform(78, row) * 5);
        offset[row + 1] = row + 1;
    }
    columns[WORD].storage = MOE_STORE_STRING;
    columns[WORD].bytes = bytes;
    columns[WORD].offset = offset;
    return (moe_table){"fake", FAKE_ROWS, FAKE_COLUMNS, columns};
}

/* Study the table, embedded by a rule in spaces of `members` parts of the embedding. */
static void
study_fake(rule rule, int members, int64_t n_rows, moe_finding *out)
{
    fake f = {.rule = rule};
    moe_embedder embedder = {&f, members, FAKE_WIDTH / members, prepare_fake, embed_fake, kind_of_fake};
    moe_job *job = start_job(1);
    moe_table table = fake_table(job);
    const moe_table *tables[] = {&table};
    int32_t *parent = moe_alloc(job, FAKE_ROWS, sizeof(*parent));
    moe_observed_join join = {0, &table, parent};
    moe_observed observed = {&embedder, 1, tables, 1, &join, 5};

    table.n_rows = n_rows;
    for (int64_t i = 0; i < FAKE_ROWS; i++)
        parent[i] = (int32_t) i / 4;
    assert_int_equal(moe_observe(job, &observed, out), MOE_OK);
    moe_job_destroy(job);
}

static void
order_of_rows_shows_where_embeddings_know_it(void **state)
{
    moe_finding without[MOE_FINDINGS], with[MOE_FINDINGS];

    study_fake(MIXED, 1, FAKE_ROWS, without);
    study_fake(BY_PLACE, 1, FAKE_ROWS, with);
    assert_true(without[MOE_ROW_ORDER].figure > 1 - 1e-9);
    assert_true(with[MOE_ROW_ORDER].figure < 0.999);
    assert_true(with[MOE_ROW_ORDER].samples > 0);
}

static void
order_of_columns_shows_where_embeddings_know_it(void **state)
{
    moe_finding without[MOE_FINDINGS], with[MOE_FINDINGS];

    study_fake(MIXED, 1, FAKE_ROWS, without);
    study_fake(BY_POSITION, 1, FAKE_ROWS, with);
    assert_true(without[MOE_COLUMN_ORDER].figure > 1 - 1e-9);
    assert_true(with[MOE_COLUMN_ORDER].figure < 0.8);
}

static void
joins_show_where_siblings_lie_together(void **state)
{
    moe_finding together[MOE_FINDINGS], apart[MOE_FINDINGS];

    study_fake(BY_PARENT, 1, FAKE_ROWS, together);
    study_fake(RANDOM, 1, FAKE_ROWS, apart);
    assert_true(together[MOE_JOIN_RANK].figure > 0.8);
    assert_true(together[MOE_JOIN_LINKED].figure > together[MOE_JOIN_OTHER].figure + 0.5);
    assert_true(fabs(together[MOE_JOIN_OTHER].figure) < 0.15);
    assert_true(fabs(apart[MOE_JOIN_RANK].figure) < 0.3);
    assert_true(fabs(apart[MOE_JOIN_LINKED].figure - apart[MOE_JOIN_OTHER].figure) < 0.15);
}

static void
dependencies_are_translations_where_cells_add_up(void **state)
{
    moe_finding adds[MOE_FINDINGS], mixes[MOE_FINDINGS];

    study_fake(ADDITIVE, 1, FAKE_ROWS, adds);
    study_fake(MIXED, 1, FAKE_ROWS, mixes);
    /* GROUP gives HALF, and nothing gives anything else. */
    assert_int_equal(adds[MOE_DEPENDENCY_HELD].samples, 1);
    assert_true(adds[MOE_DEPENDENCY_HELD].figure < 1e-6);
    assert_true(adds[MOE_DEPENDENCY_SHUFFLED].figure > 0.1);
    assert_true(mixes[MOE_DEPENDENCY_HELD].figure > 0.1);
    assert_int_equal(adds[MOE_DEPENDENCY_SHUFFLED].samples, 1);
}

static void
larger_samples_are_more_faithful(void **state)
{
    moe_finding f[MOE_FINDINGS];

    study_fake(MIXED, 1, FAKE_ROWS, f);
    assert_true(f[MOE_FIDELITY_QUARTER].figure < f[MOE_FIDELITY_HALF].figure);
    assert_true(f[MOE_FIDELITY_HALF].figure < f[MOE_FIDELITY_THREE_QUARTERS].figure);
    assert_true(f[MOE_FIDELITY_THREE_QUARTERS].figure < 1);
}

static void
members_that_know_nothing_agree_by_chance(void **state)
{
    moe_finding known[MOE_FINDINGS], unknown[MOE_FINDINGS], alone[MOE_FINDINGS];

    study_fake(BY_PARENT, 2, FAKE_ROWS, known);
    study_fake(RANDOM, 2, FAKE_ROWS, unknown);
    study_fake(RANDOM, 1, FAKE_ROWS, alone);
    assert_true(known[MOE_STABILITY].figure > 3 * known[MOE_STABILITY_CHANCE].figure);
    assert_true(fabs(unknown[MOE_STABILITY].figure - unknown[MOE_STABILITY_CHANCE].figure) < 0.03);
    assert_true(isnan(alone[MOE_STABILITY].figure));
    assert_int_equal(alone[MOE_STABILITY].samples, 0);
}

static void
changes_show_where_embeddings_depend_on_values(void **state)
{
    moe_finding depends[MOE_FINDINGS], constant[MOE_FINDINGS];

    study_fake(ADDITIVE, 1, FAKE_ROWS, depends);
    study_fake(CONSTANT, 1, FAKE_ROWS, constant);
    assert_true(depends[MOE_ROBUST_NUMBERS].figure > depends[MOE_ROBUST_NULL].figure);
    assert_true(depends[MOE_ROBUST_NULL].figure > depends[MOE_ROBUST_OTHER].figure);
    assert_true(depends[MOE_ROBUST_NUMBERS].figure < 1 - 1e-6);
    assert_true(constant[MOE_ROBUST_NULL].figure > 1 - 1e-9);
}

static void
context_shows_where_columns_interact(void **state)
{
    moe_finding adds[MOE_FINDINGS], mixes[MOE_FINDINGS];

    study_fake(ADDITIVE, 1, FAKE_ROWS, adds);
    study_fake(MIXED, 1, FAKE_ROWS, mixes);
    assert_int_equal(adds[MOE_CONTEXT_ALONE].samples, 2);
    for (int kind = MOE_CONTEXT_ALONE; kind <= MOE_CONTEXT_OTHERS; kind++)
    {
        assert_true(adds[kind].figure > 1 - 1e-6);
        assert_true(mixes[kind].figure < 0.9);
    }
}

static void
nothing_is_said_of_a_single_row(void **state)
{
    moe_finding f[MOE_FINDINGS];

    study_fake(ADDITIVE, 2, 1, f);
    for (int i = 0; i < MOE_FINDINGS; i++)
    {
        assert_true(isnan(f[i].figure));
        assert_int_equal(f[i].samples, 0);
        assert_true(strlen(f[i].meaning) <= 27 && strlen(f[i].property) <= 27);
    }
}

/* Trained-like encoders over columns of every kind, two tables of them. */
#define ROWS     300
#define CHANNELS 12
#define MEMBERS  2

typedef struct world
{
    moe_job *job;
    moe_table tables[2];
    moe_features *features;
    moe_params *params[MEMBERS];
    moe_encoder *encoder[MEMBERS];
    moe_embedder embedder;
} world;

static world
make_world(int threads)
{
    static const moe_encoder_config config = {.channels = CHANNELS, .blocks = 2};
    world w = {.job = make_job(threads)};
    int64_t fit[2] = {ROWS, ROWS};

    assert_int_equal(moe_blas_open(w.job), MOE_OK);
    w.tables[0] = make_numbers(w.job, make_table(w.job, ROWS).columns[COLUMN_AMOUNT].number, ROWS, false);
    w.tables[1] = make_table(w.job, ROWS);
    assert_int_equal(moe_features_fit(w.job, w.tables, 2, fit, &w.features), MOE_OK);
    assert_int_equal(moe_features_bind(w.features, w.tables, 2), MOE_OK);
    for (int i = 0; i < MEMBERS; i++)
    {
        w.params[i] = moe_params_create(w.job, 42 + i);
        assert_int_equal(moe_encoder_create(w.job, w.features, &config, w.params[i], &w.encoder[i]), MOE_OK);
    }
    assert_int_equal(moe_embedder_create(w.job, w.features, w.params, MEMBERS, &w.embedder), MOE_OK);
    return w;
}

static void
the_embedder_says_what_the_encoders_say(void **state)
{
    world w = make_world(2);
    moe_arena *arena = moe_arena_create(w.job);
    moe_tape *tape = moe_tape_create(w.job);
    const int64_t n = 70;
    int32_t rows[70];
    uint8_t hidden[70];
    float *out = moe_alloc(w.job, n, MEMBERS * CHANNELS * sizeof(float));

    for (int64_t i = 0; i < n; i++)
    {
        rows[i] = (int32_t) (i * 37 % ROWS);
        hidden[i] = (uint8_t) (i % 8);
    }
    assert_int_equal(w.embedder.prepare(w.embedder.arg, 1, NULL), MOE_OK);
    assert_int_equal(w.embedder.embed(w.embedder.arg, moe_rows_pick(arena, &w.tables[1], rows, hidden, n), out),
                     MOE_OK);
    for (int m = 0; m < MEMBERS; m++)
    {
        const moe_var *x;

        moe_tape_reset(tape, false, 1);
        x = moe_encoder_forward(w.encoder[m], tape, 1, rows, hidden, n);
        for (int64_t i = 0; i < n; i++)
            assert_memory_equal(out + (i * MEMBERS + m) * CHANNELS, x->value + i * CHANNELS, CHANNELS * sizeof(float));
    }
    moe_job_destroy(w.job);
}

static void
columns_take_what_was_learnt_of_them_along(void **state)
{
    world w = make_world(1);
    moe_arena *arena = moe_arena_create(w.job);
    int64_t size = ROWS * MEMBERS * CHANNELS;
    float *before = moe_alloc(w.job, size, sizeof(float));
    float *after = moe_alloc(w.job, size, sizeof(float));
    int order[COLUMN_COUNT];

    for (int c = 0; c < COLUMN_COUNT; c++)
        order[c] = (c * 5 + 3) % COLUMN_COUNT;
    assert_int_equal(w.embedder.prepare(w.embedder.arg, 1, NULL), MOE_OK);
    assert_int_equal(w.embedder.embed(w.embedder.arg, &w.tables[1], before), MOE_OK);
    assert_int_equal(w.embedder.prepare(w.embedder.arg, 1, order), MOE_OK);
    assert_int_equal(w.embedder.embed(w.embedder.arg, moe_rows_reorder(arena, &w.tables[1], order), after), MOE_OK);
    for (int64_t i = 0; i < size; i++)
        assert_true(fabs(before[i] - after[i]) < 1e-4);
    assert_memory_not_equal(before, after, size * sizeof(float)); /* it was another sum */
    moe_job_destroy(w.job);
}

static void
study_world(world *w, moe_finding *out)
{
    const moe_table *tables[] = {&w->tables[0], &w->tables[1]};
    int32_t *parent = moe_alloc(w->job, ROWS, sizeof(*parent));
    moe_observed_join join = {1, &w->tables[1], parent};
    moe_observed observed = {&w->embedder, 2, tables, 1, &join, 5};

    for (int64_t i = 0; i < ROWS; i++)
        parent[i] = (int32_t) i / 3;
    assert_int_equal(moe_observe(w->job, &observed, out), MOE_OK);
    moe_free(w->job, parent);
}

static void
any_number_of_threads_finds_the_same(void **state)
{
    moe_finding expected[MOE_FINDINGS], found[MOE_FINDINGS];

    for (int threads = 1; threads <= 7; threads += threads == 1 ? 1 : 5)
    {
        world w = make_world(threads);

        study_world(&w, found);
        for (int i = 0; threads == 1 && i < MOE_FINDINGS; i++)
            expected[i] = found[i];
        for (int i = 0; i < MOE_FINDINGS; i++)
        {
            assert_memory_equal(&expected[i].figure, &found[i].figure, sizeof(double));
            assert_int_equal(expected[i].samples, found[i].samples);
        }
        moe_job_destroy(w.job);
    }
    assert_true(expected[MOE_ROW_ORDER].figure > 1 - 1e-6 && expected[MOE_COLUMN_ORDER].figure > 1 - 1e-6);
    assert_true(expected[MOE_ROBUST_NULL].figure < 0.999);
}

static void
a_study_gives_its_memory_back_and_leaves_the_model_alone(void **state)
{
    world w = make_world(1);
    moe_finding found[MOE_FINDINGS];
    int64_t size = moe_params_size(w.params[0]);
    float *before = moe_alloc(w.job, size, sizeof(float));
    float *after = moe_alloc(w.job, size, sizeof(float));
    size_t used;

    moe_embedder_destroy(&w.embedder);
    used = moe_job_memory_used(w.job);
    moe_params_save(w.params[0], before);
    assert_int_equal(moe_embedder_create(w.job, w.features, w.params, MEMBERS, &w.embedder), MOE_OK);
    study_world(&w, found);
    moe_embedder_destroy(&w.embedder);
    moe_params_save(w.params[0], after);
    assert_memory_equal(before, after, size * sizeof(float));
    assert_int_equal(moe_job_memory_used(w.job), used);
    moe_job_destroy(w.job);
}

static int polls_left;

static bool
is_cancelled(void *arg)
{
    return polls_left >= 0 && --polls_left < 0;
}

static void
a_study_can_be_cancelled_at_any_poll(void **state)
{
    for (int polls = 0; polls < 400; polls = polls * 2 + 1)
    {
        moe_job_config config = {.threads = 1, .cancelled = is_cancelled};
        fake f = {.rule = ADDITIVE};
        moe_embedder embedder = {&f, 2, FAKE_WIDTH / 2, prepare_fake, embed_fake, kind_of_fake};
        moe_finding out[MOE_FINDINGS];
        moe_job *job;
        moe_table table;
        const moe_table *tables[] = {&table};
        moe_observed observed = {&embedder, 1, tables, 0, NULL, 5};

        polls_left = -1;
        assert_int_equal(moe_job_create(&config, &job), MOE_OK);
        table = fake_table(job);
        polls_left = polls;
        if (moe_observe(job, &observed, out) == MOE_OK)
            assert_true(polls_left >= 0);
        else
            assert_int_equal(moe_job_code(job), MOE_CANCELLED);
        polls_left = -1;
        moe_job_destroy(job);
    }
}

static void
memory_may_run_out_anywhere(void **state)
{
    for (int64_t room = 1 << 12; room < 1 << 22; room += room / 3)
    {
        fake f = {.rule = ADDITIVE};
        moe_embedder embedder = {&f, 2, FAKE_WIDTH / 2, prepare_fake, embed_fake, kind_of_fake};
        moe_job *data = start_job(1);
        moe_table table = fake_table(data);
        const moe_table *tables[] = {&table};
        int32_t *parent = moe_alloc(data, FAKE_ROWS, sizeof(*parent));
        moe_observed_join join = {0, &table, parent};
        moe_observed observed = {&embedder, 1, tables, 1, &join, 5};
        moe_job_config config = {.threads = 1, .memory_limit = room};
        moe_finding out[MOE_FINDINGS];
        moe_job *job;
        moe_code code;

        for (int64_t i = 0; i < FAKE_ROWS; i++)
            parent[i] = (int32_t) i / 4;
        assert_int_equal(moe_job_create(&config, &job), MOE_OK);
        code = moe_observe(job, &observed, out);
        assert_true(code == MOE_OK || code == MOE_LIMIT);
        assert_int_equal(code, moe_job_code(job));
        moe_job_destroy(job);
        moe_job_destroy(data);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_of_rows_shows_where_embeddings_know_it),
        cmocka_unit_test(order_of_columns_shows_where_embeddings_know_it),
        cmocka_unit_test(joins_show_where_siblings_lie_together),
        cmocka_unit_test(dependencies_are_translations_where_cells_add_up),
        cmocka_unit_test(larger_samples_are_more_faithful),
        cmocka_unit_test(members_that_know_nothing_agree_by_chance),
        cmocka_unit_test(changes_show_where_embeddings_depend_on_values),
        cmocka_unit_test(context_shows_where_columns_interact),
        cmocka_unit_test(nothing_is_said_of_a_single_row),
        cmocka_unit_test(the_embedder_says_what_the_encoders_say),
        cmocka_unit_test(columns_take_what_was_learnt_of_them_along),
        cmocka_unit_test(any_number_of_threads_finds_the_same),
        cmocka_unit_test(a_study_gives_its_memory_back_and_leaves_the_model_alone),
        cmocka_unit_test(a_study_can_be_cancelled_at_any_poll),
        cmocka_unit_test(memory_may_run_out_anywhere),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
