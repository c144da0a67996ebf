/*
 * test_mixture.c: experts side by side, gates from cheap inputs, one prediction.
 */
#include "test/unit/core.h"

#include <math.h>
#include <string.h>

#include "gnn/mixture_private.h"
#include "kernels/blas.h"

#define WIDTH              6
#define ROWS               600
#define MICROSECONDS_A_DAY INT64_C(86400000000)

/* Seeds whose inputs are numbers drawn by row; a seed is stale where its horizon lies before its time. */
typedef struct world
{
    moe_job *job;
    moe_task_type task;
    int64_t graph_rows; /* that the graph expert was asked about */
    int64_t n;
    int32_t row[ROWS];
    int64_t time[ROWS];
    int64_t horizon[ROWS];
    float label[ROWS];
    float x[ROWS * WIDTH];
} world;

static const uint8_t roles[WIDTH] = {
    MOE_INPUT_HISTORY | MOE_INPUT_CHEAP | MOE_INPUT_GLANCE, MOE_INPUT_HISTORY, MOE_INPUT_CHEAP, 0, 0, 0};

static double
truth(const world *w, int32_t row)
{
    double signal = moe_random_normal(5, (uint64_t) row * WIDTH) + 2 * moe_random_normal(5, (uint64_t) row * WIDTH + 3);
    return w->task == MOE_REGRESSION ? 20 + 5 * signal : signal;
}

static moe_code
give_inputs(void *arg, const moe_seeds *seeds, const bool *disabled, float *out, bool *stale)
{
    for (int64_t i = 0; i < seeds->n; i++)
    {
        for (int c = 0; c < WIDTH; c++)
            out[i * WIDTH + c] = (float) moe_random_normal(5, (uint64_t) seeds->row[i] * WIDTH + c);
        if (stale != NULL)
            stale[i] = seeds->horizon != NULL && seeds->horizon[i] < seeds->time[i];
    }
    return MOE_OK;
}

/* A graph expert that knows the truth, and counts how often it is asked. */
static moe_code
tell_truth(void *arg, const moe_seeds *seeds, const float *inputs, const bool *disabled, float *prediction)
{
    world *w = arg;
    w->graph_rows += seeds->n;
    for (int64_t i = 0; i < seeds->n; i++)
    {
        double y = truth(w, seeds->row[i]);
        prediction[i] = (float) (w->task == MOE_BINARY ? 1 / (1 + exp(-4 * y)) : y);
    }
    return MOE_OK;
}

static void
make_world(world *w, moe_job *job, moe_task_type task)
{
    *w = (world){.job = job, .task = task, .n = ROWS};
    for (int i = 0; i < ROWS; i++)
    {
        w->row[i] = i;
        w->time[i] = (i / 20 + 1) * MICROSECONDS_A_DAY;
        w->horizon[i] = w->time[i];
        w->label[i] = (float) (task == MOE_BINARY ? truth(w, i) > 0 : truth(w, i));
    }
    moe_seeds seeds = {0, ROWS, w->row, w->time, NULL};
    assert_int_equal(give_inputs(w, &seeds, NULL, w->x, NULL), MOE_OK);
}

static moe_dense_rows
dense_rows(const world *w, int64_t first, int64_t n)
{
    return (moe_dense_rows){.n = n, .width = WIDTH, .x = w->x + first * WIDTH, .label = w->label + first};
}

