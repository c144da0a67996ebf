/*
 * test_model.c: gradients, time, and inputs of the model.
 */
#include "test/unit/gnn_fixture.h"

#include <math.h>

#include "gnn/model.h"

#define CUT (100 * DAY)
#define N   24

typedef struct batch
{
    int32_t row[N];
    int64_t time[N];
    float label[N];
    int32_t class_label[N];
    moe_seeds seeds;
} batch;

static void
make_seeds(batch *b)
{
    for (int i = 0; i < N; i++)
    {
        b->row[i] = (int32_t) (moe_random_bits(3, i) % 30);
        b->time[i] = CUT / 2 + (int64_t) (moe_random_bits(4, i) % (CUT / 2));
        b->label[i] = (float) (moe_random_bits(5, i) % 2);
        b->class_label[i] = (int32_t) (moe_random_bits(6, i) % 3);
    }
    b->seeds = (moe_seeds){.table = 0, .n = N, .row = b->row, .time = b->time};
}

static moe_model_config
small_config(int hops)
{
    moe_model_config config;
    moe_model_config_defaults(&config);
    config.channels = 8;
    config.hops = hops;
    config.dropout = 0;
    config.seed_inputs = 5;
    for (int h = 0; h < MOE_MAX_HOPS; h++)
        config.fanout[h] = 3;
    return config;
}

typedef struct setting
{
    moe_job *job;
    fixture f;
    moe_graph *graph;
    moe_params *params;
    moe_model *model;
} setting;

static void
set_up(setting *s, const moe_model_config *config, uint64_t variant, int threads)
{
    s->job = fixture_job(threads);
    fixture_random(&s->f, 5, CUT, variant);
    fixture_graph(&s->f, s->job, &s->graph);
    s->params = moe_params_create(s->job, 7);
    s->model = fixture_model(&s->f, s->job, s->graph, config, s->params);
}

static void
tear_down(setting *s)
{
    moe_model_destroy(s->model);
    moe_params_destroy(s->params);
    moe_graph_destroy(s->graph);
    fixture_free(&s->f);
    moe_job_destroy(s->job);
}

static moe_var *
loss_of(setting *s, moe_tape *tape, const moe_sample *sample, const batch *b)
{
    moe_outputs out;
    moe_tape_reset(tape, true, 1);
    assert_int_equal(moe_model_forward(s->model, tape, &b->seeds, sample, &out), MOE_OK);
    moe_var *loss = moe_model_config_of(s->model)->task == MOE_MULTICLASS
                        ? moe_loss_cross_entropy(tape, out.logits, b->class_label, NULL)
                        : moe_loss_logistic(tape, out.logits, b->label, NULL);
    assert_non_null(loss);
    return loss;
}

/* Compare the gradient of some entries of every parameter with central differences. */
static void
check_gradients(const moe_model_config *config, int entries)
{
    setting s;
    batch b;
    moe_sample *sample;
    int checked = 0, wrong = 0, moving = 0;
    make_seeds(&b);
    set_up(&s, config, 1, 2);
    moe_arena *arena = moe_arena_create(s.job);
    moe_tape *tape = moe_tape_create(s.job);
    moe_sampler_config sampler = {.hops = config->hops, .fanout = {3, 3, 3, 3}, .key = 1};
    assert_int_equal(moe_sample_trees(arena, s.graph, &b.seeds, &sampler, &sample), MOE_OK);
    assert_int_equal(moe_params_train(s.params), MOE_OK);
    assert_int_equal(moe_tape_backward(tape, loss_of(&s, tape, sample, &b)), MOE_OK);
    for (int p = 0; p < moe_params_count(s.params); p++)
    {
        moe_param *param = moe_params_get(s.params, p);
        for (int k = 0; k < entries; k++)
        {
            int64_t i = (int64_t) (moe_random_bits(p, k) % (param->rows * param->cols));
            float old = param->value[i];
            const float step = 5e-4f;
            param->value[i] = old + step;
            double up = loss_of(&s, tape, sample, &b)->value[0];
            param->value[i] = old - step;
            double down = loss_of(&s, tape, sample, &b)->value[0];
            param->value[i] = old;
            double numeric = (up - down) / (2 * step);
            checked++;
            moving += fabs(numeric) > 1e-3;
            wrong += fabs(numeric - param->gradient[i]) > 1e-3 + 0.05 * fabs(numeric);
        }
    }
    /* A kink of ReLU within a step is rare. */
    if (wrong * 50 > checked || moving * 6 <= checked)
        print_error("convolution %d, aggregation %d: of %d gradients %d are wrong and %d move\n", config->convolution,
                    config->aggregation, checked, wrong, moving);
    assert_true(wrong * 50 <= checked);
    assert_true(moving * 6 > checked);
    moe_tape_destroy(tape);
    tear_down(&s);
}

