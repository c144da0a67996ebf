/*
 * reach_walk.h: the rows around a row that a prediction looks at, found in what was read.
 */
#ifndef MOE_REACH_WALK_H
#define MOE_REACH_WALK_H

#include "postgres.h"

#include "embed/reach.h"
#include "extension/reader.h"
#include "gnn/graph.h"

typedef struct moe_reach_walk moe_reach_walk;

/* In CurrentMemoryContext; all must outlive it. reach: by which steps; NULL: everything that is visible is looked at.
 */
moe_reach_walk *moe_reach_walk_create(const moe_data *data, const moe_graph *graph, const moe_reach *reach);
/*
 * Go from an entity row: along the steps, from row to row visible at `time`; the latest children are those visible at
 * `moment`. Returns how many rows there are besides it, each once; no more are looked for than `most`.
 */
int64 moe_reach_walk_from(moe_reach_walk *walk, int32 row, int64 time, int64 moment, int64 most);
/* The rows that the last walk came by and its own, [tables], each ascending; the job's. */
moe_row_list *moe_reach_walk_rows(const moe_reach_walk *walk, moe_job *job);
void moe_reach_walk_destroy(moe_reach_walk *walk);

#endif
