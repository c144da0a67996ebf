/*
 * test_trainer.c: training finds planted signals, and is reproducible.
 */
#include "test/unit/gnn_fixture.h"

#include <math.h>

#include "gnn/trainer.h"

#define USERS   300
#define EVENTS  6000
#define ITEMS   40
#define SAMPLES 1200
#define YEAR    (365 * DAY)

/* Users (table 0) with events (1) on items (2); labelled at several times each. */
typedef struct world
{
    fixture f;
    int32_t row[SAMPLES];
    int64_t time[SAMPLES];
    float label[SAMPLES];
    int n_train;
    moe_samples train;
    moe_samples valid;
} world;

typedef enum signal
{
    SIGNAL_COUNT, /* many events in sight: one hop */
    SIGNAL_ITEMS, /* the events' items have a positive attribute on average: two hops */
    SIGNAL_VALUE, /* the items' mean attribute itself */
    SIGNAL_INPUT  /* what the caller supplies of the seed */
} signal;

static void
make_world(world *w, signal signal)
{
    memset(w, 0, sizeof *w);
    w->f.n_features = 2;
    int64_t *time = fixture_alloc(&w->f, EVENTS, sizeof *time);
    for (int i = 0; i < EVENTS; i++)
        time[i] = (int64_t) ((double) i / EVENTS * YEAR);
    fixture_add_table(&w->f, "users", USERS, NULL);
    fixture_add_table(&w->f, "events", EVENTS, time);
    fixture_add_table(&w->f, "items", ITEMS, NULL);
    for (int t = 0; t < 3; t++)
        for (int64_t i = 0; i < w->f.tables[t].n_rows * 2; i++)
            w->f.features[t][i] = i % 2 == 0 ? 1 : (float) moe_random_normal(moe_key(8, t), i);
    int32_t *user = fixture_add_key(&w->f, "user", 1, 0);
    int32_t *item = fixture_add_key(&w->f, "item", 1, 2);
    for (int i = 0; i < EVENTS; i++)
    {
        double u = moe_random_uniform(1, i);
        user[i] = (int32_t) (u * u * USERS); /* some users are busier */
        /* A user keeps to some of the items. */
        item[i] = (int32_t) ((moe_random_bits(2, user[i]) + moe_random_bits(3, i) % 4) % ITEMS);
    }
    for (int i = 0; i < SAMPLES; i++)
    {
        double count = 0, sum = 0;
        w->row[i] = (int32_t) (moe_random_bits(4, i) % USERS);
        w->time[i] = YEAR / 3 + (int64_t) ((double) i / SAMPLES * YEAR * 2 / 3);
        for (int e = 0; e < EVENTS; e++)
            if (user[e] == w->row[i] && time[e] <= w->time[i])
            {
                count++;
                sum += w->f.features[2][item[e] * 2 + 1];
            }
        w->label[i] = signal == SIGNAL_INPUT   ? fixture_input(w->row[i], w->time[i], 1) > 0
                      : signal == SIGNAL_COUNT ? count > 9
                      : signal == SIGNAL_ITEMS ? sum > 0
                                               : (float) (count > 0 ? 10 * sum / count + 50 : 50);
    }
    w->n_train = SAMPLES * 3 / 4;
    w->train = (moe_samples){.n = w->n_train, .row = w->row, .time = w->time, .label = w->label};
    w->valid = (moe_samples){.n = SAMPLES - w->n_train,
                             .row = w->row + w->n_train,
                             .time = w->time + w->n_train,
                             .label = w->label + w->n_train};
}

typedef struct run
{
    moe_job *job;
    moe_graph *graph;
    moe_params *params;
    moe_model *model;
    moe_trainer *trainer;
} run;

static moe_model_config
small_config(int hops)
{
    moe_model_config config;
    moe_model_config_defaults(&config);
    config.channels = 16;
    config.hops = hops;
    config.fanout[0] = 32;
    config.dropout = 0.1f;
    return config;
}

static moe_train_config
small_training(void)
{
    moe_train_config config;
    moe_train_config_defaults(&config);
    config.epochs = 12;
    config.batch_size = 128;
    config.learning_rate = 0.01f;
    config.patience = 0;
    return config;
}