static void
gradients_equal_finite_differences(void **state)
{
    for (int hops = 1; hops <= 3; hops++)
    {
        moe_model_config config = small_config(hops);
        check_gradients(&config, 4);
    }
    moe_model_config config = small_config(2);
    config.task = MOE_MULTICLASS;
    config.n_classes = 3;
    config.sampling = MOE_SAMPLE_LATEST;
    check_gradients(&config, 4);
}

static void
gradients_of_every_convolution_equal_finite_differences(void **state)
{
    for (int v = 0; v < FIXTURE_VARIANTS; v++)
    {
        moe_model_config config = small_config(2);
        fixture_choose(&config, v);
        check_gradients(&config, 2);
        config.hops = 4;
        if (config.composite && config.convolution == MOE_CONV_SAGE)
            check_gradients(&config, 1);
    }
}

static void
predict(const moe_model_config *config, uint64_t variant, int threads, float *prediction)
{
    setting s;
    batch b;
    make_seeds(&b);
    set_up(&s, config, variant, threads);
    assert_int_equal(moe_model_predict(s.model, &b.seeds, 3, NULL, prediction), MOE_OK);
    tear_down(&s);
}

static void
rows_later_than_the_seed_change_no_bit_of_a_prediction(void **state)
{
    for (int v = 0; v < FIXTURE_VARIANTS + 4; v++)
    {
        moe_model_config config = small_config(v < 4 ? v + 1 : 2);
        fixture_choose(&config, v < 4 ? 0 : v - 4);
        float prediction[N], other[N];
        predict(&config, 1, 2, prediction);
        for (uint64_t variant = 2; variant < 6; variant++)
        {
            predict(&config, variant, 2, other);
            assert_memory_equal(prediction, other, sizeof prediction);
        }
        for (int i = 1; i < N; i++) /* and they are not all the same */
            if (prediction[i] != prediction[0])
                break;
            else
                assert_true(i < N - 1);
    }
}

static void
a_prediction_does_depend_on_what_is_visible(void **state)
{
    batch b;
    float prediction[N], other[N];
    make_seeds(&b);
    for (int v = 0; v < FIXTURE_VARIANTS; v++)
    {
        setting s;
        moe_model_config config = small_config(2);
        fixture_choose(&config, v);
        set_up(&s, &config, 1, 1);
        assert_int_equal(moe_model_predict(s.model, &b.seeds, 3, NULL, prediction), MOE_OK);
        for (int t = 0; t < FIXTURE_TABLES; t++)
        {
            bool disabled[FIXTURE_TABLES] = {false};
            disabled[t] = true;
            assert_int_equal(moe_model_predict(s.model, &b.seeds, 3, disabled, other), MOE_OK);
            assert_memory_not_equal(prediction, other, sizeof prediction);
        }
        tear_down(&s);
    }
}

/* A seed before all rows sees none but those without a time; one that sees no table at all is left with its inputs. */
static void
seeds_without_neighbours_are_predicted(void **state)
{
    for (int v = 0; v < FIXTURE_VARIANTS; v++)
    {
        setting s;
        batch b;
        const bool none[FIXTURE_TABLES] = {true, true, true, true};
        float prediction[N];
        moe_model_config config = small_config(3);
        fixture_choose(&config, v);
        make_seeds(&b);
        b.time[3] = -DAY;
        set_up(&s, &config, 1, 1);
        assert_int_equal(moe_model_predict(s.model, &b.seeds, 3, NULL, prediction), MOE_OK);
        b.seeds.n = 1;
        b.time[0] = -DAY;
        assert_int_equal(moe_model_predict(s.model, &b.seeds, 3, NULL, prediction), MOE_OK);
        assert_int_equal(moe_model_predict(s.model, &b.seeds, 3, none, prediction), MOE_OK);
        assert_true(prediction[0] > 0 && prediction[0] < 1);
        tear_down(&s);
    }
}

static void
any_number_of_threads_predicts_the_same(void **state)
{
    for (int v = 0; v < FIXTURE_VARIANTS; v++)
    {
        moe_model_config config = small_config(3);
        fixture_choose(&config, v);
        float prediction[N], other[N];
        predict(&config, 1, 1, prediction);
        predict(&config, 1, 2, other);
        assert_memory_equal(prediction, other, sizeof prediction);
        predict(&config, 1, 7, other);
        assert_memory_equal(prediction, other, sizeof prediction);
    }
}

