/*
 * evaluate_internal.h: what the files of moe_ml.evaluate share.
 */
#ifndef MOE_EVALUATE_INTERNAL_H
#define MOE_EVALUATE_INTERNAL_H

#include "postgres.h"

#include "nodes/execnodes.h"
#include "utils/array.h"

#include "extension/evaluate.h"
#include "gnn/trainer.h"

typedef struct moe_budgets /* shares of the reading, as they were given */
{
    int n;
    double *budget;
} moe_budgets;

typedef struct moe_evaluation
{
    ReturnSetInfo *result;
    moe_predictor *predictor;
    const moe_model_info *info;
    int width;                  /* outputs a seed */
    moe_samples training;       /* for the constant */
    moe_samples known;          /* for the entity's own past; filtered by the horizon when used */
    const moe_budgets *budgets; /* or NULL: as the model is */
} moe_evaluation;

/* The budgets of an array, palloc'd. Raises for one that is none, and for a model that cannot have any. */
moe_budgets *moe_budgets_parse(const moe_evaluation *evaluation, ArrayType *array);
/* Emit a line a budget and metric. The block has rows. */
void moe_evaluate_each_budget(moe_evaluation *evaluation, const char *split, const char *regime,
                              const moe_block *block);

#endif