/* A mixture fitted on the first half of the rows and routed on the second. */
static moe_mixture *
make_mixture_to_read(world *w, unsigned kinds, const float *reading, moe_mixture_report *report)
{
    bool regression = w->task == MOE_REGRESSION;
    moe_dense_task task = {w->task, 1, regression ? -100 : 0, regression ? 100 : 0};
    moe_dense_rows train = dense_rows(w, 0, ROWS / 2), none = {.width = WIDTH};
    moe_samples held_out = {ROWS / 2, w->row + ROWS / 2, w->time + ROWS / 2, w->label + ROWS / 2};
    moe_router_config config;
    moe_mixture_report unused;
    moe_mixture *m;
    moe_router_config_defaults(&config, MOE_EXPERT_KINDS);
    assert_int_equal(
        moe_mixture_create(w->job, &task, regression ? 20 : 0, regression ? 5 : 1, kinds, WIDTH, roles, &m), MOE_OK);
    moe_mixture_connect(m, give_inputs, w, tell_truth, w);
    for (int e = 0; e < moe_mixture_experts(m); e++)
        if (moe_mixture_kind(m, e) != MOE_EXPERT_GRAPH)
            assert_int_equal(moe_mixture_fit(m, e, false, &train, &none, 1), MOE_OK);
    if (reading != NULL)
    {
        train.label = reading;
        assert_int_equal(moe_mixture_fit_reading(m, &train, 1), MOE_OK);
    }
    assert_int_equal(moe_mixture_route(m, &config, &held_out, w->x + ROWS / 2 * WIDTH,
                                       reading == NULL ? NULL : reading + ROWS / 2, report == NULL ? &unused : report),
                     MOE_OK);
    return m;
}

static moe_mixture *
make_mixture(world *w, unsigned kinds, moe_mixture_report *report)
{
    return make_mixture_to_read(w, kinds, NULL, report);
}

static moe_job *
open_job(int threads)
{
    moe_job *job = start_job(threads);
    assert_int_equal(moe_blas_open(job), MOE_OK);
    return job;
}

static void
predict(world *w, moe_mixture *m, int64_t first, int64_t n, float *out, float *gates, float *const *each)
{
    moe_seeds seeds = {0, n, w->row + first, w->time + first, w->horizon + first};
    assert_int_equal(moe_mixture_predict(m, &seeds, NULL, &(moe_mixture_answer){out, gates, each, NULL, NULL}), MOE_OK);
}

#define LINEAR  (1u << MOE_EXPERT_LINEAR)
#define HISTORY (1u << MOE_EXPERT_HISTORY)
#define GRAPH   (1u << MOE_EXPERT_GRAPH)
#define GLANCE  (1u << MOE_EXPERT_GLANCE)

static void
a_prediction_is_the_mean_of_what_experts_say_by_their_gates(void **state)
{
    moe_job *job = open_job(2);
    world *w = moe_alloc(job, 1, sizeof *w);
    make_world(w, job, MOE_REGRESSION);
    moe_mixture *m = make_mixture(w, HISTORY | LINEAR | GRAPH, NULL);
    float out[ROWS], gates[3 * ROWS], said[3][ROWS], *each[] = {said[0], said[1], said[2]};
    predict(w, m, 0, ROWS, out, gates, each);
    for (int i = 0; i < ROWS; i++)
    {
        double sum = 0, weights = 0;
        for (int e = 0; e < 3; e++)
        {
            sum += (double) gates[3 * i + e] * said[e][i];
            weights += gates[3 * i + e];
        }
        assert_float_equal(weights, 1, 1e-6);
        assert_float_equal(out[i], sum, 1e-4);
    }
    moe_mixture_destroy(m);
    moe_job_destroy(job);
}

static void
an_expert_that_is_not_needed_is_not_asked(void **state)
{
    moe_job *job = open_job(1);
    world *w = moe_alloc(job, 1, sizeof *w);
    make_world(w, job, MOE_REGRESSION);
    moe_mixture_report report;
    moe_mixture *m = make_mixture(w, HISTORY | GRAPH, &report);
    float out[ROWS], gates[2 * ROWS];
    int64_t needed = 0;
    /* The graph knows the truth and the history little: the router sends nearly all weight to the graph. */
    assert_true(report.router.load[1] > 0.8 && report.metric[1] < report.metric[0]);
    w->graph_rows = 0;
    predict(w, m, 0, ROWS, out, gates, NULL);
    for (int i = 0; i < ROWS; i++)
        needed += gates[2 * i + 1] > 0;
    assert_int_equal(w->graph_rows, needed);
    moe_mixture_destroy(m);

    /* One that always takes a single expert. */
    moe_router_config config;
    moe_router_config_defaults(&config, 2);
    config.top_k = 1;
    m = make_mixture(w, HISTORY | GRAPH, NULL);
    moe_samples held_out = {ROWS / 2, w->row + ROWS / 2, w->time + ROWS / 2, w->label + ROWS / 2};
    assert_int_equal(moe_mixture_route(m, &config, &held_out, w->x + ROWS / 2 * WIDTH, NULL, &report), MOE_OK);
    w->graph_rows = 0;
    predict(w, m, 0, ROWS, out, gates, NULL);
    for (int i = 0; i < ROWS; i++)
        assert_true(gates[2 * i] == 0 || gates[2 * i + 1] == 0);
    assert_int_equal(w->graph_rows, ROWS);
    moe_mixture_destroy(m);
    moe_job_destroy(job);
}

