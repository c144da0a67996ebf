/* Rows as vectors: what is hidden, what is learned, and what it may depend on. */
#define _GNU_SOURCE /* memmem */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "embed/encoder.h"
#include "kernels/blas.h"
#include "test/unit/columns.h"

#define ROWS     2400
#define CHANNELS 12

/* A job with an encoder over made-up columns. */
typedef struct world
{
    moe_job *job;
    moe_table table;
    moe_features *features;
    moe_params *params;
    moe_encoder *encoder;
    moe_tape *tape;
} world;

static const moe_encoder_config plain = {.channels = CHANNELS, .blocks = 2, .dropout = 0};

static world
make_world(int threads, int64_t n, const moe_encoder_config *config)
{
    world w = {.job = make_job(threads)};

    assert_int_equal(moe_blas_open(w.job), MOE_OK);
    w.table = make_table(w.job, n);
    assert_int_equal(moe_features_fit(w.job, &w.table, 1, &n, &w.features), MOE_OK);
    assert_int_equal(moe_features_bind(w.features, &w.table, 1), MOE_OK);
    w.params = moe_params_create(w.job, 42);
    assert_int_equal(moe_encoder_create(w.job, w.features, config, w.params, &w.encoder), MOE_OK);
    w.tape = moe_tape_create(w.job);
    return w;
}

/* The vectors of rows 0..n-1 outside training; they live in the job. */
static float *
encode(world *w, moe_encoder *encoder, const uint8_t *hidden, int64_t n)
{
    int32_t *rows = moe_alloc(w->job, n, sizeof(*rows));
    float *out = moe_alloc(w->job, n, CHANNELS * sizeof(float));
    moe_var *x;

    for (int64_t i = 0; i < n; i++)
        rows[i] = (int32_t) i;
    moe_tape_reset(w->tape, false, 1);
    x = moe_encoder_forward(encoder, w->tape, 0, rows, hidden, n);
    assert_non_null(x);
    assert_int_equal(x->rows, n);
    assert_int_equal(x->cols, CHANNELS);
    memcpy(out, x->value, n * CHANNELS * sizeof(float));
    return out;
}

static void
set_null(const moe_table *table, int column, int64_t row)
{
    ((uint8_t *) table->columns[column].null)[row] = 1;
}

/* Make NULL what the masks hide. */
static void
hide_by_null(const moe_table *table, const uint8_t *hidden)
{
    for (int c = 0; c < table->n_columns; c++)
        for (int64_t row = 0; row < table->n_rows; row++)
            if (table->columns[c].hidden_bit >= 0 && (hidden[row] >> table->columns[c].hidden_bit & 1))
                set_null(table, c, row);
}

static void
rows_get_different_finite_vectors(void **state)
{
    world w = make_world(2, ROWS, &plain);
    float *x = encode(&w, w.encoder, NULL, ROWS);

    for (int64_t i = 0; i < ROWS * CHANNELS; i++)
        assert_true(isfinite(x[i]));
    for (int64_t i = 1; i < ROWS; i++)
        assert_memory_not_equal(x, x + i * CHANNELS, CHANNELS * sizeof(float));
    moe_job_destroy(w.job);
}

static void
every_column_that_is_used_shows(void **state)
{
    const int64_t n = ROWS - 1;
    world w = make_world(1, ROWS, &plain);
    float *x = encode(&w, w.encoder, NULL, n);

    /* Move one column up by a row: where that changes its value, the vector must change. */
    for (int c = 0; c < COLUMN_COUNT; c++)
    {
        moe_column columns[COLUMN_COUNT];
        moe_table moved = {"orders", n, COLUMN_COUNT, columns};
        int64_t changed = 0;
        float *y;

        memcpy(columns, w.table.columns, sizeof(columns));
        columns[c].null++;
        columns[c].number++;
        columns[c].time++;
        columns[c].offset = columns[c].offset ? columns[c].offset + 1 : NULL;
        assert_int_equal(moe_features_bind(w.features, &moved, 1), MOE_OK);
        y = encode(&w, w.encoder, NULL, n);
        for (int64_t i = 0; i < n; i++)
            changed += memcmp(x + i * CHANNELS, y + i * CHANNELS, CHANNELS * sizeof(float)) != 0;
        if (c == COLUMN_EMPTY || c == COLUMN_SAME)
            assert_int_equal(changed, 0);
        else
            assert_true(changed > n / 4);
    }
    moe_job_destroy(w.job);
}

