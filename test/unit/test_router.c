/*
 * test_router.c: gates learned where there is something to learn, and equal weights where there is not.
 */
#include "gnn/router.h"

#include <string.h>

#include "gnn/router_net.h"
#include "test/unit/router_data.h"

#define TIMES 30

static moe_router *
fit_or_fail(moe_job *job, const moe_router_config *config, moe_task_type task, const router_data *d,
            moe_router_report *report)
{
    moe_router *router;
    assert_int_equal(moe_router_fit(job, config, task, d->k, &d->rows, &router, report), MOE_OK);
    return router;
}

static moe_router_config
defaults(int experts)
{
    moe_router_config config;
    moe_router_config_defaults(&config, experts);
    return config;
}

/* The mean loss of the gated mixture. */
static double
mixture_loss(moe_router *router, moe_task_type task, const router_data *d)
{
    int64_t n = d->rows.n;
    float *gates = calloc(n * d->experts, sizeof *gates);
    float *mixed = calloc(n * d->k, sizeof *mixed);
    double sum = 0;
    assert_int_equal(moe_router_gates(router, n, d->rows.x, gates), MOE_OK);
    moe_router_mix(d->experts, d->k, n, d->rows.prediction, gates, mixed);
    for (int64_t i = 0; i < n; i++)
    {
        float y = d->rows.label[i];
        double p = task == MOE_MULTICLASS ? mixed[i * d->k + (int) y] : y > 0.5f ? mixed[i] : 1 - mixed[i];
        sum += task == MOE_REGRESSION ? fabs((double) mixed[i] - y) : -log(fmax(p, 1e-7));
    }
    free(gates);
    free(mixed);
    return sum / n;
}

static void
check_regions(moe_task_type task, double at_most)
{
    moe_job *job = start_job(1);
    router_data held_out, fresh;
    moe_router_report report;
    moe_router_config config = defaults(3);
    make_router_data(&held_out, REGIONS, task, 3, 1000, 5, TIMES, 1);
    make_router_data(&fresh, REGIONS, task, 3, 3000, 5, TIMES, 2);
    moe_router *router = fit_or_fail(job, &config, task, &held_out, &report);
    assert_int_equal(report.kind, MOE_ROUTER_INPUTS);
    assert_true(report.learned && moe_router_kind_of(router) != MOE_ROUTER_EQUAL);
    assert_true(report.learned_loss < report.equal_loss - report.error);
    held_out.rows.n = 10;
    moe_router *equal = fit_or_fail(job, &config, task, &held_out, NULL);
    double ratio = mixture_loss(router, task, &fresh) / mixture_loss(equal, task, &fresh);
    if (ratio > at_most)
        fail_msg("the router's loss is %g times that of equal weights", ratio);
    free_router_data(&held_out);
    free_router_data(&fresh);
    moe_job_destroy(job);
}

static void
experts_right_in_regions_are_routed_to(void **state)
{
    check_regions(MOE_BINARY, 0.98);
    check_regions(MOE_REGRESSION, 0.65);
    check_regions(MOE_MULTICLASS, 0.95);
}

/* Twelve draws of four experts that err alike: a wrong adoption is rare, and does next to no harm. */
static void
experts_that_are_alike_keep_equal_weights(void **state)
{
    int adopted = 0;
    for (int s = 0; s < 12; s++)
    {
        moe_job *job = start_job(1);
        moe_task_type task = (moe_task_type) (s % 3);
        router_data held_out, fresh;
        moe_router_report report;
        moe_router_config config = defaults(4);
        make_router_data(&held_out, ALIKE, task, 4, 300, 6, TIMES, 100 + s);
        make_router_data(&fresh, ALIKE, task, 4, 2000, 6, TIMES, 200 + s);
        moe_router *router = fit_or_fail(job, &config, task, &held_out, &report);
        double chosen = mixture_loss(router, task, &fresh);
        adopted += report.learned;
        for (int e = 0; !report.learned && e < 4; e++)
            assert_float_equal(report.load[e], 0.25, 1e-9);
        held_out.rows.n = 10;
        assert_true(chosen < 1.02 * mixture_loss(fit_or_fail(job, &config, task, &held_out, NULL), task, &fresh));
        free_router_data(&held_out);
        free_router_data(&fresh);
        moe_job_destroy(job);
    }
    assert_true(adopted <= 2);
}

