/*
 * model_reading.c: rows around labelled rows, counted.
 *
 * What a budget is chosen by (gnn/cascade.h). The walks are those that index
 * look-ups would make for a key at the row's time (reach_walk.h); how long they
 * take depends on the schema, so that in a dense one fewer rows are counted.
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"

#include "extension/model_reach.h"
#include "extension/model_reading.h"
#include "extension/moe_ml.h"
#include "extension/reach_walk.h"
#include "kernels/random.h"

#define READING_KEY UINT64CONST(0x72656164)
#define MOST_WALKS  4096
#define MOST_PASSED 20000000 /* rows in all walks: about a second */

static moe_reach_walk *
open_walk(const moe_train_run *run)
{
    moe_reach *reach = palloc_object(moe_reach);
    int hops = run->features != NULL ? run->options->model.hops : 0;

    if (!moe_reach_of(run->data->schema, hops, run->inputs, reach))
        reach = NULL;
    return moe_reach_walk_create(run->data, run->graph, reach);
}

/* [rows->n], NaN where they were not counted. */
static float *
count_reading(const moe_train_run *run, moe_reach_walk *walk, const moe_samples *rows)
{
    float *count = palloc_array(float, Max(rows->n, 1));
    int64 walks = Min(rows->n, MOST_WALKS);
    int64 passed = 0;
    int64 n;

    for (int64 i = 0; i < rows->n; i++)
        count[i] = NAN;
    /* The k-th of them by a golden section: any number of them lies evenly. */
    for (int64 k = 0; k < walks && passed < MOST_PASSED; k++)
    {
        double at = fmod((double) k * 0.6180339887498949, 1);
        int64 i = Min((int64) (at * (double) rows->n), rows->n - 1);
        int64 time = rows->time[i];
        int64 moment = moe_inputs_look_back_from(run->inputs, time, moe_graph_newest(run->graph, time));

        CHECK_FOR_INTERRUPTS();
        n = moe_reach_walk_from(walk, rows->row[i], time, moment, MOST_PASSED - passed);
        passed += n + 1;
        if (passed <= MOST_PASSED)
            count[i] = (float) n;
    }
    return count;
}

/* The rows that were counted, with the counts as labels; their arrays are the run's job's. */
static moe_dense_rows
counted_rows(const moe_train_run *run, const moe_samples *rows, const float *x, const float *count)
{
    int width = moe_inputs_width(run->inputs);
    moe_dense_rows counted = {.width = width};
    float *own, *label;
    int64 n = 0;

    for (int64 i = 0; i < rows->n; i++)
        n += !isnan(count[i]);
    own = moe_check_ptr(run->job, moe_alloc(run->job, n * width, sizeof(float)));
    label = moe_check_ptr(run->job, moe_alloc(run->job, n, sizeof(float)));
    for (int64 i = 0; i < rows->n; i++)
    {
        if (isnan(count[i]))
            continue;
        memcpy(own + counted.n * width, x + i * width, sizeof(float) * width);
        label[counted.n++] = count[i];
    }
    counted.x = own;
    counted.label = label;
    return counted;
}

static bool
may_stop_early(const moe_train_run *run, int64 held_out)
{
    bool glance = false;

    for (int e = 0; e < moe_mixture_experts(run->mixture); e++)
        glance |= moe_mixture_kind(run->mixture, e) == MOE_EXPERT_GLANCE;
    return glance && run->labels->task != MOE_REGRESSION && held_out >= MOE_MIXTURE_LEAST_HELD_OUT;
}

float *
moe_reading_learn(const moe_train_run *run, const moe_input_block *block, const moe_samples *held_out)
{
    moe_samples train = {block->n_train, block->row + block->n_stale, block->time + block->n_stale,
                         block->label + block->n_stale};
    moe_reach_walk *walk;
    moe_dense_rows counted;
    float *count;

    if (!may_stop_early(run, held_out->n))
        return NULL;
    walk = open_walk(run);
    count = count_reading(run, walk, &train);
    counted = counted_rows(run, &train, block->x + block->n_stale * moe_inputs_width(run->inputs), count);
    moe_check(run->job,
              moe_mixture_fit_reading(run->mixture, &counted, moe_key((uint64) run->options->seed, READING_KEY)));
    moe_free(run->job, unconstify(float *, counted.x));
    moe_free(run->job, unconstify(float *, counted.label));
    pfree(count);
    count = count_reading(run, walk, held_out);
    moe_reach_walk_destroy(walk);
    return count;
}