static void
a_seed_alone_has_the_bits_it_has_among_others_for_any_number_of_threads(void **state)
{
    static const int threads[] = {1, 2, 7};
    static float first[ROWS];
    for (int t = 0; t < 3; t++)
    {
        moe_job *job = open_job(threads[t]);
        world *w = moe_alloc(job, 1, sizeof *w);
        make_world(w, job, MOE_BINARY);
        moe_mixture *m = make_mixture(w, (1u << MOE_EXPERT_KINDS) - 1, NULL);
        float all[ROWS], one;
        predict(w, m, 0, ROWS, all, NULL, NULL);
        for (int i = 0; i < ROWS; i += 53)
        {
            predict(w, m, i, 1, &one, NULL, NULL);
            assert_memory_equal(&one, &all[i], sizeof one);
        }
        if (t == 0)
            memcpy(first, all, sizeof all);
        assert_memory_equal(first, all, sizeof all);
        moe_mixture_destroy(m);
        moe_job_destroy(job);
    }
}

static void
stale_seeds_are_answered_by_the_version_for_them_and_no_others(void **state)
{
    moe_job *job = open_job(2);
    world *w = moe_alloc(job, 1, sizeof *w);
    make_world(w, job, MOE_REGRESSION);
    moe_mixture *m = make_mixture(w, LINEAR, NULL);
    float plain[ROWS], mixed[ROWS];
    predict(w, m, 0, ROWS, plain, NULL, NULL);
    /* The version for stale seeds learns the opposite. */
    moe_dense_rows rows = dense_rows(w, 0, ROWS / 2), none = {.width = WIDTH};
    float *label = moe_alloc(job, ROWS / 2, sizeof *label);
    for (int i = 0; i < ROWS / 2; i++)
        label[i] = 40 - w->label[i];
    rows.label = label;
    assert_int_equal(moe_mixture_fit(m, 0, true, &rows, &none, 1), MOE_OK);
    for (int i = 0; i < ROWS; i += 3)
        w->horizon[i] = w->time[i] - 1;
    predict(w, m, 0, ROWS, mixed, NULL, NULL);
    for (int i = 0; i < ROWS; i++)
        if (i % 3 == 0)
            assert_float_equal(mixed[i], 40 - plain[i], 1);
        else
            assert_memory_equal(&mixed[i], &plain[i], sizeof(float));
    moe_mixture_destroy(m);
    moe_job_destroy(job);
}

/* Follow a seed's own path with its own inputs. */
static float
follow(world *w, moe_mixture *m, int i, moe_mixture_path *path)
{
    moe_seeds seed = {0, 1, w->row + i, w->time + i, w->horizon + i};
    float x[WIDTH], said[MOE_EXPERT_KINDS], out;
    const float *each[MOE_EXPERT_KINDS];
    assert_int_equal(moe_mixture_find_path(m, &seed, path, x), MOE_OK);
    for (int e = 0; e < moe_mixture_experts(m); e++)
    {
        said[e] = NAN;
        each[e] = &said[e];
        if (path->gate[e] > 0)
            assert_int_equal(moe_mixture_ask(m, e, path->stale, &seed, NULL, x, &said[e]), MOE_OK);
    }
    assert_int_equal(moe_mixture_follow(m, path, 1, each, &out), MOE_OK);
    return out;
}