static void
inputs_computed_as_rows_are_asked_for_are_the_same(void **state)
{
    world w = make_world(2, ROWS, &plain);
    uint8_t hidden[ROWS];
    float *shown, *partly;

    for (int i = 0; i < ROWS; i++)
        hidden[i] = (uint8_t) (i % 8);
    shown = encode(&w, w.encoder, NULL, ROWS);
    partly = encode(&w, w.encoder, hidden, ROWS);
    for (int round = 0; round < 2; round++)
    {
        assert_int_equal(moe_features_bind_as_asked(w.features, &w.table, 1), MOE_OK);
        assert_memory_equal(encode(&w, w.encoder, hidden, ROWS / 3), partly, ROWS / 3 * CHANNELS * sizeof(float));
        assert_memory_equal(encode(&w, w.encoder, NULL, ROWS), shown, ROWS * CHANNELS * sizeof(float));
        assert_memory_equal(encode(&w, w.encoder, hidden, ROWS), partly, ROWS * CHANNELS * sizeof(float));
    }
    assert_int_equal(moe_features_bind(w.features, &w.table, 1), MOE_OK);
    assert_memory_equal(encode(&w, w.encoder, NULL, ROWS), shown, ROWS * CHANNELS * sizeof(float));
    moe_job_destroy(w.job);
}

static void
hidden_values_look_exactly_like_null(void **state)
{
    world w = make_world(2, ROWS, &plain);
    uint8_t hidden[ROWS];
    float *shown, *as_hidden, *as_null;

    for (int i = 0; i < ROWS; i++)
        hidden[i] = (uint8_t) (i % 8);
    shown = encode(&w, w.encoder, NULL, ROWS);
    as_hidden = encode(&w, w.encoder, hidden, ROWS);
    hide_by_null(&w.table, hidden);
    assert_int_equal(moe_features_bind(w.features, &w.table, 1), MOE_OK);
    as_null = encode(&w, w.encoder, NULL, ROWS);
    assert_memory_equal(as_hidden, as_null, ROWS * CHANNELS * sizeof(float));
    for (int i = 0; i < ROWS; i++)
        assert_int_equal(memcmp(shown + i * CHANNELS, as_hidden + i * CHANNELS, CHANNELS * sizeof(float)) != 0,
                         hidden[i] != 0);
    moe_job_destroy(w.job);
}

static void
hidden_columns_look_exactly_like_null(void **state)
{
    world w = make_world(2, ROWS, &plain);
    bool *columns = moe_alloc(w.job, w.table.n_columns, sizeof(*columns));
    const bool *tables[] = {columns};
    float *as_hidden, *as_null = encode(&w, w.encoder, NULL, ROWS);

    for (int c = 0; c < w.table.n_columns; c++)
    {
        columns[c] = true;
        moe_features_hide(w.features, tables);
        as_hidden = encode(&w, w.encoder, NULL, ROWS);
        moe_features_hide(w.features, NULL);
        assert_int_equal(memcmp(as_null, as_hidden, ROWS * CHANNELS * sizeof(float)) != 0,
                         moe_features_uses(w.features, 0, c));
        for (int64_t row = 0; row < ROWS; row++)
            set_null(&w.table, c, row);
        assert_int_equal(moe_features_bind(w.features, &w.table, 1), MOE_OK);
        as_null = encode(&w, w.encoder, NULL, ROWS);
        assert_memory_equal(as_hidden, as_null, ROWS * CHANNELS * sizeof(float));
    }
    for (int i = 1; i < ROWS; i++)
        assert_memory_equal(as_null, as_null + i * CHANNELS, CHANNELS * sizeof(float));
    moe_job_destroy(w.job);
}

static void
a_hidden_value_has_no_influence(void **state)
{
    world w = make_world(1, ROWS, &plain);
    uint8_t hidden[ROWS];
    float *before, *after;

    memset(hidden, 7, sizeof(hidden));
    before = encode(&w, w.encoder, hidden, ROWS);
    for (int64_t row = 0; row < ROWS; row++)
        ((double *) w.table.columns[COLUMN_PAID].number)[row] = row % 2;
    memset((char *) w.table.columns[COLUMN_COUNTRY].bytes, 'x', 1000);
    memset((char *) w.table.columns[COLUMN_TAG].bytes, 'y', 1000);
    assert_int_equal(moe_features_bind(w.features, &w.table, 1), MOE_OK);
    after = encode(&w, w.encoder, hidden, ROWS);
    assert_memory_equal(before, after, ROWS * CHANNELS * sizeof(float));
    moe_job_destroy(w.job);
}

