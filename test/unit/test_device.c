/*
 * test_device.c: a job on a device computes what it computes on the host, and the host never touches its memory.
 */
#include "test/unit/gnn_fixture.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "embed/encoder.h"
#include "gnn/trainer.h"
#include "test/unit/columns.h"
#include "test/unit/fake_device.h"

#define SAMPLES 400

static moe_job *
device_job(int threads, size_t limit)
{
    moe_job *job = make_job(threads);
    fake_open(job, limit);
    return job;
}

/* What training and predicting gives. */
typedef struct outcome
{
    moe_code code;
    char error[256];
    int64_t size;
    float *params;
    double loss, metric;
    float prediction[SAMPLES * 3];
    int64_t steps, downloads; /* of the training steps alone */
} outcome;

static moe_model_config
small_model(moe_task_type task, int variant)
{
    moe_model_config config;
    moe_model_config_defaults(&config);
    config.task = task;
    config.n_classes = task == MOE_MULTICLASS ? 3 : 1;
    config.channels = 16;
    config.hops = 2;
    config.dropout = 0.1f;
    config.seed_inputs = 4;
    config.scale = 2;
    fixture_choose(&config, variant);
    return config;
}

static void
train(moe_trainer *trainer, outcome *out)
{
    moe_progress progress = {0};
    do
    {
        int64_t before = fake_now == NULL ? 0 : fake_now->downloads;
        out->code = moe_trainer_step(trainer, &progress);
        if (progress.step > 0 && progress.step < progress.steps && fake_now != NULL)
        {
            out->steps++;
            out->downloads += fake_now->downloads - before;
        }
        if (progress.epoch_done)
        {
            out->loss = progress.train_loss;
            out->metric = progress.metric;
        }
    } while (out->code == MOE_OK && !progress.done);
}

/* Train on a random graph for two epochs and predict all samples. */
static outcome
run(moe_task_type task, int variant, float learning_rate, int threads, bool device)
{
    static int32_t row[SAMPLES];
    static int64_t time[SAMPLES];
    static float label[SAMPLES];
    const int64_t cut = 300 * DAY;
    outcome out = {0};
    fixture f;
    moe_graph *graph;
    moe_trainer *trainer;
    moe_job *job = device ? device_job(threads, 0) : make_job(threads);
    moe_model_config config = small_model(task, variant);
    moe_train_config training;
    moe_train_config_defaults(&training);
    training.epochs = 2;
    training.batch_size = 64;
    training.learning_rate = learning_rate;
    training.weight_decay = 0.01f;
    fixture_random(&f, 3, cut, 1);
    for (int i = 0; i < SAMPLES; i++)
    {
        row[i] = (int32_t) (moe_random_bits(5, i) % 30);
        time[i] = cut / 2 + i * (cut / 2 / SAMPLES);
        label[i] = task == MOE_REGRESSION ? (float) moe_random_normal(6, i)
                                          : (float) (moe_random_bits(6, i) % (task == MOE_BINARY ? 2 : 3));
    }
    moe_samples train_samples = {.n = 300, .row = row, .time = time, .label = label};
    moe_samples valid = {.n = SAMPLES - 300, .row = row + 300, .time = time + 300, .label = label + 300};
    fixture_graph(&f, job, &graph);
    moe_params *params = moe_params_create(job, 9);
    moe_model *model = fixture_model(&f, job, graph, &config, params);
    assert_int_equal(moe_trainer_create(job, model, params, &training, &train_samples, &valid, &trainer), MOE_OK);
    train(trainer, &out);
    if (out.code == MOE_OK)
    {
        moe_seeds seeds = {.table = 0, .n = SAMPLES, .row = row, .time = time};
        out.code = moe_model_predict(model, &seeds, 4, NULL, out.prediction);
    }
    snprintf(out.error, sizeof out.error, "%s", moe_job_error(job));
    out.size = moe_params_size(params);
    out.params = malloc(out.size * sizeof *out.params);
    moe_params_save(params, out.params);
    moe_trainer_destroy(trainer);
    moe_model_destroy(model);
    moe_params_destroy(params);
    if (device)
        assert_int_equal(fake_now->used, 0);
    moe_job_destroy(job);
    fixture_free(&f);
    return out;
}

static void
training_and_predictions_are_those_of_the_host_bit_for_bit(void **state)
{
    for (int v = 0; v < FIXTURE_VARIANTS + 2; v++)
    {
        moe_task_type task = v < FIXTURE_VARIANTS    ? MOE_BINARY
                             : v == FIXTURE_VARIANTS ? MOE_REGRESSION
                                                     : MOE_MULTICLASS;
        outcome host = run(task, v % FIXTURE_VARIANTS, 0.01f, 1, false);
        outcome device = run(task, v % FIXTURE_VARIANTS, 0.01f, 3, true);
        assert_int_equal(host.code, MOE_OK);
        assert_string_equal(device.error, "");
        assert_int_equal(device.code, MOE_OK);
        assert_int_equal(host.size, device.size);
        assert_memory_equal(host.params, device.params, host.size * sizeof *host.params);
        assert_memory_equal(host.prediction, device.prediction, sizeof host.prediction);
        assert_true(host.loss == device.loss && host.metric == device.metric);
        free(host.params);
        free(device.params);
    }
}