static void
one_good_expert_is_found_by_constant_weights(void **state)
{
    for (int task = MOE_BINARY; task <= MOE_MULTICLASS; task++)
    {
        moe_job *job = start_job(1);
        router_data d;
        moe_router_report report;
        moe_router_config config = defaults(3);
        make_router_data(&d, ONE_GOOD, (moe_task_type) task, 3, 600, 4, TIMES, 3);
        moe_router *router = fit_or_fail(job, &config, (moe_task_type) task, &d, &report);
        assert_int_equal(report.kind, MOE_ROUTER_CONSTANT);
        assert_int_equal(moe_router_kind_of(router), MOE_ROUTER_CONSTANT);
        assert_true(report.load[0] > 0.8);
        assert_true(report.constant_loss + report.constant_error < report.equal_loss);
        free_router_data(&d);
        moe_job_destroy(job);
    }
}

/* Beside an expert that is right, others that say nothing get no weight at all, but for one that all rows use. */
static void
useless_experts_get_no_constant_weight(void **state)
{
    for (int shared = -1; shared <= 1; shared += 2)
    {
        moe_job *job = start_job(1);
        router_data d;
        moe_router_report report;
        moe_router_config config = defaults(3);
        config.shared = shared;
        make_router_data(&d, ONE_GOOD, MOE_REGRESSION, 3, 600, 0, TIMES, 3);
        memcpy((float *) d.rows.prediction[0], d.rows.label, 600 * sizeof(float));
        for (int e = 1; e < 3; e++)
            memset((float *) d.rows.prediction[e], 0, 600 * sizeof(float));
        fit_or_fail(job, &config, MOE_REGRESSION, &d, &report);
        assert_int_equal(report.kind, MOE_ROUTER_CONSTANT);
        assert_true(report.load[2] == 0);
        assert_true(shared == 1 ? report.load[1] > 0 : report.load[1] == 0);
        free_router_data(&d);
        moe_job_destroy(job);
    }
}

/* Gates [n, experts] of a router fitted on regions. */
static float *
regional_gates(moe_job *job, const moe_router_config *config, const router_data *d, moe_router_report *report)
{
    moe_router *router = fit_or_fail(job, config, MOE_REGRESSION, d, report);
    float *gates = moe_alloc(job, d->rows.n * d->experts, sizeof *gates);
    assert_int_equal(report->kind, MOE_ROUTER_INPUTS);
    assert_int_equal(moe_router_gates(router, d->rows.n, d->rows.x, gates), MOE_OK);
    return gates;
}

static void
a_row_uses_its_top_k_and_the_shared_expert(void **state)
{
    router_data d;
    make_router_data(&d, REGIONS, MOE_REGRESSION, 4, 600, 5, TIMES, 4);
    for (int shared = -1; shared < 3; shared += 3)
    {
        moe_job *job = start_job(1);
        moe_router_report report;
        moe_router_config config = defaults(4);
        config.top_k = 2;
        config.shared = shared;
        float *gates = regional_gates(job, &config, &d, &report);
        double load = 0;
        for (int64_t i = 0; i < d.rows.n; i++)
        {
            int used = 0;
            double sum = 0;
            for (int e = 0; e < 4; e++)
            {
                used += gates[4 * i + e] > 0;
                sum += gates[4 * i + e];
            }
            assert_int_equal(used, shared < 0 ? 2 : 3);
            assert_true(shared < 0 || gates[4 * i + shared] > 0);
            assert_float_equal(sum, 1, 1e-6);
        }
        for (int e = 0; e < 4; e++)
            load += report.load[e];
        assert_float_equal(load, 1, 1e-9);
        moe_job_destroy(job);
    }
    free_router_data(&d);
}

