/*
 * model_reach.h: whether a prediction for one row is better served by looking its rows up than by reading the tables.
 */
#ifndef MOE_MODEL_REACH_H
#define MOE_MODEL_REACH_H

#include "postgres.h"

#include "embed/reach.h"
#include "extension/model.h"
#include "extension/model_inputs.h"
#include "extension/schema.h"

typedef enum moe_index_reads /* moe_ml.index_reads */
{
    MOE_INDEX_READS_OFF,
    MOE_INDEX_READS_AUTO,
    MOE_INDEX_READS_ON
} moe_index_reads;

extern int moe_setting_index_reads;
void moe_reach_init(void);

/* What the graph expert, which looks `hops` far, and the inputs look at; false if that is too many steps. */
bool moe_reach_of(const moe_schema *schema, int hops, const moe_inputs *inputs, moe_reach *reach);

/* May rows be looked up at all: have they places, are keys compared as they are, and is it not switched off? */
bool moe_reach_is_possible(const moe_schema *schema);

/*
 * The most rows that may be looked up before the whole tables are the better choice; 0: they are from the beginning.
 * That is so where rows have no place of their own (views), a key is compared as another type, the
 * user may not read a whole table, an index is missing (the model's name tells of it once a session), or more than a
 * fraction of the rows is to be expected.
 */
int64 moe_reach_most_rows(const moe_schema *schema, const moe_reach *reach, const char *model);

/* Has looking up so many rows, for one key after another, been as much work as reading the tables? */
bool moe_reach_is_spent(const moe_schema *schema, int64 looked_up);

#endif