static void
repeated_rows_get_the_same_vector(void **state)
{
    world w = make_world(2, 100, &plain);
    const int32_t rows[] = {5, 99, 5, 0, 5};
    moe_var *x;

    moe_tape_reset(w.tape, false, 1);
    x = moe_encoder_forward(w.encoder, w.tape, 0, rows, NULL, 5);
    assert_non_null(x);
    /* A product's rounding may depend on a row's place in its block, no more. */
    for (int i = 0; i < CHANNELS; i++)
    {
        assert_true(fabsf(x->value[i] - x->value[2 * CHANNELS + i]) < 1e-5f);
        assert_true(fabsf(x->value[i] - x->value[4 * CHANNELS + i]) < 1e-5f);
    }
    moe_job_destroy(w.job);
}

static void
unknown_values_of_a_column_share_a_vector(void **state)
{
    static const char *const known[] = {"a", "a", "b", "b", "c", "c"};
    static const char *const later[] = {"new", "newer", "a", "b", "c", "c"};
    world w = {.job = make_job(1)};
    moe_table table = make_strings(w.job, known, 6);
    int64_t n = 6;
    float *x;

    assert_int_equal(moe_blas_open(w.job), MOE_OK);
    assert_int_equal(moe_features_fit(w.job, &table, 1, &n, &w.features), MOE_OK);
    table = make_strings(w.job, later, 6);
    assert_int_equal(moe_features_bind(w.features, &table, 1), MOE_OK);
    w.params = moe_params_create(w.job, 1);
    assert_int_equal(moe_encoder_create(w.job, w.features, &plain, w.params, &w.encoder), MOE_OK);
    w.tape = moe_tape_create(w.job);
    x = encode(&w, w.encoder, NULL, 6);
    assert_memory_equal(x, x + CHANNELS, CHANNELS * sizeof(float));
    assert_memory_not_equal(x, x + 2 * CHANNELS, CHANNELS * sizeof(float));
    moe_job_destroy(w.job);
}

static void
tables_without_usable_columns_get_a_constant(void **state)
{
    moe_job *job = make_job(1);
    moe_table bare[2] = {{"bare", 3, 0, NULL}, make_table(job, 0)};
    const int64_t fit_rows[2] = {3, 0};
    const int32_t rows[] = {0, 1, 2};
    moe_features *features = NULL;
    moe_encoder *encoder = NULL;
    moe_tape *tape = moe_tape_create(job);
    moe_var *x;
    float norm = 0;

    assert_int_equal(moe_blas_open(job), MOE_OK);
    assert_int_equal(moe_features_fit(job, bare, 2, fit_rows, &features), MOE_OK);
    assert_int_equal(moe_features_bind(features, bare, 2), MOE_OK);
    assert_int_equal(moe_encoder_create(job, features, &plain, moe_params_create(job, 1), &encoder), MOE_OK);
    moe_tape_reset(tape, false, 1);
    x = moe_encoder_forward(encoder, tape, 0, rows, NULL, 3);
    assert_non_null(x);
    assert_memory_equal(x->value, x->value + CHANNELS, CHANNELS * sizeof(float));
    for (int i = 0; i < CHANNELS; i++)
        norm += fabsf(x->value[i]);
    assert_true(norm > 0.1);
    x = moe_encoder_forward(encoder, tape, 1, NULL, NULL, 0);
    assert_non_null(x);
    assert_int_equal(x->rows, 0);
    moe_job_destroy(job);
}

static void
no_rows_of_a_table_can_be_encoded(void **state)
{
    world w = make_world(2, 100, &plain);

    encode(&w, w.encoder, NULL, 0);
    moe_job_destroy(w.job);
}

static void
rows_out_of_range_are_refused(void **state)
{
    const int32_t rows[] = {0, 100, -1};

    for (int bad = 1; bad < 3; bad++)
    {
        world w = make_world(1, 100, &plain);

        moe_tape_reset(w.tape, false, 1);
        assert_null(moe_encoder_forward(w.encoder, w.tape, 0, rows + bad, NULL, 1));
        assert_int_equal(moe_job_code(w.job), MOE_INVALID);
        moe_job_destroy(w.job);
    }
}

