/*
 * model_parallel.h: may a parallel worker predict with a model?
 */
#ifndef MOE_MODEL_PARALLEL_H
#define MOE_MODEL_PARALLEL_H

#include "postgres.h"

#include "nodes/pg_list.h"

typedef struct moe_parallel_verdict
{
    bool safe;         /* a worker may do all that predicting for all entities does */
    bool of_user;      /* it holds for this user and setting of row_security alone */
    List *relations;   /* of Oid: what it rests on, as plans list it */
    List *invalidated; /* of PlanInvalItem: the same */
} moe_parallel_verdict;

/*
 * Judge by the SELECTs that a prediction for all entities runs, as the current user. Found anew only after a change of
 * what it rests on; belongs to the session and stays valid until the next call.
 */
const moe_parallel_verdict *moe_parallel_judge(Oid relid);

/* In a worker, before it reads: lock the tables and judge again, as they may have changed since the plan was made. */
void moe_parallel_require(Oid relid);

#endif
