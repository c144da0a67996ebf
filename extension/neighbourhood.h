/*
 * neighbourhood.h: the rows around a seed that its prediction may depend on, and what it is without some of them.
 */
#ifndef MOE_NEIGHBOURHOOD_H
#define MOE_NEIGHBOURHOOD_H

#include "postgres.h"

#include "extension/predict.h"
#include "extension/reader.h"

/* The rows of one table around the seed, but for the seed's own. */
typedef struct moe_neighbours
{
    int n_alone; /* the nearest, first hop first and then the latest first */
    int64 n;     /* all */
    int32 *row;  /* [n] as the neighbourhood's own data number them */
} moe_neighbours;

typedef struct moe_neighbourhood
{
    moe_seed seed; /* over the rows around it alone */
    const moe_predictor *of;
    int n_tables;
    int64 n_rows;
    moe_row_list *lists;   /* [n_tables] the rows, as the predictor that they come from numbers them */
    moe_neighbours *table; /* [n_tables] */
    struct moe_cut *cut;
} moe_neighbourhood;

/*
 * The visible rows that a seed's prediction may depend on, by the steps that its model takes (model_reach.h); at most
 * `most_alone` of each table can be taken away one by one, the others of it together. In CurrentMemoryContext. NULL,
 * and a NOTICE, where they are more than there is time for.
 */
moe_neighbourhood *moe_neighbourhood_of(const moe_seed *seed, int most_alone);
/* How many can be taken away from a table: its rows that stand alone, and the others as one. */
int moe_neighbourhood_players(const moe_neighbourhood *around, int table);
/* Take one of them away, or put it back, once moe_neighbourhood_settle is called. */
void moe_neighbourhood_take(moe_neighbourhood *around, int table, int player, bool away);
/* Put the model over the rows that are there: as if the others were not, and what points at them points at nothing. */
void moe_neighbourhood_settle(moe_neighbourhood *around);
/* To be called before the memory context that it was made in is freed. */
void moe_neighbourhood_end(moe_neighbourhood *around);

#endif