static void
an_expert_sees_its_own_inputs_alone(void **state)
{
    moe_job *job = open_job(1);
    world *w = moe_alloc(job, 1, sizeof *w);
    make_world(w, job, MOE_BINARY);
    moe_mixture *m = make_mixture(w, HISTORY | LINEAR | GLANCE, NULL);
    moe_seeds seeds = {0, ROWS, w->row, w->time, NULL};
    float before[ROWS], after[ROWS];
    static float x[ROWS * WIDTH];
    for (int e = 0; e < 3; e++)
        for (int c = 0; c < WIDTH; c++)
        {
            uint8_t role = moe_mixture_sees(moe_mixture_kind(m, e));
            memcpy(x, w->x, sizeof x);
            for (int i = 0; i < ROWS; i++)
                x[i * WIDTH + c] = -x[i * WIDTH + c];
            assert_int_equal(moe_mixture_ask(m, e, false, &seeds, NULL, w->x, before), MOE_OK);
            assert_int_equal(moe_mixture_ask(m, e, false, &seeds, NULL, x, after), MOE_OK);
            assert_int_equal(memcmp(before, after, sizeof before) != 0, role == 0 || (roles[c] & role));
        }
    moe_mixture_destroy(m);
    moe_job_destroy(job);
}

static void
a_path_followed_with_a_seeds_own_inputs_gives_its_prediction(void **state)
{
    moe_job *job = open_job(2);
    world *w = moe_alloc(job, 1, sizeof *w);
    make_world(w, job, MOE_BINARY);
    moe_mixture *m = make_mixture(w, HISTORY | LINEAR | GLANCE, NULL);
    moe_dense_rows rows = dense_rows(w, 0, ROWS / 4), none = {.width = WIDTH};
    float out[ROWS], gates[3 * ROWS];
    int stops = 0, stale = 0;
    assert_int_equal(moe_mixture_fit(m, 1, true, &rows, &none, 2), MOE_OK);
    for (int i = 0; i < ROWS; i += 3)
        w->horizon[i] = w->time[i] - 1;
    for (int budget = 0; budget < 2; budget++)
    {
        assert_true(moe_mixture_set_budget(m, budget ? 0.5 : 1));
        predict(w, m, 0, ROWS, out, gates, NULL);
        for (int i = 0; i < ROWS; i++)
        {
            moe_mixture_path path;
            float followed = follow(w, m, i, &path);
            assert_memory_equal(&followed, &out[i], sizeof followed);
            assert_memory_equal(path.gate, gates + 3 * i, 3 * sizeof *gates);
            stops += path.stops;
            stale += path.stale;
        }
        assert_int_equal(stops > 0, budget);
    }
    assert_true(stops < ROWS);
    assert_int_equal(stale, 2 * ((ROWS + 2) / 3));
    moe_mixture_destroy(m);
    moe_job_destroy(job);
}

/* Rows with a small first input have nearly all there is to read; what the others need is not worth saving. */
static void
a_budget_leaves_rows_with_much_to_read_to_the_glance_expert(void **state)
{
    moe_job *job = open_job(2);
    world *w = moe_alloc(job, 1, sizeof *w);
    float reading[ROWS], out[ROWS], early[ROWS], gates[3 * ROWS];
    bool stops[ROWS];
    int stopped[2] = {0}, rows[2] = {0};
    make_world(w, job, MOE_BINARY);
    for (int i = 0; i < ROWS; i++)
        reading[i] = i % 10 == 3 ? NAN : w->x[i * WIDTH] < 0 ? 1000 : 1;
    for (int i = 0; i < ROWS / 2; i++)
        reading[i] = isnan(reading[i]) ? 1 : reading[i]; /* those to learn from were all counted */
    moe_mixture *m = make_mixture_to_read(w, HISTORY | LINEAR | GLANCE, reading, NULL);
    assert_true(moe_mixture_set_budget(m, 0.3));
    predict(w, m, 0, ROWS, out, gates, NULL);
    for (int i = 0; i < ROWS; i++)
    {
        int much = w->x[i * WIDTH] < 0;
        stopped[much] += gates[3 * i + 2] == 1;
        rows[much]++;
    }
    assert_true(stopped[1] > 0.6 * rows[1]);
    assert_true(stopped[0] < 0.2 * rows[0]);
    moe_seeds seeds = {0, ROWS, w->row, w->time, w->horizon};
    assert_int_equal(moe_mixture_predict_early(m, &seeds, NULL, early, gates, stops), MOE_OK);
    for (int i = 0; i < ROWS; i++)
        if (stops[i])
            assert_memory_equal(&early[i], &out[i], sizeof *out);
    moe_mixture_destroy(m);
    moe_job_destroy(job);
}