static void
expert_choice_gives_each_expert_its_capacity(void **state)
{
    moe_job *job = start_job(1);
    router_data d;
    moe_router_report report;
    moe_router_config config = defaults(4);
    make_router_data(&d, REGIONS, MOE_REGRESSION, 4, 800, 5, TIMES, 5);
    config.routing = MOE_ROUTE_EXPERT_CHOICE;
    config.top_k = 2;
    float *gates = regional_gates(job, &config, &d, &report);
    double total = 0;
    for (int e = 0; e < 4; e++)
    {
        int64_t used = 0;
        for (int64_t i = 0; i < d.rows.n; i++)
            used += gates[4 * i + e] > 0;
        assert_in_range(used, 400, 420); /* capacity, and the rows that nobody took */
        total += (double) used;
    }
    assert_true(total / d.rows.n >= 2);
    for (int64_t i = 0; i < d.rows.n; i++)
        assert_float_equal(gates[4 * i] + gates[4 * i + 1] + gates[4 * i + 2] + gates[4 * i + 3], 1, 1e-6);
    free_router_data(&d);
    moe_job_destroy(job);
}

static void
too_few_rows_are_equal_weights_and_one_seed_time_is_cut(void **state)
{
    moe_job *job = start_job(1);
    router_data few, once;
    moe_router_report report;
    moe_router_config config = defaults(3);
    make_router_data(&few, ONE_GOOD, MOE_BINARY, 3, 199, 4, TIMES, 6);
    make_router_data(&once, ONE_GOOD, MOE_BINARY, 3, 600, 4, 1, 6);
    fit_or_fail(job, &config, MOE_BINARY, &few, &report);
    assert_false(report.learned);
    assert_true(isfinite(report.equal_loss) && isnan(report.learned_loss) && isnan(report.constant_loss));
    assert_float_equal(report.load[2], 1.0 / 3, 1e-9);
    /* Rows of one seed time are cut by their place. */
    fit_or_fail(job, &config, MOE_BINARY, &once, &report);
    assert_true(report.learned && report.load[0] > 0.6);
    config = defaults(1);
    fit_or_fail(job, &config, MOE_BINARY, &once, &report);
    assert_false(report.learned);
    few.rows.n = 0;
    fit_or_fail(job, &config, MOE_BINARY, &few, &report);
    assert_true(isnan(report.equal_loss) && report.load[0] == 1);
    free_router_data(&few);
    free_router_data(&once);
    moe_job_destroy(job);
}

/*
 * Thirty rows at each of ten times, whose errors are shared within a time: expert 0 is better at six times and worse
 * at four, by the same margin. 60 more good rows than bad would look certain; six times against four are not.
 */
static void
rows_of_one_time_count_as_one_piece_of_evidence(void **state)
{
    moe_job *job = start_job(1);
    moe_router_report report;
    moe_router_config config = defaults(2);
    float label[300], said[2][300];
    int64_t time[300];
    for (int i = 0; i < 300; i++)
    {
        time[i] = i / 30;
        bool good = (i / 30) % 5 < 3;
        label[i] = 0;
        said[0][i] = good ? 0.5f : 1.5f;
        said[1][i] = good ? 1.5f : 0.5f;
    }
    moe_router *router;
    moe_router_rows rows = {.n = 300, .time = time, .label = label, .prediction = {said[0], said[1]}};
    assert_int_equal(moe_router_fit(job, &config, MOE_REGRESSION, 1, &rows, &router, &report), MOE_OK);
    double clustered = report.constant_error;
    assert_false(report.learned);
    for (int i = 0; i < 300; i++)
        time[i] = i; /* now every row is its own time, in the same blocks */
    assert_int_equal(moe_router_fit(job, &config, MOE_REGRESSION, 1, &rows, &router, &report), MOE_OK);
    assert_true(clustered > 4 * report.constant_error);
    moe_job_destroy(job);
}