static void
senseless_configurations_are_refused(void **state)
{
    const moe_encoder_config cases[] = {{0, 1, 0}, {8, -1, 0}, {8, 1, 1.5}, {8, 1, NAN}, {-3, 1, 0}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
    {
        world w = make_world(1, 20, &plain);
        moe_encoder *encoder = w.encoder;

        assert_int_equal(moe_encoder_create(w.job, w.features, &cases[i], w.params, &encoder), MOE_INVALID);
        assert_null(encoder);
        moe_job_destroy(w.job);
    }
}

static void
a_stored_encoder_gives_the_same_vectors(void **state)
{
    world w = make_world(1, ROWS, &plain);
    float *before = encode(&w, w.encoder, NULL, ROWS);
    moe_features *features = NULL;
    moe_params *params = moe_params_create(w.job, 7);
    moe_encoder *encoder = NULL;
    moe_buffer buffer;
    moe_reader reader;

    moe_buffer_init(&buffer, w.job);
    moe_features_write(w.features, &buffer);
    moe_params_write(w.params, &buffer);
    moe_reader_init(&reader, w.job, buffer.data, buffer.length);
    assert_int_equal(moe_features_read(w.job, &reader, &features), MOE_OK);
    assert_int_equal(moe_params_read(params, &reader), MOE_OK);
    assert_int_equal(moe_features_bind(features, &w.table, 1), MOE_OK);
    assert_int_equal(moe_encoder_create(w.job, features, &plain, params, &encoder), MOE_OK);
    assert_memory_equal(before, encode(&w, encoder, NULL, ROWS), ROWS * CHANNELS * sizeof(float));
    moe_job_destroy(w.job);
}

/* A loss over the encoded rows: squared error of a fixed projection against the row number's parity. */
static moe_var *
parity_loss(world *w, moe_param *head, int64_t n, bool training)
{
    int32_t *rows;
    float *label;
    uint8_t *hidden;
    moe_var *x;

    moe_tape_reset(w->tape, training, 5);
    rows = moe_tape_alloc(w->tape, n, sizeof(*rows));
    label = moe_tape_alloc(w->tape, n, sizeof(*label));
    hidden = moe_tape_alloc(w->tape, n, 1);
    for (int64_t i = 0; i < n; i++)
    {
        rows[i] = (int32_t) (i * 7 % w->table.n_rows);
        label[i] = (float) (i % 2);
        hidden[i] = (uint8_t) (i % 5 == 0 ? i % 8 : 0);
    }
    x = moe_encoder_forward(w->encoder, w->tape, 0, rows, hidden, n);
    return moe_loss_squared(w->tape, moe_linear(w->tape, x, moe_variable(w->tape, head), NULL), label, NULL);
}

/* The slope of the loss along a random direction of one parameter, by backward and by differences. */
static void
check_direction(world *w, moe_param *head, moe_param *param, uint64_t key, int64_t n, bool training)
{
    const float step = 4e-3f;
    int64_t size = param->rows * param->cols;
    float *kept = moe_alloc(w->job, size, sizeof(*kept));
    float *direction = moe_alloc(w->job, size, sizeof(*direction));
    double expected = 0, length = 0, up, down, slope;

    memcpy(kept, param->value, size * sizeof(float));
    for (int64_t i = 0; i < size; i++)
    {
        direction[i] = (float) moe_random_normal(key, i);
        length += direction[i] * direction[i];
    }
    for (int64_t i = 0; i < size; i++)
    {
        direction[i] /= (float) sqrt(length);
        expected += direction[i] * param->gradient[i];
    }
    for (int64_t i = 0; i < size; i++)
        param->value[i] = kept[i] + step * direction[i];
    up = parity_loss(w, head, n, training)->value[0];
    for (int64_t i = 0; i < size; i++)
        param->value[i] = kept[i] - step * direction[i];
    down = parity_loss(w, head, n, training)->value[0];
    memcpy(param->value, kept, size * sizeof(float));
    slope = (up - down) / (2 * step);
    if (fabs(slope - expected) > 2e-3 + 2e-2 * fabs(expected))
        fail_msg("%s: slope %g, gradient %g", param->name, slope, expected);
}

static void
check_gradients(const moe_encoder_config *config, bool training)
{
    const int64_t n = 120;
    world w = make_world(1, ROWS, config);
    moe_param *head = moe_params_add(w.params, "head", config->channels, 1, MOE_INIT_UNIFORM);
    int with_gradient = 0;

    assert_int_equal(moe_params_train(w.params), MOE_OK);
    assert_int_equal(moe_tape_backward(w.tape, parity_loss(&w, head, n, training)), MOE_OK);
    for (int p = 0; p < moe_params_count(w.params); p++)
    {
        moe_param *param = moe_params_get(w.params, p);
        double norm = 0;

        for (int64_t i = 0; i < param->rows * param->cols; i++)
            norm += fabs(param->gradient[i]);
        with_gradient += norm > 1e-6;
        for (uint64_t k = 0; k < 3; k++)
            check_direction(&w, head, param, 100 + k, n, training);
    }
    assert_int_equal(with_gradient, moe_params_count(w.params));
    moe_job_destroy(w.job);
}

static void
gradients_match_finite_differences(void **state)
{
    check_gradients(&plain, false);
}

static void
gradients_match_in_training_too(void **state)
{
    const moe_encoder_config config = {.channels = CHANNELS, .blocks = 1, .dropout = 0.3f};

    check_gradients(&config, true);
}

static void
vectors_and_gradients_do_not_depend_on_threads(void **state)
{
    const int threads[] = {1, 2, 7};
    const moe_encoder_config config = {.channels = CHANNELS, .blocks = 1, .dropout = 0.2f};
    world w[3];

    for (int k = 0; k < 3; k++)
    {
        moe_param *head;

        w[k] = make_world(threads[k], 6000, &config);
        head = moe_params_add(w[k].params, "head", CHANNELS, 1, MOE_INIT_UNIFORM);
        assert_int_equal(moe_params_train(w[k].params), MOE_OK);
        assert_int_equal(moe_tape_backward(w[k].tape, parity_loss(&w[k], head, 9000, true)), MOE_OK);
    }
    for (int k = 1; k < 3; k++)
    {
        assert_memory_equal(encode(&w[0], w[0].encoder, NULL, 6000), encode(&w[k], w[k].encoder, NULL, 6000),
                            6000 * CHANNELS * sizeof(float));
        for (int p = 0; p < moe_params_count(w[0].params); p++)
        {
            moe_param *a = moe_params_get(w[0].params, p);

            assert_memory_equal(a->gradient, moe_params_get(w[k].params, p)->gradient,
                                a->rows * a->cols * sizeof(float));
        }
    }
    for (int k = 0; k < 3; k++)
        moe_job_destroy(w[k].job);
}

static void
memory_beyond_the_limit_is_an_error(void **state)
{
    int stopped = 0;

    for (size_t limit = 200000; limit <= 25600000; limit *= 2)
    {
        moe_job *source = make_job(1);
        moe_table table = make_table(source, ROWS);
        moe_job_config config = {.threads = 2, .memory_limit = limit};
        int32_t rows[ROWS] = {0};
        int64_t n = ROWS;
        world w = {0};

        assert_int_equal(moe_job_create(&config, &w.job), MOE_OK);
        assert_int_equal(moe_blas_open(w.job), MOE_OK);
        w.params = moe_params_create(w.job, 1);
        w.tape = moe_tape_create(w.job);
        if (w.params && w.tape && moe_features_fit(w.job, &table, 1, &n, &w.features) == MOE_OK &&
            moe_features_bind(w.features, &table, 1) == MOE_OK &&
            moe_encoder_create(w.job, w.features, &plain, w.params, &w.encoder) == MOE_OK)
        {
            moe_var *x;

            moe_tape_reset(w.tape, true, 1);
            x = moe_encoder_forward(w.encoder, w.tape, 0, rows, NULL, ROWS);
            assert_int_equal(x != NULL, moe_job_code(w.job) == MOE_OK);
        }
        stopped += moe_job_code(w.job) == MOE_LIMIT;
        assert_true(moe_job_code(w.job) == MOE_OK || (limit < 25600000 && moe_job_code(w.job) == MOE_LIMIT));
        moe_job_destroy(w.job);
        moe_job_destroy(source);
    }
    assert_true(stopped > 1);
}

static void
destroying_returns_all_memory(void **state)
{
    world w = make_world(1, 100, &plain);
    moe_encoder *encoder = NULL;
    size_t before = moe_job_memory_used(w.job);

    assert_int_equal(moe_encoder_create(w.job, w.features, &plain, w.params, &encoder), MOE_OK);
    moe_encoder_destroy(encoder);
    assert_int_equal(moe_job_memory_used(w.job), before);
    moe_encoder_destroy(NULL);
    moe_job_destroy(w.job);
}

static void
dropout_is_active_in_training_alone(void **state)
{
    const moe_encoder_config config = {.channels = CHANNELS, .blocks = 1, .dropout = 0.5f};
    world w = make_world(1, 200, &config);
    moe_param *head = moe_params_add(w.params, "head", CHANNELS, 1, MOE_INIT_UNIFORM);
    float quiet = parity_loss(&w, head, 200, false)->value[0];

    assert_true(parity_loss(&w, head, 200, false)->value[0] == quiet);
    assert_true(parity_loss(&w, head, 200, true)->value[0] != quiet);
    moe_job_destroy(w.job);
}

/* A label that depends on a category, a number, a text and a date. */
static float
label_of(const moe_table *table, int64_t row)
{
    const moe_column *note = &table->columns[COLUMN_NOTE];
    const moe_column *country = &table->columns[COLUMN_COUNTRY];
    int64_t length = note->offset[row + 1] - note->offset[row];
    bool crash = !note->null[row] && memmem(note->bytes + note->offset[row], length, "crash", 5);
    int code = country->bytes[country->offset[row + 1] - 1] - '0';

    return (float) ((code % 2 ? 1 : -1) + table->columns[COLUMN_SERIAL].number[row] / 200 - 1 + (crash ? 1 : 0));
}

static void
a_function_of_the_columns_is_learned(void **state)
{
    const int64_t n = 400;
    const moe_encoder_config config = {.channels = 16, .blocks = 1, .dropout = 0};
    world w = make_world(2, n, &config);
    moe_param *weight = moe_params_add(w.params, "weight", 16, 1, MOE_INIT_UNIFORM);
    moe_param *bias = moe_params_add(w.params, "bias", 1, 1, MOE_INIT_ZERO);
    moe_adam adam = {.learning_rate = 0.01f, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f};
    int32_t rows[400];
    float label[400];
    float first = 0, last = 0;

    for (int64_t i = 0; i < n; i++)
    {
        rows[i] = (int32_t) i;
        label[i] = label_of(&w.table, i);
    }
    assert_int_equal(moe_params_train(w.params), MOE_OK);
    for (int step = 0; step < 200; step++)
    {
        moe_var *x, *loss;

        moe_tape_reset(w.tape, true, step);
        x = moe_encoder_forward(w.encoder, w.tape, 0, rows, NULL, n);
        x = moe_linear(w.tape, x, moe_variable(w.tape, weight), moe_variable(w.tape, bias));
        loss = moe_loss_squared(w.tape, x, label, NULL);
        assert_non_null(loss);
        first = step == 0 ? loss->value[0] : first;
        last = loss->value[0];
        assert_int_equal(moe_tape_backward(w.tape, loss), MOE_OK);
        moe_adam_step(&adam, w.params);
    }
    assert_true(first > 0.5f);
    assert_true(last < 0.02f);
    moe_job_destroy(w.job);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_get_different_finite_vectors),
        cmocka_unit_test(every_column_that_is_used_shows),
        cmocka_unit_test(inputs_computed_as_rows_are_asked_for_are_the_same),
        cmocka_unit_test(hidden_values_look_exactly_like_null),
        cmocka_unit_test(hidden_columns_look_exactly_like_null),
        cmocka_unit_test(a_hidden_value_has_no_influence),
        cmocka_unit_test(repeated_rows_get_the_same_vector),
        cmocka_unit_test(unknown_values_of_a_column_share_a_vector),
        cmocka_unit_test(tables_without_usable_columns_get_a_constant),
        cmocka_unit_test(no_rows_of_a_table_can_be_encoded),
        cmocka_unit_test(rows_out_of_range_are_refused),
        cmocka_unit_test(senseless_configurations_are_refused),
        cmocka_unit_test(a_stored_encoder_gives_the_same_vectors),
        cmocka_unit_test(gradients_match_finite_differences),
        cmocka_unit_test(gradients_match_in_training_too),
        cmocka_unit_test(vectors_and_gradients_do_not_depend_on_threads),
        cmocka_unit_test(memory_beyond_the_limit_is_an_error),
        cmocka_unit_test(destroying_returns_all_memory),
        cmocka_unit_test(dropout_is_active_in_training_alone),
        cmocka_unit_test(a_function_of_the_columns_is_learned),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
