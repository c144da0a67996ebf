/*
 * predict.h: one seed from a function's arguments, and small things that functions over predictions share.
 */
#ifndef MOE_PREDICT_H
#define MOE_PREDICT_H

#include "postgres.h"

#include "fmgr.h"

#include "extension/model.h"

typedef struct moe_seed
{
    moe_predictor *predictor;
    int32 row;
    int64 time;
} moe_seed;

/*
 * Read the arguments (model text, key, as_of timestamptz): the key of any
 * type, or as text. False if an argument is NULL (as_of may be) or there is
 * nothing to predict for: no such key, not visible, or not counted by WHERE.
 */
bool moe_predict_seed(FunctionCallInfo fcinfo, bool as_text, moe_seed *seed);

/* The class with the highest score, the first of equals. */
int moe_best_class(const float *scores, int n);

#endif