/* Equal subtrees are merged over the whole batch; that must not show. Products may round differently. */
static void
a_seed_alone_is_predicted_as_among_others(void **state)
{
    for (int v = 0; v < FIXTURE_VARIANTS + 4; v++)
    {
        setting s;
        batch b;
        float prediction[N], alone;
        moe_model_config config = small_config(v < 4 ? v + 1 : 2);
        fixture_choose(&config, v < 4 ? 0 : v - 4);
        make_seeds(&b);
        set_up(&s, &config, 1, 2);
        assert_int_equal(moe_model_predict(s.model, &b.seeds, 3, NULL, prediction), MOE_OK);
        for (int i = 0; i < N; i++)
        {
            moe_seeds one = {.table = 0, .n = 1, .row = b.row + i, .time = b.time + i};
            assert_int_equal(moe_model_predict(s.model, &one, 3, NULL, &alone), MOE_OK);
            assert_memory_equal(&alone, &prediction[i], sizeof alone);
        }
        tear_down(&s);
    }
}

static void
too_little_memory_is_an_error_wherever_it_runs_out(void **state)
{
    int refused = 0, done = 0;
    moe_model_config config = small_config(3);
    batch b;
    make_seeds(&b);
    for (size_t limit = 32 << 10; limit < 64 << 20; limit += limit / 4)
    {
        fixture f;
        moe_job *job;
        moe_graph *graph = NULL;
        moe_model *model = NULL;
        moe_params *params;
        float prediction[N];
        moe_job_config job_config = {.threads = 2, .memory_limit = limit};
        fixture_random(&f, 5, CUT, 1);
        f.n_inputs = config.seed_inputs;
        if (moe_job_create(&job_config, &job) == MOE_OK)
        {
            moe_code code = moe_blas_open(job);
            params = moe_params_create(job, 1);
            for (int t = 0; params != NULL && t < f.n_tables; t++)
            {
                char name[32];
                snprintf(name, sizeof name, "embed/%d/weight", t);
                f.weight[t] = moe_params_add(params, name, f.n_features, config.channels, MOE_INIT_UNIFORM);
            }
            if (code == MOE_OK && params != NULL && moe_job_code(job) == MOE_OK)
                code = moe_graph_create(job, f.tables, f.n_tables, f.keys, f.n_keys, &graph);
            if (graph != NULL)
                code = moe_model_create(job, graph, 0, fixture_encode, &f, fixture_inputs, &f, &config, params, &model);
            if (model != NULL)
                code = moe_model_predict(model, &b.seeds, 3, NULL, prediction);
            done += model != NULL && code == MOE_OK;
            refused += moe_job_code(job) == MOE_LIMIT;
            assert_true(moe_job_code(job) == MOE_LIMIT || (model != NULL && code == MOE_OK));
        }
        moe_job_destroy(job);
        fixture_free(&f);
    }
    assert_true(refused > 3 && done > 3);
}

static void
predictions_have_the_form_of_their_task(void **state)
{
    float prediction[N * 3];
    moe_model_config config = small_config(2);
    predict(&config, 1, 1, prediction);
    for (int i = 0; i < N; i++)
        assert_true(prediction[i] > 0 && prediction[i] < 1);
    config.task = MOE_MULTICLASS;
    config.n_classes = 3;
    predict(&config, 1, 1, prediction);
    for (int i = 0; i < N; i++)
        assert_float_equal(prediction[3 * i] + prediction[3 * i + 1] + prediction[3 * i + 2], 1, 1e-5);
    config.task = MOE_REGRESSION;
    config.n_classes = 1;
    config.shift = 100;
    config.scale = 200;
    predict(&config, 1, 1, prediction);
    float least = prediction[0], most = prediction[0];
    for (int i = 0; i < N; i++)
    {
        least = prediction[i] < least ? prediction[i] : least;
        most = prediction[i] > most ? prediction[i] : most;
    }
    config.low = least + (most - least) / 4;
    config.high = most - (most - least) / 4;
    predict(&config, 1, 1, prediction);
    bool clamped = false, free = false;
    for (int i = 0; i < N; i++)
    {
        assert_true(prediction[i] >= (float) config.low && prediction[i] <= (float) config.high);
        clamped |= prediction[i] == (float) config.low || prediction[i] == (float) config.high;
        free |= prediction[i] > (float) config.low && prediction[i] < (float) config.high;
    }
    assert_true(clamped && free);
}

