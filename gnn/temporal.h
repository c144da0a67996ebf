/*
 * temporal.h: exact neighbourhoods in time, without sampling.
 *
 * What a seed may see of the children of its row is a prefix of their list
 * (graph.h). So a sum over them is one number of a running sum, a sum over the
 * window (horizon - width, horizon] the difference of two, and a sum in which
 * a row weighs exp(-age / decay) the same of a running sum that fades:
 *     s[p] = x[p] + exp(-(t[p] - t[p-1]) / decay) * s[p-1]
 * After one pass over the rows, a seed costs two binary searches and two rows.
 *
 * A row without a time is always visible and has no age: it counts among all
 * that is visible, falls in no window, and has faded to nothing.
 *
 * Later rows change no bit. Columns that become known only later than their
 * row ("late" columns) are the caller's concern: what is summed here is taken
 * as known once the row is visible.
 */
#ifndef MOE_TEMPORAL_H
#define MOE_TEMPORAL_H

#include "gnn/graph.h"
#include "kernels/tape.h"

/* The children of a foreign key in their lists, one parent's after another's. */
typedef struct moe_temporal
{
    const moe_graph *graph;
    int key;
    double decay;         /* microseconds */
    const int32_t *child; /* [places] the child row at each place */
    moe_windows lists;    /* without windows: the lists, and how much fades from place to place */
} moe_temporal;

typedef struct moe_window
{
    int64_t width;     /* (horizon - width, horizon], microseconds; 0: all that is visible */
    moe_reduce reduce; /* MOE_MEAN: by the number of rows, 0 of none; not of what fades */
} moe_window;

/* decay: microseconds in which a row fades by a factor e; 0: none does. Arrays come from the arena. */
moe_code moe_temporal_lists(moe_arena *arena, const moe_graph *graph, int key, double decay, moe_temporal *out);

/*
 * The windows of n seeds, rows `parent` (-1: none, and no children) at their horizons: what moe_prefix_windows and
 * moe_resident_windows take. count [n], where not NULL, receives the number of rows in each. Arrays come from the
 * arena.
 */
moe_code moe_temporal_windows(moe_arena *arena, const moe_temporal *temporal, const moe_window *window, int64_t n,
                              const int32_t *parent, const int64_t *horizon, int32_t *count, moe_windows *out);

/* [n, C]: the windows over x [rows of the child table, C], with its gradient. NULL after a failure. */
moe_var *moe_temporal_aggregate(moe_tape *tape, const moe_temporal *temporal, moe_var *x, const moe_windows *windows);
/* The same of constants costs one pass for all steps: the running sums of x, as moe_running_sums gives them. */
double *moe_temporal_sums(moe_job *job, const moe_temporal *temporal, int64_t cols, const float *x);

#endif