/* The analytic gradient of the objective against central differences, at weights away from zero. */
static void
check_gradient(bool probabilities, moe_routing routing, int shared, bool dense)
{
    enum
    {
        ROWS = 40,
        EXPERTS = 4,
        WIDTH = 3
    };
    moe_job *job = start_job(1);
    moe_router_config config = defaults(EXPERTS);
    config.top_k = 2;
    config.routing = routing;
    config.shared = shared;
    config.temperature = 0.7f;
    config.balance_weight = 0.3f;
    config.z_weight = 0.2f;
    moe_router *router;
    int64_t row[ROWS];
    float *said = normal_floats(job, ROWS * EXPERTS, 1);
    assert_int_equal(moe_router_create(job, &config, MOE_ROUTER_INPUTS, WIDTH, &router), MOE_OK);
    for (int i = 0; i < ROWS * EXPERTS && probabilities; i++)
        said[i] = (float) data_sigmoid(said[i]);
    for (int i = 0; i < ROWS; i++)
        row[i] = (i * 7) % ROWS;
    for (int j = 0; j < WIDTH; j++)
        router->scale[j] = 0.8;
    for (int k = 0; k < (WIDTH + 1) * EXPERTS; k++)
        router->weight[k] = moe_random_normal(2, k);
    moe_router_evidence evidence = {
        probabilities, EXPERTS, WIDTH, normal_floats(job, ROWS * WIDTH, 3), said, normal_floats(job, ROWS, 4)};
    double loss, gradient[(WIDTH + 1) * EXPERTS], unused[(WIDTH + 1) * EXPERTS];
    assert_int_equal(moe_router_objective(router, &evidence, row, ROWS, 50, dense, &loss, gradient), MOE_OK);
    for (int k = 0; k < (WIDTH + 1) * EXPERTS; k++)
    {
        double weight = router->weight[k], above, below, h = 1e-6;
        router->weight[k] = weight + h;
        moe_router_objective(router, &evidence, row, ROWS, 50, dense, &above, unused);
        router->weight[k] = weight - h;
        moe_router_objective(router, &evidence, row, ROWS, 50, dense, &below, unused);
        router->weight[k] = weight;
        assert_float_equal(gradient[k], (above - below) / (2 * h), 1e-6);
    }
    moe_job_destroy(job);
}

static void
gradients_equal_finite_differences(void **state)
{
    for (int probabilities = 0; probabilities < 2; probabilities++)
        for (int dense = 0; dense < 2; dense++)
            for (int shared = -1; shared < 2; shared += 2)
            {
                check_gradient(probabilities, MOE_ROUTE_TOP_K, shared, dense);
                check_gradient(probabilities, MOE_ROUTE_EXPERT_CHOICE, shared, dense);
            }
}

static void
any_number_of_threads_learns_the_same(void **state)
{
    static const int threads[] = {1, 2, 7};
    router_data d;
    moe_buffer bytes[3];
    moe_job *job[3];
    make_router_data(&d, REGIONS, MOE_MULTICLASS, 3, 1000, 5, TIMES, 7);
    for (int t = 0; t < 3; t++)
    {
        moe_router_report report;
        moe_router_config config = defaults(3);
        config.routing = MOE_ROUTE_EXPERT_CHOICE;
        config.top_k = 1;
        job[t] = start_job(threads[t]);
        moe_buffer_init(&bytes[t], job[t]);
        moe_router *router = fit_or_fail(job[t], &config, MOE_MULTICLASS, &d, &report);
        assert_int_equal(report.kind, MOE_ROUTER_INPUTS);
        moe_router_write(router, &bytes[t]);
        assert_int_equal(bytes[t].length, bytes[0].length);
        assert_memory_equal(bytes[t].data, bytes[0].data, bytes[0].length);
    }
    for (int t = 0; t < 3; t++)
        moe_job_destroy(job[t]);
    free_router_data(&d);
}

static void
gates_of_a_row_are_the_same_in_any_company(void **state)
{
    router_data d;
    make_router_data(&d, REGIONS, MOE_REGRESSION, 4, 700, 5, TIMES, 8);
    for (int routing = MOE_ROUTE_TOP_K; routing <= MOE_ROUTE_EXPERT_CHOICE; routing++)
    {
        moe_job *job = start_job(7);
        moe_router_report report;
        moe_router_config config = defaults(4);
        config.top_k = 2;
        config.routing = (moe_routing) routing;
        moe_router *router = fit_or_fail(job, &config, MOE_REGRESSION, &d, &report);
        float all[700 * 4], alone[4];
        assert_int_equal(moe_router_gates(router, 700, d.rows.x, all), MOE_OK);
        for (int i = 0; i < 700; i += 13)
        {
            assert_int_equal(moe_router_gates(router, 1, d.rows.x + 5 * i, alone), MOE_OK);
            assert_memory_equal(alone, all + 4 * i, sizeof alone);
        }
        moe_job_destroy(job);
    }
    free_router_data(&d);
}

