/*
 * test_faults.c: a small training in which each allocation fails in turn, and threads do not start.
 *
 * Whatever fails, the job says so, and everything is given back (the address
 * sanitizer looks).
 *
 * Linked with: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=pthread_create
 */
#include "test/unit/gnn_fixture.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>

#include "gnn/trainer.h"

#define CUT     (200 * DAY)
#define SAMPLES 24

/* The calls that this program's own code and the core make go through here; those of libraries do not. */
static int64_t calls;
static int64_t failing; /* number of the call that fails; 0: none */
static bool thread_fails;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *arg);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *arg);

static bool
fails_now(void)
{
    return failing > 0 && ++calls == failing;
}

void *
__wrap_malloc(size_t size)
{
    return fails_now() ? NULL : __real_malloc(size);
}

void *
__wrap_calloc(size_t count, size_t size)
{
    return fails_now() ? NULL : __real_calloc(count, size);
}

void *
__wrap_realloc(void *memory, size_t size)
{
    return fails_now() ? NULL : __real_realloc(memory, size);
}

int
__wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *arg)
{
    return thread_fails ? EAGAIN : __real_pthread_create(thread, attributes, start, arg);
}

typedef struct labelled
{
    int32_t row[SAMPLES];
    int64_t time[SAMPLES];
    float label[SAMPLES];
} labelled;

static void
make_labels(labelled *l)
{
    for (int i = 0; i < SAMPLES; i++)
    {
        l->row[i] = i % 30;
        l->time[i] = CUT / 2 + i * DAY;
        l->label[i] = i % 3 == 0;
    }
}

/* Parameters, graph, model and trainer; NULL where one could not be made. */
static moe_trainer *
make_trainer(moe_job *job, fixture *f, const labelled *l, int variant)
{
    moe_model_config config;
    moe_train_config training;
    moe_graph *graph = NULL;
    moe_model *model = NULL;
    moe_trainer *trainer = NULL;
    moe_model_config_defaults(&config);
    moe_train_config_defaults(&training);
    config.channels = 8;
    config.hops = 2;
    config.seed_inputs = 3;
    fixture_choose(&config, variant);
    config.fanout[0] = config.fanout[1] = 4;
    f->n_inputs = config.seed_inputs;
    training.epochs = 1;
    training.batch_size = 10;
    moe_params *params = moe_params_create(job, 1);
    for (int t = 0; params != NULL && t < f->n_tables; t++)
    {
        char name[32];
        snprintf(name, sizeof name, "embed/%d/weight", t);
        f->weight[t] = moe_params_add(params, name, f->n_features, config.channels, MOE_INIT_UNIFORM);
    }
    if (params == NULL || moe_job_code(job) != MOE_OK)
        return NULL;
    moe_samples train = {.n = SAMPLES * 3 / 4, .row = l->row, .time = l->time, .label = l->label};
    moe_samples valid = {
        .n = SAMPLES - train.n, .row = l->row + train.n, .time = l->time + train.n, .label = l->label + train.n};
    if (moe_graph_create(job, f->tables, f->n_tables, f->keys, f->n_keys, &graph) == MOE_OK &&
        moe_model_create(job, graph, 0, fixture_encode, f, fixture_inputs, f, &config, params, &model) == MOE_OK &&
        moe_trainer_create(job, model, params, &training, &train, &valid, &trainer) == MOE_OK)
        return trainer;
    return NULL;
}

/* Train with the n-th allocation failing; the loss, NaN where training failed. */
static double
train(int variant, int threads, int64_t n, moe_code *code)
{
    fixture f;
    labelled l;
    moe_job *job = NULL;
    moe_job_config config = {.threads = threads};
    moe_progress progress = {0};
    failing = 0;
    fixture_random(&f, 5, CUT, 1);
    make_labels(&l);
    calls = 0;
    failing = n;
    *code = moe_job_create(&config, &job);
    if (*code == MOE_OK)
        moe_blas_open(job);
    moe_trainer *trainer = *code == MOE_OK ? make_trainer(job, &f, &l, variant) : NULL;
    while (trainer != NULL && !progress.done && moe_trainer_step(trainer, &progress) == MOE_OK)
        continue;
    failing = 0;
    if (job != NULL)
    {
        *code = moe_job_code(job);
        assert_true(*code == MOE_OK || moe_job_error(job)[0] != '\0');
    }
    assert_true(*code != MOE_OK || progress.done);
    moe_job_destroy(job);
    fixture_free(&f);
    return *code == MOE_OK ? progress.train_loss : NAN;
}

/* Failures that the core can do without are allowed for, but then the result must be the same. */
static void
fail_each_allocation(int variant)
{
    moe_code code;
    double expected = train(variant, 2, INT64_MAX, &code);
    assert_int_equal(code, MOE_OK);
    int64_t total = calls, refused = 0;
    assert_true(isfinite(expected) && total > 100);
    for (int64_t n = 1; n <= total; n++)
    {
        double loss = train(variant, 2, n, &code);
        assert_true(code == MOE_OK || code == MOE_OUT_OF_MEMORY);
        if (code == MOE_OK)
            assert_true(loss == expected);
        refused += code != MOE_OK;
    }
    print_message("%s: %lld of %lld failures end the training\n", fixture_variants[variant].name, (long long) refused,
                  (long long) total);
    assert_true(refused > total / 2);
}

static void
any_allocation_may_fail(void **state)
{
    fail_each_allocation(0);
    for (int v = 1; v < FIXTURE_VARIANTS; v++)
        if (fixture_variants[v].convolution != MOE_CONV_SAGE)
            fail_each_allocation(v);
}

static void
training_goes_on_without_the_threads_that_do_not_start(void **state)
{
    moe_code code;
    double expected = train(0, 4, 0, &code);
    assert_int_equal(code, MOE_OK);
    thread_fails = true;
    double alone = train(0, 4, 0, &code);
    thread_fails = false;
    assert_int_equal(code, MOE_OK);
    assert_true(alone == expected);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_allocation_may_fail),
        cmocka_unit_test(training_goes_on_without_the_threads_that_do_not_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