static void
begin(run *r, world *w, const moe_model_config *model, const moe_train_config *training, int threads)
{
    r->job = fixture_job(threads);
    fixture_graph(&w->f, r->job, &r->graph);
    r->params = moe_params_create(r->job, training->seed);
    r->model = fixture_model(&w->f, r->job, r->graph, model, r->params);
    assert_int_equal(moe_trainer_create(r->job, r->model, r->params, training, &w->train, &w->valid, &r->trainer),
                     MOE_OK);
}

static void
end(run *r)
{
    moe_trainer_destroy(r->trainer);
    moe_model_destroy(r->model);
    moe_params_destroy(r->params);
    moe_graph_destroy(r->graph);
    moe_job_destroy(r->job);
}

/* Train to the end; the best validation metric, NaN without any. */
static double
train(run *r, moe_progress *progress)
{
    double best = NAN;
    int epochs = 0;
    do
    {
        assert_int_equal(moe_trainer_step(r->trainer, progress), MOE_OK);
        if (progress->epoch_done)
        {
            assert_int_equal(progress->epoch, ++epochs);
            assert_true(isfinite(progress->train_loss));
            if (progress->best)
                best = progress->metric;
        }
    } while (!progress->done);
    return best;
}

static double
metric_after_training(signal signal, moe_task_type task, int hops, int inputs, int variant)
{
    world w;
    run r;
    moe_progress progress;
    moe_model_config model = small_config(hops);
    moe_train_config training = small_training();
    model.task = task;
    model.seed_inputs = inputs;
    fixture_choose(&model, variant);
    if (task == MOE_REGRESSION)
    {
        model.shift = 50;
        model.scale = 10;
    }
    make_world(&w, signal);
    begin(&r, &w, &model, &training, 2);
    double best = train(&r, &progress);
    end(&r);
    fixture_free(&w.f);
    return best;
}

static void
a_count_of_children_is_learned(void **state)
{
    double auroc = metric_after_training(SIGNAL_COUNT, MOE_BINARY, 1, 0, 0);
    print_message("AUROC %.3f\n", auroc);
    assert_true(auroc > 0.95);
}

static void
an_attribute_two_hops_away_is_learned_and_needs_two_hops(void **state)
{
    double two = metric_after_training(SIGNAL_ITEMS, MOE_BINARY, 2, 0, 0);
    double one = metric_after_training(SIGNAL_ITEMS, MOE_BINARY, 1, 0, 0);
    print_message("AUROC %.3f with two hops, %.3f with one\n", two, one);
    assert_true(two > 0.9);
    assert_true(one < two - 0.1);
}

static void
every_convolution_learns(void **state)
{
    for (int v = 1; v < FIXTURE_VARIANTS; v++)
    {
        double count = metric_after_training(SIGNAL_COUNT, MOE_BINARY, 1, 0, v);
        double items = metric_after_training(SIGNAL_ITEMS, MOE_BINARY, 2, 0, v);
        print_message("%s: AUROC %.3f of a count, %.3f two hops away\n", fixture_variants[v].name, count, items);
        assert_true(count > 0.95 && items > 0.9);
    }
}

static void
a_number_is_learned_in_its_own_units(void **state)
{
    double mae = metric_after_training(SIGNAL_VALUE, MOE_REGRESSION, 2, 0, 0);
    print_message("MAE %.3f\n", mae);
    assert_true(mae < 3); /* the median alone gives about 6 */
}

static void
what_the_caller_supplies_of_a_seed_is_learned(void **state)
{
    double with = metric_after_training(SIGNAL_INPUT, MOE_BINARY, 1, 4, 0);
    double without = metric_after_training(SIGNAL_INPUT, MOE_BINARY, 1, 0, 0);
    print_message("AUROC %.3f with inputs, %.3f without\n", with, without);
    assert_true(with > 0.95);
    assert_true(without < 0.7);
}