/* The bytes of a fitted router, and its gates for the rows of d. */
static float *
stored(moe_job *job, data_kind kind, moe_routing routing, router_data *d, moe_buffer *bytes)
{
    moe_router_report report;
    moe_router_config config = defaults(3);
    config.routing = routing;
    config.top_k = 1;
    make_router_data(d, kind, MOE_REGRESSION, 3, 300, 4, TIMES, 9);
    moe_router *router = fit_or_fail(job, &config, MOE_REGRESSION, d, &report);
    float *gates = moe_alloc(job, 300 * 3, sizeof *gates);
    assert_int_equal(moe_router_gates(router, 300, d->rows.x, gates), MOE_OK);
    moe_buffer_init(bytes, job);
    moe_router_write(router, bytes);
    return gates;
}

static void
a_stored_router_reads_back_the_same(void **state)
{
    for (int kind = ALIKE; kind <= ONE_GOOD; kind++)
        for (int routing = MOE_ROUTE_TOP_K; routing <= MOE_ROUTE_EXPERT_CHOICE; routing++)
        {
            moe_job *job = start_job(1);
            router_data d;
            moe_buffer bytes, again;
            moe_reader reader;
            moe_router *back;
            float gates[300 * 3];
            float *before = stored(job, (data_kind) kind, (moe_routing) routing, &d, &bytes);
            moe_reader_init(&reader, job, bytes.data, bytes.length);
            assert_int_equal(moe_router_read(job, &reader, &back), MOE_OK);
            assert_int_equal(reader.position, bytes.length);
            assert_int_equal(moe_router_experts(back), 3);
            assert_int_equal(moe_router_width(back), 4);
            assert_int_equal(moe_router_gates(back, 300, d.rows.x, gates), MOE_OK);
            assert_memory_equal(gates, before, sizeof gates);
            moe_buffer_init(&again, job);
            moe_router_write(back, &again);
            assert_int_equal(again.length, bytes.length);
            assert_memory_equal(again.data, bytes.data, bytes.length);
            free_router_data(&d);
            moe_job_destroy(job);
        }
}

static void
damaged_bytes_are_refused_or_give_sound_gates(void **state)
{
    moe_job *maker = start_job(1);
    router_data d;
    moe_buffer bytes;
    stored(maker, REGIONS, MOE_ROUTE_EXPERT_CHOICE, &d, &bytes);
    for (int64_t at = 0; at < bytes.length; at++)
        for (int bit = -1; bit < 8; bit++) /* -1: cut off there */
        {
            moe_job *job = start_job(1);
            moe_reader reader;
            moe_router *back;
            uint8_t kept = bytes.data[at];
            bytes.data[at] ^= bit < 0 ? 0 : (uint8_t) (1 << bit);
            moe_reader_init(&reader, job, bytes.data, bit < 0 ? at : bytes.length);
            moe_code code = moe_router_read(job, &reader, &back);
            assert_true(code == MOE_CORRUPT || (bit >= 0 && code == MOE_OK));
            if (code == MOE_OK && moe_router_width(back) <= 4)
            {
                float gates[MOE_ROUTER_EXPERTS];
                double sum = 0;
                assert_int_equal(moe_router_gates(back, 1, d.rows.x, gates), MOE_OK);
                for (int e = 0; e < moe_router_experts(back); e++)
                    sum += gates[e];
                assert_float_equal(sum, 1, 1e-5);
            }
            bytes.data[at] = kept;
            moe_job_destroy(job);
        }
    free_router_data(&d);
    moe_job_destroy(maker);
}

static void
options_and_rows_that_make_no_sense_are_refused(void **state)
{
    router_data d;
    make_router_data(&d, ALIKE, MOE_BINARY, 3, 300, 4, TIMES, 10);
    moe_router_config base = defaults(3), bad[8];
    for (int i = 0; i < 8; i++)
        bad[i] = base;
    bad[0].experts = MOE_ROUTER_EXPERTS + 1;
    bad[1].shared = 3;
    bad[2].top_k = 0;
    bad[3].temperature = 0;
    bad[4].balance_weight = NAN;
    bad[5].routing = (moe_routing) 2;
    float *const spoiled[] = {(float *) d.rows.x, (float *) d.rows.prediction[1], (float *) d.rows.label};
    for (int i = 0; i < 9; i++)
    {
        moe_job *job = start_job(1);
        moe_router *router;
        float kept = 0;
        if (i >= 6)
        {
            kept = spoiled[i - 6][5];
            spoiled[i - 6][5] = i == 7 ? 1.5f : NAN;
        }
        assert_int_equal(moe_router_fit(job, i < 6 ? &bad[i] : &base, MOE_BINARY, 1, &d.rows, &router, NULL),
                         MOE_INVALID);
        assert_null(router);
        if (i >= 6)
            spoiled[i - 6][5] = kept;
        moe_job_destroy(job);
    }
    free_router_data(&d);
}