static void
numbers_out_of_bounds_are_an_error_not_a_prediction(void **state)
{
    setting s;
    batch b;
    float prediction[N];
    moe_model_config config = small_config(2);
    make_seeds(&b);
    set_up(&s, &config, 1, 1);
    for (int p = 0; p < moe_params_count(s.params); p++)
        if (strcmp(moe_params_get(s.params, p)->name, "head/bias") == 0)
            moe_params_get(s.params, p)->value[0] = INFINITY;
    assert_int_equal(moe_model_predict(s.model, &b.seeds, 3, NULL, prediction), MOE_INVALID);
    assert_non_null(strstr(moe_job_error(s.job), "learning rate"));
    tear_down(&s);
}

static void
a_seed_that_may_not_be_seen_is_predicted_all_the_same(void **state)
{
    setting s;
    moe_model_config config = small_config(2);
    set_up(&s, &config, 1, 1);
    int32_t row = 29;
    int64_t time = CUT, horizon = s.f.tables[0].time[29] - 1;
    moe_seeds seeds = {.table = 0, .n = 1, .row = &row, .time = &time, .horizon = &horizon};
    float prediction;
    assert_int_equal(moe_model_predict(s.model, &seeds, 3, NULL, &prediction), MOE_OK);
    assert_true(prediction > 0 && prediction < 1);
    tear_down(&s);
}

/* More seeds than a batch of predictions holds: each must get its own numbers. */
static void
inputs_go_with_their_seed_in_every_batch(void **state)
{
    enum
    {
        MANY = 1500
    };
    setting s;
    static int32_t row[MANY];
    static int64_t time[MANY];
    static float prediction[MANY];
    moe_model_config config = small_config(1);
    set_up(&s, &config, 1, 2);
    for (int i = 0; i < MANY; i++)
    {
        row[i] = 7;
        time[i] = CUT / 2 + i % 3 * DAY;
    }
    moe_seeds seeds = {.table = 0, .n = MANY, .row = row, .time = time};
    assert_int_equal(moe_model_predict(s.model, &seeds, 3, NULL, prediction), MOE_OK);
    for (int i = 3; i < MANY; i++)
        assert_true(prediction[i] == prediction[i - 3]);
    s.f.no_inputs = true;
    float other;
    seeds.n = 1;
    assert_int_equal(moe_model_predict(s.model, &seeds, 3, NULL, &other), MOE_OK);
    assert_true(other != prediction[0]);
    tear_down(&s);
}

static moe_code
refuse_inputs(void *arg, const moe_seeds *seeds, float *out)
{
    return moe_fail(arg, MOE_INVALID, "no inputs today");
}

static moe_code
give_infinity(void *arg, const moe_seeds *seeds, float *out)
{
    for (int64_t i = 0; i < seeds->n * 5; i++)
        out[i] = i == 8 ? INFINITY : 0;
    return MOE_OK;
}

static void
inputs_that_fail_or_are_missing_or_not_finite_are_an_error(void **state)
{
    const moe_seed_inputs_fn inputs[] = {NULL, refuse_inputs, give_infinity};
    static const char *const expected[] = {"nothing supplies", "no inputs today", "not a finite"};
    for (int i = 0; i < 3; i++)
    {
        setting s;
        batch b;
        float prediction[N];
        moe_model *model = NULL;
        moe_model_config config = small_config(1);
        make_seeds(&b);
        set_up(&s, &config, 1, 1);
        moe_code code =
            moe_model_create(s.job, s.graph, 0, fixture_encode, &s.f, inputs[i], s.job, &config, s.params, &model);
        if (model != NULL)
            code = moe_model_predict(model, &b.seeds, 3, NULL, prediction);
        assert_int_equal(code, MOE_INVALID);
        assert_non_null(strstr(moe_job_error(s.job), expected[i]));
        moe_model_destroy(model);
        tear_down(&s);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_equal_finite_differences),
        cmocka_unit_test(gradients_of_every_convolution_equal_finite_differences),
        cmocka_unit_test(rows_later_than_the_seed_change_no_bit_of_a_prediction),
        cmocka_unit_test(a_prediction_does_depend_on_what_is_visible),
        cmocka_unit_test(seeds_without_neighbours_are_predicted),
        cmocka_unit_test(any_number_of_threads_predicts_the_same),
        cmocka_unit_test(a_seed_alone_is_predicted_as_among_others),
        cmocka_unit_test(too_little_memory_is_an_error_wherever_it_runs_out),
        cmocka_unit_test(predictions_have_the_form_of_their_task),
        cmocka_unit_test(numbers_out_of_bounds_are_an_error_not_a_prediction),
        cmocka_unit_test(a_seed_that_may_not_be_seen_is_predicted_all_the_same),
        cmocka_unit_test(inputs_go_with_their_seed_in_every_batch),
        cmocka_unit_test(inputs_that_fail_or_are_missing_or_not_finite_are_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