static void
numbers_far_out_are_learned_and_kept_within_the_labels_range(void **state)
{
    moe_job *job = open_job(2);
    world *w = moe_alloc(job, 1, sizeof *w);
    make_world(w, job, MOE_REGRESSION);
    for (int i = 0; i < ROWS; i++)
        w->label[i] = (float) fmax(fmin(20 + 5 * sinh((w->label[i] - 20) / 5), 100), -100);
    moe_mixture *m = make_mixture(w, LINEAR, NULL);
    moe_dense_rows train = dense_rows(w, 0, ROWS), none = {.width = WIDTH};
    float out[ROWS], weight[ROWS];
    double error = 0, constant = 0;
    for (int i = 0; i < ROWS; i++)
        weight[i] = 100; /* rows enough for the penalty not to matter */
    train.weight = weight;
    assert_int_equal(moe_mixture_fit(m, 0, false, &train, &none, 1), MOE_OK);
    predict(w, m, 0, ROWS, out, NULL, NULL);
    for (int i = 0; i < ROWS; i++)
    {
        assert_true(out[i] >= -100 && out[i] <= 100);
        error += fabs(out[i] - w->label[i]);
        constant += fabs(20 - w->label[i]); /* the median */
    }
    assert_true(error < 0.4 * constant);
    moe_mixture_destroy(m);
    moe_job_destroy(job);
}

static moe_buffer
bytes_of(moe_job *job, const moe_mixture *m)
{
    moe_buffer bytes;
    moe_buffer_init(&bytes, job);
    moe_mixture_write(m, &bytes);
    assert_int_equal(moe_job_code(job), MOE_OK);
    return bytes;
}

/* Of most stale rows the graph, which knows the truth of others, tells nothing. */
static moe_code
forget_of_stale(void *arg, const moe_seeds *seeds, const float *inputs, const bool *disabled, float *prediction)
{
    moe_code code = tell_truth(arg, seeds, inputs, disabled, prediction);
    for (int64_t i = 0; code == MOE_OK && i < seeds->n; i++)
        if (seeds->horizon != NULL && seeds->horizon[i] < seeds->time[i] && seeds->row[i] % 4 > 0)
        {
            int32_t row = (seeds->row[i] * 7 + 1) % ROWS;
            moe_seeds other = {0, 1, &row, seeds->time + i, NULL};
            code = tell_truth(arg, &other, NULL, NULL, prediction + i);
        }
    return code;
}

/* How far probabilities are from what came true, or how many labels the range holds. */
static double
told(world *w, moe_mixture *m, float *out)
{
    moe_seeds seeds = {0, ROWS, w->row, w->time, w->horizon};
    bool ranges = w->task == MOE_REGRESSION;
    float lower[ROWS], upper[ROWS];
    double sum = 0;
    moe_mixture_answer answer = {out, NULL, NULL, ranges ? lower : NULL, ranges ? upper : NULL};
    assert_int_equal(moe_mixture_predict(m, &seeds, NULL, &answer), MOE_OK);
    for (int i = 0; i < ROWS; i++)
        sum += ranges ? lower[i] <= w->label[i] && w->label[i] <= upper[i]
                      : -log(fmax(w->label[i] > 0.5f ? out[i] : 1 - out[i], 1e-7));
    return sum / ROWS;
}