/* The step before is read once its successor was sampled: its losses, and the norm of its gradient. */
static void
a_training_step_waits_for_the_one_before_alone(void **state)
{
    outcome out = run(MOE_BINARY, 0, 0.01f, 2, true);
    assert_true(out.steps >= 6);
    assert_true(out.downloads <= 2 * out.steps);
    free(out.params);
}

static void
divergence_is_an_error_and_leaves_finite_parameters(void **state)
{
    outcome out = run(MOE_REGRESSION, 0, 10, 1, true);
    if (out.code == MOE_OK)
        assert_true(isfinite(out.loss));
    else
        assert_non_null(strstr(out.error, "diverged"));
    for (int64_t i = 0; i < out.size; i++)
        assert_true(isfinite(out.params[i]));
    free(out.params);
}

/* Train an encoder's parameters on two of its columns hidden now and then; what it gives for all rows. */
static float *
encode(int threads, bool device, size_t limit, int64_t *count)
{
    const int64_t n = 700;
    const moe_encoder_config config = {.channels = 12, .blocks = 1, .dropout = 0.2f};
    moe_job *job = device ? device_job(threads, limit) : make_job(threads);
    moe_table table = make_table(job, n);
    moe_features *features;
    moe_encoder *encoder;
    moe_adam adam = {.learning_rate = 0.01f, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f};
    int32_t *rows = moe_alloc(job, n, sizeof *rows);
    uint8_t *hidden = moe_alloc(job, n, sizeof *hidden);
    float *label = moe_alloc(job, n, sizeof *label);
    moe_params *params = moe_params_create(job, 3);
    assert_int_equal(moe_features_fit(job, &table, 1, &n, &features), MOE_OK);
    assert_int_equal(moe_encoder_create(job, features, &config, params, &encoder), MOE_OK);
    moe_param *head = moe_params_add(params, "head", 12, 1, MOE_INIT_UNIFORM);
    moe_tape *tape = moe_tape_create(job);
    assert_int_equal(moe_params_train(params), MOE_OK);
    float *out = malloc((n + 1) * 12 * sizeof *out);
    for (int step = 0; step < 6; step++)
    {
        /* Bound anew half way, as when the rows have changed. */
        if (step % 3 == 0)
            assert_int_equal(moe_features_bind(features, &table, 1), MOE_OK);
        moe_tape_reset(tape, step < 5, step);
        for (int64_t i = 0; i < n; i++)
        {
            rows[i] = (int32_t) (i * 7 % n);
            hidden[i] = (uint8_t) (step % 2 == 1 && i % 5 == 0 ? i % 8 : 0);
            label[i] = (float) (rows[i] % 2);
        }
        moe_var *x = moe_encoder_forward(encoder, tape, 0, rows, hidden, n);
        moe_var *loss = moe_loss_squared(tape, moe_linear(tape, x, moe_variable(tape, head), NULL), label, NULL);
        if (step < 5)
        {
            assert_int_equal(moe_tape_backward(tape, loss), MOE_OK);
            moe_adam_step(&adam, params);
            assert_int_equal(moe_adam_check(&adam, params), MOE_OK);
        }
        else
        {
            assert_int_equal(moe_tape_read(tape, x, out), MOE_OK);
            assert_int_equal(moe_tape_read(tape, loss, out + n * 12), MOE_OK);
        }
    }
    *count = n * 12 + 1;
    moe_encoder_destroy(encoder);
    moe_tape_destroy(tape);
    moe_params_destroy(params);
    if (device)
        assert_int_equal(fake_now->used, 0);
    moe_job_destroy(job);
    return out;
}

static void
an_encoder_learns_the_same_with_its_columns_on_the_device(void **state)
{
    int64_t count;
    float *host = encode(1, false, 0, &count);
    float *device = encode(2, true, 0, &count);
    assert_memory_equal(host, device, count * sizeof *host);
    free(host);
    free(device);
}

