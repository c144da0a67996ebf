/*
 * progress.h: what a training is doing, for other sessions to see, and the
 * limit on its time.
 *
 * Calls are cheap and never raise, but for the limit, and do nothing outside
 * moe_progress_begin and moe_progress_end.
 */
#ifndef MOE_PROGRESS_H
#define MOE_PROGRESS_H

#include "gnn/trainer.h"

typedef enum moe_phase
{
    MOE_PHASE_PREPARING, /* tables are found, labels compiled */
    MOE_PHASE_READING,   /* tables */
    MOE_PHASE_LABELS,
    MOE_PHASE_GRAPH,
    MOE_PHASE_INPUTS,
    MOE_PHASE_EXPERT,
    MOE_PHASE_ROUTER,
    MOE_PHASE_STORING,
    MOE_PHASE_ELSEWHERE /* another process of this session trains, and tells so itself */
} moe_phase;

/* Defines moe_ml.max_training_time; from _PG_init. */
void moe_progress_init(void);
/*
 * A training begins; it ends with moe_progress_end in the same function, or with the transaction or subtransaction that
 * an error aborts. Until then moe_ml.max_training_time is watched.
 */
void moe_progress_begin(const char *model);
void moe_progress_end(void);
/* The training goes on when the transaction commits: it ends with moe_progress_end, or when one aborts. For a caller
 * whose stack frame outlives the transactions. */
void moe_progress_outlive_transactions(void);
/* Whether it was moe_ml.max_training_time that ended the training. */
bool moe_progress_is_late(void);
/* A phase begins. expert: which one it is about, or NULL. */
void moe_progress_phase(moe_phase phase, const char *expert);
/* After each step of the graph expert's member `member` of `members`. */
void moe_progress_step(int member, int members, const moe_progress *step);

#endif