static void
check_stale_calibration(moe_task_type task)
{
    moe_job *job = open_job(2);
    world *w = moe_alloc(job, 1, sizeof *w);
    make_world(w, job, task);
    moe_mixture *m = make_mixture(w, HISTORY | GRAPH, NULL);
    moe_mixture_connect(m, give_inputs, w, forget_of_stale, w);
    float before[ROWS], fresh[ROWS], stale[ROWS], again[ROWS];
    told(w, m, before);
    for (int i = 0; i < ROWS; i++)
        w->horizon[i] = w->time[i] - 1;
    double without = told(w, m, stale);
    moe_seeds held_out = {0, ROWS / 2, w->row + ROWS / 2, w->time + ROWS / 2, w->horizon + ROWS / 2};
    assert_int_equal(moe_mixture_calibrate_stale(m, &held_out, w->label + ROWS / 2, w->x + ROWS / 2 * WIDTH), MOE_OK);

    /* Stale seeds are told of as surely as they can be. */
    double with = told(w, m, stale);
    if (task == MOE_REGRESSION)
        assert_true(without < 0.5 && with > 0.75 && with < 0.95);
    else
        assert_true(without > 2 && with < 0.75);

    /* One seed's way is the same, and what is stored says the same. */
    moe_mixture_path path;
    float x[WIDTH], one[2], mixed;
    const float *said[] = {&one[0], &one[1]};
    moe_seeds first = {0, 1, w->row, w->time, w->horizon};
    assert_int_equal(moe_mixture_find_path(m, &first, &path, x), MOE_OK);
    for (int e = 0; e < 2; e++)
        assert_int_equal(moe_mixture_ask(m, e, path.stale, &first, NULL, x, &one[e]), MOE_OK);
    assert_int_equal(moe_mixture_follow(m, &path, 1, said, &mixed), MOE_OK);
    assert_true(mixed == stale[0]);
    moe_buffer buffer = bytes_of(job, m);
    moe_reader reader;
    moe_mixture *back;
    moe_reader_init(&reader, job, buffer.data, buffer.length);
    assert_int_equal(moe_mixture_read(job, &reader, &back), MOE_OK);
    moe_mixture_connect(back, give_inputs, w, forget_of_stale, w);
    assert_true(told(w, back, again) == with);
    assert_memory_equal(again, stale, sizeof again);
    moe_mixture_destroy(back);
    moe_buffer_free(&buffer);

    /* Others are answered as they were, to the bit; so are stale ones without enough of them to learn from. */
    held_out.n = 10;
    assert_int_equal(moe_mixture_calibrate_stale(m, &held_out, w->label + ROWS / 2, w->x + ROWS / 2 * WIDTH), MOE_OK);
    assert_true(told(w, m, again) == without);
    memcpy(w->horizon, w->time, sizeof w->horizon);
    told(w, m, fresh);
    assert_memory_equal(fresh, before, sizeof fresh);
    moe_mixture_destroy(m);
    moe_job_destroy(job);
}

static void
stale_seeds_have_a_calibration_of_their_own(void **state)
{
    check_stale_calibration(MOE_REGRESSION);
    check_stale_calibration(MOE_BINARY);
}

static void
without_held_out_rows_weights_are_equal_and_there_is_no_range(void **state)
{
    moe_job *job = open_job(1);
    world *w = moe_alloc(job, 1, sizeof *w);
    make_world(w, job, MOE_REGRESSION);
    moe_mixture_report report;
    moe_mixture *m = make_mixture(w, LINEAR | GRAPH, NULL);
    moe_router_config config;
    moe_samples none = {0};
    float out[10], gates[20], lower[10], upper[10];
    moe_router_config_defaults(&config, 2);
    assert_int_equal(moe_mixture_route(m, &config, &none, NULL, NULL, &report), MOE_OK);
    assert_true(isnan(report.mixed) && isnan(report.metric[0]));
    moe_seeds seeds = {0, 10, w->row, w->time, w->horizon};
    assert_int_equal(moe_mixture_predict(m, &seeds, NULL, &(moe_mixture_answer){out, gates, NULL, lower, upper}),
                     MOE_OK);
    for (int i = 0; i < 10; i++)
        assert_true(gates[2 * i] == 0.5f && gates[2 * i + 1] == 0.5f && isnan(lower[i]) && isnan(upper[i]));
    moe_mixture_destroy(m);
    moe_job_destroy(job);
}