/* Parameters after training with some threads. */
static float *
trained_params(int threads, uint64_t seed, int64_t *size)
{
    world w;
    run r;
    moe_progress progress;
    moe_model_config model = small_config(2);
    moe_train_config training = small_training();
    training.epochs = 2;
    training.seed = seed;
    make_world(&w, SIGNAL_ITEMS);
    begin(&r, &w, &model, &training, threads);
    train(&r, &progress);
    *size = moe_params_size(r.params);
    float *values = malloc(*size * sizeof *values);
    moe_params_save(r.params, values);
    end(&r);
    fixture_free(&w.f);
    return values;
}

static void
a_seed_gives_the_same_model_with_any_number_of_threads(void **state)
{
    int64_t size, other_size;
    float *one = trained_params(1, 5, &size);
    float *three = trained_params(3, 5, &other_size);
    float *other = trained_params(1, 6, &other_size);
    assert_memory_equal(one, three, size * sizeof *one);
    assert_memory_not_equal(one, other, size * sizeof *one);
    free(one);
    free(three);
    free(other);
}

/* Parameters after training on a random graph whose rows later than all seeds depend on `later`. */
static float *
trained_before(int variant, uint64_t later, int64_t *size)
{
    const int64_t cut = 200 * DAY;
    world w = {.n_train = 90};
    run r;
    moe_progress progress;
    moe_model_config model = small_config(2);
    moe_train_config training = small_training();
    training.epochs = 2;
    training.batch_size = 32;
    fixture_choose(&model, variant);
    fixture_random(&w.f, 5, cut, later);
    for (int i = 0; i < 120; i++)
    {
        w.row[i] = i % 30;
        w.time[i] = cut / 2 + i * (cut / 2 / 120);
        w.label[i] = (float) (moe_random_bits(6, i) % 2);
    }
    w.train = (moe_samples){.n = 90, .row = w.row, .time = w.time, .label = w.label};
    w.valid = (moe_samples){.n = 30, .row = w.row + 90, .time = w.time + 90, .label = w.label + 90};
    begin(&r, &w, &model, &training, 2);
    train(&r, &progress);
    *size = moe_params_size(r.params);
    float *values = malloc(*size * sizeof *values);
    moe_params_save(r.params, values);
    end(&r);
    fixture_free(&w.f);
    return values;
}

static void
rows_later_than_the_training_rows_change_no_bit_of_the_model(void **state)
{
    for (int v = 0; v < FIXTURE_VARIANTS; v++)
    {
        int64_t size, other_size;
        float *model = trained_before(v, 1, &size);
        float *other = trained_before(v, 2, &other_size);
        assert_int_equal(size, other_size);
        assert_memory_equal(model, other, size * sizeof *model);
        free(model);
        free(other);
    }
}

static void
the_best_epoch_is_restored(void **state)
{
    world w;
    run r;
    moe_progress progress;
    moe_model_config model = small_config(2);
    moe_train_config training = small_training();
    training.learning_rate = 0.05f; /* restless */
    make_world(&w, SIGNAL_ITEMS);
    begin(&r, &w, &model, &training, 2);
    float *best = malloc(moe_params_size(r.params) * sizeof *best);
    float *last = malloc(moe_params_size(r.params) * sizeof *last);
    do
    {
        assert_int_equal(moe_trainer_step(r.trainer, &progress), MOE_OK);
        if (progress.epoch_done && progress.best)
            moe_params_save(r.params, best);
    } while (!progress.done);
    moe_params_save(r.params, last);
    assert_memory_equal(best, last, moe_params_size(r.params) * sizeof *best);
    free(best);
    free(last);
    end(&r);
    fixture_free(&w.f);
}

static void
predict_valid(const world *w, moe_model *model, float *prediction)
{
    moe_seeds seeds = {.table = 0, .n = w->valid.n, .row = w->valid.row, .time = w->valid.time};
    assert_int_equal(moe_model_predict(model, &seeds, 1, NULL, prediction), MOE_OK);
}

