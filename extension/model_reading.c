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
#define MOST_PASSED 20000000 /* rows in all walks; none takes more than leaves enough walks to choose a budget by */

static moe_reach_walk *
open_walk(const moe_reading_source *source)
{
    moe_reach *reach = palloc_object(moe_reach);

    if (!moe_reach_of(source->data->schema, source->hops, source->inputs, reach))
        reach = NULL;
    return moe_reach_walk_create(source->data, source->graph, reach);
}

/* A step by which one comes to all of n places, however few steps about evenly: near a golden section. */
static int64
even_step(int64 n)
{
    int64 step = Max((int64) ((double) n * 0.6180339887498949), 1);

    for (;; step++)
    {
        int64 a = n, b = step;

        while (b != 0)
        {
            int64 rest = a % b;

            a = b;
            b = rest;
        }
        if (a == 1)
            return step;
    }
}

float *
moe_reading_count(const moe_reading_source *source, const moe_samples *rows)
{
    moe_reach_walk *walk = open_walk(source);
    float *count = palloc_array(float, Max(rows->n, 1));
    int64 walks = Min(rows->n, MOST_WALKS);
    int64 step = even_step(rows->n);
    int64 passed = 0;

    for (int64 i = 0; i < rows->n; i++)
        count[i] = NAN;
    for (int64 k = 0; k < walks && passed < MOST_PASSED; k++)
    {
        int64 i = k * step % rows->n;
        int64 time = rows->time[i];
        int64 moment = moe_inputs_look_back_from(source->inputs, time, moe_graph_newest(source->graph, time));
        int64 n;

        CHECK_FOR_INTERRUPTS();
        n = moe_reach_walk_from(walk, rows->row[i], time, moment, MOST_PASSED / MOE_MIXTURE_LEAST_HELD_OUT - 1);
        passed += n + 1;
        count[i] = (float) n;
    }
    moe_reach_walk_destroy(walk);
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

float *
moe_reading_learn(const moe_train_run *run, const moe_input_block *block, const moe_samples *held_out)
{
    moe_samples train = {block->n_train, block->row + block->n_stale, block->time + block->n_stale,
                         block->label + block->n_stale};
    moe_reading_source source = {run->data, run->graph, run->inputs,
                                 run->features != NULL ? run->options->model.hops : 0};
    moe_dense_rows counted;
    float *count;

    if (!moe_mixture_may_stop_early(run->mixture, held_out->n))
        return NULL;
    count = moe_reading_count(&source, &train);
    counted = counted_rows(run, &train, block->x + block->n_stale * moe_inputs_width(run->inputs), count);
    moe_check(run->job,
              moe_mixture_fit_reading(run->mixture, &counted, moe_key((uint64) run->options->seed, READING_KEY)));
    moe_free(run->job, unconstify(float *, counted.x));
    moe_free(run->job, unconstify(float *, counted.label));
    pfree(count);
    return moe_reading_count(&source, held_out);
}
