/*
 * attribution_internal.h: the game that attribution.c plays among tables and columns, and attribution_rows.c among
 * rows.
 */
#ifndef MOE_ATTRIBUTION_INTERNAL_H
#define MOE_ATTRIBUTION_INTERNAL_H

#include "extension/attribution.h"
#include "extension/model_predictor_internal.h"

#define MOE_GAME_KEY    UINT64CONST(0x6f77656e)
#define MOE_GAME_STATES 64 /* evaluated together */

typedef struct moe_game
{
    const moe_seed *seed;
    struct moe_predictor_parts *parts;
    int n;
    moe_attributed *players;
    int class; /* the output that is followed; -1 until it is known */
    int outputs;
    int columns;
    int width;
    moe_mixture_path path;
    int *player_of;   /* [columns] */
    bool *graph_sees; /* [n]: what the graph expert says may depend on it */
    float *raw;       /* [columns]: of the seed */
    float *rows;      /* [MOE_GAME_STATES, columns] */
    float *x;         /* [MOE_GAME_STATES, width] */
    int32 *row;       /* [MOE_GAME_STATES]: the seed's, once for each state */
    int64 *time;
    float *said[MOE_EXPERT_KINDS]; /* [MOE_GAME_STATES, outputs] */
    float *prediction;             /* [MOE_GAME_STATES, outputs] */
    bool **hidden;                 /* [tables], [columns of the table] */
    bool *disabled;                /* [tables + 1] */
} moe_game;

/* The same game over another predictor of the same model, whose seed this is; raw is a copy, to be changed. */
void moe_game_move(const moe_game *from, const moe_seed *seed, moe_game *to);
/*
 * Predict n <= MOE_GAME_STATES states of an order, in which player p has place[p]: state s shows the first sizes[s],
 * ascending. Fills said and prediction.
 */
void moe_game_evaluate(moe_game *g, const int *place, int n, const int *sizes);
/* The order of the players, [n], that a pair of orders begins with; groups stand together. */
void moe_game_draw_order(const moe_game *g, int pair, int *order);
/* Shuffle n numbers (Fisher and Yates). */
void moe_game_shuffle(int *numbers, int n, uint64 key);
void moe_game_reverse(int *numbers, int n);

/* Share out what tables contribute among their rows; the contributions of subjects are there, from so many pairs. */
void moe_attribute_rows(moe_game *g, int pairs, int rows_alone, moe_attribution *attribution);

#endif