static void
what_is_read_back_predicts_the_same_bits(void **state)
{
    moe_job *job = open_job(2);
    world *w = moe_alloc(job, 1, sizeof *w);
    make_world(w, job, MOE_REGRESSION);
    moe_mixture *m = make_mixture(w, (1u << MOE_EXPERT_KINDS) - 1, NULL), *again;
    moe_dense_rows rows = dense_rows(w, 0, ROWS / 2), none = {.width = WIDTH};
    assert_int_equal(moe_mixture_fit(m, 1, true, &rows, &none, 2), MOE_OK);
    moe_buffer bytes = bytes_of(job, m);
    moe_reader reader;
    moe_reader_init(&reader, job, bytes.data, bytes.length);
    assert_int_equal(moe_mixture_read(job, &reader, &again), MOE_OK);
    assert_int_equal(reader.position, bytes.length);
    moe_mixture_connect(again, give_inputs, w, tell_truth, w);
    float before[ROWS], after[ROWS];
    w->horizon[7] = 0;
    predict(w, m, 0, ROWS, before, NULL, NULL);
    predict(w, again, 0, ROWS, after, NULL, NULL);
    assert_memory_equal(before, after, sizeof before);
    moe_buffer second = bytes_of(job, again);
    assert_int_equal(second.length, bytes.length);
    assert_memory_equal(second.data, bytes.data, (size_t) bytes.length);
    moe_job_destroy(job);
}

static void
damaged_bytes_are_refused_or_give_numbers(void **state)
{
    moe_job *job = open_job(1);
    world *w = moe_alloc(job, 1, sizeof *w);
    make_world(w, job, MOE_BINARY);
    float reading[ROWS];
    for (int i = 0; i < ROWS; i++)
        reading[i] = (float) (i % 7);
    moe_mixture *whole = make_mixture_to_read(w, HISTORY | LINEAR | GRAPH | GLANCE, reading, NULL);
    assert_true(moe_mixture_set_budget(whole, 0.5));
    moe_buffer bytes = bytes_of(job, whole);
    for (int64_t i = 0; i < bytes.length; i++)
        for (int cut = 0; cut < 2; cut++)
        {
            moe_job *other = open_job(1);
            moe_reader reader;
            moe_mixture *m;
            float out[3] = {0};
            bytes.data[i] ^= (uint8_t) (cut ? 0 : 1 << i % 8);
            moe_reader_init(&reader, other, bytes.data, cut ? i : bytes.length);
            if (moe_mixture_read(other, &reader, &m) == MOE_OK)
            {
                moe_seeds seeds = {0, 3, w->row, w->time, NULL};
                assert_false(cut);
                if (moe_mixture_width(m) == WIDTH)
                {
                    moe_mixture_connect(m, give_inputs, w, tell_truth, w);
                    if (moe_mixture_predict(m, &seeds, NULL, &(moe_mixture_answer){.prediction = out}) == MOE_OK)
                        assert_true(isfinite(out[0]));
                }
            }
            else
                assert_true(moe_job_code(other) == MOE_CORRUPT || moe_job_code(other) == MOE_INVALID);
            bytes.data[i] ^= (uint8_t) (cut ? 0 : 1 << i % 8);
            moe_job_destroy(other);
        }
    moe_job_destroy(job);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prediction_is_the_mean_of_what_experts_say_by_their_gates),
        cmocka_unit_test(an_expert_that_is_not_needed_is_not_asked),
        cmocka_unit_test(a_seed_alone_has_the_bits_it_has_among_others_for_any_number_of_threads),
        cmocka_unit_test(stale_seeds_are_answered_by_the_version_for_them_and_no_others),
        cmocka_unit_test(an_expert_sees_its_own_inputs_alone),
        cmocka_unit_test(a_path_followed_with_a_seeds_own_inputs_gives_its_prediction),
        cmocka_unit_test(a_budget_leaves_rows_with_much_to_read_to_the_glance_expert),
        cmocka_unit_test(numbers_far_out_are_learned_and_kept_within_the_labels_range),
        cmocka_unit_test(stale_seeds_have_a_calibration_of_their_own),
        cmocka_unit_test(without_held_out_rows_weights_are_equal_and_there_is_no_range),
        cmocka_unit_test(what_is_read_back_predicts_the_same_bits),
        cmocka_unit_test(damaged_bytes_are_refused_or_give_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