/* Read a stored model back, with `damage` written over its parameter of the degree; its code and predictions. */
static moe_code
predict_stored(world *w, const moe_buffer *stored, const float *damage, float *prediction)
{
    moe_job *job = fixture_job(1);
    moe_graph *graph;
    moe_model *model = NULL;
    moe_model_config config;
    moe_reader reader;
    moe_params *params = moe_params_create(job, 99);
    fixture_graph(&w->f, job, &graph);
    moe_reader_init(&reader, job, stored->data, stored->length);
    assert_int_equal(moe_model_config_read(&reader, &config), MOE_OK);
    assert_int_equal(moe_params_read(params, &reader), MOE_OK);
    for (int i = 0; damage != NULL && i < moe_params_count(params); i++)
        if (strstr(moe_params_get(params, i)->name, "/delta") != NULL)
            moe_param_upload(params, moe_params_get(params, i), damage);
    for (int t = 0; t < w->f.n_tables; t++)
    {
        char name[32];
        snprintf(name, sizeof name, "embed/%d/weight", t);
        w->f.weight[t] = moe_params_add(params, name, w->f.n_features, config.channels, MOE_INIT_UNIFORM);
    }
    moe_code code =
        moe_model_create(job, graph, 0, fixture_encode, &w->f, fixture_inputs, &w->f, &config, params, &model);
    if (code == MOE_OK)
        predict_valid(w, model, prediction);
    moe_job_destroy(job);
    return code;
}

static void
a_stored_model_predicts_what_it_predicted(void **state)
{
    static float before[SAMPLES], after[SAMPLES];
    for (int v = 0; v < FIXTURE_VARIANTS; v++)
    {
        world w;
        run r;
        moe_progress progress;
        moe_buffer stored;
        moe_model_config model = small_config(2);
        moe_train_config training = small_training();
        training.epochs = 1;
        model.seed_inputs = 2;
        fixture_choose(&model, v);
        make_world(&w, SIGNAL_ITEMS);
        begin(&r, &w, &model, &training, 2);
        train(&r, &progress);
        predict_valid(&w, r.model, before);
        moe_buffer_init(&stored, r.job);
        moe_model_config_write(&model, &stored);
        moe_params_write(r.params, &stored);
        assert_int_equal(predict_stored(&w, &stored, NULL, after), MOE_OK);
        assert_memory_equal(before, after, w.valid.n * sizeof *before);
        if (model.convolution == MOE_CONV_PNA) /* the degree is stored, and matters */
        {
            const float wrong = -1, other = 0.5f;
            assert_int_equal(predict_stored(&w, &stored, &wrong, after), MOE_CORRUPT);
            assert_int_equal(predict_stored(&w, &stored, &other, after), MOE_OK);
            assert_memory_not_equal(before, after, w.valid.n * sizeof *before);
        }
        end(&r);
        fixture_free(&w.f);
    }
}

static void
patience_ends_training_early(void **state)
{
    world w;
    run r;
    moe_progress progress;
    moe_model_config model = small_config(1);
    moe_train_config training = small_training();
    training.epochs = 200;
    training.patience = 2;
    training.learning_rate = 0.05f;
    make_world(&w, SIGNAL_COUNT);
    w.train.n = 100;
    begin(&r, &w, &model, &training, 2);
    train(&r, &progress);
    assert_true(progress.epoch < 200);
    end(&r);
    fixture_free(&w.f);
}

static void
without_validation_rows_all_epochs_run(void **state)
{
    world w;
    run r;
    moe_progress progress;
    moe_model_config model = small_config(1);
    moe_train_config training = small_training();
    training.epochs = 3;
    training.patience = 1;
    training.max_steps = 2;
    make_world(&w, SIGNAL_COUNT);
    w.valid.n = 0;
    begin(&r, &w, &model, &training, 2);
    assert_true(isnan(train(&r, &progress)));
    assert_int_equal(progress.epoch, 3);
    assert_int_equal(progress.steps, 2);
    assert_true(progress.sample_seconds > 0 && progress.encode_seconds > 0 && progress.forward_seconds > 0 &&
                progress.backward_seconds > 0 && progress.evaluate_seconds == 0);
    end(&r);
    fixture_free(&w.f);
}

