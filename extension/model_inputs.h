/*
 * model_inputs.h: a seed's inputs: label history and relational aggregates, normalised.
 *
 * The bridge between what embed/ computes and what gnn/ learns from: one row a
 * seed, columns in a fixed order with names for people. Columns look back from
 * the horizon, but from no later than the newest row plus the longest gap that
 * training knew: a prediction long after the last row then looks like those
 * that were learnt from. Columns are decided and
 * normalised on training data, stored with the model, and computed over
 * whatever tables and past labels they are bound to.
 */
#ifndef MOE_MODEL_INPUTS_H
#define MOE_MODEL_INPUTS_H

#include "postgres.h"

#include "embed/aggregates.h"
#include "embed/history.h"
#include "extension/reader.h"
#include "gnn/mixture.h"

typedef struct moe_inputs moe_inputs;

/* What the columns are decided by. */
typedef struct moe_inputs_request
{
    const moe_table *known;  /* the tables as known at the end of training */
    const int64 *known_rows; /* their rows visible then */
    int64 window;            /* of the label, microseconds; 0: there is none, and no label history */
    int classes;
    int64 staleness; /* the longest any training seed knew (moe_graph_staleness) */
    int max_columns;
    const moe_past_labels *past;
    bool everyones;         /* the labels of all can be had when a prediction is made: their level is told, too */
    const moe_seeds *seeds; /* that normalisation is fitted on: the training rows */
    const float *labels;    /* of these */
} moe_inputs_request;

/* Decide columns and normalisation. Raises on failure. Arrays of data and graph must outlive the inputs. */
moe_inputs *moe_inputs_fit(moe_job *job, const moe_data *data, const moe_graph *graph,
                           const moe_inputs_request *request);
/* Put stored inputs over today's tables; raises where they do not fit. */
void moe_inputs_bind(moe_inputs *inputs, const moe_data *data, const moe_graph *graph);
/* Add to a reach the rows around a seed's row that the aggregates look at. */
void moe_inputs_reach(const moe_inputs *inputs, moe_reach *reach);
/* The moment that a seed looks back from: see above. newest: row time that is not after the horizon. */
int64 moe_inputs_look_back_from(const moe_inputs *inputs, int64 horizon, int64 newest);
int64 moe_inputs_look_back(const moe_inputs *inputs, const moe_seeds *seeds, int64 seed);
/*
 * The past labels that histories are computed from, from now on (copied). everyones: they are the labels of all, and
 * the level is computed from them, too; else it is that of the training.
 */
moe_code moe_inputs_remember(moe_inputs *inputs, const moe_past_labels *past, bool everyones);
bool moe_inputs_need_past(const moe_inputs *inputs);

int moe_inputs_width(const moe_inputs *inputs);
/* MOE_INPUT_ bits of each input: [width]. */
const uint8 *moe_inputs_roles(const moe_inputs *inputs);
/*
 * The inputs of seeds, [n, width]; a moe_inputs_fn (gnn/mixture.h), whose arg is the inputs. disabled: NULL, or a
 * flag for each table and a last one for the label history. stale: NULL, or [n]. Does not raise.
 */
moe_code moe_inputs_compute(void *inputs, const moe_seeds *seeds, const bool *disabled, float *out, bool *stale);

/*
 * Of inputs x [n, width], those that the graph expert takes, [n, wanted]: none, those of the label history, or all.
 * Which of them follows from their number, which must be one that can be picked.
 */
void moe_inputs_pick(const moe_inputs *inputs, int wanted, int64 n, const float *x, float *out);
bool moe_inputs_can_pick(const moe_inputs *inputs, int wanted);
int moe_inputs_history_width(const moe_inputs *inputs);

/* The same before normalisation: [n, columns], NaN is NULL. */
moe_code moe_inputs_raw(moe_inputs *inputs, const moe_seeds *seeds, float *out);
/* From those to inputs: raw [n, columns], out [n, width]. */
moe_code moe_inputs_normalize(const moe_inputs *inputs, int64 n, const float *raw, float *out);

/* Columns before normalisation: what explanations are about. */
int moe_inputs_columns(const moe_inputs *inputs);
/* The name for people; palloc'd. */
char *moe_inputs_column_name(const moe_inputs *inputs, int column);
/* Is it one of the label history? */
bool moe_inputs_is_history(const moe_inputs *inputs, int column);
/* The table a column rests on, or -1: label history and the calendar. */
int moe_inputs_column_table(const moe_inputs *inputs, int column);
/* The column of that table whose values it is about; -1: counts, times, and what has no table. */
int moe_inputs_column_source(const moe_inputs *inputs, int column);
/* Do inputs stand for the same columns, in the same order? Scales may differ. */
bool moe_inputs_alike(const moe_inputs *a, const moe_inputs *b);
/* Hide columns from now on, as if they were NULL: [columns], or NULL: none. Not copied. */
void moe_inputs_mask(moe_inputs *inputs, const bool *mask);

void moe_inputs_write(const moe_inputs *inputs, moe_buffer *buffer);
/* Damage is recorded in the job as MOE_CORRUPT. */
moe_code moe_inputs_read(moe_job *job, moe_reader *reader, moe_inputs **out);

#endif