static bool
at_call(void *arg)
{
    return --*(int *) arg <= 0;
}

static void
a_cancelled_fit_leaves_nothing(void **state)
{
    router_data d;
    make_router_data(&d, REGIONS, MOE_BINARY, 3, 400, 4, TIMES, 11);
    for (int calls = 1; calls < 3000; calls = calls * 2 + 1)
    {
        int left = calls;
        moe_job_config settings = {.threads = 1, .cancelled = at_call, .cancel_arg = &left};
        moe_router_config config = defaults(3);
        moe_router *router;
        moe_job *job;
        assert_int_equal(moe_job_create(&settings, &job), MOE_OK);
        size_t before = moe_job_memory_used(job);
        assert_int_equal(moe_router_fit(job, &config, MOE_BINARY, 1, &d.rows, &router, NULL), MOE_CANCELLED);
        assert_null(router);
        assert_int_equal(moe_job_memory_used(job), before);
        moe_job_destroy(job);
    }
    free_router_data(&d);
}

static void
too_little_memory_is_an_error_wherever_it_runs_out(void **state)
{
    router_data d;
    make_router_data(&d, ONE_GOOD, MOE_BINARY, 3, 400, 4, TIMES, 12);
    for (size_t limit = 1 << 11; limit <= 1 << 17; limit += 9000)
    {
        moe_job_config settings = {.threads = 1, .memory_limit = limit};
        moe_router_config config = defaults(3);
        moe_router *router;
        moe_job *job;
        if (moe_job_create(&settings, &job) != MOE_OK)
            continue;
        moe_code code = moe_router_fit(job, &config, MOE_BINARY, 1, &d.rows, &router, NULL);
        assert_true(code == MOE_LIMIT || code == MOE_OK);
        assert_true((code == MOE_OK) == (router != NULL));
        moe_job_destroy(job);
    }
    free_router_data(&d);
}

static void
an_expert_with_gate_zero_is_not_read(void **state)
{
    float first[] = {1, 2, 3, 4}, second[] = {3, NAN, 5, 6};
    const float *prediction[] = {first, second, NULL};
    float gates[] = {0.5f, 0.5f, 0, 1, 0, 0, 0, 1, 0, 0.25f, 0.75f, 0};
    float out[4];
    moe_router_mix(3, 1, 4, prediction, gates, out);
    assert_float_equal(out[0], 2, 0);
    assert_float_equal(out[1], 2, 0);
    assert_float_equal(out[2], 5, 0);
    assert_float_equal(out[3], 5.5, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(experts_right_in_regions_are_routed_to),
        cmocka_unit_test(experts_that_are_alike_keep_equal_weights),
        cmocka_unit_test(one_good_expert_is_found_by_constant_weights),
        cmocka_unit_test(useless_experts_get_no_constant_weight),
        cmocka_unit_test(a_row_uses_its_top_k_and_the_shared_expert),
        cmocka_unit_test(expert_choice_gives_each_expert_its_capacity),
        cmocka_unit_test(too_few_rows_are_equal_weights_and_one_seed_time_is_cut),
        cmocka_unit_test(rows_of_one_time_count_as_one_piece_of_evidence),
        cmocka_unit_test(gradients_equal_finite_differences),
        cmocka_unit_test(any_number_of_threads_learns_the_same),
        cmocka_unit_test(gates_of_a_row_are_the_same_in_any_company),
        cmocka_unit_test(a_stored_router_reads_back_the_same),
        cmocka_unit_test(damaged_bytes_are_refused_or_give_sound_gates),
        cmocka_unit_test(options_and_rows_that_make_no_sense_are_refused),
        cmocka_unit_test(a_cancelled_fit_leaves_nothing),
        cmocka_unit_test(too_little_memory_is_an_error_wherever_it_runs_out),
        cmocka_unit_test(an_expert_with_gate_zero_is_not_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