static void
balanced_classes_weigh_the_same(void **state)
{
    world w;
    run r;
    moe_progress progress;
    double mean[2];
    for (int balance = 0; balance < 2; balance++)
    {
        moe_model_config model = small_config(1);
        moe_train_config training = small_training();
        training.balance_classes = balance;
        training.epochs = 3;
        make_world(&w, SIGNAL_COUNT);
        for (int i = 0; i < SAMPLES; i++) /* rare, and nothing tells which */
            w.label[i] = moe_random_bits(99, i) % 10 == 0;
        begin(&r, &w, &model, &training, 2);
        train(&r, &progress);
        float *p = malloc(w.valid.n * sizeof *p);
        moe_seeds seeds = {.table = 0, .n = w.valid.n, .row = w.valid.row, .time = w.valid.time};
        assert_int_equal(moe_model_predict(r.model, &seeds, 1, NULL, p), MOE_OK);
        mean[balance] = 0;
        for (int64_t i = 0; i < w.valid.n; i++)
            mean[balance] += p[i] / w.valid.n;
        free(p);
        end(&r);
        fixture_free(&w.f);
    }
    assert_true(mean[0] < 0.2);
    assert_true(mean[1] > 0.35 && mean[1] < 0.65);
}

static void
labels_and_options_that_make_no_sense_are_refused(void **state)
{
    for (int i = 0; i < 6; i++)
    {
        world w;
        moe_model_config model = small_config(1);
        moe_train_config training = small_training();
        make_world(&w, SIGNAL_COUNT);
        moe_job *job = fixture_job(1);
        moe_graph *graph;
        moe_trainer *trainer;
        fixture_graph(&w.f, job, &graph);
        moe_params *params = moe_params_create(job, 1);
        moe_model *m = fixture_model(&w.f, job, graph, &model, params);
        if (i == 0)
            w.label[7] = 2;
        else if (i == 1)
            w.label[SAMPLES - 1] = NAN;
        else if (i == 2)
            w.row[3] = USERS;
        else if (i == 3)
            w.train.n = 0;
        else if (i == 4)
            training.learning_rate = NAN;
        else
            training.batch_size = 0;
        assert_int_equal(moe_trainer_create(job, m, params, &training, &w.train, &w.valid, &trainer), MOE_INVALID);
        assert_null(trainer);
        moe_job_destroy(job);
        fixture_free(&w.f);
    }
}

static bool
always(void *arg)
{
    return *(bool *) arg;
}

static void
a_cancelled_job_stops_at_the_next_step(void **state)
{
    world w;
    run r;
    bool cancelled = false;
    moe_progress progress;
    moe_model_config model = small_config(2);
    moe_train_config training = small_training();
    moe_job_config config = {.threads = 2, .cancelled = always, .cancel_arg = &cancelled};
    make_world(&w, SIGNAL_COUNT);
    assert_int_equal(moe_job_create(&config, &r.job), MOE_OK);
    assert_int_equal(moe_blas_open(r.job), MOE_OK);
    fixture_graph(&w.f, r.job, &r.graph);
    r.params = moe_params_create(r.job, 1);
    r.model = fixture_model(&w.f, r.job, r.graph, &model, r.params);
    assert_int_equal(moe_trainer_create(r.job, r.model, r.params, &training, &w.train, &w.valid, &r.trainer), MOE_OK);
    assert_int_equal(moe_trainer_step(r.trainer, &progress), MOE_OK);
    cancelled = true;
    assert_int_equal(moe_trainer_step(r.trainer, &progress), MOE_CANCELLED);
    end(&r);
    fixture_free(&w.f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_count_of_children_is_learned),
        cmocka_unit_test(an_attribute_two_hops_away_is_learned_and_needs_two_hops),
        cmocka_unit_test(every_convolution_learns),
        cmocka_unit_test(a_number_is_learned_in_its_own_units),
        cmocka_unit_test(what_the_caller_supplies_of_a_seed_is_learned),
        cmocka_unit_test(a_seed_gives_the_same_model_with_any_number_of_threads),
        cmocka_unit_test(rows_later_than_the_training_rows_change_no_bit_of_the_model),
        cmocka_unit_test(the_best_epoch_is_restored),
        cmocka_unit_test(a_stored_model_predicts_what_it_predicted),
        cmocka_unit_test(patience_ends_training_early),
        cmocka_unit_test(without_validation_rows_all_epochs_run),
        cmocka_unit_test(balanced_classes_weigh_the_same),
        cmocka_unit_test(labels_and_options_that_make_no_sense_are_refused),
        cmocka_unit_test(a_cancelled_job_stops_at_the_next_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