static void
parameters_are_written_and_read_back(void **state)
{
    moe_job *host = make_job(1), *job = device_job(1, 0);
    moe_params *made = moe_params_create(host, 4), *copy = moe_params_create(job, 5);
    moe_buffer buffer, again;
    moe_reader reader;
    moe_params_add(made, "a", 7, 5, MOE_INIT_UNIFORM);
    moe_params_add(made, "b", 1, 5, MOE_INIT_NORMAL);
    moe_buffer_init(&buffer, host);
    moe_params_write(made, &buffer);
    moe_reader_init(&reader, job, buffer.data, buffer.length);
    assert_int_equal(moe_params_read(copy, &reader), MOE_OK);
    assert_int_equal(moe_params_train(copy), MOE_OK);

    /* Kept, changed, and gone back to. */
    float zeros[35] = {0}, values[40], expected[40];
    assert_int_equal(moe_params_keep(copy), MOE_OK);
    moe_param_upload(copy, moe_params_add(copy, "a", 7, 5, MOE_INIT_UNIFORM), zeros);
    moe_params_save(copy, values);
    assert_true(values[0] == 0 && values[34] == 0 && values[35] != 0);
    assert_int_equal(moe_params_recall(copy), MOE_OK);
    moe_params_save(made, expected);
    moe_params_save(copy, values);
    assert_memory_equal(values, expected, sizeof values);

    moe_buffer_init(&again, job);
    moe_params_write(copy, &again);
    assert_int_equal(again.length, buffer.length);
    assert_memory_equal(again.data, buffer.data, buffer.length);
    moe_job_destroy(job);
    moe_job_destroy(host);
}

static void
an_arena_on_a_device_makes_do_with_little(void **state)
{
    /* Room for two blocks of what is asked for, not for one of the size an arena prefers. */
    moe_job *job = device_job(1, 96 << 10);
    moe_arena *arena = moe_arena_create_on_device(job);
    void *a = moe_arena_alloc(arena, 40 << 10, 1), *b = moe_arena_alloc(arena, 40 << 10, 1);
    assert_true(a != NULL && b != NULL && a != b);
    moe_arena_reset(arena);
    assert_non_null(moe_arena_alloc(arena, 90 << 10, 1)); /* what is empty goes back first */
    assert_null(moe_arena_alloc(arena, 40 << 10, 1));
    assert_int_equal(moe_job_code(job), MOE_LIMIT);
    moe_job_destroy(job);
}

/* A folder with a module built from C text; "" for none. */
static void
make_module(char *folder, const char *text)
{
    char command[512];
    FILE *file;
    strcpy(folder, "/tmp/moe_module_XXXXXX");
    assert_non_null(mkdtemp(folder));
    if (text[0] == '\0')
        return;
    snprintf(command, sizeof command, "%s/module.c", folder);
    file = fopen(command, "w");
    assert_non_null(file);
    fprintf(file, "#include \"kernels/device.h\"\n%s\n", text);
    assert_int_equal(fclose(file), 0);
    snprintf(command, sizeof command, "gcc -std=gnu11 -I. -shared -fPIC %s/module.c -o %s/moe_ml_cuda.so", folder,
             folder);
    assert_int_equal(system(command), 0);
}

static void
remove_module(const char *folder)
{
    char path[256];
    snprintf(path, sizeof path, "%s/module.c", folder);
    unlink(path);
    snprintf(path, sizeof path, "%s/moe_ml_cuda.so", folder);
    unlink(path);
    rmdir(folder);
}

static void
why_there_is_no_module_is_told(void **state)
{
    static const struct
    {
        const char *text, *reason;
    } cases[] = {
        {"", "is not installed"},
        {"int other;", "is not a device module"},
        {"const int moe_cuda_abi = 7; int moe_cuda_open, moe_cuda_list;", "another version"},
        {"const int moe_cuda_abi = 0; int missing(void); int call(void) { return missing(); }", "could not be loaded"},
    };
    moe_job *job = make_job(1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    {
        char folder[64], reason[512];
        moe_device_report report;
        make_module(folder, cases[i].text);
        assert_false(moe_device_open_cuda(job, folder, 0, reason, sizeof reason));
        assert_non_null(strstr(reason, cases[i].reason));
        assert_int_equal(moe_device_list_cuda(folder, &report, 1, reason, sizeof reason), 0);
        assert_non_null(strstr(reason, cases[i].reason));
        remove_module(folder);
    }
    assert_null(moe_job_device(job));
    assert_ptr_equal(moe_job_backend(job), &moe_backend_cpu);
    moe_job_destroy(job);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_arena_on_a_device_makes_do_with_little),
        cmocka_unit_test(parameters_are_written_and_read_back),
        cmocka_unit_test(an_encoder_learns_the_same_with_its_columns_on_the_device),
        cmocka_unit_test(training_and_predictions_are_those_of_the_host_bit_for_bit),
        cmocka_unit_test(a_training_step_waits_for_the_one_before_alone),
        cmocka_unit_test(divergence_is_an_error_and_leaves_finite_parameters),
        cmocka_unit_test(why_there_is_no_module_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
